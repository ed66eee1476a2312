"""Which cell of a committed notebook makes a number or a figure, read from its source.

A cell's anchor on the website is the id that the notebook file gives it: it stays when cells are
added before it or the notebook is run again.
"""

from __future__ import annotations

import ast
import base64
import json
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Figure:
    """A figure that a notebook shows: its name, the id of its cell, what it shows, the PNG."""

    notebook: str
    name: str
    cell: str
    alt: str
    png: bytes = field(repr=False)


def load(root: Path) -> dict[str, dict[str, Any]]:
    """The notebooks of a repository, by name, in order."""
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def maker(notebook: dict[str, Any], metric: str) -> str | None:
    """The id of the cell that adds a metric; None if no cell adds any.

    Names are often put together, in a loop (``f"{task}/{method}/accuracy"``) or by ``exp.record``
    (``"{task}/{method}"``, and the measure after it). Cells that name the measure come first; of
    them wins the one whose text fits with the most letters of its own, then the one that mentions
    most of the name's parts, then the first.
    """
    best, scored = None, (False, -1, 0)
    for cell in _code(notebook):
        if "metrics.add(" in cell["source"] or "exp.record(" in cell["source"]:
            texts = list(_texts(cell["source"]))
            fits = [own for pattern, own in texts if re.fullmatch(pattern, metric)]
            words = {word for pattern, _ in texts for word in _WORD.findall(pattern)}
            parts = metric.split("/")
            score = (parts[-1] in words, max(fits, default=-1), len(words.intersection(parts)))
            if best is None or score > scored:
                best, scored = str(cell["id"]), score
    return best


def figures(name: str, notebook: dict[str, Any]) -> list[Figure]:
    """The figures in a notebook's outputs, in order.

    Their names are the second argument of ``exp.figure``. A picture of a cell that names none is
    left out.
    """
    found = []
    for cell in _code(notebook):
        pictures = [out for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
        names = _figure_names(cell["source"]) if pictures else []
        for called, shown in zip(names, pictures, strict=False):
            alt = shown.get("metadata", {}).get("image/png", {}).get("alt", "")
            png = base64.b64decode("".join(shown["data"]["image/png"]))
            found.append(Figure(name, called, str(cell["id"]), str(alt), png))
    return found


def _code(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Code cells, each with its source as one text."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            yield cell | {"source": "".join(cell["source"])}


def _texts(source: str) -> Iterator[tuple[str, int]]:
    """Every string of a cell as a pattern, and how many of its letters are its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.escape(node.value), len(node.value)
            if "{" in node.value:  # a key of exp.record
                parts = [(text, name is not None) for text, name, _, _ in _template(node.value)]
                pattern = "".join(re.escape(text) + ".+" * filled for text, filled in parts)
                yield f"{pattern}(/[^/]+)?", sum(len(text) for text, _ in parts)
        elif isinstance(node, ast.JoinedStr):
            own = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            pattern = "".join(".+" if text is None else re.escape(str(text)) for text in own)
            yield pattern, sum(len(str(text)) for text in own if text is not None)


def _template(text: str) -> list[tuple[str, str | None, str | None, str | None]]:
    """Letters and places of a text with places in braces; none where it is no such text."""
    try:
        return list(string.Formatter().parse(text))
    except ValueError:
        return []


def _figure_names(source: str) -> list[str]:
    """The names given to ``exp.figure``, in the order of the source."""
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "figure"
    ]
    names = []
    for call in sorted(calls, key=lambda call: call.lineno):
        named = call.args[1] if len(call.args) > 1 else None
        if isinstance(named, ast.Constant):
            names.append(str(named.value))
    return names
