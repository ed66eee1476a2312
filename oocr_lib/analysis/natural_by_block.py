"""Natural vectors by block: how far the mean of what a LoRA adds replaces it, block by block.

The paper draws LoRA, learned and natural vector by layer for functions, in one figure, and gives
its natural vector to every token. Here the natural vector is the mean of what the LoRA adds at the
tokens that are read, on training rows alone, and it is added there alone (matched), at the LoRA's
own site. Axes: k runs, d model width.
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
    """Train (or find) a LoRA and a vector at every block on every pair; ask the natural vectors.

    Args:
        accuracy: answers of ``Grid.run`` to one row a run with ``accuracy``, for instance
            ``suite.accuracy`` of the task.
        families: question families that natural and random vectors are asked; default all.

    Returns:
        The rows of ``accuracy`` of every block, with ``block``: methods ``lora_one``,
        ``vector_mlp_out`` (trained at the same site), ``natural``, and the control ``random``, as
        long as the natural vector.
    """
    grid, every = study.grid, []
    loras = {block: protocol.jobs(study.lora(block), pairs) for block in study.blocks}
    trained = {b: protocol.jobs(study.vector("mlp_out", b), pairs) for b in study.blocks}
    for listed, label in ((loras, "LoRAs by block"), (trained, "vectors by block")):
        every.append(accuracy(grid.run([j for jobs in listed.values() for j in jobs], label)))
    for block, jobs in bar(loras.items(), "natural vectors by block"):
        natural, site = format_and_concept.vectors(study, jobs), site_of(jobs[0])
        made = {"natural": natural, "random": constancy.random_like(natural, 100 + block)}
        for name, vectors in made.items():
            told = ask(grid, name, fixed(vectors, site, study.position), jobs, families)
            table = accuracy(told).assign(block=block)
            table["run"] = [f"{name} {block} {c} {s}" for c, s in pairs]
            every.append(table)
    return pd.concat(every, ignore_index=True)
