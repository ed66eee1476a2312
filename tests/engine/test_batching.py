"""What is reused changes no number: the plain loop is the reference, for every architecture."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from oocr_lib.activations import capture
from oocr_lib.adapters import LoraAdapter, LoraGroup, VectorAdapter
from oocr_lib.encoding import POSITIONS, Encoded
from oocr_lib.engine.answer_logits import answer_logits, frozen
from oocr_lib.engine.batching import Reuse, tail
from oocr_lib.engine.kv_cache import Past
from oocr_lib.engine.prefix_cache import Pools, expected, fill, first_changed
from oocr_lib.engine.shortened import collate
from oocr_lib.executor import PLAIN
from oocr_lib.models.language_model import SITES, LanguageModel, Site
from oocr_lib.training.loop import RunData, TrainConfig, TrainResult, train
from tests import tiny
from tests.adapter_cases import D, fingerprint

CONFIG = TrainConfig(steps=6, batch=4, lr=0.05)


@functools.cache
def model(family: str) -> LanguageModel:
    return tiny.language_model(family)


@functools.cache
def items() -> list[Encoded]:
    """Rows of many lengths, with answers of one and of two tokens."""
    return [*tiny.rows((9, 6, 11, 14, 7, 20)), *tiny.rows((9, 6, 8), seed=3, answer=1)]


def own_modules() -> AbstractContextManager[Any]:
    """Within the block models run as Hugging Face made them, nothing fused."""
    return mock.patch("oocr_lib.engine.fused.finding.pieces", lambda model: {})


def trained(lm: LanguageModel, adapter: Any, runs: int, reuse: Reuse | None) -> TrainResult:
    """Without ``reuse``: the reference, with the model's own modules."""
    data = [RunData(items(), items(), seed) for seed in range(runs)]
    with nullcontext() if reuse else own_modules():
        return train(lm, adapter, data, CONFIG, executor=reuse or PLAIN)


def assert_same(
    plain: TrainResult, reused: TrainResult, a: Tensor, b: Tensor, atol: float = 1e-5
) -> None:
    """Float32: losses of order 5 and vectors of order 0.1 agree to 1e-5."""
    assert plain.losses == pytest.approx(reused.losses, abs=1e-5)
    assert plain.valid[-1][1] == pytest.approx(reused.valid[-1][1], abs=1e-5)
    assert plain.valid_accuracy.tolist() == reused.valid_accuracy.tolist()
    assert torch.allclose(a, b, atol=atol)
    assert plain.losses[0] != pytest.approx(plain.losses[-1], abs=1e-4), "nothing was learned"


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_reused_pool_trains_the_same_vectors(family: str, site: str, position: str) -> None:
    """Three runs in one batch, at different blocks, each entering at its own depth."""
    lm, made = model(family), []
    for reused in (False, True):
        sites = [Site(2, site), Site(0, site), Site(1, site)]
        adapter = VectorAdapter(sites, D, position, [2.5] * 3, init=0.1)
        depths = [s.block + (site == "resid") for s in sites]
        reuse = Reuse(lm, [fill(lm, items(), position)], depths) if reused else None
        made.append((trained(lm, adapter, 3, reuse), adapter.theta.detach()))
    assert_same(made[0][0], made[1][0], made[0][1], made[1][1])


@pytest.mark.parametrize("position", ["last", "codename"])
def test_in_bfloat16_they_agree_as_far_as_it_goes(position: str) -> None:
    """Eight bits: losses of order 5 agree to 0.05, on average to 0.01."""
    lm, made = tiny.language_model("gemma3_sliding"), []
    lm.model.to(torch.bfloat16)
    for reused in (False, True):
        adapter = VectorAdapter([Site(0, "resid"), Site(1, "resid")], D, position, [2.5] * 2)
        reuse = Reuse(lm, [fill(lm, items(), position)], [1, 2]) if reused else None
        made.append(trained(lm, adapter, 2, reuse).losses)
    apart = abs(made[0] - made[1])
    assert apart.max() < 0.05 and apart.mean() < 0.01


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_reused_pool_trains_the_same_lora(family: str, block: int) -> None:
    lm, made = model(family), []
    for reused in (False, True):
        adapter = LoraAdapter([block], rank=2)
        reuse = Reuse(lm, [fill(lm, items(), "all")], block) if reused else None
        result = trained(lm, adapter, 1, reuse)
        made.append((result, torch.cat([p.detach().flatten() for p in adapter.parameters()])))
    assert_same(made[0][0], made[1][0], made[0][1], made[1][1])


@pytest.mark.parametrize("position", ["last", "codename", "trigger"])
@pytest.mark.parametrize("block", [0, 1, 2, "group"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_reused_pool_trains_the_same_lora_at_marked_tokens(
    family: str, block: int | str, position: str
) -> None:
    """One LoRA, or three at different blocks in one batch, each entering at its own depth.

    Few tokens are marked, so that some gradients are of order 1e-9, where rounding is a good part
    of them and Adam makes a step of it (one of 0.05 a step is full): one weight in fifty may differ
    by more than 1e-5, none by more than 1e-3. Both run the model's own modules, because other
    operations would round all gradients otherwise.
    """
    lm, made = model(family), []
    blocks = [block] if isinstance(block, int) else [2, 0, 1]
    for reused in (False, True):
        loras = [LoraAdapter([b], rank=2, seed=b, position=position) for b in blocks]
        adapter = loras[0] if isinstance(block, int) else LoraGroup(loras)
        with own_modules():
            pools = [fill(lm, items(), position)]
            reuse = Reuse(lm, pools, blocks, pack=False) if reused else None
            result = trained(lm, adapter, len(blocks), reuse)
        made.append((result, torch.cat([p.detach().flatten() for p in adapter.parameters()])))
    assert_same(made[0][0], made[1][0], made[0][1], made[1][1], atol=1e-3)
    apart = (made[0][1] - made[1][1]).abs()
    assert (apart > 1e-5).float().mean() < 0.02


def test_loras_are_not_packed() -> None:
    """Rows with the same earlier tokens would share one row; a LoRA needs them apart."""
    lm, pools = model("gemma3"), [fill(model("gemma3"), items(), "last")]
    same = [items()[6]] * 3
    assert Reuse(lm, pools, 1).collate(lm, same).owner is not None
    apart = Reuse(lm, pools, 1, pack=False).collate(lm, same)
    assert apart.owner is None and len(apart) == 3


@pytest.mark.parametrize("family", ["gemma3_sliding", "gpt2"])
def test_rows_of_several_pools_share_a_batch(family: str) -> None:
    lm = model(family)
    pools = [fill(lm, items()[:4], "last"), fill(lm, items()[4:], "last")]
    mixed = [items()[i] for i in (5, 0, 8, 3, 3)]
    reused = Reuse(lm, pools, 2).collate(lm, mixed)
    assert reused.past is not None and reused.past.depth == 2
    with torch.no_grad():
        plain, short = answer_logits(lm, collate(mixed, lm.pad_id)), answer_logits(lm, reused)
    assert [t.tolist() for t in plain[:2]] == [t.tolist() for t in short[:2]]
    assert torch.allclose(plain[2], short[2], atol=1e-5)


def test_a_row_that_was_not_pooled_makes_the_whole_batch_plain() -> None:
    lm = model("gemma3")
    reuse = Reuse(lm, [fill(lm, items()[:2], "last")], 1)
    assert reuse.collate(lm, items()[:2]).past is not None
    whole = reuse.collate(lm, items()[:3])
    assert whole.past is None
    assert torch.equal(whole.input_ids, collate(items()[:3], lm.pad_id).input_ids)


def test_only_the_changed_tokens_are_run() -> None:
    lm, widths = model("llama"), []
    reuse = Reuse(lm, [fill(lm, items(), "last")], 1)
    hook = lm.block(1).register_forward_pre_hook(lambda m, args: widths.append(args[0].shape[1]))
    try:
        answer_logits(lm, reuse.collate(lm, items()[6:]))  # answers of one token
        answer_logits(lm, reuse.collate(lm, items()[:6]))  # of two
    finally:
        hook.remove()
    assert widths == [1, 2]


def test_blocks_below_are_not_run_and_come_back() -> None:
    lm, calls = model("gemma3"), []
    before = fingerprint(lm.model)
    batch = Reuse(lm, [fill(lm, items(), "all")], 2).collate(lm, items())
    hooks = [
        lm.block(i).get_submodule("mlp").register_forward_hook(lambda m, a, o, i=i: calls.append(i))
        for i in range(lm.n_blocks)
    ]
    answer_logits(lm, batch)
    for hook in hooks:
        hook.remove()
    assert calls == [2]
    with pytest.raises(RuntimeError, match="stop"), frozen(lm, _past(batch.past)):
        raise RuntimeError("stop")
    assert fingerprint(lm.model) == before


def _past(past: Past | None) -> Past:
    assert past is not None
    return past


def test_a_forward_that_someone_else_replaced_is_put_back() -> None:
    lm = tiny.language_model("gemma3")
    block = lm.block(0)
    replaced = block.forward
    vars(block)["forward"] = replaced
    batch = Reuse(lm, [fill(lm, items(), "all")], 1).collate(lm, items())
    answer_logits(lm, batch)
    assert vars(block)["forward"] is replaced


def test_the_same_list_gives_bitwise_the_same_pool() -> None:
    lm = model("qwen3")
    a, b = fill(lm, items(), "codename"), fill(lm, items(), "codename")
    assert torch.equal(a.states, b.states) and torch.equal(a.hidden, b.hidden)


def test_rows_that_differ_in_their_last_token_alone_are_one() -> None:
    """The last token is never run, so permuted one-token answers share a pool."""
    lm, row = model("gemma3"), items()[6]
    other = replace(row, ids=(*row.ids[:-1], row.ids[-1] + 1))
    pool = fill(lm, [row, other, items()[7]], "last")
    assert len(pool.rows) == pool.states.shape[0] == 2
    batch = Reuse(lm, [pool], 1).collate(lm, [other, row])
    assert batch.past is not None
    assert answer_logits(lm, batch)[1].tolist() == [row.ids[-1] + 1, row.ids[-1]]
    pools = Pools(lm)
    assert pools.get([row, items()[7]], "last") is pools.get([other, items()[7]], "last")
    assert pools.get([row], "last") is not pools.get([row], "all")


def test_a_pool_holds_what_the_model_computes() -> None:
    lm, row = model("gemma2"), items()[2]  # the code name begins at token 2
    pool = fill(lm, [row], "codename")
    assert pool.starts == (2,) and pool.states.shape[4] == 2
    seen = capture(lm, torch.tensor([row.ids[:-1]]), [Site(1, "resid")])[Site(1, "resid")]
    assert torch.allclose(pool.hidden[0, 1], seen[0, 2:], atol=1e-6)


@pytest.mark.parametrize(
    ("position", "start"), [("all", 0), ("trigger", 1), ("codename", 2), ("last", 6)]
)
def test_the_first_changed_token_is_the_first_marked_one(position: str, start: int) -> None:
    row = items()[0]
    assert first_changed(row, position) == start
    short = tail(row, start)
    assert short.ids == row.ids[start:] and short.spans["last"] == (6 - start,)
    assert short.ids[slice(*short.answer)] == row.ids[slice(*row.answer)]
    assert ("trigger" in position and short.spans["trigger"] == (0,)) or position != "trigger"


def test_without_a_mark_only_what_predicts_the_answer_is_run() -> None:
    row = Encoded(tuple(range(8)), (6, 8), {"last": (5,)}, "")
    assert first_changed(row, "codename") == 5


# --- memory ---


def sizes(lm: LanguageModel, lists: Sequence[Sequence[Encoded]]) -> list[int]:
    return [fill(lm, rows, "last").size for rows in lists]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_expected_size_is_the_size(family: str) -> None:
    lm = model(family)
    for position in POSITIONS:
        assert expected(lm, items(), position) == fill(lm, items(), position).size


def test_the_budget_holds_and_the_oldest_pool_goes_first() -> None:
    lm, lists = model("gemma3"), [items()[:3], items()[3:6], items()[6:]]
    one, two, three = sizes(lm, lists)
    pools = Pools(lm, budget=one + two)
    first = pools.get(lists[0], "last")
    pools.get(lists[1], "last")
    assert pools.get(lists[0], "last") is first  # used again, so the second is the oldest
    pools.get(lists[2], "last")
    assert pools.size == one + three <= pools.budget
    assert pools.get(lists[0], "last") is first


def test_a_list_over_the_budget_is_not_pooled() -> None:
    lm = model("gemma3")
    (needed,) = sizes(lm, [items()])
    assert Pools(lm, budget=needed - 1).get(items(), "last") is None
    assert Pools(lm, budget=needed).get(items(), "last") is not None
