"""What is computed once for a list of rows: tokens before the first adapted one, lower blocks.

In a causal model an adapter changes nothing at tokens before the first one it touches, and nothing
in blocks below its own. A *pool* runs a list of prompts once without gradient and keeps their keys
and values up to that token and the residual stream after it; every step, seed, concept and block
that uses these prompts starts from there (``batching.Reuse``).

Axes: r rows of a pool, otherwise as in ``kv_cache``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache

from oocr_lib.encoding import Encoded
from oocr_lib.engine.answer_logits import arguments, only_at, replaced
from oocr_lib.engine.branch_masks import read
from oocr_lib.engine.memory import pass_tokens, pool_budget
from oocr_lib.engine.shortened import collate
from oocr_lib.models.language_model import LanguageModel, recording
from oocr_lib.models.sites import Site


def first_changed(item: Encoded, position: str) -> int:
    """The first token that must be run: the first adapted one, or what predicts the answer."""
    if position == "all":
        return 0
    predicts = item.answer[0] - 1
    return min([predicts, *item.spans.get(position, ())[:1]])


@dataclass(frozen=True, eq=False)
class Pool:
    """What was computed for a list of rows.

    Attributes:
        rows: number of a row by what the model reads of it, ``branch_masks.read``.
        starts: (r,) how many tokens stand before the part that must be run.
        states: (r, b, 2, h, p, e) keys and values of these tokens in blocks ``lowest`` and up,
            aligned on the right.
        hidden: (r, b', q, d) outputs of blocks ``below`` and up in the part that must be run,
            without its last token.
        lowest: how many of the lowest blocks no user of the pool runs.
        wrapped: whether the model's blocks return a tuple.
    """

    rows: dict[tuple[int, ...], int]
    starts: tuple[int, ...]
    states: Tensor
    hidden: Tensor
    lowest: int = 0
    wrapped: bool = False

    @property
    def below(self) -> int:
        """Lowest block whose output is held: the one below ``lowest``, where there is one."""
        return max(0, self.lowest - 1)

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for t in (self.states, self.hidden))


def fill(lm: LanguageModel, items: Sequence[Encoded], position: str, lowest: int = 0) -> Pool:
    """Run ``items`` once and keep what adapters at ``position`` cannot change.

    Rows that differ only in their last token count as one. The passes depend on the list alone, so
    the same list gives bitwise the same pool.

    Args:
        lowest: how many of the lowest blocks are never run from this pool; less is kept.
    """
    unique = {read(item): item for item in items}
    items, lowest = list(unique.values()), min(lowest, lm.n_blocks - 1)
    starts = [first_changed(item, position) for item in items]
    shapes = _shapes(lm, items, starts, lowest)
    states, hidden = (torch.zeros(s, dtype=lm.model.dtype, device=lm.device) for s in shapes)
    pool = Pool({ids: i for i, ids in enumerate(unique)}, tuple(starts), states, hidden, lowest)
    rows = max(1, pass_tokens(lm) // max(len(item.ids) for item in items))
    wrapped = [
        _run(lm, items[i : i + rows], pool, slice(i, i + rows)) for i in range(0, len(items), rows)
    ]
    return replace(pool, wrapped=wrapped[0])


def _shapes(
    lm: LanguageModel, items: Sequence[Encoded], starts: Sequence[int], lowest: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of a pool's ``states`` and ``hidden``.

    Their widths are the most tokens before the part that is run, and in it without the last token.
    """
    config = lm.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or lm.d_model // config.num_attention_heads
    rest = [len(item.ids) - start - 1 for item, start in zip(items, starts, strict=True)]
    blocks, r = lm.n_blocks - lowest, len(items)
    outputs = blocks + (lowest > 0)
    return (r, blocks, 2, heads, max(starts), width), (r, outputs, max(rest), lm.d_model)


@torch.no_grad()
def _run(lm: LanguageModel, items: Sequence[Encoded], pool: Pool, mine: slice) -> bool:
    """Fill rows ``mine`` of a pool with ``items``; return whether the blocks return tuples."""
    batch = collate(items, lm.pad_id).to(lm.device)
    ids = batch.input_ids[:, :-1]
    cache, tuples = DynamicCache(), list[bool]()
    sites = [Site(i, "resid") for i in range(pool.below, lm.n_blocks)]
    starts = torch.tensor(pool.starts[mine], device=lm.device)[:, None]
    p, q = pool.states.shape[4], pool.hidden.shape[2]
    # Columns outside a row repeat a real one: those before are masked, those after cut off.
    before = (starts - p + torch.arange(p, device=lm.device)).clamp(min=0)
    after = (starts + torch.arange(q, device=lm.device)).clamp(max=ids.shape[1] - 1)
    mlp = lm.module(Site(lm.n_blocks - 1, "mlp_out"))
    rows = torch.arange(len(items), device=lm.device).repeat_interleave(after.shape[1])
    with ExitStack() as stack:
        hook = lm.block(0).register_forward_hook(
            lambda module, args, output: tuples.append(isinstance(output, tuple))
        )
        stack.callback(hook.remove)
        stack.enter_context(lm.running())
        stack.enter_context(replaced(mlp, only_at(mlp, batch, rows, after.flatten())))
        outputs = stack.enter_context(recording(lm, sites))
        lm.decoder(input_ids=ids, past_key_values=cache, use_cache=True, **arguments(lm, batch))
    for i, layer in enumerate(cache.layers[pool.lowest :]):
        pool.states[mine, i, 0] = _at(layer.keys, before)
        pool.states[mine, i, 1] = _at(layer.values, before)
    for i, site in enumerate(sites):
        index = after[..., None].expand(-1, -1, lm.d_model)
        pool.hidden[mine, i] = outputs[site].gather(1, index)
    return tuples[0]


def _at(states: Tensor, columns: Tensor) -> Tensor:
    """``states`` (n, h, t, e) at ``columns`` (n, p): (n, h, p, e)."""
    n, heads, _, width = states.shape
    return states.gather(2, columns[:, None, :, None].expand(n, heads, -1, width))


class Pools:
    """Pools of lists of rows within a memory budget; the least recently used are dropped first.

    Args:
        budget: bytes; default ``memory.pool_budget``.
    """

    def __init__(self, lm: LanguageModel, budget: int | None = None) -> None:
        self.lm = lm
        self.budget = pool_budget(lm.device) if budget is None else budget
        self._pools: OrderedDict[Hashable, Pool] = OrderedDict()

    def get(self, items: Sequence[Encoded], position: str, lowest: int = 0) -> Pool | None:
        """The pool of ``items``, filled once; ``None`` if it alone exceeds the budget.

        Lists of which the model reads the same share a pool, whatever task they belong to. A pool
        that begins above block ``lowest`` is filled again.
        """
        lowest = min(lowest, self.lm.n_blocks - 1)
        key = (position, tuple(read(item) for item in items))
        if key not in self._pools or self._pools[key].lowest > lowest:
            needed = expected(self.lm, items, position, lowest)
            if needed > self.budget:
                return None
            self._pools.pop(key, None)
            while self._pools and self.size + needed > self.budget:
                self._pools.popitem(last=False)
            self._pools[key] = fill(self.lm, items, position, lowest)
        self._pools.move_to_end(key)
        return self._pools[key]

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(pool.size for pool in self._pools.values())


def expected(lm: LanguageModel, items: Sequence[Encoded], position: str, lowest: int = 0) -> int:
    """Bytes that a pool of ``items`` will take."""
    items = list({read(item): item for item in items}.values())
    starts = [first_changed(item, position) for item in items]
    lowest = min(lowest, lm.n_blocks - 1)
    numbers = sum(math.prod(shape) for shape in _shapes(lm, items, starts, lowest))
    return int(numbers * lm.model.dtype.itemsize)
