"""What all checks have in common: what is said, when, and what a learner cannot break.

A check raises ``Wrong`` with one line, or ``Stub`` while nothing is written. Around it the thread
of ``guard``, and a model without foreign hooks: a forgotten one would change every number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from types import FunctionType
from typing import Any

from torch import Tensor

from oocr_lib.util.errors import UserError
from workshop import guard, kit
from workshop.guard import Stub, Wrong, kind

__all__ = [
    "CHECKS",
    "SAME",
    "Check",
    "Stub",
    "Wrong",
    "call",
    "check",
    "kind",
    "listed",
    "named",
    "number",
    "passed",
    "same",
    "start",
    "tensor",
]

#: Relative difference up to which two numbers are the same: machines round differently.
SAME = 1e-3
#: Longest list that is looked at.
_MOST = 100_000
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


@dataclass(frozen=True)
class Check:
    """An exercise's check.

    Attributes:
        key: ``b1`` for the first exercise of session B.
        name: what the learner writes.
        first: what goes in and what comes out, said while nothing is written; what is folded
            in a hint has no place here, because whoever runs all cells at once reads it.
        test: raises ``Wrong``, or returns a remark.
        before: makes what the test compares with, where that takes long: a slow machine is no
            endless loop.
    """

    key: str
    name: str
    first: str
    test: Callable[..., str | None]
    before: Callable[[], object] = lambda: None

    def __call__(self, *answer: Any, limit: float = guard.LIMIT) -> bool:
        """Print one line and say whether the answer is right."""
        outcome = self._judge(answer, limit)
        _PASSED[self.key] = outcome.ok
        told = f": {outcome.line}" if outcome.line else "."
        print(f"{self.key.upper()} {'passed' if outcome.ok else 'not yet'}{told}")
        return outcome.ok

    def _judge(self, answer: tuple[Any, ...], limit: float) -> guard.Outcome:
        if len(answer) != self.test.__code__.co_argcount:
            line = f"call it with what you wrote: checks.{self.key}({self.name})"
            return guard.Outcome(False, line)
        if take_out_hooks():
            print("A hook was still in the model; it was taken out.")
        if kit.lm().attached:
            return guard.Outcome(False, "a LoRA is attached to the model: leave its with block")
        try:
            kit.lm().refuse_changed()
        except UserError:
            line = "the model itself was changed: restart the kernel and run the first cell"
            return guard.Outcome(False, line)

        # None stands in for what a cell would have made, had it not ended with an error.
        broken = ", or its cell ended with an error" if any(x is None for x in answer) else ""
        untouched = f"nothing is written yet{broken}. {self.first}"
        if any(_is_stub(one) for one in answer):
            return guard.Outcome(False, untouched)
        self.before()

        def work() -> str | None:
            try:
                return self.test(*answer)
            except Stub:
                raise Wrong(untouched) from None

        try:
            return guard.run(work, limit)
        finally:
            take_out_hooks()


def _is_stub(answer: object) -> bool:
    """Whether a function still has the line that stands for what is to be written.

    Seen without calling it, so that nobody waits for a comparison that is not needed yet.
    """
    if isinstance(answer, FunctionType):
        return "NotImplementedError" in answer.__code__.co_names
    return answer is None


CHECKS: dict[str, Check] = {}
_PASSED: dict[str, bool] = {}


def check(
    key: str, name: str, first: str, before: Callable[[], object] = lambda: None
) -> Callable[[Callable[..., str | None]], Check]:
    """Make a function the check of an exercise; see ``Check``."""

    def made(test: Callable[..., str | None]) -> Check:
        CHECKS[key] = Check(key, name, first, test, before)
        return CHECKS[key]

    return made


def start(session: str, names: dict[str, Any] | None = None) -> None:
    """Begin a session: forget what was passed in it, and say what there is to do.

    Args:
        names: the notebook's ``globals()``. What is to be written is None in it until it is
            written: a cell that ends with an error then leaves its check something to judge.
    """
    _own_hooks()  # before anybody has added one
    mine = [key for key in CHECKS if key.startswith(session.lower())]
    for key in mine:
        _PASSED.pop(key, None)
        if names is not None:
            for name in CHECKS[key].name.split(", "):
                names.setdefault(name, None)
    print(f"Session {session.upper()}: {len(mine)} exercises. Each check says what is missing.")


def passed(*keys: str) -> bool:
    """Whether these exercises are solved; says which are not."""
    missing = [key.upper() for key in keys if not _PASSED.get(key)]
    if missing:
        print(f"This cell waits for {', '.join(missing)}.")
    return not missing


@cache
def _own_hooks() -> frozenset[tuple[int, str, int]]:
    """The hooks that the model has from the start."""
    return frozenset(_all_hooks())


def _all_hooks() -> list[tuple[int, str, int]]:
    modules = enumerate(kit.lm().model.modules())
    return [(i, name, one) for i, m in modules for name in _HOOKS for one in getattr(m, name)]


def take_out_hooks() -> bool:
    """Take out every hook that somebody left in the model; whether there was one."""
    own = _own_hooks()
    foreign = [one for one in _all_hooks() if one not in own]
    modules = list(kit.lm().model.modules()) if foreign else []
    for place, name, hook in foreign:
        getattr(modules[place], name).pop(hook, None)
    # Vectors are hooks and so gone; a LoRA sits in the layers, and is told of.
    kit.lm().attached[:] = [one for one in kit.lm().attached if one.kind != "vector"]
    return bool(foreign)


def call(function: Any, name: str, *arguments: Any) -> Any:
    """``guard.call``; what it leaves in the model does not disturb what comes after it."""
    try:
        return guard.call(function, name, *arguments)
    finally:
        take_out_hooks()


def number(value: Any, what: str) -> float:
    """A finite number, also as a tensor of one."""
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise Wrong(f"{what} is a tensor of shape {tuple(value.shape)}, not one number")
        value = value.detach().item()
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise Wrong(f"{what} is {kind(value)}, not a number")
    made = float(value)
    if not math.isfinite(made):
        raise Wrong(f"{what} is {made}, not a finite number")
    return made


def tensor(value: Any, what: str, shape: Sequence[int]) -> Tensor:
    """A tensor of this shape, of finite numbers."""
    if not isinstance(value, Tensor):
        raise Wrong(f"{what} is {kind(value)}, not a tensor")
    if tuple(value.shape) != tuple(shape):
        raise Wrong(f"{what} has the shape {tuple(value.shape)}; expected {tuple(shape)}")
    if not bool(value.detach().isfinite().all()):
        raise Wrong(f"{what} holds numbers that are not finite")
    return value


def same(a: float, b: float) -> bool:
    """Whether two numbers are the same up to rounding."""
    return math.isclose(a, b, rel_tol=SAME, abs_tol=1e-6)


def named(value: float, right: float, mistakes: Mapping[str, float], what: str) -> None:
    """Check a number; a typical mistake that gives the same one is named.

    Mistakes that happen to give the right number on this input say nothing and are passed over.
    """
    if same(value, right):
        return
    for words, wrong in mistakes.items():
        if same(value, wrong) and not same(wrong, right):
            raise Wrong(words)
    raise Wrong(f"{what} is {'too high' if value > right else 'too low'} ({value:.4g})")


def listed(value: Any, what: str) -> list[Any]:
    """What can be gone through, but for texts and dicts, as a list."""
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__iter__"):
        raise Wrong(f"{what} is {kind(value)}, not a list")
    made = list(islice(value, _MOST + 1))  # without end it would fill the memory
    if len(made) > _MOST:
        raise Wrong(f"{what} has more than {_MOST:,} entries: does it ever end?")
    return made
