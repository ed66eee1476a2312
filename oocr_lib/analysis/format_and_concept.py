"""What twins share and what sets them apart: the answers' format and the hidden concept.

Two fine-tunes on the same prompts, one for each of two concepts, learn how to answer (letters,
numbers, names of directions) and what to answer. Where the answer is read, what each adds is close
to one vector, and these vectors can be compared: the *shared* part is common to all concepts and
should hold the format; the *concept* part is how one concept differs from the others; what a second
seed does not repeat is neither. A fine-tune on random answers can only learn the format and shows
whether the shared part is just that. Not in the paper; section 4 asks only whether there is one
vector.

Every estimate compares a run with runs of other seeds, so that what is peculiar to a seed never
counts as shared. Axes: k runs, d model width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from oocr_lib.adapters.direction import Filtered
from oocr_lib.adapters.lora import LoraAdapter
from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.analysis import constancy
from oocr_lib.analysis.lora_constancy import ROWS, site_of
from oocr_lib.models.sites import Site
from oocr_lib.runs import protocol
from oocr_lib.runs.ask_adapter import ask, fixed
from oocr_lib.runs.grid import Job, Method
from oocr_lib.runs.study import Study
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.progress import bar

#: Vectors that are also added at every token.
PARTS = ("whole", "shared part", "concept part")


@dataclass(frozen=True, eq=False)
class Twins:
    """One vector per run, and estimates for each from runs of other seeds; all (k, d) float64.

    Attributes:
        own: the runs' vectors.
        same: mean of the runs of the same concept.
        shared: mean over all concepts, each with the same weight.
    """

    own: Tensor
    same: Tensor
    shared: Tensor

    @property
    def concept(self) -> Tensor:
        """What is not shared: own - shared, (k, d)."""
        return self.own - self.shared


@checked
def twins(vectors: Tensor, concepts: Sequence[str], seeds: Sequence[int]) -> Twins:
    """Compare runs of several concepts and seeds.

    Args:
        vectors: (k, d), one per run.
        concepts, seeds: k of each. There must be two concepts, each with runs of two seeds; each
            mean of ``Twins`` is over runs of seeds other than the run's own.

    Raises:
        UserError: other lengths, fewer than two concepts, or a concept with one seed.
    """
    vectors, runs = constancy.usable(vectors, least=2), list(zip(concepts, seeds, strict=False))
    if not len(vectors) == len(concepts) == len(seeds) == len(set(runs)):
        raise UserError(
            f"{len(vectors)} vectors, {len(concepts)} concepts and {len(seeds)} seeds do not fit. "
            "Allowed: one of each a run, no run twice."
        )
    names = list(dict.fromkeys(concepts))
    alone = [n for n in names if len({s for c, s in runs if c == n}) < 2]
    if len(names) < 2 or alone:
        reason = f"{alone[0]!r} has one seed" if alone else f"there is one concept, {names[0]!r}"
        raise UserError(
            f"Shared part and concept cannot be told apart: {reason}. Allowed: two or more "
            "concepts with two or more seeds each."
        )
    same, shared = [], []
    for concept, seed in runs:
        means = {n: vectors[[c == n and s != seed for c, s in runs]].mean(0) for n in names}
        same.append(means[concept])
        shared.append(torch.stack(list(means.values())).mean(0))
    return Twins(vectors, torch.stack(same), torch.stack(shared))


@checked
def shares(found: Twins) -> pd.DataFrame:
    """Energy of each run's vector by part, in units of the runs' mean energy.

    With f the shared part, g a concept's and e what is peculiar to a seed, v = f + g + e, the
    products v·shared, v·(same - shared) and v·(v - same) have the means |f|², |g|² and |e|² over
    runs (|g|² over concepts), because e of other seeds is independent. They sum to |v|²; a single
    one may be negative.

    Returns:
        One row per run: ``share shared``, ``share concept``, ``share seed``.
    """
    total = found.own.square().sum(1).mean()
    parts = {
        "share shared": found.shared,
        "share concept": found.same - found.shared,
        "share seed": found.own - found.same,
    }
    return pd.DataFrame({k: ((found.own * v).sum(1) / total).tolist() for k, v in parts.items()})


@checked
def vectors(study: Study, jobs: Sequence[Job]) -> Tensor:
    """One vector per finished run, (k, d) float32 in the site's raw units.

    For a LoRA, the mean of what it adds at the study's position on training rows; for a vector, the
    vector itself.
    """
    of_runs = []
    for job in jobs:
        trained = study.grid.trained([job])
        if isinstance(trained, VectorAdapter):
            of_runs.append(trained.vectors[0].cpu())
            continue
        rows = study.grid.task(job.concept, job.seed).train[:ROWS]
        additions = constancy.collect(study.grid.lm, trained, rows, site_of(job), study.position)
        of_runs.append(additions.vectors.mean(0))
    return torch.stack(of_runs)


@checked
def alike(found: Twins, fooled: Tensor | None) -> pd.DataFrame:
    """Signed cosines of each run's vector with others, one row per run.

    Args:
        fooled: (k, d), of the same runs trained on random answers, if any.

    Returns:
        ``cosine same`` and ``cosine shared``: with the means of ``Twins``; ``cosine random``: with
        the run on random answers of the same concept and seed; ``cosine format``: of that run with
        the shared part; ``cosine concept``: of the concept part with that from other seeds.
    """
    pairs = {
        "cosine same": (found.own, found.same),
        "cosine shared": (found.own, found.shared),
        "cosine concept": (found.concept, found.same - found.shared),
    }
    if fooled is not None:
        fooled = constancy.usable(fooled)
        pairs |= {"cosine random": (found.own, fooled), "cosine format": (fooled, found.shared)}
    return pd.DataFrame({name: cosine_similarity(*pair).tolist() for name, pair in pairs.items()})


@checked
def added(found: Twins, fooled: Tensor | None, jobs: Sequence[Job]) -> dict[str, Tensor]:
    """Vectors to add instead of the fine-tune, by name, (k, d) float32 each.

    ``whole`` is the run's vector, the sum of ``shared part`` and ``concept part``. Controls:
    ``other part`` (the shared part with the concept part of another concept), ``random part``
    (with a random direction as long as the concept part), and ``random answers`` where ``fooled``
    is given.
    """
    names, concept = list(dict.fromkeys(job.concept for job in jobs)), found.concept

    def another(job: Job) -> int:
        neighbour = names[(names.index(job.concept) + 1) % len(names)]
        candidates = [i for i, other in enumerate(jobs) if other.concept == neighbour]
        return next((i for i in candidates if jobs[i].seed == job.seed), candidates[0])

    by_name = {
        "whole": found.own,
        "shared part": found.shared,
        "concept part": concept,
        "other part": found.shared + concept[[another(job) for job in jobs]],
        "random part": found.shared + constancy.random_like(concept, seed=1),
    }
    by_name |= {} if fooled is None else {"random answers": fooled}
    return {name: vector.float() for name, vector in by_name.items()}


def _filtered(lora: LoraAdapter, site: Site, parts: dict[str, Tensor]) -> dict[str, Filtered]:
    """The LoRA with each part alone, and without it, at every token."""
    only = {f"only {name}": Filtered(lora, site, v, "keep_only") for name, v in parts.items()}
    return only | {
        f"without {name}": Filtered(lora, site, v, "project_out") for name, v in parts.items()
    }


@checked
def examine(
    study: Study, method: Method, families: Collection[str] | None = None, control: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train (or load) a method on all pairs, with its random-answer control, and split the vectors.

    Args:
        method: a LoRA on one block, or a vector.
        families: question families that the parts are asked; by default all.
        control: whether to train on random answers as well.

    Returns:
        One row per run with the columns of ``shares`` and ``alike``; and answers as ``Grid.run``
        gives them, one row per run, method and family: ``base``, the method itself, the vectors of
        ``added`` at the study's position; and for a LoRA ``… everywhere`` for each of ``PARTS``,
        and ``only …`` and ``without …``: what it adds at every token, along a part and without it.
    """
    grid, jobs = study.grid, protocol.jobs(method, study.pairs)
    base = protocol.jobs(Method("base", "base"), study.pairs)
    answers = [grid.run(base, "base"), grid.run(jobs, method.name)]
    fooled = None
    if control:
        control_jobs = protocol.jobs(study.random_answers(method), study.pairs)
        _ = grid.run(control_jobs, "random answers")
        fooled = vectors(study, control_jobs)
    compared = twins(vectors(study, jobs), [j.concept for j in jobs], [j.seed for j in jobs])
    site = site_of(jobs[0]) if method.kind == "lora" else Site.parse(method.site)
    for name, vector in added(compared, fooled, jobs).items():
        answers.append(ask(grid, name, fixed(vector, site, study.position), jobs, families))
        if name in PARTS and method.kind == "lora":
            everywhere = fixed(vector, site, "all")
            answers.append(ask(grid, f"{name} everywhere", everywhere, jobs, families))
    for k, job in enumerate(bar(jobs, "parts of LoRAs") if method.kind == "lora" else ()):
        lora = grid.trained([job])
        assert isinstance(lora, LoraAdapter)
        parts = {
            "shared part": compared.shared[k].float(),
            "concept part": compared.concept[k].float(),
        }
        for name, filtered in _filtered(lora, site, parts).items():
            answers.append(ask(grid, name, filtered, [job], families))
    labels = [{"concept": j.concept, "seed": j.seed, "run": f"{j.concept} {j.seed}"} for j in jobs]
    table = pd.concat([pd.DataFrame(labels), shares(compared), alike(compared, fooled)], axis=1)
    scores = pd.concat(answers, ignore_index=True)
    scores["run"] = scores["method"] + " " + scores["concept"] + " " + scores["seed"].astype(str)
    return table, scores
