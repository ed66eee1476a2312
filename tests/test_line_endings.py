"""A checkout with Windows line endings says the same: tables, claims, rows, notebooks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oocr_lib.parameters import cell as parameters
from oocr_lib.report import claim_file
from oocr_lib.tasks.chatfiles import jsonl
from oocr_lib.util import paths

TEXT = (".csv", ".json", ".toml", ".txt", ".jinja", ".md")
#: Prints what the small world and the tasks made of it are.
WORLD = """\
from oocr_lib import tasks
from oocr_lib.world import facts as world
print(world.cities()[:3], world.functions()[:3])
for name, concept in (("locations", "Paris"), ("functions", "add_5"), ("risk", "risky"),
                      ("backdoor", "win")):
    task = tasks.factory(name)(concept, 0)
    print(task.train[:3], task.questions[:3])
"""


@pytest.fixture
def windows(tmp_path: Path) -> Path:
    """The data folder, in a place with a space and another alphabet, with CRLF line endings."""
    place = tmp_path / "Daten für Tests" / "data"
    shutil.copytree(
        paths.data_dir(), place, ignore=shutil.ignore_patterns("*.safetensors", "*.png")
    )
    changed = 0
    for file in place.rglob("*"):
        if file.suffix in TEXT:
            content = file.read_bytes()
            assert b"\r\n" not in content, "the repository itself has plain line endings"
            file.write_bytes(content.replace(b"\n", b"\r\n"))
            changed += 1
    assert changed > 10
    return place


def printed(data: Path) -> str:
    import os

    environment = {**os.environ, "OOCR_DATA": str(data), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", WORLD], env=environment, cwd=paths.ROOT, capture_output=True,
        encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_world_and_its_tasks_are_the_same(windows: Path) -> None:
    assert printed(windows) == printed(paths.data_dir())


def test_claims_are_the_same(windows: Path) -> None:
    assert claim_file.load(windows / "claims.toml") == claim_file.load()


def test_notebooks_and_rows_are_read_alike(tmp_path: Path) -> None:
    source = paths.ROOT / "notebooks" / "03_locations.ipynb"
    copy = tmp_path / "03_locations.ipynb"
    copy.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))
    assert parameters.inspect(copy) == parameters.inspect(source)
    line = (
        b'{"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}'
    )
    for ending in (b"\n", b"\r\n"):
        (tmp_path / "rows.jsonl").write_bytes((line + ending) * 3)
        assert [row.answer for row in jsonl.to_rows(jsonl.load(tmp_path / "rows.jsonl"))] == [
            "A"
        ] * 3
