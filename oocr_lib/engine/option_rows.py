"""Options of a question as sequences to run: side by side behind one prompt where that pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from oocr_lib.encoding import Encoded, branched

#: Pairs of tokens that cost attention as much as one token costs the rest of a small model.
_PAIRS = 1024


@dataclass(frozen=True)
class Pass:
    """One sequence to run and the options it scores.

    Attributes:
        options: numbers of the options.
        encoded: the prompt, and behind it the tokens that are run of options of several tokens.
        answers: the tokens of each option.
    """

    options: tuple[int, ...]
    encoded: Encoded
    answers: tuple[tuple[int, ...], ...]


def passes(encoded: Sequence[Encoded], pack: bool) -> list[Pass]:
    """Sequences to run for options (each behind the same prompt), one-token options first."""
    answers = [e.ids[e.answer[0] :] for e in encoded]
    short = [i for i, answer in enumerate(answers) if len(answer) == 1]
    long = [i for i, answer in enumerate(answers) if len(answer) > 1]
    if pack and long and _pays(encoded[0].answer[0], [len(answers[i]) for i in long], bool(short)):
        # One long option is a plain row: the token before it scores the short ones.
        whole = branched(encoded[long[0]], [answers[i] for i in long])
        whole = whole if len(long) > 1 else encoded[long[0]]
        return [Pass((*short, *long), whole, tuple(answers[i] for i in (*short, *long)))]
    made = [Pass((i,), encoded[i], (answers[i],)) for i in long]
    if short:
        targets = tuple(answers[i] for i in short)
        made.insert(0, Pass(tuple(short), encoded[short[0]], targets))
    return made


def _pays(prompt: int, sizes: Sequence[int], short: bool) -> bool:
    """Whether one row costs less than a row an option: fewer tokens, but more pairs of them."""
    apart = [prompt + size - 1 for size in sizes] + [prompt] * short
    together = prompt + sum(size - 1 for size in sizes)
    return together + together**2 / _PAIRS < sum(t + t**2 / _PAIRS for t in apart)


def read_at(parts: Sequence[Pass]) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Where the tokens of all options of all parts are predicted.

    Returns:
        Numbers (m,) of logits that stand part after part, the tokens (m,) to read there, and how
        many belong to each option.
    """
    at, tokens, sizes, first = list[int](), list[int](), list[int](), 0
    for part in parts:
        following = first + 1
        for answer in part.answers:
            at += [first, *range(following, following + len(answer) - 1)]
            following += len(answer) - 1
            tokens += answer
            sizes.append(len(answer))
        first += part.encoded.answer[1] - part.encoded.answer[0]
    return torch.tensor(at), torch.tensor(tokens), sizes
