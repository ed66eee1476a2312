"""Reading vectors, run by run: the logit lens scored by the concept's own words, and readouts.

The protocol of notebook 07 for one task (paper, section 4.4 and appendix A.4): the words and the
concepts to tell apart are fixed in ``stated`` before any vector exists, and every score stands
beside those of random vectors of the same length. Axes: n vectors, d model width, p prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from oocr_lib.adapters import VectorAdapter
from oocr_lib.analysis import lens, lora_constancy as inside, naive, natural
from oocr_lib.encoding import Encoded, encode
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.runs import protocol as comparison
from oocr_lib.runs.grid import Job
from oocr_lib.runs.study import Study
from oocr_lib.tasks import statements as stated
from oocr_lib.tasks.base import Task
from oocr_lib.util.arguments import check_seed, checked, checked_fields
from oocr_lib.util.progress import bar

#: Prompts that state each concept.
PROMPTS = 8


@checked_fields
@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of one method, all at one place of the residual stream.

    Attributes:
        method: its name in tables.
        block: the block after which they are read, in the residual stream.
        jobs: the runs they come from.
        raw: (n, d) float32 on the CPU, in units of the residual stream.
    """

    method: str
    block: int
    jobs: Sequence[Job]
    raw: Tensor

    @property
    def concepts(self) -> list[str]:
        """The hidden concept of each vector."""
        return [job.concept for job in self.jobs]


@checked
def learned(study: Study, block: int, pairs: Sequence[tuple[str, int]]) -> Vectors:
    """Vectors trained in the residual stream after ``block``; finished runs are reused."""
    jobs = comparison.jobs(study.vector("resid", block), pairs)
    study.grid.run(jobs, "vectors")
    adapter = study.grid.trained(jobs)
    assert isinstance(adapter, VectorAdapter)
    return Vectors("vector_resid", block, jobs, adapter.vectors.float().cpu())


@checked
def of_loras(study: Study, block: int, pairs: Sequence[tuple[str, int]]) -> Vectors:
    """Natural vectors of one-block LoRAs, as they reach the residual stream after ``block``."""
    jobs = comparison.jobs(study.lora(block), pairs)
    study.grid.run(jobs, "loras")
    lm, vectors = study.grid.lm, []
    for job in bar(jobs, "looking into LoRAs"):
        added = inside.look(study, job).added
        vectors.append(lens.to_residual(lm, natural.mean_of_units(added), Site(block, "mlp_out")))
    return Vectors("natural", block, jobs, torch.stack(vectors))


@checked
def random_like(vectors: Vectors, seed: int = 0) -> Vectors:
    """Control: a random direction as long as each of the vectors."""
    return Vectors("random", vectors.block, vectors.jobs, as_long(vectors.raw, seed))


@checked
def as_long(vectors: Tensor, seed: int) -> Tensor:
    """Random directions (n, d) as long as the vectors (n, d)."""
    generator = torch.Generator().manual_seed(check_seed(seed))
    directions = torch.randn(vectors.shape, generator=generator)
    return directions / directions.norm(dim=1, keepdim=True) * vectors.norm(dim=1, keepdim=True)


@checked
def of_names(study: Study, block: int, pairs: Sequence[tuple[str, int]]) -> Vectors:
    """Naive vectors: what stating the concept adds after ``block``, real name minus code name."""
    jobs = comparison.jobs(study.vector("resid", block), pairs)
    site = Site(block, "resid")
    raw = [naive_vectors(study, job, [site])[site] for job in bar(jobs, "naive vectors")]
    return Vectors("naive", block, jobs, torch.stack(raw))


@checked
def naive_vectors(study: Study, job: Job, sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Naive vectors (d,) of a run's concept at every site, against its own code name."""
    lm, task = study.grid.lm, study.grid.task(job.concept, job.seed).task
    real, code = (encoded(lm, task, concept) for concept in (job.concept, None))
    return naive.naive_vectors(lm, real, code, sites, where(study))


@checked
def where(study: Study) -> str:
    """The token at which stated concepts are read: the name's last, or the prompt's last."""
    return "codename" if study.position == "codename" else "last"


@checked
def encoded(lm: LanguageModel, task: Task, concept: str | None) -> list[Encoded]:
    """The prompts that state a concept (None: the same without it) as tokens."""
    prompts = stated.prompts(task, concept, PROMPTS)
    return [encode(lm.tokenizer, p.messages, marks=p.marks) for p in prompts]


@checked
def score_lens(
    study: Study, vectors: Vectors, *, norm: bool = False, controls: int = 200
) -> pd.DataFrame:
    """Logit-lens scores of every vector, for its own concept's words and another concept's.

    Returns:
        One row a vector: ``method, block, concept, seed, norm, words`` (how many are one token);
        ``percentile``, the share of random vectors that rank the words lower (mean rank over the
        words; by chance 0.5), ``best``, the same for the best word, ``rank`` (mean, from 1),
        ``other``, the percentile of the words of the next concept in the study.

    Raises:
        UserError: as ``lens.concept_rank``.
    """
    lm, task = study.grid.lm, study.grid.factory_spec["task"]
    names = list(dict.fromkeys(concept for concept, _ in study.pairs))
    following = dict(zip(names, [*names[1:], names[0]], strict=True))

    def ranked(concepts: Sequence[str]) -> pd.DataFrame:
        sets = [words_of(lm, task, concept) for concept in concepts]
        return lens.concept_rank(lm, vectors.raw, sets, norm, controls)

    scores = ranked(vectors.concepts)
    other_scores = ranked([following[concept] for concept in vectors.concepts])
    return pd.DataFrame(
        {
            "method": vectors.method,
            "block": vectors.block,
            "concept": vectors.concepts,
            "seed": [job.seed for job in vectors.jobs],
            "norm": norm,
            "words": scores["tokens"],
            "percentile": scores["mean_percentile"],
            "best": scores["best_percentile"],
            "rank": scores["mean_rank"],
            "other": other_scores["mean_percentile"],
        }
    )


@checked
def words_of(lm: LanguageModel, task: str, concept: str) -> tuple[int, ...]:
    """Token ids of a concept's words; if none is one token, each word's first."""
    words = stated.words(task, lm.dialect, concept)
    has_single = any(
        len(lm.tokenizer(form, add_special_tokens=False)["input_ids"]) == 1
        for word in words
        for form in (word, " " + word)
    )
    return lens.token_set(lm, words, first=not has_single)


@checked
def activations(study: Study, block: int) -> dict[str, Tensor]:
    """Base activations (p, d) after ``block`` where each concept that exists is stated."""
    lm, (concept, seed) = study.grid.lm, study.pairs[0]
    task, site = study.grid.task(concept, seed).task, Site(block, "resid")
    return {
        name: naive.name_activations(lm, encoded(lm, task, name), [site], where(study))[site]
        for name in bar(stated.concepts(task.name, task.dialect), "stating every concept")
    }


@checked
def readout(vectors: Vectors, stated_at: Mapping[str, Tensor]) -> pd.DataFrame:
    """Which concept each vector resembles most, among all that exist.

    Args:
        stated_at: from ``activations``, for the same block.

    Returns:
        One row a vector: ``method, block, concept, seed, nearest, rank`` (of the true one, from
        1), ``top1`` (0 or 1), ``cosine``; ``trust``, how often the readout names the right concept
        for a held-out prompt that states it; ``chance``.
    """
    reading = lens.readout(vectors.raw, vectors.concepts, stated_at)
    table = reading.table.drop(columns=["vector", "truth"])
    return table.assign(
        method=vectors.method,
        block=vectors.block,
        concept=vectors.concepts,
        seed=[job.seed for job in vectors.jobs],
        top1=(table["rank"] <= 1).astype(float),
        trust=reading.accuracy,
        chance=reading.chance,
    )
