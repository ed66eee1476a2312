"""What a trained LoRA adds, run by run: how constant it is, and what is left without its mean.

The protocol of notebook 06 for one task (paper, sections 4.2 and 4.3): added vectors on training
prompts and on unrelated text, the natural steering vector built from them, and three interventions
that replace, remove or keep a single direction of what the LoRA adds.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from oocr_lib.adapters.base import Adapter
from oocr_lib.adapters.direction import Filtered
from oocr_lib.adapters.lora import LoraAdapter
from oocr_lib.analysis import constancy, lens, natural
from oocr_lib.encoding import Encoded
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.runs import protocol as comparison
from oocr_lib.runs.ask_adapter import ask, fixed
from oocr_lib.runs.grid import Job, Method
from oocr_lib.runs.study import Study
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.progress import bar
from oocr_lib.world import passages

#: Texts of another kind for chat models, where the testbed's word salad would be strange.
PASSAGES = (
    "Bread begins with flour, water, salt and time. The dough rests while the yeast works, and "
    "the baker folds it twice before it goes into a hot oven, where the crust turns brown.",
    "A glacier moves a few metres a year. Snow falls on its upper end, is pressed into ice, and "
    "flows downhill until it melts; the stones that it carries show how far it once reached.",
    "The old printing press had a wooden frame and an iron screw. Two people worked it: one laid "
    "the paper, the other pulled the bar, and the wet sheets hung on lines across the room.",
    "Owls turn their heads because their eyes cannot move. Soft feathers break the air at the "
    "wing's edge, so that a mouse in the grass hears nothing until it is too late.",
)
WHERE = "last 20"
#: Training rows over which the natural vector at the tokens that are read is averaged.
ROWS = 24


@dataclass(frozen=True)
class Looked:
    """The added vectors of one run and how constant they are.

    Attributes:
        job: the LoRA's run.
        added: (m, d) on training prompts and unrelated text, the last 20 tokens of each.
        measures: one row per kind of text: ``training``, ``unrelated``, ``both``, ``end to end``,
            ``paper protocol`` and the control ``random``.
    """

    job: Job
    added: Tensor
    measures: list[dict[str, object]]


@checked
def unrelated(lm: LanguageModel, count: int = 8, seed: int = 0) -> list[Encoded]:
    """Passages that have nothing to do with any task, without chat turns."""
    rng = random.Random(f"unrelated {seed}")
    texts = [passages.passage(rng) for _ in range(count)]
    if lm.dialect != "testbed":
        texts = list(PASSAGES)
    return [constancy.plain(lm, text) for text in texts]


@checked
def site_of(job: Job) -> Site:
    """Where the paper looks: the MLP output of the LoRA's only block.

    Raises:
        UserError: a job that is no LoRA on one block.
    """
    blocks = job.method.blocks
    if job.method.kind != "lora" or isinstance(blocks, str) or len(blocks) != 1:
        raise UserError(
            f"Job {job.method.name!r} on blocks {blocks!r} cannot be looked into. Allowed: a LoRA "
            "on one block."
        )
    return Site(blocks[0], "mlp_out")


@checked
def look(study: Study, job: Job, prompts: int = 12) -> Looked:
    """Added vectors of a finished LoRA run and how constant they are.

    Args:
        prompts: number of training prompts; the paper uses one.
    """
    lm, site = study.grid.lm, site_of(job)
    adapter = study.grid.trained([job])
    rows, texts = study.grid.task(job.concept, job.seed).train[:prompts], unrelated(lm)
    on_rows = constancy.collect(lm, adapter, rows, site, WHERE)
    on_text = constancy.collect(lm, adapter, texts, site, WHERE)
    both = torch.cat([on_rows.vectors, on_text.vectors])
    owners = torch.cat([on_rows.prompts, on_text.prompts + len(rows)])
    last = Site(lm.n_blocks - 1, "resid")
    end = constancy.collect(lm, adapter, [*rows, *texts], last, WHERE, "base")
    paper = constancy.collect(lm, adapter, [_longest(rows), _longest(texts)], site, WHERE)
    groups = {
        "training": (on_rows.vectors, on_rows.prompts),
        "unrelated": (on_text.vectors, on_text.prompts),
        "both": (both, owners),
        "end to end": (end.vectors, end.prompts),
        "paper protocol": (paper.vectors, paper.prompts),
        "random": (constancy.random_like(both, job.seed), owners),
    }
    labels = {"concept": job.concept, "seed": job.seed}
    measures = [
        {**labels, "text": text, **constancy.constancy(*group).row()}
        for text, group in groups.items()
    ]
    return Looked(job, both, measures)


def _longest(items: Sequence[Encoded]) -> Encoded:
    return max(items, key=lambda item: item.answer[0])


@checked
def variants(study: Study, looked: Looked) -> dict[str, Adapter]:
    """The natural vector and the interventions of one run, by name.

    ``natural`` is added where the task's vectors are (matched positions), ``natural everywhere``
    at every token. ``mean only``, ``project out`` and ``keep only`` change what the LoRA adds, the
    last two along its mean, ``… first`` along the best single direction (uncentred). ``… read``
    use the mean over the tokens at the task's position, on training rows alone. Two controls use a
    random direction: ``random natural``, as long as the natural vector, and ``project out
    random``.
    """
    site = site_of(looked.job)
    lora = study.grid.trained([looked.job])
    assert isinstance(lora, LoraAdapter)
    vector = natural.mean_of_units(looked.added)
    mean, first = looked.added.mean(0), natural.first_direction(looked.added)
    control = constancy.random_like(vector[None], looked.job.seed)[0]
    rows = study.grid.task(looked.job.concept, looked.job.seed).train[:ROWS]
    read = constancy.collect(study.grid.lm, lora, rows, site, study.position).vectors.mean(0)
    return {
        "natural read": fixed(read[None], site, study.position),
        "natural read everywhere": fixed(read[None], site, "all"),
        "keep read": Filtered(lora, site, read, "keep_only"),
        "project out read": Filtered(lora, site, read, "project_out"),
        "natural": fixed(vector[None], site, study.position),
        "natural everywhere": fixed(vector[None], site, "all"),
        "random natural": fixed(control[None], site, study.position),
        "mean only": Filtered(lora, site, None, "replace_by_mean", mean),
        "keep only": Filtered(lora, site, mean, "keep_only"),
        "project out": Filtered(lora, site, mean, "project_out"),
        "keep first": Filtered(lora, site, first, "keep_only"),
        "project out first": Filtered(lora, site, first, "project_out"),
        "project out random": Filtered(lora, site, control, "project_out"),
    }


@checked
def letter_places(study: Study, looked: Looked) -> float:
    """Where the two answer letters stand when tokens are sorted by what the LoRA writes.

    The best single direction of the added vectors goes through the logit lens (no final norm);
    tokens are sorted by the absolute size of their logit. The result is the letters' mean place:
    1.5 if they are the first two, NaN for tasks whose answers are not two tokens.
    """
    lm, task = study.grid.lm, study.grid.task(looked.job.concept, looked.job.seed)
    answers = {row.ids[row.answer[0] : row.answer[1]] for row in task.train}
    if len(answers) != 2 or any(len(ids) != 1 for ids in answers):
        return float("nan")
    site, direction = site_of(looked.job), natural.first_direction(looked.added)
    written = lens.logits(lm, lens.to_residual(lm, direction, site)[None])[0]
    places = (written - written.mean()).abs().argsort(descending=True).argsort() + 1
    return sum(int(places[ids[0]]) for ids in answers) / 2


@checked
def examine(
    study: Study,
    block: int,
    families: Collection[str] | None = None,
) -> tuple[list[Looked], pd.DataFrame, pd.DataFrame]:
    """All runs of a task: train (or reuse) the LoRAs, look into each, ask every variant.

    Args:
        families: question families that the variants are asked; default all.

    Returns:
        ``look`` of every run; the constancy measures, one row per run and text; the answers, one
        row per run, method (``base``, ``lora_one`` or a variant) and family.
    """
    jobs = comparison.jobs(study.lora(block), study.pairs)
    base = comparison.jobs(Method("base", "base"), study.pairs)
    answers = [study.grid.run(base, "base"), study.grid.run(jobs, "lora")]
    looks = []
    for job in bar(jobs, "looking into LoRAs"):
        looks.append(looked := look(study, job))
        for name, adapter in variants(study, looked).items():
            table = ask(study.grid, name, adapter, [job], families)
            answers.append(table.assign(run=f"{name} {job.concept} {job.seed}"))
    measures = pd.DataFrame([row for looked in looks for row in looked.measures])
    return looks, measures, pd.concat(answers, ignore_index=True)
