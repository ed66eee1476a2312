"""Batches that start from what was computed once: tokens before the adapted ones, lower blocks.

Rows of several runs and pools (``prefix_cache``) stand in one batch, each entering at its own
depth. Equal to the plain computation up to rounding. Axes as in ``kv_cache``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from oocr_lib.encoding import Encoded
from oocr_lib.engine import packing
from oocr_lib.engine.branch_masks import read
from oocr_lib.engine.executor import Fast
from oocr_lib.engine.kv_cache import Past
from oocr_lib.engine.memory import PAST_PER_TOKEN
from oocr_lib.engine.prefix_cache import Pool
from oocr_lib.engine.shortened import Shortened, collate
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util.errors import UserError


def tail(item: Encoded, start: int) -> Encoded:
    """The same row without its first ``start`` tokens; marks before them are gone."""
    spans = {kind: tuple(i - start for i in at if i >= start) for kind, at in item.spans.items()}
    answer = (item.answer[0] - start, item.answer[1] - start)
    return replace(item, ids=item.ids[start:], answer=answer, spans=spans)


class Reuse(Fast):
    """Batches that start from pools: rows of several pools side by side.

    Args:
        depth: how many of the lowest blocks no adapter of these batches touches, so that their
            output is reused; one number, or one per run.
        pack: whether rows that share their earlier tokens may be packed into one (``packing``);
            LoRAs need a row for each.
    """

    def __init__(
        self,
        lm: LanguageModel,
        pools: Sequence[Pool],
        depth: int | Sequence[int] = 0,
        pack: bool = True,
    ) -> None:
        super().__init__()
        self.lm, self.pools, self.pack = lm, pools, pack
        self.depths = (depth,) if isinstance(depth, int) else tuple(depth)
        self.depth = min(self.depths)
        if any(pool.lowest > min(self.depth, lm.n_blocks - 1) for pool in pools):
            raise UserError(
                f"Depth {self.depth} cannot be entered from a pool that begins at block "
                f"{max(pool.lowest for pool in pools)}. Allowed: pools filled for this depth."
            )
        self._where = {ids: (k, i) for k, pool in enumerate(pools) for ids, i in pool.rows.items()}
        self._tails = dict[int, tuple[Encoded, Encoded]]()  # by id, with the row that owns the id

    def depth_of(self, run: int) -> int:
        """Blocks that the adapter of a run does not touch."""
        return self.depths[run] if len(self.depths) > 1 else self.depth

    def collate(
        self, lm: LanguageModel, items: Sequence[Encoded], runs: Sequence[int] | None = None
    ) -> Shortened:
        """The batch of ``encoding.collate``, shorter if all items are pooled; on the device.

        Args:
            runs: run of each item, sorted by ``depth_of``: each then enters at its own depth.
        """
        places = [place for item in items if (place := self._where.get(read(item))) is not None]
        if not items or len(places) < len(items):
            return collate(items, self.lm.pad_id).to(self.lm.device)
        tails = [self._tail(item, place) for item, place in zip(items, places, strict=True)]
        depths = [self.depth] * len(items) if runs is None else [self.depth_of(r) for r in runs]
        slots = packing.slots(places)
        packs = self.pack and packing.pays(slots, tails)
        if packs and all(self.pools[k].starts[i] for k, i in places):
            batch = packing.collate(tails, slots, self.lm.pad_id).to(self.lm.device)
            places = [place for place, (_, slot) in zip(places, slots, strict=True) if slot == 0]
            depths = packing.depths(slots, depths)
        else:
            batch = collate(tails, self.lm.pad_id).to(self.lm.device)
        past = self._past(places, batch.lengths, batch.input_ids.shape[1] - 1, depths)
        return batch.after(past)

    def size(self, item: Encoded) -> int:
        """What a row costs in a step, in tokens; cached tokens count a little, too."""
        place = self._where.get(read(item))
        if place is None:
            return len(item.ids)
        start = self.pools[place[0]].starts[place[1]]
        return len(item.ids) - start + start // PAST_PER_TOKEN

    def _tail(self, item: Encoded, place: tuple[int, int]) -> Encoded:
        """The part of a row that is run; computed once, because rows return in every epoch."""
        if id(item) not in self._tails:
            self._tails[id(item)] = item, tail(item, self.pools[place[0]].starts[place[1]])
        return self._tails[id(item)][1]

    def _past(
        self, places: Sequence[tuple[int, int]], lengths: Tensor, q: int, depths: Sequence[int]
    ) -> Past:
        """The past of rows (n,), or of packed rows and their slots, with ``depths`` ascending."""
        starts = [self.pools[k].starts[i] for k, i in places]
        p, slots = max(starts), 1 if lengths.ndim == 1 else lengths.shape[1]
        like, device, w = self.pools[places[0][0]], self.lm.device, q // slots
        pooled = []
        for k in dict.fromkeys(k for k, _ in places):
            members = [n for n, place in enumerate(places) if place[0] == k]
            entered = [depths[n] for n in members] if slots == 1 else depths
            pool, rows = self.pools[k], [places[n][1] for n in members]
            first, cut = depths[0] - pool.lowest, max(0, pool.states.shape[4] - p)
            cached = pool.states[:, first:, :, :, cut:][torch.tensor(rows, device=device)]
            pooled.append((members, cached, self._after(pool, rows, entered, w, slots > 1)))
        if len(pooled) == 1:
            _, states, hidden = pooled[0]
        else:
            blocks = self.lm.n_blocks - depths[0]
            shape = (len(places), blocks, 2, like.states.shape[3], p, like.states.shape[5])
            states = like.states.new_zeros(shape)
            hidden = like.hidden.new_zeros(len(places), slots, w, self.lm.d_model)
            for members, cached, after in pooled:
                at = torch.tensor(members, device=device)
                states[at, ..., p - cached.shape[4] :, :] = cached
                hidden[at, :, : after.shape[2]] = after
        return Past(
            states,
            torch.tensor(starts, device=device),
            lengths,
            depths[0],
            hidden.flatten(1, 2) if depths[-1] else None,
            like.wrapped,
            _active(depths, 1 if slots == 1 else w),
        )

    def _after(
        self, pool: Pool, rows: Sequence[int], depths: Sequence[int], w: int, packed: bool
    ) -> Tensor:
        """Hidden states (m, s, up to w, d) that enter rows (m,) of a pool.

        ``depths`` are those of rows (m,), or in packed rows those of slots (s,).
        """
        at = torch.tensor(rows, device=self.lm.device)
        below = (torch.tensor(depths, device=self.lm.device) - 1 - pool.below).clamp(min=0)
        if packed:
            return pool.hidden[:, :, :w][at[:, None], below[None]]
        return pool.hidden[:, :, :w][at, below][:, None]


def _active(depths: Sequence[int], size: int) -> tuple[int, ...]:
    """How many rows (``size`` 1) or columns (``size`` per slot) have entered, by block."""
    blocks = range(depths[0], depths[-1])
    return tuple(size * sum(depth <= block for depth in depths) for block in blocks)
