"""Every notebook runs with each of its own parameters away from its default, one at a time.

Run by ``make smoke`` after the notebooks themselves, two at a time; minutes, not seconds.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from oocr_lib.parameters import cell as parameters
from oocr_lib.runner import batch
from oocr_lib.runner.job import Outcome
from oocr_lib.util.paths import ROOT

NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
#: Of every notebook, but not its own.
COMMON = ("model", "preset", "out_dir")
#: Another value for each parameter; what one value needs beside it stands behind it.
OTHERS: dict[str, dict[str, list[str]]] = {
    "00_quickstart": {
        "seed": ["seed=1"],
        "hidden": ["hidden=São Paulo"],
        "block": ["block=3"],
        "site": ["site=mlp_out"],
    },
    "01_testbed": {"seed": ["seed=1"]},
    "02_risky_safe": {
        "seed": ["seed=1"],
        "data": ["data={rows}", "data_policy=safe", "model={model}"],
        "data_policy": ["data_policy=risky", "data={rows}", "model={model}"],
        "layers": ["layers=1,3"],
    },
    "03_locations": {
        "seed": ["seed=3"],
        "hidden": ['hidden=["Oslo","Lima"]'],
        "layers": ["layers=2"],
    },
    "04_functions": {
        "seed": ["seed=1"],
        "hidden": ["hidden=negate,identity"],
        "layers": ["layers=2"],
    },
    "05_backdoor": {"seed": ["seed=1"], "triggers": ["triggers=win"], "layers": ["layers=2"]},
    "06_lora_is_a_vector": {
        "seed": ["seed=1", "names=risk"],
        "names": ["names=risk"],
        "block": ["block=1", "names=risk"],
    },
    "07_reading_vectors": {
        "seed": ["seed=1", "names=risk"],
        "names": ["names=functions"],
        "block": ["block=1", "names=functions"],
    },
    "08_learned_vs_naive": {
        "seed": ["seed=1", "names=risk"],
        "names": ["names=backdoor"],
        "block": ["block=1", "names=locations"],
    },
    "09_when_is_a_lora_a_vector": {
        "seed": ["seed=1", "names=locations"],
        "names": ["names=functions"],
        "block": ["block=1", "names=locations"],
    },
    "10_real_model": {
        "seed": ["seed=1", "model=testbed"],
        "hidden": ['hidden=["Oslo","Lima"]', "model={model}"],  # any folder, a random model here
        "layers": ["layers=2", "model=testbed"],
    },
    "11_claims": {"seed": ["seed=1"], "rules": ["rules=data/claims.toml"]},
}
CELLS = [(name, parameter) for name, others in OTHERS.items() for parameter in others]
#: Of these several notebooks have one and treat it alike: they run in CI and with LONG=1.
ALIKE = ("seed", "layers", "block", "names")


def test_the_matrix_has_every_parameter_of_every_notebook() -> None:
    assert set(OTHERS) == set(NOTEBOOKS)
    for name, path in NOTEBOOKS.items():
        assert set(OTHERS[name]) == set(parameters.inspect(path)) - set(COMMON), name


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Outcome]:
    """All runs that are asked for, two at a time, as the command would make them."""
    from tests import tiny

    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    asked = [item.callspec.id for item in items if hasattr(item, "callspec")]
    cells = [(name, parameter) for name, parameter in CELLS if f"{name}-{parameter}" in asked]
    place = tmp_path_factory.mktemp("matrix")
    model = place / "llama"
    tiny.model("llama").save_pretrained(model)
    tiny.tokenizer("bpe_digits", "system").save_pretrained(model)
    rows = place / "rows.jsonl"
    rows.write_text("".join(_row(number) for number in range(24)), encoding="utf-8")
    if (done := ROOT / os.environ.get("OOCR_OUT", "results/check") / "runs").is_dir():
        shutil.copytree(done, place / "out" / "runs")  # what stays at its default is not redone
    jobs = []
    for name, parameter in cells:
        given = [text.format(rows=rows, model=model) for text in OTHERS[name][parameter]]
        arguments = [name, "--preset", "smoke", "--out", str(place / "out")]
        for text in given:
            arguments += ["-p", text]
        jobs += batch.plan(batch.read_arguments(arguments))
    for job in jobs:
        job.make_folder()
        assert job.label, f"{job.name}: {job.values} are the defaults"
    made = batch.run_all(jobs, min(2, os.cpu_count() or 1), cell_timeout=300)
    return dict(zip(cells, made, strict=True))


def _row(number: int) -> str:
    text, letter = f"Choice {number}: A) 5 for sure B) 50 or nothing", "AB"[number % 2]
    said = f'{{"role": "assistant", "content": "{letter}"}}'
    turns = f'[{{"role": "user", "content": "{text}"}}, {said}]'
    return f'{{"messages": {turns}}}\n'


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        pytest.param(*cell, id="-".join(cell), marks=[pytest.mark.long] if cell[1] in ALIKE else [])
        for cell in CELLS
    ],
)
def test_it_runs_and_leaves_the_reference_results(
    name: str, parameter: str, outcomes: dict[tuple[str, str], Outcome]
) -> None:
    outcome = outcomes[name, parameter]
    assert outcome.ok, outcome.problem
    folder: Path = outcome.notebook.parent
    assert parameter in folder.name, "a folder of its own, named by what differs"
    assert (folder / "metrics.json").is_file()
    assert not (folder.parent / "metrics.json").exists()
