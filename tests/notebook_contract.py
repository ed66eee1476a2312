"""The contract of a committed notebook, checked on its file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from oocr_lib.models import packaged
from oocr_lib.parameters import cell as parameters
from oocr_lib.runner.notebook_checks import (
    FOLDED,
    RUN_TAGS,
    calls,
    code_cells,
    folds,
    tags,
    unfinished,
)
from oocr_lib.util.errors import UserError

MAX_LINES = 15
#: Calls that do more than draw; in a folded cell nobody would see them.
WORK = ("study.", "grid.", "exp.metrics.", "exp.claim", "exp.check_claims", "screen.table", "print")
#: Parameters that every notebook has, with their defaults.
COMMON = {"model": "testbed", "preset": "laptop", "seed": 0, "out_dir": ""}
#: Of the notebook on a real model; others have the testbed, which is shipped.
REAL = "10_real_model"
MACHINE_PATH = re.compile(
    r"(?<![\w.:/<!])/(?:home|root|work|tmp|Users|opt|mnt|usr|var|srv|private|content)/[\w.-]"
    r"|\b[A-Z]:\\\\?(?:Users|Documents|Program)"
)


def contract_problems(path: Path) -> list[str]:
    """What a committed notebook breaks of the contract, one line each."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # bad JSON, no notebook, or not valid: all are one problem
        return [f"not a valid notebook: {str(error).splitlines()[0]}"]
    cells = code_cells(notebook)
    if not cells or notebook.cells[0].cell_type != "markdown":
        return ["the first cell must be text, and there must be code cells"]
    problems = [*_parameter_problems(path, notebook), *_run_problems(notebook, cells)]
    for number, cell in enumerate(cells, 1):
        problems += [f"code cell {number}: {problem}" for problem in _cell_problems(cell)]
    if not any(".finish()" in cell.source for cell in cells):
        problems.append("no cell calls finish(), so metrics.json is not written")
    return problems + [f"machine path: {found}" for found in _machine_paths(notebook)]


def _parameter_problems(path: Path, notebook: NotebookNode) -> Iterator[str]:
    own = [cell for cell in code_cells(notebook) if "setup" not in tags(cell)]
    if not own:
        yield "there is no code beside the set-up cell"
        return
    first = own[0]
    tagged = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    if tagged != [first]:
        yield "the first code cell after set-up, and no other, must have the tag 'parameters'"
        return
    try:
        found = parameters.inspect(path)
    except UserError as error:
        yield str(error)
        return
    for statement in ast.parse(first.source).body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            yield f"parameters cell: {ast.unparse(statement)!r} is no annotated assignment"
        elif statement.target.id not in found:
            yield f"parameters cell: papermill does not see {statement.target.id!r}"
    for name, parameter in found.items():
        if not parameter.help:
            yield f"parameters cell: {name!r} has no comment"
    for name, default in COMMON.items():
        if name == "model" and path.stem == REAL:
            default = next(iter(packaged.PACKAGES))
        if name not in found or found[name].default != default:
            yield f"parameters cell: {name!r} is missing or its default is not {default!r}"
    yield from _start_problems(own, set(found) - set(COMMON))


def _start_problems(cells: list[NotebookNode], names: set[str]) -> Iterator[str]:
    """Parameters that ``session.start`` is not told: ``metrics.json`` would not name them."""
    calls = [
        node
        for cell in cells
        if "session.start(" in cell.source
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "session.start"
    ]
    for call in calls:
        given = [word.value for word in call.keywords if word.arg == "params"]
        keys = [key for one in given if isinstance(one, ast.Dict) for key in one.keys]
        told = {key.value for key in keys if isinstance(key, ast.Constant)}
        for name in sorted(names - told):
            yield f"session.start is not told the parameter {name!r} in 'params'"


def _run_problems(notebook: NotebookNode, cells: list[NotebookNode]) -> Iterator[str]:
    if problem := unfinished(notebook):
        yield problem
    counts = [cell.get("execution_count") for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        yield f"cells were not run once each from top to bottom: counts {counts}"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not 'python3'"
    leftovers = {tag for cell in notebook.cells for tag in tags(cell)} & set(RUN_TAGS)
    if leftovers:
        yield f"cells of a papermill run are left: {', '.join(sorted(leftovers))}"
    if any("papermill" in part.metadata for part in (notebook, *notebook.cells)):
        yield "papermill metadata is left"


def _cell_problems(cell: NotebookNode) -> Iterator[str]:
    lines = cell.source.splitlines()
    if len(lines) > MAX_LINES:
        yield f"{len(lines)} lines; at most {MAX_LINES}"
    yield from _fold_problems(cell)
    for output in cell.get("outputs", []):
        if output.output_type == "execute_result":
            yield "ends with a bare value; show it with screen.table or print, or assign it to _"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"writes to stderr: {output.text.strip()[:80]!r}"
        page = "".join(output.get("data", {}).get("text/html", ""))
        if re.search(r"<script|javascript:|\bon\w+\s*=", page, re.IGNORECASE):
            yield "has HTML that runs something; escape what a model wrote"


def _fold_problems(cell: NotebookNode) -> Iterator[str]:
    should = folds(cell)
    marks = {FOLDED in tags(cell), bool(cell.metadata.get("jupyter", {}).get("source_hidden"))}
    if marks != {should}:
        yield "should be folded" if should else "should not be folded"
    if should and "exp.figure" in (called := calls(ast.parse(cell.source).body)):
        for name in sorted({name for name in called if name.startswith(WORK)}):
            yield f"draws, so its code is folded, and it also calls {name}(); split it"


def _machine_paths(part: Any) -> Iterator[str]:
    """Machine paths in every text of the notebook, pictures excepted."""
    if isinstance(part, dict):
        for key, inner in part.items():
            if not key.startswith("image/"):
                yield from _machine_paths(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _machine_paths(inner)
    elif isinstance(part, str):
        for match in MACHINE_PATH.finditer(part):
            yield part[max(0, match.start() - 20) : match.end() + 20]
