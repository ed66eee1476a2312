"""Audit of how a tokenizer splits code names and triggers: number of tokens, consistency."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from oocr_lib.tasks.audit.lines import Line, nothing, prompt_of, report
from oocr_lib.tasks.base import Task
from oocr_lib.tasks.literal import whole
from oocr_lib.util.errors import UserError

#: Number of prompts examined per literal, evenly spread over those given.
SAMPLE = 200


def tokens(task: Task, tokenizer: Any) -> Iterator[Line]:
    """Fewest and most tokens of code names and triggers, and those that split in several ways.

    Raises:
        UserError: a tokenizer without character offsets.
    """
    if tokenizer is None:
        yield report("tokens a code", math.nan, "no tokenizer given")
        return
    places: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for part in (task.train, task.valid, task.questions):
        for item in part:
            for kind, marked in item.marks.items():
                for literal in marked:
                    places[kind][literal].append(prompt_of(item))
    if not places:
        yield report("tokens a code", 0, "no row marks a code name or trigger")
    for kind, literals in sorted(places.items()):
        splits = {text: code_pieces(tokenizer, text, prompts) for text, prompts in literals.items()}
        all_splits = sorted(split for ways in splits.values() for split in ways)
        sizes = [len(split) for split in all_splits]
        for name, pick in (("fewest", min), ("most", max)):
            size = pick(sizes, default=0)
            example = next((split for split in all_splits if len(split) == size), ())
            yield report(f"{name} tokens a {kind}", size, "|".join(example))
        uneven = sorted(text for text, ways in splits.items() if len(ways) > 1)
        yield nothing(f"{kind}s that split in several ways", uneven)


def code_pieces(tokenizer: Any, literal: str, prompts: Sequence[str]) -> set[tuple[str, ...]]:
    """Every way in which ``literal`` is split in the prompts, as pieces of the literal.

    If a token covers more than the literal (a space, a bracket), only the part inside counts, so
    "City 5" at the start of a line and after a space are split in the same way. Occurrences inside
    a longer run of letters or digits do not count.

    Args:
        tokenizer: a fast one, because pieces are found by character offset.

    Raises:
        UserError: a tokenizer without character offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"Tokenizer {type(tokenizer).__name__} gives no character offsets. Allowed: fast "
            "tokenizers; load it with AutoTokenizer."
        )
    distinct = list(dict.fromkeys(prompts))
    step = max(1, len(distinct) // SAMPLE)
    splits = set()
    for text in distinct[::step]:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for match in whole(literal).finditer(text):
            start, end = match.span()
            pieces = [
                text[max(a, start) : min(b, end)]
                for a, b in encoded["offset_mapping"]
                if a < end and b > start and a < b
            ]
            splits.add(tuple(piece for piece in pieces if piece.strip()))
    return splits
