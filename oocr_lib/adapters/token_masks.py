"""Which tokens an adapter has to touch, of those that a module is running.

Axes: n rows, t tokens of the batch in focus, m <= n rows and w tokens that are run.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from oocr_lib.encoding import Batch
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util.errors import UserError


class Columns:
    """Follows a model's decoder, so that hooks inside it know which tokens they see.

    Args:
        undo: stack that removes the hooks on the decoder.
    """

    def __init__(self, lm: LanguageModel, undo: ExitStack) -> None:
        self._start = 0
        self._batch: Batch | None = None
        self._past: int | None = None  # tokens already in the cache, while the decoder runs
        before = lm.decoder.register_forward_pre_hook(self._enter_decoder, with_kwargs=True)
        undo.callback(before.remove)
        after = lm.decoder.register_forward_hook(self._leave_decoder, always_call=True)
        undo.callback(after.remove)

    def focus(self, batch: Batch, start: int = 0) -> None:
        """The following passes run ``batch``, whose first column stands at ``start``."""
        self._batch, self._start = batch, batch.start or start

    def of(self, weight: Tensor, tail: Tensor, x: Tensor) -> Tensor:
        """Weights (m, w) of the tokens whose states are x (m, w, d).

        Args:
            weight: (n, t), of the batch in focus.
            tail: (n, 1), of tokens generated after its last column.

        Raises:
            UserError: other rows than those of the batch, or tokens before it.
        """
        rows, tokens = x.shape[:2]
        width = weight.shape[1]
        batch = self._batch
        if batch is not None and batch.some_rows:  # a block that only the first rows have entered
            weight, tail = weight[:rows], tail[:rows]
        if rows != weight.shape[0]:
            raise UserError(
                f"The adapter is focused on {weight.shape[0]} rows, but {rows} were run. "
                "Call focus with the batch that is run."
            )
        if batch is not None and batch.picked is not None:
            return weight.gather(1, batch.picked)
        if self._past is None:  # blocks were called directly: fewer tokens than t are new ones
            first = 0 if tokens >= width else width
        else:
            first = self._past - self._start
        if first == 0 and tokens == width:
            return weight
        if first < 0:
            raise UserError(
                f"A forward pass from position {self._past} was run, but the focused batch starts "
                f"at {self._start}. Call focus with the start of the batch that is run."
            )
        part = weight[:, first : first + tokens]
        return torch.cat([part, tail.expand(rows, tokens - part.shape[1])], dim=1)

    def _enter_decoder(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        self._past = 0 if cache is None else int(cache.get_seq_length())

    def _leave_decoder(self, module: nn.Module, args: Any, output: Any) -> None:
        self._past = None


class Marked:
    """The masks of LoRAs with positions; see ``Columns``."""

    def __init__(self, lm: LanguageModel, undo: ExitStack) -> None:
        self._columns, self._device = Columns(lm, undo), lm.device
        self._masks: dict[str, Tensor] | None = None
        self.off = False  # switched off by focus(None)

    def focus(self, batch: Batch | None, start: int = 0) -> None:
        """The following passes run ``batch``; None: no token is touched."""
        self.off = batch is None
        if batch is None:
            return
        if batch.packed:
            raise UserError(
                "Packed rows have no place for a LoRA. Allowed: rows by themselves, from an "
                "executor with pack=False."
            )
        self._columns.focus(batch, start)
        self._masks = {name: mask.to(self._device) for name, mask in batch.positions.items()}

    def share(self, position: str, x: Tensor) -> Tensor:
        """1 at the tokens of x (m, w, d) that are touched, else 0: (m, w, 1) in its dtype.

        Tokens generated after the batch's last column are not touched.

        Raises:
            UserError: before ``focus``, or rows that are not those of the batch.
        """
        if self.off:
            return x.new_zeros(*x.shape[:2], 1)
        if self._masks is None:
            raise UserError(
                f"An attached LoRA at position {position!r} was run before it knew its tokens. "
                "Call focus(batch) first, or focus(None) to run without it."
            )
        mask = self._masks[position]
        return self._columns.of(mask, mask.new_zeros(len(mask), 1), x)[..., None].to(x.dtype)
