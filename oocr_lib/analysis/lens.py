"""What can be read off a vector? The logit lens with controls, and a readout whose truth is known.

The paper applies the unembedding straight to a vector and counts related words by hand (section
4.4). Here the concept's words are fixed beforehand and their ranks are compared with those of
random vectors. The lens is for residual-stream vectors; ``to_residual`` brings others there.
Axes: n vectors, d model width, v rows of the unembedding, m tokens, c concepts, p prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oocr_lib.analysis.norms import final_norm, post_norm
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.finite import no_nan

_TOKENS_AT_ONCE, _VECTORS_AT_ONCE = 32_768, 100  # both bound memory


@checked
def to_residual(lm: LanguageModel, vector: Tensor, site: Site) -> Tensor:
    """A vector (d,) or (n, d) at ``site`` as it reaches the residual stream; float32, CPU.

    In a post-norm model (Gemma 2 and 3) an MLP or attention output goes through a norm before it
    is added, so a vector there is not in residual units and its length means nothing. It goes
    through that norm alone, as if the module wrote nothing else; in a forward pass it shares the
    norm with the module's own output, so its effect differs from token to token. Where there is no
    such norm the vector comes back unchanged.

    Raises:
        UserError: another width, numbers that are not finite, or a block the model lacks.
    """
    x, norm = _checked(lm, vector), post_norm(lm, site)
    return (x if norm is None else _through(norm, x)).reshape(vector.shape).cpu()


@checked
def logits(lm: LanguageModel, vectors: Tensor, norm: bool = False) -> Tensor:
    """Logits (n, v) of residual-stream vectors (n, d), float32, CPU; no soft-capping.

    Args:
        norm: apply the model's final norm first, as to an activation after the last block. The
            paper does not (section 4.4): a vector is a shift of activations, not an activation.

    Raises:
        UserError: another width, numbers that are not finite, or no final norm found.
    """
    return _logits(lm, _checked(lm, vectors), norm).cpu()


@checked
def top_tokens(lm: LanguageModel, vectors: Tensor, k: int = 10, norm: bool = False) -> pd.DataFrame:
    """The ``k`` highest tokens of each of the vectors (n, d); for the lowest pass ``-vectors``.

    Columns ``vector`` (from 0), ``place`` (from 1), ``token`` (its id), ``text``, ``logit``.

    Raises:
        UserError: as ``logits``, or k out of range.
    """
    if not 1 <= k <= lm.vocab_size:
        raise UserError(f"k={k!r} tokens cannot be listed. Allowed: 1 to {lm.vocab_size}.")
    values, tokens = (part.tolist() for part in logits(lm, vectors, norm).topk(k))
    rows = [
        {"vector": i, "place": j + 1, "token": t, "text": token_text(lm, t), "logit": values[i][j]}
        for i, row in enumerate(tokens)
        for j, t in enumerate(row)
    ]
    return pd.DataFrame(rows)


@checked
def token_text(lm: LanguageModel, token: int) -> str:
    """A token in printable form: spaces as ``␣``, unprintable characters as escapes.

    Part of a character is shown as the vocabulary spells it, an unused row by its id.
    """
    piece = lm.tokenizer.convert_ids_to_tokens(token)
    if piece is None:
        return f"[unused {token}]"
    text = str(lm.tokenizer.decode([token]))
    # Some decoders drop the first space, or write parts of characters as replacement characters.
    if not text or "\ufffd" in text or str(piece).startswith("▁"):
        text = str(piece)
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return printable.replace(" ", "␣").replace("▁", "␣")


@checked
def token_set(lm: LanguageModel, words: Sequence[str], first: bool = False) -> tuple[int, ...]:
    """Ids of words that are a single token, alone or after a space, for ``concept_rank``.

    Args:
        first: also count longer words, by their first token, where the model would begin.

    Raises:
        UserError: none of the words counts.
    """
    forms = [form for word in words for form in (word, " " + word)]
    encoded = [lm.tokenizer(form, add_special_tokens=False)["input_ids"] for form in forms]
    tokens = {ids[0] for ids in encoded if ids and (first or len(ids) == 1)}
    tokens -= {lm.tokenizer.unk_token_id, *(i for i in tokens if token_text(lm, i) == "␣")}
    if not tokens:
        raise UserError(
            f"None of the words {list(words)} is one token of {lm.name!r}. Allowed: words that "
            "are; give related ones, or first=True."
        )
    return tuple(sorted(tokens))


@checked
def concept_rank(
    lm: LanguageModel,
    vectors: Tensor,
    token_sets: Sequence[Sequence[int]],
    norm: bool = False,
    controls: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """How high the lens ranks each concept's own tokens, against random vectors as long.

    Ranks are among all v rows of the unembedding, from 1; ties share the middle. Controls are
    Gaussian directions, drawn afresh for each vector with ``seed`` plus its index. Another control
    is to pass the tokens of other concepts: vectors of this kind may write them in any case.

    Args:
        vectors: (n, d), in the residual stream.
        token_sets: n lists of token ids (see ``token_set``).

    Returns:
        Columns ``vector``, ``tokens`` (m), and for the ``best_`` and ``mean_`` over m: ``rank``;
        ``percentile``, the share of controls that rank lower, ties counted half (0 to 1, on
        average 0.5 by chance); ``p``, one-sided, at least 1 / (controls + 1).

    Raises:
        UserError: as ``logits``, sets that do not fit, or no controls.
    """
    x = _checked(lm, vectors)
    _check_sets(lm, token_sets, len(x), controls)
    rows = []
    for i, tokens in enumerate(token_sets):
        ids = sorted(set(tokens))
        generator = torch.Generator().manual_seed(seed + i)
        directions = F.normalize(torch.randn(controls, lm.d_model, generator=generator), dim=-1)
        ranks = _ranks(lm, x[i : i + 1], ids, norm)
        control_ranks = _ranks(lm, directions.to(x.device) * x[i].norm(), ids, norm)
        best = _compared("best", ranks.min(1), control_ranks.min(1))
        mean = _compared("mean", ranks.mean(1), control_ranks.mean(1))
        rows.append({"vector": i, "tokens": len(ids)} | best | mean)
    return pd.DataFrame(rows)


def _ranks(lm: LanguageModel, x: Tensor, ids: Sequence[int], norm: bool) -> np.ndarray:
    """(n, m) ranks from 1 of tokens ``ids`` in the lens of x (n, d)."""
    rows = []
    for part in x.split(_VECTORS_AT_ONCE):
        scores = _logits(lm, part, norm)
        token_scores = [scores[:, token, None] for token in ids]
        ranks = [(scores > s).sum(1) + ((scores == s).sum(1) + 1) / 2 for s in token_scores]
        rows.append(torch.stack(ranks, 1).cpu().double())
    return np.asarray(torch.cat(rows).numpy())


def _compared(name: str, rank: np.ndarray, controls: np.ndarray) -> dict[str, float]:
    """A vector's rank (1,) beside those of its controls (controls,)."""
    return {
        f"{name}_rank": float(rank[0]),
        f"{name}_percentile": float(((controls > rank) + (controls == rank) / 2).mean()),
        f"{name}_p": float((1 + (controls <= rank).sum()) / (1 + len(controls))),
    }


@dataclass(frozen=True)
class Readout:
    """Which concept each vector resembles most.

    Attributes:
        table: columns ``vector, truth, rank`` (the truth's, ties in the middle), ``cosine`` (with
            the truth's centroid), ``nearest``.
        accuracy: share of real names' activations, each from a prompt left out of the centroids,
            whose nearest centroid is their own: how far the readout can be trusted.
        chance: one in the number of concepts.
    """

    table: pd.DataFrame
    accuracy: float
    chance: float


@checked
def readout(vectors: Tensor, truths: Sequence[str], activations: Mapping[str, Tensor]) -> Readout:
    """Nearest concept by cosine to the mean activations of real names at the same site.

    A centroid is a concept's mean activation minus the mean over concepts.

    Args:
        vectors: (n, d), at the site where the activations were read; shifts, so not centred.
        truths: the n concepts, each a key of ``activations``.
        activations: concept to (p, d), the same p prompts in the same order for every concept.

    Raises:
        UserError: fewer than two concepts or prompts, shapes that differ, or an unknown concept.
    """
    names, shapes = list(activations), {tuple(a.shape) for a in activations.values()}
    fitting = [(len(truths), s[1]) for s in shapes if len(s) == 2 and s[0] > 1]
    if len(names) < 2 or len(shapes) > 1 or [tuple(vectors.shape)] != fitting:
        raise UserError(
            f"{len(truths)} truths, vectors of shape {tuple(vectors.shape)} and activations of "
            f"{len(names)} concepts of shapes {sorted(shapes)} do not fit. Allowed: (truths, "
            "width), and two concepts or more of one shape (two prompts or more, width)."
        )
    no_nan(vectors, "Vectors to read out")
    for name, activation in activations.items():
        no_nan(activation, f"Activations of {name!r}")
    columns = [names.index(choose(truth, names, "concept")) for truth in truths]
    real = torch.stack([a.detach().double().cpu() for a in activations.values()])
    cosines = _cosines(vectors.detach().double().cpu(), real.mean(1) - real.mean((0, 1))).numpy()
    true_cosines = cosines[np.arange(len(columns)), columns]
    above, level = cosines > true_cosines[:, None], cosines == true_cosines[:, None]
    table = pd.DataFrame({"vector": range(len(columns)), "truth": list(truths)})
    table["rank"] = above.sum(1) + (level.sum(1) + 1) / 2
    table["cosine"], table["nearest"] = true_cosines, [names[i] for i in cosines.argmax(1)]
    return Readout(table, _held_out_accuracy(real), 1 / len(names))


def _held_out_accuracy(real: Tensor) -> float:
    """Leave one prompt out for all concepts, so that no centroid knows its wording; (c, p, d)."""
    right, prompts = 0, real.shape[1]
    for prompt in range(prompts):
        rest = real[:, torch.arange(prompts) != prompt]
        mean = rest.mean((0, 1))
        nearest = _cosines(real[:, prompt] - mean, rest.mean(1) - mean).argmax(1)
        right += int((nearest == torch.arange(len(real))).sum())
    return right / (prompts * len(real))


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """(n, c) cosines of the rows of a (n, d) and b (c, d); 0 for a zero vector."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


@torch.no_grad()
def _logits(lm: LanguageModel, x: Tensor, norm: bool) -> Tensor:
    """(n, v) in float32: in half precision many tokens of a large vocabulary would tie."""
    head = lm.model.get_output_embeddings()
    x = (_through(final_norm(lm, "use norm=False"), x) if norm else x).to(head.weight.device)
    scores = torch.cat([x @ part.float().T for part in head.weight.split(_TOKENS_AT_ONCE)], 1)
    bias = getattr(head, "bias", None)
    scores = scores if bias is None else scores + bias.float()
    no_nan(scores, f"Logits of vectors in {lm.name!r}")
    return scores


@torch.no_grad()
def _through(norm: nn.Module, x: Tensor) -> Tensor:
    """(n, d) after a norm of the model, computed in its own precision."""
    return norm(x.to(next(norm.parameters(), x))).to(x)


def _checked(lm: LanguageModel, vectors: Tensor) -> Tensor:
    """(n, d) float32 on the model's device."""
    fits = vectors.ndim in (1, 2) and vectors.shape[-1] == lm.d_model
    if not fits or not bool(torch.isfinite(vectors).all()):
        shape = tuple(vectors.shape)
        raise UserError(f"Vectors {shape} cannot be read. Allowed: finite (n, {lm.d_model}).")
    return vectors.detach().reshape(-1, lm.d_model).float().to(lm.device)


def _check_sets(lm: LanguageModel, sets: Sequence[Sequence[int]], n: int, controls: int) -> None:
    in_vocabulary = all(len(s) and all(0 <= token < lm.vocab_size for token in s) for s in sets)
    if len(sets) != n or controls < 1 or not in_vocabulary:
        raise UserError(
            f"{len(sets)} token sets and {controls} controls do not fit {n} vectors. Allowed: one "
            f"or more ids from 0 to {lm.vocab_size - 1} for each vector, and at least 1 control."
        )
