"""Vectors: where they act, alone and in a batch of runs, with and without a cache."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from oocr_lib.activations import capture
from oocr_lib.adapters import VectorAdapter
from oocr_lib.encoding import POSITIONS, Batch, collate
from oocr_lib.models.language_model import SITES, Site, recording
from oocr_lib.util.errors import UserError
from tests import tiny
from tests.adapter_cases import CASES, D, logits, outputs, stir, vector

# --- where they act ---


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", SITES)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_only_marked_tokens_of_the_run_at_its_site_change(
    family: str, kind: str, position: str
) -> None:
    """y = x + 1[marked] scale theta, exactly, and nothing at the other tokens and rows."""
    lm, batch = tiny.language_model(family), tiny.batch()
    site, elsewhere = Site(1, kind), Site(2, "resid")
    adapter = VectorAdapter([site, elsewhere], D, position, [2.5, 1.0])
    before = capture(lm, batch, [site])[site]
    stir(adapter)
    with recording(lm, [site]) as earlier, adapter.attach(lm) as attached:
        attached.focus(batch, torch.tensor([0, 1, 0]))
        after = capture(lm, batch, [site])[site]
    assert torch.equal(earlier[site], before)  # out of place: what an earlier hook kept is whole
    mask = batch.positions[position].clone()
    mask[1] = False  # row 1 belongs to the run at the other site
    assert mask.any() and not mask.all()
    assert torch.equal(after[~mask], before[~mask])
    assert torch.allclose(after[mask], before[mask] + adapter.vectors[0], atol=1e-6)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_mlp_site_is_not_the_residual_site_under_a_post_norm(family: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch()
    resid = Site(1, "resid")
    before = capture(lm, batch, [resid])[resid]
    mask = batch.positions["codename"]
    shifts = {}
    for kind in ("mlp_out", "resid"):
        adapter = vector(kind)
        stir(adapter)
        with adapter.attach(lm) as attached:
            attached.focus(batch)
            shifts[kind] = (capture(lm, batch, [resid])[resid] - before)[mask]
    assert torch.allclose(shifts["resid"], adapter.vectors.expand_as(shifts["resid"]), atol=1e-5)
    same = torch.allclose(shifts["mlp_out"], shifts["resid"], atol=1e-4)
    assert same == (family not in tiny.POST_NORM)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_runs_in_one_batch_equal_separate_runs(family: str) -> None:
    """Outputs and gradients, with different sites, seeds and scales; rows in any order."""
    lm = tiny.language_model(family)
    sites = [Site(0, "resid"), Site(1, "mlp_out"), Site(0, "resid"), Site(2, "attn_out")]
    scales = [0.5, 2.0, 1.5, 1.0]
    joint = VectorAdapter(sites, D, "codename", scales, seed=7, init=1.0)
    rows = tiny.rows((9, 6, 11, 8, 7, 10))
    index = torch.tensor([2, 0, 1, 3, 0, 2])
    batch = collate(rows, pad_id=0)
    with joint.attach(lm) as attached:
        attached.focus(batch, index)
        found = logits(lm, batch)
    (found * batch.answer_mask[..., None]).pow(2).sum().backward()
    assert joint.theta.grad is not None
    for run, (site, scale) in enumerate(zip(sites, scales, strict=True)):
        single = VectorAdapter([site], D, "codename", [scale], seed=7 + run, init=1.0)
        assert torch.equal(single.theta[0], joint.theta[run])
        own = (index == run).nonzero()[:, 0].tolist()
        part = collate([rows[i] for i in own], pad_id=3)
        with single.attach(lm) as attached:
            attached.focus(part)
            alone = logits(lm, part)
        (alone * part.answer_mask[..., None]).pow(2).sum().backward()
        assert single.theta.grad is not None
        assert torch.allclose(single.theta.grad[0], joint.theta.grad[run], rtol=1e-3, atol=1e-4)
        for row, i in enumerate(own):
            length = len(rows[i].ids)
            assert torch.allclose(alone[row, :length], found[i, :length], atol=1e-4)


def test_the_gradient_is_that_of_the_formula() -> None:
    """d loss / d theta = scale * sum over marked tokens of d loss / d output, by differences."""
    lm, batch, adapter = tiny.language_model("llama"), tiny.batch(), vector("mlp_out")
    stir(adapter)

    def loss() -> Tensor:
        with adapter.attach(lm) as attached:
            attached.focus(batch)
            return torch.log_softmax(logits(lm, batch).double(), -1)[batch.answer_mask].mean()

    loss().backward()
    assert adapter.theta.grad is not None
    direction = torch.randn(adapter.theta.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            adapter.theta.add_(sign * 1e-2 * direction)
            values.append(float(loss()))
            adapter.theta.sub_(sign * 1e-2 * direction)
    slope = (values[0] - values[1]) / 2e-2
    assert slope == pytest.approx(float((adapter.theta.grad * direction).sum()), rel=2e-2)


# --- cached generation ---


def extended(batch: Batch, extra: Tensor, steer: bool) -> Batch:
    """The batch with ``extra`` (n, e) generated tokens, marked or not."""
    more = torch.full(extra.shape, steer)
    positions = {name: torch.cat([mask, more], 1) for name, mask in batch.positions.items()}
    ids = torch.cat([batch.input_ids, extra], 1)
    no_answer = torch.zeros_like(ids, dtype=torch.bool)
    return Batch(ids, batch.lengths + extra.shape[1], no_answer, positions)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("tokens", [1, 6])
@pytest.mark.parametrize("family", ["gemma3_sliding", "gpt2"])
def test_cached_generation_equals_the_full_pass(family: str, tokens: int, position: str) -> None:
    """Also for prompts of one token, whose later passes have the shape of the first."""
    lm = tiny.language_model(family)
    prompt = tiny.batch((tokens, tokens), answer=0)
    extra = torch.randint(6, tiny.VOCAB, (2, 3), generator=torch.Generator().manual_seed(1))
    adapter = vector("resid", position)
    stir(adapter)
    whole = extended(prompt, extra, steer=position == "all")
    expected = outputs(lm, adapter, whole)
    with torch.no_grad(), adapter.attach(lm) as attached:
        attached.focus(prompt)
        step = lm.model(input_ids=prompt.input_ids, use_cache=True)
        parts = [step.logits]
        for token in extra.T:
            step = lm.model(
                input_ids=token[:, None], past_key_values=step.past_key_values, use_cache=True
            )
            parts.append(step.logits)
        grown = lm.model(input_ids=whole.input_ids, use_cache=False).logits  # without a cache
    assert torch.allclose(torch.cat(parts, 1), expected, atol=1e-4)
    assert torch.allclose(grown, expected, atol=1e-4)


@pytest.mark.parametrize("start", [0, 3])
def test_a_shared_prefix_from_the_cache_gives_the_same_logits(start: int) -> None:
    """Focus on the whole rows, or on the columns from ``start`` on."""
    lm, batch = tiny.language_model(), tiny.batch((8, 8), answer=0)
    adapter = vector("mlp_out", "last")
    stir(adapter)
    expected = outputs(lm, adapter, batch)[:, 3:]
    positions = {name: mask[:, start:] for name, mask in batch.positions.items()}
    focused = dataclasses.replace(batch, input_ids=batch.input_ids[:, start:], positions=positions)
    with torch.no_grad():
        prefix = lm.model(input_ids=batch.input_ids[:, :3], use_cache=True).past_key_values
        with adapter.attach(lm) as attached:
            attached.focus(focused, start=start)
            found = lm.model(input_ids=batch.input_ids[:, 3:], past_key_values=prefix).logits
    assert torch.allclose(found, expected, atol=1e-4)


def test_blocks_called_directly_are_steered_too() -> None:
    lm, batch, adapter = tiny.language_model("gpt2"), tiny.batch(), vector("mlp_out")
    stir(adapter)
    hidden = torch.randn(*batch.input_ids.shape, D)
    plain = lm.block(1)(hidden)
    with adapter.attach(lm) as attached:
        attached.focus(batch)
        steered = lm.block(1)(hidden)
        with pytest.raises(IndexError):  # an error in the decoder must not look like a cache
            logits(lm, dataclasses.replace(batch, input_ids=batch.input_ids + tiny.VOCAB))
        newer = lm.block(1)(hidden[:, :1])
        attached.focus(None)
        assert torch.equal(lm.block(1)(hidden), plain)
    changed = (steered != plain).any(dim=2)
    assert torch.equal(changed, batch.positions["codename"])
    assert torch.equal(newer, lm.block(1)(hidden[:, :1]))


# --- settings and refusals ---


def test_length_scale_and_seed_of_the_start() -> None:
    sites = [Site(0, "resid")] * 3
    adapter = VectorAdapter(sites, D, "last", [1.0, 10.0, 0.5], seed=4, init=0.3)
    assert torch.allclose(adapter.theta.norm(dim=1), torch.full((3,), 0.3))
    assert torch.allclose(adapter.vectors.norm(dim=1), torch.tensor([0.3, 3.0, 0.15]))
    assert (
        not adapter.vectors.requires_grad and sum(p.numel() for p in adapter.parameters()) == 3 * D
    )
    given = VectorAdapter(sites, D, "last", [1.0, 10.0, 0.5], seed=[6, 5, 4], init=0.3)
    assert torch.equal(given.theta, adapter.theta.flip(0))
    assert not VectorAdapter(sites, D, "last", [1.0] * 3).theta.any()


def test_a_half_precision_model_stays_in_half_precision() -> None:
    lm, batch = tiny.language_model(), tiny.batch()
    lm.model.to(torch.bfloat16)
    for case in CASES.values():
        adapter = case()
        with adapter.attach(lm) as attached:
            attached.focus(batch)
            found = logits(lm, batch)
            assert found.dtype == torch.bfloat16
            found.float().pow(2).mean().backward()
        assert all(p.dtype == torch.float32 and p.grad is not None for p in adapter.parameters())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"sites": []}, "0 sites"),
        ({"scales": [1.0, 2.0]}, "2 scales"),
        ({"seed": [1, 2]}, "2 seeds"),
        ({"scales": [0.0]}, "Scales"),
        ({"scales": [float("nan")]}, "Scales"),
        ({"position": "codenames"}, "Did you mean 'codename'"),
        ({"init": -1.0}, "Initial length"),
    ],
)
def test_wrong_vector_settings_are_refused(arguments: dict[str, Any], reason: str) -> None:
    good = {"sites": [Site(0, "resid")], "d_model": D, "position": "last", "scales": [1.0]}
    with pytest.raises(UserError, match=reason) as info:
        VectorAdapter(**{**good, **arguments})
    assert "\n" not in str(info.value) and "Allowed" in str(info.value)


@pytest.mark.parametrize(
    "index",
    [
        torch.tensor([0, 0]),
        torch.tensor([0, 1, 0]),
        torch.tensor([0, -1, 0]),
        torch.tensor([0.0, 0.0, 0.0]),
    ],
)
def test_a_wrong_index_is_refused(index: Tensor) -> None:
    lm, batch = tiny.language_model(), tiny.batch()
    with vector("resid").attach(lm) as attached, pytest.raises(UserError) as info:
        attached.focus(batch, index)
    assert "3 rows and 1 vectors" in str(info.value) and "\n" not in str(info.value)


def test_an_unfocused_or_wrongly_focused_vector_is_refused() -> None:
    lm, batch = tiny.language_model(), tiny.batch()
    with vector("resid").attach(lm) as attached:
        with pytest.raises(UserError, match=r"Call focus\(batch\)"):
            logits(lm, batch)
        attached.focus(batch)
        with pytest.raises(UserError, match="3 rows, but 2 were run"):
            logits(lm, tiny.batch((5, 5)))
        attached.focus(batch, start=4)
        with pytest.raises(UserError, match="starts at 4"):
            logits(lm, batch)
        attached.focus(None)
        logits(lm, batch)
    with pytest.raises(UserError, match="width 7 do not fit"):
        VectorAdapter([Site(0, "resid")], 7, "last", [1.0]).attach(lm)


def test_one_hook_a_distinct_site() -> None:
    lm = tiny.language_model()
    sites = [Site(0, "resid"), Site(1, "resid"), Site(0, "resid")]
    with VectorAdapter(sites, D, "last", [1.0] * 3).attach(lm):
        assert [len(lm.block(i)._forward_hooks) for i in range(3)] == [1, 1, 0]
