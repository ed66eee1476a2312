"""Which modules of a model can run fused, and whether they then still compute the same."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from oocr_lib.engine.fused.functions import Gated, Gelu, Norm, RmsNorm, Rotary, Silu
from oocr_lib.engine.fused.halves import Forward, Half, block_forward
from oocr_lib.models.language_model import LanguageModel

#: Largest difference on a probe, relative to the largest number, at which a model counts as
#: reproduced.
TOLERANCE = 1e-5


_ACTIVATIONS: tuple[tuple[Callable[[Tensor], Tensor], Any], ...] = (
    (lambda x: F.gelu(x, approximate="tanh"), Gelu),
    (F.silu, Silu),
)


def find_norm(module: Any) -> Norm | None:
    """A root-mean-square norm with weight w, or 1 + w as in Gemma; None for other modules."""
    eps = getattr(module, "eps", getattr(module, "variance_epsilon", None))
    if not type(module).__name__.endswith("RMSNorm") or eps is None:
        return None
    x = torch.linspace(-1, 2, len(module.weight)).expand(1, 1, -1)
    expected = module(x)
    for norm in (Norm(module, eps, 0.0), Norm(module, eps, 1.0)):
        if torch.allclose(expected, norm.run(x)[0], rtol=1e-5, atol=1e-6):
            return norm
    return None


def find_activation(module: Any) -> Any:
    """``Gelu`` or ``Silu`` of an MLP down(act(gate) * up); None for any other module."""
    children = dict(module.named_children())
    if set(children) != {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        return None
    x = torch.linspace(-4, 4, 64)
    same = (
        act
        for function, act in _ACTIVATIONS
        if torch.allclose(children["act_fn"](x), function(x), rtol=1e-5, atol=1e-6)
    )
    return next(same, None)


def _norm(norm: Norm, x: Tensor) -> Any:
    return RmsNorm.apply(x, norm.weight, norm.eps)


def _glu(module: Any, act: Any, x: Tensor) -> Any:
    # Maps are looked up when they run: a LoRA may stand in their place.
    return module.down_proj(Gated.apply(module.gate_proj(x), module.up_proj(x), act))


def _attention(module: Any) -> Forward | None:
    """The forward of rotary attention with one key/value cache and PyTorch's own kernel."""
    needed = ("q_proj", "k_proj", "v_proj", "o_proj", "head_dim", "layer_idx", "scaling", "config")
    if not all(hasattr(module, name) for name in needed):
        return None
    capped = getattr(module, "attn_logit_softcapping", None) is not None
    if capped or module.config._attn_implementation != "sdpa":
        return None
    attend: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]
    original = module.forward

    def forward(
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **rest: Any,
    ) -> tuple[Tensor, Any]:
        if module.config._attn_implementation != "sdpa":  # switched since
            rest |= {"position_embeddings": position_embeddings, "attention_mask": attention_mask}
            return original(hidden_states, past_key_values=past_key_values, **rest)
        shape = (*hidden_states.shape[:-1], -1, module.head_dim)
        cos, sin = (part[:, :, None] for part in position_embeddings)
        maps = (module.q_proj, module.k_proj, module.v_proj)
        q, k, v = (part(hidden_states).view(shape) for part in maps)
        if hasattr(module, "q_norm"):
            q, k = module.q_norm(q), module.k_norm(k)
        q, k = (Rotary.apply(x, cos, sin).transpose(1, 2) for x in (q, k))
        v = v.transpose(1, 2)
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, module.layer_idx)
        window = getattr(module, "sliding_window", None)
        mixed, weights = attend(
            module, q, k, v, attention_mask, scaling=module.scaling, sliding_window=window, **rest
        )
        return module.o_proj(mixed.reshape(*shape[:2], -1)), weights

    return forward


Pieces = dict[Any, Forward]
_FOUND: weakref.WeakKeyDictionary[Any, Pieces] = weakref.WeakKeyDictionary()


def pieces(model: Any) -> Pieces:
    """What ``find_pieces`` found in a Hugging Face model: modules, and what they run instead."""
    forwards = _FOUND.get(model)
    return forwards if forwards and _fits(model) else {}


def find_pieces(model: Any) -> None:
    """Find and check the pieces: once per model, before anything is attached to it."""
    if _fits(model):
        with torch.no_grad():
            _FOUND[model] = _checked(model)


def speed_up(lm: LanguageModel) -> None:
    """Let ``lm.running()`` run the model's pieces from now on; calling it again does nothing.

    It also does nothing while an adapter is attached, whose hooks would see the probe.
    """
    if lm.attached or any(isinstance(context, _Fused) for context in lm.around):
        return
    find_pieces(lm.model)
    lm.around.append(_Fused(lm.model))


class _Fused:
    """``fused`` for one model, held weakly so that no reference cycle keeps the model alive."""

    def __init__(self, model: Any) -> None:
        self._model = weakref.ref(model)

    def __call__(self) -> AbstractContextManager[None]:
        return fused(self._model())


def _fits(model: Any) -> bool:
    weight = model.get_input_embeddings().weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def _checked(model: Any) -> Pieces:
    decoder, forwards = model.get_decoder(), Pieces()
    norms = {m: norm for m in decoder.modules() if (norm := find_norm(m)) is not None}
    acts = {m: act for m in decoder.modules() if (act := find_activation(m)) is not None}
    forwards |= {m: partial(_norm, norm) for m, norm in norms.items()}
    forwards |= {m: partial(_glu, m, act) for m, act in acts.items()}
    attentions = {m: run for m in decoder.modules() if (run := _attention(m)) is not None}
    forwards |= attentions
    ids = torch.arange(8, 20)[None] % len(model.get_input_embeddings().weight)
    plain = decoder(input_ids=ids, use_cache=False)[0]
    blocks = {
        m: block_forward(*halves, forwards)
        for m in decoder.modules()
        if (halves := _halves(m, norms, acts, attentions)) is not None
    }
    # With whole blocks if these are right, else without them, else nothing.
    for candidate in (forwards | blocks, forwards):
        with _running(candidate):
            ours = decoder(input_ids=ids, use_cache=False)[0]
        if torch.allclose(plain, ours, rtol=0, atol=TOLERANCE * float(plain.abs().max())):
            return candidate
    return {}


#: Norms of a block in order: before and after attention, before and after the MLP; None: no norm.
_WITHOUT = ("input_layernorm", None, "post_attention_layernorm", None)
_SANDWICH = (
    *("input_layernorm", "post_attention_layernorm"),
    *("pre_feedforward_layernorm", "post_feedforward_layernorm"),
)


def _halves(
    block: Any, norms: dict[Any, Norm], acts: dict[Any, Any], attentions: dict[Any, Forward]
) -> tuple[Half, Half] | None:
    """The two halves of a block of known structure; None for other modules."""
    children = dict(block.named_children())
    attention, mlp = children.get("self_attn"), children.get("mlp")
    for names in (_SANDWICH, _WITHOUT):
        if set(children) != {"self_attn", "mlp", *(name for name in names if name)}:
            continue
        if attention not in attentions or mlp not in acts:
            continue
        outer = [norms.get(children[name]) if name else None for name in names]
        inner = [norms.get(getattr(attention, name, None)) for name in ("q_norm", "k_norm")]
        if outer[0] is None or outer[2] is None or hasattr(attention, "q_norm") != all(inner):
            return None
        both = (inner[0], inner[1]) if inner[0] and inner[1] else None
        return (
            Half(attention, outer[0], outer[1], norms=both),
            Half(mlp, outer[2], outer[3], act=acts[mlp]),
        )
    return None


@contextmanager
def _running(forwards: Pieces) -> Iterator[None]:
    # A module whose forward has been replaced already keeps it.
    free = [(m.__dict__, forward) for m, forward in forwards.items() if "forward" not in m.__dict__]
    try:
        for attributes, forward in free:
            attributes["forward"] = forward
        yield
    finally:
        for attributes, _ in free:
            del attributes["forward"]


@contextmanager
def fused(model: Any) -> Iterator[None]:
    """Within the block the model runs its ``pieces``, with the same numbers up to rounding."""
    with _running(pieces(model)):
        yield
