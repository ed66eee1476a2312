"""Notebooks side by side: none starts before those whose runs or results it uses."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest

from oocr_lib.runner import batch
from oocr_lib.runner.job import Job, Outcome
from oocr_lib.util.paths import ROOT
from tests import tiny_notebooks


def notebooks(folder: Path) -> dict[str, Path]:
    """Two that train, one that uses the first's runs, one that stands alone, one that reads all."""
    found = {name: tiny_notebooks.write(folder, name) for name in "abcde"}
    for name, says in (("c", {"after": ["a", "x"]}), ("e", {"reads": ["*/metrics.json"]})):
        read = nbformat.read(found[name], as_version=4)
        read.metadata["oocr"] = says
        nbformat.write(read, found[name])
    return found


def jobs(folder: Path, names: str = "abcde") -> list[Job]:
    return [Job(notebooks(folder)[n], {}, {"preset": "laptop"}, folder) for n in names]


def test_who_waits_for_whom(tmp_path: Path) -> None:
    assert batch.waits_for(jobs(tmp_path)) == [set(), set(), {0}, set(), {0, 1, 2, 3}]
    assert batch.waits_for(jobs(tmp_path, "cbe")) == [set(), set(), {0, 1}], "who is absent is not"


@pytest.mark.parametrize("parallel", [1, 2, 5])
def test_nobody_starts_too_early_and_nobody_is_idle(
    tmp_path: Path, parallel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, lock = jobs(tmp_path), threading.Lock()
    running, events, most = set[str](), list[tuple[str, str]](), 0

    def run(self: Any, job: Job) -> Outcome:
        nonlocal most
        with lock:
            running.add(job.name)
            events.append(("start", job.name))
            most = max(most, len(running))
        time.sleep(0.15)
        with lock:
            running.discard(job.name)
            events.append(("end", job.name))
        return Outcome(job.name, "", 0.0, job.output)

    monkeypatch.setattr(batch.Worker, "run", run)
    outcomes = batch.run_all(listed, parallel, None)
    assert [outcome.name for outcome in outcomes] == list("abcde"), "in the order of the jobs"
    assert events[0] == ("start", "a"), "the one that most wait for comes first"
    assert events.index(("start", "c")) > events.index(("end", "a"))
    assert events[-2:] == [("start", "e"), ("end", "e")]
    assert most == min(parallel, 3)


def test_of_equals_the_long_ones_start_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, started = jobs(tmp_path, "abd"), list[str]()
    for job, minutes in zip(made, (1, 2.5, 4), strict=True):
        read = nbformat.read(job.source, as_version=4)
        read.metadata["oocr"] = {"minutes": minutes}
        nbformat.write(read, job.source)

    def run(self: Any, job: Job) -> Outcome:
        started.append(job.name)
        return Outcome(job.name, "", 0.0, job.output)

    monkeypatch.setattr(batch.Worker, "run", run)
    batch.run_all(made, 1, None)
    assert started == ["d", "b", "a"]


def test_what_the_analyses_wait_for_exists() -> None:
    there = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    waiting = {p.stem: set(batch.finished.after(p)) for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(names <= there for names in waiting.values())
    assert all(batch.finished.minutes(p) > 0 for p in (ROOT / "notebooks").glob("*.ipynb"))
    assert waiting["06_lora_is_a_vector"] >= {"02_risky_safe", "05_backdoor"}
