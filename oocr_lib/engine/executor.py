"""The fast executor: the plain one's numbers, without computing what nobody reads.

Logits are computed at answers only, options of a question stand side by side behind its prompt,
and a training step is split into passes that fit into memory. ``batching.Reuse`` also reuses
tokens and blocks that were computed before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from oocr_lib.adapters.base import Attached
from oocr_lib.encoding import Encoded, buckets
from oocr_lib.engine.answer_logits import answer_logits
from oocr_lib.engine.branch_masks import branched, branches
from oocr_lib.engine.memory import step_tokens
from oocr_lib.engine.shortened import Shortened, collate
from oocr_lib.executor import Answers, Executor, OptionRow
from oocr_lib.models.language_model import LanguageModel

#: Pairs of tokens that cost attention as much as one token costs the rest of a small model.
_PAIRS = 1024


class Fast(Executor):
    """Use one object per training, because it measures only once how much memory is free.

    Args:
        pack_options: whether options of several tokens may share a row.
    """

    def __init__(self, pack_options: bool = True) -> None:
        self.pack_options = pack_options
        self._limit: int | None = None

    def answers(
        self, lm: LanguageModel, rows: Sequence[tuple[int, Encoded]], attached: Attached | None
    ) -> Answers:
        """See ``Executor.answers``."""
        # Rows stand in the order in which they enter the blocks.
        order = sorted(range(len(rows)), key=lambda i: self.depth_of(rows[i][0]))
        runs = [rows[i][0] for i in order]
        batch = self.collate(lm, [rows[i][1] for i in order], runs)
        if attached is not None:
            attached.focus(batch, torch.tensor(runs, device=lm.device))
        item, targets, logits = answer_logits(lm, batch)
        return Answers(torch.tensor(order, device=lm.device)[item], targets, logits)

    def steps(
        self, lm: LanguageModel, rows: Sequence[tuple[int, Encoded]]
    ) -> list[list[tuple[int, Encoded]]]:
        """See ``Executor.steps``. Within a pass the rows of a run stand together, in order."""
        if self._limit is None:
            self._limit = step_tokens(lm)
        sizes = [self.size(row) for _, row in rows]
        if max(sizes) * len(sizes) <= self._limit:
            return [list(rows)]
        passes = buckets(list(rows), sizes, self._limit)
        return [sorted(rows_of_pass, key=lambda pair: pair[0]) for rows_of_pass in passes]

    def batches(self, rows: Sequence[Encoded]) -> list[list[int]]:
        """See ``Executor.batches``. Answers side by side need a mask; other rows do without."""
        groups = []
        for masked in (False, True):
            mine = [i for i, row in enumerate(rows) if bool(branches(row)) == masked]
            groups += buckets(mine, [len(rows[i].ids) for i in mine])
        return groups

    def option_rows(self, options: Sequence[Encoded]) -> list[OptionRow]:
        """See ``Executor.option_rows``; one-token options always share a row."""
        return side_by_side(options, self.pack_options)

    def depth_of(self, run: int) -> int:
        """Blocks that need not be run for the rows of a run."""
        return 0

    def collate(
        self, lm: LanguageModel, items: Sequence[Encoded], runs: Sequence[int]
    ) -> Shortened:
        """One batch on the model's device; items are sorted by the ``depth_of`` their runs."""
        return collate(items, lm.pad_id).to(lm.device)

    def size(self, item: Encoded) -> int:
        """What a row costs in a training step, in tokens."""
        return len(item.ids)


def side_by_side(encoded: Sequence[Encoded], pack: bool = True) -> list[OptionRow]:
    """The rows that score options (each behind the same prompt), one-token options first.

    Args:
        pack: whether options of several tokens may share a row; those of one token always do.
    """
    answers = [e.ids[e.answer[0] :] for e in encoded]
    short = [i for i, answer in enumerate(answers) if len(answer) == 1]
    long = [i for i, answer in enumerate(answers) if len(answer) > 1]
    if pack and long and _pays(encoded[0].answer[0], [len(answers[i]) for i in long], bool(short)):
        # One long option is a plain row: the token before it scores the short ones.
        first = encoded[long[0]]
        row = branched(first, [answers[i] for i in long]) if len(long) > 1 else first
        return [OptionRow((*short, *long), row, tuple(answers[i] for i in (*short, *long)))]
    rows = [OptionRow((i,), encoded[i], (answers[i],)) for i in long]
    if short:
        targets = tuple(answers[i] for i in short)
        rows.insert(0, OptionRow(tuple(short), encoded[short[0]], targets))
    return rows


def _pays(prompt: int, sizes: Sequence[int], short: bool) -> bool:
    """Whether one row costs less than one per option: fewer tokens, but more pairs of them."""
    apart = [prompt + size - 1 for size in sizes] + [prompt] * short
    together = prompt + sum(size - 1 for size in sizes)
    return together + together**2 / _PAIRS < sum(t + t**2 / _PAIRS for t in apart)
