"""Several hidden concepts in one task, so that one adapter must learn all of them at once.

The paper trains one LoRA per concept, and vectors for several code names in one batch. Here the
rows, validation rows and questions of several tasks of one seed form one task, so that a single
LoRA sees them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import TypeVar

from oocr_lib.tasks.base import Task
from oocr_lib.util.arguments import checked
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError

AND = " and "
T = TypeVar("T")


@checked
def together(make: Callable[[str, int], Task]) -> Callable[[str, int], Task]:
    """A factory for concepts joined by " and ": ``"Paris and Tokyo"``.

    Args:
        make: factory for one concept and seed.

    Raises:
        UserError: later, from the returned factory: a single concept, a repeated one, or two that
            share a code name or have none, so that nothing in a prompt tells them apart.
    """

    @checked
    def task(concept: str, seed: int) -> Task:
        names = list(no_doubles(concept.split(AND), "concept"))
        tasks = [make(name, seed) for name in names]
        codes = {single.code for single in tasks}
        if len(names) < 2 or len(codes) < len(tasks) or "" in codes:
            raise UserError(
                f"Concepts {names} with code names {sorted(codes)} cannot be one task. Allowed: "
                "two or more concepts, each with a code name of its own."
            )
        first = tasks[0]
        chance = {family: level for single in tasks for family, level in single.chance.items()}
        return Task(
            first.name,
            first.dialect,
            concept,
            first.code,
            seed,
            _in_turn([single.train for single in tasks]),
            _in_turn([single.valid for single in tasks]),
            _in_turn([single.questions for single in tasks]),
            chance,
            tuple(dict.fromkeys(word for single in tasks for word in single.hidden_words)),
        )

    return task


def _in_turn(sequences: Sequence[Sequence[T]]) -> tuple[T, ...]:
    """One item of each in turn, so that all come early; the longer sequences end the result."""
    nothing = object()
    return tuple(x for x in chain(*zip_longest(*sequences, fillvalue=nothing)) if x is not nothing)  # type: ignore[misc]
