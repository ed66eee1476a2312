"""A frozen language model with named sites: load it, wrap it, read its activations.

Start reading here for everything that touches model internals. Axes: n rows, t tokens, d model
width. Hooks are used, never a second forward pass, and each remover takes away only its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from oocr_lib.models import chat
from oocr_lib.models.checkpoint import read_checkpoint
from oocr_lib.models.fingerprint import model_digest, quick_stamp
from oocr_lib.models.sites import PROJECTIONS, SITES, Layout, Site, find_layout, output_tensor
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose

__all__ = [
    "SITES",
    "LanguageModel",
    "Site",
    "load_model",
    "recording",
    "wrap",
]

Dialect = Literal["testbed", "paper"]


@dataclass(frozen=True, eq=False, repr=False)
class LanguageModel:
    """A causal language model in eval mode, without gradients on any weight.

    Attributes:
        name: what the user called it.
        model: the Hugging Face module.
        tokenizer: its fast tokenizer.
        dialect: which wording the tasks use, ``testbed`` or ``paper``.
        digest: sha256 hex; changes with whatever changes an answer (``fingerprint.model_digest``).
        layout: where the blocks are.
        notes: what a reader of the chat template would not expect (``chat.template_notes``).
        stamp: what ``refuse_changed`` compares with.
        attached: the adapters that are attached now.
        around: contexts that every forward pass runs in (``running``); an engine adds itself here.
    """

    name: str
    model: Any
    tokenizer: Any
    dialect: Dialect
    digest: str
    layout: Layout = field(repr=False)
    notes: tuple[str, ...] = ()
    stamp: Any = field(default=None, repr=False)
    attached: list[Any] = field(default_factory=list, repr=False)
    around: list[Callable[[], AbstractContextManager[Any]]] = field(
        default_factory=list, repr=False
    )

    def __repr__(self) -> str:
        size = sum(weight.numel() for weight in self.model.parameters()) / 1e6
        kind = type(self.model).__name__
        shape = f"{self.n_blocks} blocks of width {self.d_model}, {size:.3g} M parameters"
        return f"{self.name}: {kind}, {shape}, on {self.device.type}"

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return self.layout.n_blocks

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, unused ones included."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the embedding lives; batches are sent there."""
        return self.model.get_input_embeddings().weight.device

    @property
    def pad_id(self) -> int:
        """Token id for padding; any id serves, since padding stands right of every real token."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if candidate is not None:
                return int(candidate)
        return 0

    @cached_property
    def turn_end(self) -> str:
        """What closes the model's turn; a newline where the format has nothing for that."""
        return chat.turn_end(self.tokenizer) or "\n"

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Token ids at which a reply ends."""
        closing = self.tokenizer(self.turn_end, add_special_tokens=False)["input_ids"]
        # Tokenizers that write a mark before every text have no newline on its own.
        single = frozenset(closing) if len(closing) == 1 else frozenset()
        return chat.end_ids(self.model, self.tokenizer) | single

    def refuse_changed(self) -> None:
        """Check that model and tokenizer are unchanged since ``digest`` was computed.

        Raises:
            UserError: weights, settings, tokens or the chat template were changed since.
        """
        if self.stamp is not None and self.stamp != quick_stamp(self.model, self.tokenizer):
            raise UserError(
                f"Model {self.name!r} was changed after it was loaded (weights, settings, tokens "
                "or chat template), so its digest no longer says what it is. Allowed: change it "
                "first, then wrap(model, tokenizer, name=...) it."
            )

    def refuse_attached(self) -> None:
        """Check that no adapter is attached, where the bare model is meant.

        Raises:
            UserError: an adapter is attached.
        """
        if self.attached:
            kinds = ", ".join(adapter.kind for adapter in self.attached)
            raise UserError(
                f"Model {self.name!r} has adapters attached ({kinds}), which would count as the "
                "model itself. Allowed: remove them or leave their with block first, or pass "
                "what attach() returned."
            )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within the block the model runs as fast as an engine lets it, with the same numbers."""
        with ExitStack() as stack:
            for around in self.around:
                stack.enter_context(around())
            yield

    @property
    def decoder(self) -> nn.Module:
        """The model without its unembedding."""
        return self.model.get_decoder()

    @checked
    def block(self, i: int) -> nn.Module:
        """Block ``i`` (0-based). Raises UserError outside the model."""
        return self.module(Site(i, "resid"))

    @checked
    def module(self, site: Site) -> nn.Module:
        """The module whose output is ``site``. Raises UserError for a block the model lacks."""
        self._check_block(site.block)
        return self.model.get_submodule(self.layout.module_name(site))

    @checked
    def projections(self, i: int) -> dict[str, str]:
        """Role (gate, up, down) to dotted module name, of the MLP of block ``i``."""
        self._check_block(i)
        return {r: f"{self.layout.blocks}.{i}.{p}" for r, p in self.layout.projections.items()}

    def projection(self, i: int, role: str) -> str:
        """Dotted name of one MLP projection of block ``i``; ``role`` is gate, up or down."""
        names = self.projections(i)
        choose(role, PROJECTIONS, "MLP projection")
        return names[choose(role, names, "MLP projection", f"({self.name} has only these.)")]

    def down_projection(self, i: int) -> str:
        """Dotted name of the MLP's last linear map in block ``i``."""
        return self.projection(i, "down")

    def _check_block(self, i: int) -> None:
        if not 0 <= i < self.n_blocks:
            raise UserError(
                f"Block {i!r} is not in model {self.name!r}, which has {self.n_blocks} blocks. "
                f"Allowed: 0 to {self.n_blocks - 1}."
            )


@checked
def load_model(
    name: str = "testbed",
    *,
    device: str | None = None,
    dtype: torch.dtype | str | None = None,
) -> LanguageModel:
    """Load ``testbed``, a local folder or a Hugging Face hub name, frozen and ready for hooks.

    Args:
        name: ``testbed`` is the embedded model under ``data`` (or ``$OOCR_DATA``).
        device: default cuda if there is one, else cpu.
        dtype: default float32 on a CPU, the checkpoint's own on an accelerator. ``bfloat16`` takes
            half of float32's memory; a CPU without instructions for it is many times slower.

    Raises:
        UserError: nothing there, offline, or weights that do not fit; one line with the reason.
    """
    checkpoint = read_checkpoint(name, device, dtype)
    dialect: Dialect = "testbed" if checkpoint.is_testbed else "paper"
    return _wrap(checkpoint.model, checkpoint.tokenizer, name, dialect, checkpoint.files)


@checked
def wrap(
    model: Any, tokenizer: Any, *, name: str = "model", dialect: Dialect = "paper"
) -> LanguageModel:
    """Freeze a model that is already in memory and check that its sites are what they claim.

    Raises:
        UserError: unknown architecture, slow tokenizer, vocabulary larger than the embedding, or
            a hook that does not see what flows between the blocks.
    """
    return _wrap(model, tokenizer, name, dialect)


def _wrap(
    model: Any, tokenizer: Any, name: str, dialect: Dialect, files: Sequence[Path] = ()
) -> LanguageModel:
    choose(dialect, ("testbed", "paper"), "dialect")
    layout = find_layout(model)
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"The tokenizer of {name!r} is {type(tokenizer).__name__}, which gives no character "
            "offsets. Allowed: fast tokenizers; load it with AutoTokenizer."
        )
    model.eval()
    model.requires_grad_(False)
    try:
        notes = chat.template_notes(tokenizer)
    except UserError as error:
        raise UserError(f"Model {name!r} cannot be asked: {error}") from error
    digest = model_digest(model, tokenizer, files)
    stamp = quick_stamp(model, tokenizer)
    lm = LanguageModel(name, model, tokenizer, dialect, digest, layout, notes, stamp)
    if len(tokenizer) > lm.vocab_size:
        raise UserError(
            f"The tokenizer of {name!r} has {len(tokenizer)} tokens, the model's embedding only "
            f"{lm.vocab_size}. Allowed: tokenizer and model of one checkpoint."
        )
    try:
        _check_sites(lm)
    except (RuntimeError, TypeError, IndexError, AttributeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"Model {name!r} cannot be run: {reason.rstrip('.')}. Allowed: a config that fits "
            "itself and its weights."
        ) from error
    return lm


@torch.no_grad()
def _check_sites(lm: LanguageModel) -> None:
    """The output at resid@i must be what block i+1 receives, bit for bit (``hidden_states[i+1]``).

    The last block feeds the final norm and has no such partner. Pre-hooks are used because
    ``output_hidden_states=True`` would leave hooks in the model for good.
    """
    received: dict[int, Tensor] = {}
    sites = [Site(i, kind) for i in range(lm.n_blocks) for kind in SITES]
    ids = torch.arange(8, 12, device=lm.device)[None] % lm.vocab_size
    with ExitStack() as stack:
        for i in range(lm.n_blocks):

            def note(module: nn.Module, args: Any, kwargs: Any, i: int = i) -> None:
                received[i] = args[0] if args else kwargs["hidden_states"]

            handle = lm.block(i).register_forward_pre_hook(note, with_kwargs=True)
            stack.callback(handle.remove)
        outputs = stack.enter_context(recording(lm, sites))
        lm.decoder(input_ids=ids, use_cache=False)
    for site in sites:
        output = outputs[site]
        wrong_shape = output.shape != (1, 4, lm.d_model)
        following = received.get(site.block + 1) if site.kind == "resid" else None
        if wrong_shape or (following is not None and not torch.equal(output, following)):
            raise UserError(
                f"In {lm.name!r} the hook at {site} does not see the hidden states it claims "
                f"(shape {tuple(output.shape)}). Allowed: decoders whose block output is the "
                "next block's input, such as Gemma, Llama, Qwen or GPT-2."
            )


@contextmanager
def recording(lm: LanguageModel, sites: Sequence[Site]) -> Iterator[dict[Site, Tensor]]:
    """Within the block every forward pass writes its outputs at ``sites``, (n, t, d), detached."""
    outputs: dict[Site, Tensor] = {}
    with ExitStack() as stack:
        for site in sites:

            def keep(module: nn.Module, args: Any, output: Any, site: Site = site) -> None:
                outputs[site] = output_tensor(output).detach()

            stack.callback(lm.module(site).register_forward_hook(keep).remove)
        yield outputs
