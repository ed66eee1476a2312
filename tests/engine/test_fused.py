"""Fused pieces compute what the Hugging Face modules compute, forwards and backwards."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from oocr_lib.adapters import LoraAdapter, VectorAdapter
from oocr_lib.engine.answer_logits import answer_logits
from oocr_lib.engine.fused import find_pieces, fused, pieces, speed_up
from oocr_lib.engine.fused.functions import Gated, Gelu, RmsNorm, Rotary, Silu
from oocr_lib.engine.shortened import Shortened
from oocr_lib.models.language_model import LanguageModel, Site
from tests import tiny
from tests.adapter_cases import fingerprint

#: Module kinds of each family that are replaced: blocks, norms, MLPs, attentions.
EXPECTED = {
    "gemma3": {"Gemma3DecoderLayer": 3, "Gemma3RMSNorm": 19, "Gemma3MLP": 3, "Gemma3Attention": 3},
    "gemma2": {"Gemma2RMSNorm": 13, "Gemma2MLP": 3},  # its attention caps logits
    "llama": {"LlamaDecoderLayer": 3, "LlamaRMSNorm": 7, "LlamaMLP": 3, "LlamaAttention": 3},
    "qwen3": {"Qwen3DecoderLayer": 3, "Qwen3RMSNorm": 13, "Qwen3MLP": 3, "Qwen3Attention": 3},
    "gpt2": {},  # layer norms and one map for queries, keys and values: runs as it is
}


def model(family: str) -> LanguageModel:
    """A model whose pieces were looked for."""
    lm = tiny.language_model(family)
    speed_up(lm)
    return lm


def ends(lm: LanguageModel, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Last hidden states of random rows, and the gradient of a function of them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(6, tiny.VOCAB, (3, 9), generator=generator)
    embedded = lm.model.get_input_embeddings()(ids).detach().requires_grad_(True)
    out = lm.decoder(inputs_embeds=embedded, use_cache=False)[0]
    (out * torch.randn(out.shape, generator=generator)).sum().backward()
    assert embedded.grad is not None
    return out.detach(), embedded.grad


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_forward_and_gradient_are_those_of_the_model(family: str) -> None:
    lm = model(family)
    found = Counter(type(module).__name__ for module in pieces(lm.model))
    assert found == EXPECTED[family.removesuffix("_sliding")]
    plain = ends(lm)
    with fused(lm.model):
        ours = ends(lm)
    for a, b in zip(plain, ours, strict=True):
        assert torch.allclose(a, b, atol=1e-5 * float(a.abs().max()))
    assert bool(found) != torch.equal(plain[1], ours[1]), "other operations round differently"


@pytest.mark.parametrize("adapter", ["vector", "lora", "all maps", "marked"])
@pytest.mark.parametrize("family", ["gemma3", "llama", "qwen3", "gemma2"])
def test_adapters_work_within(family: str, adapter: str) -> None:
    """Hooks of vectors and peft's wrappers are run, at every map of the MLP.

    Float64 is the reference: fused pieces may not be farther from it than the model's own modules,
    or than 1e-5 of the largest number (PyTorch's gelu cancels digits where ours does not).
    """
    lm, batch = model(family), Shortened(**vars(tiny.batch()))
    made: Any = {
        "vector": lambda: VectorAdapter([Site(1, "mlp_out")], tiny.D_MODEL, "all", [3.0], init=1.0),
        "lora": lambda: LoraAdapter([1], rank=2),
        "marked": lambda: LoraAdapter([2], rank=2, position="codename"),
        "all maps": lambda: LoraAdapter("all", rank=2, modules=("gate", "up", "down")),
    }[adapter]()

    def both() -> list[Tensor]:
        """Last hidden states, and logits with the last MLP on some tokens only."""
        hidden = lm.decoder(input_ids=batch.input_ids, use_cache=False)[0]
        return [hidden, answer_logits(lm, batch)[2]]

    with torch.no_grad():
        bare = both()
    with torch.no_grad(), made.attach(lm) as attached:
        for weight in made.parameters():
            weight.add_(0.3)
        attached.focus(batch)
        with fused(lm.model):
            ours = both()
        with mock.patch("oocr_lib.engine.fused.finding.pieces", lambda model: {}):
            plain = both()
        lm.model.double()
        for weight in made.parameters():
            weight.data = weight.data.double()
        exact = both()
    for x, own, true in zip(ours, plain, exact, strict=True):
        error, allowed = (float((y - true).abs().max()) for y in (x, own))
        assert error <= max(allowed, 1e-5 * float(true.abs().max()))
    assert not torch.allclose(exact[0].float(), bare[0], atol=1e-2), "the adapter does something"


def test_the_model_is_left_as_it_was_also_after_an_error() -> None:
    lm = model("gemma3")
    before = fingerprint(lm.model)
    with pytest.raises(RuntimeError, match="stop"), fused(lm.model):
        assert fingerprint(lm.model) != before
        raise RuntimeError("stop")
    assert fingerprint(lm.model) == before


def test_other_types_run_as_they_are() -> None:
    lm = model("gemma3")
    assert pieces(lm.model)
    lm.model.to(torch.bfloat16)
    assert not pieces(lm.model)


def test_a_model_that_is_not_reproduced_runs_as_it_is() -> None:
    """A module that looks like the known one and does something else."""
    lm = model("llama")
    attention: Any = lm.module(Site(1, "attn_out"))

    class Odd(type(attention)):  # type: ignore[misc]
        def forward(self, *args: Any, **more: Any) -> Any:
            made, weights = super().forward(*args, **more)
            return made * 1.01, weights

    attention.__class__ = Odd
    find_pieces(lm.model)
    assert not pieces(lm.model)


def test_what_stands_in_a_modules_place_stays_there() -> None:
    lm, ids = model("llama"), torch.arange(8, 16)[None]
    attention: Any = lm.module(Site(1, "attn_out"))
    whole = attention.forward
    for put in (False, True):
        if put:
            attention.forward = lambda *args, **more: (whole(*args, **more)[0] * 1.5, None)
        plain = lm.decoder(input_ids=ids, use_cache=False)[0]
        with fused(lm.model):
            ours = lm.decoder(input_ids=ids, use_cache=False)[0]
        assert torch.allclose(plain, ours, atol=1e-5)
    del attention.forward
    assert not torch.allclose(plain, lm.decoder(input_ids=ids, use_cache=False)[0], atol=1e-3)


def test_an_unknown_activation_or_norm_is_left_alone() -> None:
    lm = model("llama")
    for i in range(lm.n_blocks):
        mlp: Any = lm.module(Site(i, "mlp_out"))
        mlp.act_fn = nn.Tanh()
        norm: Any = lm.block(i).input_layernorm
        norm.forward = lambda x: x * 2
    find_pieces(lm.model)
    kinds = Counter(type(module).__name__ for module in pieces(lm.model))
    assert kinds == {"LlamaRMSNorm": 4, "LlamaAttention": 3}


# --- the functions against plain formulas, on inputs of many sizes ---

SIZES = st.floats(-3, 3).map(lambda power: 10.0**power)


def compared(ours: Any, plain: Any, *inputs: Tensor) -> None:
    """Values and gradients of two functions of the same inputs agree."""
    found = []
    for function in (ours, plain):
        leaves = [x.detach().clone().requires_grad_(True) for x in inputs]
        y = function(*leaves)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        found.append([y.detach(), *(leaf.grad for leaf in leaves)])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=2e-5 * float(b.abs().max()) + 1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), size=SIZES, d=st.integers(2, 40))
def test_norms(seed: int, size: float, d: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = size * torch.randn(2, 3, d, generator=generator)
    w = torch.randn(d, generator=generator)
    compared(
        lambda x: RmsNorm.apply(x, w, torch.tensor([1e-6])),
        lambda x: F.rms_norm(x, (d,), w, 1e-6),
        x,
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), size=st.floats(0.01, 30))
def test_gated_activations(seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    gate, up = (size * torch.randn(2, 3, 7, generator=generator) for _ in range(2))
    compared(
        lambda g, u: Gated.apply(g, u, Gelu),
        lambda g, u: F.gelu(g, approximate="tanh") * u,
        gate,
        up,
    )
    compared(lambda g, u: Gated.apply(g, u, Silu), lambda g, u: F.silu(g) * u, gate, up)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), rows=st.booleans())
def test_rotary_positions(seed: int, rows: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 5, 3, 8, generator=generator)
    # Any cos and sin: nothing relies on their two halves being equal.
    cos, sin = (torch.randn(2 if rows else 1, 5, 1, 8, generator=generator) for _ in range(2))
    compared(
        lambda x: Rotary.apply(x, cos, sin),
        lambda x: x * cos + torch.cat([-x[..., 4:], x[..., :4]], -1) * sin,
        x,
    )
