"""Single attention heads: their outputs before the output projection, and the projection.

A head's output is its share of what enters the attention's output projection (n, t, h * e). Axes:
b blocks, n rows, t tokens, h query heads, e head width, d model width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError

# Child names of the attention module; o_proj: Gemma, Llama, Qwen; c_proj: GPT-2.
_OUTPUT_NAMES = ("o_proj", "c_proj", "out_proj")


@checked
def n_heads(lm: LanguageModel) -> int:
    """Query heads of a block."""
    return int(lm.model.config.get_text_config().num_attention_heads)


@checked
def output_projection(lm: LanguageModel, block: int) -> nn.Module:
    """The map from all heads' outputs (n, t, h * e) to the model's width.

    Raises:
        UserError: a block that the model lacks, or a family whose projection has an unknown name.
    """
    attention = lm.module(Site(block, "attn_out"))
    children = dict(attention.named_children())
    projection = next((name for name in _OUTPUT_NAMES if name in children), None)
    if projection is None:
        raise UserError(
            f"The attention of {lm.name!r} has no known output projection (children: "
            f"{', '.join(children)}). Allowed names: {', '.join(_OUTPUT_NAMES)}; use a Gemma, "
            "Llama, Qwen or GPT-2 style model."
        )
    return children[projection]


@torch.no_grad()
def output_weights(lm: LanguageModel, block: int, width: int) -> tuple[Tensor, Tensor]:
    """The output projection as a matrix for each head (h, e, d) and its bias (d,), float32.

    It is read by applying the module, so the layout of its weight does not matter.

    Args:
        width: h * e.
    """
    module: Any = output_projection(lm, block)
    weight = next(module.parameters())
    eye = torch.eye(width, dtype=weight.dtype, device=weight.device)
    # Not module(...): these are not tokens, but hooks would treat them as such.
    bias = module.forward(torch.zeros_like(eye[:1]))[0].float()
    matrix = module.forward(eye).float() - bias
    heads = n_heads(lm)
    return matrix.view(heads, width // heads, -1), bias


@contextmanager
def recording_heads(lm: LanguageModel, last: Tensor) -> Iterator[dict[int, Tensor]]:
    """Context in which every pass records the heads' outputs at columns ``last``, (n, h, e)."""
    outputs: dict[int, Tensor] = {}
    row = torch.arange(len(last), device=last.device)
    with ExitStack() as stack:
        for block in range(lm.n_blocks):

            def keep(module: nn.Module, args: Any, block: int = block) -> None:
                inputs = args[0][row, last].detach()
                outputs[block] = inputs.view(len(row), n_heads(lm), -1)

            handle = output_projection(lm, block).register_forward_pre_hook(keep)
            stack.callback(handle.remove)
        yield outputs
