"""Ask every trained method and its controls the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from oocr_lib.adapters import VectorAdapter
from oocr_lib.api.data import Chats, Question
from oocr_lib.api.methods import Lora, Vector
from oocr_lib.api.trained import Trained, train
from oocr_lib.evaluation import scores
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.runs.executors import Executors
from oocr_lib.util.arguments import check_seed, checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.files import atomic_path
from oocr_lib.util.parsing import AnyPath
from oocr_lib.util.paths import resolve
from oocr_lib.util.statistics import bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Random directions asked at once.
_TOGETHER = 25


@checked
def score(
    lm: LanguageModel,
    data: Chats,
    questions: Sequence[Question],
    trained: Trained | None = None,
) -> pd.DataFrame:
    """One row per question: what the model says with ``trained`` in place, or by itself.

    Returns:
        The columns of ``evaluation.scores.score``, among them ``family``, ``truth``,
        ``p_truth`` (probability of the truth among the options), ``mc`` (1 where it is the
        likeliest option) and ``top1`` (1 where the model writes it by itself).

    Raises:
        UserError: no questions, or one that does not name the code name.
    """
    executor = Executors(lm).alone()
    prepared = scores.prepare(lm, data.asked(questions), executor)
    with trained.adapter.attach(lm) if trained else nullcontext() as attached:
        return scores.score(lm, prepared, attached, executor=executor)


@dataclass(frozen=True)
class Comparison:
    """The results of ``compare``.

    Attributes:
        runs: one row per method, run and question.
        trained: every trained vector and LoRA, by method.
    """

    runs: pd.DataFrame
    trained: dict[str, list[Trained]]
    chance: dict[str, float]

    @property
    def table(self) -> pd.DataFrame:
        """Accuracy by method and family: mean, 95 % interval over questions and runs, chance.

        ``low`` and ``high``: bootstrap over questions, and over runs within each. ``above_random``:
        share of random directions that a method's mean accuracy exceeds; ties count half.
        """
        rows = []
        families = [*dict.fromkeys(self.runs["family"]), "all"]
        for method in dict.fromkeys(self.runs["method"]):
            runs = self.runs[self.runs["method"] == method]
            for family in families:
                part = runs if family == "all" else runs[runs["family"] == family]
                interval = bootstrap(part["accuracy"], groups=list(part["id"]), resamples=2000)
                rows.append(
                    {
                        "method": method,
                        "family": family,
                        "accuracy": interval.value,
                        "low": interval.low,
                        "high": interval.high,
                        "runs": part["run"].nunique(),
                        "questions": part["id"].nunique(),
                        "chance": self._chance(family),
                        "above_random": self._above(interval.value, family),
                    }
                )
        return pd.DataFrame(rows)

    def _chance(self, family: str) -> float:
        return (
            float(np.mean(list(self.chance.values()))) if family == "all" else self.chance[family]
        )

    def _above(self, value: float, family: str) -> float:
        random = self.runs[self.runs["method"] == "random"]
        if random.empty:
            return float("nan")
        part = random if family == "all" else random[random["family"] == family]
        accuracies = part.groupby("run")["accuracy"].mean()
        return float((accuracies < value).mean() + (accuracies == value).mean() / 2)

    def plot(self, family: str = "all", title: str = "") -> Figure:
        """Bars with intervals, and a line at chance level."""
        from oocr_lib.report.plots.bars import method_bars

        table = self.table
        if family not in set(table["family"]):
            raise UserError(
                f"Unknown family {family!r}. Allowed: {', '.join(dict.fromkeys(table['family']))}."
            )
        bars = table[table["family"] == family].rename(columns={"accuracy": "value", "runs": "n"})
        chance = float(bars["chance"].iloc[0])
        return method_bars(
            bars[["method", "value", "low", "high", "n"]],
            chance,
            title or f"Accuracy, {family}",
            ylabel="accuracy",
            over="questions and runs",
        )

    def save(self, folder: AnyPath) -> None:
        """Write ``table.csv`` and ``runs.csv``.

        Raises:
            UserError: the folder cannot be written.
        """
        place = resolve(folder)
        try:
            place.mkdir(parents=True, exist_ok=True)
            for name, frame in (("table", self.table), ("runs", self.runs)):
                with atomic_path(place / f"{name}.csv") as aside:
                    frame.to_csv(aside, index=False)
        except OSError as error:
            raise UserError(f"Cannot write to {str(place)!r}: {error.strerror}.") from error

    def __repr__(self) -> str:
        runs = self.runs.groupby("method", sort=False)["run"].nunique()
        return f"Comparison({', '.join(f'{name} × {count}' for name, count in runs.items())})"


@checked
def compare(
    lm: LanguageModel,
    data: Chats,
    questions: Sequence[Question],
    methods: Sequence[Vector | Lora | Trained],
    *,
    seeds: int = 3,
    random: int = 50,
    steps: int = 100,
    batch: int = 16,
) -> Comparison:
    """Base model, every method, and the controls that must fail, on the same questions.

    Controls: ``random`` directions as long as the first vector, in its place; and ``random
    answers``, the first method trained on answers drawn anew, so that only the format is learned.

    Args:
        methods: what to train, or what has been trained already.
        seeds: runs per method that is trained here.
        random: how many random directions; 0 for none. Without any vector there are none.

    Raises:
        UserError: no methods, two of the same name, or what ``train`` and ``score`` refuse.
    """
    if not methods or seeds < 1 or random < 0:
        raise UserError(
            f"{len(methods)} methods, seeds={seeds}, random={random} cannot be compared. Allowed: "
            "at least one method and seed."
        )
    for seed in range(seeds):
        check_seed(seed)
    for method in methods:  # before anything starts
        (method.method if isinstance(method, Trained) else method).check(lm)
    random_chats = [data.random_answers(seed) for seed in range(seeds)]
    trained: dict[str, list[Trained]] = {}
    for method in methods:
        name = method.method.name if isinstance(method, Trained) else method.name
        if name in trained:
            raise UserError(f"Two methods are called {name!r}. Allowed: each once.")
        trained[name] = (
            [method]
            if isinstance(method, Trained)
            else [train(lm, data, method, steps=steps, batch=batch, seed=s) for s in range(seeds)]
        )
    tables = [_named("base", 0, score(lm, data, questions))]
    for name, runs in trained.items():
        tables += [_named(name, n, score(lm, data, questions, run)) for n, run in enumerate(runs)]
    first = next(iter(trained.values()))[0].method
    for seed, chats in enumerate(random_chats):
        control = train(lm, chats, first, steps=steps, batch=batch, seed=seed)
        tables.append(_named("random answers", seed, score(lm, data, questions, control)))
    vectors = [runs[0] for runs in trained.values() if isinstance(runs[0].adapter, VectorAdapter)]
    if vectors and random:
        tables += _random(lm, data, questions, vectors[0], random)
    chance = {
        family: float(np.mean([1 / len(q.options) if q.options else 0.0 for q in group]))
        for family, group in _by_family(questions).items()
    }
    return Comparison(pd.concat(tables, ignore_index=True), trained, chance)


def _random(
    lm: LanguageModel, data: Chats, questions: Sequence[Question], trained: Trained, count: int
) -> list[pd.DataFrame]:
    """Random directions in the place of a trained vector, many at a time."""
    executor = Executors(lm).alone()
    prepared = scores.prepare(lm, data.asked(questions), executor)
    adapter = trained.adapter
    assert isinstance(adapter, VectorAdapter)
    length = float(adapter.theta.detach().norm())
    tables = []
    for start in range(0, count, _TOGETHER):
        k = min(_TOGETHER, count - start)
        scale = [float(adapter.scales[0])] * k
        sites, seeds = list(adapter.sites) * k, [1000 + start + i for i in range(k)]
        directions = VectorAdapter(
            sites, lm.d_model, adapter.position, scale, seed=seeds, init=length or 1.0
        )
        owner = [run for run in range(k) for _ in prepared]
        with directions.attach(lm) as attached, torch.no_grad():
            table = scores.score(lm, prepared * k, attached, owner, executor)
        tables += [_named("random", start + run, part) for run, part in table.groupby("run")]
    return tables


def _named(method: str, run: int, table: pd.DataFrame) -> pd.DataFrame:
    # A question without options is right when the model writes the answer by itself.
    accuracy = table["mc"].where(table["kind"] == "choice", table["top1"])
    columns = table[["id", "family", "truth", "p_truth"]]
    return columns.assign(accuracy=accuracy, method=method, run=run)


def _by_family(questions: Sequence[Question]) -> dict[str, list[Question]]:
    families: dict[str, list[Question]] = {}
    for question in questions:
        families.setdefault(question.family, []).append(question)
    return families
