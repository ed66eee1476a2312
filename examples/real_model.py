"""One vector in a real language model: SmolLM2-135M-Instruct, on two CPU cores.

    oocr fetch smollm2
    python examples/real_model.py            # ten cities, about 15 minutes; --cities 5 is quicker

Hints are attributes of a coded city (language, currency, dish, sight, water). Country, continent
and name are never hinted at. First, does the model know enough? Then one vector at the code name,
its block and rate chosen by validation loss on five other cities, beside the base model, a vector
trained on random answers, and fifty random directions as long as the vector. Finished runs are
kept in ``results/runs``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import oocr_lib as oocr
from oocr_lib import tasks
from oocr_lib.analysis import knowledge, random_directions
from oocr_lib.runs import protocol
from oocr_lib.runs.grid import Grid, Method
from oocr_lib.runs.presets import LAPTOP, Settings
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from oocr_lib.tasks.locations.attributes import ASKED
from oocr_lib.tasks.locations.testbed import HIDDEN
from oocr_lib.training.loop import TrainConfig
from oocr_lib.util.machine import set_up

#: Cities that choose the block and the rate, and are not among those that are measured.
CHOOSING = ("Athens", "Seoul", "Nairobi", "Havana", "Sydney")
#: Blocks to choose from, as shares of the model's depth, and rates in units of the site's norm.
DEPTHS, RATES = (0.2, 0.33, 0.47, 0.6, 0.73), (0.005, 0.01, 0.02)


def grid(lm: oocr.LanguageModel, cities: tuple[str, ...], store: RunStore) -> Grid:
    """Runs on some cities, whose answers are each other's options."""
    given = {"hints": ["attributes"], "in_words": True, "all_hidden": cities}
    make = tasks.factory("locations", "paper", **given)
    spec = {"task": "locations", "dialect": "paper", **given, "all_hidden": list(cities)}
    return Grid(lm, store, make, spec, cities[0], progress=True)


def vector(block: int, rate: float, steps: int = 60) -> Method:
    """A vector at the code name, in the residual stream after a block."""
    return protocol.vector("resid", block, TrainConfig(steps, 4, rate, warmup=3, schedule="linear"))


def table(answers: pd.DataFrame) -> pd.DataFrame:
    """Share right among five by method and family, with 95 % intervals over cities."""
    found = protocol.intervals(answers, ["method", "family"], "mc")
    shown = [f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in found.itertuples()]
    wide = found.assign(shown=shown).pivot(index="method", columns="family", values="shown")
    return wide.reindex(columns=list(ASKED))


def main(arguments: list[str] | None = None) -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="or a folder, a .gguf file, a hub name")
    parser.add_argument("--cities", type=int, default=10, choices=(5, 10))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("results") / "runs")
    given = parser.parse_args(arguments)
    set_up(given.seed)
    lm, store = oocr.load(given.model), RunStore(given.runs)
    hidden = HIDDEN[: given.cities]
    pairs = [(city, given.seed) for city in hidden]
    measured, choosing = grid(lm, hidden, store), grid(lm, CHOOSING, store)

    print("\nDoes the model know enough? Share right, by how the city is given")
    known = knowledge.ask(lm, [measured.task(*pair).task for pair in pairs])
    print(knowledge.verdicts(known).drop(columns="part").to_string(index=False))

    few = [(city, given.seed) for city in CHOOSING]
    blocks = sorted({round(lm.n_blocks * depth) for depth in DEPTHS})
    sweep = protocol.sweep(choosing, lambda b: vector(b, 0.01), blocks, few, "blocks")
    block = protocol.choose_block(sweep)
    method, rates = protocol.choose_rate(choosing, vector(block, 0.01), RATES, few, "rates")
    print("\nValidation loss on the choosing cities (their questions play no part)")
    print(sweep.groupby("block")["valid_loss"].mean().round(2).to_string())
    print(rates.groupby("lr")["valid_loss"].mean().round(2).to_string())
    print(f"chosen: block {block}, rate {method.config.lr}")

    methods = [Method("base", "base"), method, protocol.random_answers(method)]
    answers = [measured.run(protocol.jobs(one, pairs), one.name) for one in methods]
    print(f"\nShare right among five, chance 0.20; {len(pairs)} cities, seed {given.seed}")
    print(table(pd.concat(answers)).to_string())

    study = Study(measured, Settings(LAPTOP), range(lm.n_blocks), pairs, "codename")
    few_pairs = pairs[:5]
    beside = random_directions.among(study, method, few_pairs, accuracy, ASKED)
    print("\nThe trained vector among 50 random directions of its length (mean of all families)")
    print(beside.round(2).to_string(index=False))


def accuracy(answers: pd.DataFrame) -> pd.DataFrame:
    """One row a run: mean share right over the families that are asked."""
    found = answers[answers["family"].isin(ASKED)]
    keys = ["method", "concept", "seed", "run"]
    return found.groupby(keys, sort=False)["mc"].mean().rename("accuracy").reset_index()


if __name__ == "__main__":
    main()
