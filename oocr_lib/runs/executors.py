"""Which executor jobs get: the engine's, with what they can share, or the plain one.

This is the only module that knows the engine. Without the engine's folder, everything runs plainly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from oocr_lib.adapters.base import Adapter
from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.encoding import Encoded
from oocr_lib.evaluation.scores import Asked
from oocr_lib.executor import PLAIN, Executor
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.runs.methods import Job
from oocr_lib.runs.planner import touched, untouched_blocks
from oocr_lib.training.loop import RunData, sample, visited

try:
    from oocr_lib.engine.batching import Reuse
    from oocr_lib.engine.executor import Fast
    from oocr_lib.engine.fused import speed_up
    from oocr_lib.engine.prefix_cache import Pool, Pools, first_changed

    ENGINE = True
except ModuleNotFoundError as error:
    if not str(error.name).startswith("oocr_lib.engine"):
        raise
    ENGINE = False

#: From this share of a row's tokens on, caching them pays; the cache's mask slows attention down.
MOST = 0.25
#: Passes that a training step saves for each cached token: forward and backward.
BACKWARD = 2
#: What the jobs of one batch must save, as a multiple of the cost of filling a pool. Below 1,
#: because other batches use the same pool.
PAYS = 0.9
#: From this many untouched blocks on, reusing their outputs pays where no tokens are cached.
_DEEP = 2


class Executors:
    """Executors for jobs on one model.

    Args:
        fast: whether to use the engine, if it is there.

    Attributes:
        pools: what was computed once for lists of rows; ``None`` where everything runs plainly.
    """

    def __init__(self, lm: LanguageModel, fast: bool = True) -> None:
        self.lm = lm
        self.pools = Pools(lm) if fast and ENGINE else None
        if self.pools is not None:
            speed_up(lm)

    def alone(self) -> Executor:
        """For rows that share nothing with others."""
        return PLAIN if self.pools is None else Fast()

    def of_jobs(
        self, jobs: Sequence[Job], data: Sequence[RunData], asked: Sequence[Sequence[Asked]]
    ) -> Executor:
        """For training and asking jobs that share a batch."""
        return reuse_for(self.pools, jobs, data, asked) or self.alone()

    def of_adapter(
        self,
        adapter: Adapter,
        asked: Sequence[Sequence[Asked]],
        checked: Sequence[Sequence[Encoded]],
    ) -> Executor:
        """For asking an adapter that was trained elsewhere.

        What none of its vectors changes is computed once for all calls with the same questions.
        Unlike in training, that almost always pays: a sweep over blocks or strengths asks the
        same questions dozens of times.
        """
        if self.pools is None or not isinstance(adapter, VectorAdapter):
            return self.alone()
        rows = [[row.encoded for q in mine for row in q.rows] for mine in asked]
        lists = [part for part in [*rows, *checked] if part]
        depths = [site.block + (site.kind == "resid") for site in adapter.sites]
        cached = known_share(lists[0], adapter.position) >= MOST
        if not cached and min(depths) < _DEEP:
            return self.alone()
        position = adapter.position if cached else "all"
        filled = dict.fromkeys(self.pools.get(part, position, min(depths)) for part in lists)
        pools = [pool for pool in filled if pool is not None]
        return Reuse(self.lm, pools, depths) if pools else self.alone()


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

    Earlier tokens are cached when they make up enough of a row. What is pooled depends on the jobs
    and not on what was run before, so that a continued sweep computes the same numbers.
    """
    method = jobs[0].method
    if pools is None or method.kind == "base":
        return None
    share = known_share(data[0].valid, touched(method))
    position = touched(method) if share >= MOST else "all"
    rest = 1 - share if share >= MOST else 1.0
    depths = [untouched_blocks(job.method) for job in jobs]
    # Savings add up over jobs with the same rows; a job at the lowest block may save nothing.
    saved = defaultdict[tuple[str, int], float](float)
    for job, depth in zip(jobs, depths, strict=True):
        saved[job.concept, job.seed] += 1 - rest * (1 - depth / pools.lm.n_blocks)
    paying = list[Pool]()
    for job, run, questions in zip(jobs, data, asked, strict=True):
        for rows, uses in _poolable(job, run, questions, position):
            if rows and saved[job.concept, job.seed] * uses >= PAYS * len(rows):
                pool = pools.get(rows, position, min(depths))
                paying += [pool] if pool is not None and pool not in paying else []
    return Reuse(pools.lm, paying, depths, pack=method.kind != "lora") if paying else None


def _poolable(
    job: Job, run: RunData, questions: Sequence[Asked], position: str
) -> list[tuple[Sequence[Encoded], int]]:
    """Lists of rows that may be pooled, each with the number of row passes of one job."""
    config, trained = job.method.config, job.method.kind in ("vector", "lora")
    numbers = visited(len(run.train), config, run.seed) if trained else []
    passes = config.steps * config.batch * (1 if position == "all" else BACKWARD)
    validation = sample(run.valid, config.valid_rows, run.seed)
    # Written answers are decoded without reuse.
    options = [row.encoded for asked in questions if asked.options for row in asked.rows]
    return [
        ([run.train[i] for i in numbers], passes),
        (validation, len(validation)),
        (options, len(options)),
    ]
