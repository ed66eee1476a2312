"""Several LoRAs side by side: every row of a batch passes through the LoRA of its own run.

Axes: n rows, t tokens, k LoRAs (runs), r rank.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oocr_lib.adapters.base import Attached, Parts, read_adapter, rebuild, save_adapter
from oocr_lib.adapters.lora import LoraAdapter
from oocr_lib.encoding import Batch
from oocr_lib.errors import UserError
from oocr_lib.models import LanguageModel


class LoraGroup:
    """y[n,t] = W x[n,t] + (alpha_k / r_k) * B_k A_k dropout(x[n,t]),  k = index[n].

    A_k (r_k, in) and B_k (out, r_k) are those of ``adapters[k]``, at the maps that it names; rows
    of a run without a LoRA at a map pass unchanged. Blocks, ranks and maps may differ. Equal to
    one ``LoraAdapter`` after another, except that with dropout other inputs are dropped.

    Args:
        adapters: k LoRAs, trained or fresh; their weights are used in place.

    Raises:
        UserError: no adapters.
    """

    kind = "lora_group"

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
            UserError: unknown block or map, or other shapes than before.
        """
        return LoraGroupAttached(self, lm)

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

    def save(
        self,
        path: str | os.PathLike[str],
        extra_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Write all LoRAs to one safetensors file."""
        save_adapter(self, path, extra_metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what ``save`` wrote; shapes are checked against the model in ``attach``.

        Raises:
            UserError: another file, or one whose ranks differ from its config.
        """
        tensors, config = read_adapter(path, cls.kind)
        adapters = []
        for k, own in enumerate(config.get("adapters", ())):
            adapter = rebuild(LoraAdapter, own, path)
            start = f"{k}."
            mine = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            adapter.restore(mine, f"File {str(path)!r}")
            adapters.append(adapter)
        return cls(adapters)


class LoraGroupAttached(Attached):
    """Hooks of one LoraGroup on one model; see ``Attached``.

    Plain hooks instead of peft's wrappers: those pass all rows through one LoRA in training.
    """

    def __init__(self, group: LoraGroup, lm: LanguageModel) -> None:
        self._rows: dict[int, Tensor] | None = None  # (m,) rows of each run; None: switched off
        self._focused = False
        self._training = False
        users: dict[str, list[int]] = {}  # map to the runs that have a LoRA there
        for k, adapter in enumerate(group.adapters):
            names = adapter.targets(lm)
            adapter.give_shapes(lm, names)
            for name in names:
                users.setdefault(name, []).append(k)
        self._group = group
        with ExitStack() as undo:
            for name, runs in users.items():
                hook = _Hook(self, name, runs)
                handle = lm.model.get_submodule(name).register_forward_hook(hook)
                undo.callback(handle.remove)
            super().__init__(undo.pop_all())
        self._device = lm.device

    def focus(self, batch: Batch | None, index: Tensor | None = None, *, start: int = 0) -> None:
        """See ``Attached.focus``."""
        self._focused, self._rows = True, None
        if batch is None:
            return
        rows = len(batch)
        index = torch.zeros(rows, dtype=torch.int64) if index is None else index.cpu()
        k = len(self._group.adapters)
        if index.shape != (rows,) or int(index.min()) < 0 or int(index.max()) >= k:
            raise UserError(
                f"Index {index.tolist()} does not fit {rows} rows and {k} LoRAs. Allowed: {rows} "
                f"numbers from 0 to {k - 1}."
            )
        found = [(int(run), (index == run).nonzero()[:, 0]) for run in index.unique()]
        self._rows = {run: own.to(self._device) for run, own in found}

    def train(self, mode: bool = True) -> None:
        """Switch dropout on or off."""
        self._training = mode

    def changes(self, name: str, runs: Sequence[int], x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows (m,) and what their LoRA adds at map ``name``, (m, t, out)."""
        if not self._focused:
            raise UserError(
                "An attached group of LoRAs was run before it knew its rows. Call focus(batch, "
                "index) first, or focus(None) to run without it."
            )
        present = self._rows or {}
        for run in [run for run in runs if run in present]:
            adapter = self._group.adapters[run]
            a, b = adapter.matrices(name)
            own = F.dropout(x[present[run]].to(a.dtype), adapter.dropout, self._training)
            yield present[run], (own @ a.T @ b.T) * (adapter.alpha / adapter.rank)


class _Hook:
    """Adds to one map's output what the LoRAs of the batch's runs add there."""

    def __init__(self, attached: LoraGroupAttached, name: str, runs: Sequence[int]) -> None:
        self._attached, self._name, self._runs = attached, name, runs

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        found = list(self._attached.changes(self._name, self._runs, args[0]))
        if not found:
            return output
        rows = torch.cat([rows for rows, _ in found])
        added = torch.cat([change for _, change in found]).to(output.dtype)
        return output.index_add(0, rows, added)
