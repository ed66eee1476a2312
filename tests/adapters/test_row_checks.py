"""Rows and questions that would have no effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from oocr_lib.adapters import Filtered, LoraAdapter, LoraGroup, VectorAdapter
from oocr_lib.adapters.base import Adapter
from oocr_lib.adapters.row_checks import check_rows, lacks, position_of
from oocr_lib.encoding import POSITIONS
from oocr_lib.tasks.base import Question, Row, check_question, check_row, user
from oocr_lib.util.errors import UserError
from tests import tiny, toy


def adapters(position: str) -> list[Adapter]:
    lora = LoraAdapter([1], rank=2, position=position)
    direction = tiny.model().get_input_embeddings().weight[0].detach()
    return [
        VectorAdapter(["resid@0", "resid@1"], tiny.D_MODEL, position, [1.0, 1.0]),
        lora,
        LoraGroup([LoraAdapter([0], rank=2, position=position)]),
        Filtered(LoraAdapter([1], rank=2, position=position), "mlp_out@1", direction, "keep_only"),
    ]


@pytest.mark.parametrize("position", POSITIONS)
def test_every_adapter_in_place_says_which_tokens_it_touches(position: str) -> None:
    lm = toy.language_model()
    for adapter in adapters(position):
        with adapter.attach(lm) as attached:
            assert [position_of(attached, run) for run in (0, 1)] == [position] * 2
    assert position_of(None) == "all"


def test_runs_of_a_group_have_positions_of_their_own() -> None:
    group = LoraGroup([LoraAdapter([1], position=name) for name in ("all", "codename")])
    with group.attach(toy.language_model()) as attached:
        assert [position_of(attached, run) for run in (0, 1)] == ["all", "codename"]


def test_only_a_missing_mark_is_a_mistake() -> None:
    (row,) = tiny.rows((9,))
    for position in POSITIONS:
        assert not lacks(row, position)
    without = replace(row, spans={"last": row.spans["last"]})
    assert lacks(without, "codename") and not lacks(without, "last")
    assert not lacks(without, "all")
    assert not lacks(replace(without, spans={**without.spans, "codename": ()}), "codename")


@pytest.mark.parametrize(
    ("answer", "text"), [((5, 5), "x"), ((0, 7), "x"), ((5, 7), "x \n")], ids=str
)
def test_a_row_without_answer_or_prompt_is_named(answer: tuple[int, int], text: str) -> None:
    lm = toy.language_model()
    good, row = tiny.rows((9, 7))
    space = lm.tokenizer.eos_token_id  # stands for a token of spaces, which this vocabulary lacks
    lm.tokenizer.decode = lambda ids: " " * len(ids)
    bad = replace(row, answer=answer, text=text, ids=(*row.ids[:5], space, space))
    with pytest.raises(UserError, match=r"^Training row 2 of run 3 'x.*empty answer or prompt"):
        check_rows(lm, [good, bad], None, 3, "training")
    check_rows(lm, [good, row], None, 3, "training")


# --- tasks ---

GOOD = Question(user("Which?"), "a", ("a", "b"), "name", id="name-0")
BAD_QUESTIONS: dict[str, dict[str, Any]] = {
    "is empty": {"messages": user(" \n")},
    "texts that are not empty": {"options": ("a", " ")},
    "the truth of a choice is one of its options": {"truth": "c"},
    "the option 'a' twice": {"options": ("a", "b", "a")},
}


@pytest.mark.parametrize("message", BAD_QUESTIONS)
def test_questions_whose_options_cannot_be_compared_are_refused(message: str) -> None:
    """An empty option has probability 1; a double shares the truth's point with itself."""
    check_question(GOOD)
    with pytest.raises(UserError, match=rf"Question 'name-0' \(name\).*{message}") as caught:
        check_question(replace(GOOD, **BAD_QUESTIONS[message]))
    assert "\n" not in str(caught.value)


def test_a_number_asked_for_needs_no_options_but_an_answer() -> None:
    check_question(replace(GOOD, kind="exact", options=()))
    with pytest.raises(UserError, match="truth ''"):
        check_question(replace(GOOD, kind="exact", options=(), truth=""))


def test_a_row_of_a_task_has_a_question_and_an_answer() -> None:
    check_row(Row(user("q"), " East"), "Row 1")
    for row, part in ((Row(user(" "), "a"), "prompt"), (Row(user("q"), "\n"), "answer")):
        with pytest.raises(UserError, match=f"^Row 1 has an empty {part}.*leave the row out"):
            check_row(row, "Row 1")
