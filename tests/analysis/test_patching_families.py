"""Patching on every family: runs turn into each other, single heads by other means, no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from oocr_lib.analysis import attention, exchange, heads, patching
from oocr_lib.analysis.conditions import (
    Condition,
    last_logits,
    last_tokens,
    logit_difference,
    with_random,
)
from oocr_lib.encoding import Batch
from oocr_lib.models.language_model import LanguageModel, Site
from oocr_lib.util.errors import UserError
from tests import tiny
from tests.adapter_cases import fingerprint
from tests.planted import line
from tests.tiny import LENGTHS, LETTERS

families = pytest.mark.parametrize("family", tiny.FAMILIES)


# --- heads by their outputs, a way of its own ---


def head_outputs(lm: LanguageModel, condition: Condition) -> Tensor:
    """Every head's output at the last prompt token, (b, n, h, e)."""
    with heads.recording_heads(lm, last_tokens(condition.batch)) as found:
        last_logits(lm, condition)
    return torch.stack([found[block] for block in range(lm.n_blocks)])


@contextmanager
def patched_heads(
    lm: LanguageModel, outputs: Tensor, chosen: dict[int, Tensor], last: Tensor
) -> Iterator[None]:
    """Within the block chosen heads (bool, by block) put out ``outputs`` at columns ``last``."""
    row = torch.arange(len(last))
    with ExitStack() as stack:
        for block, mask in chosen.items():

            def put(module: Any, args: Any, block: int = block, mask: Tensor = mask) -> Any:
                inputs = args[0].clone()
                own = inputs[row, last].view(outputs.shape[1:])
                mixed = torch.where(mask[None, :, None], outputs[block], own)
                inputs[row, last] = mixed.flatten(1)
                return (inputs, *args[1:])

            handle = heads.output_projection(lm, block).register_forward_pre_hook(put)
            stack.callback(handle.remove)
        yield


# --- one run into another ---


def steered(lm: LanguageModel) -> Any:
    return with_random(torch.linspace(-2, 2, 16), Site(0, "resid")).attach(lm)


def swapped(batch: Batch) -> Batch:
    """The same rows with another first token: same lengths, same last token."""
    ids = batch.input_ids.clone()
    ids[:, 0] = 200
    return Batch(ids, batch.lengths, batch.answer_mask, batch.positions)


Way = Callable[[LanguageModel, Condition, Condition], pd.DataFrame]
TRIGGER = {"trigger": tiny.batch(LENGTHS).positions["trigger"]}
WAYS: dict[str, Way] = {
    "patterns": lambda lm, a, b: patching.patch_patterns(lm, a, b, LETTERS),
    "values": lambda lm, a, b: patching.patch_values(lm, a, LETTERS, TRIGGER, b),
    "values of all readers": lambda lm, a, b: patching.patch_values(
        lm, a, LETTERS, TRIGGER, b, readers="all"
    ),
}
ways = pytest.mark.parametrize("way", WAYS)


@families
@ways
def test_a_run_patched_with_itself_does_not_change(family: str, way: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    with steered(lm) as attached:
        on = Condition(batch, attached)
        found = WAYS[way](lm, on, on)
        assert found["effect"].abs().max() < 1e-6 and found["share"].isna().all()
        if way.startswith("values"):  # a vector at the last token changes no value before it
            assert WAYS[way](lm, on, on.off())["effect"].abs().max() < 1e-6
        else:
            assert WAYS[way](lm, on, on.off())["effect"].abs().max() > 1e-3


@families
def test_all_heads_of_another_prompt_at_the_last_token_give_its_logits(family: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    a, b = Condition(batch), Condition(swapped(batch))
    last = last_tokens(batch)
    every = {block: torch.ones(2, dtype=torch.bool) for block in range(3)}
    given = head_outputs(lm, b)
    with patched_heads(lm, given, every, last):
        found = last_logits(lm, a)
    assert (last_logits(lm, a) - last_logits(lm, b)).abs().max() > 1e-3
    assert torch.allclose(found, last_logits(lm, b), atol=1e-5)


@families
def test_patterns_and_values_together_are_all_that_a_head_has(family: str) -> None:
    """Exchanging both, by one rule, is exchanging the heads' outputs."""
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    other = Condition(swapped(batch))
    row, last = torch.arange(3), last_tokens(batch)
    kept: dict[int, Tensor] = {}

    def keep(block: int, probabilities: Tensor, values: Tensor) -> None:
        kept[block] = (probabilities @ values)[row, :, last]

    with attention.intercepted(lm, keep):
        last_logits(lm, other)
    own = torch.stack([kept[i] for i in range(3)])
    assert torch.allclose(own, head_outputs(lm, other), atol=1e-5)


# --- single heads and readers, against a computation of another kind ---


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3", "gemma2"])
@pytest.mark.parametrize("block", [0, 1])
def test_values_for_all_readers_are_as_if_the_value_projection_had_given_them(
    family: str, block: int
) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    other, mask = swapped(batch), torch.zeros_like(batch.positions["last"])
    mask[:, 0] = True
    projection = lm.model.model.layers[block].self_attn.v_proj
    seen: list[Tensor] = []
    with torch.no_grad():
        handle = projection.register_forward_hook(lambda m, a, out: seen.append(out))
        last_logits(lm, Condition(other))
        handle.remove()
        handle = projection.register_forward_hook(
            lambda m, a, out: torch.where(mask[..., None], seen[0], out)
        )
        expected = logit_difference(lm, Condition(batch), LETTERS)
        handle.remove()
    expected = expected - logit_difference(lm, Condition(batch), LETTERS)
    found = patching.patch_values(
        lm, Condition(batch), LETTERS, {"m": mask}, Condition(other), readers="all", by=["block"]
    )
    assert expected.abs().max() > 1e-4
    assert line(found, block, None)["values"] == pytest.approx(expected.tolist(), abs=2e-6)


@families
def test_one_heads_values_for_the_last_reader_change_that_heads_output_by_hand(
    family: str,
) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    block, head, row, last = 1, 0, torch.arange(3), last_tokens(batch)
    mask = batch.positions["codename"]
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(number: int, probabilities: Tensor, values: Tensor) -> None:
        if number == block:
            kept.append((probabilities[row, head, last], values[:, head]))

    a, b = Condition(batch), Condition(swapped(batch))
    plain = logit_difference(lm, a, LETTERS)
    for condition in (a, b):
        with attention.intercepted(lm, keep):
            last_logits(lm, condition)
    (weights, own), (_, theirs) = kept
    mixed = torch.where(mask[..., None], theirs, own)
    outputs = head_outputs(lm, a)
    outputs[block, :, head] = (weights[..., None] * mixed).sum(1)
    with patched_heads(lm, outputs, {block: torch.tensor([True, False])}, last):
        expected = logit_difference(lm, a, LETTERS) - plain
    found = patching.patch_values(lm, a, LETTERS, {"m": mask}, b, by=["head"])
    assert expected.abs().max() > 1e-5
    assert line(found, block, head)["values"] == pytest.approx(expected.tolist(), abs=3e-6)


# --- what is refused, and leaving no trace ---


@ways
def test_nothing_is_left_behind_also_after_an_error(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, batch = tiny.language_model("gemma3"), tiny.batch(LENGTHS)
    a, b = Condition(batch), Condition(swapped(batch))
    trace, before = fingerprint(lm.model), lm.model.config._attn_implementation
    WAYS[way](lm, a, b)
    assert fingerprint(lm.model) == trace
    own, calls = exchange.logit_difference, []

    def fail(*args: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 5:
            last_logits(lm, a)
            raise RuntimeError("inside")
        return own(*args)

    monkeypatch.setattr(exchange, "logit_difference", fail)
    with pytest.raises(RuntimeError, match="inside"):
        WAYS[way](lm, a, b)
    assert len(calls) == 5 and fingerprint(lm.model) == trace
    assert lm.model.config._attn_implementation == before and not attention._RULES


@ways
def test_rows_that_do_not_match_are_refused(way: str) -> None:
    lm = tiny.language_model("llama")
    a = Condition(tiny.batch(LENGTHS))
    with pytest.raises(UserError, match=r"Rows of shape \(3, 19\)"):
        WAYS[way](lm, a, Condition(tiny.batch((19, 15, 18))))
    with pytest.raises(UserError, match="equal length"):
        WAYS[way](lm, a, Condition(tiny.batch((20, 14, 18))))


def test_wrong_units_blocks_and_readers_are_one_line() -> None:
    lm, a = tiny.language_model("llama"), Condition(tiny.batch(LENGTHS))
    with pytest.raises(UserError, match="unit of patching 'heads'"):
        patching.patch_patterns(lm, a, a, LETTERS, by=["heads"])
    with pytest.raises(UserError, match="Block 3 is not in model"):
        patching.patch_patterns(lm, a, a, LETTERS, blocks=[3])
    with pytest.raises(UserError, match="set of readers 'some'"):
        patching.patch_values(lm, a, LETTERS, TRIGGER, readers="some")
    with pytest.raises(UserError, match="no mean over others"):
        full = a.batch.positions["all"] & ~a.batch.positions["last"]
        patching.patch_values(lm, a, LETTERS, {"full": full})


def test_only_the_blocks_and_units_asked_for_are_measured() -> None:
    lm, batch = tiny.language_model("gpt2"), tiny.batch(LENGTHS)
    a, b = Condition(batch), Condition(swapped(batch))
    found = patching.patch_patterns(lm, a, b, LETTERS, by=["head", "all"], blocks=[1])
    assert found[["block", "head"]].astype(object).where(found.notna(), None).values.tolist() == [
        [None, None],
        [1, 0],
        [1, 1],
    ]
    every = patching.patch_patterns(lm, a, b, LETTERS)
    assert line(found, None, None)["values"] == line(every, 1, None)["values"]


def test_an_unknown_output_projection_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.language_model("llama")
    monkeypatch.setattr(heads, "_OUTPUT_NAMES", ("somewhere",))
    with pytest.raises(UserError, match=r"no known output projection \(children: q_proj"):
        heads.output_projection(lm, 0)


@families
def test_output_weights_are_the_projection_head_by_head(family: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(LENGTHS)
    seen: dict[str, Tensor] = {}
    module = heads.output_projection(lm, 1)
    module.register_forward_hook(lambda m, args, out: seen.update(x=args[0], y=out))
    last_logits(lm, Condition(batch))
    weights, bias = heads.output_weights(lm, 1, seen["x"].shape[-1])
    split = seen["x"].view(*seen["x"].shape[:2], *weights.shape[:2])
    expected = torch.einsum("nthe,hed->ntd", split, weights) + bias
    assert torch.allclose(expected, seen["y"], atol=1e-5)
    assert bool(bias.any()) == (family == "gpt2")
