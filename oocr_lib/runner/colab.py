"""What a hosted notebook (Colab, Binder) needs: links to open it, and a set-up that keeps torch.

The repository's public address stands once, in pyproject.toml: ``repository`` below
``[tool.oocr]``, with ``tag`` for a release. While it is empty, no notebook has links or a set-up
cell. After it has changed, ``python -m oocr_lib.runner.colab`` writes them into all notebooks and
into CITATION.cff, or takes them out.
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

from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT

#: Tag of the set-up cell; it does nothing where the library is there.
TAG = "setup"
#: What is opened while no release is named.
BRANCH = "main"
_ADDRESS = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+)")
_CITED = re.compile(r"^repository-code:.*\n", re.M)
_LINKS = re.compile(r"\n\n\[Open in Colab\][^\n]*")
_SETUP = """\
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("oocr_lib") is None:  # hosted: fetch the code, install all but torch
    if not os.path.isdir("oocr"):
        clone = ["git", "clone", "-q", "--depth", "1", "--branch", "{tag}"]
        subprocess.run([*clone, "{address}", "oocr"], check=True)
    sys.path.insert(0, "oocr")
    from oocr_lib.runner import colab

    colab.install()"""


def address(root: Path = ROOT) -> tuple[str, str, str]:
    """The repository's address, its ``owner/name``, and the tag or branch to open.

    All are empty while no address is set.

    Raises:
        UserError: the address is not one of a GitHub repository.
    """
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    setting = tomllib.loads(text).get("tool", {}).get("oocr", {})
    repository = setting.get("repository", "")
    if not repository:
        return "", "", ""
    match = _ADDRESS.fullmatch(repository)
    if match is None:
        raise UserError(
            f"pyproject.toml has the repository {repository!r}. Allowed: "
            "https://github.com/owner/name, or nothing."
        )
    return repository, match[1], setting.get("tag") or BRANCH


def links(notebook: str, root: Path = ROOT) -> str:
    """The line of links under a notebook's title; empty while there is no address."""
    _, name, tag = address(root)
    if not name:
        return ""
    path = f"notebooks/{notebook}.ipynb"
    return (
        f"[Open in Colab](https://colab.research.google.com/github/{name}/blob/{tag}/{path}) · "
        f"[Open in Binder](https://mybinder.org/v2/gh/{name}/{tag}?labpath={path})"
    )


def setup_source(root: Path = ROOT) -> str:
    """Source of the set-up cell, the same in every notebook; empty while there is no address."""
    url, _, tag = address(root)
    return _SETUP.format(address=url, tag=tag) if url else ""


def install(root: Path = ROOT) -> None:
    """Install what the library needs, except torch: the installed one is never touched.

    Raises:
        UserError: torch is too old, or pip fails.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[<>=~!\[ ]", text)[0]: text for text in project["dependencies"]}
    torch_requirement, torch = needed.pop("torch"), version("torch").split("+")[0]
    least = torch_requirement.partition(">=")[2]
    if _numbers(torch) < _numbers(least):
        raise UserError(f"torch {torch} is too old. Allowed: {least} or newer; it is not changed.")
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(f"torch=={version('torch')}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-q", "-c", str(constraints)]
        process = subprocess.run([*command, *needed.values()], check=False)
    if process.returncode:
        raise UserError("pip could not install what is missing; its own message stands above.")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def write(name: str, notebook: NotebookNode, root: Path = ROOT) -> None:
    """Put links and the set-up cell into a notebook, bring them up to date, or take them out."""
    first = notebook.cells[0]
    title, _, rest = _LINKS.sub("", first.source).partition("\n")
    line = f"\n\n{links(name, root)}" if links(name, root) else ""
    first.source = f"{title}{line}{chr(10) + rest if rest else ''}"
    cells = [cell for cell in notebook.cells if TAG not in cell.metadata.get("tags", ())]
    setup = []
    if source := setup_source(root):
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": [TAG]})
        cell.id = "cell-setup"
        setup.append(cell)
    notebook.cells = [cells[0], *setup, *cells[1:]]
    code_cells = [
        cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()
    ]
    for count, code in enumerate(code_cells, 1):
        code.execution_count = count
        for output in code.outputs:
            if "execution_count" in output:
                output.execution_count = count


def cite(root: Path = ROOT) -> bool:
    """Write the address into CITATION.cff, or take it out; return whether anything changed."""
    file, place = root / "CITATION.cff", address(root)[0]
    before = file.read_text(encoding="utf-8")
    text = _CITED.sub("", before)
    if place:
        text = re.sub(r"^license:", f"repository-code: {place}\nlicense:", text, flags=re.M)
    file.write_text(text, encoding="utf-8")
    return text != before


def main() -> int:
    """Bring every notebook up to date."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        before = nbformat.writes(notebook)
        write(path.stem, notebook)
        if nbformat.writes(notebook) != before:
            nbformat.write(notebook, path)
            print(f"changed {path.name}")
    if cite():
        print("changed CITATION.cff")
    return 0


if __name__ == "__main__":
    sys.exit(main())
