"""Make the explorer's file: train a vector per city and block, and ask all questions with it.

    python -m oocr_lib.report.explorer_maker --out data/explorer.json

The vectors are added to the residual stream at the code name's tokens and trained as in notebook
03, whose runs are used again if they are there. The ten cities of that notebook have all four
blocks, the others two, which keeps the run below a quarter of an hour and the page below five
megabytes. With each vector, at several strengths, all questions are asked, and a probe reads where
on the map the code name lies. The vectors are saved beside the answers, in
``explorer.safetensors``, so that every number can be computed again without training.
``report.explorer`` reads the file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oocr_lib import tasks
from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.analysis import probe
from oocr_lib.evaluation.scores import score
from oocr_lib.models.language_model import LanguageModel, load_model
from oocr_lib.models.sites import Site
from oocr_lib.report.explorer import (
    BLOCKS,
    DOSES,
    FEW_BLOCKS,
    FILE,
    SCHEMA,
    UNIT,
    Group,
    every_city,
    groups,
)
from oocr_lib.runs import presets, protocol
from oocr_lib.runs.ask_adapter import fixed
from oocr_lib.runs.grid import Grid, Job
from oocr_lib.runs.store import Run, RunStore, versions
from oocr_lib.runs.study import Study
from oocr_lib.tasks.base import Question
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.util import files
from oocr_lib.util.arguments import checked
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.machine import set_up
from oocr_lib.util.paths import ROOT, data_dir
from oocr_lib.util.progress import bar, watched
from oocr_lib.world import facts as world

KIND, POSITION, SEED = "resid", "codename", 0
#: Decimals of all other numbers in the file.
DECIMALS = 3


@checked
def make(
    lm: LanguageModel,
    store: RunStore,
    cities: Sequence[str] | None = None,
    blocks: Sequence[int] | None = None,
    doses: Sequence[float] = DOSES,
    settings: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Train what is not finished, ask all questions; return the file's content and the vectors.

    Args:
        store: finished runs; those of notebook 03 are used again.
        cities: by default all (``every_city``).
        blocks: by default ``BLOCKS`` for the cities of notebook 03, ``FEW_BLOCKS`` for others.
        settings: by default those of notebook 03, preset ``laptop``.

    Returns:
        What ``look`` takes, and ``<city>@<block>`` -> vector (d,) in the model's own units.

    Raises:
        UserError: no dose 0 or 1, a value that comes twice, an unknown city or block, or the
            last block, after which no other token can read the vector.
    """
    hidden = locations.check_hidden(every_city() if cities is None else cities)
    for choice in (BLOCKS, FEW_BLOCKS) if blocks is None else (blocks,):
        _check(lm, choice, doses)
    s = trained_as(settings)
    entries, vectors = dict[str, dict[str, Any]](), dict[str, Tensor]()
    for group in groups():
        names = [name for name in hidden if name in group.cities]
        if names:
            few = BLOCKS if group == groups()[0] else FEW_BLOCKS
            asker = Asker(lm, store, group, s, few if blocks is None else blocks, doses)
            label = f"cities of seed {group.seed}"
            asker.study.grid.run([asker.job(n, b) for n in names for b in asker.blocks], label)
            for name in bar(names, f"asking, {label}"):
                runs = asker.study.grid.runs([asker.job(name, block) for block in asker.blocks])
                by_block = {b: _raw(run) for b, run in zip(asker.blocks, runs, strict=True)}
                vectors |= {f"{name}@{block}": raw for block, raw in by_block.items()}
                rows = [
                    asker.asked(name, block, raw)
                    | {key: run.results[key] for key in ("length", "valid_accuracy")}
                    for (block, raw), run in zip(by_block.items(), runs, strict=True)
                ]
                entries[name] = asker.told(name) | {"vectors": rows}
    ordered = [entries[name] for name in hidden]
    keys = [f"{city['name']}@{vector['block']}" for city in ordered for vector in city["vectors"]]
    content = rounded(heading(lm, s, doses) | {"cities": ordered})
    return content, {key: vectors[key] for key in keys}


class Asker:
    """Asks all questions about the cities of one group.

    Args:
        settings: of ``trained_as``.
        blocks: blocks that vectors may be added after.
    """

    def __init__(
        self,
        lm: LanguageModel,
        store: RunStore,
        group: Group,
        settings: presets.Settings,
        blocks: Sequence[int],
        doses: Sequence[float] = DOSES,
    ) -> None:
        self.lm, self.group, self.blocks, self.doses = lm, group, tuple(blocks), tuple(doses)
        self.study = plan(lm, store, group.cities, blocks, settings, group.seed)
        self._readers: list[probe.Probe] = []

    def job(self, city: str, block: int) -> Job:
        """The job that trains a city's vector after a block; its run has notebook 03's identity."""
        (job,) = protocol.jobs(self.study.vector(KIND, block), [(city, self.group.seed)])
        return job

    def told(self, city: str) -> dict[str, Any]:
        """A city's code name, place and questions."""
        task, place = self.study.grid.task(city, self.group.seed).task, world.city(city)
        return {
            "name": city,
            "code": task.code,
            "seed": self.group.seed,
            "latitude": place.latitude,
            "longitude": place.longitude,
            "questions": [_question(question) for question in task.questions],
        }

    def asked(self, city: str, block: int, vector: Tensor) -> dict[str, Any]:
        """All answers and places of a city with a vector (d,) in raw units, by dose."""
        job, reader = self.job(city, block), self._reader(block)
        return {
            "block": block,
            "probe": {"block": reader.site.block, "error_km": reader.error_km},
            **answers(self.study.grid, job, vector, self.doses),
            "places": places(self.study.grid, job, vector, self.doses, reader, self.group.cities),
        }

    def _reader(self, block: int) -> probe.Probe:
        """The most exact probe of a later block, fitted without the cities of the group.

        A probe at the vector's own block reads the last token before the vector can reach it.
        """
        if not self._readers:
            later = range(min(self.blocks) + 1, self.lm.n_blocks)
            self._readers = probe.fit_on_cities(self.lm, later, exclude=self.group.cities)
        return min((p for p in self._readers if p.site.block > block), key=lambda p: p.error_km)


def trained_as(settings: Mapping[str, Any] | None = None) -> presets.Settings:
    """Hyperparameters; by default those of notebook 03, preset ``laptop``."""
    return presets.Settings(settings or presets.laptop(**presets.TASKS["locations"]))


def heading(
    lm: LanguageModel, settings: presets.Settings, doses: Sequence[float]
) -> dict[str, Any]:
    """The file's entries before its cities."""
    hyperparameters = {"steps": settings.steps, "batch": settings.batch, "lr": settings.vector_lr}
    return {
        "schema": SCHEMA,
        "model": {"name": lm.name, "digest": lm.digest, "blocks": lm.n_blocks},
        "versions": versions(),
        "settings": {"site": KIND, "position": POSITION, **hyperparameters},
        "unit": UNIT,
        "doses": [float(dose) for dose in doses],
    }


@checked
def plan(
    lm: LanguageModel,
    store: RunStore,
    cities: Sequence[str],
    blocks: Sequence[int],
    settings: Any,
    seed: int = SEED,
) -> Study:
    """The study of notebook 03, one run per city; its runs have the same identities.

    Args:
        settings: hyperparameters as attributes (``presets.Settings``).
    """
    factory = tasks.factory(locations.NAME, lm.dialect, all_hidden=cities)
    spec = {"task": locations.NAME, "dialect": lm.dialect, "hidden": list(cities)}
    grid = Grid(lm, store, factory, spec, reference=cities[0], progress=watched())
    return Study(grid, settings, blocks, [(name, seed) for name in cities], position=POSITION)


@checked
def answers(
    grid: Grid, job: Job, vector: Tensor, doses: Sequence[float]
) -> dict[str, list[list[Any]]]:
    """Every question of a job at every dose of a vector (d,) in raw units.

    Returns:
        By dose and question, ``shares`` of the options (all together 1) and their ``mass``, in
        thousandths.
    """
    questions = grid.task(job.concept, job.seed).questions
    adapter = _dosed(job, vector, doses)
    owner = [k for k in range(len(doses)) for _ in questions]
    executor = grid.executors.of_adapter(adapter, [questions] * len(doses), [])
    with adapter.attach(grid.lm) as attached:
        table = score(grid.lm, questions * len(doses), attached, owner, executor)
    by_dose = [rows for _, rows in table.groupby("run", sort=True)]
    return {
        "shares": [[_shares(logp) for logp in rows["logp"]] for rows in by_dose],
        "mass": [[round(UNIT * x) for x in rows["mass"]] for rows in by_dose],
    }


@checked
def places(
    grid: Grid,
    job: Job,
    vector: Tensor,
    doses: Sequence[float],
    reader: probe.Probe,
    hidden: Sequence[str],
) -> list[list[float]]:
    """Latitude and longitude where a probe puts the code name, by dose.

    Args:
        hidden: cities that the probe was fitted without, so that no prompt names them either.
    """
    trajectory = probe.trajectory(
        grid.lm,
        reader,
        code=grid.task(job.concept, job.seed).task.code,
        vectors=_times(vector, doses),
        steps=range(len(doses)),
        site=Site.parse(job.method.site),
        scale=1.0,
        partners=probe.partner_names(hidden),
    )
    points = trajectory[["latitude", "longitude"]].to_numpy()
    return [[float(lat), float(lon)] for lat, lon in points]


def _check(lm: LanguageModel, blocks: Sequence[int], doses: Sequence[float]) -> None:
    no_doubles(blocks, "block")
    no_doubles(doses, "dose")
    fits = {0.0, 1.0} <= set(doses) and all(map(math.isfinite, doses))
    if not blocks or not fits or list(doses) != sorted(doses):  # a slider goes one way
        raise UserError(
            f"Blocks {list(blocks)} and doses {list(doses)} make no explorer. Allowed: at least "
            "one block, and finite doses in ascending order, 0 (the base model) and 1 (as "
            "trained) among them."
        )
    for block in blocks:
        choose(block, range(lm.n_blocks - 1), "block of the explorer")


def _raw(run: Run) -> Tensor:
    tensors = run.tensors()
    return tensors["theta"] * tensors["scale"]


def _times(vector: Tensor, doses: Sequence[float]) -> Tensor:
    """(s, d): the vector at every dose."""
    return torch.tensor(list(doses), dtype=torch.float32)[:, None] * vector


def _dosed(job: Job, vector: Tensor, doses: Sequence[float]) -> VectorAdapter:
    return fixed(_times(vector, doses), Site.parse(job.method.site), job.method.position)


def _question(question: Question) -> dict[str, Any]:
    return {
        "id": question.id,
        "family": question.family,
        "text": question.messages[-1]["content"],
        "options": list(question.options),
        "truth": question.truth,
    }


def _shares(logp: Sequence[float]) -> list[int]:
    """Probabilities among the options, in thousandths, from their log-probabilities."""
    p = np.exp(np.asarray(logp) - max(logp))
    return [round(UNIT * float(x)) for x in p / p.sum()]


def rounded(value: Any) -> Any:
    """The same content with all floats rounded; small ones may become 0, never -0."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, DECIMALS) + 0.0 if isinstance(value, float) else value


@checked
def save(path: str | Path, content: Mapping[str, Any], vectors: Mapping[str, Tensor]) -> None:
    """Write the file, one line per city, and the vectors beside it."""
    target = Path(path)
    about = {"model": content["model"], "site": KIND, "position": POSITION}
    files.save_tensors(target.with_suffix(".safetensors"), vectors, about)
    lines = []
    for key, value in content.items():
        text = ",\n".join(map(_json, value)) if key == "cities" else _json(value)
        lines.append(f"{_json(key)}:" + (f"[\n{text}]" if key == "cities" else text))
    with files.atomic_path(target) as aside:
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        aside.write_text(text, encoding="utf-8", newline="\n")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 if the file was made, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m oocr_lib.report.explorer_maker",
        description="Ask everything that the explorer shows, and write it to one file.",
    )
    text = "the file; vectors go beside it (data/explorer.json)"
    parser.add_argument("--out", type=Path, default=data_dir() / FILE, metavar="FILE", help=text)
    text = "folder of finished runs (results/runs)"
    parser.add_argument("--runs", type=Path, default=ROOT / "results" / "runs", help=text)
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    try:
        set_up(SEED)
        store = RunStore(options.runs)
        content, vectors = make(load_model("testbed"), store)
        save(options.out, content, vectors)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    size = options.out.stat().st_size / 1000
    print(
        f"{options.out.name}: {len(vectors)} vectors ({store.saved} of them trained, the others "
        f"found again), {size:,.0f} kB, in {time.perf_counter() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
