"""The pieces of a decoder between its matrix products, in fewer passes over memory.

On a CPU, at the sizes of the testbed, about half of a step goes into norms, rotary positions and
activations that Hugging Face modules compute one operation at a time. Here each is one autograd
function with its own backward; the modules' weights, hooks and order stay theirs. Used in float32
on a CPU only, and only for models whose outputs it reproduces on a probe: all others run as they
are.

Axes: n rows, t tokens, h heads, e head width, d a norm's width, m MLP width.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Forward = Callable[..., Any]
#: gelu(x) = x * sigmoid(_OUTER * (x + _CUBE * x^3)), the tanh form written with a sigmoid, which
#: takes a fifth of the time of PyTorch's tanh on a CPU.
_OUTER, _CUBE = 1.5957691216057308, 0.044715
#: Largest difference on a probe, relative to the largest number, at which a model counts as
#: reproduced.
TOLERANCE = 1e-5


class RmsNorm(torch.autograd.Function):
    """y = x * r * w,  r = 1 / sqrt(mean(x^2) + eps);  x (..., d), w (d,) fixed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See the class."""
        r = _inverse_rms(x, eps)
        ctx.save_for_backward(x, r, weight)
        return (x * r).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """Give dx = r * (w dy - x r^2 mean(x w dy))."""
        x, r, weight = ctx.saved_tensors
        return _norm_backward(dy * weight, x, r), None, None


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """(..., 1) of x (..., d)."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()


def _norm_backward(g: Tensor, x: Tensor, r: Tensor) -> Tensor:
    """Give r * (g - x r^2 mean(x g)); writes into g."""
    inner = (g * x).sum(-1, keepdim=True).mul_(r.square()).mul_(-1 / x.shape[-1])
    return g.addcmul_(x, inner).mul_(r)


class Rotary(torch.autograd.Function):
    """y = x cos + rotate_half(x) sin;  x (n, t, h, e), cos and sin (n or 1, t, 1, e)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See the class."""
        ctx.save_for_backward(cos, sin)
        half = x.shape[-1] // 2
        y = x * cos
        y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
        y[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """The transposed map: the halves of dy sin go back with the other sign."""
        cos, sin = ctx.saved_tensors
        half = dy.shape[-1] // 2
        dx = dy * cos
        dx[..., :half].addcmul_(dy[..., half:], sin[..., half:])
        dx[..., half:].addcmul_(dy[..., :half], sin[..., :half], value=-1)
        return dx, None, None


def _times(ctx: Any, gate: Tensor, up: Tensor, s: Tensor) -> Tensor:
    """Give gate * s * up, in the memory of s where no backward will ask for it."""
    if not any(ctx.needs_input_grad):
        return s.mul_(gate).mul_(up)
    ctx.save_for_backward(gate, up, s)
    return (gate * s).mul_(up)


class GeluTimes(torch.autograd.Function):
    """z = gelu(gate) * up, gelu in its tanh form;  gate, up (n, t, m)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """See the class."""
        s = gate * gate
        torch.addcmul(gate, s, gate, value=_CUBE, out=s)
        return _times(ctx, gate, up, s.mul_(_OUTER).sigmoid_())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor, Tensor]:
        """By d gelu = s + gate s (1 - s) _OUTER (1 + 3 _CUBE gate^2),  s the sigmoid."""
        gate, up, s = ctx.saved_tensors
        inner = (gate * gate).mul_(3 * _CUBE * _OUTER).add_(_OUTER)
        a = gate * s
        inner.mul_(torch.addcmul(a, a, s, value=-1)).add_(s)
        return inner.mul_(up).mul_(dz), a.mul_(dz)


class SiluTimes(torch.autograd.Function):
    """z = silu(gate) * up;  gate, up (n, t, m)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """See the class."""
        return _times(ctx, gate, up, torch.sigmoid(gate))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor, Tensor]:
        """By d silu = s + gate s (1 - s),  s the sigmoid."""
        gate, up, s = ctx.saved_tensors
        a = gate * s
        return torch.addcmul(a, a, s, value=-1).add_(s).mul_(up).mul_(dz), a.mul_(dz)


_ACTIVATIONS: tuple[tuple[Callable[[Tensor], Tensor], Any], ...] = (
    (lambda x: F.gelu(x, approximate="tanh"), GeluTimes),
    (F.silu, SiluTimes),
)


def _norm(module: Any) -> Forward | None:
    """The forward of a root-mean-square norm: its weight is w, or 1 + w as in Gemma."""
    eps = getattr(module, "eps", getattr(module, "variance_epsilon", None))
    if not type(module).__name__.endswith("RMSNorm") or eps is None:
        return None
    x = torch.linspace(-1, 2, len(module.weight)).expand(1, 1, -1)
    own = module(x)
    if torch.allclose(own, RmsNorm.apply(x, module.weight, eps), rtol=1e-5, atol=1e-6):
        return lambda x: RmsNorm.apply(x, module.weight, eps)
    if torch.allclose(own, RmsNorm.apply(x, module.weight + 1, eps), rtol=1e-5, atol=1e-6):
        return lambda x: RmsNorm.apply(x, module.weight + 1, eps)
    return None


def _mlp(module: Any) -> Forward | None:
    """The forward of an MLP down(act(gate) * up)."""
    parts = dict(module.named_children())
    if set(parts) != {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        return None
    x = torch.linspace(-4, 4, 64)
    for act, times in _ACTIVATIONS:
        if torch.allclose(parts["act_fn"](x), act(x), rtol=1e-5, atol=1e-6):
            return partial(_glu, module, times)
    return None


def _glu(module: Any, times: Any, x: Tensor) -> Tensor:
    # Maps are looked up when they run: a LoRA may stand in their place.
    return module.down_proj(times.apply(module.gate_proj(x), module.up_proj(x)))


def _attention(module: Any) -> Forward | None:
    """The forward of rotary attention with one key/value cache and PyTorch's own kernel."""
    wanted = ("q_proj", "k_proj", "v_proj", "o_proj", "head_dim", "layer_idx", "scaling", "config")
    if not all(hasattr(module, name) for name in wanted):
        return None
    capped = getattr(module, "attn_logit_softcapping", None) is not None
    if capped or module.config._attn_implementation != "sdpa":
        return None
    attend: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]
    whole = module.forward

    def forward(
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **rest: Any,
    ) -> tuple[Tensor, Any]:
        if module.config._attn_implementation != "sdpa":  # switched since
            rest |= {"position_embeddings": position_embeddings, "attention_mask": attention_mask}
            return whole(hidden_states, past_key_values=past_key_values, **rest)
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
        made, weights = attend(
            module, q, k, v, attention_mask, scaling=module.scaling, sliding_window=window, **rest
        )
        return module.o_proj(made.reshape(*shape[:2], -1)), weights

    return forward


Pieces = list[tuple[nn.Module, Forward]]
_FOUND: weakref.WeakKeyDictionary[nn.Module, Pieces] = weakref.WeakKeyDictionary()


def pieces(model: Any) -> Pieces:
    """What ``find_pieces`` found in a Hugging Face model: modules and what they run instead."""
    return _FOUND.get(model, []) if _fits(model) else []


def find_pieces(model: Any) -> None:
    """Find and check them, once a model and before anything is attached to it."""
    if _fits(model):
        with torch.no_grad():
            _FOUND[model] = _checked(model)


def _fits(model: Any) -> bool:
    weight = model.get_input_embeddings().weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def _checked(model: Any) -> Pieces:
    decoder, made = model.get_decoder(), Pieces()
    for module in decoder.modules():
        forward = _norm(module) or _mlp(module) or _attention(module)
        if forward is not None:
            made.append((module, forward))
    ids = torch.arange(8, 20)[None] % len(model.get_input_embeddings().weight)
    plain = decoder(input_ids=ids, use_cache=False)[0]
    with _running(made):
        ours = decoder(input_ids=ids, use_cache=False)[0]
    same = torch.allclose(plain, ours, rtol=0, atol=TOLERANCE * float(plain.abs().max()))
    return made if same else []


@contextmanager
def _running(made: Pieces) -> Iterator[None]:
    taken = [(vars(module), vars(module).get("forward"), forward) for module, forward in made]
    try:
        for own, _, forward in taken:
            own["forward"] = forward
        yield
    finally:
        for own, before, _ in taken:
            if before is None:
                own.pop("forward", None)
            else:
                own["forward"] = before


@contextmanager
def fused(model: Any) -> Iterator[None]:
    """Within the block the model runs its ``pieces``; same numbers up to rounding."""
    with _running(pieces(model)):
        yield
