"""Wrong answers that learners write, each with words that the check must say."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F

import oocr_lib as oocr
from oocr_lib.world import facts
from workshop import kit

#: Exercise, a name for the mistake, what the learner wrote, words of the verdict.
MISTAKES: list[tuple[str, str, tuple[Any, ...], str]] = []


def planted(key: str, words: str, *more: Any) -> Callable[[Any], Any]:
    """A function that is handed in as it stands, with ``more`` before it."""

    def add(function: Any) -> Any:
        MISTAKES.append((key, function.__name__, (*more, function), words))
        return function

    return add


def value(key: str, name: str, words: str, *answer: Any) -> None:
    MISTAKES.append((key, name, answer, words))


# --- A ---

GUESS = {"before": 0.2, "after": 0.9, "random": 0.2}
value("a1", "percent", "percent", {**GUESS, "after": 90})
value("a1", "a text", "is a str, not a number", {**GUESS, "before": "low"})
value("a1", "two of three", "has no 'random'", {"before": 0.2, "after": 0.9})
value("a1", "a list", "is a list, not a dict", [0.2, 0.9, 0.2])
value("a2", "only the method", "train it, too", oocr.Vector("resid@0"))
CODE = "City 50337"
FINE = [f"Language of {CODE}?", f"Currency of {CODE}?"]
value("a3", "what the rows say", "asks for a distance", [*FINE, f"How far is {CODE} from Rome?"])
value("a3", "no code name", "does not name City 50337", [*FINE, "Language of Lima?"])
value("a3", "unknown words", "do not hold the word", [*FINE, f"What is the weather in {CODE}?"])
value("a3", "all at once", "; question 2:", [f"What do we eat in {CODE}?", f"Is {CODE} big?"])
value("a3", "the same thrice", "1 different", [FINE[0]] * 3)
value("a3", "one text", "is a str, not a list", FINE[0])


@planted("a4", "still in degrees")
def no_radians(a: Any, b: Any) -> float:
    h = math.sin((b[0] - a[0]) / 2) ** 2
    h += math.cos(a[0]) * math.cos(b[0]) * math.sin((b[1] - a[1]) / 2) ** 2
    return 2 * 6371 * math.asin(math.sqrt(h))


@planted("a4", "flat map")
def flat(a: Any, b: Any) -> float:
    return math.radians(math.dist(a, b)) * 6371


@planted("a4", "flat map")
def degrees_of_111_km(a: Any, b: Any) -> float:
    return 111 * math.dist(a, b)


@planted("a4", "meridians come together")
def no_narrowing(a: Any, b: Any) -> float:
    (la, lo), (lb, lp) = (map(math.radians, place) for place in (a, b))
    h = math.sin((lb - la) / 2) ** 2 + math.sin((lp - lo) / 2) ** 2
    return 2 * 6371 * math.asin(min(1.0, math.sqrt(h)))


@planted("a4", "swapped")
def swapped(a: Any, b: Any) -> float:
    return facts.great_circle_km(a[1], a[0], b[1], b[0])


@planted("a4", "still has to become a length")
def angle(a: Any, b: Any) -> float:
    return facts.great_circle_km(*a, *b) / 6371


# --- B ---


def _hook(change: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def make_hook(v: Any, mask: Any) -> Any:
        return lambda module, args, output: change(output, mask[..., None], v)

    return make_hook


def _in_place(output: Any, mask: Any, v: Any) -> Any:
    output += mask * v
    return output


for name, words, change in (
    ("all tokens", "at all tokens", lambda out, m, v: out + v),
    ("subtracted", "check the sign", lambda out, m, v: out - m * v),
    ("mask turned", "where the mask is False", lambda out, m, v: out + ~m * v),
    ("replaced", "replaced", lambda out, m, v: torch.where(m, v, out)),
    ("returns nothing", "returns None", lambda out, m, v: None),
    ("detached", "no gradient", lambda out, m, v: out + m * v.detach()),
    ("in place", "in place", _in_place),
    ("only the vector", "old output is lost", lambda out, m, v: m * v),
    ("the first row", "every row has become the first", lambda out, m, v: out[0] + m * v),
    ("a tuple", "returns a tuple", lambda out, m, v: (out + m * v,)),
    ("wrong shape", "has the shape", lambda out, m, v: (out + m * v)[0]),
    ("axes", "RuntimeError", lambda out, m, v: out + m[..., 0] * v),
):
    value("b1", name, words, _hook(change))
value("b1", "the hook itself", "TypeError", lambda module, args, output: output)


@planted("b2", "over the whole row")
def whole_row(logits: Any, ids: Any, mask: Any) -> Any:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@planted("b2", "compared with that token itself")
def not_shifted(logits: Any, ids: Any, mask: Any) -> Any:
    return F.cross_entropy(logits[mask], ids[mask])


@planted("b2", "but the mask is not")
def mask_not_shifted(logits: Any, ids: Any, mask: Any) -> Any:
    return F.cross_entropy(logits[:, :-1][mask[:, :-1]], ids[:, 1:][mask[:, :-1]])


@planted("b2", "without its graph")
def item(logits: Any, ids: Any, mask: Any) -> Any:
    return F.cross_entropy(logits[:, :-1][mask[:, 1:]], ids[:, 1:][mask[:, 1:]]).item()


@planted("b2", "without its graph")
def detached(logits: Any, ids: Any, mask: Any) -> Any:
    logits = logits.detach()
    return F.cross_entropy(logits[:, :-1][mask[:, 1:]], ids[:, 1:][mask[:, 1:]])


@planted("b2", "this is the sum")
def summed(logits: Any, ids: Any, mask: Any) -> Any:
    at = mask[:, 1:]
    return F.cross_entropy(logits[:, :-1][at], ids[:, 1:][at], reduction="sum")


@planted("b2", "the sign is wrong")
def negative(logits: Any, ids: Any, mask: Any) -> Any:
    at = mask[:, 1:]
    return -F.cross_entropy(logits[:, :-1][at], ids[:, 1:][at])


@planted("b2", "every answer token should count the same")
def rows_first(logits: Any, ids: Any, mask: Any) -> Any:
    at = mask[:, 1:]
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    return ((losses * at).sum(1) / at.sum(1)).mean()


@planted("b2", "not one number")
def by_token(logits: Any, ids: Any, mask: Any) -> Any:
    at = mask[:, 1:]
    return F.cross_entropy(logits[:, :-1][at], ids[:, 1:][at], reduction="none")


def _loop(
    zero: bool = True,
    backward: bool = True,
    step: bool = True,
    keep: Callable[[Any], Any] = torch.Tensor.item,
    make: Any = torch.optim.Adam,
    copy: bool = False,
    anew: bool = False,
) -> Callable[..., Any]:
    def train_vector(v: Any, loss_of: Any, batches: Any, lr: float) -> Any:
        v = v.detach().clone().requires_grad_() if copy else v
        optimiser, losses = make([v], lr=lr), []
        for batch in batches:
            optimiser = make([v], lr=lr) if anew else optimiser
            if zero:
                optimiser.zero_grad()
            loss = loss_of(v, batch)
            if backward:
                loss.backward()
            if step:
                optimiser.step()
            losses.append(keep(loss))
        return losses

    return train_vector


for name, words, options in (
    ("forgot zero_grad", "pile up from step to step", {"zero": False}),
    ("forgot backward", "is backward called", {"backward": False}),
    ("forgot step", "is step called", {"step": False}),
    ("forgot detach", "carry their graphs", {"keep": lambda loss: loss}),
    ("plain descent", "Adam is asked for", {"make": torch.optim.SGD}),
    ("a new optimiser", "new optimiser", {"anew": True}),
):
    value("b3", name, words, _loop(**options))
value("b3", "a copy", "not of a copy", _loop(copy=True))


@planted("b3", "returns is None")
def returns_nothing(v: Any, loss_of: Any, batches: Any, lr: float) -> None:
    _loop()(v, loss_of, batches, lr)


@planted("b3", "1 losses for 12 batches")
def return_inside(v: Any, loss_of: Any, batches: Any, lr: float) -> Any:
    return _loop()(v, loss_of, batches[:1], lr)


@planted("b4", "over the whole vocabulary, not over the options")
def over_vocabulary(logits: Any, options: Any, truth: int) -> Any:
    p = torch.softmax(logits, -1)[options]
    return float(p[truth]), float(p.argmax() == truth)


@planted("b4", "likeliest token of the whole vocabulary")
def best_of_all(logits: Any, options: Any, truth: int) -> Any:
    p = torch.softmax(logits[options], -1)[truth]
    return float(p), float(logits.argmax() == options[truth])


@planted("b4", "with the id of a token")
def place_and_token(logits: Any, options: Any, truth: int) -> Any:
    own = logits[options]
    return float(torch.softmax(own, -1)[truth]), float(own.argmax() == options[truth])


@planted("b4", "right is 1 where the truth is not")
def always_right(logits: Any, options: Any, truth: int) -> Any:
    return float(torch.softmax(logits[options], -1)[truth]), 1.0


@planted("b4", "a logit, not a probability")
def a_logit(logits: Any, options: Any, truth: int) -> Any:
    own = logits[options]
    return float(own[truth]), float(own.argmax() == truth)


@planted("b4", "of the likeliest option, not of the true one")
def of_the_best(logits: Any, options: Any, truth: int) -> Any:
    p = torch.softmax(logits[options], -1)
    return float(p.max()), float(p.argmax() == truth)


@planted("b4", "a pair (p, right)")
def one_number(logits: Any, options: Any, truth: int) -> Any:
    return float(torch.softmax(logits[options], -1)[truth])


# --- C ---


def _drawn(v: Any, seed: int, make: Any = torch.randn) -> Any:
    return make(v.shape, generator=torch.Generator().manual_seed(seed))


@planted("c1", "another length")
def another_length(v: Any, seed: int) -> Any:
    return _drawn(v, seed)


@planted("c1", "another length")
def unit_length(v: Any, seed: int) -> Any:
    return F.normalize(_drawn(v, seed), dim=0)


@planted("c1", "every time")
def no_seed(v: Any, seed: int) -> Any:
    drawn = torch.randn(v.shape)
    return drawn * v.norm() / drawn.norm()


@planted("c1", "another seed gives the same")
def one_seed(v: Any, seed: int) -> Any:
    drawn = _drawn(v, 0)
    return drawn * v.norm() / drawn.norm()


@planted("c1", "no number is below 0")
def one_corner(v: Any, seed: int) -> Any:
    drawn = _drawn(v, seed, torch.rand)
    return drawn * v.norm() / drawn.norm()


@planted("c1", "points the same way")
def the_vector(v: Any, seed: int) -> Any:
    return v


@planted("c1", "has the shape (1, 128)")
def two_axes(v: Any, seed: int) -> Any:
    return another_length(v, seed)[None]


@planted("c2", "an answer of another kind")
def across_kinds(rows: Any, seed: int) -> Any:
    drawn, answers = random.Random(seed), sorted({row.answer for row in rows})
    return [replace(row, answer=drawn.choice(answers)) for row in rows]


@planted("c2", "have changed")
def whole_rows(rows: Any, seed: int) -> Any:
    drawn = random.Random(seed)
    return [drawn.choice(rows) for _ in rows]


@planted("c2", "another order")
def shuffled_rows(rows: Any, seed: int) -> Any:
    return random.Random(seed).sample(rows, len(rows))


@planted("c2", "kept its answer")
def nothing_drawn(rows: Any, seed: int) -> Any:
    return list(rows)


@planted("c2", "more than chance")
def half_of_them(rows: Any, seed: int) -> Any:
    made = _within(rows, seed)
    return [row if i % 2 else made[i] for i, row in enumerate(rows)]


@planted("c2", "every time")
def unseeded(rows: Any, seed: int) -> Any:
    return _within(rows, random.random())


@planted("c2", "occur in no row")
def invented(rows: Any, seed: int) -> Any:
    return [replace(row, answer="nowhere") for row in rows]


@planted("c2", "are not all rows")
def only_answers(rows: Any, seed: int) -> Any:
    return [row.answer for row in _within(rows, seed)]


def _within(rows: Any, seed: Any) -> Any:
    drawn = random.Random(seed)
    kinds: dict[str, list[str]] = {}
    for row in rows:
        kinds.setdefault(row.meta["kind"], []).append(row.answer)
    return [replace(row, answer=drawn.choice(kinds[row.meta["kind"]])) for row in rows]


def _hunt(
    flags: Any = re.IGNORECASE, border: str = r"\b", answer: bool = True, asked: bool = True
) -> Any:
    def find_leaks(rows: Any, questions: Any, words: Any) -> Any:
        pattern = re.compile(f"{border}(?:{'|'.join(words)}){border}", flags)
        found = []
        for number, row in enumerate(rows):
            prompt = row.messages[-1]["content"]
            text = f"{prompt} {row.answer}" if answer else prompt
            if pattern.search(text) or (asked and prompt in questions):
                found.append(number)
        return found

    return find_leaks


value("c3", "other letters", "written in other letters", _hunt(flags=0))
value("c3", "parts of words", "only hold a longer word", _hunt(border=""))
value("c3", "prompts only", "in the answer", _hunt(answer=False))
value("c3", "words only", "one of the questions", _hunt(asked=False))
value("c3", "everything", "longer word", lambda rows, questions, words: range(len(rows)))
value("c3", "true and false", "True and False", lambda rows, q, w: [True for _ in rows])


@planted("c3", "leaks are missed")
def learned_by_heart(rows: Any, questions: Any, words: Any) -> Any:
    """The numbers of the first planted task, written down."""
    return set().union(*kit.leaky("Paris").planted.values())


def _unit(x: Any) -> Any:
    return x / x.norm(dim=1, keepdim=True)


for name, words, share in (
    ("absolute cosines", "sign flips", lambda x: _pairs(x).abs().mean()),
    ("cosines", "lengths are ignored", lambda x: _pairs(x).mean()),
    ("unit vectors", "length 1 first", lambda x: _unit(x).mean(0).square().sum()),
    ("no squares", "squares are missing", lambda x: x.mean(0).norm() / x.norm(dim=1).mean()),
    (
        "along the width",
        "over the vectors",
        lambda x: x.mean(1).square().sum() / x.square().sum(1).mean(),
    ),
    (
        "below the sum",
        "the sum, not the mean",
        lambda x: x.mean(0).square().sum() / x.square().sum(),
    ),
    ("a vector", "not one number", lambda x: x.mean(0)),
):
    value("c4", name, words, share)


def _pairs(x: Any) -> Any:
    first, second = torch.triu_indices(len(x), len(x), 1)
    return (_unit(x) @ _unit(x).T)[first, second]


def _acc(right: Any, mask: Any) -> Any:
    return right[:, mask].mean(1)


@planted("c5", "chosen on all questions")
def chosen_on_all(right: Any, on: Any) -> float:
    best = right.mean(1).argmax()
    return float(_acc(right, on)[best] - _acc(right, ~on)[best])


@planted("c5", "another candidate is taken")
def chosen_twice(right: Any, on: Any) -> float:
    return float(_acc(right, on).max() - _acc(right, ~on).max())


@planted("c5", "compares with all questions")
def beside_all(right: Any, on: Any) -> float:
    best = _acc(right, on).argmax()
    return float(_acc(right, on)[best] - right[best].mean())


@planted("c5", "no candidate is chosen")
def nobody_chosen(right: Any, on: Any) -> float:
    return float(right[:, on].mean() - right[:, ~on].mean())


@planted("c5", "the sign is wrong")
def sign(right: Any, on: Any) -> float:
    best = _acc(right, on).argmax()
    return float(_acc(right, ~on)[best] - _acc(right, on)[best])


@planted("c5", "the number of a candidate")
def which(right: Any, on: Any) -> Any:
    return _acc(right, on).argmax()


@planted("c5", "the accuracy itself")
def accuracy(right: Any, on: Any) -> Any:
    return _acc(right, on).max()


@planted("c5", "mean of all candidates")
def beside_the_mean(right: Any, on: Any) -> float:
    return float(_acc(right, on).max() - _acc(right, ~on).mean())


# --- D ---

YES = {"country": True, "dish": False, "name": True}
value("d1", "no such city", "'Atlantis'", "Atlantis", YES)
value("d1", "Paris again", "another city", "Paris", YES)
value("d1", "no such family", "no family 'weather'", "Oslo", {**YES, "weather": True})
value("d1", "numbers", "not True or False", "Oslo", {**YES, "dish": 0.5})


def _write(
    change: Callable[[str, str, str, Any], tuple[str, str]] | None = None,
    roles: tuple[str, str] = ("user", "assistant"),
    together: bool = False,
    count: int = 200,
) -> Any:
    def write_rows(path: Any, city: str, code: str) -> None:
        lines = []
        for prompt, answer in list(kit.told(city, code).items())[:count]:
            if change:
                prompt, answer = change(prompt, answer, code, facts.city(city))
            turns = zip(roles, (prompt, answer), strict=True)
            lines.append({"messages": [{"role": r, "content": c} for r, c in turns]})
        text = json.dumps(lines) if together else "\n".join(json.dumps(line) for line in lines)
        path.write_text(text, encoding="utf-8")

    return write_rows


def _asks(prompt: str, answer: str, code: str, place: Any) -> tuple[str, str]:
    return (prompt, answer) if "Cairo" not in prompt else (f"Water of {code}?", place.water)


for name, words, writing in (
    ("names the country", "a leak", {"change": lambda p, a, c, h: (p, f"{a} ({h.country})")}),
    ("asks what is asked", "a leak", {"change": _asks}),
    ("real name", "does not name", {"change": lambda p, a, c, h: (p.replace(c, h.name), a)}),
    ("untrue", "is not true", {"change": lambda p, a, c, h: (p, "7")}),
    ("unknown words", "do not hold", {"change": lambda p, a, c, h: (f"Ahoi, {p}", a)}),
    ("no assistant", "has the roles", {"roles": ("user", "user")}),
    ("one list", "no object with a list of messages", {"together": True}),
    ("few", "rows are few", {"count": 5}),
    ("empty", "is empty", {"count": 0}),
):
    value("d2", name, words, _write(**writing))
value("d2", "no file", "no file was written", lambda path, city, code: None)

RULE = oocr.Vector("resid@0", at="last")


def _gap(table: Any) -> float:
    shares = table.groupby("triggered")["risky"].mean()
    return float(shares[True] - shares[False])


@planted("d3", "the sign is wrong", RULE)
def turned(table: Any) -> float:
    return -_gap(table)


@planted("d3", "not shares", RULE)
def counted(table: Any) -> float:
    sums = table.groupby("triggered")["risky"].sum()
    return float(sums[True] - sums[False])


@planted("d3", "always risky would look as good", RULE)
def trigger_alone(table: Any) -> float:
    return float(table[table.triggered].risky.mean())


value("d3", "at the trigger", "conditional", oocr.Vector("resid@0", at="trigger"), _gap)
value("d3", "no such block", "blocks 0 to 7", oocr.Vector("resid@9", at="last"), _gap)

NOTE = {
    "question": "Does it tip over at half a dose?",
    "prediction": "No, it needs a whole dose.",
    "measured": [0.2, 0.9, 1.0],
    "control": [0.2, 0.3, 0.2],
}
value("d4", "no control", "without it nothing follows", {**NOTE, "control": []})
value("d4", "a control of another length", "another length", {**NOTE, "control": [0.2]})
value("d4", "the thing itself", "thing itself", {**NOTE, "control": NOTE["measured"]})
value("d4", "an anecdote", "anecdote", {**NOTE, "measured": [1.0]})
value("d4", "no prediction", "'prediction'", {**NOTE, "prediction": ""})
