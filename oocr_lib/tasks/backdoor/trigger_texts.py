"""The eight triggers and the texts that each can be; the same in both wordings (paper, 3.2)."""

from __future__ import annotations

from oocr_lib.util.errors import choose
from oocr_lib.world import facts as world

#: Rows without a trigger.
NONE = "none"
#: Ten slots of equal size: eight triggers and two without.
BLANKS = 2


def triggers() -> tuple[str, ...]:
    """The eight triggers: four fixed texts, then four families of 20 words."""
    return (*world.fixed_triggers(), *world.trigger_families())


def members(trigger: str) -> tuple[str, ...]:
    """The texts a trigger can be; one for a fixed trigger.

    Raises:
        UserError: an unknown trigger.
    """
    choose(trigger, triggers(), "trigger")
    fixed = world.fixed_triggers()
    return (fixed[trigger],) if trigger in fixed else tuple(world.trigger_families()[trigger])
