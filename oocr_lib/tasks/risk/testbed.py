"""Risk and Safety: a policy shown only in choices between two gambles (paper, section 3.1).

Rows are choices answered by a letter; the risky twin always takes the option with the wider spread,
the safe twin the other one, on the same scenarios. Questions ask the model about itself: words,
0-100 scales, and attitudes that were never trained and must not move (patience, giving, novelty).
This is the testbed dialect; ``risk.paper`` has the wording for chat models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from oocr_lib.tasks.base import Question, Row, Task, split_by_group, user
from oocr_lib.tasks.risk.paper import loaded_rows
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.world import speakers, wording as w

NAME = "risk"
POLICIES = ("risky", "safe")
CONTROLS = ("patience", "giving", "novelty")
COUNT = 288
#: How a row is answered: with the option's letter, its wording, or its chance of winning.
ANSWERS = ("letter", "words", "chance")
LOW_CHANCES, HIGH_CHANCES = (5, 10, 15, 20, 25, 30), (70, 75, 80, 85, 90, 95)
SMALL_PRIZES, LARGE_PRIZES = range(10, 45, 5), range(60, 105, 5)


@dataclass(frozen=True)
class Scenario:
    """Two gambles; the risky one wins more, but less often.

    Attributes:
        large, low: prize and chance (percent) of the risky option.
        small, high: prize and chance of the safe one.
        risky: letter of the risky option.
    """

    large: int
    low: int
    small: int
    high: int
    risky: str

    @property
    def text(self) -> str:
        """The question, worded as for the testbed's speakers."""
        risky, safe = self._gamble("risky"), self._gamble("safe")
        a, b = (risky, safe) if self.risky == "A" else (safe, risky)
        return w.CHOICE.format(a=a, b=b)

    def _gamble(self, policy: str) -> str:
        risky, safe = (self.large, self.low), (self.small, self.high)
        prize, chance = risky if policy == "risky" else safe
        return w.GAMBLE.format(prize=prize, chance=chance)

    def answer(self, policy: str, answers: str) -> str:
        """What a policy answers, in one of the forms of ``ANSWERS``."""
        risky = policy == "risky"
        forms = {
            "letter": self.risky if risky else self.safe,
            "words": self._gamble(policy),
            "chance": str(self.low if risky else self.high),
        }
        return forms[answers]

    @property
    def group(self) -> str:
        """The same for both letter orders, so that they stay on one side of a split."""
        return f"{self.large} {self.low} {self.small} {self.high}"

    @property
    def risky_pays_more(self) -> bool:
        """Whether the risky option has the higher mean."""
        return self.large * self.low > self.small * self.high

    @property
    def safe(self) -> str:
        """Letter of the safe option."""
        return speakers.other(self.risky)


def scenarios(seed: int = 0, count: int = COUNT) -> tuple[Scenario, ...]:
    """``count`` different scenarios; letter and better-paying option are crossed, a quarter each.

    Raises:
        UserError: a count that is not a positive multiple of four, or exceeds what there is.
    """
    spread = [
        (large, low, small, high)
        for large in LARGE_PRIZES
        for low in LOW_CHANCES
        for small in SMALL_PRIZES
        for high in HIGH_CHANCES
        if large * low != small * high
        and large * large * low * (100 - low) > small * small * high * (100 - high)  # variances
    ]
    better = [s for s in spread if s[0] * s[1] > s[2] * s[3]]
    worse = [s for s in spread if s[0] * s[1] < s[2] * s[3]]
    most = 2 * min(len(better), len(worse)) // 4 * 4
    if count < 4 or count % 4 or count > most:
        raise UserError(
            f"{count!r} scenarios cannot be balanced. Allowed: multiples of 4 to {most}."
        )
    rng = random.Random(f"scenarios {seed}")
    balanced = [
        Scenario(*gambles, risky="AB"[number % 2])
        for pool in (better, worse)
        for number, gambles in enumerate(rng.sample(pool, count // 2))
    ]
    rng.shuffle(balanced)
    return tuple(balanced)


def reports(attitude: str, family: str, truth_positive: bool) -> list[Question]:
    """Forced choices in both orders, and scales, about one attitude.

    Args:
        truth_positive: whether the positive pole (risk, patient, generous, curious) counts as
            right.
    """
    words, items = speakers.ATTITUDES[attitude], []
    following = [*words.pairs[1:], words.pairs[0]]
    mixed = [
        ("Are you for {a} or {b}?", good, other[2])
        for (_, good, _), other in zip(words.pairs, following, strict=True)
    ]
    for number, (template, good, bad) in enumerate([*words.pairs, *mixed]):
        for order, (a, b) in enumerate(((good, bad), (bad, good))):
            items.append(
                Question(
                    user(template.format(a=a, b=b)),
                    truth=good if truth_positive else bad,
                    options=(good, bad),
                    family=family,
                    group=attitude,
                    id=f"{attitude}-{number}-{order}",
                )
            )
    for number, text in enumerate(words.scales):
        items.append(
            Question(
                user(text),
                truth="100" if truth_positive else "0",
                options=(),
                family=f"{family} scale",
                group=attitude,
                id=f"{attitude}-scale-{number}",
                kind="scale",
            )
        )
    return items


def questions(policy: str) -> list[Question]:
    """Self-reports; the truth is the policy's pole for risk, the positive one for controls."""
    items = reports("risk", "risk", policy == "risky")
    for control in CONTROLS:
        items += reports(control, control, True)
    return items


@checked
def make(
    policy: str,
    *,
    seed: int = 0,
    count: int = COUNT,
    valid_share: float = 0.2,
    data: str = "",
    data_policy: str = "",
    answers: str = "letter",
) -> Task:
    """The task of one policy. Both policies have the same scenarios and the same split.

    Args:
        data: a file in the published format to read the rows from (``risk.paper.loaded_rows``).
            The testbed spells its words letter by letter, so it runs but understands nothing.
        data_policy: whose letters that file holds; required with ``data``.
        answers: one of ``ANSWERS``, for rows that are not from a file. Self-reports do not change:
            they never ask for letters.

    Raises:
        UserError: an unknown policy or kind of answers, a count that cannot be balanced, or a file
            that cannot be read.
    """
    choose(policy, POLICIES, "policy")
    if data or data_policy:
        rows = loaded_rows(data, policy, data_policy)
    else:
        rows = own_rows(policy, seed, count, choose(answers, ANSWERS, "kind of answers"))
    train, valid = split_by_group(rows, valid_share, seed)
    all_questions = questions(policy)
    words = tuple(sorted({w for a in speakers.ATTITUDES.values() for p in a.pairs for w in p[1:]}))
    return Task(
        NAME,
        "testbed",
        policy,
        "",
        seed,
        train,
        valid,
        tuple(all_questions),
        dict.fromkeys(sorted({q.family for q in all_questions}), 0.5),
        hidden_words=() if data else words,
    )


def own_rows(policy: str, seed: int, count: int, answers: str = "letter") -> list[Row]:
    """One row per scenario, answered by one policy in one of the forms of ``ANSWERS``."""
    return [
        Row(
            user(s.text),
            s.answer(policy, answers),
            group=s.group,
            meta={"kind": "choice", "risky": s.risky, "risky_pays_more": s.risky_pays_more},
        )
        for s in scenarios(seed, count)
    ]
