"""LoRA through peft: the formula, its start, dropout, combinations and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from oocr_lib.adapters import LoraAdapter, LoraGroup, load
from oocr_lib.encoding import collate
from oocr_lib.models.language_model import Site, recording
from oocr_lib.util.errors import UserError
from oocr_lib.util.files import load_tensors, save_tensors
from tests import tiny
from tests.adapter_cases import D, fingerprint, logits, outputs, stir, vector


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_lora_is_its_formula(family: str) -> None:
    """The same as adding (alpha / rank) B A to the weights, in GPT-2's transposed layout too."""
    lm, batch = tiny.language_model(family), tiny.batch()
    adapter = LoraAdapter([0, 2], rank=2, alpha=3, modules=("up", "down"))
    adapter.attach(lm).remove()
    stir(adapter)
    found = outputs(lm, adapter, batch)
    state = adapter.state()
    names = [lm.projection(block, role) for block in (0, 2) for role in ("up", "down")]
    assert set(state) == {f"{n}.lora_{part}.weight" for n in names for part in "AB"}
    for name in names:
        delta = 1.5 * state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"]
        weight = lm.model.get_submodule(name).weight.data
        weight += delta.T if family == "gpt2" else delta
    with torch.no_grad():
        assert torch.allclose(logits(lm, batch), found, atol=1e-3)


def test_lora_starts_from_its_seed() -> None:
    lm = tiny.language_model()
    states = []
    for seed in (0, 0, 1):
        adapter = LoraAdapter([1], rank=2, seed=seed)
        adapter.attach(lm).remove()
        states.append(adapter.state())
    name = f"{lm.down_projection(1)}.lora_A.weight"
    first, again, other = (state[name] for state in states)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert 0 < first.abs().max() <= 24**-0.5
    assert sum(p.numel() for p in adapter.parameters()) == 2 * (24 + D)


@pytest.mark.parametrize("grouped", [False, True])
def test_dropout_is_off_until_train(grouped: bool) -> None:
    lm, batch, one = tiny.language_model(), tiny.batch(), LoraAdapter([1], dropout=0.5)
    adapter = LoraGroup([one]) if grouped else one
    adapter.attach(lm).remove()
    stir(adapter)
    with torch.no_grad(), adapter.attach(lm) as attached:
        attached.focus(batch)
        still = logits(lm, batch)
        assert torch.equal(still, logits(lm, batch))
        attached.train()
        assert not torch.equal(logits(lm, batch), logits(lm, batch))
        attached.train(False)
        assert torch.equal(still, logits(lm, batch))


@pytest.mark.parametrize("first_out", [0, 1])
def test_adapters_combine_and_leave_in_any_order(first_out: int) -> None:
    lm, batch = tiny.language_model(), tiny.batch()
    adapters: list[Any] = [LoraAdapter([0], seed=1), LoraAdapter([2], seed=2), vector("mlp_out")]
    for adapter in adapters[:2]:
        adapter.attach(lm).remove()
    for adapter in adapters:
        stir(adapter)
    trace = fingerprint(lm.model)
    second = outputs(lm, adapters[1 - first_out], batch)
    held = [adapter.attach(lm) for adapter in adapters]
    for attached in held:
        attached.focus(batch)
    everything = logits(lm, batch)
    everything.sum().backward()
    assert all(p.grad is not None for adapter in adapters for p in adapter.parameters())
    held[2].remove()
    held[first_out].remove()
    with torch.no_grad():
        assert torch.equal(logits(lm, batch), second) and not torch.equal(everything, second)
    held[1 - first_out].remove()
    assert fingerprint(lm.model) == trace


def test_lora_refuses_what_it_cannot_do() -> None:
    lm = tiny.language_model()
    fresh = LoraAdapter([1])
    with pytest.raises(UserError, match=r"Call attach\(model\) first"):
        fresh.parameters()
    with fresh.attach(lm), pytest.raises(UserError, match="already has a LoRA"):
        LoraAdapter("all").attach(lm)
    wide, other = tiny.language_model("gemma2"), tiny.language_model("gpt2")
    wide.model.get_submodule(wide.down_projection(1)).weight.data = torch.zeros(D, 30)
    wide.model.get_submodule(wide.down_projection(1)).in_features = 30
    trace = fingerprint(other.model)
    for lm in (wide, other):
        with pytest.raises(UserError, match="belongs to model 'tiny-gemma3'"):
            fresh.attach(lm)
        assert fresh.model_name == "tiny-gemma3"
        fresh.release()  # its shapes stay
        with pytest.raises(UserError, match="does not fit this model") as info:
            fresh.attach(lm)
        assert "\n" not in str(info.value) and fresh.model_digest is None
        fresh.belong(tiny.language_model())
    assert fingerprint(other.model) == trace
    other.model.peft_config = {}
    with pytest.raises(UserError, match="adapters of peft"):
        LoraAdapter([1]).attach(other)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"blocks": []}, "distinct"),
        ({"blocks": [1, 1]}, "distinct"),
        ({"blocks": "al"}, "Did you mean 'all'"),
        ({"rank": 0}, "Rank 0"),
        ({"position": "lst"}, "Did you mean 'last'"),
        ({"alpha": -1}, "alpha -1"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"modules": ("dwn",)}, "Did you mean 'down'"),
        ({"modules": "down"}, "modules is 'down'"),
        ({"blocks": 1}, "blocks is 1"),
        ({"blocks": [True]}, "blocks is"),
        ({"rank": True}, "rank is True"),
        ({"rank": "8"}, "rank is '8'"),
        ({"alpha": "16"}, "alpha is '16'"),
        ({"alpha": float("inf")}, "alpha inf"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"modules": ()}, "Modules"),
    ],
)
def test_wrong_lora_settings_are_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as info:
        LoraAdapter(**{"blocks": [0], **arguments})
    assert "\n" not in str(info.value) and "Allowed" in str(info.value)


# --- positions ---


def at(position: str, grouped: bool = False) -> Any:
    """A LoRA that changes something, alone or in a group of one."""
    one = LoraAdapter([1], rank=2, position=position)
    one.attach(tiny.language_model()).remove()
    stir(one)
    return LoraGroup([one]) if grouped else one


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("position", ["last", "codename", "trigger"])
def test_marked_tokens_get_what_all_would_and_the_others_nothing(
    position: str, grouped: bool
) -> None:
    lm, batch, site = tiny.language_model(), tiny.batch(), Site(1, "mlp_out")
    found = {}
    with torch.no_grad():
        for name, adapter in (("all", at("all")), ("marked", at(position, grouped))):
            with adapter.attach(lm) as attached, recording(lm, [site]) as seen:
                attached.focus(batch)
                logits(lm, batch)
            found[name] = seen[site]
        with recording(lm, [site]) as seen:
            logits(lm, batch)
        plain = seen[site]
    mask = batch.positions[position]
    assert torch.equal(found["marked"][~mask], plain[~mask])
    assert torch.allclose(found["marked"][mask], found["all"][mask], atol=1e-5)
    assert (found["marked"][mask] - plain[mask]).abs().max() > 1e-2


@pytest.mark.parametrize("grouped", [False, True])
def test_generated_tokens_are_not_touched_by_a_marked_lora(grouped: bool) -> None:
    """With a cache, the batch starts where it says, and what follows it is left alone."""
    lm, row = tiny.language_model(), tiny.rows((9,))[0]
    batch, adapter = collate([row], 0), at("last", grouped)
    with torch.no_grad(), adapter.attach(lm) as attached:
        attached.focus(batch)
        whole = logits(lm, batch)
        first = lm.model(input_ids=batch.input_ids[:, :7], use_cache=True)
        attached.focus(collate([row], 0))
        later = lm.model(input_ids=batch.input_ids[:, 7:], past_key_values=first.past_key_values)
    assert torch.allclose(torch.cat([first.logits, later.logits], 1), whole, atol=1e-4)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_marked_lora_needs_focus_and_none_switches_it_off(grouped: bool) -> None:
    lm, batch, adapter = tiny.language_model(), tiny.batch(), at("codename", grouped)
    trace = fingerprint(lm.model)
    with torch.no_grad(), adapter.attach(lm) as attached:
        with pytest.raises(UserError, match=r"Call focus\(batch") as info:
            logits(lm, batch)
        assert "\n" not in str(info.value)
        attached.focus(None)
        off = logits(lm, batch)
        attached.focus(batch)
        assert not torch.allclose(logits(lm, batch), off, atol=1e-2)
        if not grouped:  # a group takes its rows out of the batch before it looks at tokens
            with pytest.raises(UserError, match="focused on 3 rows, but 2 were run"):
                lm.model(input_ids=batch.input_ids[:2])
    assert fingerprint(lm.model) == trace
    with torch.no_grad():
        assert torch.equal(logits(lm, batch), off)


def test_files_keep_the_position_and_older_ones_mean_all(tmp_path: Any) -> None:
    path = tmp_path / "lora.safetensors"
    at("trigger").save(path)
    again = load(path)
    assert isinstance(again, LoraAdapter) and again.position == "trigger"
    tensors, metadata = load_tensors(path)
    older = {k: v for k, v in metadata["config"].items() if k != "position"}
    save_tensors(path, tensors, {**metadata, "config": older})
    assert LoraAdapter.load(path).position == "all"
