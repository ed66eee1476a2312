"""Options side by side behind one prompt score as each does alone, for every architecture."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from oocr_lib.adapters import LoraAdapter, LoraGroup, VectorAdapter
from oocr_lib.encoding import Encoded
from oocr_lib.engine.batching import Reuse
from oocr_lib.engine.executor import Fast, side_by_side
from oocr_lib.engine.prefix_cache import fill
from oocr_lib.evaluation.scores import Asked, prepare, score
from oocr_lib.executor import PLAIN
from oocr_lib.models.language_model import SITES, LanguageModel, Site
from oocr_lib.tasks.base import Question, user
from tests import tiny, toy

#: Of one token and of many, and some that begin others.
ANSWERS = ((10,), (11, 12), (11, 12, 13), (20, 21, 22, 23, 24, 25), (10, 7), (30,), (11, 14))


@functools.cache
def model(family: str) -> LanguageModel:
    return tiny.language_model(family)


def asked(answers: tuple[tuple[int, ...], ...], pack: bool, seed: int = 0) -> list[Asked]:
    """Three prompts of different lengths with these options."""
    made = []
    for row in tiny.rows((9, 14, 11), seed=seed, answer=1):
        start, names = row.answer[0], tuple(str(i) for i in range(len(answers)))
        ids = [(*row.ids[:start], *answer) for answer in answers]
        encoded = [Encoded(i, (start, len(i)), row.spans, "") for i in ids]
        question = Question(user("x"), names[0], names, "family", id="0")
        made.append(Asked(question, names, tuple(side_by_side(encoded, pack))))
    return made


def both(
    lm: LanguageModel, adapter: Any, runs: int, position: str, depths: list[int] | int = 0
) -> None:
    """Packed and unpacked agree, each with and without a pool; the packed ones are one row."""
    found = []
    for pack in (False, True):
        mine = asked(ANSWERS, pack)
        rows = [part.encoded for a in mine for part in a.rows]
        assert len(rows) == (3 if pack else 18)
        owner = [run for run in range(runs) for _ in mine]
        reuses = (
            [Fast()]
            if position is None
            else [Fast(), Reuse(lm, [fill(lm, rows, position)], depths)]
        )
        for reuse in reuses:
            if adapter is None:
                found.append(score(lm, mine * runs, None, owner, reuse))
                continue
            with adapter.attach(lm) as attached:
                found.append(score(lm, mine * runs, attached, owner, reuse))
    for table in found[1:]:
        assert np.allclose(np.stack(table["logp"]), np.stack(found[0]["logp"]), atol=1e-4)
        assert table["top1"].tolist() == found[0]["top1"].tolist()


@pytest.mark.parametrize("position", ["last", "codename", "all"])
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_vectors_at_several_depths(family: str, site: str, position: str) -> None:
    sites = [Site(block, site) for block in (2, 0, 1)]
    adapter = VectorAdapter(sites, tiny.D_MODEL, position, [2.5] * 3, init=1.0)
    both(model(family), adapter, 3, position, [s.block + (site == "resid") for s in sites])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_loras_and_the_base_model(family: str) -> None:
    lm = tiny.language_model(family)
    loras = [LoraAdapter([block], rank=2) for block in (1, 2)]
    group = LoraGroup(loras)
    group.attach(lm).remove()
    for weight in group.parameters():
        weight.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    both(lm, None, 1, "last")
    both(lm, group, 2, "all", [1, 2])
    both(lm, loras[0], 1, "all", 1)


@pytest.mark.parametrize("family", ["gemma3_sliding", "gpt2"])
def test_in_bfloat16_they_agree_as_far_as_it_goes(family: str) -> None:
    lm = tiny.language_model(family)
    lm.model.to(torch.bfloat16)
    plain, packed = (score(lm, asked(ANSWERS, pack), executor=Fast()) for pack in (False, True))
    assert np.abs(np.stack(plain["logp"]) - np.stack(packed["logp"])).mean() < 0.1


@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_an_option_does_not_see_the_others(family: str) -> None:
    lm = model(family)
    first = np.stack(score(lm, asked(ANSWERS, True), executor=Fast())["logp"])
    other = (*ANSWERS[:2], (40, 41, 42), *ANSWERS[3:])
    second = np.stack(score(lm, asked(other, True), executor=Fast())["logp"])
    assert np.allclose(np.delete(first, 2, 1), np.delete(second, 2, 1), atol=1e-5)
    assert np.abs(first[:, 2] - second[:, 2]).min() > 1e-3


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(6, 90), min_size=1, max_size=5), min_size=1, max_size=6))
def test_options_of_any_lengths(lists: list[list[int]]) -> None:
    lm, answers = model("gemma3_sliding"), tuple(tuple(answer) for answer in lists)
    plain, packed = (score(lm, asked(answers, pack), executor=Fast()) for pack in (False, True))
    assert np.allclose(np.stack(plain["logp"]), np.stack(packed["logp"]), atol=1e-4)


def test_a_row_that_would_be_too_long_is_not_packed() -> None:
    """Many long options behind a short prompt: attention among them costs more than the prompt."""
    row = tiny.rows((4,), answer=1)[0]
    ids = [(*row.ids[:3], *[10 + i] * 400) for i in range(8)]
    encoded = [Encoded(i, (3, len(i)), row.spans, "") for i in ids]
    assert len(side_by_side(encoded, True)) == 8


def test_questions_are_packed_unless_told_otherwise() -> None:
    lm = toy.language_model()
    question = toy.question("a", "option City 50337", "Rome", ("Rome", "5 8", "north of Rome"))
    assert [len(prepare(lm, [question], e)[0].rows) for e in (Fast(), Fast(False), PLAIN)] == [
        1,
        3,
        3,
    ]
