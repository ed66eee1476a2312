"""What the batch runner costs over bare papermill: the same notebook, interleaved.

python -m benchmarks.batch_overhead --notebook 00_quickstart --times 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from oocr_lib.util.paths import ROOT


def seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    """Wall time of a command that must succeed."""
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    return time.perf_counter() - begin


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; prints each pair and the ratio of the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_overhead")
    parser.add_argument("--notebook", default="00_quickstart")
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args(arguments)
    taken: dict[str, list[float]] = {"papermill": [], "batch": []}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OOCR_THREADS": "1"}
    for k in range(options.times):
        for name in sorted(taken, reverse=k % 2 == 0):
            with tempfile.TemporaryDirectory() as out:
                source = f"notebooks/{options.notebook}.ipynb"
                given = {"preset": options.preset, "out_dir": out}
                plain = ["papermill", source, str(Path(out) / "done.ipynb"), "--no-progress-bar"]
                plain += [part for item in given.items() for part in ("-p", *item)]
                ours = ["oocr_lib.batch", options.notebook, "--preset", options.preset]
                command = plain if name == "papermill" else [*ours, "--out", out]
                taken[name].append(seconds([sys.executable, "-m", *command], environment))
        print("  ".join(f"{name} {times[-1]:.1f} s" for name, times in taken.items()), flush=True)
    middle = {name: statistics.median(times) for name, times in taken.items()}
    ratio = middle["batch"] / middle["papermill"]
    print(f"{options.notebook}, preset {options.preset}: batch / papermill = {ratio:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
