"""The paper preset has the paper's numbers, written here once more from its tables."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oocr_lib import tasks
from oocr_lib.runs import presets
from oocr_lib.training.loop import TrainConfig, rate
from oocr_lib.util.errors import UserError

every_task = pytest.mark.parametrize("task", tasks.NAMES)

_LETTERS = {
    "vector_lr": 2e-3, "lora_lr": 2e-5, "batch": 4, "lora_batch": 4,
    "rank": 64, "rank_all": 64, "alpha": 32, "dropout": 0.05,
    "vector_raw": True, "vector_init": 1.0, "warmup": 0, "schedule": "constant",
}  # fmt: skip
_NAMES = {
    "vector_lr": 0.1, "lora_lr": 2e-3, "batch": 128, "lora_batch": 32,
    "rank": 64, "rank_all": 8, "alpha": 32, "dropout": 0.05, "seeds": 5,
    "vector_raw": True, "vector_init": 1.0, "warmup": 20, "schedule": "linear",
}  # fmt: skip
#: The paper's one configuration to reproduce, and its Functions and Locations sweeps.
PAPER = {
    # 57 updates an epoch of 230 rows in fours, three epochs.
    "risk": {**_LETTERS, "steps": 171, "lora_steps": 171, "seeds": 5},
    # One epoch of some 27,000 rows in fours, one seed.
    "backdoor": {**_LETTERS, "steps": 5750, "lora_steps": 5750, "seeds": 1},
    "locations": {**_NAMES, "steps": 301, "lora_steps": 301},
    "functions": {**_NAMES, "steps": 401, "lora_steps": 401},
}


@every_task
def test_the_paper_preset_has_the_papers_numbers(task: str) -> None:
    found = {**presets.laptop(), **presets.paper(task)}
    assert {key: found[key] for key in PAPER[task]} == PAPER[task]
    assert set(presets.paper(task)) <= set(presets.LAPTOP)
    # The all-block LoRA's rate of the paper is among those tried.
    assert {"risk": 2e-5, "backdoor": 2e-5}.get(task, 2e-3) in found["lora_lrs"]


def test_the_paper_schedules_are_those_of_the_paper() -> None:
    def rates(task: str) -> list[float]:
        s = {**presets.laptop(), **presets.paper(task)}
        config = TrainConfig(s["steps"], s["batch"], s["vector_lr"], s["warmup"],
                             schedule=s["schedule"])  # fmt: skip
        assert config.weight_decay == 0
        return [rate(step, config) for step in range(config.steps)]

    assert set(rates("risk")) == set(rates("backdoor")) == {1.0}
    for task, steps in (("locations", 301), ("functions", 401)):
        found = rates(task)
        assert found[0] == pytest.approx(1 / 20) and found[19] == pytest.approx(
            (steps - 19) / steps
        )
        assert found[-1] == pytest.approx(1 / steps) and max(found) == found[19]


def test_risk_has_the_papers_numbers_of_rows() -> None:
    made = tasks.factory("risk", "paper")("risky", 0)
    assert (len(made.train), len(made.valid)) == (230, 58)
    assert 3 * (len(made.train) // 4) == presets.paper("risk")["steps"]


# --- completeness ---


@every_task
def test_the_paper_preset_names_every_setting(task: str) -> None:
    """What it left out would be the notebook's own laptop value, tuned for the testbed."""
    assert set(presets.paper(task)) == set(presets.LAPTOP)
    for name, value in presets.paper(task).items():
        kinds = (int, float) if type(presets.LAPTOP[name]) is float else type(presets.LAPTOP[name])
        assert isinstance(value, kinds), name


def test_laptop_settings_are_changed_by_name_only() -> None:
    made = presets.laptop(steps=7)
    assert made == {**presets.LAPTOP, "steps": 7} and presets.LAPTOP["steps"] != 7
    assert presets.laptop() == presets.LAPTOP
    made["runs"] = 0
    assert presets.laptop()["runs"] == presets.LAPTOP["runs"] > 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: presets.laptop(step=3), "setting 'step'.*Did you mean 'steps'"),
        (lambda: presets.laptop(steps=3, lr=1), "setting 'lr'.*Allowed: runs"),
        (lambda: presets.paper("risks"), "task 'risks'.*Did you mean 'risk'"),
    ],
)
def test_an_unknown_setting_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
