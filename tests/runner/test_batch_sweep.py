"""Sweeps with real kernels: finished runs are reused, killed ones go on, two batches share."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import batch_kill
from benchmarks.batch_kill import complete, counts
from oocr_lib.notebook import finished
from tests import tiny_notebooks

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def another_preset() -> Iterator[None]:
    """What the surroundings say is not what a batch runs: these sweeps are of preset laptop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OOCR_PRESET", "full")
        yield


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """A batch over ``sweep.ipynb`` in the background, whose output is kept."""
    return batch_kill.start(folder, *options, output=subprocess.PIPE)


def run(folder: Path, *options: str) -> tuple[int, str, str]:
    child = start(folder, *options)
    out, errors = child.communicate(timeout=300)
    return child.returncode, out, errors


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, str, str]]:
    folder = tmp_path_factory.mktemp("sweep")
    tiny_notebooks.write_logged(folder, "sweep")
    return folder, run(folder, "-p", "seed=1..2", "-p", "rate=0,0.1", "-j", "2")


Swept = tuple[Path, tuple[int, str, str]]


def test_every_run_has_its_folder_and_the_table_has_all(swept: Swept) -> None:
    folder, (code, out, errors) = swept
    assert code == 0, errors
    names = {f"seed={s},rate={r}" for s in (1, 2) for r in ("0.0", "0.1")}
    assert complete(folder) == names and counts(folder) == {name: [1, 1] for name in names}
    assert "4 of 4 notebooks ran" in out and "Table of 4 runs: sweep.csv" in out
    assert "left)" in errors
    table = pd.read_csv(folder / "out" / "laptop" / "sweep" / "sweep.csv")
    assert table.columns[:5].tolist() == ["seed", "rate", "family", "method", "measure"]
    assert len(table) == 8 and set(table["folder"]) == names
    base = table[table["method"] == "base"]
    assert base["value"].tolist() == pytest.approx((0.1 * base["seed"]).tolist())


def test_finished_runs_are_reused_unless_asked(swept: Swept) -> None:
    folder, _ = swept
    before = counts(folder)
    options = ("-p", "seed=1..2", "-p", "rate=0,0.1")
    code, out, errors = run(folder, *options)
    assert code == 0 and counts(folder) == before
    assert "4 of them before" in out and errors.count("finished before") == 4
    _, out, _ = run(folder, *options, "--dry-run")
    assert out.count("(finished)") == 4
    record = folder / "out" / "laptop" / "sweep" / "seed=1,rate=0.1" / "run.json"
    (record.parent / "metrics.json").write_text("{}")  # damaged: this one is run again
    run(folder, *options)
    assert counts(folder) == before | {"seed=1,rate=0.1": [2, 2]}
    run(folder, "-p", "rate=0", "-p", "seed=2", "--rerun")  # known by its values
    assert counts(folder)["seed=2,rate=0.0"] == [2, 2]
    values = json.loads(record.read_text())["values"]
    assert values["seed"] == 1 and values["rate"] == 0.1 and values["blocks"] == [0, 1]


def test_a_killed_sweep_goes_on_and_repeats_nothing_finished(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Killed once within the first runs, and once when some are finished."""
    options = ["--runs", "4", "--kills", "2", "--mid", "--waits", "0", "1", "--seconds", "1.5"]
    code, printed = batch_kill.main(options), capsys.readouterr().out
    assert code == 0, printed
    none, some = (int(number) for number in re.findall(r"(\d+) runs finished", printed))
    assert none == 0 < some < 4, printed
    (starts,) = re.findall(r"\n4 runs, 0 problems, (\d+) starts", printed)
    assert int(starts) > 4, "a run that was killed is started again"


def test_what_goes_wrong_in_a_killed_sweep_is_noticed(tmp_path: Path) -> None:
    for label, words in (("seed=0", "start end start end"), ("seed=1", "start")):
        folder = tmp_path / "out" / "laptop" / "sweep" / label
        (folder / ".partial-1").mkdir(parents=True)
        (folder / "log.txt").write_text(words.replace(" ", "\n"))
        for name in ("sweep.ipynb", "metrics.json"):
            (folder / name).write_text("{}")
    finished.record(folder, "1", "sweep", {}, 1.0, {})
    found = batch_kill.problems(tmp_path, 2, {"seed=0": [1, 1]}, 1)
    assert found[:4] == [
        "exit code 1",
        "1 of 2 runs are complete",
        "seed=1 never came to its end",
        "seed=0 was run again",
    ]
    assert len(found) == 6 and all("left over" in line for line in found[4:])


def test_two_batches_at_once_share_the_work(tmp_path: Path) -> None:
    tiny_notebooks.write_logged(tmp_path, "sweep")
    options = ("-p", "seed=1..3", "-p", "rate=0.4")
    both = [start(tmp_path, *options) for _ in range(2)]
    ends = [child.communicate(timeout=300) for child in both]
    assert [child.returncode for child in both] == [0, 0], ends
    assert counts(tmp_path) == {f"seed={s},rate=0.4": [1, 1] for s in (1, 2, 3)}
    assert any("waits for another batch" in errors for _, errors in ends)
    assert len(complete(tmp_path)) == 3


def test_the_child_ends_when_the_batch_is_killed(tmp_path: Path) -> None:
    tiny_notebooks.write_logged(tmp_path, "sweep")
    child = start(tmp_path, "-p", "rate=60")
    log = tmp_path / "out" / "laptop" / "sweep" / "rate=60.0" / "log.txt"
    deadline = time.monotonic() + 60
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert log.exists()
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while _workers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert _workers(tmp_path) == []


def _workers(folder: Path) -> list[str]:
    """Processes that still work in this folder (Linux; elsewhere none are found)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder):
                found.append((process / "cmdline").read_bytes().decode().replace("\0", " "))
        except OSError:  # gone, or somebody else's
            continue
    return found
