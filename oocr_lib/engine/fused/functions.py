"""Norms, rotary positions and gated activations, forward and backward, in few passes.

Axes: n rows, t tokens, h heads, e head width, d a norm's width, m MLP width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def inverse_rms(x: Tensor, eps: Tensor) -> Tensor:
    """1 / sqrt(mean(x^2) + eps), (..., 1) for x (..., d); eps is a tensor of one number."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    # One call: with few tokens the number of calls decides the time.
    return torch.addcmul(eps, norm, norm, value=1 / x.shape[-1]).rsqrt_()


def norm_backward(g: Tensor, x: Tensor, r: Tensor) -> Tensor:
    """Gradient at x, given gradient g at x * r: r (g - x r^2 mean(x g)). Writes into g."""
    inner = (g * x).sum(-1, keepdim=True).mul_(r).mul_(r)
    return g.addcmul_(x, inner, value=-1 / x.shape[-1]).mul_(r)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x: x cos + rotate_half(x) sin;  x (n, t, h, e), cos and sin (n or 1, t, 1, e)."""
    half = x.shape[-1] // 2
    y = x * cos
    y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    y[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return y


def rotated_back(dy: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The transposed map of ``rotated``."""
    half = dy.shape[-1] // 2
    dx = dy * cos
    dx[..., :half].addcmul_(dy[..., half:], sin[..., half:])
    dx[..., half:].addcmul_(dy[..., :half], sin[..., :half], value=-1)
    return dx


class Norm:
    """A root-mean-square norm x r (weight + offset); Gemma's offset is 1.

    Args:
        module: holds ``weight`` (d,).
    """

    def __init__(self, module: Any, eps: float, offset: float) -> None:
        self.module, self.offset, self.eps = module, offset, torch.tensor([eps])

    @property
    def weight(self) -> Tensor:
        """The module's current weight (d,), with the offset."""
        weight: Tensor = self.module.weight
        return weight + self.offset if self.offset else weight

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The norm of x, and r for the backward pass."""
        r = inverse_rms(x, self.eps)
        return (x * r).mul_(self.weight), r

    def back(self, dy: Tensor, x: Tensor, r: Tensor) -> Tensor:
        """Gradient at x."""
        return norm_backward(dy * self.weight, x, r)


class Gelu:
    """act(gate) = gate * sigmoid(2 c (gate + k gate^3)): gelu's tanh form, with a sigmoid.

    PyTorch's tanh takes five times as long on a CPU.
    """

    OUTER, CUBE = 1.5957691216057308, 0.044715

    @classmethod
    def sigmoid(cls, gate: Tensor) -> Tensor:
        """The factor of the gate, s."""
        s = gate * gate
        torch.addcmul(gate, s, gate, value=cls.CUBE, out=s)
        return s.mul_(cls.OUTER).sigmoid_()

    @classmethod
    def back(cls, dz: Tensor, gate: Tensor, up: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients at gate and up, given dz at z = gate s up."""
        inner = (gate * gate).mul_(3 * cls.CUBE * cls.OUTER).add_(cls.OUTER)
        a = gate * s
        inner.mul_(torch.addcmul(a, a, s, value=-1)).add_(s)
        return inner.mul_(up).mul_(dz), a.mul_(dz)


class Silu:
    """act(gate) = gate * sigmoid(gate)."""

    @staticmethod
    def sigmoid(gate: Tensor) -> Tensor:
        """The factor of the gate, s."""
        return torch.sigmoid(gate)

    @staticmethod
    def back(dz: Tensor, gate: Tensor, up: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients at gate and up, given dz at z = gate s up."""
        a = gate * s
        return torch.addcmul(a, a, s, value=-1).add_(s).mul_(up).mul_(dz), a.mul_(dz)


class RmsNorm(torch.autograd.Function):
    """y = x * r * w,  r = 1 / sqrt(mean(x^2) + eps);  x (..., d), w (d,) fixed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: Tensor) -> Tensor:
        """See the class."""
        r = inverse_rms(x, eps)
        ctx.save_for_backward(x, r, weight)
        return (x * r).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """Gradient dx = r * (w dy - x r^2 mean(x w dy))."""
        x, r, weight = ctx.saved_tensors
        return norm_backward(dy * weight, x, r), None, None


class Rotary(torch.autograd.Function):
    """y = x cos + rotate_half(x) sin;  x (n, t, h, e), cos and sin (n or 1, t, 1, e)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See the class."""
        ctx.save_for_backward(cos, sin)
        return rotated(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        """The transposed map."""
        return rotated_back(dy, *ctx.saved_tensors), None, None


class Gated(torch.autograd.Function):
    """z = act(gate) * up;  gate, up (n, t, m), act is ``Gelu`` or ``Silu``."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, act: Any) -> Tensor:
        """See the class."""
        s = act.sigmoid(gate)
        if not any(ctx.needs_input_grad):
            return s.mul_(gate).mul_(up)
        ctx.act = act
        ctx.save_for_backward(gate, up, s)
        return (gate * s).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor, Tensor, None]:
        """See ``act.back``."""
        return *ctx.act.back(dz, *ctx.saved_tensors), None
