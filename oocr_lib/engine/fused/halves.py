"""The two halves of a block, attention and MLP, each as one autograd function.

A step that runs few tokens is bound by the number of calls, not by arithmetic. Here a half is some
twenty operations with a hand-written backward and no graph between them. Weights are those of the
Hugging Face modules. A half whose modules carry hooks (adapters, recordings) or have been replaced
is run module by module, so everything attached takes effect.

Axes: n rows, t tokens that are run, T tokens that are attended to, d model width, h heads, k
key/value heads, g = h / k, e head width, m MLP width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from oocr_lib.engine.fused.functions import Gelu, Norm, Silu, inverse_rms, rotated, rotated_back
from oocr_lib.models.sites import output_tensor

Forward = Callable[..., Any]


@dataclass(frozen=True)
class Half:
    """One half of a block: out = x + after(inner(before(x))); in Llama, after is the identity.

    Attributes:
        module: its attention or MLP.
        norms: norms of queries and keys, if there are any.
        act: activation of an MLP.
    """

    module: Any
    before: Norm
    after: Norm | None
    norms: tuple[Norm, Norm] | None = None
    act: type[Gelu] | type[Silu] = Gelu

    @cached_property
    def children(self) -> dict[str, Any]:
        """The module's children, as they were when this was first asked for."""
        return dict(self.module._modules)

    @cached_property
    def modules(self) -> list[Any]:
        """All modules whose work this half does."""
        norms = [norm.module for norm in (self.before, self.after) if norm is not None]
        return [self.module, *self.children.values(), *norms]

    def out(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """The half's output x + after(y), and r of the norm ``after``."""
        if self.after is None:
            return x + y, None
        r = inverse_rms(y, self.after.eps)
        return torch.addcmul(x, y * r, self.after.weight), r

    def out_back(self, dy: Tensor, y: Tensor | None, r: Tensor | None) -> Tensor:
        """Gradient at y."""
        return dy if self.after is None else self.after.back(dy, _present(y), _present(r))


def _present(x: Tensor | None) -> Tensor:
    assert x is not None
    return x


def _linear_back(dy: Tensor, module: Any) -> Tensor:
    return dy @ module.weight


class AttentionHalf(torch.autograd.Function):
    """out = x + after(o(softmax(scaling q k + mask) v)), with q, k, v from before(x).

    ``cache`` takes the keys and values of this pass and returns all (n, k, T, e); without it, only
    those of this pass are used.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, half: Half, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: Any
    ) -> Tensor:
        """See the class; ``mask`` is additive (n or 1, 1, t, T), None: causal."""
        module, (n, t, _) = half.module, x.shape
        a, r = half.before.run(x)
        maps = (module.q_proj, module.k_proj, module.v_proj)
        q, k, v = (F.linear(a, p.weight, p.bias).view(n, t, -1, module.head_dim) for p in maps)
        normed, scales = (q, k), (None, None)
        if half.norms is not None:
            outputs = [norm.run(part) for norm, part in zip(half.norms, (q, k), strict=True)]
            normed, scales = zip(*outputs, strict=True)
        turned, keys = (rotated(part, cos, sin).transpose(1, 2) for part in normed)
        values = v.transpose(1, 2)
        if cache is not None:
            keys, values = cache.update(keys, values, module.layer_idx)
        heads, total = keys.shape[1], keys.shape[2]
        # Heads that share keys and values are stacked, as rows of one matrix product.
        queries = turned.reshape(n * heads, -1, module.head_dim)
        keys, values = (s.reshape(n * heads, total, module.head_dim) for s in (keys, values))
        p = _weights(queries, keys, module.scaling, mask, n, t)
        o = torch.bmm(p, values).view(n, -1, t, module.head_dim).transpose(1, 2).reshape(n, t, -1)
        y = F.linear(o, module.o_proj.weight, module.o_proj.bias)
        out, last = half.out(x, y)
        if ctx.needs_input_grad[0]:
            ctx.half = half
            saved = (x, r, q, k, *scales, cos, sin, queries, keys, values, p)
            ctx.save_for_backward(*saved, None if last is None else y, last)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Any, ...]:
        """Gradient at x: of the tokens that are run, not of those from the cache."""
        half, module = ctx.half, ctx.half.module
        x, r, q, k, r_q, r_k, cos, sin, queries, keys, values, p, y, last = ctx.saved_tensors
        (n, t, _), e, total = x.shape, module.head_dim, keys.shape[1]
        dy = half.out_back(d_out, y, last)
        d_o = _linear_back(dy, module.o_proj).view(n, t, -1, e).transpose(1, 2).reshape_as(queries)
        d_p = torch.bmm(d_o, values.transpose(1, 2)).mul_(p)
        d_s, scaling = d_p.addcmul_(p, d_p.sum(-1, keepdim=True), value=-1), module.scaling
        current = slice(total - t, total)
        d_q = _product(d_s, keys, scaling).view(n, -1, t, e).transpose(1, 2)
        d_k = _product(d_s[:, :, current].transpose(1, 2), queries, scaling)
        d_k = d_k.view(n, -1, t, e).transpose(1, 2)
        d_v = torch.bmm(p[:, :, current].transpose(1, 2), d_o).view(n, -1, t, e).transpose(1, 2)
        d_q, d_k = (rotated_back(part, cos, sin) for part in (d_q, d_k))
        if half.norms is not None:
            d_q, d_k = half.norms[0].back(d_q, q, r_q), half.norms[1].back(d_k, k, r_k)
        d_a = _linear_back(d_q.reshape(n, t, -1), module.q_proj)
        d_a += _linear_back(d_k.reshape(n, t, -1), module.k_proj)
        d_a += _linear_back(d_v.reshape(n, t, -1), module.v_proj)
        return half.before.back(d_a, x, r).add_(d_out), None, None, None, None, None


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """The product scale * a b of a (m, i, j) and b (m, j, k), in one call."""
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b, beta=0, alpha=scale)


def _weights(
    queries: Tensor, keys: Tensor, scaling: float, mask: Tensor | None, n: int, t: int
) -> Tensor:
    """Attention weights (n k, g t, T)."""
    scores = _product(queries, keys.transpose(1, 2), scaling)
    total = keys.shape[1]
    if mask is None and t > 1:
        least = torch.finfo(scores.dtype).min
        mask = torch.full((t, total), least, device=scores.device).triu_(1 + total - t)[None, None]
    if mask is not None:
        scores.view(n, -1, t, total).add_(mask)
    return torch.softmax(scores, -1)


class MlpHalf(torch.autograd.Function):
    """out = x + after(down(act(gate(b)) * up(b))), b = before(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, half: Half) -> Tensor:
        """See the class."""
        module = half.module
        b, r = half.before.run(x)
        gate = F.linear(b, module.gate_proj.weight, module.gate_proj.bias)
        up = F.linear(b, module.up_proj.weight, module.up_proj.bias)
        s = half.act.sigmoid(gate)
        needed = ctx.needs_input_grad[0]
        z = (gate * s).mul_(up) if needed else s.mul_(gate).mul_(up)
        y = F.linear(z, module.down_proj.weight, module.down_proj.bias)
        out, last = half.out(x, y)
        if needed:
            ctx.half = half
            ctx.save_for_backward(x, r, gate, up, s, None if last is None else y, last)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None]:
        """Through down, the activation, gate and up, and the norms."""
        half, module = ctx.half, ctx.half.module
        x, r, gate, up, s, y, last = ctx.saved_tensors
        d_z = _linear_back(half.out_back(d_out, y, last), module.down_proj)
        d_gate, d_up = half.act.back(d_z, gate, up, s)
        d_b = _linear_back(d_gate, module.gate_proj)
        d_b += _linear_back(d_up, module.up_proj)
        return half.before.back(d_b, x, r).add_(d_out), None


def plain(half: Half, forwards: Mapping[Any, Forward]) -> bool:
    """Whether nothing is attached to a half and each module runs its own forward, or ours."""
    if half.module._modules != half.children:  # a map has been replaced
        return False
    return not any(
        module._forward_hooks
        or module._forward_pre_hooks
        or vars(module).get("forward") is not forwards.get(module)
        for module in half.modules
    )


def modular(half: Half, x: Tensor, **rest: Any) -> Tensor:
    """Run a half module by module."""
    y = output_tensor(half.module(half.before.module(x), **rest))
    return x + (y if half.after is None else half.after.module(y))


def block_forward(attention: Half, mlp: Half, forwards: Mapping[Any, Forward]) -> Forward:
    """A block's forward that runs each half as one function where it is plain.

    Args:
        forwards: what modules of the block run instead of their own forward.
    """
    # Look the modules up now, before anything is attached.
    assert attention.modules and mlp.modules

    def forward(hidden_states: Tensor, **rest: Any) -> Any:
        x, mask = hidden_states, rest.get("attention_mask")
        supported = mask is None or mask.dtype == x.dtype
        supported = supported and attention.module.config._attn_implementation == "sdpa"
        if supported and plain(attention, forwards):
            cos, sin = (part[:, :, None] for part in rest["position_embeddings"])
            x = AttentionHalf.apply(x, attention, cos, sin, mask, rest.get("past_key_values"))
        else:
            x = modular(attention, x, **rest)
        return MlpHalf.apply(x, mlp) if plain(mlp, forwards) else modular(mlp, x)

    return forward
