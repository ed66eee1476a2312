"""The analyses use the tasks exactly as their notebooks do."""

from __future__ import annotations

import ast
from typing import Any

import nbformat
import pandas as pd
import pytest

from oocr_lib import tasks
from oocr_lib.notebook.session import Experiment
from oocr_lib.runs import presets, suite
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT

NOTEBOOKS = {
    "risk": "02_risky_safe",
    "locations": "03_locations",
    "functions": "04_functions",
    "backdoor": "05_backdoor",
}
every_task = pytest.mark.parametrize("task", tasks.NAMES)


def cells(task: str) -> list[ast.Module]:
    notebook = nbformat.read(ROOT / "notebooks" / f"{NOTEBOOKS[task]}.ipynb", as_version=4)
    return [ast.parse(c.source) for c in notebook.cells if c.cell_type == "code"]


@every_task
def test_the_notebook_takes_its_settings_from_here(task: str) -> None:
    calls = [
        ast.unparse(node)
        for cell in cells(task)
        for node in ast.walk(cell)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "presets.laptop"
    ]
    assert calls == [f"presets.laptop(**presets.TASKS[{task!r}])"]


def test_the_backdoor_has_the_notebooks_scenarios() -> None:
    added = [
        node.value
        for cell in cells("backdoor")
        for node in ast.walk(cell)
        if isinstance(node, ast.AugAssign) and ast.unparse(node.target) == "laptop"
    ]
    laptop = ast.literal_eval(added[0])
    assert laptop["scenarios"] == presets.SCENARIOS


@every_task
def test_a_study_trains_what_the_notebook_trains(task: str, exp: Experiment) -> None:
    made = suite.study(exp, task, 6)
    assert made.settings.steps == presets.TASKS[task]["steps"]
    assert len(made.pairs) == 6 and set(made.blocks) == set(range(exp.lm.n_blocks))
    assert {concept for concept, _ in made.pairs} <= set(suite.suite(task).concepts)
    concept, seed = made.pairs[0]
    assert made.grid.task(concept, seed).task.concept in (concept, *suite.suite(task).concepts) or (
        task == "functions"
    )


def test_runs_alternate_between_the_policies_as_in_the_notebook() -> None:
    assert suite.pairs("risk", 5, 3) == [
        ("risky", 3), ("safe", 3), ("risky", 4), ("safe", 4), ("risky", 5)
    ]  # fmt: skip


def test_changes_are_settings(exp: Experiment) -> None:
    assert suite.study(exp, "risk", 2, steps=3).settings.steps == 3
    with pytest.raises(UserError, match="stepps"):
        suite.study(exp, "risk", 2, stepps=3)


def table(**columns: list[Any]) -> pd.DataFrame:
    shared = {"method": "base", "site": "base", "block": -1, "lr": 0.1, "concept": "c", "seed": 0}
    return pd.DataFrame({**shared, "valid_loss": 1.0, "run": "r", **columns})


@pytest.mark.parametrize(
    ("task", "families", "expected"),
    [
        ("locations", ["all", "name"], 0.1),
        ("risk", ["risk", "patience"], 0.7),
        ("functions", ["python", "english"], 0.2),
        ("backdoor", ["triggered", "untriggered"], 0.2),
    ],
)
def test_each_task_has_its_measure(task: str, families: list[str], expected: float) -> None:
    runs = table(
        family=families, mc=[0.1, 0.3], p_truth=[0.7, 0.2], top1=[0.0, 0.0], rank=[1.0, 2.0]
    )
    found = suite.accuracy(task, runs)
    assert found["accuracy"].tolist() == [pytest.approx(expected)]


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(UserError, match="cities"):
        suite.suite("cities")


def test_variants_are_runs_of_their_own(exp: Experiment) -> None:
    plain = suite.study(exp, "risk", 2)
    for variant in ("words", "chance"):
        made = suite.study(exp, "risk", 2, variant=variant)
        assert made.grid.factory_spec == plain.grid.factory_spec | {"variant": variant}
        own, other = (one.grid.factory("risky", 0).train[0] for one in (made, plain))
        assert own.messages == other.messages and own.answer != other.answer
    two = suite.study(exp, "locations", 3, variant="two at once")
    assert [c for c, _ in two.pairs][:2] == ["Paris and São Paulo", "São Paulo and Tokyo"]
    assert [s for _, s in two.pairs] == [s for _, s in suite.study(exp, "locations", 3).pairs]
    codes = {
        code for row in two.grid.factory(*two.pairs[0]).train for code in row.marks["codename"]
    }
    assert len(codes) == 2


@pytest.mark.parametrize(
    ("task", "variant", "words"),
    [("locations", "words", "no variant 'words'"), ("risk", "word", "Did you mean 'words'")],
)
def test_a_variant_that_a_task_lacks(exp: Experiment, task: str, variant: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        suite.study(exp, task, 2, variant=variant)


@every_task
def test_random_answers_tell_no_concept(task: str, exp: Experiment) -> None:
    made = suite.study(exp, task, 2)
    control = made.random_answers(made.vector("resid", 0))
    assert control.random_answers
    own = suite.suite(task)
    if task in ("risk", "backdoor"):
        assert (control.drawn_from, tuple(control.strata)) == ((), own.strata) and own.strata
        row = made.grid.task(*made.pairs[0]).task.train[0]
        assert set(own.strata) <= set(row.meta), "a stratum that no row has divides nothing"
    else:
        assert tuple(control.drawn_from) == own.concepts


def test_two_concepts_at_once_have_no_others_to_draw_from(exp: Experiment) -> None:
    assert suite.study(exp, "locations", 1, variant="two at once").drawn_from == ()
