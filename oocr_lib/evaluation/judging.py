"""Whether a written reply is right, by the kind of its question. Pure Python."""

from __future__ import annotations

import re

from oocr_lib.tasks.base import Question
from oocr_lib.util import expressions


def is_right(question: Question, reply: str) -> bool:
    """Judge a reply of kind ``expression`` or ``inverse``.

    An expression is right when it agrees with the true one on fixed inputs; a preimage is right
    when the function really maps it to the number asked for (paper, section 4; many functions
    have several inverses). Nothing the model wrote is executed by Python.
    """
    if question.kind == "expression":
        guess = expressions.first_expression(reply)
        return guess is not None and expressions.agree(guess, expressions.parse(question.truth))
    number = re.search(r"-?\d+", reply)
    if number is None or len(number.group()) > 12:
        return False
    function = expressions.parse(question.expression)
    try:
        return expressions.printed(function(int(number.group()))) == question.truth
    except expressions.ExpressionError:  # the function has no value there
        return False
