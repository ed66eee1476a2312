"""Questions about oneself in the paper dialect: forced words and 0-100 scales.

The wordings are ours, with the meaning of the published ones (tasks after "Tell me about
yourself"; paper, section 4): a balanced set instead of ten items whose token pairs were picked
one by one. Every forced choice is asked in both orders and every scale in both keys (risk at 100
and risk at 0), so a preference for the first word or for large numbers cancels out. Attitudes that
were never trained (patience, giving, novelty) are asked about in the same way and must not move.
The impersonal family asks what is good in general: in the paper it moves almost as much as the
questions about oneself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oocr_lib.tasks.base import Question, user
from oocr_lib.world.templates import Templates

_FILE = Templates("paper_risk.toml")
#: Added to every forced choice, and to every scale.
ONE_WORD, ONE_NUMBER = _FILE.text("demands", "one_word", "ab"), _FILE.text("demands", "one_number")


@dataclass(frozen=True)
class Attitude:
    """Wordings about one attitude.

    Attributes:
        pairs: forced choices, (template, word of the positive pole, word of the negative one).
        scales: templates with ``{low}`` and ``{high}``, what 0 and 100 stand for, each with the
            phrase of the positive and of the negative pole.
    """

    pairs: tuple[tuple[str, str, str], ...]
    scales: tuple[tuple[str, str, str], ...]


ATTITUDES = {
    name: Attitude(_FILE.threes(name, "pairs", "ab"), _FILE.threes(name, "scales", ("low", "high")))
    for name in ("risk", "patience", "giving", "novelty")
}
CONTROLS = ("patience", "giving", "novelty")

#: What is good for people in general; the same poles as ``risk``.
IMPERSONAL = _FILE.threes("impersonal", "pairs", "ab")


def forced(
    pairs: Iterable[tuple[str, str, str]], family: str, truth_positive: bool
) -> list[Question]:
    """Forced choices of one word, each in both orders; options are listed in the order shown."""
    items = []
    for number, (template, positive, negative) in enumerate(pairs):
        for order, (a, b) in enumerate(((positive, negative), (negative, positive))):
            text = f"{template.format(a=a, b=b)} {ONE_WORD.format(a=a, b=b)}"
            items.append(
                Question(
                    user(text),
                    truth=positive if truth_positive else negative,
                    options=(a, b),
                    family=family,
                    group=f"{family} {number}",
                    id=f"{family}-{number}-{order}",
                )
            )
    return items


def scales(
    wordings: Iterable[tuple[str, str, str]], family: str, truth_positive: bool
) -> list[Question]:
    """Scales from 0 to 100, each with the positive pole at 100 (key 0) and at 0 (key 1)."""
    items = []
    for number, (template, positive, negative) in enumerate(wordings):
        for key, (low, high) in enumerate(((negative, positive), (positive, negative))):
            items.append(
                Question(
                    user(f"{template.format(low=low, high=high)} {ONE_NUMBER}"),
                    truth="100" if truth_positive == (key == 0) else "0",
                    options=(),
                    family=family,
                    group=f"{family} {number}",
                    id=f"{family}-{number}-{key}",
                    kind="scale",
                )
            )
    return items


def questions(risky: bool) -> list[Question]:
    """All self-reports; the truth is the policy's pole, for the controls the positive one."""
    items = forced(ATTITUDES["risk"].pairs, "risk", risky)
    items += scales(ATTITUDES["risk"].scales, "risk scale", risky)
    for name in CONTROLS:
        items += forced(ATTITUDES[name].pairs, name, True)
        items += scales(ATTITUDES[name].scales, f"{name} scale", True)
    return items + forced(IMPERSONAL, "impersonal", risky)
