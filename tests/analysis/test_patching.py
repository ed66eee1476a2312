"""Patching: a planted head and token are found, and only they; whole runs turn into each other."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
import torch

from oocr_lib.adapters.base import Attached
from oocr_lib.analysis import patching
from oocr_lib.analysis.conditions import Condition, other_tokens, with_random
from oocr_lib.models.language_model import LanguageModel
from tests import planted
from tests.planted import line, near

S = planted.STRENGTH


def only(table: pd.DataFrame, expected: list[float]) -> bool:
    """The planted head, its block and everything have the effect; nothing else has any."""
    block, head = planted.HEAD
    units: list[tuple[int | None, int | None]]
    units = [(None, None), (block, None), (block, head)]
    rest: list[tuple[int | None, int | None]] = [
        (b, None) for b in range(planted.BLOCKS) if b != block
    ]
    every = [(b, h) for b in range(planted.BLOCKS) for h in range(planted.HEADS)]
    rest += [unit for unit in every if unit != planted.HEAD]
    assert len(table) == len(units) + len(rest)
    assert max(abs(v) for unit in rest for v in line(table, *unit)["values"]) < 1e-5
    return all(near(line(table, *unit)["values"], expected) for unit in units)


# --- the planted head ---


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return planted.language_model()


@pytest.fixture
def attached(lm: LanguageModel) -> Iterator[Attached]:
    with with_random(planted.STEER, planted.SITE).attach(lm) as found:
        yield found


LETTER = planted.letters()
FULL = planted.answer(planted.looked(), S)
BLIND = planted.answer(planted.uniform(), S)  # the vector is there, the head does not look
UNSTEERED = planted.answer(planted.uniform(), 0)
SEEING = planted.answer(planted.looked(), 0)  # no vector, but the head looks


def minus(a: list[float], b: list[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def test_the_vectors_effect_needs_the_planted_heads_pattern(
    lm: LanguageModel, attached: Attached
) -> None:
    on = Condition(planted.batch(), attached)
    found = patching.patch_patterns(lm, on, on.off(), LETTER)
    assert only(found, minus(BLIND, FULL))
    whole = sum(minus(UNSTEERED, FULL))
    assert line(found, *planted.HEAD)["share"] == pytest.approx(
        sum(minus(BLIND, FULL)) / whole, abs=1e-4
    )
    assert line(found, *planted.HEAD)["effect"] == pytest.approx(sum(minus(BLIND, FULL)) / 3)
    assert set(found["what"]) == {"pattern"}


def test_the_pattern_alone_brings_the_effect_about(lm: LanguageModel, attached: Attached) -> None:
    on = Condition(planted.batch(), attached)
    found = patching.patch_patterns(lm, on.off(), on, LETTER)
    assert only(found, minus(SEEING, UNSTEERED))


def test_a_random_vectors_pattern_brings_what_its_own_attention_does(lm: LanguageModel) -> None:
    control = with_random(planted.STEER, planted.SITE)
    expected = planted.answer(planted.looked(control.vectors[1]), 0)
    with control.attach(lm) as attached:
        wild = Condition(planted.batch(), attached, torch.ones(3, dtype=torch.int64))
        found = patching.patch_patterns(lm, wild.off(), wild, LETTER)
    assert only(found, minus(expected, UNSTEERED))
    assert sum(minus(expected, UNSTEERED)) < 0.5 * sum(minus(SEEING, UNSTEERED))


MARKS = {
    "trigger": planted.batch().positions["trigger"],
    "first": planted.token(0),
    "second": planted.token(1),
    "others": other_tokens(planted.batch(), planted.batch().positions["trigger"]),
}


@pytest.mark.parametrize("readers", ["last", "all"])
@pytest.mark.parametrize("another", [False, True], ids=["mean", "another trigger"])
def test_the_value_moved_is_that_of_the_triggers_first_token(
    lm: LanguageModel, attached: Attached, readers: str, another: bool
) -> None:
    on = Condition(planted.batch(), attached)
    donor = Condition(planted.batch(planted.OTHER), attached) if another else None
    found = patching.patch_values(lm, on, LETTER, MARKS, donor, readers=readers)
    assert list(dict.fromkeys(found["what"])) == list(MARKS)
    gone = [-x for x in FULL]  # the head still looks, and finds nothing
    for what in ("trigger", "first"):
        assert only(found[found.what == what], gone)
    silent = found[found.what.isin(["second", *(["others"] if another else [])])]
    if another:
        assert silent["effect"].abs().max() < 1e-5
        assert line(found, None, None, "first")["share"] == pytest.approx(1, abs=1e-4)
    else:
        assert found["share"].isna().all()


def test_values_at_other_tokens_become_their_rows_mean(
    lm: LanguageModel, attached: Attached
) -> None:
    """The mean is over what is neither marked nor last; there the trigger counts as one of them."""
    on = Condition(planted.batch(), attached)
    found = patching.patch_values(lm, on, LETTER, {"second": planted.token(1)})
    attention_paid, expected = planted.looked(), []
    for p, t in zip(attention_paid, planted.lengths(), strict=True):
        others = (1 - p) / (t - 1)
        expected.append(p + others / (t - 2))
    assert only(found, minus(planted.answer(expected, S), FULL))
