"""Which tokens of a row see each other, where several answers stand side by side behind a prompt.

A row is a *trunk*, the prompt, and *branches*, one an answer. Every token sees the trunk and the
earlier tokens of its own branch, and stands at the position that it would have alone.

Axes: n rows, p earlier tokens, q tokens that are run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oocr_lib.encoding import Encoded

#: Branch of padding: it sees what a branch sees, and no real token sees it.
_PADDING = -1


@dataclass(frozen=True)
class Branched(Encoded):
    """A prompt and several answers side by side behind it.

    Attributes:
        branches: how many tokens of each answer are run: all but its last.
    """

    branches: tuple[int, ...] = ()


def branches(item: Encoded) -> tuple[int, ...]:
    """Sizes of an item's branches; none where it has one answer."""
    return item.branches if isinstance(item, Branched) else ()


def read(item: Encoded) -> tuple[int, ...]:
    """What the model reads: all tokens but the last, and sizes of branches as negative numbers."""
    return (*item.ids[:-1], *(-size for size in branches(item)))


def branched(first: Encoded, answers: Sequence[tuple[int, ...]]) -> Branched:
    """The prompt of ``first`` and, side by side behind it, answers of two or more tokens.

    Answers are run without their last tokens. Logits of the prompt's last token predict the first
    token of every answer, those of the following tokens the other ones, answer by answer.
    """
    start = first.answer[0]
    run = [token for answer in answers for token in answer[:-1]]
    ids = (*first.ids[:start], *run, answers[-1][-1])
    sizes = tuple(len(answer) - 1 for answer in answers)
    return Branched(ids, (start, len(ids)), first.spans, first.text, sizes)


@dataclass(frozen=True)
class Layout:
    """Branches and positions of the tokens that are run.

    Attributes:
        branch: (n, q) int64, 0 in the trunk, 1 and up in branches, negative in padding. A trunk
            stands before its branches.
        ahead: (n, q) int64, position of each token, counted from the row's first that is run.
    """

    branch: Tensor
    ahead: Tensor

    def to(self, device: torch.device | str) -> Layout:
        """The same on another device."""
        return Layout(self.branch.to(device), self.ahead.to(device))

    def arguments(self, config: Any, dtype: torch.dtype) -> dict[str, object]:
        """What the model's ``forward`` needs when no earlier tokens are known."""
        known = torch.zeros(len(self.ahead), 0, dtype=torch.bool, device=self.ahead.device)
        masks = self.masks(known, self.ahead, config, dtype)
        return {"position_ids": self.ahead, "attention_mask": masks}

    def masks(
        self, known: Tensor, positions: Tensor, config: Any, dtype: torch.dtype
    ) -> Tensor | dict[str, Tensor]:
        """Additive masks (n, 1, q, p + q); by kind of block where the model has several kinds.

        Args:
            known: (n, p) bool, which earlier tokens there are; all tokens see them.
            positions: (n, p + q) of the earlier tokens and those that are run.
            config: of the model's text part.
        """
        p, (n, q) = known.shape[1], self.branch.shape
        same = self.branch[:, :, None] == self.branch[:, None]
        within = (same | (self.branch[:, None] == 0)).tril()
        visible = torch.cat([known[:, None].expand(n, q, p), within], 2)
        distance = positions[:, p:, None] - positions[:, None]
        window = getattr(config, "sliding_window", None) or positions.shape[1]
        near = visible & (distance < window)
        kinds = getattr(config, "layer_types", None)
        if kinds:
            return {k: _additive(near if "sliding" in k else visible, dtype) for k in set(kinds)}
        return _additive(near, dtype)


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)[:, None]


def layout_of(items: Sequence[Encoded], q: int) -> Layout | None:
    """The layout of q columns; ``None`` if no row has answers side by side."""
    if not any(branches(item) for item in items):
        return None
    trunks = [item.answer[0] if branches(item) else len(item.ids) - 1 for item in items]
    return laid_out(trunks, [branches(item) for item in items], q)


def laid_out(trunks: Sequence[int], branches: Sequence[Sequence[int]], q: int) -> Layout:
    """Rows of a trunk and branches of the given numbers of tokens, padded on the right to q."""
    branch_rows, ahead_rows = list[list[int]](), list[list[int]]()
    for trunk, sizes in zip(trunks, branches, strict=True):
        branch, ahead = [0] * trunk, list(range(trunk))
        for number, size in enumerate(sizes, 1):
            branch += [number] * size
            ahead += range(trunk, trunk + size)
        rest = q - len(branch)
        branch_rows.append(branch + [_PADDING] * rest)
        # Padding repeats a real position: learned positions have no row beyond the end.
        ahead_rows.append(ahead + ahead[-1:] * rest)
    return Layout(torch.tensor(branch_rows), torch.tensor(ahead_rows))
