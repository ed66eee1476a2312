"""LoRAs side by side are the LoRAs one by one: peft's wrapper is the reference."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from oocr_lib import adapters
from oocr_lib.adapters import LoraAdapter, LoraGroup
from oocr_lib.encoding import collate
from oocr_lib.engine.batching import Reuse
from oocr_lib.engine.prefix_cache import fill
from oocr_lib.executor import PLAIN
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.training.loop import RunData, TrainConfig, train
from oocr_lib.util.errors import UserError
from tests import tiny
from tests.adapter_cases import fingerprint, logits, stir

CONFIG = TrainConfig(steps=6, batch=4, lr=0.05)


@functools.cache
def model(family: str) -> LanguageModel:
    return tiny.language_model(family)


def loras() -> list[LoraAdapter]:
    """Other blocks, maps, ranks, strengths and seeds."""
    return [
        LoraAdapter([1], rank=2),
        LoraAdapter([2, 1], rank=3, alpha=5, modules=("up", "down"), seed=7),
        LoraAdapter("all", rank=1, seed=2),
    ]


def data(k: int) -> list[RunData]:
    return [
        RunData(tiny.rows((9, 6, 11, 14, 7), seed=j), tiny.rows((8, 10), seed=50 + j), j)
        for j in range(k)
    ]


def weights(adapter: LoraAdapter) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in adapter.parameters()])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_group_trains_as_peft_does_one_by_one(family: str) -> None:
    """Float32: losses of order 5 and weights of order 0.1 agree to 1e-4."""
    lm, rates = model(family), [0.05, 0.02, 0.05]
    together, alone = loras(), loras()
    result = train(lm, LoraGroup(together), data(3), CONFIG, rates=rates)
    for k, adapter in enumerate(alone):
        own = train(lm, adapter, [data(3)[k]], dataclasses.replace(CONFIG, lr=rates[k]))
        assert own.losses[:, 0] == pytest.approx(result.losses[:, k], abs=1e-4)
        assert own.valid[-1][1][0] == pytest.approx(result.valid[-1][1][k], abs=1e-4)
        assert own.valid_accuracy[0] == result.valid_accuracy[k]
        assert torch.allclose(weights(adapter), weights(together[k]), atol=1e-4)
        assert own.losses[0] != pytest.approx(own.losses[-1], abs=1e-3), "nothing was learned"


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_group_starts_from_a_pool_of_lower_blocks(family: str) -> None:
    lm, made = model(family), []
    for reused in (False, True):
        own = [LoraAdapter([block], rank=2, seed=block) for block in (2, 0, 1)]
        rows = [row for run in data(3) for row in [*run.train, *run.valid]]
        reuse = Reuse(lm, [fill(lm, rows, "all")], [2, 0, 1]) if reused else None
        result = train(lm, LoraGroup(own), data(3), CONFIG, executor=reuse or PLAIN)
        made.append((result.losses, torch.cat([weights(a) for a in own])))
    assert made[0][0] == pytest.approx(made[1][0], abs=1e-5)
    assert torch.allclose(made[0][1], made[1][1], atol=1e-5)


@torch.no_grad()
def test_every_row_passes_through_its_own_lora() -> None:
    lm, own = model("gemma3"), loras()
    rows = tiny.rows((9, 9, 9, 9))
    batch = collate(rows, lm.pad_id)
    group = LoraGroup(own)
    group.attach(lm).remove()
    for k, adapter in enumerate(own):
        stir(adapter, k)
    with group.attach(lm) as attached:
        attached.focus(batch, torch.tensor([2, 0, 1, 0]))
        mixed = logits(lm, batch)
        attached.focus(None)
        off = logits(lm, batch)
    assert torch.equal(off, logits(lm, batch)), "switched off, nothing is added"
    for row, k in enumerate([2, 0, 1, 0]):
        with own[k].attach(lm):
            alone = logits(lm, batch)
        assert torch.allclose(mixed[row], alone[row], atol=1e-5)
        assert not torch.allclose(mixed[row], off[row], atol=1e-2)


def test_nothing_stays_behind() -> None:
    lm = model("gemma2")
    before = fingerprint(lm.model)
    LoraGroup(loras()).attach(lm).remove()
    with pytest.raises(UserError, match="Block 9"):
        LoraGroup([LoraAdapter([1]), LoraAdapter([9])]).attach(lm)
    assert fingerprint(lm.model) == before


def test_a_saved_group_comes_back(tmp_path: Path) -> None:
    lm, group = model("gemma3"), LoraGroup(loras())
    group.attach(lm).remove()
    stir(group)
    group.save(tmp_path / "group.safetensors")
    back = adapters.load(tmp_path / "group.safetensors")
    assert isinstance(back, LoraGroup) and back.config() == group.config()
    state, other = group.state(), back.state()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_what_does_not_fit_is_one_line() -> None:
    lm, batch = model("gemma3"), tiny.batch()
    with pytest.raises(UserError, match="group of 0 LoRAs"):
        LoraGroup([])
    with pytest.raises(UserError, match=r"attach\(model\) first"):
        LoraGroup([LoraAdapter([1])]).parameters()
    with LoraGroup(loras()).attach(lm) as attached:
        with pytest.raises(UserError, match=r"Call focus\(batch"):
            logits(lm, batch)
        for index in ([0], [0, 1, 3], [-1, 0, 0]):
            with pytest.raises(UserError, match="does not fit 3 rows and 3 LoRAs"):
                attached.focus(batch, torch.tensor(index))
    with pytest.raises(UserError, match="2 runs, 2 learning rates and an adapter for 3"):
        train(lm, LoraGroup(loras()), data(2), CONFIG)
