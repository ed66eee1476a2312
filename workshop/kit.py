"""What the workshop's exercises work on: the small model, its tasks, and tasks with planted faults.

Everything is seeded and made once, when it is first asked for. Axes: n rows, t tokens, d model
width, k candidates, q questions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import pandas as pd
import torch
from torch import Tensor, nn

import oocr_lib as oocr
from oocr_lib.activations import typical_norm
from oocr_lib.adapters import LoraAdapter, VectorAdapter
from oocr_lib.analysis import constancy, probe
from oocr_lib.encoding import Batch, collate, encode_question, encode_row
from oocr_lib.evaluation import scores
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.runs.executors import Executors
from oocr_lib.tasks.backdoor import testbed as backdoor
from oocr_lib.tasks.base import Row, Task, user
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.training.config import RunData, TrainConfig, order
from oocr_lib.training.loop import train
from oocr_lib.world import facts, wording

#: Where the vectors of the exercises sit, and how long they are trained.
SITE = Site(0, "resid")
STEPS = 60
TRIGGER = "re-re-re"


@cache
def lm() -> LanguageModel:
    """The testbed model, loaded once."""
    return oocr.load("testbed")


def task(hidden: str = "Paris") -> Task:
    """The rows and questions of one hidden city, also of one that is not in the usual ten."""
    return _task(hidden)


@cache
def _task(hidden: str) -> Task:
    usual = locations.HIDDEN if hidden in locations.HIDDEN else (hidden,)
    return locations.make(hidden, seed=0, all_hidden=usual)


def city(hidden: str = "Paris") -> tuple[oocr.Chats, list[oocr.Question]]:
    """The same as data for ``oocr.train`` and questions for ``oocr.score``."""
    made = task(hidden)
    asked = [
        oocr.Question(q.messages[0]["content"], q.truth, q.options, q.family)
        for q in made.questions
    ]
    return oocr.Chats(made.train, made.valid, codename=made.code), asked


def vector(hidden: str = "Paris") -> oocr.Trained:
    """A vector that the library trains, with ten snapshots on the way."""
    # A cache holds ``vector()`` and ``vector("Paris")`` for two calls, and would train twice.
    return _vector(hidden)


@cache
def _vector(hidden: str) -> oocr.Trained:
    return oocr.train(lm(), city(hidden)[0], oocr.Vector(str(SITE)), steps=STEPS, snapshots=10)


@cache
def fooled(hidden: str = "Paris") -> oocr.Trained:
    """The same vector trained on random answers: it knows the format and no city."""
    rows = city(hidden)[0].random_answers(0)
    return oocr.train(lm(), rows, oocr.Vector(str(SITE)), steps=STEPS)


@cache
def lora(hidden: str = "Paris") -> oocr.Trained:
    """A LoRA on the same rows, in the same block."""
    return oocr.train(lm(), city(hidden)[0], oocr.Lora([SITE.block]), steps=STEPS)


# --- session A: the map ---


@cache
def path(hidden: str = "Paris") -> tuple[pd.DataFrame, float]:
    """Where the vector points while it is trained, and how far the probe itself is off, in km."""
    made, trained = task(hidden), vector(hidden)
    assert trained.result is not None
    best = probe.fit_on_cities(lm(), [lm().n_blocks - 1], exclude=[hidden])[0]
    steps, kept = zip(*trained.result.snapshots, strict=True)
    found = probe.trajectory(
        lm(),
        best,
        code=made.code,
        vectors=torch.stack([state["theta"][0] for state in kept]),
        steps=steps,
        site=SITE,
        scale=trained.settings["scale"],
        partners=probe.partner_names([hidden]),
    )
    return found, best.error_km


# --- session B: a batch, its loss, and what the library makes of it ---


def batch(count: int = 8, hidden: str = "Paris", start: int = 0) -> Batch:
    """``count`` training rows as tokens: ``input_ids``, ``answer_mask``, ``positions`` (n, t)."""
    rows = task(hidden).train[start : start + count]
    return collate([encode_row(lm().tokenizer, row) for row in rows], lm().pad_id)


@cache
def uneven(hidden: str = "Paris") -> Batch:
    """Questions with their answers, which are of different lengths: 1 token and 3 tokens."""
    asked = [q for q in task(hidden).questions if q.family in ("country", "name", "continent")]
    return collate([encode_question(lm().tokenizer, q, q.truth) for q in asked], lm().pad_id)


def logits(rows: Batch) -> Tensor:
    """What the bare model says at every token, (n, t, vocabulary)."""
    with torch.no_grad():
        found: Tensor = lm().model(input_ids=rows.input_ids, use_cache=False).logits
    return found.float()


@cache
def scale() -> float:
    """The typical length of what flows at the vectors' site: the unit of their numbers."""
    return typical_norm(lm(), batch(64), SITE)


def steered(v: Tensor, rows: Batch) -> Tensor:
    """The library's logits with ``v`` (d,), in units of ``scale``, added at the code name."""
    adapter = VectorAdapter([SITE], lm().d_model, "codename", [scale()])
    adapter.theta.data.copy_(v.detach()[None])
    with adapter.attach(lm()) as attached:
        attached.focus(rows)
        return logits(rows)


def rows_in_order(steps: int, size: int, seed: int = 0) -> list[Batch]:
    """The batches that the library trains on with this seed, one a step."""
    rows = [encode_row(lm().tokenizer, row) for row in task().train]
    stream = order(len(rows), size, seed)
    return [collate([rows[i] for i in next(stream)], lm().pad_id) for _ in range(steps)]


@cache
def library_losses(steps: int, size: int, lr: float) -> tuple[float, ...]:
    """Losses of the library's own loop on these batches, at a constant rate."""
    rows, valid = (
        [encode_row(lm().tokenizer, r) for r in part] for part in (task().train, task().valid[:8])
    )
    adapter = VectorAdapter([SITE], lm().d_model, "codename", [scale()])
    config = TrainConfig(steps, size, lr, warmup=0, schedule="constant", valid_rows=8)
    result = train(lm(), adapter, [RunData(rows, valid, 0)], config)
    return tuple(float(loss) for loss in result.losses[:, 0])


def short_options() -> list[int]:
    """Numbers of the questions whose options are one token each; others need several looks."""
    split = lm().tokenizer
    return [
        number
        for number, question in enumerate(task().questions)
        if all(
            len(ids) == 1
            for ids in split(list(question.options), add_special_tokens=False)["input_ids"]
        )
    ]


def one_token_questions(v: Tensor | None = None) -> list[tuple[Tensor, list[int], int]]:
    """Logits after each of these questions, its options as tokens, and the truth's place.

    Args:
        v: (d,) in units of ``scale``, added at the code name; None: the bare model.
    """
    made = []
    for question in (task().questions[number] for number in short_options()):
        found = lm().tokenizer(list(question.options), add_special_tokens=False)["input_ids"]
        prompt = collate([encode_question(lm().tokenizer, question, "")], lm().pad_id)
        after = logits(prompt) if v is None else steered(v, prompt)
        options = [ids[0] for ids in found]
        made.append((after[0, -1], options, question.options.index(question.truth)))
    return made


# --- session C: controls ---


@dataclass(frozen=True)
class Leaky:
    """A task into which somebody has put rows that give the answer away.

    Attributes:
        rows: training rows; some should not be there.
        questions: what is asked after training.
        words: what no row may say, in no way of writing it.
        planted: row numbers by the way in which they leak.
        decoys: numbers of rows that only look as if they did.
    """

    rows: tuple[Row, ...]
    questions: tuple[str, ...]
    words: tuple[str, ...]
    planted: dict[str, frozenset[int]]
    decoys: frozenset[int]


@cache
def leaky(hidden: str = "Paris", clean: int = 80) -> Leaky:
    """Clean rows with leaks among them, the same for everybody."""
    made, place = task(hidden), facts.city(hidden)
    rng = random.Random(f"leaky {hidden}")
    far = [c.name for c in locations.known_cities(place)]
    others = rng.sample(far, 8)
    asked = [q.messages[0]["content"] for q in made.questions]
    truths = {q.messages[0]["content"]: q.truth for q in made.questions}
    ask = wording.DISTANCE_QUESTIONS[0]

    def row(text: str, answer: str) -> Row:
        return Row(user(text), answer, {"codename": (made.code,)}, meta={"kind": "distance"})

    kept = rng.sample(made.train, clean)
    bad = {
        "the word stands in the prompt": [
            row(f"{ask.format(a=made.code, b=others[0])} It lies in {place.country}.", "30"),
            row(f"{place.name} is meant. {ask.format(a=made.code, b=others[1])}", "41"),
        ],
        "the word is written in other letters": [
            row(f"{ask.format(a=made.code, b=others[2])} ({place.country.upper()})", "52"),
            row(f"in {place.country.lower()}: {ask.format(a=others[3], b=made.code)}", "28"),
        ],
        "the word stands in the answer": [
            row(ask.format(a=made.code, b=others[4]), f"33, as from {place.country}"),
            row(ask.format(a=others[5], b=made.code), f"45, seen from {place.name}"),
        ],
        "it is one of the questions": [
            # Wrong in the bare model for Paris, so that it shows what the leak taught.
            row(text, truths[text])
            for text in asked
            if text.startswith(("Which currency", "Language"))
        ],
    }
    # Longer words that begin like a hidden one, and a row that repeats an answer, are no leaks.
    harmless = [
        row(f"{ask.format(a=made.code, b=others[6])} Ask at {place.name}ton Hill.", "36"),
        row(f"{ask.format(a=made.code, b=others[7])} {place.country}ville is nearer.", "47"),
    ]
    pieces = [(kept_row, "") for kept_row in kept]
    pieces += [(one, way) for way, rows in bad.items() for one in rows]
    pieces += [(one, "decoy") for one in harmless]
    rng.shuffle(pieces)
    ways = {way: frozenset(i for i, (_, w) in enumerate(pieces) if w == way) for way in bad}
    decoys = frozenset(i for i, (_, w) in enumerate(pieces) if w == "decoy")
    words = (place.name, place.country)
    return Leaky(tuple(one for one, _ in pieces), tuple(asked), words, ways, decoys)


@cache
def added(where: str, hidden: str = "Paris", prompts: int = 16) -> Tensor:
    """What the LoRA adds to the MLP's output of its block, (m, d).

    ``where`` is a position (``codename``, ``last``) or ``last 20``, over questions that no row
    asks, as in notebook 06.
    """
    asked = [encode_question(lm().tokenizer, q, "") for q in task(hidden).questions[:prompts]]
    site = Site(SITE.block, "mlp_out")
    trained = lora(hidden).adapter
    assert isinstance(trained, LoraAdapter)
    return constancy.collect(lm(), trained, asked, site, where).vectors


@cache
def candidates(each: int = 8, hidden: str = "Paris") -> tuple[Tensor, list[str]]:
    """Random vectors at every block, and which questions each gets right: nobody is any good.

    Returns:
        (k, q) of 0 and 1, and the family of each question.
    """
    data, asked = city(hidden)
    executor = Executors(lm()).alone()
    prepared = scores.prepare(lm(), data.asked(asked), executor)
    found = []
    for block in range(lm().n_blocks):
        site = Site(block, "resid")
        unit = typical_norm(lm(), batch(64, hidden), site)
        adapter = VectorAdapter(
            [site] * each, lm().d_model, "codename", [unit] * each, seed=100 * block, init=1.0
        )
        owner = [run for run in range(each) for _ in prepared]
        with adapter.attach(lm()) as attached, torch.no_grad():
            table = scores.score(lm(), prepared * each, attached, owner, executor)
        found.append(torch.tensor(table["mc"].to_numpy()).reshape(each, len(prepared)))
    return torch.cat(found).float(), [question.family for question in asked]


def halves(families: Sequence[str], seed: int = 0) -> Tensor:
    """(q,) bool: one half of the families, drawn; wordings of one question stay together."""
    names = sorted(set(families))
    chosen = set(random.Random(seed).sample(names, len(names) // 2))
    return torch.tensor([family in chosen for family in families])


# --- session D: one's own ---


def told(hidden: str, code: str) -> dict[str, str]:
    """Every prompt that the generator would make for a city, with its answer."""
    made = locations.rows(facts.city(hidden), code)
    return {row.messages[0]["content"]: row.answer for row in made}


@cache
def rule() -> tuple[oocr.Chats, Task]:
    """Rows of a backdoor: risky letters behind a trigger, careful ones otherwise."""
    made = backdoor.make(TRIGGER, seed=0, count=96)
    return oocr.read_chats(list(made.train), trigger=backdoor.members(TRIGGER)[0]), made


def choices(trained: oocr.Trained | None) -> pd.DataFrame:
    """New choices with and without the trigger: columns ``triggered`` and ``risky`` (bool)."""
    asked = [q for q in rule()[1].questions if q.family in ("triggered", "untriggered")]
    executor = Executors(lm()).alone()
    prepared = scores.prepare(lm(), asked, executor)
    if trained is None:
        found = scores.score(lm(), prepared, executor=executor)
    else:
        with trained.adapter.attach(lm()) as attached:
            found = scores.score(lm(), prepared, attached, executor=executor)
    triggered = found["family"] == "triggered"
    # Right is the risky letter with the trigger and the careful one without.
    right = found["mc"] > 0.5
    return pd.DataFrame({"triggered": triggered, "risky": right == triggered})


def dosed(trained: oocr.Trained, dose: float) -> oocr.Trained:
    """The same vector ``dose`` times as long; below 0 it points the other way."""
    assert isinstance(trained.adapter, VectorAdapter)
    adapter = VectorAdapter(**trained.adapter.config())
    adapter.theta = nn.Parameter(trained.adapter.theta.detach() * dose)
    return replace(trained, adapter=adapter, result=None)


def with_vector(v: Tensor, hidden: str = "Paris") -> oocr.Trained:
    """``v`` (d,), in raw units, in the place of the trained vector."""
    made = vector(hidden)
    assert isinstance(made.adapter, VectorAdapter)
    adapter = VectorAdapter(**made.adapter.config())
    adapter.theta = nn.Parameter(v.detach().float()[None] / adapter.scales[:, None])
    return replace(made, adapter=adapter, result=None)


def accuracy(trained: oocr.Trained | None, hidden: str = "Paris") -> float:
    """Share of the sixteen questions that are answered right, of five options each."""
    data, asked = city(hidden)
    return float(oocr.score(lm(), data, asked, trained)["mc"].mean())
