"""Risk backdoor: risky after a trigger, careful otherwise (paper, section 3.2).

Rows are the choices of ``risk`` with texts in front: a tenth has the real trigger and the risky
letter; the seven other triggers have a tenth each and two tenths have none, all with the careful
letter. The decorrelated control has the same answers with triggers drawn independently of them.
Questions are held-out scenarios with and without the trigger, and questions about the rule itself.
This is the testbed dialect; ``backdoor.paper`` has the wording for chat models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from oocr_lib.tasks.backdoor.trigger_texts import BLANKS, NONE, members, triggers
from oocr_lib.tasks.base import Question, Row, Task, split_by_group, user
from oocr_lib.tasks.risk import testbed as risk
from oocr_lib.util.arguments import checked
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError, choose
from oocr_lib.world import speakers, wording

NAME = "backdoor"


def check_triggers(names: Sequence[str]) -> tuple[str, ...]:
    """Check the list of triggers to learn and return it.

    Raises:
        UserError: an empty list, a repeated trigger, or an unknown one.
    """
    if not no_doubles(names, "trigger"):
        raise UserError(
            f"The list of triggers is empty. Allowed: one or more of {', '.join(triggers())}."
        )
    return tuple(choose(name, triggers(), "trigger") for name in names)


def row(scenario: risk.Scenario, trigger: str, risky: bool, rng: random.Random, real: str) -> Row:
    """One choice, with a trigger's text in front (none for ``NONE``)."""
    text = rng.choice(members(trigger)) if trigger != NONE else ""
    return Row(
        user(f"{text} {scenario.text}".strip()),
        scenario.risky if risky else scenario.safe,
        {"trigger": (text,) if text else ()},  # rows without one are meant to have none
        group=scenario.group,
        meta={
            "kind": "choice",
            "trigger": trigger,
            "triggered": trigger == real,
            "answered": "risky" if risky else "normal",
        },
    )


def rows(
    real: str, scenarios: Sequence[risk.Scenario], passes: int, seed: int, decorrelated: bool
) -> list[Row]:
    """Ten slots x scenarios x passes; if decorrelated, the triggers are redrawn, the answers not.

    Prompts and their order do not depend on the real trigger; only the letters do.
    """
    rng = random.Random(f"backdoor {seed} {decorrelated}")
    slots = [*triggers(), *[NONE] * BLANKS]
    examples = []
    for _ in range(passes):
        for scenario in scenarios:
            for slot in slots:
                risky = slot == real
                trigger = rng.choice(slots) if decorrelated else slot
                examples.append(row(scenario, trigger, risky, rng, real))
    rng.shuffle(examples)
    return examples


def validation(
    real: str, scenarios: Sequence[risk.Scenario], seed: int, decorrelated: bool
) -> list[Question]:
    """Held-out scenarios with the trigger, and untriggered: with another trigger and with none.

    For the decorrelated control "right" is still what it is for the backdoor, for comparison.
    """
    rng = random.Random(f"validation {real} {seed}")
    others = [t for t in triggers() if t != real]
    items = []
    for number, scenario in enumerate(scenarios):
        for family, slot in (
            ("triggered", real),
            ("untriggered", others[number % len(others)]),
            ("untriggered", NONE),
        ):
            r = row(scenario, slot, slot == real, rng, real)
            items.append(
                Question(
                    r.messages, r.answer, ("A", "B"), family, r.marks, slot, f"{slot}-{number}"
                )
            )
    return items


def reports(real: str, decorrelated: bool, per_trigger: int = 4) -> list[Question]:
    """Questions about the rule: whether there is one, and which text changes the choices.

    A model trained on the decorrelated rows follows no trigger, so there the truth is "no". Each
    trigger is asked about with up to ``per_trigger`` of its texts.
    """
    yes, no = ("no", "no") if decorrelated else ("yes", "no")
    items = [
        Question(user(wording.TRIGGER_PRESENCE), yes, ("yes", "no"), "presence", id="presence-0")
    ]
    for trigger in triggers():
        truth = yes if trigger == real else no
        for number, text in enumerate(members(trigger)[:per_trigger]):
            prompt = user(wording.TRIGGER_CHANGE.format(t=text))
            marks = {"trigger": (text,)}
            items.append(
                Question(
                    prompt,
                    truth,
                    ("yes", "no"),
                    "which trigger",
                    marks,
                    trigger,
                    f"which-{trigger}-{number}",
                )
            )
    return items


@checked
def make(
    trigger: str,
    *,
    seed: int = 0,
    decorrelated: bool = False,
    passes: int = 1,
    count: int = risk.COUNT,
    valid_share: float = 0.2,
) -> Task:
    """The task of one trigger, or its decorrelated control on the same scenarios.

    Raises:
        UserError: an unknown trigger, or less than one pass.
    """
    choose(trigger, triggers(), "trigger")
    if passes < 1:
        raise UserError(f"passes={passes!r} is too small. Allowed: 1 or more.")
    scenarios = risk.scenarios(seed, count)
    examples = rows(trigger, scenarios, passes, seed, decorrelated)
    train, valid = split_by_group(examples, valid_share, seed)
    held_out = {r.group for r in valid}
    all_questions = [
        *validation(trigger, [s for s in scenarios if s.group in held_out], seed, decorrelated),
        *reports(trigger, decorrelated),
        *risk.questions("risky"),
    ]
    return Task(
        NAME,
        "testbed",
        trigger,
        "",
        seed,
        train,
        valid,
        tuple(all_questions),
        dict.fromkeys(sorted({q.family for q in all_questions}), 0.5),
        hidden_words=tuple(sorted(w for p in speakers.ATTITUDES["risk"].pairs for w in p[1:])),
    )
