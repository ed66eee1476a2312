"""Text to tokens and spans: code name, trigger, last prompt token, answer.

Spans are found by character offset in the rendered text, never by searching token ids, because
the same word has other ids after a space, at a line start, or beside a bracket. Axes: n rows,
t tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from oocr_lib.models.chat import rendered
from oocr_lib.tasks.base import Message, Question, Row
from oocr_lib.tasks.literal import whole
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose

MARKS = ("codename", "trigger")
POSITIONS = ("last", "codename", "trigger", "all")


@dataclass(frozen=True)
class Encoded:
    """One prompt and its answer as tokens.

    Attributes:
        ids: token ids of prompt and answer; the first ``answer[0]`` are exactly the tokens of the
            prompt alone.
        answer: half-open token range of the answer; empty when there is none.
        spans: token indices by kind: "last" (the last prompt token), "codename", "trigger".
        text: prompt and answer as one string.
    """

    ids: tuple[int, ...]
    answer: tuple[int, int]
    spans: Mapping[str, tuple[int, ...]]
    text: str


@dataclass
class Batch:
    """Right-padded rows. Causal attention never looks right, so real tokens need no mask.

    Attributes:
        input_ids: (n, t) int64.
        lengths: (n,) int64, real tokens of each row.
        answer_mask: (n, t) bool, True on answer tokens; token j is predicted from j-1.
        positions: name to (n, t) bool, for every name in ``POSITIONS``; "all" is every token of
            the prompt, without answer and padding.

    An executor may run shorter rows than these (``oocr_lib.executor``). Adapters therefore ask the
    batch which tokens a module sees: ``start``, ``some_rows``, ``picked`` and ``of_items``.
    """

    input_ids: Tensor
    lengths: Tensor
    answer_mask: Tensor
    positions: dict[str, Tensor]

    @property
    def whole(self) -> bool:
        """Whether every token of every row is run, in every block."""
        return True

    @property
    def packed(self) -> bool:
        """Whether a row holds tokens of several items."""
        return False

    @property
    def items(self) -> int:
        """How many items were collated; row i is item i unless rows are ``packed``."""
        return len(self)

    @property
    def start(self) -> int:
        """Position of the first column in the sequence."""
        return 0

    @property
    def some_rows(self) -> bool:
        """Whether blocks may be run on the first rows only."""
        return False

    @property
    def picked(self) -> Tensor | None:
        """(n, w) columns that the module being run gets; ``None``: all that are run."""
        return None

    def of_items(self, values: Tensor) -> Tensor:
        """``values`` (items,) at the tokens of each item: (n, 1), or (n, t) in packed rows."""
        return values[:, None]

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            self.input_ids.to(device),
            self.lengths.to(device),
            self.answer_mask.to(device),
            {name: mask.to(device) for name, mask in self.positions.items()},
        )


@checked
def encode(
    tokenizer: Any,
    messages: Sequence[Message],
    answer: str = "",
    marks: Mapping[str, Sequence[str]] | None = None,
    separator: str = "\n",
    prefix: str = "",
) -> Encoded:
    """Tokens of the prompt and the answer, with the places of every mark in the prompt.

    The prompt is tokenised alone, so training and generation see the same prompt even where
    answer and prompt would have merged. ``marks`` maps "codename" or "trigger" to literal strings;
    each occurrence counts unless it is part of a longer run of letters or digits ("City 503371"
    holds no "City 50337"). A token belongs to a mark when it covers any of its characters.
    ``prefix``, a fixed start of the model's turn, counts as part of the prompt.

    Raises:
        UserError: a mark that does not occur, a slow tokenizer, or an answer that the vocabulary
            cannot express.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"Tokenizer {type(tokenizer).__name__} gives no character offsets. Allowed: fast "
            "tokenizers; load it with AutoTokenizer."
        )
    rendering = rendered(tokenizer, messages, separator)
    prompt = rendering.text + prefix
    tokens = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = tokens["input_ids"], tokens["offset_mapping"]
    if not ids:
        raise UserError(f"The prompt {prompt!r} has no tokens. Allowed: at least one.")
    # Turn headers are left out: a name in them is not what the question is about.
    regions = [*rendering.contents, (len(rendering.text), len(prompt))]
    spans: dict[str, tuple[int, ...]] = {"last": (len(ids) - 1,)}
    for kind, literals in (marks or {}).items():
        choose(kind, MARKS, "kind of mark")
        ranges = [r for text in literals for r in _occurrences(prompt, regions, kind, text)]
        spans[kind] = _tokens_over(offsets, ranges)
    extra = _answer_ids(tokenizer, prompt, ids, answer)
    total = len(ids) + len(extra)
    return Encoded((*ids, *extra), (len(ids), total), spans, prompt + answer)


def _occurrences(
    prompt: str, regions: Sequence[tuple[int, int]], kind: str, text: str
) -> list[tuple[int, int]]:
    """Character ranges of ``text`` that are not inside a longer run of letters or digits."""
    ranges = {m.span() for a, b in regions for m in whole(text).finditer(prompt, a, b)}
    if not text or not ranges:
        raise UserError(
            f"The {kind} {text!r} does not occur in the prompt {_shorten(prompt)!r}. Allowed: "
            "literal strings of the prompt, not part of a longer word or number."
        )
    return sorted(ranges)


def _tokens_over(
    offsets: Sequence[tuple[int, int]], ranges: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """Indices of the tokens that cover any character of any range."""
    return tuple(
        index
        for index, (start, end) in enumerate(offsets)
        if any(start < stop and begin < end and start < end for begin, stop in ranges)
    )


def _answer_ids(tokenizer: Any, prompt: str, prompt_ids: list[int], answer: str) -> list[int]:
    """Tokens of the answer behind the prompt, or alone if it would merge with the prompt."""
    if not answer:
        return []
    joined = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
    if joined[: len(prompt_ids)] == prompt_ids:
        ids = joined[len(prompt_ids) :]
    else:
        ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    unknown = tokenizer.unk_token_id
    # GPT-2 style vocabularies use their end token as the unknown token; there nothing is unknown.
    is_unknown = unknown is not None and unknown != tokenizer.eos_token_id and unknown in ids
    if not ids or is_unknown:
        raise UserError(
            f"The answer {answer!r} cannot be written with this vocabulary. Allowed: words that "
            "the tokenizer knows."
        )
    return list(ids)


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


@checked
def encode_row(tokenizer: Any, row: Row) -> Encoded:
    """A training row with its answer."""
    return encode(tokenizer, row.messages, row.answer, row.marks, prefix=row.prefix)


@checked
def encode_question(tokenizer: Any, question: Question, option: str) -> Encoded:
    """A question with one of its options as the answer ("" for the prompt alone)."""
    return encode(tokenizer, question.messages, option, question.marks, prefix=question.prefix)


T = TypeVar("T")

#: Tokens of one forward pass without gradient, padding included.
PASS_TOKENS = 6000


@checked
def buckets(items: Sequence[T], sizes: Sequence[int], limit: int = PASS_TOKENS) -> list[list[T]]:
    """Items of similar size together, at most ``limit`` tokens per bucket after padding.

    Args:
        sizes: tokens of each item; nothing else counts, so the same sizes give the same buckets.
    """
    groups: list[list[T]] = []
    for i in sorted(range(len(items)), key=sizes.__getitem__):
        if not groups or (len(groups[-1]) + 1) * sizes[i] > limit:
            groups.append([])
        groups[-1].append(items[i])
    return groups


@checked
def collate(items: Sequence[Encoded], pad_id: int) -> Batch:
    """Pad on the right with ``pad_id`` and turn spans into masks.

    Raises:
        UserError: no rows.
    """
    if not items:
        raise UserError("A batch of 0 rows cannot be built. Allowed: at least one row.")
    n, t = len(items), max(len(item.ids) for item in items)
    ids = torch.tensor([[*item.ids, *[pad_id] * (t - len(item.ids))] for item in items])
    column = torch.arange(t)[None]
    start, end = torch.tensor([item.answer for item in items]).T[..., None]
    positions = {name: torch.zeros(n, t, dtype=torch.bool) for name in POSITIONS}
    positions["all"] = column < start
    for kind in {kind for item in items for kind in item.spans}:
        marked = [(row, i) for row, item in enumerate(items) for i in item.spans.get(kind, ())]
        if marked:
            positions[kind][tuple(torch.tensor(marked).T)] = True
    lengths = torch.tensor([len(item.ids) for item in items])
    mask = (column >= start) & (column < end)
    return Batch(ids, lengths, mask, positions)
