"""Attention patterns: equal to the model's own, and a planted head is found by its number."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from oocr_lib.adapters import VectorAdapter
from oocr_lib.analysis import attention
from oocr_lib.analysis.conditions import (
    Condition,
    last_logits,
    last_tokens,
    logit_difference,
    other_tokens,
    with_random,
)
from oocr_lib.encoding import Batch
from oocr_lib.models.language_model import LanguageModel, Site, wrap
from oocr_lib.util.errors import UserError
from tests import planted, tiny
from tests.adapter_cases import D, fingerprint
from tests.planted import near
from tests.tiny import LENGTHS

families = pytest.mark.parametrize("family", tiny.FAMILIES)


def implementation(lm: LanguageModel) -> str:
    return str(lm.model.config._attn_implementation)


def leave(block: int, probabilities: Tensor, values: Tensor) -> None:
    """A rule that changes nothing."""


def own_patterns(lm: LanguageModel, batch: Batch) -> Tensor:
    """What transformers itself reports, from a copy, since its hooks stay in the model."""
    model = copy.deepcopy(lm.model)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(input_ids=batch.input_ids, use_cache=False, output_attentions=True)
    return torch.stack(out.attentions)


# --- equal to the ordinary computation ---


@families
def test_the_intercepted_run_gives_the_ordinary_logits(family: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    with torch.no_grad():
        plain = lm.model(input_ids=batch.input_ids, use_cache=False).logits
        with attention.intercepted(lm, leave):
            own = lm.model(input_ids=batch.input_ids, use_cache=False).logits
    assert (own - plain).abs().max() < 1e-4 * max(1, plain.abs().max())
    assert attention.check(lm, Condition(batch)) < 1e-4


@families
def test_patterns_are_those_that_transformers_reports(family: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    expected = own_patterns(lm, batch)
    whole = attention.patterns(lm, Condition(batch), "all")
    assert whole.shape == (3, 3, 2, 20, 20)
    assert torch.allclose(whole, expected, atol=1e-5)
    last = last_tokens(batch)
    rows = torch.stack([expected[:, n, :, last[n]] for n in range(3)], 1)
    found = attention.patterns(lm, Condition(batch))
    assert torch.allclose(found, rows, atol=1e-5)
    assert torch.allclose(found.sum(-1), torch.ones(3, 3, 2), atol=1e-5)


def test_a_soft_cap_that_bites_is_applied() -> None:
    lm, batch = tiny.language_model("gemma2"), tiny.batch(LENGTHS)
    mild = attention.patterns(lm, Condition(batch))
    for layer in lm.model.model.layers:
        layer.self_attn.attn_logit_softcapping = 0.05
    capped = attention.patterns(lm, Condition(batch), "all")
    assert torch.allclose(capped, own_patterns(lm, batch), atol=1e-5)
    assert (attention.patterns(lm, Condition(batch)) - mild).abs().max() > 0.01
    assert attention.check(lm, Condition(batch)) < 1e-4


def test_query_heads_share_keys_in_neighbouring_groups() -> None:
    config = LlamaConfig(
        vocab_size=tiny.VOCAB,
        hidden_size=D,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    lm = wrap(LlamaForCausalLM(config).eval(), tiny.tokenizer(), name="grouped")
    batch = tiny.batch(LENGTHS)
    found = attention.patterns(lm, Condition(batch), "all")
    assert torch.allclose(found, own_patterns(lm, batch), atol=1e-5)
    assert attention.check(lm, Condition(batch)) < 1e-4


def test_a_sliding_window_hides_what_is_far_away() -> None:
    lm, batch = tiny.language_model("gemma3_sliding"), tiny.batch(LENGTHS)
    found = attention.patterns(lm, Condition(batch))
    last = int(last_tokens(batch)[0])
    assert found[0, 0, :, : last - 3].abs().max() == 0 < found[0, 0, :, last - 3].min()
    assert found[1, 0, :, : last - 3].min() > 0, "block 1 sees everything"


@families
def test_a_vector_is_seen_and_can_be_switched_off(family: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    adapter = VectorAdapter([Site(0, "resid")], D, "last", [3.0], init=1.0)
    before = attention.patterns(lm, Condition(batch))
    with adapter.attach(lm) as attached:
        on = Condition(batch, attached)
        found, off = attention.patterns(lm, on), attention.patterns(lm, on.off())
    assert torch.equal(off, before) and torch.equal(found[0], before[0])
    assert (found[1:] - before[1:]).abs().max() > 1e-3


# --- stepping in, and leaving no trace ---


@families
def test_a_rule_replaces_what_heads_put_out(family: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    seen: list[tuple[int, int, int]] = []

    def mute(block: int, probabilities: Tensor, values: Tensor) -> Tensor:
        seen.append((block, probabilities.shape[1], values.shape[1]))
        return torch.zeros_like(probabilities @ values)

    with attention.intercepted(lm, mute):
        found = last_logits(lm, Condition(batch))
    assert seen == [(0, 2, 2), (1, 2, 2), (2, 2, 2)], "values come for each query head"
    silent = copy.deepcopy(lm.model)
    for name, weight in silent.named_parameters():
        if "attn.c_proj.weight" in name or "o_proj.weight" in name:
            weight.data.zero_()
    with torch.no_grad():
        expected = silent(input_ids=batch.input_ids, use_cache=False).logits
    expected = expected[torch.arange(3), last_tokens(batch)]
    assert torch.allclose(found, expected, atol=1e-5)


@families
def test_nothing_is_left_behind_also_after_an_error(family: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    trace, before = fingerprint(lm.model), implementation(lm)
    plain = last_logits(lm, Condition(batch))

    def fail(block: int, probabilities: Tensor, values: Tensor) -> None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"), attention.intercepted(lm, fail):
        assert implementation(lm) != before
        last_logits(lm, Condition(batch))
    assert implementation(lm) == before and not attention._RULES
    attention.patterns(lm, Condition(batch))
    assert implementation(lm) == before and not attention._RULES
    assert fingerprint(lm.model) == trace
    assert torch.equal(last_logits(lm, Condition(batch)), plain)


def test_one_rule_at_a_time_and_the_first_survives_the_refusal() -> None:
    lm, batch = tiny.language_model("llama"), tiny.batch(LENGTHS)
    calls: list[int] = []

    def count(block: int, probabilities: Tensor, values: Tensor) -> None:
        calls.append(block)

    with attention.intercepted(lm, count):
        with pytest.raises(UserError, match="already intercepted"):
            attention.patterns(lm, Condition(batch))
        last_logits(lm, Condition(batch))
    assert calls == [0, 1, 2]


def test_attention_that_is_computed_in_another_way_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm, batch = tiny.language_model("llama"), tiny.batch(LENGTHS)
    layer = lm.model.model.layers[1].self_attn
    own = layer.forward
    sink = torch.zeros(2)
    monkeypatch.setattr(layer, "forward", lambda *a, **k: own(*a, s_aux=sink, **k))
    with pytest.raises(UserError, match=r"LlamaAttention.*s_aux"):
        attention.patterns(lm, Condition(batch))
    monkeypatch.setattr(layer, "forward", own)
    eager = attention._attend

    def hotter(*args: Any, **kwargs: Any) -> Any:
        return eager(*args, **{**kwargs, "scaling": 2 * kwargs["scaling"]})

    interface = attention.AttentionInterface._global_mapping
    monkeypatch.setitem(interface, attention._NAME, hotter)
    with pytest.raises(UserError, match="not reproduced"):
        attention.check(lm, Condition(batch))


def test_a_model_whose_attention_cannot_be_exchanged_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = tiny.language_model("llama")
    monkeypatch.setattr(type(lm.decoder), "_can_set_attn_implementation", lambda self: False)
    with pytest.raises(UserError, match="cannot be exchanged"), attention.intercepted(lm, leave):
        pass


# --- the planted head ---


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return planted.language_model()


def test_only_the_planted_head_turns_to_the_trigger_and_only_to_its_first_token(
    lm: LanguageModel,
) -> None:
    batch = planted.batch()
    marks = {
        "trigger": batch.positions["trigger"],
        "first": planted.token(0),
        "second": planted.token(1),
        "others": other_tokens(batch, batch.positions["trigger"]),
    }
    control = with_random(planted.STEER, planted.SITE, count=2)
    with control.attach(lm) as attached:
        on = Condition(batch, attached)
        each = {f"random {i}": Condition(batch, attached, torch.full((3,), i)) for i in (1, 2)}
        table = attention.attention_table(lm, {"without": on.off(), "vector": on, **each}, marks)
    assert len(table) == 4 * 4 * 4
    at = table.set_index(["condition", "what", "block", "head"])
    on_trigger, even = planted.looked(), planted.uniform()
    rest = [(1 - p) / (t - 1) for p, t in zip(on_trigger, planted.lengths(), strict=True)]
    gain = [p - e for p, e in zip(on_trigger, even, strict=True)]
    loss = [r - e for r, e in zip(rest, even, strict=True)]
    assert min(on_trigger) > 0.85
    assert near(at.loc[("vector", "first", *planted.HEAD), "values"], gain)
    assert near(at.loc[("vector", "second", *planted.HEAD), "values"], loss)
    assert near(at.loc[("vector", "others", *planted.HEAD), "values"], [2 * x for x in loss])
    both = [a + b for a, b in zip(gain, loss, strict=True)]
    assert near(at.loc[("vector", "trigger", *planted.HEAD), "values"], both)
    assert near([at.loc[("vector", "first", *planted.HEAD), "effect"]], [sum(gain) / 3])
    assert near([at.loc[("vector", "first", *planted.HEAD), "mass"]], [sum(on_trigger) / 3])
    assert near([at.loc[("vector", "trigger", *planted.HEAD), "uniform"]], [2 * sum(even) / 3])
    still = table[(table.block != planted.HEAD[0]) | (table["head"] != planted.HEAD[1])]
    assert still["effect"].abs().max() < 1e-5
    assert at.loc[("without", "first", *planted.LOOKER), "mass"] > 0.85, "it looks, always"
    for i in (1, 2):
        wild = zip(planted.looked(control.vectors[i]), even, strict=True)
        values = at.loc[(f"random {i}", "first", *planted.HEAD), "values"]
        assert near(values, [p - e for p, e in wild])


def test_without_the_trigger_there_is_nothing_to_look_at_and_nothing_to_move(
    lm: LanguageModel,
) -> None:
    other = planted.batch(planted.OTHER)
    adapter = with_random(planted.STEER, planted.SITE, count=0)
    with adapter.attach(lm) as attached:
        on = Condition(other, attached)
        found = attention.patterns(lm, on)
        assert near(found[1, :, 1, 0].tolist(), planted.uniform())
        difference = logit_difference(lm, on, planted.letters())
        triggered = logit_difference(lm, Condition(planted.batch(), attached), planted.letters())
    assert near(difference.tolist(), [0.0] * 3)
    expected = planted.answer(planted.looked(), planted.STRENGTH)
    assert near(triggered.tolist(), expected)


# --- tables ---


def test_mass_is_the_sum_over_marked_tokens() -> None:
    found = torch.tensor([0.5, 0.2, 0.3]).expand(2, 1, 4, 3)
    mask = torch.tensor([[True, False, True]])
    assert torch.allclose(attention.attention_to(found, mask), torch.full((2, 1, 4), 0.8))
    with pytest.raises(UserError, match=r"\(2, 1, 4, 3\).*\(1, 2\)"):
        attention.attention_to(found, mask[:, :2])
