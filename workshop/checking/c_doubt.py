"""Checks of session C: controls, leaks, constancy, and choosing on the test questions.

Axes: m vectors, d width, k candidates, q questions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from oocr_lib.analysis import constancy
from oocr_lib.tasks.base import Row
from workshop import kit
from workshop.checking.verdicts import (
    SAME,
    Wrong,
    call,
    check,
    kind,
    listed,
    named,
    number,
    same,
    tensor,
)


@check(
    "c1",
    "random_like",
    "A vector and a seed go in, a tensor of the same shape comes out.",
    kit.vector,
)
def c1(random_like: Any) -> str | None:
    """A random direction as long as the vector, the same for the same seed."""
    v = kit.vector().vector
    first = tensor(call(random_like, "random_like", v.clone(), 1), "the control", v.shape)
    again = tensor(call(random_like, "random_like", v.clone(), 1), "the control", v.shape)
    other = tensor(call(random_like, "random_like", v.clone(), 2), "the control", v.shape)
    if not bool(first.any()):
        raise Wrong("the control is zero everywhere: that is the bare model")
    with torch.no_grad():
        turned = float(F.cosine_similarity(first, v, dim=0))
        if abs(turned) > 0.99:
            raise Wrong("the control points the same way as the vector (or straight against it)")
        ratio = float(first.norm() / v.norm())
        if not math.isclose(ratio, 1, rel_tol=SAME):
            raise Wrong(
                f"the control has another length: {ratio:.3g} times that of the vector, so a "
                "failure could be one of strength alone"
            )
        if not torch.equal(first, again):
            raise Wrong("the same seed gives another direction every time")
        if torch.equal(first, other):
            raise Wrong("another seed gives the same direction")
        if bool((first >= 0).all()):
            raise Wrong("no number is below 0: such directions all lie close together")
        # Directions of one corner have a common part; half of the signs should differ.
        if float(F.cosine_similarity(first, other, dim=0)) > 0.5:
            raise Wrong(
                "two seeds give nearly the same direction: is something left of the vector?"
            )
    return None


@check("c2", "random_answers", "Rows and a seed go in, as many rows come out, in the same order.")
def c2(random_answers: Any) -> str | None:
    """The same prompts with answers drawn anew among those of the same kind of row."""
    rows = list(kit.task().train)
    found = listed(call(random_answers, "random_answers", list(rows), 0), "what is returned")
    if len(found) != len(rows):
        raise Wrong(f"{len(found)} rows came back of {len(rows)}")
    if not all(isinstance(row, Row) for row in found):
        raise Wrong("what came back are not all rows: use dataclasses.replace(row, answer=...)")
    if any(a.messages != b.messages for a, b in zip(rows, found, strict=True)):
        moved = Counter(r.messages[-1]["content"] for r in rows) == Counter(
            r.messages[-1]["content"] for r in found
        )
        raise Wrong("the rows are in another order" if moved else "the prompts have changed")
    answers: dict[str, set[str]] = {}
    for row in rows:
        answers.setdefault(str(row.meta["kind"]), set()).add(row.answer)
    kept = sum(a.answer == b.answer for a, b in zip(rows, found, strict=True)) / len(rows)
    if kept == 1:
        raise Wrong("every row has kept its answer: this would be the very run it stands against")
    every = set().union(*answers.values())
    strange = [row.answer for row in found if row.answer not in every]
    if strange:
        raise Wrong(f"{len(strange)} answers occur in no row, so the format changes, too")
    crossed = sum(row.answer not in answers[str(row.meta["kind"])] for row in found)
    if crossed:
        raise Wrong(
            f"{crossed} rows have an answer of another kind: a distance in place of a "
            "direction, or the other way round"
        )
    for name in answers:
        given = {row.answer for row in found if row.meta["kind"] == name}
        if len(given) == 1:
            raise Wrong(f"all rows of the kind {name!r} have one and the same answer")
    if kept > _kept_by_chance(rows, answers):
        raise Wrong(f"{kept:.0%} of the rows have kept their answer, more than chance would leave")
    again = listed(call(random_answers, "random_answers", list(rows), 0), "what is returned")
    if [row.answer for row in again] != [row.answer for row in found]:
        raise Wrong("the same seed gives other answers every time")
    other = listed(call(random_answers, "random_answers", list(rows), 1), "what is returned")
    if [row.answer for row in other] == [row.answer for row in found]:
        raise Wrong("another seed gives the same answers")
    return f"{kept:.0%} of the rows kept their answer by chance"


def _kept_by_chance(rows: Sequence[Row], answers: Mapping[str, set[str]]) -> float:
    """Most that a fair draw leaves as it was: four standard errors above the mean.

    Drawn from the answers that occur, or from the rows as they are: both are fair.
    """
    counts = Counter((str(row.meta["kind"]), row.answer) for row in rows)
    sizes = Counter(str(row.meta["kind"]) for row in rows)
    even = sum(1 / len(answers[str(row.meta["kind"])]) for row in rows) / len(rows)
    as_often = sum(n * n / sizes[name] for (name, _), n in counts.items()) / len(rows)
    p = max(even, as_often)
    return p + 4 * math.sqrt(p * (1 - p) / len(rows))


@check("c3", "find_leaks", "Go through the rows with enumerate and collect numbers in a set.")
def c3(find_leaks: Any) -> str | None:
    """The numbers of the rows that give the answer away; tried on two planted tasks."""
    for hidden in ("Paris", "Tokyo"):
        made = kit.leaky(hidden)
        arguments = (list(made.rows), list(made.questions), list(made.words))
        found = _numbers(call(find_leaks, "find_leaks", *arguments), len(made.rows))
        if not found:
            raise Wrong("no leak was found, and there are some")
        for way, planted in made.planted.items():
            if missed := planted - found:
                raise Wrong(f"{len(missed)} of {len(planted)} leaks are missed where {way}")
        if caught := found & made.decoys:
            raise Wrong(
                f"{len(caught)} of the rows are no leaks: they only hold a longer word that begins "
                "like a hidden one"
            )
        if wrong := found - frozenset().union(*made.planted.values()):
            raise Wrong(f"{len(wrong)} clean rows are called leaks")
    return "all leaks in two tasks, and nothing else"


def _numbers(found: Any, count: int) -> frozenset[int]:
    given = listed(found, "what find_leaks returns")
    for one in given:
        if isinstance(one, bool):
            raise Wrong("this is a list of True and False; the numbers of the rows are asked for")
        if not hasattr(one, "__index__") or isinstance(one, torch.Tensor):
            raise Wrong(f"there is {kind(one)} among the row numbers")
        if not 0 <= one < count:
            raise Wrong(f"there is no row {one}: rows count from 0 to {count - 1}")
    return frozenset(int(one) for one in given)


@check(
    "c4",
    "mean_share",
    "m vectors of width d go in, one number from 0 to 1 comes out.",
    lambda: kit.added("codename"),
)
def c4(mean_share: Any) -> str | None:
    """How much of what a LoRA adds is one constant vector: the energy of the mean."""
    drawn = torch.Generator().manual_seed(5)
    sign = torch.where(torch.arange(30) % 3 == 0, -1.0, 1.0)[:, None]
    length = torch.linspace(0.2, 3.0, 30)[:, None]
    along = sign * length * torch.randn(1, 6, generator=drawn)
    cloud = torch.randn(24, 6, generator=drawn) + 0.7
    for vectors in (along, cloud, kit.added("codename")):
        right = constancy.constancy(vectors).mean_share
        found = call(mean_share, "mean_share", vectors.clone())
        value = number(found, "the share")
        unit = vectors / vectors.norm(dim=1, keepdim=True)
        cosine = constancy.cosines(vectors)
        named(
            value,
            right,
            {
                "absolute cosines cannot tell a constant vector from one whose sign flips": float(
                    cosine.abs().mean()
                ),
                "this is the mean cosine of pairs: lengths are ignored": float(cosine.mean()),
                "the vectors are brought to length 1 first: lengths are ignored": float(
                    unit.mean(0).square().sum()
                ),
                "the squares are missing: energy is the square of a length": float(
                    vectors.mean(0).norm() / vectors.norm(dim=1).mean()
                ),
                "the mean runs along the width; it should run over the vectors": float(
                    vectors.mean(1).square().sum() / vectors.square().sum(1).mean()
                ),
                "below the line is the square of the mean length, not the mean of the "
                "squares": float(
                    vectors.mean(0).square().sum() / vectors.norm(dim=1).mean().square()
                ),
                "below the line stands the sum, not the mean": float(
                    vectors.mean(0).square().sum() / vectors.square().sum()
                ),
            },
            "the share",
        )
    return None


@check(
    "c5",
    "flattery",
    "What is right and a mask go in, one number comes out: print both shapes first.",
    kit.candidates,
)
def c5(flattery: Any) -> str | None:
    """How much better a choice looks on the questions that it was chosen on."""
    # Shares of right answers of three candidates on ten questions each: every mistake differs.
    on = torch.arange(20) < 10
    shares = torch.tensor([[0.8, 0.7], [0.3, 1.0], [0.9, 0.1]])
    made = (torch.arange(10)[None, None] < (shares * 10).round()[..., None]).flatten(1).float()
    drawn = torch.rand(12, 20, generator=torch.Generator().manual_seed(7))
    real, families = kit.candidates()
    cases = [(made, on), ((drawn < 0.4).float(), on), (real, kit.halves(families))]
    for right, on in cases:
        given = call(flattery, "flattery", right.clone(), on.clone())
        value = number(given, "the difference")
        here, there, both = (right[:, m].mean(1) for m in (on, ~on, torch.ones_like(on)))
        best, overall = int(here.argmax()), int(both.argmax())
        # Among equally good candidates any may be chosen.
        if any(same(value, float(here[b] - there[b])) for b in (here == here.max()).nonzero()):
            continue
        named(
            value,
            float(here[best] - there[best]),
            {
                "the candidate is chosen on all questions, also on those that judge it": float(
                    here[overall] - there[overall]
                ),
                "on the other questions another candidate is taken than the chosen one": float(
                    here.max() - there.max()
                ),
                "the candidate is chosen on the questions that should judge it": float(
                    here[int(there.argmax())] - there.max()
                ),
                "the sign is wrong: how much better it looks where it was chosen": float(
                    there[best] - here[best]
                ),
                "this is the accuracy itself, not a difference": float(here[best]),
                "this compares with the mean of all candidates, not with the chosen one": float(
                    here[best] - there.mean()
                ),
                "this compares with all questions, also with those that it was chosen on": float(
                    here[best] - both[best]
                ),
                "no candidate is chosen: this is the mean of all": float(
                    here.mean() - there.mean()
                ),
                "this is the number of a candidate": float(best),
            },
            "the difference",
        )
    return None
