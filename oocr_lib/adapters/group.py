"""Several LoRAs side by side: each row of a batch passes through the LoRA of its own run.

Axes: n rows, t tokens, k LoRAs (runs), r rank.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oocr_lib.adapters.base import Attached, Parts, Saved, read_adapter, rebuild
from oocr_lib.adapters.lora import LoraAdapter
from oocr_lib.adapters.token_masks import Marked
from oocr_lib.encoding import Batch
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError


class LoraGroup(Saved):
    """y[n,t] = W x[n,t] + 1[position_k[n,t]] * (alpha_k / r_k) * B_k A_k dropout(x[n,t]).

    Row n belongs to LoRA k = index[n]; position_k are the tokens that it touches.
    A_k (r_k, in) and B_k (out, r_k) are those of ``adapters[k]``, at the maps that it names; rows
    of a run without a LoRA at a map pass unchanged. Blocks, ranks and maps may differ. Equal to
    one ``LoraAdapter`` after another, except that with dropout other inputs are dropped.

    Args:
        adapters: k LoRAs, trained or fresh; their weights are used in place.

    Raises:
        UserError: no adapters.
    """

    kind = "lora_group"

    @checked
    def __init__(self, adapters: Sequence[LoraAdapter]) -> None:
        if not adapters:
            raise UserError("A group of 0 LoRAs cannot be built. Allowed: at least one.")
        self.adapters = tuple(adapters)

    def parameters(self) -> list[nn.Parameter]:
        """A and B of all runs.

        Raises:
            UserError: before the first ``attach``, which gives them their shapes.
        """
        return [weight for adapter in self.adapters for weight in adapter.parameters()]

    def parts(self) -> Parts:
        """Each run's own parameters; see ``Adapter.parts``."""
        return [[(weight, None) for weight in adapter.parameters()] for adapter in self.adapters]

    def attach(self, lm: LanguageModel) -> LoraGroupAttached:
        """Hook the chosen maps of ``lm``; the LoRAs get their shapes where they have none.

        Raises:
            UserError: unknown block or map, or another model than before.
        """
        for adapter in (self, *self.adapters):
            adapter.refuse_other(lm)
        attached = LoraGroupAttached(self, lm)
        for adapter in self.adapters:
            adapter.belong(lm)
        self.belong(lm, attached)
        return attached

    def state(self) -> dict[str, Tensor]:
        """``<k>.<name in LoRA k's state>`` to tensor, on the CPU."""
        return {
            f"{k}.{name}": tensor
            for k, adapter in enumerate(self.adapters)
            for name, tensor in adapter.state().items()
        }

    def config(self) -> dict[str, Any]:
        """The LoRAs' configs as ``adapters``; JSON-able."""
        return {"adapters": [adapter.config() for adapter in self.adapters]}

    @classmethod
    def load(cls, path: str | os.PathLike[str], any_model: bool = False) -> Self:
        """Read what ``save`` wrote; see ``adapters.load``.

        Raises:
            UserError: another file, or one whose ranks differ from its config.
        """
        tensors, config, owner = read_adapter(path, cls.kind, any_model)
        adapters, configs = [], config.get("adapters")
        if not isinstance(configs, list) or not all(isinstance(c, dict) for c in configs):
            raise UserError(
                f"File {str(path)!r} lists no LoRAs. Allowed: a group as save writes it."
            )
        for k, lora_config in enumerate(configs):
            adapter = rebuild(LoraAdapter, lora_config, path)
            start = f"{k}."
            state = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            adapter.restore(state, f"File {str(path)!r}")
            adapters.append(adapter)
        group = cls(adapters)
        vars(group).update(owner)
        return group


class LoraGroupAttached(Attached):
    """Hooks of one LoraGroup on one model; see ``Attached``.

    Plain hooks instead of peft's wrappers: those pass all rows through one LoRA in training.
    """

    def __init__(self, group: LoraGroup, lm: LanguageModel) -> None:
        self._rows: dict[int, Tensor] = {}  # (m,) rows of each run, on the CPU
        self._focused = False
        self._training = False
        users: dict[str, list[int]] = {}  # map to the runs that have a LoRA there
        for k, adapter in enumerate(group.adapters):
            names = adapter.targets(lm)
            adapter.give_shapes(lm, names)
            for name in names:
                users.setdefault(name, []).append(k)
        self._group = group
        self.positions = tuple(adapter.position for adapter in group.adapters)
        with ExitStack() as undo:
            self._marked = Marked(lm, undo)
            for name, runs in users.items():
                module = lm.model.get_submodule(name)
                handle = module.register_forward_hook(self._hook(name, runs))
                undo.callback(handle.remove)
            super().__init__(undo.pop_all())

    def focus(self, batch: Batch | None, index: Tensor | None = None, *, start: int = 0) -> None:
        """See ``Attached.focus``."""
        self._focused, self._rows = True, {}
        if batch is None:
            return
        if batch.packed:
            raise UserError(
                "Packed rows share tokens that a LoRA changes. Give rows by themselves."
            )
        rows = len(batch)
        index = torch.zeros(rows, dtype=torch.int64) if index is None else index.cpu()
        k = len(self._group.adapters)
        if index.shape != (rows,) or int(index.min()) < 0 or int(index.max()) >= k:
            raise UserError(
                f"Index {index.tolist()} does not fit {rows} rows and {k} LoRAs. Allowed: "
                f"{rows} numbers from 0 to {k - 1}."
            )
        self._marked.focus(batch, start)
        self._rows = {int(run): (index == run).nonzero()[:, 0] for run in index.unique()}

    def train(self, mode: bool = True) -> None:
        """Switch dropout on or off."""
        self._training = mode

    def _hook(self, name: str, runs: Sequence[int]) -> Callable[[nn.Module, Any, Any], Any]:
        def add(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            if not self._focused:
                raise UserError(
                    "An attached group of LoRAs was run before it knew its rows. Call focus(batch, "
                    "index) first, or focus(None) to run without it."
                )
            present = [run for run in runs if run in self._rows]
            if not present:
                return None
            rows = torch.cat([self._rows[run] for run in present])
            # Usually the rows of a run stand together and all have a LoRA: then nothing is moved.
            x = args[0]
            ordered = len(rows) == len(x) and bool((rows == torch.arange(len(x))).all())
            x = x if ordered else x[rows.to(x.device)]
            inputs = x.split([len(self._rows[run]) for run in present])
            changes = [
                self._change(run, name, rows_in) * self._share(run, args[0])
                for run, rows_in in zip(present, inputs, strict=True)
            ]
            added = torch.cat(changes).to(output.dtype)
            return output + added if ordered else output.index_add(0, rows.to(output.device), added)

        return add

    def _share(self, run: int, x: Tensor) -> Tensor | float:
        """1 where the LoRA of a run touches its rows of x (n, t, in), else 0: (m, t, 1)."""
        position = self._group.adapters[run].position
        if position == "all":
            return 1.0
        return self._marked.share(position, x)[self._rows[run].to(x.device)]

    def _change(self, run: int, name: str, x: Tensor) -> Tensor:
        """What the LoRA of a run adds at map ``name`` for its rows x (m, t, in): (m, t, out)."""
        adapter = self._group.adapters[run]
        a, b = adapter.matrices(name)
        x = F.dropout(x.to(a.dtype), adapter.dropout, self._training)
        return (x @ a.T @ b.T) * (adapter.alpha / adapter.rank)
