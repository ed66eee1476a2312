"""Whether a notebook ran to its end, and what of the run is committed.

papermill's exit code and metadata do not prove that it did: after a dead kernel, cells that never
ran are stamped "completed", and ``sys.exit(0)`` in a cell ends a run with success. What counts is
that every code cell carries an execution count.

Code that only prepares or only draws is folded (``folds``), so that a reader first sees the claim,
examples and results.
"""

from __future__ import annotations

import ast
import json

import nbformat
from nbformat import NotebookNode

#: How a folded cell is marked: for the site, and (``jupyter.source_hidden``) for JupyterLab.
FOLDED = "hide-input"
#: Calls that settings may contain; all other calls are work.
SETTINGS = ("presets.", "dict.fromkeys")
#: Tags of cells that a run adds and a committed notebook does not have.
RUN_TAGS = ("injected-parameters", "parameter-summary", "papermill-error-cell-tag", "run-failed")


def tags(cell: NotebookNode) -> list[str]:
    """A cell's tags."""
    return list(cell.metadata.get("tags", []))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Code cells that have something to run."""
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def unfinished(notebook: NotebookNode) -> str:
    """Why an executed notebook is not finished, in one line; empty if it is."""
    cells = code_cells(notebook)
    for number, cell in enumerate(cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                text = f"{output.ename}: {output.evalue}".strip().splitlines()[0]
                return f"code cell {number} of {len(cells)}: {text}"
        if cell.get("execution_count") is None:
            return f"code cell {number} of {len(cells)} was never run"
    return "" if cells else "there is no code cell"


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """A copy that can be committed: no traces of the run, cells counted from 1."""
    copy: NotebookNode = nbformat.from_dict(json.loads(json.dumps(notebook)))
    copy.cells = [cell for cell in copy.cells if not set(tags(cell)) & set(RUN_TAGS)]
    for cell in copy.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        _mark(cell, folds(cell))
    for count, cell in enumerate(code_cells(copy), 1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    if "oocr" in notebook.metadata:  # what the notebook declares about itself
        metadata["oocr"] = notebook.metadata["oocr"]
    copy.metadata = nbformat.from_dict(metadata)
    return copy


def folds(cell: NotebookNode) -> bool:
    """Whether a cell's code is folded: it starts the experiment, only sets or imports, or draws."""
    if cell.cell_type != "code" or not cell.source.strip() or "parameters" in tags(cell):
        return False
    try:
        body = ast.parse(cell.source).body
    except SyntaxError:  # a magic
        return False
    called = calls(body)
    return bool({"session.start", "exp.figure"} & set(called)) or all(map(_prepares, body))


def _prepares(statement: ast.stmt) -> bool:
    """Whether a statement imports, or sets something without any work."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return True
    sets = isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign)
    return sets and all(name.startswith(SETTINGS) for name in calls([statement]))


def calls(body: list[ast.stmt]) -> list[str]:
    """Everything that is called in these statements: ``exp.figure``, ``print``."""
    nodes = (node for statement in body for node in ast.walk(statement))
    return [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]


def _mark(cell: NotebookNode, folded: bool) -> None:
    """Mark a cell as folded or not, and leave no empty metadata."""
    cell_tags = [tag for tag in tags(cell) if tag != FOLDED] + [FOLDED] * folded
    jupyter = {k: v for k, v in cell.metadata.get("jupyter", {}).items() if k != "source_hidden"}
    jupyter |= {"source_hidden": True} if folded else {}
    for key, value in (("tags", cell_tags), ("jupyter", jupyter)):
        cell.metadata.pop(key, None)
        if value:
            cell.metadata[key] = value
