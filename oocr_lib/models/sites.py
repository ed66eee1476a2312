"""Names for the places inside a decoder where something can be read or added.

A *site* is the output of one module of one block: ``resid`` (the block itself, so the residual
stream after it), ``mlp_out`` (the MLP module, before Gemma's post-feed-forward norm; the paper's
site) and ``attn_out`` (the attention module). Axes: n rows, t tokens, d model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from oocr_lib.util.arguments import checked, checked_fields
from oocr_lib.util.errors import UserError, choose

SITES = ("resid", "mlp_out", "attn_out")

# Child names that Hugging Face decoders use. A model with other names is refused, never guessed.
_MLP_NAMES = ("mlp", "feed_forward", "ffn")
_ATTENTION_NAMES = ("self_attn", "attn", "attention", "self_attention")
_PROJECTION_NAMES = {
    "gate": ("gate_proj",),
    "up": ("up_proj", "gate_up_proj", "c_fc", "dense_h_to_4h", "fc_in", "fc1"),
    "down": ("down_proj", "c_proj", "dense_4h_to_h", "fc_out", "fc2"),
}
PROJECTIONS = tuple(_PROJECTION_NAMES)


@checked_fields
@dataclass(frozen=True, order=True)
class Site:
    """The output of one module of block ``block`` (0-based); ``kind`` is one of ``SITES``.

    >>> str(Site(3, "resid"))
    'resid@3'
    >>> Site.parse("mlp_out@0")
    Site(block=0, kind='mlp_out')
    """

    block: int
    kind: str

    def __post_init__(self) -> None:
        choose(self.kind, SITES, "site")
        if self.block < 0:
            raise UserError(
                f"Block {self.block!r} is not a block number. Allowed: whole numbers from 0."
            )

    def __str__(self) -> str:
        return f"{self.kind}@{self.block}"

    @classmethod
    @checked
    def parse(cls, text: str) -> Site:
        """Read the form that ``str`` writes.

        Raises:
            UserError: the text is not ``kind@block``.
        """
        kind, separator, block = text.partition("@")
        if not separator or not (block.isascii() and block.isdigit()):
            raise UserError(
                f"Site {text!r} cannot be read. Write kind@block, for instance 'resid@3'; "
                f"kinds: {', '.join(SITES)}."
            )
        return cls(int(block), kind)


@dataclass(frozen=True)
class Layout:
    """Where a decoder keeps its blocks and what their children are called.

    Attributes:
        blocks: dotted name of the list of blocks, for instance ``model.layers``.
        n_blocks: its length.
        mlp: child name of the MLP inside a block.
        attention: child name of the attention module inside a block.
        projections: role (gate, up, down) to the dotted name inside a block; roles that the
            family does not have (GPT-2 has no gate) are absent.
    """

    blocks: str
    n_blocks: int
    mlp: str
    attention: str
    projections: Mapping[str, str]

    def module_name(self, site: Site) -> str:
        """Dotted name of the module whose output is ``site``."""
        block = f"{self.blocks}.{site.block}"
        child = {"resid": "", "mlp_out": self.mlp, "attn_out": self.attention}[site.kind]
        return f"{block}.{child}" if child else block


def find_layout(model: Any) -> Layout:
    """Find the blocks of a Hugging Face decoder and the names of their parts.

    Raises:
        UserError: the model has no list of blocks, or its blocks have unknown parts.
    """
    family = type(model).__name__
    if not hasattr(model, "get_decoder") or not hasattr(model, "config"):
        raise UserError(
            f"{family} is not a Hugging Face causal language model. Allowed: what "
            "AutoModelForCausalLM returns; load it with load_model."
        )
    n_blocks = model.config.get_text_config().num_hidden_layers
    blocks = next(
        (
            module
            for module in model.get_decoder().modules()
            if isinstance(module, nn.ModuleList) and len(module) == n_blocks
        ),
        None,
    )
    if blocks is None:
        raise UserError(
            f"No list of {n_blocks} blocks found in {family}. Allowed: decoder-only models such as "
            "Gemma, Llama, Qwen or GPT-2."
        )
    name = next(name for name, module in model.named_modules() if module is blocks)
    block = blocks[0]
    mlp = _child(block, _MLP_NAMES, "MLP", family)
    attention = _child(block, _ATTENTION_NAMES, "attention module", family)
    mlp_children = dict(getattr(block, mlp).named_children())
    projections = {
        role: f"{mlp}.{child}"
        for role, names in _PROJECTION_NAMES.items()
        if (child := next((n for n in names if n in mlp_children), None))
    }
    return Layout(name, n_blocks, mlp, attention, projections)


def _child(block: nn.Module, names: tuple[str, ...], part: str, family: str) -> str:
    children = dict(block.named_children())
    for name in names:
        if name in children:
            return name
    raise UserError(
        f"The blocks of {family} have no known {part} (children: {', '.join(children)}). "
        f"Allowed names: {', '.join(names)}; use a Gemma, Llama, Qwen or GPT-2 style model."
    )


def output_tensor(output: Any) -> torch.Tensor:
    """The hidden states (n, t, d) in a module's output, which is a tensor or a tuple led by one."""
    hidden = output[0] if isinstance(output, tuple) else output
    if not isinstance(hidden, torch.Tensor):
        raise UserError(
            f"A module returned {type(hidden).__name__} where hidden states were expected. "
            "Allowed: a tensor, or a tuple that starts with one."
        )
    return hidden


def replace_output(output: Any, hidden: torch.Tensor) -> Any:
    """``output`` with its hidden states replaced by ``hidden`` (n, t, d); same tuple otherwise."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden
