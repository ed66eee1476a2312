"""What jobs share: batches, and the pools of ``reuse`` that a batch starts from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from oocr_lib.encoding import Encoded
from oocr_lib.engine.batching import Reuse
from oocr_lib.engine.prefix_cache import Pool, Pools, first_changed
from oocr_lib.evaluation.scores import Asked
from oocr_lib.models.sites import Site
from oocr_lib.runs.methods import Job, Method
from oocr_lib.training.loop import RunData, sample, visited

#: Share of a row's tokens from which a cache pays; it needs a mask, which makes attention slower.
MOST = 0.25
#: Of tokens taken over, a training step saves the backward pass as well.
BACKWARD = 2
#: What the jobs of one batch must save, in times of what filling a pool costs. Below 1, because
#: other batches use the same pool.
PAYS = 0.9
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


def known_share(rows: Sequence[Encoded], position: str) -> float:
    """Share of the rows' tokens before the first that adapters at ``position`` change."""
    return sum(first_changed(r, position) for r in rows) / sum(len(r.ids) for r in rows)


def reuse_for(
    pools: Pools | None,
    jobs: Sequence[Job],
    data: Sequence[RunData],
    asked: Sequence[Sequence[Asked]],
) -> Reuse | None:
    """The pools that pay for these jobs, which share a batch; ``None`` when nothing is shared.

    Earlier tokens are taken over when they are a good part of a row. What is pooled depends on the
    jobs and not on what was run before, so that a continued sweep computes the same numbers.
    """
    method = jobs[0].method
    if pools is None or method.kind == "base":
        return None
    known = known_share(data[0].valid, touched(method))
    position = touched(method) if known >= MOST else "all"
    rest = 1 - known if known >= MOST else 1.0
    depths = [untouched_blocks(job.method) for job in jobs]
    # Jobs with the same rows save together; one at the lowest block may save nothing itself.
    saved = defaultdict[tuple[str, int], float](float)
    for job, depth in zip(jobs, depths, strict=True):
        saved[job.concept, job.seed] += 1 - rest * (1 - depth / pools.lm.n_blocks)
    made = list[Pool]()
    for job, run, questions in zip(jobs, data, asked, strict=True):
        for rows, uses in _parts(job, run, questions, position):
            if rows and saved[job.concept, job.seed] * uses >= PAYS * len(rows):
                pool = pools.get(rows, position, min(depths))
                made += [pool] if pool is not None and pool not in made else []
    return Reuse(pools.lm, made, depths, pack=method.kind != "lora") if made else None


def _parts(
    job: Job, run: RunData, questions: Sequence[Asked], position: str
) -> list[tuple[Sequence[Encoded], int]]:
    """Lists of rows that may be pooled, and how many passes of a row one job runs of each."""
    config, trained = job.method.config, job.method.kind in ("vector", "lora")
    picked = visited(len(run.train), config, run.seed) if trained else []
    scored = sample(run.valid, config.valid_rows, run.seed)
    # Written answers are decoded without reuse.
    passes = [part.encoded for asked in questions if asked.options for part in asked.sequences]
    steps = config.steps * config.batch * (1 if position == "all" else BACKWARD)
    return [
        ([run.train[i] for i in picked], steps),
        (scored, len(scored)),
        (passes, len(passes)),
    ]
