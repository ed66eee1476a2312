"""Which jobs reuse what: never more than their adapters leave unchanged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oocr_lib.encoding import Encoded
from oocr_lib.engine.prefix_cache import Pools
from oocr_lib.runs.executors import known_share, reuse_for
from oocr_lib.runs.methods import Job, Method
from oocr_lib.runs.planner import touched, untouched_blocks
from oocr_lib.training.loop import RunData, TrainConfig
from tests import tiny

ROWS = tiny.rows((9, 8, 10, 12))
VALID = tiny.rows((9, 8), seed=2)
LATE = Method("vector_resid", "vector", site="resid@1", position="last", config=TrainConfig(9, 4))


@pytest.mark.parametrize(
    ("method", "blocks"),
    [
        (Method("v", "vector", site="resid@1"), 2),
        (Method("v", "vector", site="mlp_out@1"), 1),
        (Method("v", "vector", site="attn_out@0"), 0),
        (Method("r", "random", site="resid@0"), 1),
        (Method("l", "lora", blocks=(2, 1)), 1),
        (Method("l", "lora", blocks="all"), 0),
    ],
)
def test_blocks_below_the_adapter_are_untouched(method: Method, blocks: int) -> None:
    assert untouched_blocks(method) == blocks


def test_a_lora_touches_every_token() -> None:
    assert touched(Method("l", "lora", blocks=(2,), position="last")) == "all"
    assert touched(LATE) == "last"


def test_a_lora_at_a_position_reuses_earlier_tokens_in_rows_by_themselves() -> None:
    lora = Method("l", "lora", blocks=(0,), lora_position="last", config=TrainConfig(9, 4))
    assert touched(lora) == "last" and untouched_blocks(lora) == 0
    made = reuse_for(
        Pools(tiny.language_model()), [Job(lora, "c", 0)], [RunData(ROWS, VALID, 0)], [[]]
    )
    assert made is not None and not made.pack and min(made.pools[0].starts) > 0
    assert pooled(replace(lora, lora_position="all")) is None
    vectors = reuse_for(
        Pools(tiny.language_model()), [Job(LATE, "c", 0)], [RunData(ROWS, VALID, 0)], [[]]
    )
    assert vectors is not None and vectors.pack


def test_the_known_share_counts_tokens() -> None:
    row = Encoded(tuple(range(10)), (9, 10), {"last": (8,), "codename": (2, 3)}, "")
    assert known_share([row], "last") == 0.8
    assert known_share([row, row], "codename") == 0.2
    assert known_share([row], "all") == 0


def pooled(*methods: Method, rows: list[Encoded] | None = None) -> tuple[int, list[int]] | None:
    """Depth and sizes of the pools for jobs of these methods, one seed each."""
    jobs = [Job(method, "c", seed) for seed, method in enumerate(methods)]
    data = [RunData(rows or ROWS, VALID, job.seed) for job in jobs]
    made = reuse_for(Pools(tiny.language_model()), jobs, data, [[] for _ in jobs])
    return (made.depth, [len(pool.rows) for pool in made.pools]) if made else None


def test_jobs_at_several_blocks_start_below_the_lowest() -> None:
    """Both seeds see the same rows: one pool. Scoring rows once pays where all is known."""
    assert pooled(LATE, replace(LATE, site="resid@2")) == (2, [4, 2])
    assert pooled(replace(LATE, site="mlp_out@2")) == (2, [4])


def test_nothing_is_reused_where_everything_changes() -> None:
    assert pooled(Method("base", "base")) is None
    assert pooled(Method("l", "lora", blocks="all")) is None
    assert pooled(Method("v", "vector", site="mlp_out@0", position="all")) is None


def test_only_rows_that_are_visited_are_pooled() -> None:
    many = tiny.rows((9, 8, 10, 12) * 30, seed=7)
    short = replace(LATE, config=TrainConfig(2, 4))
    assert pooled(short, rows=many) == (2, [8])


def test_lower_blocks_alone_pay_only_when_rows_come_often() -> None:
    """A LoRA at block 1 of 3 saves a third: rows that are seen once do not pay, nine times do."""
    lora = Method("l", "lora", blocks=(1,), config=TrainConfig(1, 4))
    assert pooled(lora) is None
    assert pooled(replace(lora, config=TrainConfig(9, 4))) == (1, [4])


def test_a_lora_at_the_lowest_block_does_not_stop_the_others() -> None:
    """Blocks 0, 1, 2 of 3 save nothing, a third, two thirds: together they pay for one pool."""
    loras = [Method("l", "lora", blocks=(b,), config=TrainConfig(1, 4)) for b in (2, 0, 1)]
    jobs = [Job(method, "c", 0) for method in loras]
    data = [RunData(ROWS, VALID, 0) for _ in jobs]
    made = reuse_for(Pools(tiny.language_model()), jobs, data, [[] for _ in jobs])
    assert made is not None and made.depths == (2, 0, 1)
    assert [len(pool.rows) for pool in made.pools] == [4, 2]
    assert pooled(loras[1]) is None


def test_reuse_can_be_switched_off() -> None:
    assert reuse_for(None, [Job(LATE, "c", 0)], [RunData(ROWS, ROWS, 0)], [[]]) is None
