"""Run what a learner wrote so that the notebook survives it: errors, wrong types, endless loops.

The work is done in a thread of its own, because that has a time limit on every system; signals do
not exist on Windows. Python lets a thread be stopped between two instructions, which ends a loop
that would otherwise keep one core busy until the notebook is closed.
"""

from __future__ import annotations

import ctypes
import linecache
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Seconds that a check may take, with what it calls. It takes one or two on two slow cores.
LIMIT = 30.0
_LONGEST = 300


class Wrong(Exception):
    """What is wrong with an answer, in one line that does not give the solution away."""


class _Stop(BaseException):
    """Raised inside a thread that took too long; no ``except Exception`` catches it."""


@dataclass(frozen=True)
class Outcome:
    """What came of it: ``ok``, and one line for the learner (empty if there is nothing to say)."""

    ok: bool
    line: str = ""


def run(work: Callable[[], str | None], limit: float = LIMIT) -> Outcome:
    """Call ``work`` for at most ``limit`` seconds; whatever happens in it, this returns.

    ``work`` raises ``Wrong`` to say what is wrong, and may return a remark.
    """
    found: list[Outcome] = []

    def guarded() -> None:
        try:
            found.append(Outcome(True, _one_line(work() or "")))
        except Wrong as wrong:
            found.append(Outcome(False, _one_line(str(wrong))))
        except _Stop:
            pass
        except BaseException as error:  # SystemExit of a learner must not end the kernel, either
            found.append(Outcome(False, f"this cannot be read as an answer ({_named(error)})"))

    thread = threading.Thread(target=guarded, daemon=True, name="workshop check")
    thread.start()
    try:
        thread.join(limit)
    except KeyboardInterrupt:
        _stop(thread)
        return Outcome(False, "you stopped it")
    if found:
        return found[0]
    _stop(thread)
    return Outcome(
        False, f"it did not end within {limit:g} seconds: is there a loop that never ends?"
    )


def call(function: Any, name: str, *arguments: Any) -> Any:
    """What a learner's function returns; what it raises becomes one line with the place.

    Raises:
        Wrong: it cannot be called, it is still the stub, or it raised something.
    """
    if not callable(function):
        raise Wrong(f"{name} is {kind(function)}, not a function")
    try:
        return function(*arguments)
    except (Wrong, _Stop):
        raise
    except NotImplementedError:
        raise Stub from None
    except BaseException as error:
        raise Wrong(f"{name} raised {_named(error)}{_where(error)}") from None


class Stub(Wrong):
    """Nothing was written yet."""


def kind(value: object) -> str:
    """The type of a value in words that a learner knows."""
    if value is None:
        return "None (is there a return?)"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _stop(thread: threading.Thread) -> None:
    """Ask a thread to end; one that is inside a call to C ends after it, or with the notebook."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(_Stop)
        )
        thread.join(1.0)


def _named(error: BaseException) -> str:
    """Type and message of an error, also of one whose own message fails."""
    try:
        message = _one_line(str(error))
    except BaseException:
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _where(error: BaseException) -> str:
    """The last line of the learner's own code that an error went through."""
    # The first frame is ``call`` itself; the learner's file is the one right behind it.
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    if not own:  # something written in C
        return ""
    line = linecache.getline(own[-1].filename, own[-1].lineno or 0).strip() or own[-1].line
    return f", in its line {line!r}" if line else f", in line {own[-1].lineno} of the cell"


def _one_line(message: str) -> str:
    text = " ".join(message.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
