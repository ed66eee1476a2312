"""Rows run under one condition, and what is measured there: the risky letter against the safe one.

A *condition* is a batch with an adapter that is on or off. Attention, patching and attribution
compare two of them. Several vectors (trained, random, none) are compared through one
``VectorAdapter`` that holds them all, by ``index``. Axes: n rows, t tokens, d model width,
v vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oocr_lib.adapters.base import Attached
from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.encoding import Batch
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.finite import no_nan


@dataclass(frozen=True, eq=False)
class Condition:
    """How rows are run.

    Attributes:
        batch: the rows, without a ``past``; what counts is their last prompt token.
        attached: the adapter in place, also where it is off; None only when there is none.
        index: (n,) int64, which of the adapter's vectors each row gets; default the first.
        on: False switches the adapter off for these rows. A LoRA cannot be switched off so: take
            it away instead.
    """

    batch: Batch
    attached: Attached | None = None
    index: Tensor | None = None
    on: bool = True

    def off(self) -> Condition:
        """The same rows without the adapter."""
        return replace(self, on=False)

    def focus(self, lm: LanguageModel) -> Batch:
        """Point the adapter at these rows; returns them on the model's device.

        Raises:
            UserError: the batch starts from stored tokens, which nothing here would see.
        """
        if not self.batch.whole:
            raise UserError(
                f"These {len(self.batch)} rows start from stored keys and values. Allowed: whole "
                "rows; make the batch with encoding.collate."
            )
        batch = self.batch.to(lm.device)
        if self.attached is not None:
            self.attached.focus(batch if self.on else None, self.index)
        return batch


@checked
def last_tokens(batch: Batch) -> Tensor:
    """Column of the last prompt token of every row, (n,) int64.

    Raises:
        UserError: a row without one, or with several.
    """
    mask = batch.positions["last"]
    if bool((mask.sum(1) != 1).any()):
        row = int((mask.sum(1) != 1).nonzero()[0, 0])
        raise UserError(
            f"Row {row} has {int(mask[row].sum())} last prompt tokens. Allowed: exactly one; "
            "encode rows with encoding.encode."
        )
    return mask.int().argmax(1)


@checked
def check_mask(batch: Batch, mask: Tensor, what: str) -> None:
    """Marks must be (n, t), and every row must have some of them, before its last prompt token.

    Raises:
        UserError: another shape, a row without a mark, or a mark from the last token on.
    """
    if mask.shape != batch.input_ids.shape or mask.dtype != torch.bool:
        raise UserError(
            f"Marks {what!r} have shape {tuple(mask.shape)} and type {mask.dtype}. Allowed: bool, "
            f"{tuple(batch.input_ids.shape)}, as in batch.positions."
        )
    column = torch.arange(mask.shape[1], device=mask.device)[None]
    late = mask & (column >= last_tokens(batch).to(mask.device)[:, None])
    bad = (~mask.any(1) | late.any(1)).nonzero()
    if len(bad):
        raise UserError(
            f"Row {int(bad[0, 0])} has no token marked {what!r}, or one that is not before its "
            "last prompt token. Allowed: rows with such tokens; leave the others out."
        )


@checked
def other_tokens(batch: Batch, mask: Tensor, seed: int = 0) -> Tensor:
    """Control for ``mask`` (n, t): as many other tokens before the last one, drawn at random.

    The first token is left out: heads that look nowhere in particular rest there.

    Raises:
        UserError: a row has too few other tokens, or no marks.
    """
    check_mask(batch, mask, "mask")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros_like(mask, device="cpu")
    for row, last in enumerate(last_tokens(batch).tolist()):
        free = [i for i in range(1, last) if not mask[row, i]]
        wanted = int(mask[row].sum())
        if wanted > len(free):
            raise UserError(
                f"Row {row} has {wanted} marked tokens, but only {len(free)} others between the "
                "first and the last prompt token. Allowed: as many others; use longer rows."
            )
        drawn = torch.randperm(len(free), generator=generator)[:wanted].tolist()
        chosen[row, [free[i] for i in drawn]] = True
    return chosen.to(mask.device)


@checked
def with_random(
    vector: Tensor, site: Site, position: str = "last", count: int = 1, seed: int = 0
) -> VectorAdapter:
    """A steering vector (d,) in raw units and its control: random directions of the same length.

    Vector 0 is ``vector``, vectors 1 to ``count`` are random; choose by ``Condition.index``.
    """
    k, length = 1 + count, float(vector.float().norm())
    adapter = VectorAdapter([site] * k, len(vector), position, [1.0] * k, seed, init=length)
    with torch.no_grad():
        adapter.theta[0] = vector.to(adapter.theta)
    return adapter


@torch.no_grad()
def last_logits(lm: LanguageModel, condition: Condition) -> Tensor:
    """Logits after the last prompt token, (n, v) float32, in one forward pass.

    Raises:
        UserError: some are not a number.
    """
    batch = condition.focus(lm)
    needed, where = torch.unique(last_tokens(batch), return_inverse=True)
    with lm.running():
        out = lm.model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=needed)
    logits = out.logits[torch.arange(len(batch), device=where.device), where].float()
    no_nan(logits, f"Logits of {lm.name!r}")
    return logits


@checked
def logit_difference(lm: LanguageModel, condition: Condition, letters: Tensor) -> Tensor:
    """Logit of the first letter minus that of the second at the answer, (n,) float32 on the CPU.

    Args:
        letters: (n, 2) int64 token ids a row, for instance risky and safe.

    Raises:
        UserError: letters of another shape or type, or outside the vocabulary.
    """
    check_letters(lm, condition, letters)
    both = last_logits(lm, condition).gather(1, letters.to(lm.device))
    return (both[:, 0] - both[:, 1]).cpu()


@checked
def check_letters(lm: LanguageModel, condition: Condition, letters: Tensor) -> None:
    """Raise UserError unless ``letters`` are (n, 2) token ids of the model."""
    wanted = (len(condition.batch), 2)
    fits = letters.shape == wanted and letters.dtype == torch.int64
    if not fits or int(letters.min()) < 0 or int(letters.max()) >= lm.vocab_size:
        raise UserError(
            f"Letters of shape {tuple(letters.shape)} and type {letters.dtype} do not fit. "
            f"Allowed: {wanted} int64 token ids from 0 to {lm.vocab_size - 1}, the two answers of "
            "each row."
        )
