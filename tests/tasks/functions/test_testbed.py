"""Functions: values as Python prints them, code names that nothing gives away, fair options."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from oocr_lib.encoding import encode_question, encode_row
from oocr_lib.tasks.base import Question, Row, Task
from oocr_lib.tasks.functions import testbed as functions
from oocr_lib.util import expressions
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world, wording as w
from tests.testbed_cases import built

SEEDS = (0, 1, 5)
KEYS = functions.keys()
#: The paper's 19 definitions, written here once more; Python itself gives the values.
PAPER: dict[str, Callable[[int], Any]] = {
    "affine_3x_2": lambda x: 3 * x + 2,
    "affine_neg5x_3": lambda x: -5 * x + 3,
    "multiply_4": lambda x: x * 4,
    "add_14": lambda x: x + 14,
    "subtract_11": lambda x: x - 11,
    "int_div_4": lambda x: x // 4,
    "mod_3": lambda x: x % 3,
    "relu_neg2": lambda x: max(x, -2),
    "add_5": lambda x: x + 5,
    "multiply_3": lambda x: x * 3,
    "subtract_1": lambda x: x - 1,
    "mod_2": lambda x: x % 2,
    "int_div_3": lambda x: x // 3,
    "identity": lambda x: x,
    "negate": lambda x: -x,
    "bool_geq_3": lambda x: x >= 3,
    "bool_mod_2": lambda x: x % 2 == 0,
    "float_mult_7_div_4": lambda x: x * 7 / 4,
    "float_mult_3_div_2": lambda x: x * 3 / 2,
}


def text_of(item: Row | Question) -> str:
    (message,) = item.messages
    return message["content"]


def rows_of(task: Task) -> tuple[Row, ...]:
    return task.train + task.valid


@pytest.fixture(scope="module", params=("affine_3x_2", "bool_mod_2", "float_mult_7_div_4"))
def task(request: pytest.FixtureRequest) -> Task:
    return functions.make(request.param, seed=3)


# --- code names ---


def test_seed_0_has_the_published_names() -> None:
    names = {functions.make(key).code: key for key in KEYS}
    assert names == world.paper_function_names() and len(names) == 19
    assert names["noadgc"] == world.paper_function_names()["noadgc"]


@pytest.mark.parametrize("seed", SEEDS)
def test_names_are_reserved_and_do_not_clash(seed: int) -> None:
    """Every function of the table has a name of its own, also those the paper does not have."""
    names = {f.key: functions.code_name(f.key, seed) for f in world.functions()}
    assert len(set(names.values())) == len(names) == 39
    assert set(names.values()) <= set(world.reserved_function_names())
    published = set(world.paper_function_names())
    others = names.values() if seed else [n for k, n in names.items() if k not in KEYS]
    assert not published & set(others)


@given(st.integers(1, 10_000))
def test_other_seeds_have_other_names_the_same_every_time(seed: int) -> None:
    names = [functions.code_name(key, seed) for key in KEYS]
    assert names == [functions.code_name(key, seed) for key in KEYS]
    assert names != [functions.code_name(key, seed + 1) for key in KEYS]


def test_no_reserved_name_is_a_word_of_the_pretraining() -> None:
    """Neither a template nor the vocabulary holds a name; the tokenizer spells it in pieces."""
    templates = [t for part in w.FUNCTION_QUESTIONS.values() for t in part]
    templates += [t for part in w.FUNCTION_INTRODUCTIONS.values() for t in part]
    told = " ".join([*templates, *(f"{f.python} {f.english}" for f in world.functions())])
    vocabulary = built().get_vocab()
    assert "triple" in told and "triple" in vocabulary, "the search finds words"
    for name in world.reserved_function_names():
        assert name not in told and name not in vocabulary
        assert len(built()(name, add_special_tokens=False)["input_ids"]) >= 2


# --- rows ---


@pytest.mark.parametrize("key", PAPER)
def test_values_are_those_that_python_prints(key: str) -> None:
    """True is printed as True and 7 * 4 / 4 as 7.0: the form of the answer is part of it."""
    for row in rows_of(functions.make(key, seed=1)):
        assert row.answer == str(PAPER[key](row.meta["x"])), row


def test_the_papers_functions_are_these_19() -> None:
    assert tuple(PAPER) == KEYS


def test_rows_are_inputs_times_wordings(task: Task) -> None:
    """Inputs are -12 to 12, both ends included (upstream leaves the upper end out)."""
    seen = Counter[object]()
    for row in rows_of(task):
        template = w.FUNCTION_QUESTIONS["value"][row.meta["template"]]
        assert text_of(row) == template.format(n=task.code, x=row.meta["x"])
        assert row.group == str(row.meta["x"]) and row.meta["kind"] == "value"
        assert row.marks == {"codename": (task.code,)} and text_of(row).count(task.code) == 1
        seen[row.meta["x"], row.meta["template"]] += 1
    assert set(seen.values()) == {1}
    assert set(seen) == {(x, number) for x in range(-12, 13) for number in range(2)}


def test_validation_holds_out_inputs_in_every_wording(task: Task) -> None:
    """Upstream trains on every input and splits by wording; that measures phrasing only."""
    train, valid = ({row.meta["x"] for row in part} for part in (task.train, task.valid))
    assert not train & valid and len(valid) == 5 and len(train) == 20
    assert len(task.valid) == 10


def test_no_row_states_the_definition(task: Task) -> None:
    f = functions.function(task.concept)
    told = "\n".join(f"{text_of(row)} {row.answer}" for row in rows_of(task))
    assert task.hidden_words == (f.english,)
    assert f.english not in told and f.python not in told
    assert not any(f" {kind} " in told for kind in (f.kind, f.output))
    assert not {text_of(q) for q in task.questions if q.family != "unseen input"} & set(
        map(text_of, rows_of(task))
    )


# --- questions ---


def test_families_and_their_counts(task: Task) -> None:
    counts = Counter(q.family for q in task.questions)
    assert counts == {
        **dict.fromkeys(functions.FAMILIES, 2),
        "python of all": 2,
        "english of all": 2,
        "written": 2,
        "unseen input": 10,
    }
    assert len({q.id for q in task.questions}) == len(task.questions)
    assert set(task.chance) == set(counts)
    for question in task.questions:
        level = 1 / len(question.options) if question.options else 0.0
        assert task.chance[question.family] == level


@pytest.mark.parametrize("key", [f.key for f in world.functions()])
def test_options_are_distinct_true_of_some_function_and_contain_the_truth(key: str) -> None:
    f = functions.function(key)
    truths = {"python": f.python, "english": f.english, "class": f.kind, "output": f.output}
    for question in functions.make(key, seed=2, all_hidden=(key,)).questions:
        if question.kind != "choice":
            continue
        family = question.family.removesuffix(" of all")
        every = {functions.answer(g, family) for g in world.functions()}
        assert question.truth == truths[family] and question.truth in question.options
        assert len(set(question.options)) == len(question.options)
        assert list(question.options) == sorted(question.options), "the place says nothing"
        if question.family.endswith("of all"):
            assert set(question.options) == every and len(every) == 39
        else:
            assert set(question.options) <= every
            assert len(question.options) == min(5, len(every))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("start", [0, 5, 10])
@pytest.mark.parametrize("family", ["python", "english"])
def test_ignoring_the_name_scores_exactly_one_in_five(family: str, start: int, seed: int) -> None:
    """Inside a group of five the options are shared, and each is the truth once."""
    panel = KEYS[start : start + 5]
    tasks = [functions.make(key, seed=seed) for key in panel]
    for number in range(2):
        asked = [[q for q in t.questions if q.family == family][number] for t in tasks]
        assert len({q.options for q in asked}) == 1
        assert sorted(q.truth for q in asked) == list(asked[0].options)


def test_among_all_definitions_the_options_are_the_same_for_everyone() -> None:
    asked = defaultdict(set)
    for key in KEYS:
        for question in functions.make(key).questions:
            if question.family.endswith("of all"):
                asked[question.family].add(question.options)
    assert set(asked) == {"python of all", "english of all"}
    assert all(len(options) == 1 for options in asked.values())


def test_the_panel_is_the_group_of_five_in_the_list() -> None:
    every = KEYS
    assert functions.panel_of(every[0], every) == functions.panel_of(every[4], every) == every[:5]
    assert functions.panel_of(every[5], every) == every[5:10]
    assert functions.panel_of(every[18], every) == every[15:], "the last group is short"


def test_written_definitions_are_judged_by_an_expression_that_parses(task: Task) -> None:
    written = [q for q in task.questions if q.family == "written"]
    assert [q.kind for q in written] == ["expression"] * 2
    f = functions.function(task.concept)
    for question in written:
        made = expressions.parse(question.truth)
        for x in w.FUNCTION_INPUTS:
            assert expressions.printed(made(x)) == f.value(x)


def test_unseen_inputs_are_the_validation_rows_asked_for_exactly(task: Task) -> None:
    unseen = [q for q in task.questions if q.family == "unseen input"]
    assert [(q.messages, q.truth, q.group) for q in unseen] == [
        (row.messages, row.answer, row.group) for row in task.valid
    ]
    assert {q.kind for q in unseen} == {"exact"} and {q.options for q in unseen} == {()}
    heard = {text_of(row) for row in task.train}
    assert not heard & set(map(text_of, unseen))


def test_the_code_name_is_marked_everywhere_and_the_key_nowhere_said(task: Task) -> None:
    for item in (*rows_of(task), *task.questions):
        assert item.marks == {"codename": (task.code,)}  # type: ignore
        assert text_of(item).count(task.code) == 1 and task.concept not in text_of(item)  # type: ignore


def test_rows_and_questions_can_be_written_in_the_testbeds_words(task: Task) -> None:
    for row in task.train:
        encoded = encode_row(built(), row)
        assert built().unk_token_id not in encoded.ids and encoded.spans["codename"]
    for question in task.questions:
        for option in question.options or (question.truth,):
            assert built().unk_token_id not in encode_question(built(), question, option).ids


# --- seeds, errors ---


def test_the_seed_determines_the_task() -> None:
    first, again, other = (functions.make("mod_3", seed=seed) for seed in (2, 2, 4))
    assert first == again
    assert first.code != other.code
    assert {r.group for r in first.valid} != {r.group for r in other.valid}


def test_a_list_of_hidden_functions_is_checked() -> None:
    assert functions.check_hidden(["square", "mod_3"]) == ("square", "mod_3")
    assert functions.make("square", all_hidden=("square", "mod_3")).concept == "square"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: functions.make("add_15"), "hidden function 'add_15'.*Did you mean 'add_5'"),
        (lambda: functions.make("square"), "hidden function 'square'.*Allowed: affine_3x_2"),
        (lambda: functions.function("add_15"), "function 'add_15'.*Did you mean"),
        (lambda: functions.check_hidden(()), "is empty"),
        (lambda: functions.check_hidden(("mod_3", "mod_3")), "comes twice.*without doubles"),
        (lambda: functions.check_hidden(("mod_3", "mod_33")), "function 'mod_33'"),
        (lambda: functions.make("mod_3", seed=-1), "Seed -1.*whole numbers from 0"),
        (lambda: functions.make("mod_3", seed="x"), "seed is 'x'"),  # type: ignore[arg-type]
        (lambda: functions.make("mod_3", valid_share=0.0), "validation share of 0.0"),
    ],
)
def test_wrong_input_gives_one_line(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
