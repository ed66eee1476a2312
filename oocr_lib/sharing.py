"""Which pools of ``reuse`` a batch of jobs starts from: what their adapters leave unchanged."""

from __future__ import annotations

from collections.abc import Sequence

from oocr_lib.encoding import Encoded
from oocr_lib.evaluation import Asked
from oocr_lib.methods import Job, Method
from oocr_lib.reuse import Pool, Pools, Reuse, first_changed
from oocr_lib.sites import Site
from oocr_lib.training import RunData, sample

#: Share of a row's tokens from which a cache pays.
MOST = 0.5


def touched(method: Method) -> str:
    """Position whose tokens the method's adapter changes; a LoRA changes all."""
    return "all" if method.kind == "lora" else method.position


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

    Training rows pay from one epoch on, earlier tokens when they are most of a row (a cache
    needs a mask, which makes attention slower). What is pooled depends on the jobs and not on what
    was run before, so that a continued sweep computes the same numbers.
    """
    method = jobs[0].method
    if pools is None or method.kind == "base":
        return None
    position = touched(method)
    if known_share(data[0].valid, position) < MOST:
        position = "all"
    depth = min(untouched_blocks(job.method) for job in jobs)
    if position == "all" and depth == 0:
        return None
    config, made = method.config, dict[tuple[object, ...], Pool | None]()
    for job, run, questions in zip(jobs, data, asked, strict=True):
        named = (job.concept, job.seed, position)
        trained = method.kind in ("vector", "lora")
        if trained and config.steps * config.batch >= len(run.train):
            key: tuple[object, ...] = (*named, "train", job.method.shuffled)
            made[key] = pools.get(key, run.train, position)
        scored = sample(run.valid, config.valid_rows, run.seed)
        key = (*named, "valid", config.valid_rows)
        made[key] = pools.get(key, scored, position)
        passes = _sequences(questions)
        if passes:
            key = (*named, "questions")
            made[key] = pools.get(key, passes, position)
    kept = [pool for pool in made.values() if pool is not None]
    return Reuse(pools.lm, kept, depth) if kept else None


def _sequences(questions: Sequence[Asked]) -> list[Encoded]:
    """Every sequence that is scored; written answers are decoded without reuse."""
    return [part.encoded for asked in questions if asked.options for part in asked.sequences]
