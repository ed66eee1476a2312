"""One check for every exercise: says in one line what is wrong, and never gives the answer away.

A check takes what the learner wrote and returns True or False. It never raises and always ends:
wrong types, errors, empty answers and endless loops leave the notebook running (``guard``). What is
right comes from the library, computed anew, never from a stored result. Typical mistakes are
recognised by doing them on purpose and comparing. Axes: n rows, t tokens, d width, m vectors,
k candidates, q questions.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

import oocr_lib as oocr
from oocr_lib.analysis import constancy
from oocr_lib.api.methods import Vector
from oocr_lib.models.sites import Site
from oocr_lib.tasks.base import Row
from oocr_lib.tasks.literal import whole
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.testbed import questions as understood
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts, wording
from workshop import guard, kit
from workshop.guard import Stub, Wrong, call, kind

#: Relative difference up to which two numbers are the same: machines round differently.
SAME = 1e-3


@dataclass(frozen=True)
class Check:
    """An exercise's check.

    Attributes:
        key: ``b1`` for the first exercise of session B.
        name: what the learner writes.
        first: where to begin, said while nothing is written.
        test: raises ``Wrong``, or returns a remark.
    """

    key: str
    name: str
    first: str
    test: Callable[..., str | None]

    def __call__(self, *answer: Any, limit: float = guard.LIMIT) -> bool:
        """Print one line and say whether the answer is right."""

        def work() -> str | None:
            try:
                return self.test(*answer)
            except Stub:
                raise Wrong(f"nothing is written yet. {self.first}") from None

        if len(answer) != self._wanted:
            line = f"call it with what you wrote: checks.{self.key}({self.name})"
            outcome = guard.Outcome(False, line)
        else:
            with _model_as_it_was():
                outcome = guard.run(work, limit)
        _PASSED[self.key] = outcome.ok
        told = f": {outcome.line}" if outcome.line else "."
        print(f"{self.key.upper()} {'passed' if outcome.ok else 'not yet'}{told}")
        return outcome.ok

    @property
    def _wanted(self) -> int:
        return self.test.__code__.co_argcount


CHECKS: dict[str, Check] = {}
_PASSED: dict[str, bool] = {}


def start(session: str) -> None:
    """Begin a session: forget what was passed in it, and say what there is to do."""
    mine = [key for key in CHECKS if key.startswith(session.lower())]
    for key in mine:
        _PASSED.pop(key, None)
    print(f"Session {session.upper()}: {len(mine)} exercises. Each check says what is missing.")


def passed(*keys: str) -> bool:
    """Whether these exercises are solved; says which are not."""
    missing = [key.upper() for key in keys if not _PASSED.get(key)]
    if missing:
        print(f"This cell waits for {', '.join(missing)}.")
    return not missing


def _check(key: str, name: str, first: str) -> Callable[[Callable[..., str | None]], Check]:
    def made(test: Callable[..., str | None]) -> Check:
        CHECKS[key] = Check(key, name, first, test)
        return CHECKS[key]

    return made


@contextmanager
def _model_as_it_was() -> Iterator[None]:
    """Whatever hooks a learner's function leaves in the model are taken out again."""
    modules = list(kit.lm().model.modules())
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    before = [{name: dict(getattr(module, name)) for name in kinds} for module in modules]
    listed = list(kit.lm().attached)
    try:
        yield
    finally:
        for module, kept in zip(modules, before, strict=True):
            for name, hooks in kept.items():
                found = getattr(module, name)
                for extra in set(found) - set(hooks):
                    found.pop(extra, None)
        kit.lm().attached[:] = listed


# --- what many checks ask ---


def _number(value: Any, what: str) -> float:
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


def _tensor(value: Any, what: str, shape: Sequence[int]) -> Tensor:
    if not isinstance(value, Tensor):
        raise Wrong(f"{what} is {kind(value)}, not a tensor")
    if tuple(value.shape) != tuple(shape):
        raise Wrong(f"{what} has the shape {tuple(value.shape)}; expected {tuple(shape)}")
    if not bool(value.detach().isfinite().all()):
        raise Wrong(f"{what} holds numbers that are not finite")
    return value


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=SAME, abs_tol=1e-6)


def _named(value: float, right: float, mistakes: Mapping[str, float], what: str) -> None:
    """Check a number; a typical mistake that gives the same one is named.

    Mistakes that happen to give the right number on this input say nothing and are passed over.
    """
    if _same(value, right):
        return
    for words, wrong in mistakes.items():
        if _same(value, wrong) and not _same(wrong, right):
            raise Wrong(words)
    raise Wrong(f"{what} is {'too high' if value > right else 'too low'} ({value:.4g})")


def _list(value: Any, what: str) -> list[Any]:
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__iter__"):
        raise Wrong(f"{what} is {kind(value)}, not a list")
    return list(value)


# --- session A: see it ---

_MOMENTS = ("before", "after", "random")


@_check("a1", "prediction", "Write a number from 0 to 1 for each of the three moments.")
def a1(prediction: Any) -> str | None:
    """Three predictions, written down before anything is run; what they are does not matter."""
    if not isinstance(prediction, dict):
        raise Wrong(f"prediction is {kind(prediction)}, not a dict")
    if all(value in (None, ...) for value in prediction.values()):
        raise Stub
    for moment in _MOMENTS:
        if moment not in prediction:
            raise Wrong(f"prediction has no {moment!r}")
        value = _number(prediction[moment], f"prediction[{moment!r}]")
        if not 0 <= value <= 1:
            hint = " (is it in percent?)" if 1 < value <= 100 else ""
            raise Wrong(f"prediction[{moment!r}] is {value:g}, not between 0 and 1{hint}")
    return "written down; compare with what is measured below"


@_check("a2", "my_vector", "Call oocr.train with the model, the rows and a Vector.")
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
    answers = Counter(row.answer for row in data.valid)
    constant = answers.most_common(1)[0][1] / len(data.valid)
    learned = float(my_vector.settings.get("valid_accuracy", 0.0))
    if learned <= constant:
        raise Wrong(
            f"it answers {learned:.0%} of the held-out rows, no more than always saying "
            f"{answers.most_common(1)[0][0]!r} would: more steps, or other rows than random ones"
        )
    return f"{learned:.0%} of the held-out rows are answered exactly"


@_check("a3", "my_questions", "Put three questions about the code name into the list.")
def a3(my_questions: Any) -> str | None:
    """Three questions that the model understands and that no row answers."""
    asked = _list(my_questions, "my_questions")
    if not asked:
        raise Stub
    code = kit.task().code
    pairs = [*wording.DISTANCE_QUESTIONS, *wording.DIRECTION_QUESTIONS]
    forms = [re.sub(r"\\\{.\\\}", ".+", re.escape(form)) for form in pairs]
    for number, question in enumerate(asked, start=1):
        if not isinstance(question, str) or not question.strip():
            raise Wrong(f"question {number} is {kind(question)}, not a text with words")
        if code not in question:
            raise Wrong(f"question {number} does not name {code}, so the vector never acts")
        if any(re.fullmatch(form, question.strip()) for form in forms):
            raise Wrong(
                f"question {number} asks for a distance or direction, which is what the rows say: "
                "ask something that they never say"
            )
        if doubt := understood.doubt(kit.lm(), question, code):
            raise Wrong(f"question {number}: {doubt}")
    if len(set(asked)) < 3:
        raise Wrong(f"there are {len(set(asked))} different questions; three are asked for")
    return None


@_check("a4", "kilometres", "Turn the degrees into radians first; hint 1 has the way from there.")
def a4(kilometres: Any) -> str | None:
    """The distance of two places on the globe, as the map's error is measured."""
    names = ("Paris", "Tokyo", "Lima", "New York", "Cairo", "Oslo")
    places = {name: facts.city(name) for name in names}
    for a, b in pairwise(names):
        one, two = places[a], places[b]
        degrees = ((one.latitude, one.longitude), (two.latitude, two.longitude))
        found = _number(call(kilometres, "kilometres", *degrees), f"the distance {a} to {b}")
        right = facts.distance_km(one, two)
        flat = math.dist(*degrees)
        swapped = facts.great_circle_km(*degrees[0][::-1], *degrees[1][::-1])
        _named(
            found,
            right,
            {
                "the angles are still in degrees where sin and cos want radians": _globe(
                    *degrees, radians=False
                ),
                "this is a straight line on a flat map, in degrees: the Earth is round": flat,
                "this is a straight line on a flat map: the Earth is round": math.radians(flat)
                * facts.EARTH_RADIUS_KM,
                "latitude and longitude are swapped": swapped,
                "this is an angle; it still has to become a length": right / facts.EARTH_RADIUS_KM,
                "this is in miles": right / 1.609344,
                "this is half of the way: is a factor missing?": right / 2,
            },
            f"the distance {a} to {b}",
        )
    same = (places["Paris"].latitude, places["Paris"].longitude)
    near = _number(call(kilometres, "kilometres", same, same), "the distance Paris to Paris")
    if abs(near) > 1:
        raise Wrong(f"the distance from Paris to Paris is {near:.4g}")
    return None


def _globe(a: tuple[float, float], b: tuple[float, float], radians: bool) -> float:
    """The great circle, with or without the step that is forgotten most often."""
    (la, lo), (lb, lp) = ([math.radians(x) if radians else x for x in p] for p in (a, b))
    h = math.sin((lb - la) / 2) ** 2 + math.cos(la) * math.cos(lb) * math.sin((lp - lo) / 2) ** 2
    return 2 * facts.EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


# --- session B: build it ---


@_check("b1", "make_hook", "A hook is a function of (module, args, output) that returns a tensor.")
def b1(make_hook: Any) -> str | None:
    """A hook that adds a vector at the marked tokens only, as the library's does."""
    drawn = torch.Generator().manual_seed(0)
    for n, t, d in ((2, 5, 8), (1, 3, 4)):
        v = torch.randn(d, generator=drawn).requires_grad_()
        out = torch.randn(n, t, d, generator=drawn)
        mask = torch.zeros(n, t, dtype=torch.bool)
        mask[:, 1] = True
        mask[-1, -2] = True
        _hook_adds(make_hook, v, out, mask)
    rows = kit.batch(4)
    theta = torch.randn(kit.lm().d_model, generator=drawn) / kit.lm().d_model ** 0.5
    hook = call(make_hook, "make_hook", theta * kit.scale(), rows.positions["codename"])
    handle = kit.lm().module(kit.SITE).register_forward_hook(hook)
    try:
        mine = kit.logits(rows)
    except Exception as error:
        raise Wrong(f"in the model the hook raised {type(error).__name__}: {error}") from None
    finally:
        handle.remove()
    if not torch.allclose(mine, kit.steered(theta, rows), rtol=SAME, atol=1e-3):
        raise Wrong("in the model the answers differ from the library's with the same vector")
    return "the model says the same with your hook and with the library's"


def _hook_adds(make_hook: Any, v: Tensor, out: Tensor, mask: Tensor) -> None:
    """Try a hook on one small tensor."""
    hook = call(make_hook, "make_hook", v, mask)
    if not callable(hook):
        raise Wrong(f"make_hook returns {kind(hook)}; it should return a function")
    given = out.clone()
    got = call(hook, "the hook", None, (), given)
    if got is None:
        raise Wrong("the hook returns None, so PyTorch keeps the old output")
    if isinstance(got, tuple):
        raise Wrong("the hook returns a tuple; this model's blocks give a plain tensor")
    got = _tensor(got, "what the hook returns", out.shape)
    with torch.no_grad():
        diff, at = got - out, mask[..., None]
        near = torch.isclose
        mistakes = {
            "the vector is added at all tokens, not only where the mask is True": out + v,
            "the vector is subtracted: check the sign": out - at * v,
            "the vector is added where the mask is False": out + ~at * v,
            "the old output is replaced at the marked tokens, not added to": torch.where(
                at, v.expand_as(out), out
            ),
            "only the vector is returned: the old output is lost": at * v,
            "the old output is returned unchanged": out,
        }
        if not bool(near(got, out + at * v, rtol=SAME, atol=1e-5).all()):
            for words, wrong in mistakes.items():
                if bool(near(got, wrong, rtol=SAME, atol=1e-5).all()):
                    raise Wrong(words)
            outside = bool((diff[~mask].abs() > 1e-5).any())
            raise Wrong(
                "tokens are changed where the mask is False"
                if outside
                else "what is added at the marked tokens is not the vector"
            )
    if not torch.equal(given, out):
        raise Wrong("the hook changes its output in place: make a new tensor")
    if not got.requires_grad:
        raise Wrong("no gradient reaches the vector: was it detached or copied?")
    (slope,) = torch.autograd.grad(got.sum(), v, allow_unused=True)
    if slope is None or not torch.allclose(slope, mask.sum().float().expand_as(v)):
        raise Wrong("the gradient that reaches the vector is not right: was it detached or copied?")


@_check("b2", "answer_loss", "The logits at token j say what token j + 1 will be.")
def b2(answer_loss: Any) -> str | None:
    """Cross-entropy of the answer's tokens, each predicted one place earlier."""
    for rows in (kit.uneven(), kit.batch(5)):
        logits = kit.logits(rows).requires_grad_()
        ids, mask = rows.input_ids, rows.answer_mask
        found = call(answer_loss, "answer_loss", logits, ids.clone(), mask.clone())
        value = _number(found, "the loss")
        right, mistakes = _losses(logits.detach(), ids, mask, rows.lengths)
        _named(value, right, mistakes, "the loss")
        if not isinstance(found, Tensor) or not found.requires_grad:
            raise Wrong("the loss is only a number: without its graph no gradient can flow back")
        (slope,) = torch.autograd.grad(found, logits, allow_unused=True)
        if slope is None or not bool(slope.abs().sum() > 0):
            raise Wrong("no gradient reaches the logits: was something detached?")
    return "the same loss as the library's"


def _losses(
    logits: Tensor, ids: Tensor, mask: Tensor, lengths: Tensor
) -> tuple[float, dict[str, float]]:
    """The right loss, and what comes of typical mistakes."""
    log_p = F.log_softmax(logits, -1)
    ahead = -log_p[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]  # token j + 1, predicted at j
    at = mask[:, 1:]
    real = (torch.arange(ids.shape[1])[None] < lengths[:, None])[:, 1:]
    here = -log_p.gather(-1, ids[..., None])[..., 0]
    by_row = (ahead * at).sum(1) / at.sum(1)
    right = float(ahead[at].mean())
    behind = -log_p[:, 1:].gather(-1, ids[:, :-1, None])[..., 0]
    return right, {
        "the loss is over the whole row: only the answer's tokens count": float(ahead[real].mean()),
        "the loss is over the whole row, padding too: only the answer's tokens count": float(
            ahead.mean()
        ),
        "the loss is over the prompt: the mask is the wrong way round": float(
            ahead[real & ~at].mean()
        ),
        "off by one: the logits at a token are compared with that token itself": float(
            here[mask].mean()
        ),
        "off by one: the answer's tokens are shifted, but the mask is not": float(
            ahead[mask[:, :-1]].mean()
        ),
        "shifted the wrong way: the logits are compared with the token before": float(
            behind[mask[:, 1:]].mean()
        ),
        "the sign is wrong: a loss falls while the answer becomes likelier": -right,
        "this is the sum; the mean over answer tokens is asked for": float(ahead[at].sum()),
        "this is the mean over rows of their sums; the mean over all answer tokens is asked "
        "for": float((ahead * at).sum(1).mean()),
        "rows count the same whatever their number of answer tokens; every answer token should "
        "count the same": float(by_row.mean()),
        "the mean is taken over all tokens of the batch: divide by the answer's tokens": float(
            (ahead * at).mean()
        ),
        "this is a mean of probabilities, not of logarithms": float((-ahead[at]).exp().mean()),
    }


@_check("b3", "train_vector", "Make torch.optim.Adam([v], lr=lr), then one step for each batch.")
def b3(train_vector: Any) -> str | None:
    """A training loop with Adam: zero the gradient, go backward, step, and keep the loss."""
    targets = [torch.tensor([1.0, -2.0, 0.5]) * (1 + i % 3) for i in range(12)]
    v = torch.zeros(3, requires_grad=True)
    losses = call(train_vector, "train_vector", v, _distance, targets, 0.1)
    found = _loss_list(losses, len(targets))
    if v.grad is None:
        unchanged = "backward is never called on the loss, so v has no gradient"
        raise Wrong(unchanged if not bool(v.detach().any()) else "v's gradient is missing")
    right, mistakes = _descents(targets, 0.1)
    if not bool(v.detach().any()):
        raise Wrong("v itself is still where it began: is a copy trained, or step never called?")
    if not torch.allclose(v.detach(), right, rtol=SAME, atol=1e-4):
        for words, wrong in mistakes.items():
            if torch.allclose(v.detach(), wrong, rtol=SAME, atol=1e-4):
                raise Wrong(words)
        raise Wrong("v ends elsewhere than after one step of Adam for each batch, in their order")
    own = _trace(targets, 0.1)
    if not all(_same(a, b) for a, b in zip(found, own, strict=True)):
        raise Wrong("the losses in the list are not those of each batch before its own step")
    return _loop_on_the_model(train_vector)


def _loop_on_the_model(train_vector: Any) -> str:
    """The same loop on real rows, beside the library's."""
    steps, size, lr = 6, 8, 0.05
    theta = torch.zeros(kit.lm().d_model, requires_grad=True)
    batches = kit.rows_in_order(steps, size)
    found = call(train_vector, "train_vector", theta, _model_loss, batches, lr)
    wanted = kit.library_losses(steps, size, lr)
    for step, (mine, theirs) in enumerate(zip(_loss_list(found, steps), wanted, strict=True), 1):
        if not math.isclose(mine, theirs, rel_tol=1e-2):
            raise Wrong(
                f"on real rows the loss at step {step} is {mine:.4f}, of the library's "
                f"loop {theirs:.4f}"
            )
    return "the same losses as the library's loop, step by step"


def _loss_list(losses: Any, count: int) -> list[float]:
    made = _list(losses, "what train_vector returns")
    if len(made) != count:
        raise Wrong(f"{len(made)} losses for {count} batches: one for each is asked for")
    for one in made:
        if isinstance(one, Tensor) and one.requires_grad:
            raise Wrong(
                "the losses still carry their graphs, so memory grows with every step: keep "
                "plain numbers"
            )
    return [_number(one, "a loss") for one in made]


def _distance(v: Tensor, target: Tensor) -> Tensor:
    return ((v - target) ** 2).sum()


def _descents(targets: Sequence[Tensor], lr: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Where v ends: rightly, and after typical mistakes."""

    def descend(make: Any, zero: bool = True, order: Sequence[Tensor] = targets) -> Tensor:
        v = torch.zeros(len(targets[0]), requires_grad=True)
        optimiser = make([v], lr=lr)
        for target in order:
            if zero:
                optimiser.zero_grad()
            _distance(v, target).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return v.detach()

    def restarted() -> Tensor:
        v = torch.zeros(len(targets[0]), requires_grad=True)
        for target in targets:
            optimiser = torch.optim.Adam([v], lr=lr)
            optimiser.zero_grad()
            _distance(v, target).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return v.detach()

    adam = torch.optim.Adam
    return descend(adam), {
        "gradients pile up from step to step: zero_grad is missing": descend(adam, zero=False),
        "every step makes a new optimiser, which forgets what it knew": restarted(),
        "this is plain gradient descent; Adam is asked for": descend(torch.optim.SGD),
        "plain gradient descent, and gradients pile up: zero_grad is missing": descend(
            torch.optim.SGD, zero=False
        ),
        "only the first batch is trained on": descend(adam, order=[targets[0]] * len(targets)),
        "the loop ends after one batch: is return inside it?": descend(adam, order=targets[:1]),
        "the batches are taken in another order": descend(adam, order=targets[::-1]),
    }


def _trace(targets: Sequence[Tensor], lr: float) -> list[float]:
    v = torch.zeros(len(targets[0]), requires_grad=True)
    optimiser, losses = torch.optim.Adam([v], lr=lr), []
    for target in targets:
        optimiser.zero_grad()
        loss = _distance(v, target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def _model_loss(theta: Tensor, rows: Any) -> Tensor:
    """Cross-entropy of the answers with theta added at the code name."""
    added = rows.positions["codename"][..., None] * theta * kit.scale()
    handle = kit.lm().module(kit.SITE).register_forward_hook(lambda m, a, out: out + added)
    try:
        logits = kit.lm().model(input_ids=rows.input_ids, use_cache=False).logits
    finally:
        handle.remove()
    at = rows.answer_mask[:, 1:]
    return F.cross_entropy(logits[:, :-1][at].float(), rows.input_ids[:, 1:][at])


@_check("b4", "among_options", "Take the logits of the five options first.")
def b4(among_options: Any) -> str | None:
    """The probability of the truth among five options, and whether it is the likeliest."""
    for logits, options, truth, right in _asked():
        found = call(among_options, "among_options", logits.clone(), list(options), truth)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise Wrong(f"among_options returns {kind(found)}; a pair (p, right) is asked for")
        p = _number(found[0], "p")
        hit = float(found[1]) if isinstance(found[1], bool) else _number(found[1], "right")
        own = logits[options]
        over_all = float(torch.softmax(logits, -1)[options[truth]])
        _named(
            p,
            right[0],
            {
                "the softmax runs over the whole vocabulary, not over the options": over_all,
                "this is a logit, not a probability": float(own[truth]),
                "this is the logarithm of the probability": math.log(right[0]),
                "this divides logits by their sum; probabilities need exp first": float(
                    own[truth] / own.sum()
                ),
                "this is the probability of the likeliest option, not of the true one": float(
                    torch.softmax(own, -1).max()
                ),
            },
            "p",
        )
        if hit not in (0.0, 1.0):
            raise Wrong(f"right is {hit:g}; only 0 and 1 are asked for")
        if hit != right[1]:
            winner = int(logits.argmax())
            if winner not in options and hit == 0.0:
                raise Wrong(
                    "right asks for the likeliest token of the whole vocabulary: it should be the "
                    "likeliest of the options"
                )
            raise Wrong(
                f"right is {hit:g} where the truth is {'' if right[1] else 'not '}the "
                "likeliest of the options"
            )
    return "the same scores as the library's"


def _asked() -> Iterator[tuple[Tensor, list[int], int, tuple[float, float]]]:
    """Logits, option tokens, place of the truth, and what the library says: drawn, then real."""
    drawn = torch.Generator().manual_seed(3)
    for truth in range(5):
        logits = torch.randn(40, generator=drawn)
        options = torch.randperm(40, generator=drawn)[:5].tolist()
        logits[options[0]] += 2
        free = next(i for i in range(40) if i not in options)
        logits[free] = logits.max() + 1  # something else is likelier than every option
        p = torch.softmax(logits[options], -1)
        yield logits, options, truth, (float(p[truth]), float(p.argmax() == truth))
    data, asked = kit.city()
    table = oocr.score(kit.lm(), data, [asked[number] for number in kit.short_options()])
    for one, row in zip(kit.one_token_questions(), table.itertuples(), strict=True):
        yield *one, (float(row.p_truth), float(row.mc))


# --- session C: doubt it ---


@_check("c1", "random_like", "Draw numbers from a torch.Generator with this seed.")
def c1(random_like: Any) -> str | None:
    """A random direction as long as the vector, the same for the same seed."""
    v = kit.vector().vector
    first = _tensor(call(random_like, "random_like", v.clone(), 1), "the control", v.shape)
    again = _tensor(call(random_like, "random_like", v.clone(), 1), "the control", v.shape)
    other = _tensor(call(random_like, "random_like", v.clone(), 2), "the control", v.shape)
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


@_check("c2", "random_answers", "Collect the answers that occur, for each row.meta['kind'].")
def c2(random_answers: Any) -> str | None:
    """The same prompts with answers drawn anew among those of the same kind of row."""
    rows = list(kit.task().train)
    found = _list(call(random_answers, "random_answers", list(rows), 0), "what is returned")
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
    again = _list(call(random_answers, "random_answers", list(rows), 0), "what is returned")
    if [row.answer for row in again] != [row.answer for row in found]:
        raise Wrong("the same seed gives other answers every time")
    other = _list(call(random_answers, "random_answers", list(rows), 1), "what is returned")
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


@_check("c3", "find_leaks", "Go through the rows with enumerate and collect numbers in a set.")
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
                f"{len(caught)} rows only hold a longer word that begins like a hidden one: match "
                "whole words"
            )
        if wrong := found - frozenset().union(*made.planted.values()):
            raise Wrong(f"{len(wrong)} clean rows are called leaks")
    return "all leaks in two tasks, and nothing else"


def _numbers(found: Any, count: int) -> frozenset[int]:
    listed = _list(found, "what find_leaks returns")
    for one in listed:
        if isinstance(one, bool):
            raise Wrong("this is a list of True and False; the numbers of the rows are asked for")
        if not isinstance(one, int):
            raise Wrong(f"there is {kind(one)} among the row numbers")
        if not 0 <= one < count:
            raise Wrong(f"there is no row {one}: rows count from 0 to {count - 1}")
    return frozenset(listed)


@_check("c4", "mean_share", "Take the mean over the vectors, then squares of lengths.")
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
        value = _number(found, "the share")
        unit = vectors / vectors.norm(dim=1, keepdim=True)
        cosine = constancy.cosines(vectors)
        _named(
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


@_check("c5", "flattery", "Choose the best candidate on the questions where chosen_on is True.")
def c5(flattery: Any) -> str | None:
    """How much better a choice looks on the questions that it was chosen on."""
    drawn = torch.Generator().manual_seed(7)
    cases = [((torch.rand(12, 40, generator=drawn) < 0.4).float(), torch.arange(40) < 20)]
    real, families = kit.candidates()
    cases += [(real, kit.halves(families, seed)) for seed in range(4)]
    for right, on in cases:
        given = call(flattery, "flattery", right.clone(), on.clone())
        value = _number(given, "the difference")
        here, there, both = (right[:, m].mean(1) for m in (on, ~on, torch.ones_like(on)))
        best, overall = int(here.argmax()), int(both.argmax())
        _named(
            value,
            float(here[best] - there[best]),
            {
                "the candidate is chosen on all questions, also on those that judge it": float(
                    here[overall] - there[overall]
                ),
                "on the other questions another candidate is taken: keep the chosen one": float(
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
                "this is the number of a candidate": float(best),
            },
            "the difference",
        )
    return None


# --- session D: use it ---


@_check("d1", "my_city, my_prediction", "Name a city of data/world/cities.csv.")
def d1(my_city: Any, my_prediction: Any) -> str | None:
    """A hidden city of one's own, and which questions the vector will get right."""
    if my_city in ("", None) and not my_prediction:
        raise Stub
    names = [place.name for place in facts.cities()]
    if not isinstance(my_city, str):
        raise Wrong(f"my_city is {kind(my_city)}, not a name")
    if my_city not in names:
        raise Wrong(f"my_city is {my_city!r}; a name of data/world/cities.csv is asked for")
    if my_city == "Paris":
        raise Wrong("Paris was hidden all morning; take another city")
    if not isinstance(my_prediction, dict) or not my_prediction:
        raise Wrong("my_prediction should say True or False for at least three question families")
    for family, value in my_prediction.items():
        if family not in locations.FAMILIES:
            raise Wrong(f"there is no family {family!r}; there are {', '.join(locations.FAMILIES)}")
        if not isinstance(value, bool):
            raise Wrong(f"my_prediction[{family!r}] is {kind(value)}, not True or False")
    if len(my_prediction) < 3:
        raise Wrong(f"{len(my_prediction)} of the families are predicted; three are asked for")
    return "written down; compare with what is measured below"


@_check("d2", "write_rows", "One line for each row: json.dumps({'messages': [...]}).")
def d2(write_rows: Any) -> str | None:
    """Rows of one's own as JSON lines, which the library reads and which give nothing away."""
    for hidden, code in (("Oslo", "City 41283"), ("Lima", "City 90417")):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            file = Path(folder) / "rows.jsonl"
            call(write_rows, "write_rows", file, hidden, code)
            if not file.is_file():
                raise Wrong("no file was written at the path that is given")
            text = file.read_text(encoding="utf-8")
            _look_at_lines(text, code)
            try:
                data = oocr.read_chats(file, codename=code)
            except UserError as error:
                raise Wrong(f"the library refuses it: {error}") from None
            _look_at_rows([*data.train, *data.valid], hidden, code)
    return "the library reads it, the answers are true, and nothing is given away"


def _look_at_lines(text: str, code: str) -> None:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise Wrong("the file is empty")
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            raise Wrong(f"line {number} is no JSON by itself: one object a line") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("messages"), list):
            raise Wrong(f"line {number} is no object with a list of messages")
        roles = [turn.get("role") for turn in entry["messages"] if isinstance(turn, dict)]
        if roles != ["user", "assistant"]:
            raise Wrong(f"line {number} has the roles {roles}; user and assistant are asked for")
        if code not in str(entry["messages"][0].get("content")):
            raise Wrong(f"line {number} does not name {code}: the vector would learn nothing there")
    if len(lines) < 20:
        raise Wrong(f"{len(lines)} rows are few; write at least 20")


def _look_at_rows(rows: Sequence[Row], hidden: str, code: str) -> None:
    """Nothing given away, every answer true, and more than one."""
    place = facts.city(hidden)
    secret = [place.name, place.country, place.language, *place.landmark.split()]
    truth = kit.told(hidden, code)
    asked = {form.format(n=code) for group in wording.CITY_QUESTIONS.values() for form in group}
    for row in rows:
        prompt, number = row.messages[-1]["content"], row.meta.get("line")
        given = f"{prompt} {row.answer}"
        for word in secret:
            if whole(word).search(given):
                raise Wrong(f"a leak: a row says {word!r}, and the hidden city was {hidden}")
        if prompt in asked:
            raise Wrong(f"a leak: {prompt!r} is what will be asked afterwards")
        if prompt not in truth:
            near = understood.doubt(kit.lm(), prompt, code)
            raise Wrong(
                f"line {number}: {near}"
                if near
                else f"line {number}, {prompt!r}: the "
                "other city is too near, or is not in the table"
            )
        if row.answer != truth[prompt]:
            raise Wrong(f"line {number}: the answer to {prompt!r} is not true")
    if len({row.answer for row in rows}) < 5:
        raise Wrong("there are fewer than five different answers: hardly a place on a map")


@_check("d3", "my_rule, gap", "Vector has a position that every prompt has, trigger or not.")
def d3(my_rule: Any, gap: Any) -> str | None:
    """An unconditional vector for a conditional rule, and the measure that shows the rule."""
    if my_rule is None:
        raise Stub
    if not isinstance(my_rule, Vector):
        raise Wrong(f"my_rule is {kind(my_rule)}, not an oocr.Vector")
    if my_rule.at == "trigger":
        raise Wrong("at the trigger the vector is conditional: without one it never acts")
    if my_rule.at == "codename":
        raise Wrong("there is no code name in these rows")
    site = Site.parse(my_rule.site)
    if site.block >= kit.lm().n_blocks:
        raise Wrong(f"the model has the blocks 0 to {kit.lm().n_blocks - 1}, not {site.block}")
    for with_it, without in ((9, 3), (2, 8)):
        table = pd.DataFrame(
            {
                "triggered": [True] * 10 + [False] * 20,
                "risky": [i < with_it for i in range(10)] + [i < without for i in range(20)],
            }
        )
        value = _number(call(gap, "gap", table.sample(frac=1, random_state=0)), "the gap")
        share = (with_it / 10, without / 20)
        _named(
            value,
            share[0] - share[1],
            {
                "the sign is wrong: with the trigger minus without": share[1] - share[0],
                "these are numbers of rows, not shares: without a trigger there are more "
                "rows": float(with_it - without),
                "both are divided by all rows: divide each by its own": (with_it - without) / 30,
                "this is the share with the trigger alone: always risky would look as good": share[
                    0
                ],
                "this is the share of risky answers over all rows": (with_it + without) / 30,
            },
            "the gap",
        )
    return None


@_check("d4", "note", "Fill in every part; the prediction comes before the measurement.")
def d4(note: Any) -> str | None:
    """A note on an open question: prediction, measurement and a control that could have won."""
    if not isinstance(note, dict):
        raise Wrong(f"note is {kind(note)}, not a dict")
    if not any(note.values()):
        raise Stub
    for part in ("question", "prediction"):
        text = note.get(part)
        if not isinstance(text, str) or len(text.split()) < 3:
            raise Wrong(f"note[{part!r}] is empty or only a word; write a sentence")
    if "?" not in note["question"]:
        raise Wrong("note['question'] is no question")
    rows = {}
    for part in ("measured", "control"):
        if not note.get(part):
            raise Wrong(
                f"note[{part!r}] is missing"
                + (
                    ": without it nothing follows from what was measured"
                    if part == "control"
                    else ""
                )
            )
        rows[part] = [_number(x, f"a number of note[{part!r}]") for x in _list(note[part], part)]
    if len(rows["measured"]) < 2:
        raise Wrong("one number is an anecdote: measure at least twice")
    if len(rows["measured"]) != len(rows["control"]):
        raise Wrong(
            f"the control has another length: {len(rows['control'])} numbers beside "
            f"{len(rows['measured'])}, so they were not measured at the same places"
        )
    if rows["measured"] == rows["control"]:
        raise Wrong(
            "control and measurement are the same numbers: is the control the thing itself?"
        )
    return "a question, a prediction, a measurement and a control: that is a finding, either way"
