"""The contract's checks find what they are there to find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from oocr_lib.runner import notebook_checks
from oocr_lib.runner.notebook_checks import cleaned, unfinished
from tests import tiny_notebooks
from tests.notebook_contract import contract_problems


def executed(tmp_path: Path) -> Path:
    """A notebook that keeps the contract, as if it had been run."""
    path = tiny_notebooks.write(tmp_path, "01_good", "print('hello')")
    notebook = nbformat.read(path, as_version=4)
    for count, cell in enumerate(notebook_checks.code_cells(notebook), 1):
        cell.execution_count = count
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="hello\n")]
    nbformat.write(notebook, path)
    return path


def test_a_good_notebook_has_no_problems(tmp_path: Path) -> None:
    assert contract_problems(executed(tmp_path)) == []


def null_count(nb: NotebookNode) -> None:
    nb.cells[2].execution_count = None


def disorder(nb: NotebookNode) -> None:
    nb.cells[2].execution_count = 7


def error(nb: NotebookNode) -> None:
    output = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    nb.cells[2].outputs = [output]


def stderr(nb: NotebookNode) -> None:
    nb.cells[2].outputs = [nbformat.v4.new_output("stream", name="stderr", text="Warning!")]


def script(nb: NotebookNode) -> None:
    page = {"text/html": "<b>said</b><SCRIPT>alert(1)</SCRIPT>"}
    nb.cells[2].outputs = [nbformat.v4.new_output("display_data", page)]


def handler(nb: NotebookNode) -> None:
    page = {"text/html": ["<img src=x ", "onerror=alert(1)>"]}
    nb.cells[2].outputs = [nbformat.v4.new_output("display_data", page)]


def long_cell(nb: NotebookNode) -> None:
    nb.cells[2].source = "1\n" * 21


def machine_path_in_output(nb: NotebookNode) -> None:
    nb.cells[2].outputs[0].text = "saved to /home/someone/results"


def machine_path_in_source(nb: NotebookNode) -> None:
    nb.cells[2].source = "open('/tmp/x')"


def windows_path(nb: NotebookNode) -> None:
    nb.cells[2].source = "open(r'C:\\Users\\x')"


def untagged(nb: NotebookNode) -> None:
    nb.cells[1].metadata.tags = []


def two_tagged(nb: NotebookNode) -> None:
    nb.cells[2].metadata["tags"] = ["parameters"]


def code_before(nb: NotebookNode) -> None:
    nb.cells.insert(1, nbformat.v4.new_code_cell("1", execution_count=1))


def no_title(nb: NotebookNode) -> None:
    del nb.cells[0]


def no_annotation(nb: NotebookNode) -> None:
    nb.cells[1].source += "\nsteps = 3  # steps"


def no_comment(nb: NotebookNode) -> None:
    nb.cells[1].source += "\nsteps: int = 3"


def not_an_assignment(nb: NotebookNode) -> None:
    nb.cells[1].source = "print(1)\n" + nb.cells[1].source


def statement_at_the_end(nb: NotebookNode) -> None:
    nb.cells[1].source += "\nprint(seed)"


def unseen_by_papermill(nb: NotebookNode) -> None:
    nb.cells[1].source += "\nrule: str = 'a=b'  # has two equals signs"


def other_default(nb: NotebookNode) -> None:
    nb.cells[1].source = nb.cells[1].source.replace('"laptop"', '"smoke"')


def missing_common(nb: NotebookNode) -> None:
    nb.cells[1].source = "\n".join(nb.cells[1].source.splitlines()[1:])


def injected(nb: NotebookNode) -> None:
    nb.cells[2].metadata["tags"] = ["injected-parameters"]


def papermill_metadata(nb: NotebookNode) -> None:
    nb.metadata["papermill"] = {}


def papermill_cell_metadata(nb: NotebookNode) -> None:
    nb.cells[0].metadata["papermill"] = {}


def other_kernel(nb: NotebookNode) -> None:
    nb.metadata.kernelspec.name = "mine"


def no_finish(nb: NotebookNode) -> None:
    nb.cells[-1].source = "print(1)"


def untold_parameter(nb: NotebookNode) -> None:
    nb.cells[2].source = "session.start('a', seed=seed, params={'rate': rate, 'fast': fast})"


def bare_value(nb: NotebookNode) -> None:
    shown = {"text/plain": "'does not hold'"}
    nb.cells[2].outputs = [nbformat.v4.new_output("execute_result", shown, execution_count=2)]


def open_imports(nb: NotebookNode) -> None:
    nb.cells[2].source = "import json"


def open_figure(nb: NotebookNode) -> None:
    nb.cells[2].source = "exp.figure(plots.bars(table), 'bars', 'Bars.')"


def folded_on_the_site_only(nb: NotebookNode) -> None:
    nb.cells[2].source, nb.cells[2].metadata["tags"] = "import json", ["hide-input"]


def folded_work(nb: NotebookNode) -> None:
    nb.cells[2].metadata.update(tags=["hide-input"], jupyter={"source_hidden": True})


def work_in_a_figure(nb: NotebookNode) -> None:
    nb.cells[2].source = "runs = study.sweep()\nexp.figure(draw(runs), 'bars', 'Bars.')"


BREAKS: dict[Callable[[NotebookNode], None], str] = {
    null_count: "was never run",
    disorder: "from top to bottom",
    error: "ValueError: no",
    stderr: "writes to stderr",
    script: "HTML that runs something",
    handler: "HTML that runs something",
    long_cell: "21 lines",
    machine_path_in_output: "machine path",
    machine_path_in_source: "machine path",
    windows_path: "machine path",
    untagged: "must have the tag 'parameters'",
    two_tagged: "must have the tag 'parameters'",
    code_before: "must have the tag 'parameters'",
    no_title: "first cell must be text",
    no_annotation: "type of the parameter 'steps'",
    no_comment: "'steps' has no comment",
    not_an_assignment: "no annotated assignment",
    statement_at_the_end: "no other code in this cell",
    unseen_by_papermill: "does not see 'rule'",
    other_default: "its default is not 'laptop'",
    missing_common: "'model' is missing",
    injected: "cells of a papermill run are left",
    papermill_metadata: "papermill metadata",
    papermill_cell_metadata: "papermill metadata",
    other_kernel: "kernel is not 'python3'",
    no_finish: "no cell calls finish()",
    bare_value: "bare value",
    open_imports: "should be folded",
    open_figure: "should be folded",
    folded_on_the_site_only: "should be folded",
    folded_work: "should not be folded",
    work_in_a_figure: "also calls study.sweep()",
    untold_parameter: "is not told the parameter 'blocks'",
}


@pytest.mark.parametrize("break_it", BREAKS, ids=lambda f: f.__name__)
def test_each_breach_is_found(tmp_path: Path, break_it: Callable[[NotebookNode], None]) -> None:
    path = executed(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    break_it(notebook)
    nbformat.write(notebook, path)
    problems = contract_problems(path)
    assert any(BREAKS[break_it] in problem for problem in problems), problems


def test_a_broken_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("{")
    assert "not a valid notebook" in contract_problems(tmp_path / "a.ipynb")[0]


def test_web_addresses_and_fractions_are_no_machine_paths(tmp_path: Path) -> None:
    path = executed(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += "\nhttps://host.org/home/a, 3/4, results/tmp/x, </usr/x>, and/opt/x"
    nbformat.write(notebook, path)
    assert contract_problems(path) == []


def test_cleaning_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    notebook = nbformat.read(executed(tmp_path), as_version=4)
    before = [cell.source for cell in notebook.cells]
    extra = nbformat.v4.new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(2, extra)
    for count, cell in enumerate(notebook_checks.code_cells(notebook), 1):
        cell.execution_count = count
        cell.metadata["papermill"] = {"status": "completed"}
    notebook.metadata["papermill"] = {"input_path": "x"}
    result = cleaned(notebook)
    assert [cell.source for cell in result.cells] == before
    assert len(notebook.cells) == len(before) + 1  # the argument is left alone
    nbformat.write(result, tmp_path / "01_good.ipynb")
    assert contract_problems(tmp_path / "01_good.ipynb") == []


def test_nothing_to_run_is_not_finished() -> None:
    assert unfinished(nbformat.v4.new_notebook()) == "there is no code cell"


@pytest.mark.parametrize(
    ("source", "folded"),
    [
        ("import json\nfrom a import b", True),
        (
            "laptop = presets.laptop(runs=2)\nlaptop |= {'a': 1}\ntwo = dict.fromkeys(laptop, 2)",
            True,
        ),
        ("exp = session.start('a', seed=seed)\ns = exp.settings", True),
        ("table = compare.bars(found)\nexp.figure(plots.bars(table), 'a', 'A.')", True),
        ("rows = [encode(row) for row in task.train]", False),
        ("import json\nprint(1)", False),
        ("from oocr_lib.evaluation.say import say\nsay(lm, 'a')", False),
        ("%matplotlib inline", False),
        ("", False),
    ],
)
def test_what_is_folded(source: str, folded: bool) -> None:
    cell = nbformat.v4.new_code_cell(source)
    assert notebook_checks.folds(cell) == folded
    text, told = nbformat.v4.new_markdown_cell(source), nbformat.v4.new_code_cell(source)
    told.metadata["tags"] = ["parameters"]
    assert not notebook_checks.folds(text) and not notebook_checks.folds(told)


def test_cleaning_folds_and_unfolds() -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(code) for code in ("import json", "print(1)")]
    notebook.cells[0].metadata.update(tags=["mine"], jupyter={"outputs_hidden": False})
    notebook.cells[1].metadata.update(tags=["hide-input"], jupyter={"source_hidden": True})
    prepares, works = cleaned(notebook).cells
    assert prepares.metadata.tags == ["mine", "hide-input"]
    assert prepares.metadata.jupyter == {"outputs_hidden": False, "source_hidden": True}
    assert works.metadata == {}
    assert cleaned(cleaned(notebook)) == cleaned(notebook)
