"""Constancy of what is added: planted clouds with known numbers, LoRAs of known rank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from oocr_lib.activations import capture
from oocr_lib.adapters import Adapter, LoraAdapter, VectorAdapter
from oocr_lib.analysis.constancy import (
    added,
    collect,
    constancy,
    cosines,
    plain,
    random_like,
    usable,
)
from oocr_lib.encoding import Batch, Encoded, collate
from oocr_lib.models.language_model import SITES, LanguageModel, Site
from oocr_lib.util.errors import UserError
from tests import tiny
from tests.adapter_cases import D, fingerprint, stir, vector
from tests.shortened import shortened

FAMILIES = ("gemma3", "llama", "gpt2")
MLP = Site(1, "mlp_out")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(lm: LanguageModel, **arguments: Any) -> LoraAdapter:
    adapter = LoraAdapter(**{"blocks": [1], "rank": 2, "alpha": 3, **arguments})
    adapter.attach(lm).remove()
    stir(adapter)
    return adapter


def constant(site: Site = MLP, length: float = 2.5) -> VectorAdapter:
    """Adds the same vector at every prompt token."""
    adapter = VectorAdapter([site], D, "all", [length])
    stir(adapter)
    return adapter


def entering(lm: LanguageModel, batch: Batch, adapter: Adapter, name: str) -> Tensor:
    """What flows into the linear map ``name`` while the adapter is on."""
    seen = []
    with torch.no_grad(), adapter.attach(lm) as attached:
        attached.focus(batch)
        module = lm.model.get_submodule(name)
        handle = module.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
        lm.model(input_ids=batch.input_ids, use_cache=False)
        handle.remove()
    return seen[0]


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


# --- what is added ---


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_on_the_down_projection_adds_its_formula(family: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch()
    adapter, name = trained(lm), lm.down_projection(1)
    state, x = adapter.state(), entering(lm, batch, adapter, name)
    a, b = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]
    found = added(lm, adapter, batch, MLP)
    assert found.shape == (3, 11, D) and found.abs().max() > 1
    assert close(found, 1.5 * x @ a.T @ b.T)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", SITES)
def test_the_reference_has_the_adapters_of_earlier_blocks_only(family: str, kind: str) -> None:
    """Removing block 2's share of the LoRA by hand gives the model to compare with."""
    lm, batch, site = tiny.language_model(family), tiny.batch(), Site(2, kind)
    both = trained(lm, blocks=[0, 2])
    early = LoraAdapter([0], rank=2, alpha=3)
    early.attach(lm).remove()
    for name, weight in early._weights.items():
        weight.data.copy_(both.state()[name])
    base = capture(lm, batch, [site])[site]
    with both.attach(lm):
        adapted = capture(lm, batch, [site])[site]
    with early.attach(lm):
        partly = capture(lm, batch, [site])[site]
    assert close(added(lm, both, batch, site), adapted - partly)
    assert close(added(lm, both, batch, site, against="base"), adapted - base)
    assert (partly - base).abs().max() > 0.1, "else the two references are one"
    assert bool((adapted != partly).any()) == (kind != "attn_out")


@pytest.mark.parametrize("kind", SITES)
def test_a_vector_adds_itself_where_it_is_put(kind: str) -> None:
    lm, batch, site = tiny.language_model(), tiny.batch(), Site(1, kind)
    adapter = vector(kind)
    stir(adapter)
    mask = batch.positions["codename"]
    for against in ("earlier", "base"):
        found = added(lm, adapter, batch, site, against)
        assert close(found[mask], adapter.vectors.expand(int(mask.sum()), D))
        assert torch.equal(found[~mask], torch.zeros_like(found[~mask]))
    behind = Site(2, kind)
    assert not added(lm, adapter, batch, behind).any(), "block 2 itself adds nothing"
    assert added(lm, adapter, batch, behind, "base").abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_left_as_it_was(family: str) -> None:
    lm, batch, adapter = tiny.language_model(family), tiny.batch(), constant()
    trace = fingerprint(lm.model)
    added(lm, trained(lm), batch, MLP)
    added(lm, adapter, batch, MLP, "base")
    wrong = VectorAdapter([MLP, Site(9, "resid")], D, "all", [1.0, 1.0])
    with pytest.raises(UserError, match="Block 9"):
        added(lm, wrong, batch, MLP)
    with pytest.raises(UserError, match="Unknown reference 'late'"):
        added(lm, adapter, batch, MLP, "late")
    assert fingerprint(lm.model) == trace


def test_shortened_rows_are_refused() -> None:
    batch = shortened(tiny.batch())
    with pytest.raises(UserError, match="Shortened rows"):
        added(tiny.language_model(), constant(), batch, MLP)


# --- which tokens ---

LENGTHS = tuple(5 + 7 * i % 11 for i in range(20))


@pytest.mark.parametrize(
    ("where", "places"),
    [
        ("last", lambda n: [n - 1]),
        ("last 1", lambda n: [n - 1]),
        ("last 4", lambda n: list(range(max(0, n - 4), n))),
        ("last 100", lambda n: list(range(n))),
        ("all", lambda n: list(range(n))),
        ("codename", lambda n: [i for i in (2, 4) if i < n]),
        ("trigger", lambda n: [1]),
    ],
)
def test_tokens_are_those_asked_for_prompt_by_prompt(where: str, places: Any) -> None:
    """More prompts than one forward pass takes; each vector is that of the prompt run alone."""
    lm, items = tiny.language_model(), tiny.rows(LENGTHS)
    adapter = trained(lm)
    found = collect(lm, adapter, items, MLP, where)
    expected = [(i, p) for i, length in enumerate(LENGTHS) for p in places(length - 2)]
    assert list(zip(found.prompts.tolist(), found.positions.tolist(), strict=True)) == expected
    assert found.vectors.shape == (len(expected), D) and found.vectors.dtype == torch.float32
    for i in (0, 3, 19):
        alone = added(lm, adapter, collate([items[i]], 0), MLP)[0]
        assert close(found.vectors[found.prompts == i], alone[found.positions[found.prompts == i]])


def test_prompts_without_the_mark_give_nothing_and_no_mark_at_all_is_refused() -> None:
    lm, items = tiny.language_model(), tiny.rows((9, 6))
    bare = Encoded(items[0].ids, items[0].answer, {"last": (6,)}, "")
    found = collect(lm, trained(lm), [bare, items[1], bare], MLP, "codename")
    assert set(found.prompts.tolist()) == {1}
    for nothing in ([bare], []):
        with pytest.raises(UserError, match="marked 'codename'"):
            collect(lm, trained(lm), nothing, MLP, "codename")


@pytest.mark.parametrize("where", ["last 0", "last -3", "last x", "first 3", "last ²", "codname"])
def test_unknown_places_are_refused(where: str) -> None:
    with pytest.raises(UserError, match="Unknown place") as info:
        collect(tiny.language_model(), constant(), tiny.rows(), MLP, where)
    assert "\n" not in str(info.value)


def test_the_reference_of_collect_can_be_the_base_model() -> None:
    lm, items, site = tiny.language_model(), tiny.rows((9,)), Site(2, "resid")
    adapter = trained(lm, blocks=[0, 2])
    found = collect(lm, adapter, items, site, "all", against="base")
    assert close(found.vectors, added(lm, adapter, collate(items, 0), site, "base")[0, :7])
    assert not close(found.vectors, collect(lm, adapter, items, site, "all").vectors)


# --- plain passages ---


@pytest.mark.parametrize("template", ["refusing", "none"])
def test_a_passage_opens_as_chat_prompts_do(template: str) -> None:
    """With the start token once, or with none where the model has no chat template."""
    lm = tiny.language_model(template=template)
    words = lm.tokenizer("Rome and Oslo", add_special_tokens=False)["input_ids"]
    bos = lm.tokenizer.bos_token_id
    expected = words if template == "none" else [bos, *words]
    assert list(plain(lm, "Rome and Oslo").ids) == expected
    given = plain(lm, "<bos>Rome and Oslo")
    assert list(given.ids) == [bos, *words]
    assert given.answer == (len(given.ids),) * 2 and given.spans == {"last": (len(words),)}


def test_a_passage_without_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="no tokens"):
        plain(tiny.language_model(), "")


# --- adapters of known shape ---


@pytest.mark.parametrize("family", FAMILIES)
def test_a_constant_vector_scores_one_everywhere(family: str) -> None:
    lm = tiny.language_model(family)
    found = collect(lm, constant(), tiny.rows((9, 6, 11)), MLP, "all")
    result = constancy(found.vectors, found.prompts)
    for spread in (result.absolute, result.signed, result.signed_between):
        assert spread is not None
        assert spread.mean == pytest.approx(1, abs=1e-5) and spread.q05 > 1 - 1e-4
    for value in (result.mean_share, result.rank_one_share, result.effective_rank):
        assert value == pytest.approx(1, abs=1e-3)
    assert result.participation_ratio == pytest.approx(1, abs=1e-4)
    assert result.norm_cv < 1e-3
    assert result.norm_mean == pytest.approx(float(constant().vectors.norm()), rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rank_one_lora_is_one_direction_but_no_constant_vector(family: str) -> None:
    """The amplitude changes sign: absolute cosines are all 1, signed ones are 1 and -1."""
    lm = tiny.language_model(family)
    found = collect(lm, trained(lm, rank=1), tiny.rows((30, 25)), MLP, "all")
    result = constancy(found.vectors, found.prompts)
    assert result.absolute.mean == pytest.approx(1, abs=1e-3)
    assert result.rank_one_share == pytest.approx(1, abs=1e-5)
    assert result.effective_rank == pytest.approx(1, abs=1e-3)
    assert cosines(found.vectors).min() < -0.99
    assert result.signed.mean < 0.9 and result.mean_share < 0.9 and result.norm_cv > 0.2


def test_a_rank_two_lora_has_two_directions() -> None:
    lm = tiny.language_model()
    found = collect(lm, trained(lm, rank=2), tiny.rows((40, 40)), MLP, "all")
    result = constancy(found.vectors)
    assert 1.2 < result.participation_ratio < result.effective_rank < 2.001
    assert 0.5 < result.rank_one_share < 0.95 and result.absolute.mean < 0.99
    wide = collect(lm, trained(lm, rank=8), tiny.rows((40, 40)), MLP, "all")
    assert constancy(wide.vectors).effective_rank > result.effective_rank + 1


# --- numbers of planted clouds ---


def test_one_direction_with_amplitudes_of_both_signs() -> None:
    amplitudes = torch.tensor([1.0, 2.0, -3.0, -1.0])
    result = constancy(amplitudes[:, None] * torch.nn.functional.normalize(normal(1, 6)))
    assert (result.absolute.mean, result.absolute.q05) == pytest.approx((1, 1))
    assert result.signed.mean == pytest.approx((2 - 4) / 6)  # two pairs alike, four opposed
    assert result.signed.median == pytest.approx(-1)
    assert result.norm_mean == pytest.approx(1.75)
    assert result.norm_cv == pytest.approx(np.std([1, 2, 3, 1]) / 1.75)
    assert result.mean_share == pytest.approx((1 / 4) ** 2 / (15 / 4))
    assert result.rank_one_share == pytest.approx(1)
    assert result.effective_rank == pytest.approx(1)


def test_two_orthogonal_directions_with_energies_three_to_one() -> None:
    cloud = torch.zeros(4, 5)
    cloud[:3, 0], cloud[3, 1] = 1.0, -1.0
    result = constancy(cloud, prompts=[0, 0, 1, 1])
    assert result.rank_one_share == pytest.approx(0.75)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert result.effective_rank == pytest.approx(math.exp(entropy))
    assert result.participation_ratio == pytest.approx(16 / 10)
    assert result.mean_share == pytest.approx(9 / 16 + 1 / 16)
    assert result.absolute.mean == pytest.approx(0.5) and result.absolute.pairs == 6
    assert result.absolute_between is not None and result.absolute_between.pairs == 4
    assert result.absolute_between.mean == pytest.approx(0.5)


def test_pairs_between_prompts_leave_out_those_within() -> None:
    cloud = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, -3.0]])
    assert cosines(cloud).tolist() == [1, 0, 0, 0, 0, -1]
    assert cosines(cloud, [5, 5, 2, 2]).tolist() == [0, 0, 0, 0]
    result = constancy(cloud, torch.tensor([5, 5, 2, 2]))
    assert result.absolute_between is not None and result.signed_between is not None
    assert result.absolute_between.q95 == 0 and result.absolute.q95 > 0.5
    opposed = constancy(cloud, [0, 0, 0, 1])  # cosines 0, 0 and -1
    assert opposed.absolute_between is not None and opposed.signed_between is not None
    assert opposed.absolute_between.mean == pytest.approx(1 / 3)
    assert opposed.signed_between.mean == pytest.approx(-1 / 3)
    one = constancy(cloud, [7] * 4)
    assert one.absolute_between is None and one.signed_between is None
    assert constancy(cloud).signed_between is None


def test_quantiles_are_those_of_the_pairs() -> None:
    cloud = normal(12, 4, seed=3)
    pairs = np.array([
        float(torch.nn.functional.cosine_similarity(cloud[i], cloud[j], dim=0))
        for i in range(12) for j in range(i + 1, 12)
    ])  # fmt: skip
    result = constancy(cloud)
    for spread, values in ((result.signed, pairs), (result.absolute, np.abs(pairs))):
        found = [spread.q05, spread.q25, spread.median, spread.q75, spread.q95]
        assert found == pytest.approx(np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]), abs=1e-5)
        assert spread.mean == pytest.approx(values.mean(), abs=1e-5)


def test_a_row_is_flat_and_leaves_out_what_is_not_known() -> None:
    cloud = normal(6, 4)
    row = constancy(cloud).row()
    assert row["signed.q25"] == constancy(cloud).signed.q25 and row["n"] == 6
    assert not any(name.startswith("signed_between") for name in row)
    full = constancy(cloud, [0, 1] * 3).row()
    assert full["absolute_between.pairs"] == 9 and set(row) < set(full)


@given(st.integers(2, 9), st.integers(1, 7), st.integers(0, 10_000), st.floats(1e-3, 1e4))
def test_relations_that_hold_for_every_cloud(m: int, d: int, seed: int, scale: float) -> None:
    cloud = normal(m, d, seed=seed).double() + normal(d, seed=seed + 1)
    result, larger = constancy(cloud), constancy(-scale * cloud)
    unit = cloud / cloud.norm(dim=1, keepdim=True)
    total = float(unit.sum(0).square().sum())
    assert result.signed.mean == pytest.approx((total - m) / (m * (m - 1)), abs=1e-9)
    assert 0 <= result.mean_share <= result.rank_one_share + 1e-12 <= 1 + 2e-12
    assert 1 - 1e-9 <= result.participation_ratio <= result.effective_rank + 1e-9
    assert result.effective_rank <= min(m, d) + 1e-9
    assert result.absolute.mean >= abs(result.signed.mean) - 1e-12
    singular = torch.linalg.svdvals(cloud).square()
    assert result.rank_one_share == pytest.approx(float(singular[0] / singular.sum()))
    for name, value in larger.row().items():
        expected = result.row()[name] * (scale if name == "norm_mean" else 1)
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-9)


# --- the control ---


def test_random_directions_have_the_lengths_and_no_direction_in_common() -> None:
    cloud = normal(1, D).expand(3000, D) * torch.linspace(1, 5, 3000)[:, None]
    drawn = random_like(cloud, seed=1)
    assert drawn.shape == cloud.shape and drawn.dtype == torch.float32
    assert torch.allclose(drawn.norm(dim=1), cloud.norm(dim=1), rtol=1e-5)
    result = constancy(drawn[::3])
    assert 0.97 * D < result.effective_rank <= D and 0.94 * D < result.participation_ratio <= D
    assert result.mean_share < 0.01 and abs(result.signed.mean) < 0.005
    assert constancy(cloud[::3]).effective_rank == pytest.approx(1, abs=1e-6)
    assert torch.equal(drawn, random_like(cloud, seed=1))
    assert not torch.equal(drawn, random_like(cloud, seed=2))
    before = torch.get_rng_state()
    random_like(cloud)
    assert torch.equal(before, torch.get_rng_state())


# --- refusals ---


@pytest.mark.parametrize(
    ("cloud", "reason"),
    [
        (torch.ones(1, 4), "at least 2"),
        (torch.ones(4), r"shape \(4,\)"),
        (torch.ones(2, 3, 4), r"shape \(2, 3, 4\)"),
        (torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), "2 of 3 are zero"),
        (torch.tensor([[1.0, 0.0], [math.nan, 0.0]]), "not finite"),
        (torch.tensor([[1.0, 0.0], [math.inf, 0.0]]), "not finite"),
    ],
)
def test_clouds_without_directions_are_refused(cloud: Tensor, reason: str) -> None:
    for measure in (constancy, cosines, lambda c: usable(c, least=2)):
        with pytest.raises(UserError, match=reason) as info:
            measure(cloud)
        assert "\n" not in str(info.value) and "Allowed" in str(info.value)


def test_prompt_numbers_must_fit() -> None:
    with pytest.raises(UserError, match="one a vector"):
        constancy(normal(4, 3), [0, 1])


def test_a_lora_that_was_never_trained_adds_nothing_to_compare() -> None:
    lm = tiny.language_model()
    found = collect(lm, LoraAdapter([1]), tiny.rows(), MLP, "last")
    with pytest.raises(UserError, match="3 of 3 are zero"):
        constancy(found.vectors)
