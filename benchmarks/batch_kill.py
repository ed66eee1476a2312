"""A sweep that is killed again and again must end complete, with nothing run twice.

    python -m benchmarks.batch_kill                 24 runs, killed five times
    python -m benchmarks.batch_kill --runs 6 --kills 2 --mid --waits 0 3

Each run is a small notebook that counts its starts and ends. The batch is killed with SIGKILL at
random moments and started again with the same command; exit code 1 if a run is missing, damaged, or
was started again after it was finished, or if files are left over.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat

from oocr_lib.notebook import finished
from oocr_lib.util.paths import ROOT

PARAMETERS = """\
preset: str = "laptop"  # amount of work
out_dir: str = ""  # where results go
seed: int = -1  # number of the run; the sweep counts from 0, so each has a folder of its own
seconds: float = 1.0  # how long it takes
"""
WORK = """\
import os, pathlib, time
from oocr_lib.report.metrics import Metrics
folder = pathlib.Path(os.environ["OOCR_OUT"]) / preset / "sweep" / os.environ["OOCR_LABEL"]
def note(word):
    with open(folder / "log.txt", "a") as log:
        print(word, file=log)
note("start")
time.sleep(seconds)
metrics = Metrics("sweep", {"seed": seed})
metrics.add("all/base/accuracy", seed / 100, n=1)
metrics.write(pathlib.Path(os.environ["OOCR_STAGE"]) / "metrics.json")
note("end")
"""


def write_notebook(folder: Path) -> None:
    """The notebook of the sweep."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in (PARAMETERS, WORK)]
    notebook.cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, folder / "sweep.ipynb")


def start(folder: Path, *options: str, output: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """A batch over ``sweep.ipynb``, in the background."""
    command = [sys.executable, "-m", "oocr_lib.batch", "sweep.ipynb", "--out", "out", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=output, stderr=output
    )


def counts(folder: Path) -> dict[str, list[int]]:
    """How often each run was started and ended."""
    logs = sorted((folder / "out" / "laptop" / "sweep").glob("*/log.txt"))
    words = {log.parent.name: log.read_text().split() for log in logs}
    return {name: [found.count("start"), found.count("end")] for name, found in words.items()}


def complete(folder: Path) -> set[str]:
    """Runs whose record and files agree."""
    runs = (folder / "out" / "laptop" / "sweep").glob("*/")
    return {path.name for path in runs if finished.find(path)}


def progress(folder: Path, kill: int) -> int:
    """What grows while the sweep works: finished runs for odd numbers, starts for even ones."""
    return len(complete(folder)) if kill % 2 else sum(n for n, _ in counts(folder).values())


def problems(folder: Path, runs: int, settled: Mapping[str, list[int]], code: int) -> list[str]:
    """What a sweep that went on to its end did wrong, one line each.

    Args:
        settled: ``counts`` of runs when they were first seen to be finished.
        code: exit code of the last batch.
    """
    ended, whole = counts(folder), complete(folder)
    found = [f"exit code {code}"] if code else []
    if len(whole) != runs:
        found.append(f"{len(whole)} of {runs} runs are complete")
    found += [f"{run} never came to its end" for run, (_, ends) in ended.items() if not ends]
    found += [f"{run} was run again" for run, count in settled.items() if ended[run] != count]
    left = [path for name in ("*partial*", ".stage") for path in (folder / "out").rglob(name)]
    return found + [f"{path} is left over" for path in left]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; prints one line a kill, what is wrong, and a summary."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_kill", description=__doc__)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a run")
    parser.add_argument(
        "--waits", type=float, nargs=2, default=(6, 24), metavar=("LEAST", "MOST"),
        help="seconds before a kill",
    )  # fmt: skip
    parser.add_argument(
        "--mid", action="store_true",
        help="wait from when a further run has begun (first, third, ... kill) or is finished",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    rng, settled, begin = random.Random(options.seed), dict[str, list[int]](), time.monotonic()
    sweep = ("-j", "2", "-p", f"seed=0..{options.runs - 1}", "-p", f"seconds={options.seconds}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_notebook(folder)
        for kill in range(options.kills):
            wait, done = rng.uniform(*options.waits), progress(folder, kill)
            child = start(folder, *sweep)
            while options.mid and child.poll() is None and progress(folder, kill) == done:
                time.sleep(0.05)
            time.sleep(wait)
            child.send_signal(signal.SIGKILL)
            child.wait()
            counted = counts(folder)
            settled |= {run: counted[run] for run in complete(folder) if run not in settled}
            print(f"kill {kill + 1} after {wait:.1f} s: {len(settled)} runs finished", flush=True)
        wrong = problems(folder, options.runs, settled, start(folder, *sweep).wait())
        starts = progress(folder, 0)
    took = f"{time.monotonic() - begin:.0f} s"
    print(*wrong, f"{options.runs} runs, {len(wrong)} problems, {starts} starts, {took}", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
