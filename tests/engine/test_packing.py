"""Runs packed into one row see what each would see alone, for every architecture."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st

from oocr_lib.adapters import LoraAdapter, LoraGroup, VectorAdapter
from oocr_lib.encoding import Encoded
from oocr_lib.engine import packing
from oocr_lib.engine.answer_logits import answer_logits
from oocr_lib.engine.batching import Reuse
from oocr_lib.engine.prefix_cache import fill
from oocr_lib.engine.shortened import collate
from oocr_lib.executor import PLAIN
from oocr_lib.models.language_model import SITES, LanguageModel, Site
from oocr_lib.training.loop import RunData, TrainConfig, train
from oocr_lib.util.errors import UserError
from tests import tiny
from tests.adapter_cases import D

CONFIG = TrainConfig(steps=6, batch=4, lr=0.05)


@functools.cache
def model(family: str) -> LanguageModel:
    return tiny.language_model(family)


def rows() -> list[Encoded]:
    """Many lengths, answers of one and of three tokens."""
    return [*tiny.rows((9, 6, 14, 20), answer=1), *tiny.rows((11, 8), seed=3, answer=3)]


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("site", SITES)
def test_packed_runs_train_as_they_do_alone(family: str, site: str) -> None:
    """Four runs on the same rows in the same order, at three blocks, each entering at its own."""
    lm, made = model(family), []
    data = [RunData(rows(), rows(), 0) for _ in range(4)]
    for packed in (False, True):
        sites = [Site((1, 2, 0, 2)[k], site) for k in range(4)]
        adapter = VectorAdapter(sites, D, "last", [2.5] * 4, init=0.1)
        depths = [s.block + (site == "resid") for s in sites]
        reuse = Reuse(lm, [fill(lm, rows(), "last")], depths) if packed else None
        if reuse:
            batch = reuse.collate(lm, [row for row in rows()[:4] for _ in range(4)])
            assert batch.owner is not None and len(batch) == 4 and batch.input_ids.shape[1] == 5
            ran = widths(lm, reuse)
            assert ran == ([0, 1, 2] if site == "resid" else [1, 2, 4])
        result = train(
            lm, adapter, data, CONFIG, rates=[0.05, 0.05, 0.02, 0.01], executor=reuse or PLAIN
        )
        made.append((result, adapter.theta.detach()))
    (plain, a), (short, b) = made
    assert plain.losses == pytest.approx(short.losses, abs=1e-5)
    assert plain.valid[-1][1] == pytest.approx(short.valid[-1][1], abs=1e-5)
    assert plain.valid_accuracy.tolist() == short.valid_accuracy.tolist()
    assert torch.allclose(a, b, atol=1e-5)
    assert plain.losses[0] != pytest.approx(plain.losses[-1], abs=1e-4), "nothing was learned"


@torch.no_grad()
def widths(lm: LanguageModel, reuse: Reuse) -> list[int]:
    """Columns that each block runs, of four runs in one row; 0 where it is not run."""
    seen = dict.fromkeys(range(lm.n_blocks), 0)
    hooks = [
        lm.module(Site(i, "attn_out")).register_forward_pre_hook(
            lambda m, args, kw, i=i: seen.update({i: (*args, *kw.values())[0].shape[1]}),
            with_kwargs=True,
        )
        for i in seen
    ]
    runs = sorted(range(4), key=reuse.depth_of)
    answer_logits(lm, reuse.collate(lm, [rows()[0]] * 4, runs))
    for hook in hooks:
        hook.remove()
    return list(seen.values())


@torch.no_grad()
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_slots_do_not_see_each_other(family: str) -> None:
    """Items that share a prompt but not their answers, in an order of their own."""
    lm, base = model(family), rows()
    others = [replace(row, ids=(*row.ids[:-1], row.ids[-1] + 1)) for row in base]
    mixed = [base[4], others[0], base[0], base[5], others[4], others[5], base[0], base[5], base[4]]
    reuse = Reuse(lm, [fill(lm, base[:3], "last"), fill(lm, base[3:], "last")], 1)
    batch = reuse.collate(lm, mixed)
    assert batch.owner is not None and len(batch) == 3
    items, targets, logits = answer_logits(lm, batch)
    rows_, targets_, logits_ = answer_logits(lm, collate(mixed, lm.pad_id))
    for i in range(len(mixed)):
        mine, alone = items == i, rows_ == i
        assert targets[mine].tolist() == targets_[alone].tolist()
        assert torch.allclose(logits[mine], logits_[alone], atol=1e-5)


def test_long_or_single_tails_are_not_packed() -> None:
    lm = model("llama")
    long = tiny.rows((12, 10), answer=packing.LONGEST + 1)
    for items in (long * 3, rows(), [*rows(), rows()[0]]):
        batch = Reuse(lm, [fill(lm, items, "last")], 1).collate(lm, items)
        assert batch.owner is None and batch.past is not None
    whole = Reuse(lm, [fill(lm, rows(), "all")], 1).collate(lm, rows() * 3)
    assert whole.owner is None, "nothing before the first token could be shared"


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_every_item_has_a_slot_of_its_own(places: list[int]) -> None:
    made = packing.slots(places)
    assert len(set(made)) == len(places)
    found: dict[int, set[int]] = {}
    for (row, _), place in zip(made, places, strict=True):
        found.setdefault(row, set()).add(place)
    assert all(len(own) == 1 for own in found.values()), "a row has one past"
    assert list(found) == list(range(len(found))), "rows are numbered as they appear"
    counts = [sorted(slot for row, slot in made if row == r) for r in found]
    assert all(own == list(range(len(own))) for own in counts)
    size = round(len(places) / len(set(places)))
    assert max(len(own) for own in counts) <= size


def test_a_prompt_that_comes_twice_gets_a_second_row() -> None:
    """Of two seeds that happen to draw the same prompt, neither stops the other's sharing."""
    made = packing.slots("aabbccddaa")
    assert made == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1)]


def test_a_group_of_loras_refuses_packed_rows() -> None:
    lm = model("llama")
    batch = Reuse(lm, [fill(lm, rows(), "last")], 1).collate(lm, rows() * 2)
    with (
        LoraGroup([LoraAdapter([1])]).attach(lm) as attached,
        pytest.raises(UserError, match="Packed rows"),
    ):
        attached.focus(batch)
