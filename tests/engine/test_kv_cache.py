"""What a forward pass takes over: aligned on the right, masked, with the real positions."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from transformers import DynamicCache

from oocr_lib.engine.kv_cache import Past


def past(depth: int = 0, p: int = 4) -> Past:
    """Three rows with 4, 1 and 0 earlier tokens, of which 2, 3 and 1 tokens are run."""
    states = torch.arange(3 * 2 * 2 * 1 * p * 2.0).reshape(3, 2, 2, 1, p, 2)
    lengths, tails = torch.tensor([4, 1, 0]).clamp(max=p), torch.tensor([2, 3, 1])
    return Past(states, lengths, tails, depth, torch.zeros(3, 3, 5) if depth else None)


def cache(found: dict[str, object]) -> DynamicCache:
    made = found["past_key_values"]
    assert isinstance(made, DynamicCache)
    return made


def test_earlier_tokens_stand_right_and_the_rest_is_masked() -> None:
    mask = past().arguments(3)["attention_mask"]
    assert isinstance(mask, torch.Tensor)
    assert mask.shape == (3, 1, 3, 7) and set(mask.unique().tolist()) == {
        0.0,
        torch.finfo(torch.float32).min,
    }
    seen = (mask[:, 0] == 0).int()
    # Of the last token; those before it do not see what comes later.
    assert seen[:, -1].tolist() == [
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1],
    ]
    assert seen[1].tolist() == [
        [0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 1, 1],
    ]


def test_a_sliding_window_counts_the_distance_in_the_text() -> None:
    """Three tokens: itself and two before it."""
    kinds = ["sliding_attention", "full_attention"]
    config = SimpleNamespace(sliding_window=3, layer_types=kinds)
    masks = past().arguments(3, config)["attention_mask"]
    assert isinstance(masks, dict) and set(masks) == set(kinds)
    near = (masks["sliding_attention"][:, 0] == 0).int()
    assert near[1].tolist() == [
        [0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 1, 1, 1],
    ]
    assert (masks["full_attention"][1, 0] == 0).int()[2].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_positions_are_those_of_the_text_and_padding_stays_within_it() -> None:
    positions = past().arguments(3)["position_ids"]
    assert isinstance(positions, torch.Tensor)
    assert positions.tolist() == [[4, 5, 5], [1, 2, 3], [0, 0, 0]]


def test_the_cache_holds_the_states_of_the_blocks_that_are_run() -> None:
    layers = cache(past(depth=3).arguments(1)).layers
    assert len(layers) == 3 + 2, "placeholders for the blocks below"
    assert cache(past(depth=3).arguments(1)).get_seq_length() == 4, "block 0 tells the length"
    assert torch.equal(layers[4].keys, past().states[:, 1, 0])
    assert torch.equal(layers[4].values, past().states[:, 1, 1])


def test_every_pass_gets_a_cache_of_its_own() -> None:
    one = past()
    first, second = cache(one.arguments(1)), cache(one.arguments(1))
    first.update(torch.ones(3, 1, 1, 2), torch.ones(3, 1, 1, 2), 0)
    assert (first.get_seq_length(), second.get_seq_length()) == (5, 4)
    assert one.states.shape[4] == 4


def test_without_earlier_tokens_there_is_nothing_to_pass() -> None:
    assert past(depth=1, p=0).arguments(2) == {}


def test_it_moves_as_a_whole() -> None:
    moved = past(depth=2).to("meta")
    assert {t.device.type for t in (moved.states, moved.lengths, moved.tails)} == {"meta"}
    assert moved.hidden is not None and moved.hidden.device.type == "meta"
    assert moved.depth == 2
