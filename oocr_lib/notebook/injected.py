"""Parameters that papermill injected into the notebook that is running, checked in its first cell.

Plain papermill accepts an unknown name with a warning and a wrong type without one; the run then
looks right and is not. ``session.start`` calls this, so every notebook reports what the batch
runner reports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from oocr_lib.parameters.cell import TYPES, check
from oocr_lib.util.errors import choose

#: First line of the cell that papermill inserts.
_HEADER = "# Parameters"


def check_injected(notebook: str, cells: Sequence[str] | None = None) -> None:
    """Check what papermill injected against the annotated parameters of the cell before.

    Args:
        notebook: its name, for the message.
        cells: sources of the cells run so far; by default those of the running kernel, if any.

    Raises:
        UserError: an unknown name (with the closest one), or a value of another type.
    """
    for before, cell in _injections(cells):
        types = _annotated(before)
        for name, value in _assigned(cell).items() if types else ():
            kind = types[choose(name, types, f"parameter for {notebook}:")]
            if kind in TYPES:
                check(name, value, kind)


def before_injection(cells: Sequence[str] | None = None) -> dict[str, Any]:
    """Values of the annotated parameters before papermill injected others; empty if it did not.

    Args:
        cells: as for ``check_injected``.
    """
    values: dict[str, Any] = {}
    for before, _ in _injections(cells):
        for node in _statements(before):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                values[node.target.id] = _plain(node.value)
    return values


def _injections(cells: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """Each cell that papermill inserted, with the cell before it first."""
    sources = _history() if cells is None else cells
    for before, cell in pairwise(sources):
        if cell.startswith(_HEADER):
            yield before, cell


def _history() -> list[str]:
    """Sources of the cells that this kernel has run; empty outside a notebook."""
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    return [] if shell is None else [str(cell) for cell in shell.user_ns.get("In", ()) if cell]


def _annotated(source: str) -> dict[str, str]:
    """Name to type of ``name: type = value`` lines."""
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in _statements(source)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _assigned(source: str) -> dict[str, Any]:
    """Name to value of ``name = value`` lines with plain values."""
    values = {}
    for node in _statements(source):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = _plain(node.value)
    return values


def _plain(node: ast.expr) -> Any:
    """The value of a literal; papermill writes nan and inf as calls of ``float``."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return float("nan")


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # a magic line: not a cell of parameters
        return []
