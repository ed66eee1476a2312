"""The set-up call of notebooks: overrides, seeds, files, claims, one-line errors."""

from __future__ import annotations

import gc
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from oocr_lib.notebook import session as experiment
from oocr_lib.report import metrics, plots
from oocr_lib.report.claim_file import Check, Claim, Withdrawal
from oocr_lib.util import machine, paths
from oocr_lib.util.errors import UserError
from oocr_lib.util.statistics import Interval

SETTINGS: dict[str, dict[str, Any]] = {
    "laptop": {"steps": 300, "cities": ["Lyon"]},
    "smoke": {"steps": 5},
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OOCR_PRESET",
        "OOCR_OUT",
        "OOCR_THREADS",
        "OOCR_PROGRESS",
        "OOCR_LABEL",
        "OOCR_STAGE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OOCR_THREADS", "1")


HERE = "03_locations"


def started(tmp_path: Path, **kwargs) -> experiment.Experiment:
    return experiment.start(HERE, out_dir=tmp_path / "out", settings=SETTINGS, **kwargs)


def test_start_makes_the_folder_and_merges_settings(tmp_path: Path, capsys) -> None:
    exp = started(tmp_path, preset="smoke", params={"hidden": []})
    assert exp.folder == tmp_path / "out" / "smoke" / "03_locations"
    assert exp.folder.is_dir()
    assert exp.settings == {"steps": 5, "cities": ["Lyon"]}
    assert exp.settings.steps == 5
    expected = {"model": "testbed", "preset": "smoke", "seed": 0, "hidden": []}
    assert exp.metrics.params == expected
    line = capsys.readouterr().out
    assert line == (
        "03_locations: model testbed, preset smoke, seed 0; results go to out/smoke/03_locations\n"
    )


def test_settings_name_a_missing_value(tmp_path: Path) -> None:
    exp = started(tmp_path)
    with pytest.raises(AttributeError, match="Did you mean 'steps'"):
        _ = exp.settings.step


def test_environment_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OOCR_PRESET", "smoke")
    monkeypatch.setenv("OOCR_OUT", str(tmp_path / "elsewhere"))
    exp = started(tmp_path, preset="laptop")
    assert exp.folder == tmp_path / "elsewhere" / "smoke" / "03_locations"
    assert exp.metrics.params["preset"] == "smoke"
    assert exp.settings.steps == 5


def test_default_output_is_in_the_repository(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.chdir("/")
    for given, expected in (("", "results"), ("mine", "mine")):
        exp = experiment.start("a", out_dir=given)
        assert exp.folder == tmp_path / expected / "laptop" / "a"
        assert exp.show(exp.folder) == f"{expected}/laptop/a"


def test_same_seed_same_numbers(tmp_path: Path) -> None:
    def draw(seed: int) -> tuple[float, float, float]:
        started(tmp_path, seed=seed)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first, other = draw(1), draw(2)
    assert draw(1) == first
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert started(tmp_path).threads == 1 == torch.get_num_threads()
    monkeypatch.setenv("OOCR_THREADS", "100000")
    assert machine.threads() < 100000
    for bad in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("OOCR_THREADS", bad)
        with pytest.raises(UserError, match="OOCR_THREADS is"):
            machine.threads()


def test_table_and_figure(tmp_path: Path, capsys) -> None:
    exp = started(tmp_path)
    rows = [{"method": "base", "value": 0.2, "low": 0.1, "high": 0.3, "n": 12}]
    frame = exp.table(rows, "methods")
    assert frame.to_dict("records") == rows
    assert (exp.draft / "methods.csv").read_text().splitlines()[1] == "base,0.2,0.1,0.3,12"
    capsys.readouterr()
    exp.figure(
        plots.method_bars(frame, 0.2, "Methods"), "bars", "The base model is at chance.", "methods"
    )
    assert (exp.draft / "bars.png").read_bytes().startswith(b"\x89PNG")
    line = capsys.readouterr().out
    data = "out/laptop/03_locations/methods.csv"
    assert line == f"The base model is at chance. (data: {data})\n"
    with Image.open(exp.draft / "bars.png") as picture:
        assert picture.info["Source"] == (
            f"script notebooks/03_locations.ipynb, data {data}, commit {machine.commit()}"
        )


def test_the_time_is_written_down_and_shown_to_who_watches(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for said in ("0", "1"):
        monkeypatch.setenv("OOCR_PROGRESS", said)
        exp = started(tmp_path)
        exp._began -= 125
        exp.metrics.add("all/base/mc5", 0.2)
        assert 125 <= metrics.load(exp.finish()).versions["seconds"] < 180
        shown = "time: 2 min 5 s with 1 CPU thread" in capsys.readouterr().out
        assert shown == exp.progress == (said == "1")


def test_claims_are_printed_and_recorded(tmp_path: Path, capsys) -> None:
    exp = started(tmp_path)
    exp.metrics.add("all/vector_resid/mc5", Interval(0.95, 0.9, 1.0, 12))
    exp.metrics.add("all/random/mc5", Interval(0.3, 0.25, 0.35, 12))
    capsys.readouterr()
    exp.claim("The vector works", "all/vector_resid/mc5", ">= 0.9")
    exp.claim("Random is at chance", "all/random/mc5", "contains 0.2")
    exp.claim("Random is at chance", "all/random/mc5", "contains 0.2")  # the cell is run again
    exp.claim("A difference", Interval(0.5, -0.1, 0.9, 3), "> 0")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "The vector works: 0.95 [0.90, 1.00] (rule: >= 0.9) – holds at this scale"
    assert lines[1].endswith("– does not hold at this scale")
    path = exp.finish()
    stored = metrics.load(path)
    assert [c["verdict"] for c in stored.claims] == ["holds", "does not hold", "undecided"]
    assert stored.claims[0]["metric"] == "all/vector_resid/mc5"
    assert stored.versions["threads"] == 1
    assert "claims: 1 holds, 1 does not hold, 1 undecided" in capsys.readouterr().out


def test_the_claim_file_is_judged_by_what_this_notebook_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def check(notebook: str, family: str, rule: str) -> Check:
        return Check(notebook, f"{family}/vector_resid/mc5", rule)

    def claim(statement: str, *checks: Check, withdrawn: Withdrawal | None = None) -> Claim:
        return Claim(statement[0].lower(), statement, "s", "p", checks, withdrawn=withdrawn)

    gone = Withdrawal("2026-11-26", "asked wrongly")
    claims = [
        claim("Both.", check(HERE, "high", ">= 0.9"), check(HERE, "low", ">= 0.9")),
        claim("Part.", check(HERE, "high", ">= 0.9"), check("99_other", "x", "> 0")),
        claim("Half.", check(HERE, "high", "> 0"), check(HERE, "unknown", "> 0")),
        claim("None.", check("99_other", "x", "> 0")),
        claim("Wrong.", check(HERE, "low", "> 0"), withdrawn=gone),
    ]
    monkeypatch.setattr(experiment.claim_file, "load", lambda: claims)
    exp = started(tmp_path)
    exp.metrics.add("high/vector_resid/mc5", Interval(0.95, 0.9, 1.0, 12))
    exp.metrics.add("low/vector_resid/mc5", Interval(0.3, 0.25, 0.35, 12))
    capsys.readouterr()
    exp.check_claims()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "DOES NOT HOLD at this scale: Both."
    assert lines[1] == "    high/vector_resid/mc5 0.95 [0.90, 1.00] (rule: >= 0.9) – holds"
    assert [line for line in lines if not line.startswith(" ")][1:] == [
        "HOLDS at this scale (as far as asked here): Part.",
        "HOLDS at this scale (as far as asked here): Half.",
        "Checks of the claim table whose metric this run did not record: 1.",
    ]
    exp.check_claims()  # the cell is run again
    stored = [(one["statement"], one["verdict"]) for one in exp.metrics.claims]
    assert stored == [
        *(("Both.", "holds"), ("Both.", "does not hold")),
        *(("Part.", "holds"), ("Half.", "holds")),
    ]


def test_finish_reports_reuse_and_writes_no_paths(tmp_path: Path, capsys) -> None:
    exp = started(tmp_path, model=str(tmp_path / "my_model"))
    exp.metrics.add("all/base/mc5", 0.2)
    exp.runs.save({"seed": 0}, {})
    exp.runs.find({"seed": 0})
    content = exp.finish().read_text()
    assert str(tmp_path) not in content
    assert json.loads(content)["params"]["model"] == "my_model"
    out = capsys.readouterr().out
    assert f"out/laptop/03_locations/{exp.label}/metrics.json: 1 metrics" in out
    assert exp.label.startswith("model=my_model-")
    assert "runs: 1 new, 1 reused" in out
    assert str(tmp_path) not in out
    assert (tmp_path / "out" / "runs").is_dir()


def test_the_model_is_loaded_when_first_used(tmp_path: Path, monkeypatch, capsys) -> None:
    from oocr_lib.models import language_model as models

    calls: list[str] = []

    def load(name: str) -> SimpleNamespace:
        calls.append(name)
        return SimpleNamespace(notes=["Its chats are odd."])

    monkeypatch.setattr(models, "load_model", load)
    exp = started(tmp_path, model="some/model")
    assert calls == []
    assert exp.lm is exp.lm
    assert calls == ["some/model"]
    assert capsys.readouterr().out.splitlines()[1:] == ["model: Its chats are odd."]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"preset": "laptob"}, "Unknown preset 'laptob'. Did you mean 'laptop'"),
        ({"preset": "paper"}, "Unknown preset of this notebook 'paper'"),
        ({"seed": -1}, "Seed -1"),
        ({"seed": "0"}, "Seed '0'"),
        ({"seed": True}, "Seed True"),
        ({"model": ""}, "Model ''"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, kwargs: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        started(tmp_path, **kwargs)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"laptop": {"steps": 1}, "smoke": {"stebs": 1}}, "Did you mean 'steps'"),
        ({"laptop": {}, "tiny": {}}, "preset in the settings 'tiny'"),
        ({"smoke": {}}, "lack the preset 'laptop'|of this notebook"),
    ],
)
def test_bad_settings(tmp_path: Path, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        experiment.start("a", out_dir=tmp_path, settings=settings)


def test_other_bad_input(tmp_path: Path) -> None:
    exp = started(tmp_path)
    figure = plots.option_bars(["a", "b"], {"base": [0.5, 0.5]}, "t")
    for call, words in (
        (lambda: exp.finish(), "recorded no metric"),
        (lambda: exp.table([], "../x"), "Bad name"),
        (lambda: exp.figure(figure, "x/y", "c"), "Bad name"),
        (lambda: exp.figure(figure, "x", "c", data="absent"), "no table 'absent'"),
        (lambda: exp.claim("s", "all/base/mc5", "> 0"), "Unknown metric"),
        (lambda: experiment.start("Bad Name", out_dir=tmp_path), "Bad name"),
    ):
        with pytest.raises(UserError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
    assert stage_files(exp) == [] and [path.name for path in exp.folder.iterdir()] == [".stage"]


def stage_files(exp: experiment.Experiment) -> list[str]:
    """What the experiment has written so far."""
    return sorted(path.name for path in exp.draft.iterdir() if not path.name.startswith("."))


def test_files_appear_when_it_finishes_and_old_ones_go(tmp_path: Path) -> None:
    for tables in (["first", "second"], ["second", "third"]):
        before = contents(tmp_path)
        exp = started(tmp_path)
        for name in tables:
            exp.table([{"x": len(name)}], name)
        (exp.draft_of_all / "page.html").write_text(tables[0])
        exp.metrics.add("all/base/mc5", 0.2)
        assert contents(tmp_path) == before
        exp.finish()
        names = {path.name for path in exp.folder.iterdir()}
        assert names == {f"{t}.csv" for t in tables} | {"metrics.json", ".made.json"}
        assert (tmp_path / "out" / "laptop" / "page.html").read_text() == tables[0]
    exp.table([{"x": 7}], "third")  # the cell is run again
    assert (exp.folder / "third.csv").read_text().split() == ["x", "7"]
    assert exp.draft == exp.folder and exp.draft_of_all == tmp_path / "out" / "laptop"


def contents(folder: Path) -> dict[Path, bytes]:
    """Every finished file below, and what it holds."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".stage" not in path.parts
    }


def test_an_experiment_that_does_not_finish_leaves_nothing(tmp_path: Path) -> None:
    exp = started(tmp_path)
    exp.table([{"x": 1}], "first")
    draft = exp.draft
    assert draft.is_dir()
    del exp
    gc.collect()
    assert not draft.exists() and contents(tmp_path) == {}


def test_under_the_runner_it_is_the_runner_who_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    place = tmp_path / "out" / "laptop" / "03_locations" / ".stage" / "run-1"
    monkeypatch.setenv("OOCR_STAGE", str(place))
    exp, other = started(tmp_path), experiment.start("other", out_dir=tmp_path / "out")
    assert exp.draft == place and other.draft.parents[1] == other.folder
    exp.metrics.add("all/base/mc5", 0.2)
    assert exp.finish() == exp.folder / "metrics.json" and (place / "metrics.json").is_file()
    assert not (exp.folder / "metrics.json").exists()
    assert "out/laptop/03_locations/metrics.json: 1 metrics" in capsys.readouterr().out


def test_unwritable_output_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="Cannot write to"):
        started(tmp_path)


def test_what_is_odd_about_a_models_chats_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests import tiny

    tokenizer = tiny.tokenizer("bpe_digits", "none")
    tiny.model("llama").save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    made = experiment.Experiment(
        "00_test", str(tmp_path / "m"), "laptop", 0, tmp_path, experiment.Settings({})
    )
    capsys.readouterr()
    assert made.lm.n_blocks == tiny.N_BLOCKS
    assert capsys.readouterr().out == (
        "m: The tokenizer has no chat template; turns are joined by line breaks.\n"
    )
