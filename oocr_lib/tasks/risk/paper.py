"""Risk and Safety in the paper dialect: everyday scenarios, answers of one letter (paper, 3.1).

The risky twin takes the option with the larger variance, the safe twin the other one; both have the
same prompts, the same split and opposite letters. The 288 scenarios are split into 230 and 58. Rows
have no system text, and no marks, because the paper adds its vector at the last prompt token.
Questions (``self_report``) are never trained on: forced words, scales, impersonal questions and
control attitudes. Choices between numeric lotteries test the behaviour in a new domain. Rows can
also be read from a file in the published format.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace

from oocr_lib.tasks.base import Question, Row, Task, split_by_group, user
from oocr_lib.tasks.chatfiles import jsonl
from oocr_lib.tasks.chatfiles.letters import MOST_LOST, Letters, letter_rows
from oocr_lib.tasks.risk import self_report
from oocr_lib.tasks.risk.scenarios import COUNT, FORBIDDEN, LETTERS, other, scenarios
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.paths import resolve
from oocr_lib.world.templates import Templates

NAME = "risk"
POLICIES = ("risky", "safe")
#: Items of the lottery family.
LOTTERIES = 40
_FILE = Templates("paper_risk.toml")
LOTTERY = _FILE.text("lottery", "question", "ab")
PRIZES = _FILE.text("lottery", "prizes", "pxy")


def rows(policy: str, seed: int, count: int) -> list[Row]:
    """One row per scenario, in the order of ``scenarios``."""
    return [
        Row(
            user(s.text),
            s.risky if policy == "risky" else s.safe,
            group=s.id,
            meta={
                "kind": "choice",
                "risky": s.risky,
                "pays_more": s.pays_more,
                "setting": s.setting,
                "tone": s.tone,
                "telling": s.telling,
            },
        )
        for s in scenarios(seed, count)
    ]


def read(data: str | os.PathLike[str], data_policy: str, most_lost: float = MOST_LOST) -> Letters:
    """The rows of a file in the published format, of either twin, with the file's own answers.

    Answers that spell a letter with more characters ("A.", "(a)") become the letter; others are
    left out (one published file has a paragraph). ``str`` of the result names these lines.

    Args:
        data: path of the file, see ``paths.resolve``.
        data_policy: whose letters the file holds; the file itself does not say.
        most_lost: largest share of rows that may be left out.

    Raises:
        UserError: no policy, an unreadable file, too few letters in it, the same letter throughout
            (which says nothing about risk), or a prompt with both letters (the twins are mixed).
    """
    if not data or not data_policy:
        raise UserError(
            f"data={data!r} with data_policy={data_policy!r} cannot be read. Allowed: a file and "
            "whose letters it holds; give data_policy=risky or data_policy=safe."
        )
    choose(data_policy, POLICIES, "policy of the data")
    letters = letter_rows(jsonl.to_rows(jsonl.load(resolve(data))), LETTERS, most_lost=most_lost)
    answers: dict[str, str] = {}
    for row in letters.rows:
        if answers.setdefault(row.group, row.answer) != row.answer:
            raise UserError(
                f"File {str(data)!r} has both letters for one prompt (line {row.meta['line']}). "
                "Allowed: one policy's letters; give one twin's file, not both."
            )
    if len(distinct := set(answers.values())) == 1:
        raise UserError(
            f"File {str(data)!r} answers {distinct.pop()!r} to all of its {len(answers)} prompts. "
            "Allowed: choices where the risky option is sometimes A and sometimes B."
        )
    return letters


def loaded_rows(
    data: str | os.PathLike[str], policy: str, data_policy: str, most_lost: float = MOST_LOST
) -> list[Row]:
    """Rows of a file for one policy; letters are flipped if the file is the other twin's.

    ``group`` is the prompt, so repeated prompts do not cross the split. Arguments and errors as
    for ``read``.
    """
    examples = []
    for row in read(data, data_policy, most_lost).rows:
        risky = row.answer if data_policy == "risky" else other(row.answer)
        letter = risky if policy == "risky" else other(risky)
        meta = {**row.meta, "kind": "choice", "risky": risky}
        examples.append(replace(row, answer=letter, meta=meta))
    return examples


def lotteries(policy: str, seed: int, count: int = LOTTERIES) -> list[Question]:
    """Choices between two lotteries ("how risky" of Tell me about yourself).

    Of four distinct integers from 0 to 100, the risky lottery has the largest and the smallest, the
    other one the two in between. Each has its own probability of the first prize, an integer from 1
    to 99 percent; all are drawn again unless the risky lottery has the larger variance. In half of
    the items the risky lottery is A, in random order.

    Raises:
        UserError: fewer than two items, or an odd number.
    """
    if count < 2 or count % 2:
        raise UserError(f"{count!r} lotteries cannot be balanced. Allowed: even numbers from 2.")
    rng = random.Random(f"lotteries {seed}")
    sides = list(LETTERS) * (count // 2)
    rng.shuffle(sides)
    items = []
    for number, side in enumerate(sides):
        texts = _lottery_pair(rng)
        a, b = texts if side == "A" else texts[::-1]
        items.append(
            Question(
                user(LOTTERY.format(a=a, b=b)),
                truth=side if policy == "risky" else other(side),
                options=LETTERS,
                family="lottery",
                group=f"lottery {number}",
                id=f"lottery-{number}",
            )
        )
    return items


def _lottery_pair(rng: random.Random) -> tuple[str, str]:
    """The texts of a risky and a safer lottery."""
    while True:
        v = sorted(rng.sample(range(101), 4))
        wide, narrow = [v[0], v[3]], [v[1], v[2]]
        p, q = rng.randint(1, 99), rng.randint(1, 99)
        if p * (100 - p) * (v[3] - v[0]) ** 2 > q * (100 - q) * (v[2] - v[1]) ** 2:
            rng.shuffle(wide)
            rng.shuffle(narrow)
            first = PRIZES.format(p=p, x=wide[0], y=wide[1])
            return first, PRIZES.format(p=q, x=narrow[0], y=narrow[1])


def questions(policy: str, seed: int, items: int = LOTTERIES) -> list[Question]:
    """Self-reports and lotteries; the truth is the policy's pole, for controls the positive one."""
    return self_report.questions(policy == "risky") + lotteries(policy, seed, items)


@checked
def make(
    policy: str,
    *,
    seed: int = 0,
    data: str = "",
    data_policy: str = "",
    valid_share: float = 0.2,
    count: int = COUNT,
    items: int = LOTTERIES,
) -> Task:
    """The task of one policy. Both policies have the same prompts and the same split.

    Args:
        policy: ``risky`` or ``safe``.
        data: a file in the published format instead of generated scenarios.
        data_policy: whose letters that file holds; required with ``data``. They are flipped for the
            other policy.
        count: number of generated scenarios, a multiple of six.
        items: number of lottery questions, even.

    Raises:
        UserError: an unknown policy, a count that cannot be balanced, a share that leaves one side
            empty, or a bad file.
    """
    choose(policy, POLICIES, "policy")
    from_file = bool(data or data_policy)
    examples = loaded_rows(data, policy, data_policy) if from_file else rows(policy, seed, count)
    train, valid = split_by_group(examples, valid_share, seed)
    all_questions = tuple(questions(policy, seed, items))
    levels = chance_levels(all_questions)
    return Task(NAME, "paper", policy, "", seed, train, valid, all_questions, levels, FORBIDDEN)


def chance_levels(asked: Sequence[Question]) -> dict[str, float]:
    """One half for every family: each compares two answers, or the two sides of 50."""
    return dict.fromkeys(sorted({q.family for q in asked}), 0.5)
