"""Conditions: control tokens and control vectors are what they claim, other rows are refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from oocr_lib.analysis import attention
from oocr_lib.analysis.conditions import (
    Condition,
    last_logits,
    last_tokens,
    logit_difference,
    other_tokens,
    with_random,
)
from oocr_lib.models.language_model import Site
from oocr_lib.util.errors import UserError
from tests import tiny
from tests.shortened import shortened
from tests.tiny import LENGTHS, LETTERS


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_logit_difference_is_read_at_each_rows_own_last_prompt_token(family: str) -> None:
    """Rows one by one, cut after the prompt, without padding."""
    lm = tiny.language_model(family)
    batch = tiny.batch(LENGTHS)
    found = logit_difference(lm, Condition(batch), LETTERS)
    for row, last in enumerate([17, 12, 15]):
        with torch.no_grad():
            logits = lm.model(input_ids=batch.input_ids[row : row + 1, : last + 1]).logits[0, -1]
        first, second = LETTERS[row].tolist()
        assert float(found[row]) == pytest.approx(float(logits[first] - logits[second]), abs=1e-5)
    assert last_logits(lm, Condition(batch)).shape == (3, tiny.VOCAB)


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(0, 99))
def test_control_tokens_are_as_many_earlier_and_never_the_marked_ones(
    pattern: int, count: int, seed: int
) -> None:
    batch = tiny.batch(LENGTHS)
    generator = torch.Generator().manual_seed(pattern)
    mask = torch.zeros_like(batch.input_ids, dtype=torch.bool)
    for row, last in enumerate(last_tokens(batch).tolist()):
        mask[row, torch.randperm(last, generator=generator)[:count]] = True
    found = other_tokens(batch, mask, seed)
    assert found.sum(1).tolist() == [count] * 3 and not bool((found & mask).any())
    column = torch.arange(mask.shape[1])[None]
    assert not bool((found & ((column == 0) | (column >= last_tokens(batch)[:, None]))).any())
    assert torch.equal(found, other_tokens(batch, mask, seed))


def test_control_tokens_differ_between_seeds_and_need_room() -> None:
    batch = tiny.batch(LENGTHS)
    mask = batch.positions["codename"]
    drawn = {str(other_tokens(batch, mask, seed).tolist()) for seed in range(8)}
    assert len(drawn) > 1
    short = tiny.batch((6,))
    crowded = torch.tensor([[False, True, True, False, False, False]])
    with pytest.raises(UserError, match="Row 0 has 2 marked tokens, but only 0 others"):
        other_tokens(short, crowded)


def test_random_vectors_are_as_long_as_the_trained_one_and_differ() -> None:
    vector = torch.arange(16.0)
    found = with_random(vector, Site(2, "mlp_out"), count=2, seed=3).vectors
    assert torch.equal(found[0], vector)
    assert found.norm(dim=1).tolist() == pytest.approx([float(vector.norm())] * 3)
    cosines = torch.nn.functional.cosine_similarity(found[:, None], found[None], dim=-1)
    assert (cosines - torch.eye(3)).abs().max() < 0.95


def test_rows_and_letters_that_do_not_fit_are_refused() -> None:
    lm, batch = tiny.language_model("llama"), tiny.batch(LENGTHS)
    with pytest.raises(UserError, match=r"Letters of shape \(2, 2\)"):
        logit_difference(lm, Condition(batch), torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(UserError, match="0 to 383"):
        logit_difference(lm, Condition(batch), torch.full((3, 2), 384))
    stored = shortened(batch)
    with pytest.raises(UserError, match="stored keys and values"):
        logit_difference(lm, Condition(stored), torch.zeros(3, 2, dtype=torch.int64))
    batch.positions["last"][1, 0] = True
    with pytest.raises(UserError, match="Row 1 has 2 last prompt tokens"):
        logit_difference(lm, Condition(batch), torch.zeros(3, 2, dtype=torch.int64))


def test_marks_that_cannot_be_compared_are_refused() -> None:
    lm, batch = tiny.language_model("llama"), tiny.batch(LENGTHS)
    conditions = {"base": Condition(batch)}
    empty = torch.zeros_like(batch.positions["last"])
    with pytest.raises(UserError, match="Row 0 has no token marked 'empty'"):
        attention.attention_table(lm, conditions, {"empty": empty})
    with pytest.raises(UserError, match="not before its last prompt token"):
        attention.attention_table(lm, conditions, {"last": batch.positions["last"]})
    with pytest.raises(UserError, match=r"Marks 'short' have shape \(3, 5\)"):
        attention.attention_table(lm, conditions, {"short": empty[:, :5]})
    with pytest.raises(UserError, match="cannot be compared"):
        attention.attention_table(lm, {**conditions, "b": Condition(tiny.batch((9,)))}, {})
    with pytest.raises(UserError, match=r"set of queries 'first'"):
        attention.patterns(lm, conditions["base"], "first")
