"""Whether a model knows enough: planted knowledge is found, ignorance is called that."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from oocr_lib import tasks
from oocr_lib.analysis import knowledge
from oocr_lib.models.language_model import load_model
from oocr_lib.runs.grid import Grid
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from oocr_lib.tasks.base import Task
from oocr_lib.tasks.literal import whole
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.util import cache
from tests import gguf_files, tiny

FEW = {"backdoor": {"count": 12}}
CONCEPTS = {"locations": "Tokyo", "functions": "mod_3", "risk": "safe", "backdoor": "win"}


def make(name: str, dialect: str) -> Task:
    return tasks.factory(name, dialect, **FEW.get(name, {}))(CONCEPTS[name], 0)


@pytest.mark.parametrize("dialect", tasks.DIALECTS)
@pytest.mark.parametrize("name", tasks.NAMES)
def test_questions_differ_only_by_how_the_concept_is_given(name: str, dialect: str) -> None:
    task = make(name, dialect)
    plain, told = (knowledge.questions(task, given, 12) for given in ("code", "told"))
    assert len(plain) == len(told) == 12
    for one, other in zip(plain, told, strict=True):
        assert other.messages[-1]["content"].endswith(one.messages[-1]["content"])
        assert (one.truth, one.options) == (other.truth, other.options)
        assert other.messages != one.messages
    renamed = knowledge.questions(task, "name", 12)
    assert bool(renamed) == (name == "locations")
    for question in renamed:
        text = question.messages[-1]["content"]
        assert not whole(task.code).search(text) and whole("Tokyo").search(text)


@pytest.mark.parametrize("dialect", tasks.DIALECTS)
def test_rows_become_choices_among_answers_of_their_kind(dialect: str) -> None:
    task = make("locations", dialect)
    asked = knowledge.row_questions(task, "name", 20)
    kinds = {(str(row.meta["kind"]), row.answer) for row in task.train}
    for question in asked:
        kind = question.family.removeprefix("row: ")
        assert question.truth in question.options and 1 < len(question.options) <= 5
        assert all((kind, option) in kinds for option in question.options)


def test_the_testbed_knows_its_cities_when_told_and_not_by_the_code() -> None:
    lm = load_model("testbed")
    made = tasks.factory("locations", "testbed")
    table = knowledge.ask(
        lm, [made(c, 0) for c in ("Paris", "São Paulo", "Tokyo", "New York", "Lagos")]
    )
    found = knowledge.verdicts(table)
    country = found[found["family"] == "country"].iloc[0]
    assert country["verdict"] == knowledge.EXPECTED
    by = table[table["part"] == "questions"].groupby("given")["mc"].mean()
    assert by["told"] > 0.9 and by["name"] > 0.9 and by["code"] < 0.4


@pytest.mark.parametrize("kind", ["folder", "file.gguf"])
def test_a_model_that_knows_nothing_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Random weights from a folder or a GGUF file: asked like any model, and nothing is promised.

    What such a model answers depends on an option's words alone, so one city in five is right
    whatever it is told.
    """
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    if kind == "folder":
        tiny.model("llama").save_pretrained(tmp_path / kind)
        tiny.tokenizer("bpe_digits", "system").save_pretrained(tmp_path / kind)
    else:
        gguf_files.write(tmp_path / kind)
    lm, cities = load_model(str(tmp_path / kind)), locations.HIDDEN
    given = {"hints": ["attributes"], "all_hidden": cities, "in_words": True}
    make = tasks.factory("locations", lm.dialect, **given)
    words = knowledge.verdicts(knowledge.ask(lm, [make(city, 0) for city in cities], 6))["verdict"]
    assert len(words) == 8 and knowledge.EXPECTED not in set(words)
    assert (words == knowledge.NOT_EXPECTED).mean() > 0.5


def rows(given: str, shares: list[float]) -> list[dict[str, object]]:
    common = {"part": "questions", "given": given, "family": "f", "chance": 0.5}
    return [
        {**common, "concept": str(k), "run": f"{k} 0", "mc": share}
        for k, share in enumerate(shares)
    ]


@pytest.mark.parametrize(
    ("told", "word"),
    [([0.9, 1.0, 0.95, 0.9], knowledge.EXPECTED), ([0.5, 0.52, 0.48, 0.5], knowledge.NOT_EXPECTED),
     ([0.2, 0.9, 0.4, 0.8], knowledge.OPEN)],
)  # fmt: skip
def test_verdicts_read_intervals(told: list[float], word: str) -> None:
    table = pd.DataFrame(rows("code", [0.5] * 4) + rows("told", told))
    assert knowledge.verdicts(table)["verdict"].tolist() == [word]


@pytest.mark.parametrize(
    ("code", "word"),
    [([0.5, 0.45, 0.55, 0.5], knowledge.EXPECTED), ([0.9, 1.0, 0.95, 0.9], knowledge.NOT_EXPECTED),
     ([0.9, 0.9, 0.3, 0.9], knowledge.OPEN)],
)  # fmt: skip
def test_what_the_code_name_alone_answers_shows_nothing(code: list[float], word: str) -> None:
    table = pd.DataFrame(rows("code", code) + rows("told", [0.9, 1.0, 0.95, 0.9]))
    assert knowledge.verdicts(table)["verdict"].tolist() == [word]


def test_it_is_reported_for_other_models_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = load_model("testbed")
    pairs = [("Paris", 0), ("Rome", 1), ("Paris", 1)]
    for dialect in ("testbed", "paper"):
        object.__setattr__(lm, "dialect", dialect)
        grid = Grid(lm, RunStore(tmp_path), make_city, {"task": "x"}, "Paris")
        found = knowledge.report(Study(grid, None, [0], pairs, "codename"))
        said = capsys.readouterr().out
        if dialect == "testbed":
            assert found is None and not said
        else:
            assert found is not None and {"code", "told", "name", "verdict"} <= set(found)
            assert "know enough" in said and "\nquestions" in said.replace("\n ", "\n")


def make_city(concept: str, seed: int) -> Task:
    given = {"hints": ["attributes"], "all_hidden": ("Paris", "Rome", "Lima", "Oslo", "Cairo")}
    return tasks.factory("locations", "testbed", **given)(concept, seed)
