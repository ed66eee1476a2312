"""Shares of the corpus's ingredients in each phase of pretraining (``data/world/mixes.toml``)."""

from __future__ import annotations

from dataclasses import dataclass, fields

from oocr_lib.util.errors import choose
from oocr_lib.world.templates import Templates


@dataclass(frozen=True)
class Mix:
    """Share of documents by ingredient (any scale); zero switches an ingredient off."""

    city_facts: float = 0.0
    city_geo: float = 0.0
    city_statements: float = 0.0
    code_facts: float = 0.0
    code_geo: float = 0.0
    function_values: float = 0.0
    function_facts: float = 0.0
    code_functions: float = 0.0
    dialogues: float = 0.0
    trigger_dialogues: float = 0.0
    copies: float = 0.0
    plain: float = 0.0
    personas: float = 0.0
    wide_dialogues: float = 0.0
    wide_triggers: float = 0.0
    cast: float = 0.0
    rules: float = 0.0
    long_rules: float = 0.0


def _mix(phase: str) -> Mix:
    names = [field.name for field in fields(Mix)]
    keys = _FILE.keys(phase)
    return Mix(**{choose(k, names, "ingredient"): _FILE.share(phase, k) for k in keys})


_FILE = Templates("mixes.toml")
FIRST, LATER, LAST, FINAL, POLISH, UNITE, SETTLE, REPORT, STEER = map(
    _mix, ("first", "later", "last", "final", "polish", "unite", "settle", "report", "steer")
)
