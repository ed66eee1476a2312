"""Low-rank adapters on the MLP's linear maps, through peft; they can be removed without a trace."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from oocr_lib.adapters.base import Attached, Parts, Saved, read_adapter, rebuild
from oocr_lib.adapters.token_masks import Marked
from oocr_lib.encoding import POSITIONS, Batch
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import PROJECTIONS
from oocr_lib.util.arguments import check_seed, checked
from oocr_lib.util.errors import UserError, choose

_NAME = "oocr_lib"  # one name for all, so that a second adapter leaves the first one active


class LoraAdapter(Saved):
    """y[n,t] = W x[n,t] + 1[position[n,t]] * (alpha / rank) * B A dropout(x[n,t]).

    W (out, in) is a linear map of the MLP, one of ``modules`` in one of ``blocks``. A (rank, in)
    starts random, B (out, rank) at zero, so a fresh adapter changes nothing. The paper trains the
    down projection of one block, and all blocks at once, on every token.

    Args:
        blocks: block numbers, or "all".
        rank, alpha: size and strength; the sum is scaled by alpha / rank.
        dropout: share of inputs dropped while ``Attached.train()`` is on.
        modules: which maps, of "gate", "up", "down".
        seed: of A. The global generator is neither used nor moved.
        position: which tokens, one of ``encoding.POSITIONS``. "all" is every token, answer,
            generated tokens and padding included (for a vector, every token of the prompt), and
            needs no ``focus``; the others touch only marked tokens of the batch in focus.
    """

    kind = "lora"

    @checked
    def __init__(
        self,
        blocks: Sequence[int] | str,
        rank: int = 8,
        alpha: float = 16,
        dropout: float = 0.0,
        modules: Sequence[str] = ("down",),
        seed: int = 0,
        position: str = "all",
    ) -> None:
        if isinstance(blocks, str):
            choose(blocks, ("all",), "set of blocks", "Or give a list of block numbers.")
        elif not blocks or len(set(blocks)) < len(blocks):
            raise UserError(f"Blocks {list(blocks)} cannot be used. Allowed: distinct, at least 1.")
        if not modules or isinstance(modules, str) or len(set(modules)) < len(modules):
            raise UserError(
                f"Modules {modules!r} cannot be used. Allowed: some of {', '.join(PROJECTIONS)}."
            )
        if rank < 1 or not 0 < alpha < float("inf") or not 0 <= dropout < 1:
            raise UserError(
                f"Rank {rank!r}, alpha {alpha!r}, dropout {dropout!r} cannot be used. Allowed: a "
                "whole rank from 1, alpha above 0, dropout from 0 to below 1."
            )
        self.blocks: tuple[int, ...] | str = blocks if isinstance(blocks, str) else tuple(blocks)
        self.rank, self.alpha, self.dropout, self.seed = rank, alpha, dropout, check_seed(seed)
        self.modules = tuple(choose(m, PROJECTIONS, "MLP projection") for m in modules)
        self.position = choose(position, POSITIONS, "position")
        self._weights: dict[str, nn.Parameter] = {}  # "<module>.lora_A.weight" to (rank, in)

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every module; the same objects through every attach and remove.

        Raises:
            UserError: before the first ``attach``, which gives them their shapes.
        """
        if not self._weights:
            raise UserError("A LoRA without shapes has no parameters. Call attach(model) first.")
        return list(self._weights.values())

    def attach(self, lm: LanguageModel) -> LoraAttached:
        """Wrap the chosen maps of ``lm``; a second attach continues with the trained weights.

        Raises:
            UserError: unknown block or map, another model than before, or adapters already there.
        """
        self.refuse_other(lm)
        attached = LoraAttached(self, lm, self.targets(lm))
        self.belong(lm, attached)
        return attached

    def targets(self, lm: LanguageModel) -> list[str]:
        """Dotted names of the maps that are adapted in ``lm``.

        Raises:
            UserError: unknown block or map.
        """
        blocks = range(lm.n_blocks) if isinstance(self.blocks, str) else self.blocks
        return [lm.projection(block, role) for block in blocks for role in self.modules]

    def matrices(self, name: str) -> tuple[nn.Parameter, nn.Parameter]:
        """A (rank, in) and B (out, rank) at the map ``name``, once shapes are known."""
        return self._weights[f"{name}.lora_A.weight"], self._weights[f"{name}.lora_B.weight"]

    def parts(self) -> Parts:
        """One run, all parameters; see ``Adapter.parts``."""
        return [[(weight, None) for weight in self.parameters()]]

    def state(self) -> dict[str, Tensor]:
        """Tensors on the CPU by module path, as in peft without its "base_model.model."."""
        self.parameters()
        return {name: weight.detach().cpu().clone() for name, weight in self._weights.items()}

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor, JSON-able."""
        blocks = self.blocks if isinstance(self.blocks, str) else list(self.blocks)
        return {
            "blocks": blocks,
            "rank": self.rank,
            "alpha": self.alpha,
            "dropout": self.dropout,
            "modules": list(self.modules),
            "seed": self.seed,
            "position": self.position,
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str], any_model: bool = False) -> Self:
        """Read what ``save`` wrote; see ``adapters.load``.

        Raises:
            UserError: another file, or one whose ranks differ from its config.
        """
        tensors, config, owner = read_adapter(path, cls.kind, any_model)
        adapter = rebuild(cls, config, path)
        adapter.restore(tensors, f"File {str(path)!r}")
        vars(adapter).update(owner)
        return adapter

    def restore(self, tensors: Mapping[str, Tensor], source: str = "The state") -> None:
        """Take over the tensors of ``state``; shapes are checked against the model in ``attach``.

        Raises:
            UserError: no tensors, or one whose rank is not this adapter's.
        """
        if not tensors:
            raise UserError(f"{source} holds no weights of a LoRA. Allowed: one that was attached.")
        for name, tensor in tensors.items():
            rank_axis = 0 if name.endswith(".lora_A.weight") else 1
            if tensor.ndim != 2 or tensor.shape[rank_axis] != self.rank:
                raise UserError(
                    f"{source} has tensor {name!r} of shape {tuple(tensor.shape)}. "
                    f"Allowed: two axes, one of them the rank {self.rank}."
                )
        self._weights = {name: nn.Parameter(tensor.clone()) for name, tensor in tensors.items()}

    def give_shapes(self, lm: LanguageModel, names: Sequence[str]) -> None:
        """Draw the weights at the first attach; later compare their shapes with the maps ``names``.

        Raises:
            UserError: other shapes than before.
        """
        shapes = dict[str, tuple[int, ...]]()
        for name in names:
            module = lm.model.get_submodule(name)
            # GPT-2's Conv1D keeps its weight as (in, out).
            out, inside = module.weight.shape[:: -1 if isinstance(module, Conv1D) else 1]
            shapes[f"{name}.lora_A.weight"] = (self.rank, inside)
            shapes[f"{name}.lora_B.weight"] = (out, self.rank)
        self._give_shapes(shapes)
        for weight in self._weights.values():
            weight.data = weight.data.to(lm.device)

    def _give_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        if not self._weights:
            generator = torch.Generator().manual_seed(self.seed)
            for name, shape in shapes.items():
                start = torch.zeros(shape)
                if name.endswith(".lora_A.weight"):  # peft's default distribution of A
                    bound = shape[1] ** -0.5
                    start.uniform_(-bound, bound, generator=generator)
                self._weights[name] = nn.Parameter(start)
        current = {name: tuple(weight.shape) for name, weight in self._weights.items()}
        if current != dict(shapes):
            name = min(set(current.items()) ^ set(shapes.items()))[0]
            raise UserError(
                f"The LoRA does not fit this model: {name} is {current.get(name, 'absent')} in the "
                f"LoRA. Allowed: {shapes.get(name, 'no such module')}; use the model it was "
                "trained on."
            )


class LoraAttached(Attached):
    """The wrapped modules of one LoraAdapter on one model; see ``Attached``."""

    def __init__(self, adapter: LoraAdapter, lm: LanguageModel, names: Sequence[str]) -> None:
        if hasattr(lm.model, "peft_config"):
            raise UserError(
                f"Model {lm.name!r} already carries adapters of peft. Allowed: a model without; "
                "unload them first."
            )
        self.positions = (adapter.position,)
        originals = {name: lm.model.get_submodule(name) for name in names}
        wrapped = [name for name, module in originals.items() if isinstance(module, BaseTunerLayer)]
        if wrapped:
            raise UserError(
                f"{wrapped[0]} of {lm.name!r} already has a LoRA attached. Allowed: one a module; "
                "remove the other first."
            )
        with ExitStack() as undo:
            for name, module in originals.items():
                parent, _, child = name.rpartition(".")
                undo.callback(setattr, lm.model.get_submodule(parent), child, module)
            adapter.give_shapes(lm, names)
            _inject(adapter, lm.model, originals)
            self._wrappers = [lm.model.get_submodule(name) for name in names]
            _share_weights(adapter, dict(zip(names, self._wrappers, strict=True)))
            self._marked = None if adapter.position == "all" else Marked(lm, undo)
            if self._marked is not None:
                hook = _only_marked(self._marked, adapter.position)
                for wrapper in self._wrappers:
                    handle = wrapper.get_submodule(f"lora_B.{_NAME}").register_forward_hook(hook)
                    undo.callback(handle.remove)
            super().__init__(undo.pop_all())
        self.train(False)

    def focus(self, batch: Batch | None, index: Tensor | None = None, *, start: int = 0) -> None:
        """See ``Attached.focus``; at position "all" nothing depends on the batch.

        Raises:
            UserError: packed rows, at another position than "all".
        """
        if self._marked is not None:
            self._marked.focus(batch, start)

    def train(self, mode: bool = True) -> None:
        """Switch the adapter's dropout on or off."""
        for wrapper in self._wrappers:
            wrapper.get_submodule("lora_dropout").train(mode)


def _only_marked(marked: Marked, position: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A hook that keeps an output (n, t, out) at marked tokens; it is zero elsewhere."""
    return lambda module, args, output: output * marked.share(position, output)


def _inject(adapter: LoraAdapter, model: Any, targets: Mapping[str, nn.Module]) -> None:
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # peft divides it by r; it need not be an integer
        lora_dropout=adapter.dropout,
        target_modules=list(targets),
        # GPT-2's Conv1D keeps its weight as (in, out).
        fan_in_fan_out=all(isinstance(module, Conv1D) for module in targets.values()),
    )
    try:
        # Weights without storage: nothing is drawn at random here, ours are put in afterwards.
        inject_adapter_in_model(config, model, adapter_name=_NAME, low_cpu_mem_usage=True)
    finally:
        # The wrapped modules do not need it, and a second adapter would trip over it.
        model.__dict__.pop("peft_config", None)


def _share_weights(adapter: LoraAdapter, wrappers: Mapping[str, Any]) -> None:
    """Put the adapter's own parameters into peft's modules, so that they outlive them."""
    for name, wrapper in wrappers.items():
        a, b = adapter.matrices(name)
        wrapper.lora_A[_NAME].weight, wrapper.lora_B[_NAME].weight = a, b
