"""One matrix for everything trainable: adapters x sites x architectures; then their files."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from oocr_lib.adapters import LoraAdapter, VectorAdapter, load
from oocr_lib.models.language_model import SITES, Site
from oocr_lib.util.errors import UserError
from oocr_lib.util.files import load_tensors, save_tensors
from tests import tiny
from tests.adapter_cases import CASES, D, fingerprint, logits, outputs, stir

matrix = pytest.mark.parametrize(
    ("family", "case"), list(itertools.product(tiny.FAMILIES, CASES)), ids=str
)


# --- the matrix ---


@matrix
def test_a_fresh_adapter_changes_no_bit(family: str, case: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch()
    with torch.no_grad():
        before = logits(lm, batch)
    assert torch.equal(outputs(lm, CASES[case](), batch), before)


@matrix
def test_detaching_leaves_no_trace(family: str, case: str) -> None:
    lm, batch, adapter = tiny.language_model(family), tiny.batch(), CASES[case]()
    with torch.no_grad():
        before = logits(lm, batch)
    trace = fingerprint(lm.model)
    attached = adapter.attach(lm)
    attached.focus(batch)
    stir(adapter)
    changed = logits(lm, batch)
    changed.sum().backward()
    assert (changed - before).abs().max() > 1e-3
    attached.remove()
    attached.remove()
    assert fingerprint(lm.model) == trace
    with torch.no_grad():
        assert torch.equal(logits(lm, batch), before)


@matrix
def test_an_error_inside_leaves_no_trace_and_foreign_hooks_stay(family: str, case: str) -> None:
    lm, batch, adapter = tiny.language_model(family), tiny.batch(), CASES[case]()
    calls: list[str] = []
    foreign = [*(lm.module(Site(1, kind)) for kind in SITES), lm.decoder]
    foreign.append(lm.model.get_submodule(lm.down_projection(1)))
    for module in foreign:
        module.register_forward_hook(lambda *args: calls.append("before"))
    trace = fingerprint(lm.model)
    late = []
    with pytest.raises(RuntimeError, match="inside"), adapter.attach(lm) as attached:
        attached.focus(batch)
        logits(lm, batch)
        assert len(calls) == len(foreign)
        late = [m.register_forward_hook(lambda *args: calls.append("late")) for m in foreign]
        raise RuntimeError("inside")
    calls.clear()
    logits(lm, batch)
    assert sorted(calls) == ["before"] * len(foreign) + ["late"] * len(foreign)
    for handle in late:
        handle.remove()
    assert fingerprint(lm.model) == trace


@matrix
def test_gradients_reach_the_adapter_and_nothing_else(family: str, case: str) -> None:
    lm, batch, adapter = tiny.language_model(family), tiny.batch(), CASES[case]()
    with adapter.attach(lm) as attached:
        attached.focus(batch)
        stir(adapter)
        (logits(lm, batch) ** 2).mean().backward()
        assert all(
            weight.grad is None
            for weight in lm.model.parameters()
            if all(weight is not own for own in adapter.parameters())
        )
        for own in adapter.parameters():
            assert own.grad is not None and own.grad.abs().max() > 0


@matrix
def test_save_and_load_give_the_same_function(family: str, case: str, tmp_path: Path) -> None:
    lm, batch, adapter = tiny.language_model(family), tiny.batch(), CASES[case]()
    adapter.attach(lm).remove()
    stir(adapter)
    path = tmp_path / "adapter.safetensors"
    adapter.save(path, {"task": "locations"})
    again = load(path)
    assert type(again) is type(adapter) and again.config() == adapter.config()
    assert again.state().keys() == adapter.state().keys()
    assert all(torch.equal(again.state()[k], v) for k, v in adapter.state().items())
    assert torch.equal(outputs(lm, again, batch), outputs(lm, adapter, batch))
    assert load_tensors(path)[1]["task"] == "locations"
    assert [p.name for p in tmp_path.iterdir()] == ["adapter.safetensors"]


@matrix
def test_attaching_again_continues_with_the_same_parameters(family: str, case: str) -> None:
    lm, batch, adapter = tiny.language_model(family), tiny.batch(), CASES[case]()
    adapter.attach(lm).remove()
    own = list(adapter.parameters())
    optimizer = torch.optim.SGD(own, lr=0.05)
    target, losses = batch.input_ids.roll(-1, 1), []
    for _ in range(6):
        with adapter.attach(lm) as attached:
            attached.focus(batch)
            found = logits(lm, batch).transpose(1, 2)
            loss = torch.nn.functional.cross_entropy(found, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert all(a is b for a, b in zip(own, adapter.parameters(), strict=True))
    assert losses[-1] < losses[0]


@matrix
def test_the_global_generator_is_not_used(family: str, case: str) -> None:
    lm, batch = tiny.language_model(family), tiny.batch()
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        adapter = CASES[case]()
        outputs(lm, adapter, batch)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(adapter.state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize(
    "adapter",
    [
        VectorAdapter([Site(0, "resid"), Site(9, "mlp_out")], D, "last", [1.0, 1.0]),
        LoraAdapter([0, 9]),
        LoraAdapter([0], modules=("down", "gate"), rank=64),
    ],
    ids=["vector", "lora", "lora_late"],
)
def test_a_failing_set_up_leaves_no_trace(
    family: str, adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny.language_model(family)
    if isinstance(adapter, LoraAdapter) and adapter.blocks == (0,):  # fails after the injection

        def fail(shapes: Any) -> None:
            raise UserError("late")

        monkeypatch.setattr(adapter, "_give_shapes", fail)
    trace = fingerprint(lm.model)
    with pytest.raises(UserError) as info:
        adapter.attach(lm)
    assert "\n" not in str(info.value)
    assert fingerprint(lm.model) == trace


# --- files ---


def saved(case: str, tmp_path: Path) -> Path:
    adapter, path = CASES[case](), tmp_path / f"{case}.safetensors"
    adapter.attach(tiny.language_model()).remove()
    adapter.save(path)
    return path


@pytest.mark.parametrize("case", ["vector_resid", "lora_down"])
def test_damaged_and_foreign_adapter_files_are_refused(case: str, tmp_path: Path) -> None:
    path = saved(case, tmp_path)
    tensors, metadata = load_tensors(path)
    name = next(iter(tensors))
    edits: list[tuple[dict[str, Tensor], dict[str, Any], str]] = [
        ({**tensors, name: torch.zeros(5, 7)}, metadata, r"\(5, 7\)"),
        (tensors, {**metadata, "kind": "beft"}, "kind of adapter 'beft'"),
        (tensors, {"kind": metadata["kind"]}, "Allowed"),
        ({n: t.half() for n, t in tensors.items()}, metadata, r"as torch\.float16"),
        ({n: t.long() for n, t in tensors.items()}, metadata, r"as torch\.int64"),
        (tensors, {**metadata, "model": None}, "which model it belongs to"),
        (tensors, {**metadata, "config": {"surprise": 1}}, "builds no adapter"),
    ]
    for wrong, header, reason in edits:
        save_tensors(path, wrong, header)
        with pytest.raises(UserError, match=reason) as info:
            load(path)
        assert "\n" not in str(info.value)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="truncated"):
        load(path)
    with pytest.raises(UserError, match="holds 'lora'"):
        VectorAdapter.load(saved("lora_up_down", tmp_path))


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_of_another_model_of_the_same_shape_is_refused(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(case, tmp_path)
    own, other = tiny.language_model(), tiny.language_model(seed=1)
    assert own.d_model == other.d_model and own.digest != other.digest
    load(path).attach(own).remove()
    with pytest.raises(UserError, match=f"{own.digest[:12]}.*{other.digest[:12]}") as info:
        load(path).attach(other)
    assert "\n" not in str(info.value) and "any_model=True" in str(info.value)
    assert capsys.readouterr().out == ""
    moved = load(path, any_model=True)
    assert own.digest[:12] in capsys.readouterr().out, "what is ignored is said"
    moved.attach(other).remove()
    assert moved.model_digest == other.digest
    with pytest.raises(UserError, match="belongs to model"):
        moved.attach(own)


def test_an_adapter_without_a_model_is_not_saved(tmp_path: Path) -> None:
    vector = VectorAdapter(["resid@0"], tiny.D_MODEL, "last", [1.0])
    with pytest.raises(UserError, match="never attached"):
        vector.save(tmp_path / "v.safetensors")
    assert not list(tmp_path.iterdir())
    vector.save(tmp_path / "v.safetensors", lm=tiny.language_model())
    assert load(tmp_path / "v.safetensors").model_digest == tiny.language_model().digest
