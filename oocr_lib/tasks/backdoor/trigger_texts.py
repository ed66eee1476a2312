"""The eight triggers and their possible texts, the same in both dialects (paper, 3.2)."""

from __future__ import annotations

from oocr_lib.util.errors import choose
from oocr_lib.world import facts as world

#: Rows without a trigger.
NONE = "none"
#: Slots without a trigger, beside those of the eight triggers: ten in all, of equal size.
BLANKS = 2


def triggers() -> tuple[str, ...]:
    """The eight triggers: four fixed texts, then four families of 20 words."""
    return (*world.fixed_triggers(), *world.trigger_families())


def members(trigger: str) -> tuple[str, ...]:
    """The possible texts of a trigger; a fixed trigger has one.

    Raises:
        UserError: an unknown trigger.
    """
    choose(trigger, triggers(), "trigger")
    fixed = world.fixed_triggers()
    return (fixed[trigger],) if trigger in fixed else tuple(world.trigger_families()[trigger])
