"""Questions to scores: choices by log-probability, scales by expected value, top-1, free text.

Nothing is sampled. An option's score is the sum of its tokens' log-probabilities after the prompt,
and top-1 asks whether every token of the true answer is the most likely of the whole vocabulary
(what greedy decoding would write). Every question has its own fixed order of options, and ties
share the point, so nothing depends on the batch. The kinds are described in ``tasks.base``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from oocr_lib.adapters.base import Attached
from oocr_lib.adapters.row_checks import lacks, position_of, unmarked
from oocr_lib.encoding import encode_question
from oocr_lib.evaluation.generation import replies
from oocr_lib.evaluation.judging import is_right
from oocr_lib.executor import PLAIN, Executor, OptionRow
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.tasks.base import Question, check_question
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.finite import no_nan
from oocr_lib.util.parsing import short

SCALE = tuple(str(number) for number in range(101))
#: Kinds that the model answers in its own words.
WRITTEN = ("expression", "inverse")


@dataclass(frozen=True)
class Asked:
    """A question as tokens, ready to be asked of any adapter."""

    question: Question
    options: tuple[str, ...]
    rows: tuple[OptionRow, ...]


@checked
def prepare(
    lm: LanguageModel, questions: Sequence[Question], executor: Executor = PLAIN
) -> list[Asked]:
    """Questions as tokens; the executor says which options share a row."""
    return [_prepare(lm, question, executor) for question in questions]


def _prepare(lm: LanguageModel, question: Question, executor: Executor) -> Asked:
    check_question(question)
    if question.kind in WRITTEN:
        return Asked(
            question, (), (OptionRow((), encode_question(lm.tokenizer, question, ""), ()),)
        )
    options = {"scale": SCALE, "exact": (question.truth,)}.get(question.kind, question.options)
    encoded = [encode_question(lm.tokenizer, question, option) for option in options]
    if _may_go_on(lm, question, [e.ids[e.answer[0] :] for e in encoded]):
        end = lm.turn_end
        encoded = [encode_question(lm.tokenizer, question, option + end) for option in options]
    return Asked(question, options, tuple(executor.option_rows(encoded)))


def _may_go_on(lm: LanguageModel, question: Question, answers: Sequence[tuple[int, ...]]) -> bool:
    """Whether one answer is the beginning of another, as "8" of "85" where digits are split.

    The turn's end then tells them apart. An exact number competes with all numbers.
    """
    if question.kind == "exact" and question.truth[-1:].isdigit():
        longer = [question.truth, *(question.truth + digit for digit in "0123456789")]
        number, *answers = (
            tuple(ids) for ids in lm.tokenizer(longer, add_special_tokens=False)["input_ids"]
        )
        return any(b[: len(number)] == number for b in answers)
    return any(b[: len(a)] == a for a in answers for b in answers if len(b) > len(a))


@checked
def score(
    lm: LanguageModel,
    questions: Sequence[Question] | Sequence[Asked],
    attached: Attached | None = None,
    index: Sequence[int] | None = None,
    executor: Executor = PLAIN,
    after_pass: Callable[[], object] = lambda: None,
) -> pd.DataFrame:
    """Score every question.

    Args:
        questions: questions, or what ``prepare`` made of them.
        attached: an adapter in place, or None for the base model.
        index: for each question, the run (vector) it is asked of; default 0.
        executor: how rows are run; the plain one runs whole rows, one per option.
        after_pass: called after every forward pass, for a bar that would stand still.

    Returns:
        One row per question: ``run, id, family, group, kind, truth``; ``p_truth`` (probability of
        the truth among the options; of a scale: the expected number / 100, or 1 minus it where the
        truth is 0); ``mc`` (1 when the truth is the likeliest option, shared on ties; of a scale:
        on its side of 50; of written answers: right); ``top1`` (1 when greedy decoding over the
        full vocabulary writes it);
        ``rank`` (of the truth among the options, from 1, ties in the middle); ``mass``
        (probability of all options together: how far the model answers the question at all);
        ``options`` and their ``logp``; ``reply`` (what the model wrote, where it writes).

    Raises:
        UserError: no questions; an index of another length; a question without a token that the
            adapter touches (an empty mark says that it has none on purpose), or whose options
            cannot be compared; log-probabilities that are not a number.
    """
    if not questions:
        raise UserError("0 questions cannot be scored. Allowed: at least one.")
    if attached is None:
        lm.refuse_attached()
    asked = [q if isinstance(q, Asked) else _prepare(lm, q, executor) for q in questions]
    owner = [0] * len(asked) if index is None else [int(i) for i in index]
    if len(owner) != len(asked):
        raise UserError(
            f"An index of {len(owner)} runs does not fit {len(asked)} questions. Allowed: one run "
            "a question."
        )
    check_asked(asked, [position_of(attached, run) for run in owner])
    logp = [np.full(len(a.options), np.nan) for a in asked]
    is_greedy = [np.zeros(len(a.options), dtype=bool) for a in asked]
    todo = [(n, row) for n, a in enumerate(asked) if a.options for row in a.rows]
    for batch in executor.batches([row.encoded for _, row in todo]):
        _run(lm, [todo[i] for i in batch], attached, owner, logp, is_greedy, executor)
        after_pass()
    written = [n for n, a in enumerate(asked) if not a.options]
    texts = replies(
        lm,
        [asked[n].rows[0].encoded for n in written],
        attached,
        [owner[n] for n in written],
    )
    reply_of = dict(zip(written, texts, strict=True))
    return pd.DataFrame(
        [
            {"run": owner[n], **_row(a, logp[n], _greedy(a, is_greedy[n]), reply_of.get(n, ""))}
            for n, a in enumerate(asked)
        ]
    )


@checked
def check_asked(asked: Sequence[Asked], positions: Sequence[str]) -> None:
    """Check that every question has a token that its adapter, at one of ``positions``, touches.

    Raises:
        UserError: the first question that has none and no empty mark that says so.
    """
    for number, (a, position) in enumerate(zip(asked, positions, strict=True), start=1):
        if lacks(a.rows[0].encoded, position):
            text = short(a.question.messages[-1]["content"])
            raise unmarked(f"Question {number} ({a.question.family}) {text}", position)


@torch.no_grad()
def _run(
    lm: LanguageModel,
    part: Sequence[tuple[int, OptionRow]],
    attached: Attached | None,
    owner: Sequence[int],
    logp: list[np.ndarray],
    is_greedy: list[np.ndarray],
    executor: Executor,
) -> None:
    """One forward pass; fills log-probabilities of options and whether greedy writes them."""
    answers = executor.answers(lm, [(owner[n], row.encoded) for n, row in part], attached)
    log_probs = torch.log_softmax(answers.logits, -1)
    order = answers.row.sort(stable=True).indices
    at, tokens, sizes = read_at([item for _, item in part])
    at, tokens = order[at.to(lm.device)], tokens.to(lm.device)
    option_logp = log_probs[at, tokens].cpu().split(sizes)
    best = (log_probs.argmax(-1)[at] == tokens).cpu().split(sizes)
    options = [(n, option) for n, item in part for option in item.options]
    for (n, option), values, hits in zip(options, option_logp, best, strict=True):
        logp[n][option] = float(values.sum())
        is_greedy[n][option] = bool(hits.all())


def read_at(rows: Sequence[OptionRow]) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Where the tokens of all options of all rows are predicted.

    Returns:
        Numbers (m,) of logits that stand row after row, the tokens (m,) to read there, and how
        many belong to each option.
    """
    at, tokens, sizes, first = list[int](), list[int](), list[int](), 0
    for row in rows:
        following = first + 1
        for answer in row.answers:
            at += [first, *range(following, following + len(answer) - 1)]
            following += len(answer) - 1
            tokens += answer
            sizes.append(len(answer))
        first += row.encoded.answer[1] - row.encoded.answer[0]
    return torch.tensor(at), torch.tensor(tokens), sizes


def _greedy(asked: Asked, is_greedy: np.ndarray) -> tuple[float, int]:
    """Whether greedy decoding writes an option, and which: the longest, if one begins another."""
    sizes = {
        option: len(answer)
        for part in asked.rows
        for option, answer in zip(part.options, part.answers, strict=True)
    }
    written = [option for option in sizes if is_greedy[option]]
    return (1.0, max(written, key=sizes.__getitem__)) if written else (0.0, 0)


def _row(asked: Asked, logp: np.ndarray, greedy: tuple[float, int], reply: str) -> dict[str, Any]:
    """The row of one question, whatever its kind."""
    q = asked.question
    named = {"id": q.id, "family": q.family, "group": q.group, "kind": q.kind, "truth": q.truth}
    if q.kind in WRITTEN:
        right = float(is_right(q, reply))
        numbers = {"p_truth": right, "mc": right, "top1": right, "rank": 1.0 if right else 2.0}
        return {**named, **numbers, "mass": 1.0, "options": [], "logp": [], "reply": reply}
    p = _shares(q, logp)
    if q.kind == "scale":
        numbers = _scale(p, q.truth, greedy)
    else:
        truth = asked.options.index(q.truth)
        best = logp == logp.max()
        numbers = {
            "p_truth": float(p[truth]) if len(p) > 1 else float(np.exp(logp[0])),
            "mc": float(best[truth] / best.sum()),
            "top1": float(greedy[0] and int(greedy[1]) == truth),
            "rank": 1 + float((logp > logp[truth]).sum() + ((logp == logp[truth]).sum() - 1) / 2),
        }
        if q.kind == "exact":
            numbers["mc"] = numbers["top1"]
    row = {**named, **numbers, "mass": float(np.exp(logp).sum())}
    if q.kind == "scale":
        return {**row, "options": [], "logp": [], "reply": ""}
    rounded = [round(float(x), 5) for x in logp]
    return {**row, "options": list(asked.options), "logp": rounded, "reply": ""}


def _shares(question: Question, logp: np.ndarray) -> np.ndarray:
    """Probabilities among the options, which add up to 1; a single option may be impossible."""
    if np.isnan(logp).any() or (len(logp) > 1 and np.isneginf(logp).all()):
        raise UserError(
            f"Question {question.id!r} ({question.family}) has log-probabilities "
            f"{logp[:4].tolist()}. Allowed: numbers, one of several finite; look for NaN in the "
            "weights or the vector."
        )
    if len(logp) == 1:
        return np.ones(1)
    p = np.exp(logp - logp.max())
    return np.asarray(p / p.sum())


def _scale(p: np.ndarray, truth: str, greedy: Sequence[float] | np.ndarray) -> dict[str, float]:
    """How near the expected number is to the true end, and whether it is on its side of 50."""
    value = float((p * np.arange(101)).sum() / 100)
    side = _side(value, truth)
    return {
        "p_truth": value if truth == "100" else 1 - value,
        "mc": side,
        "top1": greedy[0] * _side(greedy[1] / 100, truth),
        "rank": 2.0 - side,
    }


def _side(value: float, truth: str) -> float:
    return 0.5 if value == 0.5 else float((value > 0.5) == (truth == "100"))


MEASURES = ["mc", "top1", "p_truth", "rank"]


@checked
def summarise(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean ``mc``, ``top1``, ``p_truth`` and ``rank`` by family, and ``all`` over families.

    In ``all`` every family has the same weight, whatever its number of wordings.

    Raises:
        UserError: a value that is not a number.
    """
    for measure in MEASURES:
        no_nan(table[measure], f"{measure} of the questions")
    by_family = table.groupby("family")[MEASURES].mean()
    means = {str(f): {k: float(v) for k, v in row.items()} for f, row in by_family.iterrows()}
    means["all"] = {str(k): float(v) for k, v in by_family.mean().items()}
    return means
