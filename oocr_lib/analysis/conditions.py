"""Rows run under one condition, and the measure there: the risky letter's logit against the safe.

A *condition* is a batch with an adapter that is switched on or off. Attention, patching and
attribution compare two of them. Several vectors (trained, random, none) are compared through one
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
        batch: the rows, without a ``past``; only their last prompt token counts.
        attached: the adapter in place, even where it is off; None only when there is none.
        index: (n,) int64, which of the adapter's vectors each row gets; by default the first.
        on: False switches the adapter off for these rows. A LoRA cannot be switched off this way:
            remove it instead.
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
            UserError: the batch starts from stored tokens, which would be missed here.
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
    """Column of each row's last prompt token, (n,) int64.

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
    """Require marks (n, t), at least one in every row, all before its last prompt token.

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

    The first token is left out because heads with nothing to attend to rest there.

    Raises:
        UserError: a row has too few other tokens, or no marks.
    """
    check_mask(batch, mask, "mask")
    generator = torch.Generator().manual_seed(seed)
    others = torch.zeros_like(mask, device="cpu")
    for row, last in enumerate(last_tokens(batch).tolist()):
        free = [i for i in range(1, last) if not mask[row, i]]
        count = int(mask[row].sum())
        if count > len(free):
            raise UserError(
                f"Row {row} has {count} marked tokens, but only {len(free)} others between the "
                "first and the last prompt token. Allowed: as many others; use longer rows."
            )
        drawn = torch.randperm(len(free), generator=generator)[:count].tolist()
        others[row, [free[i] for i in drawn]] = True
    return others.to(mask.device)


@checked
def with_random(
    vector: Tensor, site: Site, position: str = "last", count: int = 1, seed: int = 0
) -> VectorAdapter:
    """A steering vector (d,) in raw units and its control: random directions of the same length.

    Vector 0 is ``vector``, vectors 1 to ``count`` are random; ``Condition.index`` selects them.
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
        UserError: some logits are not numbers.
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
        letters: (n, 2) int64 token ids, for instance risky and safe.

    Raises:
        UserError: letters of another shape or type, or outside the vocabulary.
    """
    check_letters(lm, condition, letters)
    both = last_logits(lm, condition).gather(1, letters.to(lm.device))
    return (both[:, 0] - both[:, 1]).cpu()


@checked
def check_letters(lm: LanguageModel, condition: Condition, letters: Tensor) -> None:
    """Raise UserError unless ``letters`` are (n, 2) token ids of the model."""
    shape = (len(condition.batch), 2)
    fits = letters.shape == shape and letters.dtype == torch.int64
    if not fits or int(letters.min()) < 0 or int(letters.max()) >= lm.vocab_size:
        raise UserError(
            f"Letters of shape {tuple(letters.shape)} and type {letters.dtype} do not fit. "
            f"Allowed: {shape} int64 token ids from 0 to {lm.vocab_size - 1}, the two answers of "
            "each row."
        )
