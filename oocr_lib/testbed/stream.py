"""From documents to training batches: tokens, loss weights, documents of similar length together.

The stream is divided into chunks, each seeded by its own number, so that a resumed pretraining sees
exactly what an uninterrupted one sees.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from oocr_lib.testbed.corpus import Document, documents
from oocr_lib.testbed.mixes import Mix

ANSWER_WEIGHT, OTHER_WEIGHT = 1.0, 0.1
CHUNK_DOCUMENTS = 4096


@dataclass
class PretrainBatch:
    """Right-padded token ids ``ids`` (n, t) and loss weights ``weights`` (n, t) of the targets."""

    ids: Tensor
    weights: Tensor

    @property
    def tokens(self) -> int:
        """Number of tokens without padding (those with a weight)."""
        return int((self.weights > 0).sum())


def tokenise(
    tokenizer: PreTrainedTokenizerFast, docs: Sequence[Document]
) -> list[tuple[list[int], list[float]]]:
    """Token ids and loss weights of each document; answers are located by character offset."""
    encoded = tokenizer(
        [d.text for d in docs], add_special_tokens=False, return_offsets_mapping=True
    )
    rows = []
    for doc, ids, offsets in zip(
        docs, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        weights = [OTHER_WEIGHT] * len(ids)
        spans = iter(doc.answers)
        span = next(spans, None)
        for i, (start, _) in enumerate(offsets):
            while span is not None and start >= span[1]:
                span = next(spans, None)
            if span is not None and start >= span[0]:
                weights[i] = ANSWER_WEIGHT
        rows.append((ids, weights))
    return rows


def pad(rows: Sequence[tuple[list[int], list[float]]], pad_id: int) -> PretrainBatch:
    """Right-pad to the longest row; padding has weight 0."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    weights = torch.zeros(len(rows), longest)
    for i, (tokens, w) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        weights[i, : len(tokens)] = torch.tensor(w)
    return PretrainBatch(ids, weights)


def chunk(
    tokenizer: PreTrainedTokenizerFast, seed: int, number: int, mix: Mix, batch_tokens: int
) -> list[PretrainBatch]:
    """The batches of chunk ``number``: documents sorted by length, batches in random order."""
    docs = list(itertools.islice(documents(seed * 1_000_003 + number, mix), CHUNK_DOCUMENTS))
    rows = sorted(tokenise(tokenizer, docs), key=lambda row: len(row[0]))
    batches, current, longest = list[PretrainBatch](), list[tuple[list[int], list[float]]](), 0
    for row in rows:
        longest = max(longest, len(row[0]))
        if current and longest * (len(current) + 1) > batch_tokens:
            batches.append(pad(current, int(tokenizer.pad_token_id)))
            current, longest = [], len(row[0])
        current.append(row)
    batches.append(pad(current, int(tokenizer.pad_token_id)))
    random.Random(number).shuffle(batches)
    return batches


def batches(
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    first: int,
    mixes: Callable[[int], Mix],
    batch_tokens: int,
) -> Iterator[tuple[int, list[PretrainBatch]]]:
    """Chunks from number ``first`` on, with their numbers; ``mixes`` gives the mix of a chunk."""
    for number in itertools.count(first):
        yield number, chunk(tokenizer, seed, number, mixes(number), batch_tokens)
