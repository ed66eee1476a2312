"""What a hosted notebook (Colab, Binder) needs: links to open it, and a set-up that spares torch.

The repository's address stands once, in CITATION.cff (``repository-code``); ``python -m
oocr_lib.colab`` writes links and the set-up cell into all notebooks again after it has changed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from oocr_lib import __version__
from oocr_lib.errors import UserError
from oocr_lib.paths import ROOT

#: Tag of the set-up cell; it does nothing where the library is there.
TAG = "setup"
_ADDRESS = re.compile(r"^repository-code:\s*(https://github\.com/([\w.-]+/[\w.-]+))", re.M)
_LINKS = re.compile(r"\n\n\[Open in Colab\][^\n]*")
_SETUP = """\
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("oocr_lib") is None:  # hosted: fetch the code, install all but torch
    clone = ["git", "clone", "-q", "--depth", "1", "--branch", "{tag}"]
    subprocess.run([*clone, "{address}", "oocr"], check=True)
    sys.path.insert(0, "oocr")
    from oocr_lib import colab

    colab.install()"""


def address(root: Path = ROOT) -> tuple[str, str]:
    """The repository's address, and its ``owner/name``.

    Raises:
        UserError: CITATION.cff has none.
    """
    found = _ADDRESS.search((root / "CITATION.cff").read_text(encoding="utf-8"))
    if found is None:
        raise UserError(
            "CITATION.cff has no 'repository-code: https://github.com/owner/name'. Add it."
        )
    return found[1], found[2]


def links(notebook: str) -> str:
    """The line of links under a notebook's title."""
    _, name = address()
    path = f"notebooks/{notebook}.ipynb"
    return (
        f"[Open in Colab](https://colab.research.google.com/github/{name}/blob/v{__version__}/"
        f"{path}) · [Open in Binder](https://mybinder.org/v2/gh/{name}/v{__version__}"
        f"?labpath={path})"
    )


def setup_source() -> str:
    """Source of the set-up cell, the same in every notebook."""
    return _SETUP.format(address=address()[0], tag=f"v{__version__}")


def install(root: Path = ROOT) -> None:
    """Install what the library needs beside the torch that is there, which is never touched.

    Raises:
        UserError: torch is too old, or pip fails.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[<>=~!\[ ]", text)[0]: text for text in project["dependencies"]}
    wanted, there = needed.pop("torch"), version("torch").split("+")[0]
    least = wanted.partition(">=")[2]
    if _numbers(there) < _numbers(least):
        raise UserError(f"torch {there} is too old. Allowed: {least} or newer; it is not changed.")
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "constraints.txt"
        pinned.write_text(f"torch=={version('torch')}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-q", "-c", str(pinned)]
        done = subprocess.run([*command, *needed.values()], check=False)
    if done.returncode:
        raise UserError("pip could not install what is missing; its own message stands above.")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def problems(name: str, notebook: NotebookNode) -> list[str]:
    """What is wrong with a notebook's links and set-up cell, one line each."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = []
    if links(name) not in notebook.cells[0].source:
        found.append("the first cell has no links, or old ones: python -m oocr_lib.colab")
    if not code or code[0].source != setup_source() or TAG not in code[0].metadata.get("tags", ()):
        found.append("the first code cell is not the set-up cell: python -m oocr_lib.colab")
    return found


def write(name: str, notebook: NotebookNode) -> None:
    """Put links and the set-up cell into a notebook, or bring them up to date."""
    first = notebook.cells[0]
    title, _, rest = _LINKS.sub("", first.source).partition("\n")
    first.source = f"{title}\n\n{links(name)}{chr(10) + rest if rest else ''}"
    kept = [cell for cell in notebook.cells if TAG not in cell.metadata.get("tags", ())]
    cell = nbformat.v4.new_code_cell(setup_source(), metadata={"tags": [TAG]})
    cell.id = "cell-setup"
    notebook.cells = [kept[0], cell, *kept[1:]]
    ran = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    for count, code in enumerate(ran, 1):
        code.execution_count = count
        for output in code.outputs:
            if "execution_count" in output:
                output.execution_count = count


def main() -> int:
    """Bring every notebook up to date."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        before = nbformat.writes(notebook)
        write(path.stem, notebook)
        if nbformat.writes(notebook) != before:
            nbformat.write(notebook, path)
            print(f"changed {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
