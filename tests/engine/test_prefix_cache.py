"""A pool keeps what is run from it and no more; what a later job needs in addition is computed."""

from __future__ import annotations

import pytest
import torch

from oocr_lib.engine.batching import Reuse
from oocr_lib.engine.prefix_cache import Pools, expected, fill
from oocr_lib.util.errors import UserError
from tests import tiny

ROWS = tiny.rows((9, 6, 11, 14, 7, 20))


@pytest.mark.parametrize("position", ["last", "codename", "all"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_pool_from_a_block_up_is_a_part_of_the_whole(family: str, position: str) -> None:
    lm = tiny.language_model(family)
    whole = fill(lm, ROWS, position)
    for lowest in range(lm.n_blocks + 1):
        part = fill(lm, ROWS, position, lowest)
        kept = min(lowest, lm.n_blocks - 1)
        assert part.lowest == kept and part.below == max(0, kept - 1)
        assert torch.equal(part.states, whole.states[:, kept:])
        assert torch.equal(part.hidden, whole.hidden[:, part.below :])
        assert part.size == expected(lm, ROWS, position, lowest)


def test_less_is_held_for_higher_blocks() -> None:
    lm = tiny.language_model()
    sizes = [fill(lm, ROWS, "last", lowest).size for lowest in (0, 1, 2)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_the_hidden_states_are_those_of_the_blocks() -> None:
    """The last block's MLP is run on the kept tokens alone: they must not differ for it."""
    lm = tiny.language_model("qwen3")
    pool, norm = fill(lm, ROWS, "codename"), lm.decoder.get_submodule("norm")
    with torch.no_grad():
        for row, start in zip(ROWS, pool.starts, strict=True):
            ids = torch.tensor([row.ids[:-1]])
            out = lm.decoder(input_ids=ids, output_hidden_states=True).hidden_states
            # The last entry of ``hidden_states`` has passed the final norm.
            mine = pool.hidden[pool.rows[row.ids[:-1]]][:, : len(row.ids) - 1 - start]
            assert torch.allclose(mine[0], out[1][0, start:], atol=1e-5)
            last = norm(mine[-1])
            assert torch.allclose(last, out[-1][0, start:], atol=1e-5)


def test_a_job_at_a_lower_block_fills_the_pool_again() -> None:
    lm = tiny.language_model()
    pools = Pools(lm)
    high = pools.get(ROWS, "last", 2)
    assert high is not None and pools.get(ROWS, "last", 2) is high
    low = pools.get(ROWS, "last", 1)
    assert low is not None and low.lowest == 1
    assert pools.get(ROWS, "last", 2) is low, "it holds all that is asked for"
    assert pools.size == low.size


def test_a_depth_below_the_pool_is_refused() -> None:
    lm = tiny.language_model()
    with pytest.raises(UserError, match="Depth 1 cannot be entered from a pool that begins at bl"):
        Reuse(lm, [fill(lm, ROWS, "last", 2)], [2, 1])
