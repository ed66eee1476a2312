"""Attribution: contributions add up to the logit difference, and planted ones are found."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn

from oocr_lib.adapters import LoraAdapter, VectorAdapter
from oocr_lib.analysis import attention, attribution, direct_path, norms
from oocr_lib.analysis.conditions import (
    Condition,
    last_tokens,
    logit_difference,
    other_tokens,
    with_random,
)
from oocr_lib.models.language_model import SITES, LanguageModel, Site
from oocr_lib.util.errors import UserError
from tests import planted, tiny
from tests.adapter_cases import D, fingerprint, stir
from tests.planted import line, near
from tests.tiny import LENGTHS, LETTERS

BATCH = tiny.batch(LENGTHS)
families = pytest.mark.parametrize("family", tiny.FAMILIES)


def total(table: pd.DataFrame) -> list[float]:
    """Sum over parts for each row."""
    return torch.tensor(table["values"].tolist(), dtype=torch.float64).sum(0).tolist()


def uncapped(lm: LanguageModel, condition: Condition) -> list[float]:
    """The logit difference of the same weights without Gemma 2's final soft-cap."""
    before = getattr(lm.model.config, "final_logit_softcapping", None)
    lm.model.config.final_logit_softcapping = None
    found = logit_difference(lm, condition, LETTERS).tolist()
    lm.model.config.final_logit_softcapping = before
    return found


# --- the sum ---


@pytest.mark.parametrize(("family", "kind"), list(itertools.product(tiny.FAMILIES, SITES)))
def test_contributions_add_up_with_and_without_a_vector(family: str, kind: str) -> None:
    lm = tiny.language_model(family)
    adapter = VectorAdapter([Site(1, kind)], D, "last", [3.0], init=1.0)
    with adapter.attach(lm) as attached:
        on = Condition(BATCH, attached)
        steered, plain = (attribution.attribution(lm, c, LETTERS) for c in (on, on.off()))
        after, before = uncapped(lm, on), uncapped(lm, on.off())
    assert near(total(steered), after) and near(total(plain), before) and not near(after, before)
    assert len(steered[steered.what == "head"]) == 6 and len(steered[steered.what == "mlp"]) == 3
    added = [what for what in steered["what"] if what.startswith("added")]
    assert added == [f"added {kind}"] and not plain["what"].str.startswith("added").any()
    changed = attribution.change(steered, plain)
    way = [x - y for x, y in zip(after, before, strict=True)]
    assert near(total(changed), way)
    assert changed["effect"].sum() == pytest.approx(sum(way) / 3, abs=1e-4)


def test_a_soft_cap_is_taken_off_before_the_sum() -> None:
    lm = tiny.language_model("gemma2")
    lm.model.config.final_logit_softcapping = 0.3
    table = attribution.attribution(lm, Condition(BATCH), LETTERS)
    assert near(total(table), uncapped(lm, Condition(BATCH)))
    capped = logit_difference(lm, Condition(BATCH), LETTERS)
    assert not near(total(table), capped.tolist())


def test_a_lora_writes_through_the_mlp_it_adapts() -> None:
    lm, adapter = tiny.language_model("gemma3"), LoraAdapter([1], rank=2)
    with adapter.attach(lm) as attached:
        stir(adapter)
        on = Condition(BATCH, attached)
        table = attribution.attribution(lm, on, LETTERS)
        assert near(total(table), uncapped(lm, on))
    assert set(table["what"]) == {"embedding", "head", "mlp"}


# --- single contributions, against a computation of another kind ---


def last_layer(model: Any) -> Any:
    decoder = model.get_decoder()
    return (decoder.h if hasattr(decoder, "h") else decoder.layers)[-1]


def mute(model: Any, head: int) -> Any:
    """A copy with one head of the last block cut off from the residual stream."""
    muted, columns = copy.deepcopy(model), slice(8 * head, 8 * head + 8)
    layer = last_layer(muted)
    if hasattr(layer, "attn"):
        layer.attn.c_proj.weight.data[columns] = 0
    else:
        layer.self_attn.o_proj.weight.data[:, columns] = 0
    return muted


def before_norm(model: Any, norm: Any) -> Tensor:
    """What enters this norm of the model at the last prompt tokens, (n, d)."""
    seen: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    with torch.no_grad():
        model(input_ids=BATCH.input_ids, use_cache=False)
    handle.remove()
    return seen[0][torch.arange(3), last_tokens(BATCH)]


def root(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True).add(1e-6).sqrt()


@families
def test_a_head_of_the_last_block_is_worth_what_is_missing_without_it(family: str) -> None:
    """The norms keep the scale of the full run; the block's MLP, which would react, is silent."""
    lm = tiny.language_model(family)
    mlp = last_layer(lm.model).mlp
    (mlp.c_proj if family == "gpt2" else mlp.down_proj).weight.data.zero_()
    table = attribution.attribution(lm, Condition(BATCH), LETTERS)
    rows = lm.model.get_output_embeddings().weight[LETTERS]
    post = family in tiny.POST_NORM
    for head in (0, 1):
        muted = mute(lm.model, head)

        def final(model: Any) -> Any:
            decoder = model.get_decoder()
            return decoder.ln_f if family == "gpt2" else decoder.norm

        def joins(model: Any) -> Any:
            return last_layer(model).post_attention_layernorm if post else final(model)

        full = before_norm(lm.model, joins(lm.model))
        written = full - before_norm(muted, joins(muted))
        if post:
            written = written / root(full) * (1 + joins(lm.model).weight)
        x, weight = before_norm(lm.model, final(lm.model)), final(lm.model).weight
        if family == "gpt2":
            scale = x.var(-1, unbiased=False, keepdim=True).add(1e-5).sqrt()
            read = (written - written.mean(-1, keepdim=True)) / scale * weight
        else:
            read = written / root(x) * (weight + post)
        expected = (read * (rows[:, 0] - rows[:, 1])).sum(-1)
        assert near(line(table, 2, head, "head")["values"], expected.tolist())
        assert expected.abs().max() > 1e-3


def test_only_the_planted_head_writes_the_answer() -> None:
    lm, batch = planted.language_model(), planted.batch()
    with with_random(planted.STEER, planted.SITE, count=0).attach(lm) as attached:
        on = Condition(batch, attached)
        table = attribution.attribution(lm, on, planted.letters())
        without = attribution.attribution(lm, on.off(), planted.letters())
    expected = planted.answer(planted.looked(), planted.STRENGTH)
    assert near(line(table, *planted.HEAD, "head")["values"], expected)
    rest = table[~((table.what == "head") & (table.block == 1) & (table["head"] == 1))]
    assert rest["effect"].abs().max() < 1e-6 and len(rest) == 3 + 2 + 1
    expected = planted.answer(planted.uniform(), 0)
    assert near(line(without, *planted.HEAD, "head")["values"], expected)


# --- values at the trigger ---


@families
def test_what_tokens_are_worth_times_attention_is_what_the_head_writes(family: str) -> None:
    lm = tiny.language_model(family)
    table = attribution.attribution(lm, Condition(BATCH), LETTERS)
    worth, weights = attribution._worth(lm, Condition(BATCH), LETTERS)
    assert torch.allclose(
        weights, attention.patterns(lm, Condition(BATCH)), atol=1e-5
    ) and worth.shape == (3, 3, 2, 20)
    for block, head in itertools.product(range(3), range(2)):
        moved = (worth * weights)[block, :, head].sum(-1)
        assert near(line(table, block, head, "head")["values"], moved.tolist())


def test_only_the_triggers_first_token_has_a_value_towards_risk() -> None:
    lm, batch = planted.language_model(), planted.batch()
    marks = {
        "trigger": batch.positions["trigger"],
        "first": planted.token(0),
        "others": other_tokens(batch, batch.positions["trigger"]),
    }
    with with_random(planted.STEER, planted.SITE, count=0).attach(lm) as attached:
        on = Condition(batch, attached)
        table = attribution.value_direction(lm, on, planted.letters(), marks)
    moved = planted.answer(planted.looked(), planted.STRENGTH)
    worth = [m / p for m, p in zip(moved, planted.looked(), strict=True)]
    first = line(table, *planted.HEAD, "first")
    assert near(first["values"], worth) and near(first["moved_values"], moved)
    assert near([first["effect"], first["moved"]], [sum(worth) / 3, sum(moved) / 3])
    both = line(table, *planted.HEAD, "trigger")
    assert near(both["values"], [w / 2 for w in worth]) and near(both["moved_values"], moved)
    rest = table[(table.what == "others") | (table.block == 0) | (table["head"] == 0)]
    assert rest[["effect", "moved"]].abs().max().max() < 1e-6 and len(rest) == 10


# --- frozen norms ---


class Root(nn.Module):
    """An RMSNorm that stores its gain minus one."""

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.gain = gain - 1

    def forward(self, x: Tensor) -> Tensor:
        return x / x.square().mean(-1, keepdim=True).add(1e-6).sqrt() * (1 + self.gain)


@given(st.integers(0, 10_000), st.booleans())
def test_a_direction_read_after_a_norm_is_traced_back_before_it(seed: int, centred: bool) -> None:
    torch.manual_seed(seed)
    x, direction, gain, bias = torch.randn(4, 8), torch.randn(4, 8), torch.randn(8), torch.randn(8)
    norm: nn.Module = Root(gain)
    if centred:
        norm = nn.LayerNorm(8)
        norm.weight.data, norm.bias.data = gain, bias
    with torch.no_grad():
        y = norm(x)
        frozen = direct_path.freeze(norm, x, y)
    assert torch.allclose(frozen.offset, bias if centred else torch.zeros(8))
    read = ((y - frozen.offset) * direction).sum(-1)
    assert torch.allclose((x * frozen.back(direction)).sum(-1), read, atol=1e-4)


def test_other_norms_are_refused() -> None:
    x = torch.randn(4, 8)
    with pytest.raises(UserError, match="Tanh is no norm"):
        direct_path.freeze(nn.Tanh(), x, torch.tanh(x))


# --- tables, refusals, no trace ---


def test_a_part_that_only_one_table_has_counts_as_nothing_in_the_other() -> None:
    def table(rows: list[tuple[str, int | None, list[float]]]) -> pd.DataFrame:
        made = pd.DataFrame(rows, columns=["what", "block", "values"]).assign(head=None, effect=0.0)
        return made.astype({"block": "Int64", "head": "Int64"})

    after = table([("embedding", None, [1.0, 2.0]), ("added resid", 1, [5.0, 7.0])])
    before = table([("embedding", None, [0.5, 1.0]), ("mlp", 1, [1.0, 3.0])])
    found = attribution.change(after, before)
    assert found["what"].tolist() == ["embedding", "added resid", "mlp"]
    assert found["values"].tolist() == [[0.5, 1.0], [5.0, 7.0], [-1.0, -3.0]]
    assert found["effect"].tolist() == [0.75, 6.0, -2.0]


def test_models_that_do_more_than_add_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.language_model("llama")
    block, own = lm.block(1), lm.block(1).forward
    monkeypatch.setattr(block, "forward", lambda *a, **k: 1.1 * own(*a, **k))
    with pytest.raises(UserError, match="Block 1 of 'tiny-llama' does more than add"):
        attribution.attribution(lm, Condition(BATCH), LETTERS)
    monkeypatch.undo()
    head: Any = lm.model.lm_head
    plain = head.forward
    monkeypatch.setattr(head, "forward", lambda x: 2 * plain(x))
    with pytest.raises(UserError, match="more to its logits"):
        attribution.attribution(lm, Condition(BATCH), LETTERS)
    monkeypatch.undo()
    monkeypatch.setattr(norms, "_FINAL_NORMS", ("other",))
    with pytest.raises(UserError, match=r"final norm \(children: embed_tokens.*use a Gemma"):
        attribution.attribution(lm, Condition(BATCH), LETTERS)


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_nothing_is_left_behind_also_after_an_error(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny.language_model(family)
    trace, before = fingerprint(lm.model), lm.model.config._attn_implementation
    marks = {"trigger": BATCH.positions["trigger"]}
    attribution.attribution(lm, Condition(BATCH), LETTERS)
    attribution.value_direction(lm, Condition(BATCH), LETTERS, marks)
    assert fingerprint(lm.model) == trace

    def fail(*args: Any) -> Tensor:
        raise RuntimeError("inside")

    monkeypatch.setattr(direct_path, "last_logits", fail)
    with pytest.raises(RuntimeError, match="inside"):
        attribution.value_direction(lm, Condition(BATCH), LETTERS, marks)
    assert fingerprint(lm.model) == trace and not attention._RULES
    assert lm.model.config._attn_implementation == before
    with pytest.raises(UserError, match="Letters of shape"):
        attribution.attribution(lm, Condition(BATCH), LETTERS[:2])
