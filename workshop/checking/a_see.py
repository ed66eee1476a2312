"""Checks of session A: predictions, the first vector, questions, a distance on the globe."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

import oocr_lib as oocr
from oocr_lib.api.methods import Vector
from oocr_lib.testbed import questions as understood
from oocr_lib.world import facts, wording
from workshop import kit
from workshop.checking.verdicts import Stub, Wrong, call, check, kind, listed, named, number

_MOMENTS = ("before", "after", "random")


@check("a1", "prediction", "Write a number from 0 to 1 for each of the three moments.")
def a1(prediction: Any) -> str | None:
    """Three predictions, written down before anything is run; what they are does not matter."""
    if not isinstance(prediction, dict):
        raise Wrong(f"prediction is {kind(prediction)}, not a dict")
    if all(value in (None, ...) for value in prediction.values()):
        raise Stub
    for moment in _MOMENTS:
        if moment not in prediction:
            raise Wrong(f"prediction has no {moment!r}")
        value = number(prediction[moment], f"prediction[{moment!r}]")
        if not 0 <= value <= 1:
            hint = " (is it in percent?)" if 1 < value <= 100 else ""
            raise Wrong(f"prediction[{moment!r}] is {value:g}, not between 0 and 1{hint}")
    return "written down; compare with what is measured below"


@check("a2", "my_vector", "Call oocr.train with the model, the rows and a Vector.", kit.fooled)
def a2(my_vector: Any) -> str | None:
    """A vector at the code name that has learned the rows."""
    if my_vector is None:
        raise Stub
    if isinstance(my_vector, Vector):
        raise Wrong("this only says what is to be trained; train it, too")
    if not isinstance(my_vector, oocr.Trained):
        raise Wrong(f"my_vector is {kind(my_vector)}, not what oocr.train returns")
    if not isinstance(my_vector.method, Vector):
        raise Wrong("this is a LoRA: it adds something else at every token; train one vector")
    if my_vector.method.at != "codename":
        raise Wrong(
            f"the vector acts at {my_vector.method.at!r}: it would also change questions that are "
            "not about the hidden city"
        )
    data, _ = kit.city()
    if my_vector.codename != data.codename:
        raise Wrong(f"it was trained on rows about {my_vector.codename!r}, not {data.codename!r}")
    learned = float(my_vector.settings.get("valid_accuracy", 0.0))
    # Many directions follow from the known city alone, so the null is a vector that saw no truth.
    null, rows = kit.fooled().settings["valid_accuracy"], min(48, len(data.valid))
    if learned < null + 4 * math.sqrt(null * (1 - null) / rows):
        raise Wrong(
            f"it answers {learned:.0%} of the held-out rows, too near to the {null:.0%} of a "
            "vector that was trained on random answers: more steps, or the true rows"
        )
    return f"{learned:.0%} of the held-out rows are answered exactly"


@check("a3", "my_questions", "Write at least three questions about the code name.")
def a3(my_questions: Any) -> str | None:
    """Three questions that the model understands and that no row answers."""
    asked = listed(my_questions, "my_questions")
    if not asked:
        raise Stub
    code = kit.task().code
    pairs = [*wording.DISTANCE_QUESTIONS, *wording.DIRECTION_QUESTIONS]
    forms = [re.sub(r"\\\{.\\\}", ".+", re.escape(form)) for form in pairs]
    doubts = []  # told of all questions at once, or each would cost a try of its own
    for place, question in enumerate(asked, start=1):
        if not isinstance(question, str) or not question.strip():
            raise Wrong(f"question {place} is {kind(question)}, not a text with words")
        if code not in question:
            raise Wrong(f"question {place} does not name {code}, so the vector never acts")
        if any(re.fullmatch(form, question.strip()) for form in forms):
            raise Wrong(
                f"question {place} asks for a distance or direction, which is what the rows say: "
                "ask something that they never say"
            )
        if doubt := understood.doubt(kit.lm(), question, code):
            doubts.append(f"question {place}: {doubt.removeprefix('no answer: ')}")
    if doubts:
        raise Wrong("; ".join(doubts))
    if len(set(asked)) < 3:
        raise Wrong(f"there are {len(set(asked))} different questions; three are asked for")
    return None


@check("a4", "kilometres", "Two pairs of degrees go in, one number of kilometres comes out.")
def a4(kilometres: Any) -> str | None:
    """The distance of two places on the globe, as the map's error is measured."""
    names = ("Paris", "Tokyo", "Lima", "New York", "Cairo", "Oslo")
    places = {name: facts.city(name) for name in names}
    for a, b in pairwise(names):
        one, two = places[a], places[b]
        degrees = ((one.latitude, one.longitude), (two.latitude, two.longitude))
        found = number(call(kilometres, "kilometres", *degrees), f"the distance {a} to {b}")
        right = facts.distance_km(one, two)
        flat = math.dist(*degrees)
        swapped = facts.great_circle_km(*degrees[0][::-1], *degrees[1][::-1])
        named(
            found,
            right,
            {
                "the angles are still in degrees where sin and cos want radians": _globe(
                    *degrees, radians=False
                ),
                "this is a straight line on a flat map, in degrees: the Earth is round": flat,
                "this is a straight line on a flat map: the Earth is round": math.radians(flat)
                * facts.EARTH_RADIUS_KM,
                "this is a straight line on a flat map, at 111 km a degree: the Earth is round": 111
                * flat,
                "meridians come together towards the poles, which is left out": _globe(
                    *degrees, narrowing=False
                ),
                "latitude and longitude are swapped": swapped,
                "this is an angle; it still has to become a length": right / facts.EARTH_RADIUS_KM,
                "this is in miles": right / 1.609344,
                "this is half of the way: is a factor missing?": right / 2,
            },
            f"the distance {a} to {b}",
        )
    same = (places["Paris"].latitude, places["Paris"].longitude)
    near = number(call(kilometres, "kilometres", same, same), "the distance Paris to Paris")
    if abs(near) > 1:
        raise Wrong(f"the distance from Paris to Paris is {near:.4g}")
    return None


def _globe(
    a: tuple[float, float], b: tuple[float, float], radians: bool = True, narrowing: bool = True
) -> float:
    """The great circle, with or without the steps that are forgotten most often."""
    (la, lo), (lb, lp) = ([math.radians(x) if radians else x for x in p] for p in (a, b))
    width = math.cos(la) * math.cos(lb) if narrowing else 1
    h = math.sin((lb - la) / 2) ** 2 + width * math.sin((lp - lo) / 2) ** 2
    return 2 * facts.EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))
