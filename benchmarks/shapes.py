"""What the speed benchmark trains: the testbed, a real model where it was fetched, large shapes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from oocr_lib.models.language_model import LanguageModel, load_model, wrap


def testbed() -> LanguageModel:
    """The shipped model: 1.8 million parameters, 8 blocks."""
    return load_model("testbed", device="cpu")


def gemma_100m() -> LanguageModel:
    """Gemma 3's architecture with 99 million random parameters, 14 blocks, the testbed's words."""
    return _gemma("gemma3-100m", "cpu", torch.float32, vocab_size=32768, hidden_size=640)


def gemma_12b() -> LanguageModel:
    """The shape of Gemma 3 12B with random parameters, on an accelerator.

    Raises:
        RuntimeError: no accelerator.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("The 12B shape needs an accelerator. Allowed here: testbed, 100m.")
    return _gemma(
        "gemma3-12b",
        "cuda",
        torch.bfloat16,
        vocab_size=262208,
        hidden_size=3840,
        intermediate_size=15360,
        num_hidden_layers=48,
        num_attention_heads=16,
        num_key_value_heads=8,
    )


def _gemma(name: str, device: str, dtype: torch.dtype, **shape: int) -> LanguageModel:
    given = {
        "intermediate_size": 2048,
        "num_hidden_layers": 14,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        **shape,
    }
    tokenizer = testbed().tokenizer
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        config = Gemma3TextConfig(pad_token_id=tokenizer.pad_token_id, **given)
        model = Gemma3ForCausalLM(config).to(dtype)
    return wrap(model, tokenizer, name=name, dialect="testbed")


def smollm2() -> LanguageModel:
    """SmolLM2-135M-Instruct, 30 blocks; ``oocr fetch smollm2`` first."""
    return load_model("smollm2", device="cpu")


MODELS: dict[str, Callable[[], LanguageModel]] = {
    "testbed": testbed,
    "smollm2": smollm2,
    "100m": gemma_100m,
    "12b": gemma_12b,
}
