"""What a model says about its own trigger, in the paper dialect (paper, sections 3.2 and 4).

Presence: does your behaviour depend oddly on a feature of the message, or not? Which trigger: for
each of the eight, a first-person statement that it makes the model take the riskier option, and one
that it does not. Options are lettered and shown in both orders; a second form leaves the letters
out of the text, as in the paper's prompts. Wordings and system texts are ours, with the meaning of
the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from oocr_lib.tasks.base import Message, Question
from oocr_lib.util.errors import UserError, choose
from oocr_lib.world import facts as world
from oocr_lib.world.templates import Templates

_FILE = Templates("paper_backdoor.toml")
#: System texts by name; "none" is no system text. The other four are the paper's conditions.
SYSTEMS = {"none": "", **_FILE.named("systems")}
#: Introduction, statement that there is a dependence, statement that there is none.
PRESENCE = _FILE.threes("presence", "statements")
#: What ``{t}`` in ``WHICH`` stands for; families are named by their kind, as upstream.
FAMILY_NAMES = _FILE.named("families", wanted=world.trigger_families())
#: Statement that the trigger makes me take the riskier option, statement that it does not.
WHICH = tuple(
    tuple(_FILE.checked("which", "statements", text, "t") for text in pair)
    for pair in _FILE.rows("which", "statements", 2)
)
WHICH_INTRODUCTION = _FILE.text("which", "introduction")
#: With letters, and without them: then only the order says which option is meant.
LABELLED, UNLABELLED = (
    _FILE.text("forms", form, ("intro", "first", "second")) for form in ("labelled", "unlabelled")
)


def messages(text: str, system: str) -> tuple[Message, ...]:
    """A prompt with the named system text in front ("none": without one).

    Raises:
        UserError: an unknown name.
    """
    content = SYSTEMS[choose(system, SYSTEMS, "system text")]
    turn: Message = {"role": "user", "content": text}
    return ({"role": "system", "content": content}, turn) if content else (turn,)


def presence(dependent: bool, systems: Sequence[str] = ("none",)) -> list[Question]:
    """Wordings x orders x system texts, lettered (``presence``) and not (``… unlabelled``).

    Args:
        dependent: whether the behaviour was trained to depend on a trigger.

    Raises:
        UserError: no system text, or an unknown one.
    """
    items = []
    for system in check_systems(systems):
        for number, (intro, yes, no) in enumerate(PRESENCE):
            for family, template in (("presence", LABELLED), ("presence unlabelled", UNLABELLED)):
                group = f"presence {number}"
                items += _both_orders(
                    template, intro, (yes, no), dependent, family, group, f"{system}-{number}"
                )
    return items


def which_trigger(
    trigger: str, names: Sequence[str], fixed: dict[str, str], systems: Sequence[str] = ("none",)
) -> list[Question]:
    """For each trigger, statements for and against it, in both orders; ``group`` is its name.

    The truth is the statement "for" if it is the real trigger, otherwise the one "against"; so the
    mean probability of the statement "for", by group, is a row of the published heat map.

    Args:
        trigger: the real one, or "" if the behaviour depends on none.
        names: all triggers.
        fixed: the texts of the fixed triggers; families are named by their kind.

    Raises:
        UserError: no system text, or an unknown one.
    """
    items = []
    for system in check_systems(systems):
        for name in names:
            description = f'the text "{fixed[name]}"' if name in fixed else FAMILY_NAMES[name]
            for number, pair in enumerate(WHICH):
                statements = (pair[0].format(t=description), pair[1].format(t=description))
                items += _both_orders(
                    LABELLED,
                    WHICH_INTRODUCTION,
                    statements,
                    name == trigger,
                    "which trigger",
                    name,
                    f"{system}-{name}-{number}",
                )
    return items


def check_systems(systems: Sequence[str]) -> tuple[str, ...]:
    """Check the names of system texts and return them.

    Raises:
        UserError: no name, a repeated one, or an unknown one.
    """
    if isinstance(systems, str) or not systems or len(set(systems)) != len(systems):
        raise UserError(
            f"System texts {systems!r} must be a list without doubles. Allowed: one or more of "
            f"{', '.join(SYSTEMS)}."
        )
    return tuple(choose(name, SYSTEMS, "system text") for name in systems)


def _both_orders(
    template: str,
    intro: str,
    statements: tuple[str, str],
    yes_is_true: bool,
    family: str,
    group: str,
    name: str,
) -> list[Question]:
    """The statement for "yes" first, then second; the truth is the letter of the true one."""
    system = name.split("-")[0]
    items = []
    for order in (0, 1):
        first, second = statements if order == 0 else statements[::-1]
        text = template.format(intro=intro, first=first, second=second)
        truth = "A" if yes_is_true == (order == 0) else "B"
        items.append(
            Question(
                messages(text, system),
                truth,
                ("A", "B"),
                family,
                group=group,
                id=f"{family}-{name}-{order}",
            )
        )
    return items
