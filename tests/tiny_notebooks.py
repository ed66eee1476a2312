"""Small notebooks made by the tests."""

from __future__ import annotations

from pathlib import Path

import nbformat

PARAMETERS = """\
model: str = "testbed"  # model to load
preset: str = "laptop"  # amount of work
seed: int = 0  # of everything random
out_dir: str = ""  # where results go
rate: float = 0.5  # a number
fast: bool = False  # a switch
blocks: list[int] = [0, 1]  # some | numbers
"""
WRITE = """\
import json, os, pathlib
folder = pathlib.Path(os.environ["OOCR_STAGE"])
text = json.dumps({{"seed": seed, "rate": rate, "fast": fast, "blocks": blocks}})
(folder / "metrics.json").write_text(text)
print("ready")  # exp.finish()
"""


def write(
    folder: Path,
    name: str,
    *cells: str,
    finish: bool = True,
    tag: bool = True,
    more: str = "",
    kernel: str = "python3",
) -> Path:
    """A notebook with a title, the parameters cell, ``cells``, and a cell that writes metrics.

    Args:
        more: further lines of the parameters cell.
        kernel: the name in its kernelspec.
    """
    codes = [PARAMETERS + more, *cells, *([WRITE.format(name=name)] if finish else [])]
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_markdown_cell("# A claim")]
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in codes]
    if tag:
        notebook.cells[1].metadata["tags"] = ["parameters"]
    spec = {"name": kernel, "display_name": "As written", "language": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": spec})
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


#: Leaves a line in ``log.txt`` when it starts and when it ends; its metrics have a real schema.
LOGGED = """\
import os, pathlib, time
from oocr_lib.report.metrics import Metrics
label = os.environ.get("OOCR_LABEL", "")
folder = pathlib.Path(os.environ["OOCR_OUT"]) / preset / "{name}" / label
with open(folder / "log.txt", "a") as log:
    print("start", file=log)
time.sleep(rate)
metrics = Metrics("{name}", {{"seed": seed}})
metrics.add("all/base/accuracy", 0.1 * seed, n=1)
metrics.add("all/random/accuracy", 0.5, ci=(0.4, 0.6), n=3)
metrics.write(pathlib.Path(os.environ["OOCR_STAGE"]) / "metrics.json")
with open(folder / "log.txt", "a") as log:
    print("end", file=log)
"""


def write_logged(folder: Path, name: str) -> Path:
    """A notebook for sweeps: it waits ``rate`` seconds, and counts how often it was run."""
    return write(folder, name, LOGGED.format(name=name), finish=False)
