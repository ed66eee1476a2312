"""Which hints place a city: distances, directions, attributes, each alone and in pairs.

Every list of training rows has the same length, and every run sees the same number of rows, so
that kinds of hints differ and nothing else does. A kind that has fewer rows than its share (there
are only five attributes to tell) gives each of them several times. What is asked of all is what no
hint says: country, continent and name.

There is a report, known to us second-hand, that distance rows harm new cities when weights are
fine-tuned (arXiv 2602.00533). Whether they harm what a model knew before is asked here: of known
cities, which no training row asks about. A vector at the code name cannot change those answers:
there is no code name in the question.
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
#: Families of questions about known cities start so.
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
        UserError: a text that ``concept`` does not make.
    """
    city, found, told = concept.partition(BY)
    count, _, kinds = told.partition(" ")
    if not found or not count.isdigit():
        raise UserError(
            f"{concept!r} does not say how the city is told. Allowed: such as "
            f"{'Paris: 240 distances and directions'!r}; make it with hints.concept."
        )
    return city, check_hints(kinds.split(AND)), int(count)


@checked
def even(rows: Sequence[Row], kinds: Sequence[str], count: int, seed: int) -> tuple[Row, ...]:
    """``count`` rows, the same number of each kind of hints, drawn with the seed.

    Rows of a kind that has fewer than its share come several times, as evenly as can be.

    Raises:
        UserError: a count that cannot be shared evenly, or a kind without rows.
    """
    share, rest = divmod(count, len(check_hints(kinds)))
    if rest or not share:
        raise UserError(
            f"{count} rows cannot be shared evenly by {len(kinds)} kinds of hints. Allowed: a "
            f"positive multiple of {len(kinds)}."
        )
    made = list[Row]()
    for kind in kinds:
        own = [row for row in rows if kind_of(row) == kind]
        if not own:
            raise UserError(f"No row is of kind {kind!r}. Allowed: kinds that the task tells.")
        rng, drawn = random.Random(f"hints {seed} {kind}"), list[Row]()
        while len(drawn) < share:
            drawn += rng.sample(own, min(len(own), share - len(drawn)))
        made += drawn
    return tuple(made)


def kind_of(row: Row) -> str:
    """Which kind of hints a row is, of ``HINTS``."""
    kind = str(row.meta["kind"])
    return "attributes" if kind in ATTRIBUTES else f"{kind}s"


@checked
def known_questions(cities: Sequence[str], all_hidden: Sequence[str]) -> list[Question]:
    """What known cities are like, five options each, in the first wording of every family.

    The questions say that they have no code name, so that a vector there leaves them alone.

    Raises:
        UserError: a city that is hidden, or unknown.
    """
    made = list[Question]()
    for name in no_doubles(cities, "known city"):
        if name in all_hidden:
            raise UserError(f"The city {name!r} is hidden. Allowed: known cities, others.")
        place = world.city(name)
        asked = locations.questions(place, name, (name,), 0, ABOUT_KNOWN)
        for question in asked[::2]:  # two wordings each
            family, number = KNOWN + question.family, f"known-{name}-{question.id}"
            made.append(replace(question, family=family, marks={"codename": ()}, id=number))
    return made


@checked
def told(
    make: Callable[..., Task], all_hidden: Sequence[str], known: Sequence[str] = ()
) -> Callable[[str, int], Task]:
    """A factory for concepts of ``concept``; what is plainly a city is told as in the paper.

    Args:
        make: ``tasks.locations.testbed.make``.
        known: cities that are asked about as well.

    Raises:
        UserError: later, from the factory made: what ``parsed`` and ``even`` refuse.
    """
    more = known_questions(known, all_hidden)

    @checked
    def task(concept: str, seed: int) -> Task:
        plain = concept in all_hidden
        city, kinds, count = (concept, (), 0) if plain else parsed(concept)
        hinted = PAPER_HINTS if plain else kinds
        found = make(city, seed=seed, all_hidden=tuple(all_hidden), hints=hinted)
        train = found.train if plain else even(found.train, kinds, count, seed)
        asked = (*found.questions, *more)
        chance = dict(found.chance) | {q.family: 1 / locations.OPTIONS for q in more}
        return replace(found, concept=concept, train=train, questions=asked, chance=chance)

    return task


@checked
def grid(study: Study, all_hidden: Sequence[str], known: Sequence[str] = ()) -> Grid:
    """A grid for concepts of ``concept``, on the model of a study and with its finished runs.

    Sites have the typical norms of the paper's rows, the same for all kinds of hints.

    Raises:
        UserError: a model of another dialect, whose attributes are asked in other words.
    """
    of = study.grid
    if of.lm.dialect != "testbed":
        raise UserError(
            f"Model {of.lm.name!r} speaks the dialect {of.lm.dialect!r}. Allowed: the testbed."
        )
    spec: dict[str, Any] = {
        "task": locations.NAME,
        "dialect": "testbed",
        "hidden": list(all_hidden),
    }
    spec |= {"told": True, "known": list(known)}
    make = told(locations.make, all_hidden, known)
    return Grid(of.lm, of.store, make, spec, all_hidden[0], progress=of.progress)


@checked
def jobs(
    method: Method, pairs: Sequence[tuple[str, int]], kinds: Sequence[str], rows: int
) -> list[Job]:
    """One job a (city, seed) pair, told by these kinds of hints."""
    return protocol.jobs(method, [(concept(city, kinds, rows), seed) for city, seed in pairs])


@checked
def random_answers(
    method: Method,
    pairs: Sequence[tuple[str, int]],
    kinds: Sequence[str],
    rows: int,
    cities: Sequence[str],
) -> list[Job]:
    """Control: ``jobs`` whose answers are drawn from what the same hints say of all ``cities``.

    From a city's own rows alone they would tell it: few cities are 300 km from one, 8,000 from
    another.
    """
    every = [concept(city, kinds, rows) for city in cities]
    return jobs(protocol.random_answers(method, every), pairs, kinds, rows)


def named(table: pd.DataFrame) -> pd.DataFrame:
    """Runs of ``Grid.run`` with ``concept`` the city alone, and columns ``hints`` and ``rows``."""
    parts = [parsed(concept) for concept in table["concept"]]
    return table.assign(
        concept=[city for city, _, _ in parts],
        hints=[AND.join(kinds) for _, kinds, _ in parts],
        rows=[rows for _, _, rows in parts],
    )


@checked
def placed(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: ``mc`` and ``top1``, means over the questions that no hint answers."""
    kept = named(runs[runs["family"].isin(ASKED)])
    return _mean(kept)


@checked
def known(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: ``mc``, ``top1``, ``p_truth``, means over the families of known cities."""
    return _mean(named(runs[runs["family"].str.startswith(KNOWN)]))


def _mean(table: pd.DataFrame) -> pd.DataFrame:
    by = ["method", "hints", "rows", "concept", "seed", "run"]
    return table.groupby(by, as_index=False, sort=False)[["mc", "top1", "p_truth"]].mean()


@checked
def against(runs: pd.DataFrame, others: pd.DataFrame, by: Sequence[str], measure: str) -> pd.Series:
    """``measure`` of each run minus that of its fellow in ``others``, with the index of ``runs``.

    Args:
        by: columns that name a run's only fellow, for instance concept and seed.

    Raises:
        UserError: a run without a fellow, or with several.
    """
    keys = others.set_index(list(by))[measure]
    wanted = pd.MultiIndex.from_frame(runs[list(by)]) if len(by) > 1 else runs[by[0]]
    if not keys.index.is_unique or not wanted.isin(keys.index).all():
        raise UserError(
            f"Runs do not have exactly one fellow with the same {', '.join(by)}. Allowed: one each."
        )
    return pd.Series(runs[measure].to_numpy() - keys.loc[wanted].to_numpy(), runs.index)


@checked
def map_errors(of: Grid, listed: Sequence[Job], read: probe.Probe) -> pd.DataFrame:
    """How far from its city each finished vector points on the map, and the code name without it.

    The probe reads where the model is about to answer which way the code name lies from known
    cities. Directions train on that very question (towards other cities, too), distances and
    attributes do not.

    Returns:
        One row a job and state: ``method, hints, rows, concept, seed, run``; ``state``, vector or
        none; ``km``, the great-circle distance from the true place.

    Raises:
        UserError: a job that is no vector, or that has not been run.
    """
    return pd.DataFrame(list(_errors(of, listed, read)))


def _errors(of: Grid, listed: Sequence[Job], read: probe.Probe) -> Iterator[dict[str, object]]:
    hidden = [str(name) for name in of.factory_spec["hidden"]]
    for job in listed:
        adapter = of.trained([job])
        if not isinstance(adapter, VectorAdapter):
            raise UserError(f"Job {job.method.name!r} is no vector. Allowed: trained vectors.")
        city, kinds, rows = parsed(job.concept)
        theta = adapter.theta.detach().cpu()
        found = probe.trajectory(
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
        for state, row in zip(("vector", "none"), found.itertuples(), strict=True):
            point = replace(place, latitude=float(row.latitude), longitude=float(row.longitude))
            yield {
                **{"method": job.method.name, "hints": AND.join(kinds), "rows": rows},
                **{"concept": city, "seed": job.seed, "run": f"{job.concept} {job.seed}"},
                **{"state": state, "km": world.distance_km(point, place)},
            }
