"""Filtered LoRAs: the same as a LoRA with edited weights, and gone without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from oocr_lib.activations import capture
from oocr_lib.adapters import LoraAdapter, VectorAdapter
from oocr_lib.adapters.direction import MODES, Filtered
from oocr_lib.analysis.constancy import added
from oocr_lib.models.language_model import SITES, LanguageModel, Site
from oocr_lib.util.errors import UserError
from oocr_lib.util.files import load_tensors, save_tensors
from tests import tiny
from tests.adapter_cases import D, fingerprint, logits, outputs, stir

FAMILIES = ("gemma3", "llama", "gpt2")
MLP = Site(1, "mlp_out")
families = pytest.mark.parametrize("family", FAMILIES)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


U = 3 * normal(D, seed=1)  # of no particular length
MEAN = 2 * normal(D, seed=2)


def trained(lm: LanguageModel, blocks: Any = (1,), **arguments: Any) -> LoraAdapter:
    adapter = LoraAdapter(blocks, **{"rank": 3, "alpha": 6, **arguments})
    adapter.attach(lm).remove()
    stir(adapter)
    return adapter


def filtered(lora: LoraAdapter, mode: str) -> Filtered:
    return Filtered(lora, MLP, U, mode, MEAN)


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


# --- what it computes ---


@families
@pytest.mark.parametrize("modules", [("down",), ("up", "down"), ("up",)])
def test_the_two_parts_sum_to_what_the_lora_adds(family: str, modules: tuple[str, ...]) -> None:
    lm, batch = tiny.language_model(family), tiny.batch()
    lora = trained(lm, modules=modules)
    whole = added(lm, lora, batch, MLP)
    without, along = (added(lm, filtered(lora, m), batch, MLP) for m in MODES[:2])
    unit, size = U / U.norm(), float(whole.abs().max())
    assert size > 0.1 and close(without + along, whole)
    assert (without @ unit).abs().max() < 1e-4 * size
    assert close(along, (whole @ unit)[..., None] * unit)
    assert min(without.norm(), along.norm()) > 0.05 * whole.norm()


@families
@pytest.mark.parametrize("blocks", [(1,), "all"])
def test_filtering_a_down_projection_is_editing_its_b(family: str, blocks: Any) -> None:
    """(I - u u') B instead of B at that block; other blocks keep theirs."""
    lm, batch = tiny.language_model(family), tiny.batch()
    unit = U / U.norm()
    onto = torch.outer(unit, unit)
    for mode, edit in (("project_out", torch.eye(D) - onto), ("keep_only", onto)):
        lora, edited = trained(lm, blocks), trained(lm, blocks)
        weight = edited._weights[f"{lm.down_projection(1)}.lora_B.weight"]
        weight.data = edit @ weight.data
        found = outputs(lm, filtered(lora, mode), batch)
        assert close(found, outputs(lm, edited, batch))
        assert not close(found, outputs(lm, lora, batch))


@families
@pytest.mark.parametrize("modules", [("down",), ("up", "down")])
def test_replacing_by_the_mean_is_adding_a_constant_vector(
    family: str, modules: tuple[str, ...]
) -> None:
    lm, batch = tiny.language_model(family), tiny.batch(answer=0)
    steering = VectorAdapter([MLP], D, "all", [1.0])
    steering.theta.data.copy_(MEAN[None])
    expected = outputs(lm, steering, batch)
    real = batch.positions["all"]
    lora = trained(lm, modules=modules)
    for direction in (U, None):
        found = outputs(lm, Filtered(lora, MLP, direction, "replace_by_mean", MEAN), batch)
        assert torch.equal(found[real], expected[real])
    assert not close(outputs(lm, lora, batch)[real], expected[real])


def test_only_the_direction_counts_not_its_length() -> None:
    lm, batch = tiny.language_model(), tiny.batch()
    lora = trained(lm)
    for mode in MODES[:2]:
        found = [outputs(lm, Filtered(lora, MLP, c * U, mode), batch) for c in (1.0, -0.01)]
        assert close(found[0], found[1])


def test_an_untrained_lora_is_filtered_to_nothing_and_the_mean_stays() -> None:
    lm, batch = tiny.language_model(), tiny.batch()
    fresh = LoraAdapter([1])
    with torch.no_grad():
        before = logits(lm, batch)
    for mode in MODES[:2]:
        assert torch.equal(outputs(lm, filtered(fresh, mode), batch), before)
    assert not close(outputs(lm, filtered(fresh, "replace_by_mean"), batch), before)


@families
def test_one_token_after_another_gives_the_same_as_all_at_once(family: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch((8,))
    with torch.no_grad(), filtered(trained(lm), "project_out").attach(lm):
        whole, cache, parts = logits(lm, batch), None, []
        for i in range(8):
            ids = batch.input_ids[:, i : i + 1]
            out = lm.model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            parts.append(out.logits)
    assert close(torch.cat(parts, 1), whole)


# --- beside others ---


@families
@pytest.mark.parametrize("first", [True, False])
def test_a_vector_at_the_same_site_is_not_filtered(family: str, first: bool) -> None:
    """The vector lies along u, so a filter that saw it would take it away."""
    lm, batch = tiny.language_model(family), tiny.batch()
    steering = VectorAdapter([MLP], D, "codename", [5.0])
    steering.theta.data.copy_(U[None])
    lora = trained(lm)
    alone = added(lm, filtered(lora, "project_out"), batch, MLP)
    base = capture(lm, batch, [MLP])[MLP]
    order: list[Any] = [steering, filtered(lora, "project_out")]
    held = [adapter.attach(lm) for adapter in (order if first else order[::-1])]
    for attached in held:
        attached.focus(batch)
    found = capture(lm, batch, [MLP])[MLP] - base
    mask = batch.positions["codename"][..., None]
    assert close(found, alone + mask * 5.0 * U)
    held[0].remove()
    left = capture(lm, batch, [MLP])[MLP] - base
    assert close(left, alone if first else mask * 5.0 * U)
    held[1].remove()


def test_a_lora_on_another_map_of_the_same_block_belongs_to_the_model() -> None:
    lm, batch = tiny.language_model(), tiny.batch()
    other, lora = trained(lm, modules=("gate",)), trained(lm)
    with other.attach(lm):
        whole = added(lm, lora, batch, MLP)
        parts = [added(lm, filtered(lora, mode), batch, MLP) for mode in MODES[:2]]
    assert close(parts[0] + parts[1], whole)
    assert not close(whole, added(lm, lora, batch, MLP))


def test_hooks_of_others_see_the_filtered_output_once() -> None:
    lm, batch = tiny.language_model(), tiny.batch()
    seen: list[Tensor] = []
    module = lm.module(MLP)
    handle = module.register_forward_hook(lambda m, args, output: seen.append(output))
    with torch.no_grad(), filtered(trained(lm), "keep_only").attach(lm):
        expected = capture(lm, batch, [MLP])[MLP]
        assert len(seen) == 1 and torch.equal(seen[0], expected)
    handle.remove()


# --- no trace ---


@families
@pytest.mark.parametrize("mode", MODES)
def test_detaching_leaves_no_trace_also_after_an_error(family: str, mode: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch()
    lora = trained(lm, modules=("up", "down"))
    with torch.no_grad():
        before = logits(lm, batch)
    trace = fingerprint(lm.model)
    with torch.no_grad(), filtered(lora, mode).attach(lm) as attached:
        attached.focus(batch)
        attached.train()
        assert not torch.equal(logits(lm, batch), before)
    attached.remove()
    with pytest.raises(RuntimeError, match="inside"), filtered(lora, mode).attach(lm):
        raise RuntimeError("inside")
    assert fingerprint(lm.model) == trace
    with torch.no_grad():
        assert torch.equal(logits(lm, batch), before)


def test_an_error_within_the_second_run_leaves_the_lora_in_place() -> None:
    lm, batch = tiny.language_model(), tiny.batch()
    trace = fingerprint(lm.model)
    bare = lm.model.get_submodule(lm.down_projection(1))
    lora = trained(lm)
    with torch.no_grad(), filtered(lora, "project_out").attach(lm):
        wrapper, expected = lm.model.get_submodule(lm.down_projection(1)), logits(lm, batch)
        calls: list[int] = []

        def fail_second(*args: Any) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise RuntimeError("second")

        handle = bare.register_forward_hook(fail_second)
        with pytest.raises(RuntimeError, match="second"):
            logits(lm, batch)
        handle.remove()
        assert lm.model.get_submodule(lm.down_projection(1)) is wrapper
        assert torch.equal(logits(lm, batch), expected)
    assert fingerprint(lm.model) == trace


def test_a_failing_set_up_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.language_model()
    trace = fingerprint(lm.model)
    deep = LoraAdapter([9])
    with pytest.raises(UserError, match="Block 9"):
        Filtered(deep, Site(9, "mlp_out"), U, "keep_only").attach(lm)
    lora = trained(lm)
    for mode, direction, mean in (
        ("keep_only", torch.ones(D + 1), None),
        ("replace_by_mean", None, torch.ones(D - 1)),
    ):
        with pytest.raises(UserError, match="its model width, 16"):
            Filtered(lora, MLP, direction, mode, mean).attach(lm)
    with (
        pytest.raises(UserError, match="already has a LoRA"),
        lora.attach(lm),
        filtered(trained_like(lora), "keep_only").attach(lm),
    ):
        pass
    with monkeypatch.context() as patch:  # after the LoRA is in place
        patch.setattr(lm.module(MLP), "register_forward_hook", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            filtered(lora, "keep_only").attach(lm)
    assert fingerprint(lm.model) == trace


def trained_like(lora: LoraAdapter) -> LoraAdapter:
    return LoraAdapter(**lora.config())


# --- the protocol and files ---


@families
@pytest.mark.parametrize("mode", MODES)
def test_save_and_load_give_the_same_function(family: str, mode: str, tmp_path: Path) -> None:
    lm, batch, path = tiny.language_model(family), tiny.batch(), tmp_path / "one.safetensors"
    mean = MEAN if mode == "replace_by_mean" else None
    adapter = Filtered(trained(lm, modules=("up", "down")), "mlp_out@1", U, mode, mean)
    adapter.save(path, {"task": "risk"})
    again = Filtered.load(path)
    assert again.config() == adapter.config() and again.site == MLP and again.mode == mode
    assert again.state().keys() == adapter.state().keys()
    assert all(torch.equal(again.state()[k], v) for k, v in adapter.state().items())
    assert torch.equal(outputs(lm, again, batch), outputs(lm, adapter, batch))
    assert load_tensors(path)[1]["task"] == "risk"
    assert not list(adapter.parameters())
    assert [p.name for p in tmp_path.iterdir()] == ["one.safetensors"]


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    lm, path = tiny.language_model(), tmp_path / "one.safetensors"
    lora = trained(lm)
    filtered(lora, "keep_only").save(path)
    tensors, metadata = load_tensors(path)
    config, name = metadata["config"], f"inner.{lm.down_projection(1)}.lora_A.weight"
    bare = {k: v for k, v in tensors.items() if not k.startswith("inner.")}
    edits: list[tuple[dict[str, Tensor], dict[str, Any], str]] = [
        (bare, metadata, "no weights of the filtered LoRA"),
        ({**tensors, "extra": U}, metadata, "extra"),
        ({k: v for k, v in tensors.items() if k != "direction"}, metadata, "without direction"),
        (tensors, {**metadata, "config": {**config, "inner": 3}}, "builds no adapter"),
        (tensors, {**metadata, "config": {**config, "surprise": 1}}, "surprise"),
        (tensors, {**metadata, "config": {**config, "mode": "drop"}}, "Unknown mode"),
        (tensors, {**metadata, "kind": "lora"}, "holds 'lora'"),
    ]
    for wrong, header, reason in edits:
        save_tensors(path, wrong, header)
        with pytest.raises(UserError, match=reason) as info:
            Filtered.load(path)
        assert "\n" not in str(info.value)
    save_tensors(path, {**tensors, name: tensors[name][:2]}, metadata)
    with pytest.raises(UserError, match="one of them the rank"):
        Filtered.load(path).attach(lm)
    lora.save(path)
    with pytest.raises(UserError, match="holds 'lora'"):
        Filtered.load(path)


def test_later_changes_of_the_given_vectors_have_no_effect() -> None:
    direction, mean = U.clone(), MEAN.clone()
    adapter = Filtered(LoraAdapter([1]), MLP, direction, "keep_only", mean)
    direction.zero_(), mean.zero_()
    assert adapter.direction is not None and adapter.mean is not None
    assert torch.allclose(adapter.direction, U / U.norm()) and torch.equal(adapter.mean, MEAN)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"mode": "keep"}, "Unknown mode 'keep'"),
        ({"site": "resid@1"}, "At resid@1 .* mlp_out of a block"),
        ({"site": "attn_out@1"}, "At attn_out@1"),
        ({"site": "mlp_out@0"}, r"At mlp_out@0 .* \(1\)"),
        ({"site": "mlp@1"}, "Unknown site"),
        ({"direction": None}, "'keep_only' without direction"),
        ({"mode": "replace_by_mean"}, "'replace_by_mean' without mean"),
        ({"direction": torch.zeros(D)}, "length 0"),
        ({"direction": torch.ones(1, D)}, r"direction of shape \(1, 16\)"),
        ({"direction": torch.full((D,), float("nan"))}, "finite numbers"),
        ({"mean": torch.ones(2, D)}, r"mean of shape \(2, 16\)"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any], reason: str) -> None:
    given = {"site": MLP, "direction": U, "mode": "keep_only", **arguments}
    with pytest.raises(UserError, match=reason) as info:
        Filtered(LoraAdapter([1]), **given)
    assert "\n" not in str(info.value) and "Allowed" in str(info.value)


def test_all_sites_but_the_mlp_are_refused_for_a_lora_on_all_blocks() -> None:
    for kind in SITES:
        if kind != "mlp_out":
            with pytest.raises(UserError, match="Allowed: mlp_out"):
                Filtered(LoraAdapter("all"), Site(0, kind), U, "keep_only")
    assert Filtered(LoraAdapter("all"), "mlp_out@2", U, "keep_only").site == Site(2, "mlp_out")


def test_a_filtered_lora_touches_marked_tokens_alone() -> None:
    lm, batch, site = tiny.language_model(), tiny.batch(), Site(1, "mlp_out")
    inner = LoraAdapter([1], rank=2, position="codename")
    inner.attach(lm).remove()
    stir(inner)
    seen = []
    with torch.no_grad():
        for adapter in (Filtered(inner, site, torch.ones(D), "keep_only"), inner):
            with adapter.attach(lm) as attached:
                attached.focus(batch)
                seen.append(capture(lm, batch.input_ids, [site])[site])
        plain = capture(lm, batch.input_ids, [site])[site]
    mask = batch.positions["codename"]
    assert all(torch.equal(found[~mask], plain[~mask]) for found in seen)
    assert not torch.allclose(seen[0][mask], plain[mask], atol=1e-3)
    with pytest.raises(UserError, match="position 'codename'") as info:
        Filtered(inner, site, None, "replace_by_mean", torch.ones(D))
    assert "\n" not in str(info.value)
