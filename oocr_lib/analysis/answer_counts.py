"""What the answers of a run's rows give away by themselves, read without a single prompt.

A control on shuffled answers keeps how often each answer occurs. The *multiset reader* measures how
much that gives away: it knows, for every concept that might be hidden, how often each answer occurs
among its rows, infers the concept from these counts alone (Bayes' rule, all concepts equally
likely), and answers every question as that concept would. A control that it reads no better than
chance gives away nothing of the concept. Its counts for a concept come from seeds other than the
run's own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from oocr_lib.runs import protocol
from oocr_lib.runs.grid import Grid, Job, Method
from oocr_lib.tasks.base import Row
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError

#: How often each answer occurs, by the kind of its row.
Counts = Mapping[tuple[str, str], int]
#: Added to every count of a candidate, so that an answer it never gave is not impossible.
SMOOTHING = 0.5


def counts(rows: Iterable[Row]) -> Counter[tuple[str, str]]:
    """How often each (kind, answer) occurs among rows; their prompts are ignored."""
    return Counter((str(row.meta.get("kind")), row.answer) for row in rows)


@checked
def posterior(seen: Counts, candidates: Mapping[str, Counts]) -> dict[str, float]:
    """Probability of each candidate given the counts, with equal priors.

    Within a kind the answers are independent draws with the candidate's shares, each count raised
    by ``SMOOTHING``; the number of rows of each kind is ignored.

    Raises:
        UserError: no candidates.
    """
    if not candidates:
        raise UserError("Counts cannot be read without candidates. Allowed: at least one.")
    answers: dict[str, set[str]] = {}
    for occurrences in (seen, *candidates.values()):
        for kind, answer in occurrences:
            answers.setdefault(kind, set()).add(answer)
    fits = {}
    for name, occurrences in candidates.items():
        fits[name] = 0.0
        for kind, possible in answers.items():
            total = sum(occurrences.get((kind, a), 0) for a in possible) + SMOOTHING * len(possible)
            for a in possible:
                share = (occurrences.get((kind, a), 0) + SMOOTHING) / total
                fits[name] += seen.get((kind, a), 0) * math.log(share)
    best = max(fits.values())
    weights = {name: math.exp(fit - best) for name, fit in fits.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


@checked
def read(
    grid: Grid,
    method: Method,
    pairs: Sequence[tuple[str, int]],
    concepts: Sequence[str],
    families: Collection[str],
) -> pd.DataFrame:
    """What the multiset reader infers from the rows that ``method`` is trained on.

    Args:
        concepts: all that might be hidden, the runs' own among them.
        families: families of multiple-choice questions, which a concept answers by its own truth;
            with none, only the concept is guessed.

    Returns:
        One row per run: ``method`` (multiset), ``concept, seed, run``; ``p_concept``, the
        probability of the run's own concept; ``mc``, the share of questions whose truth is the
        most probable option (ties share the point); ``p_truth``, the truth's probability among the
        options. Both are means over families, and missing without any.

    Raises:
        UserError: a single seed, whose rows could only be compared with themselves.
    """
    seeds = sorted({seed for _, seed in pairs})
    if len(seeds) < 2:
        raise UserError(
            f"The counts of seed {seeds} can only be read by those of another one. Allowed: runs "
            "with two seeds or more."
        )
    by_seed = {
        (name, seed): counts(grid.task_text(name, seed).train)
        for name in concepts
        for seed in seeds
    }
    rows = []
    for concept, seed in pairs:
        candidates: dict[str, Counts] = {
            name: sum((by_seed[name, s] for s in seeds if s != seed), Counter[tuple[str, str]]())
            for name in concepts
        }
        p_concepts = posterior(counts(grid.rows(Job(method, concept, seed))), candidates)
        truths = {
            name: {(q.family, q.id): q.truth for q in grid.task_text(name, seed).questions}
            for name in concepts
        }
        scored = []
        for q in grid.task_text(concept, seed).questions:
            if q.family in families:
                weight = dict.fromkeys(q.options, 0.0)
                for name, p in p_concepts.items():
                    answer = truths[name].get((q.family, q.id), "")
                    if answer in weight:
                        weight[answer] += p
                best = max(weight.values())
                winners = [option for option, p in weight.items() if p > best * (1 - 1e-9)]
                right = (q.truth in winners) / len(winners)
                scored.append((q.family, right, weight[q.truth] / sum(weight.values())))
        table = pd.DataFrame(scored, columns=["family", "mc", "p_truth"])
        means = table.groupby("family").mean().mean() if scored else {}
        labels = {"concept": concept, "seed": seed, "run": f"{concept} {seed}"}
        values = {column: float(means.get(column, math.nan)) for column in ("mc", "p_truth")}
        rows.append({"method": "multiset", **labels, "p_concept": p_concepts[concept], **values})
    return pd.DataFrame(rows)


@checked
def agreement(
    grid: Grid, method: Method, pairs: Sequence[tuple[str, int]], strata: Sequence[str] = ()
) -> pd.DataFrame:
    """How many rows of a control keep their true answer, run by run.

    Args:
        strata: entries of ``meta``; rows with the same values of these and the same true answer
            form a group.

    Returns:
        One row per run: ``concept, seed``; ``rows``; ``agree``, the share with the true answer;
        ``lowest``, ``highest``, that share in the groups where it is smallest and largest.
    """
    rows = []
    for job in protocol.jobs(method, pairs):
        truth, control = grid.task_text(job.concept, job.seed).train, grid.rows(job)
        table = pd.DataFrame(
            {
                "part": [str((a.answer, *(a.meta.get(name) for name in strata))) for a in truth],
                "agree": [float(a.answer == b.answer) for a, b in zip(truth, control, strict=True)],
            }
        )
        shares = table.groupby("part")["agree"].mean()
        labels = {"concept": job.concept, "seed": job.seed, "rows": len(table)}
        extremes = {"lowest": float(shares.min()), "highest": float(shares.max())}
        rows.append({**labels, "agree": float(table["agree"].mean()), **extremes})
    return pd.DataFrame(rows)
