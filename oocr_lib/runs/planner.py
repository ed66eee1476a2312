"""Which jobs share a batch, and what their adapters leave untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from oocr_lib.models.sites import Site
from oocr_lib.runs.methods import Job, Method

#: Most runs that share a batch; a killed sweep loses that many. More at the last token, where a run
#: costs one token per row and shares its prompts.
CAPACITY = 12
LAST_CAPACITY = 40


def batches(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in order, grouped where they can share a batch; learning rates may differ."""
    groups: list[list[Job]] = []
    open_batches: dict[Any, list[Job]] = {}
    for job in jobs:
        m = job.method
        # A batch costs what its lowest block costs, so all-block LoRAs do not join other LoRAs.
        shape = (m.rank, m.alpha, m.dropout, m.modules, m.blocks == "all", m.lora_position)
        key = (m.kind, m.position, replace(m.config, lr=1.0), m.raw, m.init, shape)
        narrow = m.kind == "vector" and m.position == "last"
        capacity = LAST_CAPACITY if narrow else CAPACITY
        if m.dropout:  # what is dropped would depend on the other runs
            capacity = 1
        if key not in open_batches or len(open_batches[key]) >= capacity:
            open_batches[key] = []
            groups.append(open_batches[key])
        open_batches[key].append(job)
    return groups


def touched(method: Method) -> str:
    """Position whose tokens the method's adapter changes."""
    return method.lora_position if method.kind == "lora" else method.position


def untouched_blocks(method: Method) -> int:
    """How many of the lowest blocks compute the same with and without the adapter."""
    if method.kind == "lora":
        return 0 if isinstance(method.blocks, str) else min(method.blocks)
    site = Site.parse(method.site)
    # A vector on the residual stream is added after its block, which itself stays untouched.
    return site.block + (site.kind == "resid")
