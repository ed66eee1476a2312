"""What a forward pass may reuse instead of computing it: earlier tokens, lower blocks.

Rows of several runs that share their earlier tokens can be *packed* into one: their own tokens
stand side by side in slots that do not see each other.

Axes: n rows, p earlier tokens, q tokens that are run, h key/value heads, e head width, d model
width, b blocks that are run, s slots of q / s tokens each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from oocr_lib.engine.branch_masks import Layout


@dataclass(frozen=True)
class Past:
    """Keys and values of earlier tokens, and the residual stream that enters block ``depth``.

    Rows have different numbers of earlier tokens. They are aligned on the right, so that the
    distance of two tokens in the cache is their distance in the text (sliding windows count it).

    Attributes:
        states: (n, b, 2, h, p, e) keys and values of blocks ``depth`` and up.
        lengths: (n,) int64, earlier tokens of each row; the rest of p is not attended to.
        tails: (n,) int64, tokens of each row that are run; the rest of q is padding. In packed rows
            (n, s), of each slot.
        depth: how many of the lowest blocks are not run; 0 = all are run.
        hidden: (n, q, d) residual stream that enters each row (packed: column) at its own depth;
            ``None`` when all enter at block 0.
        wrapped: whether the model's blocks return a tuple.
        active: how many rows (packed: columns) blocks ``depth``, ``depth + 1``, ... run; from the
            end of this list on, all. They are sorted by depth, so the first ones are run.
    """

    states: Tensor
    lengths: Tensor
    tails: Tensor
    depth: int = 0
    hidden: Tensor | None = None
    wrapped: bool = False
    active: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """p, the first position of the columns that are run."""
        return int(self.states.shape[4])

    def to(self, device: torch.device | str) -> Past:
        """The same on another device."""
        hidden = None if self.hidden is None else self.hidden.to(device)
        moved = (self.states.to(device), self.lengths.to(device), self.tails.to(device))
        return replace(self, states=moved[0], lengths=moved[1], tails=moved[2], hidden=hidden)

    @property
    def slots(self) -> int:
        """s, 1 where rows are not packed."""
        return 1 if self.tails.ndim == 1 else int(self.tails.shape[1])

    def arguments(
        self, q: int, config: Any = None, layout: Layout | None = None
    ) -> dict[str, object]:
        """What the model's ``forward`` needs for ``q`` more tokens; nothing without a past.

        Args:
            config: of the model's text part, which says what kinds of mask its blocks want.
            layout: of rows in which several answers stand side by side.
        """
        if self.length == 0:
            return {} if layout is None else layout.arguments(config, self.states.dtype)
        layout = self._side_by_side(q) if layout is None else layout
        positions = self.lengths[:, None] + layout.ahead
        place = torch.arange(self.length, device=self.lengths.device)
        known = place[None] >= self.length - self.lengths[:, None]
        before = place[None] - self.length + self.lengths[:, None]
        all_positions = torch.cat([before, positions], 1)
        return {
            "past_key_values": self._cache(),
            "position_ids": positions,
            "attention_mask": layout.masks(known, all_positions, config, self.states.dtype),
        }

    def _side_by_side(self, q: int) -> Layout:
        """Slots of packed rows as branches without a trunk; other rows as a trunk alone."""
        n, device = len(self.lengths), self.lengths.device
        ahead = torch.arange(q // self.slots, device=device)
        # Padding repeats the last real position: learned positions have no row beyond the end.
        within = torch.minimum(ahead, (self.tails - 1).clamp(min=0)[..., None])
        number = torch.arange(self.slots, device=device).repeat_interleave(q // self.slots)
        branch = number + 1 if self.slots > 1 else number
        return Layout(branch.expand(n, q), within.reshape(n, q))

    def _cache(self) -> DynamicCache:
        """A fresh cache. Blocks that are not run get a placeholder, as block 0 tells the length."""
        n, blocks, _, heads, p, width = self.states.shape
        placeholder = self.states.new_zeros(()).expand(n, heads, p, width)
        rows = [n] * blocks if self.slots > 1 else [*self.active, *[n] * blocks][:blocks]
        states = [(self.states[:m, b, 0], self.states[:m, b, 1]) for b, m in enumerate(rows)]
        return DynamicCache([(placeholder, placeholder)] * self.depth + states)

    def first(self, value: Any, count: int) -> Any:
        """The first ``count`` rows (packed: columns) of an argument of a block, whatever its shape.

        ``value`` may be hidden states or position embeddings (n, q, ...), positions (n, q), a mask
        (n, 1, q, p + q), or a tuple or list of these; anything else comes back unchanged.
        """
        if isinstance(value, (tuple, list)):
            return type(value)(self.first(inner, count) for inner in value)
        if not isinstance(value, Tensor) or value.ndim < 2:
            return value
        if self.slots == 1:
            return value[:count] if value.shape[0] == len(self.lengths) else value
        if value.ndim == 4:
            return value[:, :, :count, : self.length + count]
        return value[:, :count]
