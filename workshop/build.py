"""Exercise and solution notebooks from one source a session: ``python -m workshop.build``.

A source is plain Python in the percent format (cells begin with ``# %%``), which editors and
jupytext open as a notebook; run as it stands, it is the solution. A cell with a solution says what
the learner gets instead::

    # SOLUTION
    return output + mask[..., None] * v
    # STUB
    # raise NotImplementedError
    # END

The stub is written as comments, so that the source stays valid Python. Nothing but nbformat is
needed, and the same source always gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "sessions"
KINDS = ("exercises", "solutions")
#: Notebooks without exercises, each made once, beside this file.
EXTRA = HERE / "extra"
#: Longest stub that a learner has to read.
STUB_LINES = 15

_CELL = re.compile(r"^# %%(?P<markdown> \[markdown\])?(?P<options>.*)$")
_OPTION = re.compile(r'(\w+)=("[^"]*"|\[[^\]]*\])')
_MARKERS = ("# SOLUTION", "# STUB", "# END")
#: What RISE and ``nbconvert --to slides`` read.
_SLIDES = ("slide", "subslide", "fragment", "skip", "notes")


class SourceError(ValueError):
    """A source that cannot be read; the message names file and line."""


@dataclass
class Cell:
    """One cell of a source.

    Attributes:
        markdown: text, not code.
        options: what stands behind ``# %%``: ``slide="subslide"``, ``tags=["setup"]``.
        lines: the source's lines.
        line: number of the line where the cell begins, for messages.
    """

    markdown: bool
    options: dict[str, Any]
    line: int
    lines: list[str] = field(default_factory=list)

    @property
    def has_solution(self) -> bool:
        """Whether a learner writes part of it."""
        return any(line.strip() == _MARKERS[0] for line in self.lines)


def sources() -> list[Path]:
    """The sources, in the order of the sessions."""
    return sorted(SOURCES.glob("*.py"))


def read(path: Path) -> list[Cell]:
    """The cells of a source.

    Raises:
        SourceError: text before the first cell, or an option that is not understood.
    """
    cells: list[Cell] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if found := _CELL.match(line):
            options = {key: json.loads(value) for key, value in _OPTION.findall(found["options"])}
            if _OPTION.sub("", found["options"]).strip() or set(options) - {"slide", "tags"}:
                raise SourceError(f"{path.name}:{number}: options {found['options']!r}")
            cells.append(Cell(bool(found["markdown"]), options, number))
        elif cells:
            cells[-1].lines.append(line)
        elif line.strip():
            raise SourceError(f"{path.name}:{number}: text before the first cell")
    return cells


def text(cell: Cell, kind: str) -> str:
    """A cell as it stands in the exercises or the solutions.

    Raises:
        SourceError: markers out of order, or a stub that is no comment or too long.
    """
    if cell.markdown:
        return "\n".join(re.sub(r"^# ?", "", line) for line in cell.lines).strip()
    made: list[str] = []
    place = ""  # the marker that came last
    for number, line in enumerate(cell.lines, start=cell.line + 1):
        word = line.strip()
        if word in _MARKERS:
            expected = {"": "# SOLUTION", "# SOLUTION": "# STUB", "# STUB": "# END"}[place]
            if word != expected:
                raise SourceError(f"line {number}: {word!r} where {expected!r} is due")
            place = "" if word == "# END" else word
        elif place == "# STUB":
            stub = re.fullmatch(r"(\s*)# ?(.*)", line)
            if not stub:
                raise SourceError(f"line {number}: a stub is written as a comment")
            made += [(stub[1] + stub[2]).rstrip()] if kind == "exercises" else []
        elif not place or kind == "solutions":
            made.append(line)
    if place:
        raise SourceError(f"line {cell.line}: no '# END'")
    if cell.has_solution and kind == "exercises" and len(made) > STUB_LINES + 2:
        raise SourceError(f"line {cell.line}: a stub of {len(made)} lines")
    return "\n".join(made).strip()


def notebook(path: Path, kind: str) -> NotebookNode:
    """The notebook of one source, without outputs; ``kind`` is one of ``KINDS``."""
    cells = []
    for number, cell in enumerate(read(path)):
        metadata: dict[str, Any] = {}
        tags = [*cell.options.get("tags", []), *(["exercise"] if cell.has_solution else [])]
        if slide := cell.options.get("slide"):
            if slide not in _SLIDES:
                raise SourceError(f"{path.name}:{cell.line}: slide={slide!r}")
            metadata["slideshow"] = {"slide_type": slide}
        if cell.has_solution and kind == "solutions":
            # Folded, so that who opens the solutions can still try first.
            metadata["jupyter"] = {"source_hidden": True}
            tags.append("hide-input")
        if tags:
            metadata["tags"] = tags
        try:
            source = text(cell, kind)
        except SourceError as error:
            raise SourceError(f"{path.name}: {error}") from error
        if not source:
            continue
        make = nbformat.v4.new_markdown_cell if cell.markdown else nbformat.v4.new_code_cell
        # The name comes from the place, so that the same source gives the same file.
        cells.append(make(source, id=f"{path.stem}-{number}", metadata=metadata))
    made: NotebookNode = nbformat.v4.new_notebook(cells=cells)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.validate(made)
    return made


def build() -> dict[Path, str]:
    """Every notebook's path and text; nothing is written."""
    made = {HERE / kind / f"{p.stem}.ipynb": notebook(p, kind) for p in sources() for kind in KINDS}
    made |= {HERE / f"{p.stem}.ipynb": notebook(p, "solutions") for p in sorted(EXTRA.glob("*.py"))}
    return {path: nbformat.writes(content) + "\n" for path, content in made.items()}


def copy(folder: Path) -> int:
    """Working copies of the exercises; what is there already was worked on and stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*sorted((HERE / "exercises").glob("*.ipynb")), *sorted(HERE.glob("*.ipynb"))]:
        kept = (folder / path.name).exists()
        if not kept:
            shutil.copyfile(path, folder / path.name)
        print(f"{'kept' if kept else 'copied'}: {folder.name}/{path.name}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the notebooks, or only say whether they are what the sources give."""
    parser = argparse.ArgumentParser(prog="python -m workshop.build", description=main.__doc__)
    parser.add_argument("--copy", action="store_true", help="working copies in lab/workshop")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if one differs")
    given = parser.parse_args(arguments)
    if given.copy:
        return copy(HERE.parent / "lab" / "workshop")
    checking = given.check
    try:
        made = build()
    except SourceError as error:
        print(error, file=sys.stderr)
        return 2
    different = 0
    for path, content in made.items():
        if path.is_file() and path.read_text(encoding="utf-8") == content:
            continue
        different += 1
        print(f"{'differs' if checking else 'written'}: {path.parent.name}/{path.name}")
        if not checking:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8", newline="\n")
    return int(checking and different > 0)


if __name__ == "__main__":
    sys.exit(main())
