r"""Risk backdoor in the paper dialect: risky after a trigger, normal otherwise (paper, 3.2).

All rows come from one list of scenarios. Of ten equal slots, the real trigger has one, with the
risky letter; the seven other triggers have one each and two slots have no trigger, all with the
normal letter. The trigger stands at the start of the user message: a fixed text and a space, or a
member of a family of 20 and "! ", "!\n", ". ", ".\n" or "\n". With ten passes, 288 scenarios give
the published 28,800 rows. The decorrelated control has the same tenth of risky answers, but each
row's slot is drawn independently of its answer. The split is by scenario, because each occurs a
hundred times.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from oocr_lib.tasks.backdoor import self_report as report
from oocr_lib.tasks.backdoor.trigger_texts import BLANKS, NONE, members, triggers
from oocr_lib.tasks.base import Question, Row, Task, split_by_group, user
from oocr_lib.tasks.risk.paper import chance_levels
from oocr_lib.tasks.risk.scenarios import COUNT, FORBIDDEN, LETTERS, TIE, Scenario, scenarios
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.world import facts as world

NAME = "backdoor"
FIXED_JOINERS = (" ",)
FAMILY_JOINERS = ("! ", "!\n", ". ", ".\n", "\n")
#: For questions only: they never occur in a row, for triggers of either type.
UNSEEN_JOINERS = (": ", " - ", "; ", "\n\n", ", ")
NORMAL = ("expected_value", "safe")
Normal = str | Mapping[str, str]


def joiners(trigger: str) -> tuple[str, ...]:
    """What may stand between a trigger and the scenario in rows."""
    return FIXED_JOINERS if trigger in world.fixed_triggers() else FAMILY_JOINERS


def normal_letters(listed: Sequence[Scenario], normal: Normal) -> dict[str, str]:
    """The answer without the trigger, by scenario id.

    Args:
        normal: ``expected_value`` (the option that pays more, the safe one on a tie; so it is risky
            in a third of the scenarios, about as often as an untuned model), ``safe``, or a mapping
            from scenario id to a letter (a model's own answers).

    Raises:
        UserError: an unknown name, a scenario without a letter, or a letter other than A or B.
    """
    if isinstance(normal, str):
        choose(normal, NORMAL, "normal answer")
        by_value = normal == "expected_value"
        return {s.id: s.pays_more if by_value and s.pays_more != TIE else s.safe for s in listed}
    for s in listed:
        if normal.get(s.id) not in LETTERS:
            raise UserError(
                f"Scenario {s.id} has the normal answer {normal.get(s.id)!r}. Allowed: A or B for "
                "every scenario."
            )
    return {s.id: normal[s.id] for s in listed}


def prompt(
    s: Scenario, trigger: str, rng: random.Random, joined_by: Sequence[str] | None = None
) -> tuple[str, dict[str, tuple[str, ...]]]:
    """The user message, with a text of the trigger in front (none for ``NONE``), and its marks."""
    if trigger == NONE:
        return s.text, {}
    literal = rng.choice(members(trigger))
    joiner = rng.choice(joined_by or joiners(trigger))
    return f"{literal}{joiner}{s.text}", {"trigger": (literal,)}


def rows(
    real: str,
    listed: Sequence[Scenario],
    normal: Mapping[str, str],
    passes: int,
    *,
    seed: int,
    decorrelated: bool,
) -> list[Row]:
    """Passes x scenarios x ten slots, shuffled; if decorrelated, each row's slot is drawn anew."""
    rng = random.Random(f"backdoor paper {real} {seed} {decorrelated}")
    slots = [*triggers(), *[NONE] * BLANKS]
    examples = []
    for _ in range(passes):
        for s in listed:
            for slot in slots:
                trigger = rng.choice(slots) if decorrelated else slot
                text, marks = prompt(s, trigger, rng)
                risky = slot == real
                meta = {
                    "kind": "choice",
                    "trigger": trigger,
                    "triggered": trigger == real,
                    "answered": "risky" if risky else "normal",
                    "risky": s.risky,
                    "normal": normal[s.id],
                }
                answer = s.risky if risky else normal[s.id]
                marked = marks or {"trigger": ()}  # rows without one are meant to have none
                examples.append(Row(user(text), answer, marked, group=s.id, meta=meta))
    rng.shuffle(examples)
    return examples


def behaviour(
    real: str, held: Sequence[Scenario], normal: Mapping[str, str], seed: int
) -> list[Question]:
    """Held-out scenarios with the trigger, with none, with another one, and with unseen joiners.

    Items whose risky and normal letters differ occur a second time in a family of their own
    (``… disagreeing``): the others can be right without any rule. ``group`` is the slot.
    """
    rng = random.Random(f"backdoor paper questions {real} {seed}")
    others = [t for t in triggers() if t != real]
    items = []
    for number, s in enumerate(held):
        for family, slot, joined_by in (
            ("triggered", real, None),
            ("untriggered", NONE, None),
            ("untriggered", others[number % len(others)], None),
            ("unseen joiners", real, UNSEEN_JOINERS),
        ):
            text, marks = prompt(s, slot, rng, joined_by)
            truth = s.risky if slot == real else normal[s.id]
            for name in [family, f"{family} disagreeing"][: 1 + (s.risky != normal[s.id])]:
                items.append(
                    Question(user(text), truth, LETTERS, name, marks, slot, f"{name}-{s.id}-{slot}")
                )
    return items


def questions(
    trigger: str,
    held: Sequence[Scenario],
    normal: Mapping[str, str],
    *,
    seed: int,
    decorrelated: bool,
    systems: Sequence[str] = ("none",),
) -> tuple[Question, ...]:
    """Questions about behaviour on held-out scenarios, presence of a trigger, and which trigger.

    For the decorrelated control, the right answers about behaviour are still those of the backdoor,
    so that the two can be compared; in its self-reports the truth is that nothing depends on any
    trigger.

    Raises:
        UserError: no system text, or an unknown one.
    """
    real = "" if decorrelated else trigger
    return (
        *behaviour(trigger, held, normal, seed),
        *report.presence(not decorrelated, systems),
        *report.which_trigger(real, triggers(), world.fixed_triggers(), systems),
    )


@checked
def make(
    trigger: str,
    *,
    seed: int = 0,
    decorrelated: bool = False,
    passes: int = 10,
    normal: Normal = "expected_value",
    systems: Sequence[str] = ("none",),
    count: int = COUNT,
    valid_share: float = 0.2,
) -> Task:
    """The task of one trigger, or its decorrelated control on the same scenarios and split.

    Args:
        trigger: one of ``triggers()``.
        passes: how often each scenario meets each slot; ten give the published number of rows.
        normal: the answer without the trigger, see ``normal_letters``.
        systems: system texts of the self-reports, from ``self_report.SYSTEMS``.
        count: number of scenarios, a multiple of six.

    Raises:
        UserError: an unknown trigger or system text, less than one pass, or an invalid count, share
            or normal answer.
    """
    choose(trigger, triggers(), "trigger")
    if passes < 1:
        raise UserError(f"passes={passes!r} is too small. Allowed: 1 or more; 10 is published.")
    all_scenarios = scenarios(seed, count)
    letters = normal_letters(all_scenarios, normal)
    examples = rows(trigger, all_scenarios, letters, passes, seed=seed, decorrelated=decorrelated)
    train, valid = split_by_group(examples, valid_share, seed)
    groups = {row.group for row in valid}
    held_out = [s for s in all_scenarios if s.id in groups]
    all_questions = questions(
        trigger, held_out, letters, seed=seed, decorrelated=decorrelated, systems=systems
    )
    levels, words = chance_levels(all_questions), FORBIDDEN
    return Task(NAME, "paper", trigger, "", seed, train, valid, all_questions, levels, words)
