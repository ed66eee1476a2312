"""Which jobs share a batch, and what their adapters leave untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from oocr_lib.models.sites import Site
from oocr_lib.runs.methods import Job, Method

#: Runs that share a batch; a killed sweep loses as many. More at the last token, where runs cost
#: one token a row and share their prompts.
CAPACITY = 12
LAST_CAPACITY = 40


def batches(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in order, grouped where they can share a batch; learning rates may differ."""
    made: list[list[Job]] = []
    open_batches: dict[Any, list[Job]] = {}
    for job in jobs:
        m = job.method
        # LoRAs on all blocks cost what the lowest block costs: not together with others.
        shape = (m.rank, m.alpha, m.dropout, m.modules, m.blocks == "all", m.lora_position)
        key = (m.kind, m.position, replace(m.config, lr=1.0), m.raw, m.init, shape)
        narrow = m.kind == "vector" and m.position == "last"
        capacity = LAST_CAPACITY if narrow else CAPACITY
        if m.dropout:  # what is dropped would depend on the other runs
            capacity = 1
        if key not in open_batches or len(open_batches[key]) >= capacity:
            open_batches[key] = []
            made.append(open_batches[key])
        open_batches[key].append(job)
    return made


def touched(method: Method) -> str:
    """Position whose tokens the method's adapter changes."""
    return method.lora_position if method.kind == "lora" else method.position


def untouched_blocks(method: Method) -> int:
    """Number of lowest blocks whose outputs the adapter never changes (before it is added)."""
    if method.kind == "lora":
        return 0 if isinstance(method.blocks, str) else min(method.blocks)
    site = Site.parse(method.site)
    # A vector on the residual stream is added to what comes out of its block.
    return site.block + (site.kind == "resid")
