"""Runs that share their earlier tokens in one row: their own tokens stand side by side in slots.

A sweep trains at many blocks, with many seeds, on the same prompts. At the last token they differ
in one token each; packed, the prompt's keys and values are gathered once for all of them, and
attention is one matrix product instead of many small ones. Axes: n packed rows, s slots, w tokens
of a slot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import torch

from oocr_lib.encoding import POSITIONS, Encoded
from oocr_lib.engine.branch_masks import branches
from oocr_lib.engine.shortened import Shortened

#: Longest tail (tokens that are run) that is packed: in longer ones, masking slots costs too much.
LONGEST = 4
#: Most empty slots that are accepted, as a share of all items.
WASTE = 0.25


def slots(places: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Row and slot of each item: items with the same earlier tokens (place) share a row.

    Rows hold as many items as a place has on average; a place with more gets more rows.
    """
    size = max(1, round(len(places) / len(set(places))))
    rows: dict[tuple[Hashable, int], int] = {}
    used: defaultdict[Hashable, int] = defaultdict(int)
    row_and_slot = []
    for place in places:
        row = rows.setdefault((place, used[place] // size), len(rows))
        row_and_slot.append((row, used[place] % size))
        used[place] += 1
    return row_and_slot


def pays(places: Sequence[tuple[int, int]], tails: Sequence[Encoded]) -> bool:
    """Whether packing is faster: short tails, and nearly as many items in every row.

    Rows that hold several answers already are left as they are.
    """
    rows, per_row = (max(numbers) + 1 for numbers in zip(*places, strict=True))
    if any(branches(tail) for tail in tails):
        return False
    longest = max(len(tail.ids) - 1 for tail in tails)
    return per_row > 1 and longest <= LONGEST and rows * per_row <= (1 + WASTE) * len(places)


def depths(places: Sequence[tuple[int, int]], own: Sequence[int]) -> list[int]:
    """Block at which each slot is entered: the lowest of its items; items are sorted by block."""
    lowest: dict[int, int] = {}
    for (_, slot), depth in zip(places, own, strict=True):
        lowest[slot] = min(depth, lowest.get(slot, depth))
    return [lowest[slot] for slot in range(len(lowest))]


def collate(tails: Sequence[Encoded], places: Sequence[tuple[int, int]], pad_id: int) -> Shortened:
    """Tails in the slots of their rows; columns are slot by slot, then one more that is not run.

    Returns:
        A batch with ``owner`` and ``targets``; ``lengths`` (n, s) count the tokens of each slot.
    """
    n, s = (max(numbers) + 1 for numbers in zip(*places, strict=True))
    w = max(len(tail.ids) - 1 for tail in tails)
    shape = (n, s * w + 1)
    ids, owner = torch.full(shape, pad_id), torch.zeros(shape, dtype=torch.int64)
    targets, answers = torch.zeros_like(owner), torch.zeros(shape, dtype=torch.bool)
    positions = {name: torch.zeros(shape, dtype=torch.bool) for name in POSITIONS}
    lengths = torch.zeros(n, s, dtype=torch.int64)
    at, predicted = list[tuple[int, int, int, int]](), list[tuple[int, int, int]]()
    marked: dict[str, list[tuple[int, int]]] = {name: [] for name in POSITIONS}
    for i, (tail, (row, slot)) in enumerate(zip(tails, places, strict=True)):
        first, run = slot * w, len(tail.ids) - 1
        at += [(row, first + j, tail.ids[j], i) for j in range(run)]
        # Answer token j is predicted at j - 1; masks point one column further.
        predicted += [(row, first + j, tail.ids[j]) for j in range(*tail.answer)]
        marked["all"] += [(row, first + j) for j in range(min(run, tail.answer[0]))]
        for kind, span in tail.spans.items():
            marked[kind] += [(row, first + j) for j in span if j < run]
        lengths[row, slot] = run + 1
    rows, columns, tokens, items = torch.tensor(at).T
    ids[rows, columns], owner[rows, columns] = tokens, items
    rows, columns, tokens = torch.tensor(predicted).T
    targets[rows, columns], answers[rows, columns] = tokens, True
    for kind, cells in marked.items():
        if cells:
            positions[kind][tuple(torch.tensor(cells).T)] = True
    return Shortened(ids, lengths, answers, positions, owner=owner, targets=targets)
