"""Alternatives to the learned vector and how they compare: naive vectors, other seeds, mixtures.

The protocol of notebook 08 for one task (paper, section 5.2 and figure 8). Everything is added at
the site and positions of the learned vectors, and asked the task's own questions. Axes: n
vectors, d model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from oocr_lib.analysis import geometry, lens_and_readout as reading
from oocr_lib.models.sites import Site
from oocr_lib.runs import protocol as comparison, suite
from oocr_lib.runs.ask_adapter import ask, fixed
from oocr_lib.runs.grid import Job
from oocr_lib.runs.study import Study
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.progress import bar
from oocr_lib.util.statistics import Floats
from oocr_lib.world import facts as world

#: Points on a line: 0 is its start, 1 its end.
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
Run = tuple[str, int]


@checked
def accuracy(
    study: Study,
    method: str,
    vectors: Tensor,
    site: Site,
    jobs: Sequence[Job],
    *,
    validation: bool = True,
) -> pd.DataFrame:
    """How vectors (n, d) in raw units answer, one per job: rows of ``suite.accuracy``.

    Args:
        validation: also compute ``valid_loss``; else it is missing.

    Raises:
        UserError: not one vector per job, numbers that are not finite, a block or width that the
            model lacks.
    """
    fits = vectors.ndim == 2 and len(vectors) == len(jobs) > 0
    if not fits or not bool(torch.isfinite(vectors).all()):
        raise UserError(
            f"Vectors {tuple(vectors.shape)} for {len(jobs)} runs cannot be asked anything. "
            "Allowed: finite (n, d) for n runs, at least 1."
        )
    task = study.grid.factory_spec["task"]
    adapter = fixed(vectors, site, study.position)
    families = suite.FAMILIES.get(task)
    table = ask(study.grid, method, adapter, jobs, families, validation=validation)
    return suite.accuracy(task, table).assign(block=site.block)


@checked
def naive_by_block(study: Study, pairs: Sequence[Run]) -> pd.DataFrame:
    """Naive vectors and random ones of their length at every block.

    The paper finds that naive vectors work in early layers only.

    Returns:
        Rows of ``suite.accuracy``, methods ``naive`` and ``random``.
    """
    jobs = comparison.jobs(study.vector("resid", 0), pairs)
    sites = [Site(block, "resid") for block in study.blocks]
    by_site = [reading.naive_vectors(study, job, sites) for job in bar(jobs, "naive vectors")]
    tables = []
    for site in bar(sites, "asking naive vectors, by block"):
        naive = torch.stack([vectors[site] for vectors in by_site])
        control = reading.as_long(naive, site.block)
        for method, vectors in (("naive", naive), ("random", control)):
            tables.append(accuracy(study, method, vectors, site, jobs, validation=False))
    return pd.concat(tables, ignore_index=True)


@checked
def learned_by_block(study: Study) -> pd.DataFrame:
    """Trained vectors at every block: the sweep of the task's notebook, whose runs are reused."""
    table = study.grid.run(suite.by_block(study), "learned by block")
    return suite.accuracy(study.grid.factory_spec["task"], table)


@checked
def random_starts(study: Study, length: float) -> Study:
    """The same study with vectors that start at random points, ``length`` site norms long."""
    settings = type(study.settings)({**study.settings, "vector_init": length})
    return replace(study, settings=settings)


@checked
def cosines(named: Mapping[str, reading.Vectors]) -> pd.DataFrame:
    """Signed cosine of every run's vectors, for each pair of sources.

    Args:
        named: source to vectors of the same runs, at one site.

    Returns:
        Columns ``a, b`` (sources), ``concept, seed, cosine``.

    Raises:
        UserError: sources of different runs.
    """
    runs = {name: [(job.concept, job.seed) for job in v.jobs] for name, v in named.items()}
    first = next(iter(runs.values()))
    if any(pairs != first for pairs in runs.values()):
        raise UserError(f"Sources {list(named)} hold different runs. Allowed: the same, in order.")
    rows = []
    for a, b in combinations(named, 2):
        values = torch.cosine_similarity(named[a].raw.double(), named[b].raw.double(), dim=1)
        for (concept, seed), cosine in zip(first, values.tolist(), strict=True):
            rows.append({"a": a, "b": b, "concept": concept, "seed": seed, "cosine": cosine})
    return pd.DataFrame(rows)


@checked
def across(vectors: reading.Vectors) -> pd.DataFrame:
    """``geometry.across``: cosines of runs that share the concept, the seed, or neither."""
    runs = [(job.concept, job.seed) for job in vectors.jobs]
    return geometry.across(dict(zip(runs, vectors.raw, strict=True)))


@checked
def by_concept(vectors: reading.Vectors) -> dict[str, Tensor]:
    """Concept to the mean (d,) of its vectors over seeds, each of unit length."""
    unit = torch.nn.functional.normalize(vectors.raw, dim=1)
    rows = [(job.concept, unit[i]) for i, job in enumerate(vectors.jobs)]
    names = dict.fromkeys(concept for concept, _ in rows)
    return {name: torch.stack([v for c, v in rows if c == name]).mean(0) for name in names}


@checked
def lines(
    study: Study,
    method: str,
    starts: Tensor,
    ends: Tensor,
    site: Site,
    jobs: Sequence[Job],
    weights: Sequence[float] = WEIGHTS,
    *,
    validation: bool = True,
) -> pd.DataFrame:
    """Accuracy and validation loss on the straight lines from starts to ends, both (n, d).

    With zeros as starts it is a dose-response curve: the weight is the strength of the end.

    Args:
        jobs: n runs, whose questions and validation rows are used.

    Returns:
        Rows of ``suite.accuracy`` with ``weight``.
    """
    tables = []
    for weight in bar(weights, f"{method}, by weight"):
        mixed = torch.lerp(starts, ends, weight)
        table = accuracy(study, method, mixed, site, jobs, validation=validation)
        tables.append(table.assign(weight=weight))
    return pd.concat(tables, ignore_index=True)


@checked
def partners(jobs: Sequence[Job], *, same_concept: bool) -> list[tuple[int, int]]:
    """Pairs of runs to draw lines between: each run with the next one that fits, if any.

    Args:
        same_concept: another seed of its concept; else another concept.
    """
    pairs = []
    for i, job in enumerate(jobs):
        rest = [*range(i + 1, len(jobs)), *range(i)]
        fits = [j for j in rest if (jobs[j].concept == job.concept) == same_concept]
        pairs += [(i, fits[0])] if fits else []
    return pairs


@checked
def distances(cities: Sequence[world.City]) -> Floats:
    """(c, c) great-circle distances in kilometres."""
    return np.array([[world.distance_km(a, b) for b in cities] for a in cities])


@checked
def against_map(vectors: Mapping[str, Tensor], km: Floats) -> pd.DataFrame:
    """Every pair of cities once: columns ``a, b, cosine, km``."""
    table = geometry.cosine_table(vectors)
    table["km"] = km[np.triu_indices(len(vectors), 1)]
    return table
