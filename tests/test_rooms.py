"""The rooms of the library: imports go one way, and the engine only makes things faster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oocr_lib.util.paths import ROOT

#: A sweep of vectors and LoRAs over blocks; prints its numbers. Given "plain": without the engine.
SCRIPT = """
import json, sys, tempfile

if "plain" in sys.argv:
    class Masked:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("oocr_lib.engine"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Masked())

from pathlib import Path
from oocr_lib.runs.executors import ENGINE
from oocr_lib.runs.grid import Grid, Method, cross
from oocr_lib.runs.store import RunStore
from oocr_lib.training.config import TrainConfig
from tests import toy

config = TrainConfig(steps=15, batch=3, lr=0.05, valid_rows=8)
methods = [Method("base", "base", config=config)]
methods += [Method(f"v{b}", "vector", site=f"resid@{b}", config=config) for b in (0, 2)]
methods += [Method("lora", "lora", blocks=(1,), rank=2, alpha=4.0, config=config)]
with tempfile.TemporaryDirectory() as folder:
    grid = Grid(toy.language_model(), RunStore(Path(folder)), toy.make, {}, "Rome")
    table = grid.run(cross(methods, ("Rome", "Oslo"), (0, 1)))
numbers = table[["p_truth", "mc", "top1", "valid_loss", "valid_accuracy"]]
print(json.dumps({"engine": ENGINE, "numbers": numbers.values.ravel().tolist()}))
"""


def run(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.long
def test_without_the_engine_all_numbers_are_the_same() -> None:
    fast, plain = run(), run("plain")
    assert fast["engine"] is True and plain["engine"] is False
    assert len(plain["numbers"]) > 100
    assert fast["numbers"] == pytest.approx(plain["numbers"], abs=2e-4)


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).parent / "lint-imports"
    command = [str(tool), "--no-cache", "pyproject.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("place", "line", "said"),
    [
        ("training/planted.py", "from oocr_lib.runs import grid", "oocr_lib.training is not"),
        ("analysis/planted.py", "from oocr_lib.engine import memory", "Only runs.executors"),
        ("tasks/base.py", "import oocr_lib.tasks.audit.report", "No circles"),
        ("new_room.py", "", "oocr_lib.new_room"),
    ],
)
def test_a_backward_import_is_found(tmp_path: Path, place: str, line: str, said: str) -> None:
    shutil.copytree(ROOT / "oocr_lib", tmp_path / "oocr_lib")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file = tmp_path / "oocr_lib" / place
    before = file.read_text() if file.is_file() else ""
    file.write_text(f"{before}\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in " ".join(done.stdout.split())
