"""How rows are run: the plain way, which every faster one must agree with.

Training and evaluation hand over rows of several runs and get back the logits that predict their
answers. This module runs whole rows through the whole model and is the reference for the tests;
``engine`` has executors that give the same numbers faster. Axes: n rows, t tokens, m answer tokens
of all rows together, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oocr_lib.adapters.base import Attached
from oocr_lib.encoding import Encoded, buckets, collate
from oocr_lib.models.language_model import LanguageModel


@dataclass(frozen=True)
class Answers:
    """What a forward pass says about the answers of its rows.

    Attributes:
        row: (m,) int64, which of the rows given each answer token belongs to; ascending within a
            row.
        targets: (m,) int64, the answer tokens; where options stand side by side they mean nothing.
        logits: (m, v) float32, the logits that predict them.
    """

    row: Tensor
    targets: Tensor
    logits: Tensor


@dataclass(frozen=True)
class OptionRow:
    """One row to run and the options of a question that it scores.

    Attributes:
        options: numbers of the options.
        encoded: the prompt, and behind it the tokens of these options that are run.
        answers: the tokens of each option.
    """

    options: tuple[int, ...]
    encoded: Encoded
    answers: tuple[tuple[int, ...], ...]


class Executor:
    """Runs whole rows through the whole model, one row per option."""

    def answers(
        self, lm: LanguageModel, rows: Sequence[tuple[int, Encoded]], attached: Attached | None
    ) -> Answers:
        """One forward pass over (run, row) pairs, each with the adapter of its run."""
        batch = collate([row for _, row in rows], lm.pad_id).to(lm.device)
        if attached is not None:
            attached.focus(batch, torch.tensor([run for run, _ in rows], device=lm.device))
        row, column = batch.answer_mask.nonzero(as_tuple=True)
        # Token j is predicted at j - 1.
        needed, at = torch.unique(column - 1, return_inverse=True)
        with lm.running():
            out = lm.model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=needed)
        return Answers(row, batch.input_ids[row, column], out.logits[row, at].float())

    def steps(
        self, lm: LanguageModel, rows: Sequence[tuple[int, Encoded]]
    ) -> list[list[tuple[int, Encoded]]]:
        """Rows of one training step as passes whose graphs fit into memory: here, one pass."""
        return [list(rows)]

    def batches(self, rows: Sequence[Encoded]) -> list[list[int]]:
        """Numbers of the rows that are run together without gradient, similar lengths together."""
        return buckets(range(len(rows)), [len(row.ids) for row in rows])

    def option_rows(self, options: Sequence[Encoded]) -> list[OptionRow]:
        """Rows to run for the options of one question, each behind the same prompt."""
        return [OptionRow((i,), e, (e.ids[e.answer[0] :],)) for i, e in enumerate(options)]


#: The reference, and the default of training and evaluation.
PLAIN = Executor()
