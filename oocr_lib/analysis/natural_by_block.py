"""Natural vectors by block: how well the mean of what a LoRA adds replaces it, block by block.

For functions the paper plots the LoRA, the learned vector and the natural vector by layer in one
figure, and adds its natural vector at every token. Here the natural vector is the mean of what the
LoRA adds at the tokens that are read, on training rows alone, and it is added only there (matched),
at the LoRA's own site. Axes: k runs, d model width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pandas as pd

from oocr_lib.analysis import constancy, format_and_concept
from oocr_lib.analysis.lora_constancy import site_of
from oocr_lib.runs import protocol
from oocr_lib.runs.ask_adapter import ask, fixed
from oocr_lib.runs.study import Study
from oocr_lib.util.arguments import checked
from oocr_lib.util.progress import bar


@checked
def examine(
    study: Study,
    pairs: Sequence[tuple[str, int]],
    accuracy: Callable[[pd.DataFrame], pd.DataFrame],
    families: Collection[str] | None = None,
) -> pd.DataFrame:
    """Train (or reuse) a LoRA and a vector at every block on each pair; ask the natural vectors.

    Args:
        accuracy: turns answers of ``Grid.run`` into one row per run with ``accuracy``, for instance
            ``suite.accuracy`` of the task.
        families: question families for the natural and random vectors; default all.

    Returns:
        The rows of ``accuracy`` of every block, with ``block``: methods ``lora_one``,
        ``vector_mlp_out`` (trained at the same site), ``natural``, and the control ``random``, as
        long as the natural vector.
    """
    grid, tables = study.grid, []
    lora_jobs = {block: protocol.jobs(study.lora(block), pairs) for block in study.blocks}
    vector_jobs = {b: protocol.jobs(study.vector("mlp_out", b), pairs) for b in study.blocks}
    for by_block, label in ((lora_jobs, "LoRAs by block"), (vector_jobs, "vectors by block")):
        tables.append(accuracy(grid.run([j for jobs in by_block.values() for j in jobs], label)))
    for block, jobs in bar(lora_jobs.items(), "natural vectors by block"):
        natural, site = format_and_concept.vectors(study, jobs), site_of(jobs[0])
        sources = {"natural": natural, "random": constancy.random_like(natural, 100 + block)}
        for name, vectors in sources.items():
            answers = ask(grid, name, fixed(vectors, site, study.position), jobs, families)
            table = accuracy(answers).assign(block=block)
            table["run"] = [f"{name} {block} {c} {s}" for c, s in pairs]
            tables.append(table)
    return pd.concat(tables, ignore_index=True)
