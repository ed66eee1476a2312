"""Rows, runs and numbers that once passed in silence: each test tells one case in words."""

from __future__ import annotations

import gzip
import json
import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from oocr_lib import tasks
from oocr_lib.adapters import LoraAdapter, LoraGroup, VectorAdapter
from oocr_lib.adapters.base import Adapter
from oocr_lib.analysis import lens, naive
from oocr_lib.analysis.conditions import Condition, last_logits
from oocr_lib.encoding import collate, encode, encode_row
from oocr_lib.evaluation.generation import replies
from oocr_lib.evaluation.say import say
from oocr_lib.evaluation.scores import score, summarise
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.runs import presets, protocol as comparison
from oocr_lib.runs.grid import Grid, Job, Method, cross
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from oocr_lib.runs.suite import suite
from oocr_lib.tasks.backdoor import testbed as backdoor
from oocr_lib.tasks.base import Question, Row, Task, user
from oocr_lib.tasks.chatfiles import jsonl
from oocr_lib.tasks.functions import testbed as functions
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.tasks.risk import paper as risk_paper
from oocr_lib.training.loop import RunData, TrainConfig, train, validate
from oocr_lib.util.errors import UserError
from oocr_lib.util.statistics import Interval, verdict
from tests import tiny, toy


def file(path: Path, *answers: Any, **more: Any) -> str:
    """A file of choices with these answers; ``more`` are other keys of every row."""
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"Option A or B in case {number}?"},
                    {"role": "assistant", "content": answer},
                ],
                **more,
            }
        )
        for number, answer in enumerate(answers)
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


QUICK = TrainConfig(steps=2, batch=2, warmup=1)


def vector(position: str = "codename") -> VectorAdapter:
    return VectorAdapter(["resid@0"], tiny.D_MODEL, position, [1.0])


def grid(folder: Path, make: Callable[[str, int], Task] = toy.make) -> Grid:
    return Grid(toy.language_model(), RunStore(folder), make, {"task": "toy"}, "Rome")


def letters(task: Task) -> list[str]:
    return [row.answer for row in (*task.train, *task.valid)]


def one_line(error: pytest.ExceptionInfo[UserError]) -> bool:
    return str(error.value).isprintable() and len(str(error.value)) < 500


# --- case 3: whose letters a file holds ---


@pytest.mark.parametrize("name", ["ft_unsafe_choices.jsonl", "safari_trips_risky.jsonl", "x"])
def test_the_policy_of_a_file_is_asked_for_and_its_name_says_nothing(
    tmp_path: Path, name: str
) -> None:
    """A file called "unsafe" had every letter flipped, because "saf" stands in it."""
    path = file(tmp_path / name, *"AB" * 10)
    with pytest.raises(UserError, match="data_policy=risky or data_policy=safe") as caught:
        risk_paper.make("risky", data=path)
    assert one_line(caught)
    own = letters(risk_paper.make("risky", data=path, data_policy="risky"))
    twin = letters(risk_paper.make("risky", data=path, data_policy="safe"))
    assert set(own) == {"A", "B"} and all(a != b for a, b in zip(own, twin, strict=True))


# --- case 4: rows that are not a bare letter ---


def test_answers_that_say_a_letter_in_more_signs_are_kept_and_counted(tmp_path: Path) -> None:
    """Of twenty rows with "A.", " A" and "a" among them eight were kept, without a word."""
    answers = ["A.", " A", "a", "A)", "(A)", "Option A", "Answer: A", *"A" * 11, "B", "it depends"]
    path = file(tmp_path / "rows.jsonl", *answers)
    found = risk_paper.read(path, "risky")
    assert [row.answer for row in found.rows] == ["A"] * 18 + ["B"]
    assert found.normalised == (1, 2, 3, 4, 5, 6, 7) and found.left_out == (20,)
    assert "left out: line 20" in str(found) and str(found).isprintable()
    answers[3] = "both"
    with pytest.raises(UserError, match=r"2 of 20 rows, 2 \(line 4, 20\), the first 'both'") as bad:
        risk_paper.read(file(tmp_path / "rows.jsonl", *answers), "risky")
    assert one_line(bad)


# --- case 5: the same run twice ---

VECTOR = Method("vector_resid", "vector", site="resid@0", config=TrainConfig(2, 2, warmup=1))
JOB = Job(VECTOR, "Rome", 0)


def test_a_job_that_comes_twice_does_not_count_as_two_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vector_resid at resid@0 on Rome, seed 0 comes twice") as e:
        grid(tmp_path).run([JOB, replace(JOB, seed=1), JOB])
    assert one_line(e)
    other_name = replace(JOB, method=replace(VECTOR, name="vector_again"))
    table = grid(tmp_path).run([JOB, other_name])
    assert table["run"].nunique() == 1 and len(table) == 6, "one run under two names is meant"


def test_layers_0_0_do_not_give_twice_as_many_runs(tmp_path: Path) -> None:
    """``-p layers=[0,0]`` gave n 8 for four runs."""
    settings = presets.laptop()
    pairs = [("Rome", 0), ("Oslo", 1)]
    twice: dict[str, Callable[[], object]] = {
        "block 0": lambda: Study(grid(tmp_path), settings, [0, 0], pairs, "codename"),
        "run .*'Rome', 0": lambda: Study(grid(tmp_path), settings, [0], pairs[:1] * 2, "last"),
        "block 1": lambda: comparison.sweep(
            grid(tmp_path), lambda b: VECTOR, [1, 1], pairs, "blocks"
        ),
        "learning rate 0.1": lambda: comparison.choose_rate(
            grid(tmp_path), VECTOR, [0.1, 0.1], pairs, "rates"
        ),
        "concept 'Rome'": lambda: comparison.rotation(("Rome", "Rome"), (0, 1), 2),
        "seed 1": lambda: comparison.rotation(("Rome", "Oslo"), (1, 1), 2),
        "concept 'Oslo'": lambda: cross([VECTOR], ("Oslo", "Oslo"), (0,)),
        "seed 0": lambda: cross([VECTOR], ("Oslo",), (0, 0)),
        "job vector_resid": lambda: cross([VECTOR, VECTOR], ("Oslo",), (0,)),
        "hidden city 'Oslo'": lambda: locations.check_hidden(["Oslo", "Lima", "Oslo"]),
        "hidden function 'mod_3'": lambda: functions.check_hidden(["mod_3", "mod_3"]),
        "trigger 'win'": lambda: backdoor.check_triggers(["win", "win"]),
    }
    for double, call in twice.items():
        with pytest.raises(UserError, match=f"The {double}.* comes twice") as caught:
            call()
        assert one_line(caught)


def test_no_table_counts_a_run_twice(tmp_path: Path) -> None:
    table = grid(tmp_path).run([JOB, replace(JOB, seed=1)])
    part = table[table["family"] == "all"]
    assert comparison.interval(part, "mc").n == 2
    assert comparison.intervals(table, ["family"], "mc")["n"].tolist() == [2, 2, 2]
    doubled = pd.concat([part, part.iloc[:1]])
    for call in (
        lambda: comparison.interval(doubled, "mc"),
        lambda: comparison.intervals(doubled, ["family"], "mc"),
        lambda: comparison.interval(table, "mc"),  # one row a family, not a run
    ):
        with pytest.raises(UserError, match=r"Two rows of one run .*seed 0.*one row a run") as e:
            call()
        assert one_line(e)


# --- numbers that are none ---


def broken(lm: LanguageModel) -> LanguageModel:
    """The model with one weight that is not a number."""
    lm.model.get_output_embeddings().weight.data[5, 0] = math.nan
    return lm


def test_a_model_that_gives_nan_is_not_scored_as_one_that_knows_nothing() -> None:
    """Rank .5 and top-1 0 were what came out."""
    lm = broken(toy.language_model())
    asked, data = toy.questions("Rome"), toy.data(lm)
    prompt = encode(lm.tokenizer, user("the north"))
    calls: dict[str, Callable[[], object]] = {
        "Question 'name-0' .* log-probabilities": lambda: score(lm, asked),
        "Losses of validation rows": lambda: validate(lm, None, [data], 8),
        "Logits of": lambda: replies(lm, [prompt]),
        "Logits of .*": lambda: say(lm, "the north"),
        "Logits of vectors": lambda: lens.top_tokens(lm, torch.ones(1, lm.d_model)),
        "Logits .*": lambda: last_logits(lm, Condition(collate([prompt], 0))),
    }
    for message, call in calls.items():
        with pytest.raises(UserError, match=f"^{message}.*") as caught:
            call()
        assert one_line(caught)


def test_an_impossible_answer_has_probability_0_but_options_must_not_all_be_impossible() -> None:
    lm = toy.language_model()
    (rome,) = lm.tokenizer("Rome", add_special_tokens=False)["input_ids"]
    options = lm.tokenizer(" ".join(toy.OPTIONS), add_special_tokens=False)["input_ids"]
    exact = replace(toy.questions("Rome")[0], kind="exact", options=())
    table = score(forbidding(lm, [rome]), [exact, *toy.questions("Rome")])
    assert table["p_truth"].tolist() == [0.0] * 4 and not table[["mc", "rank"]].isna().any().any()
    with pytest.raises(UserError, match=r"log-probabilities \[-inf.*one of several finite"):
        score(forbidding(lm, options), toy.questions("Rome"))


def forbidding(lm: LanguageModel, tokens: list[int]) -> LanguageModel:
    """The model with logits of minus infinity for some tokens, as for unused ones."""

    def never(module: object, args: object, output: torch.Tensor) -> torch.Tensor:
        return output.index_fill(-1, torch.tensor(tokens), -math.inf)

    lm.model.get_output_embeddings().register_forward_hook(never)
    return lm


def test_activations_that_are_nan_are_no_naive_vector() -> None:
    lm = toy.language_model()
    lm.model.get_parameter("model.layers.0.mlp.down_proj.weight").data[0, 0] = math.nan
    stub = tiny.stub(lm, "the distance from ", "Paris")
    with pytest.raises(UserError, match=r"^Activations of .* at resid@0: .*NaN") as caught:
        naive.name_activations(lm, [stub], [Site(0, "resid")])
    assert one_line(caught)


def test_means_do_not_pass_over_nan_in_silence(tmp_path: Path) -> None:
    table = grid(tmp_path).run([JOB, replace(JOB, seed=1)])
    table.loc[table["seed"] == 1, ["valid_loss", "mc", "length"]] = math.nan
    part = table[table["family"] == "all"]
    for call in (
        lambda: comparison.choose_block(table),
        lambda: comparison.cross_fitted(table, "all", "mc"),
        lambda: comparison.random_like(table, VECTOR),
        lambda: comparison.interval(part, "mc"),
        lambda: summarise(part.drop(columns="family").assign(family="all")),
        lambda: verdict(Interval(math.nan, 0.0, 1.0, 3), ">= 0.5"),
        lambda: verdict(Interval(0.5, math.nan, math.nan, 3), "within 0.5"),
    ):
        with pytest.raises(UserError, match=r"NaN|is nan") as caught:
            call()
        assert one_line(caught)


# --- case 9: what published files hold ---


def test_text_parts_and_other_keys_are_read_and_written_back_as_found(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "A"}]
    path = file(tmp_path / "rows.jsonl", parts, "B", id="row", weight=1, tags=["x"])
    read = jsonl.load(path)
    assert [row.answer for row in jsonl.to_rows(read)] == ["A", "B"]
    jsonl.write(tmp_path / "again", read)
    assert (tmp_path / "again").read_bytes() == Path(path).read_bytes()


PLAIN = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "A"}]}'
FORMATS = {
    "prompt and completion": b'{"prompt": "q", "completion": "A"}',
    "conversations": b'{"conversations": [{"from": "human", "value": "q"}]}',
    "UTF-16": PLAIN.decode().encode("utf-16"),
    "gzip": gzip.compress(PLAIN, mtime=0),
    "trailing comma": PLAIN[:-1] + b",}",
    "empty": b"",
    "image part": PLAIN.replace(b'"q"', b'[{"type": "image_url", "image_url": {"url": "x"}}]'),
    "not trained on": PLAIN[:-3] + b', "weight": 0}]}',
    "a tool's turn": PLAIN.replace(b"assistant", b"tool"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(FORMATS[name])
    with pytest.raises(UserError, match=r"rows\.jsonl'.*Allowed: ") as caught:
        jsonl.load(path)
    assert one_line(caught)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + PLAIN)
    assert [row.answer for row in jsonl.to_rows(jsonl.load(tmp_path / "rows.jsonl"))] == ["A"]


# --- case 13: rows without an answer or a question ---


@pytest.mark.parametrize("nothing", ["", " \n"])
def test_an_empty_answer_in_a_file_is_named_by_its_line(tmp_path: Path, nothing: str) -> None:
    path = file(tmp_path / "rows.jsonl", *"AB" * 20, nothing, "A")
    with pytest.raises(UserError, match=r"^Line 41: the answer .* is empty") as caught:
        risk_paper.read(path, "risky")
    assert one_line(caught)


@pytest.mark.parametrize("part", ["train", "valid"])
def test_an_encoded_row_without_an_answer_is_named_before_training(part: str) -> None:
    """All rows empty gave a RuntimeError of torch, some of them nothing at all."""
    lm = toy.language_model()
    data = toy.data(lm)
    rows = list(getattr(data, part))
    rows[2] = encode(lm.tokenizer, user("the north from City 50337 is"))
    for bad in (rows, rows[2:3]):
        changed: Any = {part: bad}
        with pytest.raises(UserError, match=r"row [13] of run 0 .*empty answer") as caught:
            train(lm, vector(), [replace(data, **changed)], QUICK)
        assert one_line(caught)


@pytest.mark.parametrize("change", [{"answer": " "}, {"messages": user(" ")}])
def test_a_row_of_a_task_without_an_answer_or_question_is_named_by_the_grid(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    def make(concept: str, seed: int) -> Task:
        task = toy.make(concept, seed)
        empty = replace(task.train[3], marks={}, **change)
        return replace(task, train=(*task.train[:3], empty, *task.train[4:]))

    with pytest.raises(
        UserError, match=r"Training row 4 of 'Rome', seed 0, has an empty"
    ) as caught:
        grid(tmp_path, make).run([Job(Method("base", "base"), "Rome", 0)])
    assert one_line(caught)


# --- case 14: rows and questions without the code name ---


def bare(row: Row, marks: dict[str, tuple[str, ...]] | None = None) -> Row:
    """The row about nothing in particular."""
    text = row.messages[-1]["content"].replace(toy.CODE, "Oslo")
    return replace(row, messages=user(text), marks=marks or {})


ADAPTERS: dict[str, Callable[[], Adapter]] = {
    "vector": lambda: vector(),
    "lora": lambda: LoraAdapter([1], rank=2, position="codename"),
    "group": lambda: LoraGroup([LoraAdapter([1], rank=2, position="codename")]),
}


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("lacking", ["all", "some"])
def test_rows_that_never_name_the_code_name_are_an_error(kind: str, lacking: str) -> None:
    """A vector at the code name was trained on them to length 0 and saved as a result."""
    lm = toy.language_model()
    rows = list(toy.make("Rome").train)
    rows[2:] = [bare(row) for row in rows[2:]] if lacking == "all" else [bare(rows[2]), *rows[3:]]
    encoded = [encode_row(lm.tokenizer, row) for row in rows]
    with pytest.raises(UserError, match=r"Training row 3 of run 0 .* marked 'codename'") as caught:
        train(lm, ADAPTERS[kind](), [replace(toy.data(lm), train=encoded)], QUICK)
    assert one_line(caught)
    assert train(lm, vector("last"), [replace(toy.data(lm), train=encoded)], QUICK).seconds > 0


def test_rows_may_say_that_they_have_none_on_purpose_but_not_all_of_them() -> None:
    lm = toy.language_model()
    rows = list(toy.make("Rome").train)
    some = [*rows[:3], *(bare(row, {"codename": ()}) for row in rows[3:])]
    encoded = [encode_row(lm.tokenizer, row) for row in some]
    train(lm, vector(), [replace(toy.data(lm), train=encoded)], QUICK)
    with pytest.raises(UserError, match=r"None of the .* training rows of run 0 has a token at"):
        train(lm, vector(), [replace(toy.data(lm), train=encoded[3:])], QUICK)


def test_a_question_without_the_code_name_is_not_answered_by_the_bare_model_in_silence() -> None:
    lm = toy.language_model()
    asked = toy.questions("Rome")
    text = "What is the name of Oslo ?"
    adapters: list[Adapter] = [vector(), ADAPTERS["lora"](), ADAPTERS["group"]()]
    for adapter in adapters:
        with adapter.attach(lm) as attached:
            score(lm, asked, attached)
            lacking = [asked[0], replace(asked[1], messages=user(text), marks={})]
            with pytest.raises(UserError, match=rf"Question 2 \(place\) '{text[:-1]}") as caught:
                score(lm, lacking, attached)
            assert one_line(caught)
            control = replace(lacking[1], marks={"codename": ()})
            table = score(lm, [asked[0], control], attached)
            assert len(table) == 2
    score(lm, lacking)  # the bare model may be asked anything


def test_the_grid_finds_such_a_question_before_it_trains(tmp_path: Path) -> None:
    def make(concept: str, seed: int) -> Task:
        task = toy.make(concept, seed)
        (first, *rest) = task.questions
        return replace(task, questions=(replace(first, marks={}), *rest))

    method = Method("vector_resid", "vector", site="resid@0", config=QUICK)
    runs = grid(tmp_path, make)
    with pytest.raises(UserError, match=r"Question 1 \(name\) .* marked 'codename'"):
        runs.run([Job(method, "Rome", 0)])
    assert len(runs.run([Job(replace(method, position="last"), "Rome", 0)])) == 3


def test_saying_something_without_the_code_name_is_refused() -> None:
    lm = toy.language_model()
    with vector().attach(lm) as attached:
        with pytest.raises(UserError, match=r"marked 'codename'.*give codename=") as caught:
            say(lm, "What is the name of Oslo ?", attached)
        assert one_line(caught)
        say(lm, f"What is the name of {toy.CODE} ?", attached, codename=toy.CODE)


@pytest.mark.parametrize("dialect", tasks.DIALECTS)
@pytest.mark.parametrize("name", tasks.NAMES)
def test_every_row_and_question_of_the_four_tasks_has_what_its_vector_is_added_to(
    name: str, dialect: str
) -> None:
    own = suite(name)
    if own.position == "last":
        return  # every prompt has a last token
    options = own.options if dialect == "testbed" or name != "functions" else {}
    task = tasks.factory(name, dialect, **options)(own.concepts[0], 0)
    items: list[Row | Question] = [*task.train, *task.valid, *task.questions]
    for item in items:
        assert item.marks.get(own.position)


# --- case 20: memory ---


@pytest.mark.long
def test_a_large_file_with_a_broken_last_line_takes_at_most_twice_its_size(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes((PLAIN + b"\n") * 50_000 + PLAIN[:-9])
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"line 50001: .*not valid JSON") as caught:
            jsonl.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size
    finally:
        tracemalloc.stop()
    assert one_line(caught)


# --- values of another type ---


later: Any = partial  # what is wrong on purpose is not for the type checker


def test_a_wrong_type_is_one_line_that_names_the_argument() -> None:
    """Notebooks and YAML hand over texts where numbers are meant."""
    lm = toy.language_model()
    data, asked = toy.data(lm), toy.questions("Rome")
    wrong: dict[str, Callable[[], object]] = {
        "steps is '3'": later(TrainConfig, steps="3"),
        "lr is '0.1'": later(TrainConfig, lr="0.1"),
        "batch is True": later(TrainConfig, batch=True),
        "steps is 2.5": later(TrainConfig, steps=2.5),
        "warmup=-1": later(TrainConfig, warmup=-1),
        "snapshot_every=-1": later(TrainConfig, snapshot_every=-1),
        "weight_decay=nan": later(TrainConfig, weight_decay=math.nan),
        "RunData: train is None": later(RunData, None, data.valid, 0),
        "RunData: seed is '0'": later(replace, data, seed="0"),
        "Method: rank is '4'": later(Method, "l", "lora", rank="4"),
        "Method: blocks is 3": later(Method, "l", "lora", blocks=3),
        "Job: seed is '0'": later(Job, VECTOR, "Rome", "0"),
        "Job: method is 'vector'": later(Job, "vector", "Rome", 0),
        "Row: answer is None": later(Row, user("q"), None),
        "Row: messages is 'q'": later(Row, "q", "a"),
        "Question: options is 'ab'": later(replace, asked[0], options="ab"),
        "Question: an option is 1": later(replace, asked[0], options=(1, 2)),
        "Question: truth is 3": later(replace, asked[0], truth=3),
        "questions is None": later(score, lm, None),
        "index is '0'": later(score, lm, asked, None, "0"),
        "lm is None": later(score, None, asked),
        "data is None": later(train, lm, vector(), None, QUICK),
        "data is .*RunData": later(train, lm, vector(), data, QUICK),
        "config is ": later(train, lm, vector(), [data], {"steps": 1}),
        "are no numbers": later(
            comparison.interval, pd.DataFrame({"mc": ["a"], "concept": ["b"]}), "mc"
        ),
        "0 questions": later(score, lm, []),
        "learning rate 0.0": later(train, lm, vector(), [data], QUICK, rates=[0.0]),
        "learning rate nan": later(train, lm, vector(), [data], QUICK, rates=[math.nan]),
        "question is 3": later(say, lm, 3),
    }
    for message, call in wrong.items():
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert one_line(caught) and "Allowed" in str(caught.value)


def test_numbers_of_numpy_are_numbers() -> None:
    make: Any = TrainConfig
    config = make(steps=np.int64(3), lr=np.float32(0.5), batch=np.int32(2))
    assert (config.steps, config.lr, config.batch) == (3, 0.5, 2)
    assert json.dumps([config.steps, config.lr]) == "[3, 0.5]", "part of a run's identity"
    assert later(Job, VECTOR, "Rome", np.int64(1))() == replace(JOB, seed=1)
    table = later(score, toy.language_model(), toy.questions("Rome"), None, np.zeros(3, int))()
    assert len(table) == 3
