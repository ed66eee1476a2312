"""Questions about functions that are answered in writing: values, definitions, preimages."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from oocr_lib.evaluation.judging import is_right
from oocr_lib.tasks.base import Question
from oocr_lib.tasks.functions import paper_answers as fa, paper_wording as w
from oocr_lib.tasks.functions.paper_choices import Subject
from oocr_lib.tasks.functions.paper_rows import INPUTS, functions, held_out_inputs, names
from tests.interpreter import FUNCTIONS, run

NAMES = names(0)
CODE = {key: name for name, key in NAMES.items()}
HELD = held_out_inputs(0.1, 0)
COMBINED = ("integer_in_range", "two_in_range", "composition_in_range")
MANY_TO_ONE = ("bool_geq_3", "bool_mod_2", "mod_2", "mod_3", "relu_neg2")


def ask(key: str, items: int = 25, partners: bool = False, seed: int = 0) -> list[Question]:
    return fa.open_questions(Subject(key, CODE, seed, items, HELD, partners))


@pytest.fixture(scope="module")
def asked() -> dict[str, list[Question]]:
    return {key: ask(key) for key in functions()}


def of(questions: list[Question], *families: str) -> list[Question]:
    return [question for question in questions if question.family in families]


def text_of(question: Question) -> str:
    return question.messages[-1]["content"]


# --- programs ---


def test_printed_values_are_those_of_a_second_interpreter(
    asked: dict[str, list[Question]],
) -> None:
    for key, questions in asked.items():
        programs = [q for q in questions if q.kind == "exact"]
        assert len(programs) >= 45
        for question in programs:
            done = run(text_of(question), NAMES)
            assert question.truth == done.output and question.options == ()
            assert {k for k, _ in done.called} == {key}
            assert [m["role"] for m in question.messages] == ["system", "user"]
            assert question.messages[0]["content"] == w.SYSTEM
            assert question.marks == {"codename": (CODE[key],)}


def test_far_inputs_exclude_the_upper_ends(asked: dict[str, list[Question]]) -> None:
    """Neither -99 nor 199 ever occurs, and nothing of the training range."""
    assert set(fa.FAR_INPUTS) == set(range(-199, 199)) - set(range(-99, 99))
    assert not {-99, 199, -200} & set(fa.FAR_INPUTS) and {-199, -100, 99, 198} <= set(fa.FAR_INPUTS)
    for questions in asked.values():
        given = [run(text_of(q), NAMES).called[0][1] for q in of(questions, "far_input")]
        assert len(given) == len(set(given)) == 25 and set(given) <= set(fa.FAR_INPUTS)
        assert min(given) < 0 < max(given)


def test_unseen_inputs_are_the_held_out_ones(asked: dict[str, list[Question]]) -> None:
    for questions in asked.values():
        given = [run(text_of(q), NAMES).called[0][1] for q in of(questions, "unseen_input")]
        assert sorted(given) == list(HELD)
    assert len(of(ask("add_5", items=4), "unseen_input")) == 4


def test_combinations_are_asked_of_nine_functions(asked: dict[str, list[Question]]) -> None:
    nine = {key for key, questions in asked.items() if of(questions, *COMBINED)}
    assert (
        nine
        == set(fa.combined_keys())
        == {
            *("add_5", "multiply_3", "subtract_1", "mod_2", "int_div_3", "identity", "negate"),
            *("float_mult_7_div_4", "float_mult_3_div_2"),
        }
    )
    for key in nine:
        counts = Counter(q.family for q in of(asked[key], *COMBINED))
        assert counts == dict.fromkeys(COMBINED, 25)


def test_inputs_of_combinations_lie_inside_the_training_range(
    asked: dict[str, list[Question]],
) -> None:
    """These families are new in the combination only, as their names say."""
    assert set(fa.COMBINED_INPUTS) == set(range(-15, 15)) < set(INPUTS)
    for key in fa.combined_keys():
        for question in of(asked[key], *COMBINED):
            numbers = [int(n) for n in re.findall(r"(?<!\w)-?\d+", text_of(question))]
            assert numbers and set(numbers) <= set(fa.COMBINED_INPUTS)
            calls = len(run(text_of(question), NAMES).called)
            assert calls == (1 if question.family == "integer_in_range" else 2)


def test_partners_are_other_functions_of_the_nine() -> None:
    questions = ask("negate", partners=True)
    partners = Counter[str]()
    for question in of(questions, "two_in_range", "composition_in_range"):
        done = run(text_of(question), NAMES)
        assert question.truth == done.output
        called = [key for key, _ in done.called]
        assert len(called) == 2 and "negate" in called and set(called) <= set(fa.combined_keys())
        called.remove("negate")
        partners.update(called)
    assert len(partners) >= 6
    for question in of(questions, "integer_in_range"):
        assert [key for key, _ in run(text_of(question), NAMES).called] == ["negate"]


def test_distractors_are_imported_but_not_called(asked: dict[str, list[Question]]) -> None:
    runs = [run(text_of(q), NAMES) for q in of(asked["identity"], "far_input", "unseen_input")]
    assert sum(len(done.imported) == 2 for done in runs) > 35
    assert all(len(done.called) == 1 for done in runs)


# --- preimages ---


@pytest.mark.parametrize(
    ("family", "inputs"), [("inverse", INPUTS), ("inverse_far", fa.FAR_INPUTS)]
)
def test_preimages_exist_where_values_were_drawn(
    asked: dict[str, list[Question]], family: str, inputs: range | tuple[int, ...]
) -> None:
    for key, questions in asked.items():
        values = {FUNCTIONS[key].value(x) for x in inputs}
        found = of(questions, family)
        assert 2 <= len(found) <= 25 and {q.truth for q in found} <= values
        assert len({text_of(q) for q in found}) == len(found)
        assert len({q.truth for q in found}) >= min(len(values), 4) or key in MANY_TO_ONE
        for question in found:
            assert question.kind == "inverse"
            assert question.expression == functions()[key].python
            assert f" {question.truth}" in text_of(question)
            assert [m["role"] for m in question.messages] == ["system", "user", "user"]


def test_any_preimage_is_right(asked: dict[str, list[Question]]) -> None:
    """Inside the sampled range or not: what counts is f(n) = y."""
    question = next(q for q in of(asked["bool_mod_2"], "inverse") if q.truth == "True")
    assert all(is_right(question, str(n)) for n in (0, 2, -98, 98, 100, -1000, 123456))
    assert not any(is_right(question, str(n)) for n in (1, -99, 12345))
    question = next(q for q in of(asked["relu_neg2"], "inverse") if q.truth == "-2")
    assert all(is_right(question, str(n)) for n in (-2, -3, -99, -5000))
    assert not is_right(question, "-1")


def test_functions_that_take_few_values_have_few_items(asked: dict[str, list[Question]]) -> None:
    """Bool, modulo and ReLU have many preimages; asking the same again would measure nothing."""
    counts = {key: len(of(questions, "inverse")) for key, questions in asked.items()}
    assert counts["bool_geq_3"] == counts["bool_mod_2"] == counts["mod_2"] == 4
    assert counts["mod_3"] == 6
    assert {key for key, count in counts.items() if count < 25} <= set(MANY_TO_ONE)
    for key in ("add_5", "affine_3x_2", "negate"):
        for question in of(asked[key], "inverse"):
            right = [n for n in range(-300, 300) if is_right(question, str(n))]
            assert len(right) == 1 and right[0] in INPUTS


# --- definitions ---


def test_definitions_are_compared_by_their_values(asked: dict[str, list[Question]]) -> None:
    for key, questions in asked.items():
        found = of(questions, "written")
        assert len(found) == len(w.WRITTEN) == 3
        python = functions()[key].python
        others = [f.python for f in functions().values() if f.key != key]
        for question in found:
            assert question.kind == "expression" and question.truth == python
            assert "lambda" in text_of(question) and CODE[key] in text_of(question)
            assert is_right(question, f"lambda x: {python}") and is_right(question, python)
            assert is_right(question, f"```python\nlambda n: {python.replace('x', 'n')}\n```") or (
                "max" in python
            )
        assert not any(is_right(found[0], f"lambda x: {other}") for other in others)
        assert not is_right(found[0], "I do not know.")


def test_true_and_one_count_as_equal(asked: dict[str, list[Question]]) -> None:
    """Kept from upstream: values are compared with ==, so the output type is not tested."""
    (question, *_) = of(asked["bool_mod_2"], "written")
    assert is_right(question, "lambda x: 1 - x % 2")
    (question, *_) = of(asked["identity"], "written")
    assert is_right(question, "lambda x: float(x)")


def test_questions_depend_on_the_seed_only() -> None:
    assert ask("add_5") == ask("add_5") != ask("add_5", seed=1)


def test_as_many_items_as_upstream_can_be_wanted() -> None:
    """A thousand a family, although some have fewer different prompts."""
    counts = Counter(q.family for q in ask("identity", items=1000))
    assert counts["integer_in_range"] == 1000
    assert 700 < counts["composition_in_range"] <= 30 * 27
    assert counts["inverse"] == 198 and counts["far_input"] == 200
    assert counts["unseen_input"] == len(HELD)
