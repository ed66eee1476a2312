"""The Snakemake workflow runs, goes on after a kill, and reruns only what a change touches.

A stand-in takes the place of the batch command, so what runs here is Snakemake and our Snakefile.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT
from tests import tiny_notebooks

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("snakemake") is None, reason="the extra 'workflow' is not installed"
)
WORKFLOW = ROOT / "workflow"
NAMES = ("00_first", "01_second", "11_claims")
#: Writes what the batch command writes; slow or failing where a file says so.
STAND_IN = """\
import argparse, pathlib, time
parser = argparse.ArgumentParser()
parser.add_argument("notebook", type=pathlib.Path)
parser.add_argument("-p", action="append", default=[])
parser.add_argument("--preset")
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--label", default="")
given = parser.parse_args()
name = given.notebook.stem
folder = given.out / given.preset / name / given.label
folder.mkdir(parents=True, exist_ok=True)
with open("runs.txt", "a") as file:
    print(name, *given.p, file=file)
if pathlib.Path("slow").exists() and pathlib.Path("slow").read_text() == name:
    (folder / "metrics.json").write_text("half")
    time.sleep(60)
if pathlib.Path("broken").exists() and pathlib.Path("broken").read_text() == name:
    (folder / f"{name}.failed.ipynb").write_text("the error")
    raise SystemExit("cell 3 failed")
(folder / "map.png").write_text("a map")
(folder / "metrics.json").write_text("{}")
(folder / f"{name}.ipynb").write_text("executed")
"""
DRAWS = """\
exp.figure(a_map, "map", "Where it is.")
if preset == "full":
    exp.table(rows, "only_sometimes")
"""


def prepare(place: Path, **changes: Any) -> Path:
    """A folder with tiny notebooks, the stand-in, and a configuration."""
    (place / "notebooks").mkdir(parents=True)
    for name in NAMES:
        tiny_notebooks.write(place / "notebooks", name, DRAWS)
    (place / "stand_in.py").write_text(STAND_IN)
    configure(place, **changes)
    return place


def configure(place: Path, **changes: Any) -> None:
    command = f"{sys.executable} -S stand_in.py"
    grid = {"00_first": {"seed": [0, 1], "rate": 0.1}}
    config = {"preset": "smoke", "command": command, "grid": grid} | changes
    (place / "mine.json").write_text(json.dumps(config))


def start(place: Path, *options: str, profile: str = "laptop") -> subprocess.Popen[str]:
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {"PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": str(place / "cache")}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile")]
    command += ["--workflow-profile", str(WORKFLOW / "profiles" / profile)]
    return subprocess.Popen(
        [*command, "--configfile", "mine.json", *options],
        cwd=place, env=os.environ | environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def snakemake(place: Path, *options: str, profile: str = "laptop", code: int = 0) -> str:
    process = start(place, *options, profile=profile)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == code, text
    return text


def ran(place: Path) -> list[str]:
    """Notebooks and parameters, in the order in which they were started; then forget them."""
    lines = (place / "runs.txt").read_text().splitlines()
    (place / "runs.txt").unlink()
    return lines


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workflow that ran to its end."""
    place = prepare(tmp_path_factory.mktemp("workflow") / "place")
    snakemake(place)
    return place


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished workflow, with the times of its files."""
    place = tmp_path / "place"
    shutil.copytree(finished, place)
    (place / "runs.txt").unlink()
    return place


def test_laptop_profile_runs_everything_in_order(finished: Path) -> None:
    runs = (finished / "runs.txt").read_text().splitlines()
    assert runs == [
        "00_first", "00_first rate=0.1", "00_first seed=1 rate=0.1", "01_second", "11_claims",
    ]  # fmt: skip
    results = finished / "results" / "smoke"
    made = {str(path.parent.relative_to(results)) for path in results.rglob("metrics.json")}
    assert made == {*NAMES, "00_first/rate=0.1", "00_first/seed=1,rate=0.1"}


def test_second_call_does_nothing(place: Path) -> None:
    assert "Nothing to be done" in snakemake(place)
    assert not (place / "runs.txt").exists()


def test_changed_parameter_reruns_its_job_and_the_claims(place: Path) -> None:
    configure(place, grid={"00_first": {"seed": [0, 2], "rate": 0.1}})
    snakemake(place)
    assert ran(place) == ["00_first seed=2 rate=0.1", "11_claims"]


@pytest.mark.long
def test_goes_on_after_a_kill(tmp_path: Path) -> None:
    place = prepare(tmp_path / "place", grid={})
    (place / "slow").write_text("01_second")
    process = start(place)
    half = place / "results" / "smoke" / "01_second" / "metrics.json"
    end = time.monotonic() + 60
    while not (half.exists() and half.read_text()):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # Snakemake and its children, as when the power fails
    process.communicate()
    assert ran(place) == ["00_first", "01_second"]
    (place / "slow").unlink()
    snakemake(place, "--unlock")  # as in the Makefile
    snakemake(place)
    assert ran(place) == ["01_second", "11_claims"]
    assert half.read_text() == "{}"


def test_failed_notebook_is_tried_twice_and_kept(tmp_path: Path) -> None:
    place = prepare(tmp_path / "place", grid={"01_second": {"seed": 1}})
    (place / "broken").write_text("00_first")
    text = snakemake(place, code=1)
    # Those that do not need it still run; the claims do not.
    assert sorted(ran(place)) == ["00_first", "00_first", "01_second", "01_second seed=1"]
    folder = place / "results" / "smoke" / "00_first"
    kept = {path.name: path.read_text() for path in folder.iterdir()}
    assert kept == {"00_first.failed.ipynb": "the error", "batch.log": "cell 3 failed\n"}
    assert "cell 3 failed" in text


@pytest.mark.long
@pytest.mark.parametrize("profile", ["slurm", "kubernetes"])
def test_cluster_profile_plans_gpu_jobs(profile: str, tmp_path: Path) -> None:
    # A dry run contacts no cluster: this shows the plan and that the profile is well-formed.
    pytest.importorskip(f"snakemake_executor_plugin_{profile}")
    place = prepare(tmp_path / "place", preset="full")
    text = snakemake(place, "--dry-run", profile=profile)
    jobs = dict(re.findall(r"^rule (nb_\w+):.*?^    resources: (.*?)$", text, re.M | re.S))
    assert list(jobs)[-1] == "nb_11_claims" and len(jobs) == 5
    for resources in jobs.values():
        assert {"gpu=1", "mem_mb=16000", "runtime=720"} <= set(resources.split(", "))
        assert ("gpu_manufacturer=" in resources) is (profile == "kubernetes")


def test_gpu_only_where_the_preset_needs_one() -> None:
    config = yaml.safe_load((WORKFLOW / "config.yaml").read_text())
    assert config["gpu"] == {"smoke": 0, "laptop": 0, "full": 1, "paper": 1}
    assert set(config["gpu"]) == set(config["mem_mb"]) == set(config["runtime"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "labtop"}, "Did you mean 'laptop'"),
        ({"notebooks": ["00_frist"]}, "Did you mean '00_first'"),
        ({"grid": {"00_first": {"sede": [1]}}}, "Did you mean 'seed'"),
        ({"grid": {"00_first": {"seed": ["one"]}}}, "a whole number"),
        ({"grid": {"00_first": {"model": "a,b"}}}, "comma"),
    ],
)
def test_bad_configuration_is_one_clear_line(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(WORKFLOW))
    jobs = importlib.import_module("notebook_jobs")
    folder = prepare(tmp_path / "place") / "notebooks"
    config = yaml.safe_load((WORKFLOW / "config.yaml").read_text()) | {"folder": str(folder)}
    with pytest.raises(UserError, match=message):
        jobs.plan(config | changes)


def test_make_runs_it_without_a_need_for_it_elsewhere() -> None:
    def plan(*words: str) -> str:
        done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout

    text = plan("workflow", "PRESET=smoke", "OUT=elsewhere")
    assert "--workflow-profile workflow/profiles/laptop" in text
    assert "preset=smoke out=elsewhere" in text
    assert "snakemake" not in plan("reproduce") + plan("test")
