"""Questions to scores: five-way accuracy by log-probability, and full-vocabulary top-1.

No sampling: an option's score is the sum of its tokens' log-probabilities after the prompt, and
top-1 asks whether every token of the true answer is the most likely of the whole vocabulary (what
greedy decoding would write). Every question keeps its option order fixed by itself, and ties share
the point, so nothing depends on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from oocr_lib.adapters.base import Attached
from oocr_lib.encoding import Encoded, collate, encode_question
from oocr_lib.forward import answer_logits
from oocr_lib.models import LanguageModel
from oocr_lib.tasks.base import Question

BATCH_TOKENS = 6000


@dataclass(frozen=True)
class Scored:
    """A sequence to run: question number, options it scores, encoded prompt and option."""

    question: int
    options: tuple[int, ...]
    encoded: Encoded
    targets: tuple[int, ...]


def plan(lm: LanguageModel, questions: Sequence[Question]) -> list[Scored]:
    """The sequences to run: all one-token options of a question share one forward pass."""
    made = []
    for number, question in enumerate(questions):
        encoded = [encode_question(lm.tokenizer, question, o) for o in question.options]
        short = [i for i, e in enumerate(encoded) if len(e.ids) - e.answer[0] == 1]
        if short:
            first = encoded[short[0]]
            targets = tuple(encoded[i].ids[-1] for i in short)
            made.append(Scored(number, tuple(short), first, targets))
        made.extend(
            Scored(number, (i,), e, ()) for i, e in enumerate(encoded) if i not in set(short)
        )
    return made


@torch.no_grad()
def score(
    lm: LanguageModel,
    questions: Sequence[Question],
    attached: Attached | None = None,
    index: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Score every question.

    Args:
        attached: an adapter in place, or None for the base model.
        index: for each question, the run (vector) it is asked of; default 0.

    Returns:
        One row a question: ``run, id, family, group, truth, p_truth`` (probability of the truth
        among the options), ``mc`` (1 when it is the likeliest option, shared on ties), ``top1``
        (1 when greedy decoding over the full vocabulary writes it), ``mass`` (probability of all
        options together: how far the model answers the question at all).
    """
    owner = np.zeros(len(questions), dtype=int) if index is None else np.asarray(index)
    logp = [np.full(len(q.options), np.nan) for q in questions]
    greedy = np.zeros(len(questions))
    todo = sorted(plan(lm, questions), key=lambda s: len(s.encoded.ids))
    for part in _batches(todo):
        batch = collate([s.encoded for s in part], lm.pad_id).to(lm.device)
        if attached is not None:
            runs = torch.tensor([int(owner[s.question]) for s in part])
            attached.focus(batch, runs.to(lm.device))
        rows, targets, logits = answer_logits(lm, batch)
        log_probs = torch.log_softmax(logits, -1)
        best = log_probs.argmax(-1)
        own = log_probs.gather(1, targets[:, None])[:, 0]
        for j, item in enumerate(part):
            mine = (rows == j).nonzero()[:, 0]
            truth = questions[item.question].options.index(questions[item.question].truth)
            if item.targets:
                values = log_probs[mine[0], list(item.targets)].cpu().numpy()
                logp[item.question][list(item.options)] = values
                if truth in item.options:
                    wanted = item.targets[item.options.index(truth)]
                    greedy[item.question] = float(int(best[mine[0]]) == wanted)
            else:
                logp[item.question][item.options[0]] = float(own[mine].sum())
                if item.options[0] == truth:
                    greedy[item.question] = float(bool((best[mine] == targets[mine]).all()))
    return _table(questions, owner, logp, greedy)


def _batches(todo: Sequence[Scored]) -> list[list[Scored]]:
    """Sequences of similar length, a bounded number of tokens a batch."""
    made: list[list[Scored]] = []
    for item in todo:
        size = len(item.encoded.ids)
        if not made or (len(made[-1]) + 1) * size > BATCH_TOKENS:
            made.append([])
        made[-1].append(item)
    return made


def _table(
    questions: Sequence[Question],
    owner: np.ndarray,
    logp: Sequence[np.ndarray],
    greedy: np.ndarray,
) -> pd.DataFrame:
    rows = []
    for number, question in enumerate(questions):
        p = np.exp(logp[number] - logp[number].max())
        truth = question.options.index(question.truth)
        best = logp[number] == logp[number].max()
        rows.append(
            {
                "run": int(owner[number]),
                "id": question.id,
                "family": question.family,
                "group": question.group,
                "truth": question.truth,
                "p_truth": float(p[truth] / p.sum()),
                "mc": float(best[truth] / best.sum()),
                "top1": float(greedy[number]),
                "mass": float(np.exp(logp[number]).sum()),
            }
        )
    return pd.DataFrame(rows)


def summarise(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean ``mc`` and ``top1`` by family, and ``all`` as the mean over families.

    Families weigh the same in ``all`` whatever their number of wordings.
    """
    by_family = table.groupby("family")[["mc", "top1", "p_truth"]].mean()
    made = {str(f): {k: float(v) for k, v in row.items()} for f, row in by_family.iterrows()}
    made["all"] = {str(k): float(v) for k, v in by_family.mean().items()}
    return made
