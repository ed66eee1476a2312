"""Which hints place a city: distances, directions, attributes, each alone and in pairs.

Every list of training rows has the same length, and every run sees the same number of rows, so
that only the kinds of hints differ. A kind that has fewer rows than its share (there are only five
attributes to tell) repeats each of them. All runs are asked what no hint says: country, continent
and name.

Distance rows are said to harm new cities when weights are fine-tuned (arXiv 2602.00533, which we
know second-hand). Whether they harm what a model knew before is tested here, on known cities, which
no training row asks about. A vector at the code name cannot change those answers because there is
no code name in the question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import pandas as pd

from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.analysis import probe
from oocr_lib.runs import protocol
from oocr_lib.runs.grid import Grid, Job
from oocr_lib.runs.methods import Method
from oocr_lib.runs.study import Study
from oocr_lib.tasks.base import Question, Row, Task
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.tasks.locations.attributes import (
    ASKED,
    ATTRIBUTES,
    HINTS,
    PAPER_HINTS,
    check_hints,
)
from oocr_lib.util.arguments import checked
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world

#: Between a city and its hints, between two kinds of hints, in the name of a concept.
BY, AND = ": ", " and "
#: Families of questions about known cities start with this.
KNOWN = "known "
#: Families that a known city is asked about.
ABOUT_KNOWN = (*ATTRIBUTES, "country", "continent")


def mixes() -> list[tuple[str, ...]]:
    """Each kind of hints alone, then each pair."""
    return [*((kind,) for kind in HINTS), *combinations(HINTS, 2)]


@checked
def concept(city: str, kinds: Sequence[str], rows: int) -> str:
    """A city and how it is told, as one concept: ``Paris: 240 distances and directions``."""
    return f"{city}{BY}{rows} {AND.join(check_hints(kinds))}"


@checked
def parsed(concept: str) -> tuple[str, tuple[str, ...], int]:
    """City, kinds of hints and number of rows of a concept.

    Raises:
        UserError: a text that ``concept`` would not make.
    """
    city, separator, hints = concept.partition(BY)
    count, _, kinds = hints.partition(" ")
    if not separator or not count.isdigit():
        raise UserError(
            f"{concept!r} does not say how the city is told. Allowed: such as "
            f"{'Paris: 240 distances and directions'!r}; make it with hints.concept."
        )
    return city, check_hints(kinds.split(AND)), int(count)


@checked
def even(rows: Sequence[Row], kinds: Sequence[str], count: int, seed: int) -> tuple[Row, ...]:
    """``count`` rows, the same number of each kind of hints, drawn with the seed.

    Rows of a kind that has fewer than its share are repeated, as evenly as possible.

    Raises:
        UserError: a count that cannot be shared evenly, or a kind without rows.
    """
    share, rest = divmod(count, len(check_hints(kinds)))
    if rest or not share:
        raise UserError(
            f"{count} rows cannot be shared evenly by {len(kinds)} kinds of hints. Allowed: a "
            f"positive multiple of {len(kinds)}."
        )
    mixed = list[Row]()
    for kind in kinds:
        of_kind = [row for row in rows if kind_of(row) == kind]
        if not of_kind:
            raise UserError(f"No row is of kind {kind!r}. Allowed: kinds that the task tells.")
        rng, drawn = random.Random(f"hints {seed} {kind}"), list[Row]()
        while len(drawn) < share:
            drawn += rng.sample(of_kind, min(len(of_kind), share - len(drawn)))
        mixed += drawn
    return tuple(mixed)


def kind_of(row: Row) -> str:
    """Which of the kinds of hints in ``HINTS`` a row is."""
    kind = str(row.meta["kind"])
    return "attributes" if kind in ATTRIBUTES else f"{kind}s"


@checked
def known_questions(cities: Sequence[str], all_hidden: Sequence[str]) -> list[Question]:
    """Questions about known cities, five options each, in the first wording of every family.

    They are marked as having no code name, so that a vector there leaves them alone.

    Raises:
        UserError: a city that is hidden, or unknown.
    """
    questions = list[Question]()
    for name in no_doubles(cities, "known city"):
        if name in all_hidden:
            raise UserError(f"The city {name!r} is hidden. Allowed: known cities, others.")
        place = world.city(name)
        wordings = locations.questions(place, name, (name,), 0, ABOUT_KNOWN)
        for question in wordings[::2]:  # two wordings each
            family, number = KNOWN + question.family, f"known-{name}-{question.id}"
            questions.append(replace(question, family=family, marks={"codename": ()}, id=number))
    return questions


@checked
def told(
    make: Callable[..., Task], all_hidden: Sequence[str], known: Sequence[str] = ()
) -> Callable[[str, int], Task]:
    """A task factory for concepts made by ``concept``; a plain city is told as in the paper.

    Args:
        make: ``tasks.locations.testbed.make``.
        known: cities that are asked about as well.

    Raises:
        UserError: later, from the factory: what ``parsed`` and ``even`` refuse.
    """
    about_known = known_questions(known, all_hidden)

    @checked
    def task(concept: str, seed: int) -> Task:
        plain = concept in all_hidden
        city, kinds, count = (concept, (), 0) if plain else parsed(concept)
        hinted = PAPER_HINTS if plain else kinds
        base = make(city, seed=seed, all_hidden=tuple(all_hidden), hints=hinted)
        train = base.train if plain else even(base.train, kinds, count, seed)
        questions = (*base.questions, *about_known)
        chance = dict(base.chance) | {q.family: 1 / locations.OPTIONS for q in about_known}
        return replace(base, concept=concept, train=train, questions=questions, chance=chance)

    return task


@checked
def grid(study: Study, all_hidden: Sequence[str], known: Sequence[str] = ()) -> Grid:
    """A grid for concepts made by ``concept``, on a study's model and with its finished runs.

    Sites have the typical norms of the paper's rows, the same for all kinds of hints.

    Raises:
        UserError: a model of another dialect, whose attributes are asked in other words.
    """
    base = study.grid
    if base.lm.dialect != "testbed":
        raise UserError(
            f"Model {base.lm.name!r} speaks the dialect {base.lm.dialect!r}. Allowed: the testbed."
        )
    spec: dict[str, Any] = {
        "task": locations.NAME,
        "dialect": "testbed",
        "hidden": list(all_hidden),
    }
    spec |= {"told": True, "known": list(known)}
    make = told(locations.make, all_hidden, known)
    return Grid(base.lm, base.store, make, spec, all_hidden[0], progress=base.progress)


@checked
def jobs(
    method: Method, pairs: Sequence[tuple[str, int]], kinds: Sequence[str], rows: int
) -> list[Job]:
    """One job per (city, seed) pair, told by these kinds of hints."""
    return protocol.jobs(method, [(concept(city, kinds, rows), seed) for city, seed in pairs])


@checked
def random_answers(
    method: Method,
    pairs: Sequence[tuple[str, int]],
    kinds: Sequence[str],
    rows: int,
    cities: Sequence[str],
) -> list[Job]:
    """Control: ``jobs`` whose answers are drawn from what the same hints say about all ``cities``.

    Answers from a city's own rows alone would give it away: few cities are 300 km from one city and
    8,000 km from another.
    """
    every = [concept(city, kinds, rows) for city in cities]
    return jobs(protocol.random_answers(method, every), pairs, kinds, rows)


def named(table: pd.DataFrame) -> pd.DataFrame:
    """Runs with the city alone as ``concept``, and columns ``hints`` and ``rows``."""
    parts = [parsed(concept) for concept in table["concept"]]
    return table.assign(
        concept=[city for city, _, _ in parts],
        hints=[AND.join(kinds) for _, kinds, _ in parts],
        rows=[rows for _, _, rows in parts],
    )


@checked
def placed(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run: ``mc`` and ``top1``, means over the questions that no hint answers."""
    return _mean(named(runs[runs["family"].isin(ASKED)]))


@checked
def known(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run: ``mc``, ``top1``, ``p_truth``, means over the families of known cities."""
    return _mean(named(runs[runs["family"].str.startswith(KNOWN)]))


def _mean(table: pd.DataFrame) -> pd.DataFrame:
    by = ["method", "hints", "rows", "concept", "seed", "run"]
    return table.groupby(by, as_index=False, sort=False)[["mc", "top1", "p_truth"]].mean()


@checked
def against(runs: pd.DataFrame, others: pd.DataFrame, by: Sequence[str], measure: str) -> pd.Series:
    """``measure`` of each run minus that of its match in ``others``, with the index of ``runs``.

    Args:
        by: columns that identify a run's match, for instance concept and seed.

    Raises:
        UserError: a run without a match, or with several.
    """
    values = others.set_index(list(by))[measure]
    matches = pd.MultiIndex.from_frame(runs[list(by)]) if len(by) > 1 else runs[by[0]]
    if not values.index.is_unique or not matches.isin(values.index).all():
        raise UserError(
            f"Runs do not have exactly one fellow with the same {', '.join(by)}. Allowed: one each."
        )
    return pd.Series(runs[measure].to_numpy() - values.loc[matches].to_numpy(), runs.index)


@checked
def map_errors(of: Grid, listed: Sequence[Job], read: probe.Probe) -> pd.DataFrame:
    """How far from its city each finished vector points on the map, and the code name without it.

    The probe reads where the model is about to answer in which direction the code name lies from
    known cities. Direction hints train that very question (also with other cities), distances and
    attributes do not.

    Returns:
        One row per job and state: ``method, hints, rows, concept, seed, run``; ``state``, vector or
        none; ``km``, the great-circle distance from the true place.

    Raises:
        UserError: a job that is not a vector, or that has not been run.
    """
    return pd.DataFrame(list(_errors(of, listed, read)))


def _errors(of: Grid, finished: Sequence[Job], read: probe.Probe) -> Iterator[dict[str, object]]:
    hidden = [str(name) for name in of.factory_spec["hidden"]]
    for job in finished:
        adapter = of.trained([job])
        if not isinstance(adapter, VectorAdapter):
            raise UserError(f"Job {job.method.name!r} is no vector. Allowed: trained vectors.")
        city, kinds, rows = parsed(job.concept)
        theta = adapter.theta.detach().cpu()
        points = probe.trajectory(
            of.lm,
            read,
            code=of.task(job.concept, job.seed).task.code,
            vectors=theta.repeat(2, 1) * theta.new_tensor([[1.0], [0.0]]),
            steps=[1, 0],
            site=adapter.sites[0],
            scale=float(adapter.scales[0]),
            partners=probe.partner_names(hidden),
        )
        place = world.city(city)
        for state, row in zip(("vector", "none"), points.itertuples(), strict=True):
            point = replace(place, latitude=float(row.latitude), longitude=float(row.longitude))
            yield {
                **{"method": job.method.name, "hints": AND.join(kinds), "rows": rows},
                **{"concept": city, "seed": job.seed, "run": f"{job.concept} {job.seed}"},
                **{"state": state, "km": world.distance_km(point, place)},
            }
