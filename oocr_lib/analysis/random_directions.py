"""A trained vector among many random directions of its length, and its percentile there.

A few random vectors prove little: some directions move an answer by chance, and one that moves it
the right way looks like an effect. So each trained vector is set among at least fifty directions
as long as itself, at its own site and tokens, on its own questions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pandas as pd
import torch

from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.analysis import constancy
from oocr_lib.models.sites import Site
from oocr_lib.runs import protocol
from oocr_lib.runs.ask_adapter import ask_each, fixed
from oocr_lib.runs.grid import Method
from oocr_lib.runs.study import Study
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError

#: Random directions per run.
COUNT = 50


@checked
def percentile(value: float, others: Sequence[float]) -> float:
    """Share of ``others`` below ``value``, ties counted half; 0.5 is the middle.

    Raises:
        UserError: no others.
    """
    if not others:
        raise UserError("A percentile among 0 values cannot be given. Allowed: at least one.")
    below = sum(x < value for x in others) + sum(x == value for x in others) / 2
    return below / len(others)


@checked
def among(
    study: Study,
    method: Method,
    pairs: Sequence[tuple[str, int]],
    accuracy: Callable[[pd.DataFrame], pd.DataFrame],
    families: Collection[str] | None = None,
    count: int = COUNT,
) -> pd.DataFrame:
    """Train (or reuse) a vector on every pair and set it among random directions.

    Args:
        accuracy: turns answers of ``Grid.run`` into one row per run with ``accuracy``, for instance
            ``suite.accuracy`` of the task.
        families: question families that are asked; default all.

    Returns:
        One row per run: ``concept, seed, run, trained, random`` (mean over directions), ``above``
        (share of directions that score as high as the trained vector or higher), ``percentile``.

    Raises:
        UserError: a method that is not a vector, or what training refuses.
    """
    if method.kind != "vector":
        raise UserError(f"Method {method.name!r} is a {method.kind}. Allowed: a vector.")
    grid, jobs, rows = study.grid, protocol.jobs(method, pairs), []
    _ = grid.run(jobs, method.name)
    for number, job in enumerate(jobs):
        trained = grid.trained([job])
        assert isinstance(trained, VectorAdapter)
        vector = trained.vectors.cpu()
        directions = constancy.random_like(vector.expand(count, -1), 1000 + number)
        adapter = fixed(torch.cat([vector, directions]), Site.parse(method.site), method.position)
        table = accuracy(ask_each(grid, method.name, adapter, job, families))
        first, *others = table["accuracy"].tolist()
        rows.append(
            {
                **{"concept": job.concept, "seed": job.seed, "run": f"{job.concept} {job.seed}"},
                **{"trained": first, "random": sum(others) / len(others)},
                "above": sum(x >= first for x in others) / len(others),
                "percentile": percentile(first, others),
            }
        )
    return pd.DataFrame(rows)
