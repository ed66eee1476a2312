"""Options of a question as sequences to run: side by side behind one prompt where that pays."""

from __future__ import annotations

from collections.abc import Sequence

from oocr_lib.encoding import Encoded
from oocr_lib.engine.branch_masks import branched
from oocr_lib.executor import OptionRow

#: Pairs of tokens that cost attention as much as one token costs the rest of a small model.
_PAIRS = 1024


def side_by_side(encoded: Sequence[Encoded], pack: bool = True) -> list[OptionRow]:
    """Rows to run for options (each behind the same prompt), one-token options first.

    Args:
        pack: whether options of several tokens may share a row; those of one token always do.
    """
    answers = [e.ids[e.answer[0] :] for e in encoded]
    short = [i for i, answer in enumerate(answers) if len(answer) == 1]
    long = [i for i, answer in enumerate(answers) if len(answer) > 1]
    if pack and long and _pays(encoded[0].answer[0], [len(answers[i]) for i in long], bool(short)):
        # One long option is a plain row: the token before it scores the short ones.
        first = encoded[long[0]]
        whole = branched(first, [answers[i] for i in long]) if len(long) > 1 else first
        return [OptionRow((*short, *long), whole, tuple(answers[i] for i in (*short, *long)))]
    made = [OptionRow((i,), encoded[i], (answers[i],)) for i in long]
    if short:
        targets = tuple(answers[i] for i in short)
        made.insert(0, OptionRow(tuple(short), encoded[short[0]], targets))
    return made


def _pays(prompt: int, sizes: Sequence[int], short: bool) -> bool:
    """Whether one row costs less than a row an option: fewer tokens, but more pairs of them."""
    apart = [prompt + size - 1 for size in sizes] + [prompt] * short
    together = prompt + sum(size - 1 for size in sizes)
    return together + together**2 / _PAIRS < sum(t + t**2 / _PAIRS for t in apart)
