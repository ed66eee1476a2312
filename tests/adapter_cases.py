"""What the adapter tests share: adapters to try, and a full account of a model's state."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from oocr_lib.adapters import Adapter, LoraAdapter, VectorAdapter
from oocr_lib.encoding import Batch
from oocr_lib.models.language_model import SITES, LanguageModel, Site
from tests import tiny

D = tiny.D_MODEL


def vector(kind: str, position: str = "codename") -> VectorAdapter:
    return VectorAdapter([Site(1, kind)], D, position, [2.5])


CASES: dict[str, Callable[[], Any]] = {
    **{f"vector_{kind}": functools.partial(vector, kind) for kind in SITES},
    "lora_down": lambda: LoraAdapter([1], rank=2),
    "lora_up_down": lambda: LoraAdapter("all", rank=3, modules=("up", "down"), alpha=4),
}


def logits(lm: LanguageModel, batch: Batch) -> Tensor:
    return lm.model(input_ids=batch.input_ids, use_cache=False).logits


def stir(adapter: Adapter, seed: int = 5) -> None:
    """Give every parameter a value, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def fingerprint(model: torch.nn.Module) -> list[Any]:
    """Everything that must be as before: modules, their attributes, hooks, weights, modes."""
    tables = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_pre_hooks_with_kwargs",
        "_forward_hooks_always_called",
    )
    modules = [
        (
            name,
            id(module),
            type(module),
            list(module.__dict__),
            list(module._modules),
            module.training,
            [list(getattr(module, table)) for table in tables],
        )
        for name, module in model.named_modules()
    ]
    weights = [
        (
            name,
            id(weight),
            weight.requires_grad,
            weight.grad is None,
            weight.detach().numpy().tobytes(),
        )
        for name, weight in model.named_parameters()
    ]
    return [modules, weights]


def outputs(lm: LanguageModel, adapter: Adapter, batch: Batch) -> Tensor:
    with torch.no_grad(), adapter.attach(lm) as attached:
        attached.focus(batch)
        return logits(lm, batch)
