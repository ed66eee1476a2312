"""Logits only where they are needed: at the tokens that predict an answer.

Axes: n rows, t tokens, m answer tokens of a batch (flattened over rows), v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from oocr_lib.engine.kv_cache import Past
from oocr_lib.engine.shortened import Shortened
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site, output_tensor, replace_output


def answer_logits(lm: LanguageModel, batch: Shortened) -> tuple[Tensor, Tensor, Tensor]:
    """One forward pass; the logits that predict the answer tokens, and no others.

    The unembedding, which matters when the vocabulary has 262,000 entries, and the last block's
    MLP are applied only to the tokens that predict answers. What ``batch.past`` holds is not
    computed.

    Returns:
        ``(rows, targets, logits)``: row of each answer token (m,), its id (m,) and the float32
        logits that predict it (m, v), in row-major order. For packed rows, the item instead of the
        row. Where answers stand side by side, only the logits have a meaning, the ids have none.
    """
    rows, columns = batch.answer_mask.nonzero(as_tuple=True)
    # No answer token is predicted at the last column.
    ids = batch.input_ids[:, :-1]
    with lm.running(), ExitStack() as stack:
        if batch.past is not None:
            stack.enter_context(frozen(lm, batch.past))
        stack.enter_context(read_only_at(lm, batch, rows, columns - 1))
        out = lm.model(input_ids=ids, use_cache=False, **arguments(lm, batch))
    targets = (batch.input_ids if batch.targets is None else batch.targets)[rows, columns]
    items = rows if batch.owner is None else batch.owner[rows, columns - 1]
    return items, targets, out.logits[0].float()


def arguments(lm: LanguageModel, batch: Shortened) -> dict[str, Any]:
    """Cache, positions and mask for running all columns but the last, if any is needed.

    The causal mask keeps real tokens from looking at padding on their right, so plain rows need no
    attention mask; tests check that batch composition does not matter.
    """
    config = lm.model.config.get_text_config()
    if batch.past is not None:
        return batch.past.arguments(batch.input_ids.shape[1] - 1, config, batch.layout)
    return {} if batch.layout is None else batch.layout.arguments(config, lm.model.dtype)


@contextmanager
def read_only_at(
    lm: LanguageModel, batch: Shortened, rows: Tensor, columns: Tensor
) -> Iterator[None]:
    """Within the block the model returns logits (1, m, v) of tokens (rows, columns) (m,) only.

    The last block's MLP is not run on other tokens; its output there is zero, which nothing reads.
    """
    every_token = len(rows) == batch.input_ids[:, :-1].numel()
    mlp = lm.module(Site(lm.n_blocks - 1, "mlp_out"))
    head = lm.model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda module, args: (args[0][rows, columns][None],))
    try:
        with nullcontext() if every_token else replaced(mlp, only_at(mlp, batch, rows, columns)):
            yield
    finally:
        handle.remove()


def only_at(mlp: nn.Module, batch: Shortened, rows: Tensor, columns: Tensor) -> Callable[..., Any]:
    """The forward of an MLP that is run on tokens (rows, columns) (m,), in row-major order."""
    original = mlp.forward
    counts = torch.bincount(rows)
    slot = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    width = int(counts.max())

    def forward(x: Tensor) -> Tensor:
        n, t, _ = x.shape
        if width >= t or len(counts) != n:
            return original(x)
        # Rows stay rows, because a group of LoRAs tells them apart; short ones repeat column 0.
        run_columns = rows.new_zeros(n, width).index_put((rows, slot), columns)
        batch.columns = run_columns  # adapters inside that touch marked tokens must find them
        try:
            part = original(x.gather(1, run_columns[..., None].expand(-1, -1, x.shape[-1])))
        finally:
            batch.columns = None
        return x.new_zeros(x.shape).index_put((rows, columns), part[rows, slot].to(x.dtype))

    return forward


@contextmanager
def replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the block ``module`` runs ``forward``; hooks on it stay."""
    before = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = before


@contextmanager
def frozen(lm: LanguageModel, past: Past) -> Iterator[None]:
    """Within the context, blocks below ``past.depth`` are not run but return ``past.hidden``.

    Blocks above run what has entered by then and pass on the rest as it will enter. Hooks on their
    outputs see all of it, so a vector at the last block that is not run is added as usual.
    """
    with ExitStack() as stack:
        for i in range(past.depth):
            stack.enter_context(replaced(lm.block(i), _instead(past)))
        for i, count in enumerate(past.active, past.depth):
            block = lm.block(i)
            stack.enter_context(replaced(block, _partly(block.forward, past, count)))
        yield


def _instead(past: Past) -> Callable[..., Any]:
    hidden = past.hidden

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (hidden,) if past.wrapped else hidden

    return forward


def _partly(original: Callable[..., Any], past: Past, count: int) -> Callable[..., Any]:
    """A block's forward for the first ``count`` rows (packed: columns); the rest enters later."""
    axis = 0 if past.slots == 1 else 1
    assert past.hidden is not None
    later = past.hidden[count:] if axis == 0 else past.hidden[:, count:]

    def forward(*args: Any, **kwargs: Any) -> Any:
        first = past.first(list(args), count)
        named = {name: past.first(value, count) for name, value in kwargs.items()}
        output = original(*first, **named)
        joined = torch.cat([output_tensor(output), later], axis)
        return replace_output(output, joined)

    return forward
