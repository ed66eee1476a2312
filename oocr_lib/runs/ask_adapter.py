"""Put questions and validation rows of jobs to adapters that were not trained by a grid.

Natural vectors, naive vectors, filtered LoRAs, points on a line between vectors: what notebooks 06
to 08 compare with what was trained.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from oocr_lib.adapters import VectorAdapter
from oocr_lib.adapters.base import Adapter
from oocr_lib.evaluation.scores import score, summarise
from oocr_lib.models.sites import Site
from oocr_lib.runs.grid import Grid, Job
from oocr_lib.runs.methods import check_jobs
from oocr_lib.training.loop import sample, validate
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError


@checked
def ask(
    grid: Grid,
    method: str,
    adapter: Adapter,
    jobs: Sequence[Job],
    families: Collection[str] | None = None,
    *,
    validation: bool = False,
) -> pd.DataFrame:
    """Ask the jobs' questions of an adapter that comes from elsewhere.

    Args:
        method: name in the table.
        adapter: holds one vector per job, or is asked the questions of one job.
        families: only these question families; default all.
        validation: run the validation rows as well; else their columns hold missing values.

    Returns:
        One row per job and family, columns as ``Grid.run`` gives them.

    Raises:
        UserError: no jobs, a job that comes twice, no question of these families, or what
            ``score`` refuses.
    """
    if not check_jobs(jobs):
        raise UserError("No jobs to ask the questions of. Allowed: at least one.")
    asked = [
        [q for q in grid.task(job.concept, job.seed).questions if wanted(families, q.question)]
        for job in jobs
    ]
    if not all(asked):
        raise UserError(f"No question of families {families}. Allowed: those of the task.")
    owner = [k for k, mine in enumerate(asked) for _ in mine]
    data, rows = [grid.data(job) for job in jobs], jobs[0].method.config.valid_rows
    sampled = [sample(run.valid, rows, run.seed) for run in data] if validation else []
    executor = grid.executors.of_adapter(adapter, asked, sampled)
    with adapter.attach(grid.lm) as attached:
        table = score(grid.lm, [q for mine in asked for q in mine], attached, owner, executor)
        loss = exact = np.full(len(jobs), np.nan)
        if validation:
            loss, exact = validate(grid.lm, attached, data, rows, executor)
    named = {"method": method, "site": method, "block": -1, "lr": 0.0}
    return pd.DataFrame(
        [
            {**named, "concept": job.concept, "seed": job.seed, "run": f"{method} {k}"}
            | {"valid_loss": float(loss[k]), "valid_accuracy": float(exact[k])}
            | {"family": family, **values}
            for k, job in enumerate(jobs)
            for family, values in summarise(table[table["run"] == k]).items()
        ]
    )


@checked
def ask_each(
    grid: Grid,
    method: str,
    adapter: VectorAdapter,
    job: Job,
    families: Collection[str] | None = None,
) -> pd.DataFrame:
    """Ask one job's questions of every vector that ``adapter`` holds, all in the same batches.

    Returns:
        As ``ask``, one row per vector and family; ``run`` numbers the vectors.

    Raises:
        UserError: no question of these families, or what ``score`` refuses.
    """
    questions = grid.task(job.concept, job.seed).questions
    asked = [q for q in questions if wanted(families, q.question)]
    if not asked:
        raise UserError(f"No question of families {families}. Allowed: those of the task.")
    count = len(adapter.sites)
    owner = [k for k in range(count) for _ in asked]
    executor = grid.executors.of_adapter(adapter, [asked] * count, [])
    with adapter.attach(grid.lm) as attached:
        table = score(grid.lm, asked * count, attached, owner, executor)
    named = {"method": method, "site": method, "block": -1, "lr": 0.0}
    named |= {"concept": job.concept, "seed": job.seed}
    missing = {"valid_loss": float("nan"), "valid_accuracy": float("nan")}
    return pd.DataFrame(
        [
            named
            | {"run": f"{method} {job.concept} {job.seed} {k}"}
            | missing
            | {"family": family, **values}
            for k in range(count)
            for family, values in summarise(table[table["run"] == k]).items()
        ]
    )


def wanted(families: Collection[str] | None, question: object) -> bool:
    """Whether a question is of one of the families."""
    return families is None or getattr(question, "family", "") in families


def fixed(vectors: Tensor, site: Site, position: str) -> VectorAdapter:
    """An adapter that holds given vectors (k, d), in raw units, at one site."""
    adapter = VectorAdapter([site] * len(vectors), vectors.shape[1], position, [1.0] * len(vectors))
    adapter.theta.data = vectors.detach().float().clone()
    return adapter
