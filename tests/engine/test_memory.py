"""Budgets bound what is held; the estimate of a token's graph is near what autograd keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from oocr_lib.adapters import VectorAdapter
from oocr_lib.engine import executor, memory
from oocr_lib.engine.executor import Fast
from oocr_lib.models.sites import Site
from oocr_lib.training.loop import RunData, TrainConfig, train
from tests import tiny, toy
from tests.adapter_cases import vector


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_estimate_is_near_what_autograd_keeps(family: str) -> None:
    """Within a factor of two; shared storages count once, weights not at all."""
    lm, ids = tiny.language_model(family), torch.arange(5, 165).reshape(8, 20)
    weights = {p.untyped_storage().data_ptr() for p in lm.model.parameters()}
    held, alive = dict[int, int](), list[torch.Tensor]()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)  # or another tensor would come to lie at the same place
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    start = lm.model.get_input_embeddings()(ids).detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        lm.decoder(inputs_embeds=start, use_cache=False)
    kept = sum(size for place, size in held.items() if place not in weights)
    assert 0.5 < kept / (memory.token_bytes(lm) * ids.numel()) < 2


def test_a_step_is_bounded_by_its_budget() -> None:
    lm = tiny.language_model()
    one = memory.token_bytes(lm)
    assert memory.step_tokens(lm, 10 * one) == 10
    assert memory.step_tokens(lm, 1) == 1, "a single row always runs"
    assert memory.step_tokens(lm) == min(memory.CPU_STEP // one, memory.CPU_PASS)


def test_pools_leave_room_on_a_small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    device, gib = torch.device("cpu"), 1024**3
    for free, budget in ((16 * gib, memory.CPU_POOLS), (2 * gib, gib // 2), (0, 0)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert memory.pool_budget(device) == budget


@pytest.mark.parametrize("limit", [1, 25, 60])
def test_a_step_in_several_passes_is_the_same_step(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, rows = toy.language_model(), tiny.rows((9, 6, 11, 14, 7, 20))
    made, passes = [], list[int]()
    for bounded in (False, True):
        if bounded:
            monkeypatch.setattr(executor, "step_tokens", lambda lm: limit)
            original = executor.answer_logits

            def counted(lm: Any, batch: Any, run: Any = original) -> Any:
                if torch.is_grad_enabled():
                    passes.append(batch.input_ids.numel())
                return run(lm, batch)

            monkeypatch.setattr(executor, "answer_logits", counted)
        adapter = vector("resid")
        result = train(
            lm, adapter, [RunData(rows, rows, 0)], TrainConfig(3, 5, lr=0.05), executor=Fast()
        )
        made.append((result.losses, adapter.theta.detach()))
    assert made[0][0] == pytest.approx(made[1][0], abs=1e-5)
    assert torch.allclose(made[0][1], made[1][1], atol=1e-5)
    assert len(passes) > 3 and all(size <= max(limit, 20) for size in passes)


def test_pools_are_filled_in_passes_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.language_model()
    assert memory.pass_tokens(lm) == memory.CPU_PASS, "small models are bound by calls"
    monkeypatch.setattr(memory, "CPU_STEP", 100 * memory.token_bytes(lm))
    assert memory.pass_tokens(lm) == 50
    monkeypatch.setattr(memory, "CPU_STEP", 1)
    assert memory.pass_tokens(lm) == 1, "a single row always runs"


def test_passes_hold_rows_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs, each with rows of 6 and of 20 tokens: no short row is padded to a long one."""
    lm, shapes = toy.language_model(), list[tuple[int, ...]]()
    rows = tiny.rows((6, 20, 6, 20, 6, 20))
    monkeypatch.setattr(executor, "step_tokens", lambda lm: 60)
    owners = list[list[int]]()

    class Noted(Fast):
        def collate(self, lm: Any, items: Any, runs: Any) -> Any:
            owners.append(list(runs))
            batch = super().collate(lm, items, runs)
            shapes.append(tuple(batch.input_ids.shape))
            return batch

    adapter = VectorAdapter([Site(1, "resid")] * 2, tiny.D_MODEL, "codename", [2.5] * 2)
    data = [RunData(rows, rows[:1], seed) for seed in range(2)]
    train(lm, adapter, data, TrainConfig(1, 6, lr=0.05), executor=Noted())
    assert shapes[:3] == [(6, 6), (3, 20), (3, 20)]
    assert all(own == sorted(own) for own in owners), "rows of a run stand together"
