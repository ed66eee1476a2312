"""Hyperparameters by preset, the paper's among them.

A notebook's ``laptop`` settings start from ``LAPTOP`` and name what differs; ``paper(task)`` gives
the paper's own (its training details; it has one seed, here there are five except for backdoor).
"""

from __future__ import annotations

from typing import Any

from oocr_lib.util.errors import UserError, choose

PRESETS = ("smoke", "laptop", "full", "paper")

#: Blocks of a layer sweep on a laptop, at most.
SWEPT = 10

#: What every task notebook sets. Learning rates of vectors are in units of the site's typical
#: norm, unless ``vector_raw``: then in the model's own units, as in the paper.
LAPTOP: dict[str, Any] = {
    "runs": 12,  # runs of every method in the comparison
    "sweep_runs": 4,  # runs per block and site in the layer sweep
    "lora_runs": 2,  # the same for LoRAs
    "seeds": 3,
    "steps": 60,  # optimiser steps of a vector
    "batch": 8,  # rows per step of a vector
    "vector_lr": 0.05,
    "vector_raw": False,
    "vector_init": 0.0,  # length of the random start
    "lora_steps": 60,
    "lora_batch": 8,
    "lora_lr": 0.03,  # one block
    "lora_lrs": [0.003, 0.01, 0.03],  # grid of the all-block LoRA
    "rank": 16,
    "rank_all": 8,
    "alpha": 32.0,
    "dropout": 0.0,
    "warmup": 5,
    "schedule": "linear",  # after the warm-up: linear to 0, or constant
}

#: Scenarios of the backdoor notebook; each is in ten rows. Both dialects can balance this number.
SCENARIOS = 96
#: What notebooks 02 to 05 set in preset laptop. Rates of vectors are in units of the site's norm.
TASKS: dict[str, dict[str, Any]] = {
    "risk": {
        "runs": 12,  # 2 policies x 6 seeds
        "sweep_runs": 12,
        **{"steps": 60, "batch": 16, "vector_lr": 0.01},
        **{"lora_steps": 40, "lora_batch": 16, "lora_lr": 0.01, "lora_lrs": [0.001, 0.003, 0.01]},
    },
    "locations": {
        "runs": 15,  # 10 cities, seeds in turn
        "seeds": 3,
        **{"steps": 60, "vector_lr": 0.05},
        "lora_lr": 0.06,  # one block; best of .003 to .12 by validation loss
        **{"lora_steps": 60, "lora_lrs": [0.003, 0.01, 0.03]},
    },
    "functions": {
        "runs": 19,  # every function once, seeds in turn
        **{"sweep_runs": 2, "lora_runs": 1, "steps": 80, "vector_lr": 0.05},
        **{"lora_steps": 40, "lora_lr": 0.03, "lora_lrs": [0.01, 0.03]},
    },
    "backdoor": {
        "runs": 12,  # 3 triggers x 4 seeds
        **{"sweep_runs": 2, "lora_runs": 2, "seeds": 4},
        **{"steps": 200, "batch": 16, "vector_lr": 0.02},
        **{"lora_steps": 40, "lora_batch": 8, "lora_lr": 0.04, "lora_lrs": [0.003, 0.01, 0.03]},
    },
}

#: Paper, training details: rank 64, alpha 32, dropout 0.05, down projections, unit-length
#: start of vectors, absolute learning rates.
_COMMON: dict[str, Any] = {
    "sweep_runs": 2,
    "lora_runs": 2,
    "seeds": 5,
    "vector_raw": True,
    "vector_init": 1.0,
    "rank": 64,
    "rank_all": 64,
    "alpha": 32.0,
    "dropout": 0.05,
}
#: Letters only: batch 4, 3 epochs of 230 rows, constant rate.
_LETTERS: dict[str, Any] = {
    **_COMMON,
    "runs": 10,
    "steps": 171,
    "batch": 4,
    "vector_lr": 2e-3,
    "lora_steps": 171,
    "lora_batch": 4,
    "lora_lr": 2e-5,
    "lora_lrs": [2e-5, 1e-4, 5e-4],
    "warmup": 0,
    "schedule": "constant",
}
#: Code names: batch 128 for vectors and 32 for LoRAs, 20 warm-up steps, linear decay. The paper's
#: all-block LoRA had one untested rate (2e-3); the grid adds smaller ones.
_NAMES: dict[str, Any] = {
    **_COMMON,
    "runs": 10,
    "batch": 128,
    "vector_lr": 0.1,
    "lora_batch": 32,
    "lora_lr": 2e-3,
    "lora_lrs": [2e-5, 2e-4, 2e-3],
    "rank_all": 8,
    "warmup": 20,
    "schedule": "linear",
}
_PAPER: dict[str, dict[str, Any]] = {
    "risk": _LETTERS,
    # One epoch of our 23,000 training rows.
    "backdoor": {**_LETTERS, "runs": 3, "sweep_runs": 1, "lora_runs": 1, "seeds": 1}
    | {"steps": 5750, "lora_steps": 5750},
    "locations": {**_NAMES, "steps": 301, "lora_steps": 301},
    "functions": {**_NAMES, "steps": 401, "lora_steps": 401},
}


def laptop(**changes: Any) -> dict[str, Any]:
    """The laptop settings of a notebook: ``LAPTOP`` with its own values.

    Raises:
        UserError: a setting that does not exist.
    """
    for name in changes:
        choose(name, LAPTOP, "setting")
    return {**LAPTOP, **changes}


def blocks(count: int, preset: str) -> list[int]:
    """Blocks of a layer sweep over ``count`` blocks: all, or ``SWEPT`` evenly spaced if more.

    Args:
        preset: ``full`` and ``paper`` take all.
    """
    if count <= SWEPT or choose(preset, PRESETS, "preset") in ("full", "paper"):
        return list(range(count))
    return [round(i * (count - 1) / (SWEPT - 1)) for i in range(SWEPT)]


def paper(task: str) -> dict[str, Any]:
    """The paper's hyperparameters for a task, for a model of its size on an accelerator.

    Raises:
        UserError: an unknown task.
    """
    return dict(_PAPER[choose(task, _PAPER, "task")])


class Settings(dict[str, Any]):
    """The preset's values, as items or attributes: ``exp.settings.steps``."""

    def __getattr__(self, name: str) -> Any:
        """The value called ``name``; the error for an unknown name lists all names."""
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[choose(name, self, "setting")]
        except UserError as error:  # hasattr and copy expect an AttributeError
            raise AttributeError(str(error)) from error
