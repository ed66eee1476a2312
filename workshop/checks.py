"""One check for every exercise: says in one line what is wrong, and never gives the answer away.

A check takes what the learner wrote and returns True or False. It never raises and always ends:
wrong types, errors, empty answers and endless loops leave the notebook running (``guard``). What is
right comes from the library, computed anew, never from a stored result. Typical mistakes are
recognised by making them on purpose and comparing.
"""

from __future__ import annotations

from workshop.checking.a_see import a1, a2, a3, a4
from workshop.checking.b_build import b1, b2, b3, b4
from workshop.checking.c_doubt import c1, c2, c3, c4, c5
from workshop.checking.d_use import d1, d2, d3, d4
from workshop.checking.verdicts import CHECKS, Check, passed, start

__all__ = [
    "CHECKS",
    "Check",
    "a1",
    "a2",
    "a3",
    "a4",
    "b1",
    "b2",
    "b3",
    "b4",
    "c1",
    "c2",
    "c3",
    "c4",
    "c5",
    "d1",
    "d2",
    "d3",
    "d4",
    "passed",
    "start",
]
