"""A sweep that is killed again and again must end complete, with nothing run twice.

    python -m benchmarks.batch_kill                 24 runs, killed five times
    python -m benchmarks.batch_kill --runs 6 --kills 2

Each run is a small notebook that counts its starts and ends. The batch is killed with SIGKILL at
random moments and started again with the same command; exit code 1 if a run is missing, damaged, or
was started again after it was finished.
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
from collections.abc import Sequence
from pathlib import Path

import nbformat

from oocr_lib import finished
from oocr_lib.paths import ROOT

PARAMETERS = """\
preset: str = "laptop"  # amount of work
out_dir: str = ""  # where results go
seed: int = 0  # number of the run
seconds: float = 1.0  # how long it takes
"""
WORK = """\
import os, pathlib, time
from oocr_lib.metrics import Metrics
folder = pathlib.Path(os.environ["OOCR_OUT"]) / preset / "sweep" / os.environ["OOCR_LABEL"]
def note(word):
    with open(folder / "log.txt", "a") as log:
        print(word, file=log)
note("start")
time.sleep(seconds)
metrics = Metrics("sweep", {"seed": seed})
metrics.add("all/base/accuracy", seed / 100, n=1)
metrics.write(folder / "metrics.json")
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


def start(folder: Path, runs: int) -> subprocess.Popen[bytes]:
    """The batch, in the background."""
    command = [sys.executable, "-m", "oocr_lib.batch", "sweep.ipynb", "--out", "out", "-j", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, "-p", f"seed=0..{runs - 1}"], cwd=folder, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def starts(folder: Path) -> dict[str, int]:
    """How often each run was started."""
    logs = (folder / "out" / "laptop" / "sweep").glob("*/log.txt")
    return {log.parent.name: log.read_text().split().count("start") for log in logs}


def complete(folder: Path) -> set[str]:
    """Runs whose record and files agree."""
    runs = (folder / "out" / "laptop" / "sweep").glob("*/")
    return {path.name for path in runs if finished.find(path)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; prints one line a kill and a summary."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_kill", description=__doc__)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng, settled, begin = random.Random(options.seed), dict[str, int](), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_notebook(folder)
        for kill in range(options.kills):
            child = start(folder, options.runs)
            wait = rng.uniform(6, 24)
            time.sleep(wait)
            child.send_signal(signal.SIGKILL)
            child.wait()
            counted = starts(folder)
            settled |= {run: counted[run] for run in complete(folder) if run not in settled}
            print(f"kill {kill + 1} after {wait:.1f} s: {len(settled)} runs finished", flush=True)
        code = start(folder, options.runs).wait()
        ended, whole = starts(folder), complete(folder)
        twice = [run for run, count in settled.items() if ended[run] != count]
    print(
        f"{len(whole)} of {options.runs} runs complete, {len(twice)} run again after they were"
        f" finished, {sum(ended.values())} starts, exit code {code},"
        f" {time.monotonic() - begin:.0f} s"
    )
    return int(code != 0 or len(whole) != options.runs or bool(twice))


if __name__ == "__main__":
    sys.exit(main())
