"""What a forward pass may take over instead of computing it: earlier tokens, lower blocks.

Axes: n rows, p earlier tokens, q tokens that are run, h key/value heads, e head width, d model
width, b blocks that are run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache


@dataclass(frozen=True)
class Past:
    """Keys and values of earlier tokens, and the residual stream that enters block ``depth``.

    Rows have different numbers of earlier tokens. They are aligned on the right, so that the
    distance of two tokens in the cache is their distance in the text (sliding windows count it).

    Attributes:
        states: (n, b, 2, h, p, e) keys and values of blocks ``depth`` and up.
        lengths: (n,) int64, earlier tokens of each row; the rest of p is not attended to.
        tails: (n,) int64, tokens of each row that are run; the rest of q is padding.
        depth: blocks that are not run; 0 = all are.
        hidden: (n, q, d) output of block ``depth - 1``; ``None`` at depth 0.
        wrapped: whether the model's blocks return a tuple.
    """

    states: Tensor
    lengths: Tensor
    tails: Tensor
    depth: int = 0
    hidden: Tensor | None = None
    wrapped: bool = False

    @property
    def length(self) -> int:
        """p, the first position of the columns that are run."""
        return int(self.states.shape[4])

    def to(self, device: torch.device | str) -> Past:
        """The same on another device."""
        hidden = None if self.hidden is None else self.hidden.to(device)
        moved = (self.states.to(device), self.lengths.to(device), self.tails.to(device))
        return Past(*moved, self.depth, hidden, self.wrapped)

    def arguments(self, q: int) -> dict[str, object]:
        """What the model's ``forward`` needs for ``q`` more tokens; nothing without a past."""
        if self.length == 0:
            return {}
        ahead = torch.arange(q, device=self.lengths.device)
        # Padding repeats the last real position: learned positions have no row beyond the end.
        within = torch.minimum(ahead[None], (self.tails - 1).clamp(min=0)[:, None])
        place = torch.arange(self.length, device=self.lengths.device)
        known = place[None] >= self.length - self.lengths[:, None]
        run = torch.ones(len(self.lengths), q, dtype=torch.bool, device=known.device)
        return {
            "past_key_values": self._cache(),
            "position_ids": self.lengths[:, None] + within,
            "attention_mask": torch.cat([known, run], 1).long(),
        }

    def _cache(self) -> DynamicCache:
        """A fresh cache. Blocks that are not run get a placeholder: block 0 tells the length."""
        n, _, _, heads, p, width = self.states.shape
        empty = self.states.new_zeros(()).expand(n, heads, p, width)
        kept = [(self.states[:, b, 0], self.states[:, b, 1]) for b in range(self.states.shape[1])]
        return DynamicCache([(empty, empty)] * self.depth + kept)
