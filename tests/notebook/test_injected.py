"""Plain papermill: bad parameters stop the notebook in its first cell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from oocr_lib.notebook.injected import before_injection, check_injected
from oocr_lib.util.errors import UserError
from tests import tiny_notebooks

PARAMETERS = tiny_notebooks.PARAMETERS


def injected(*lines: str) -> list[str]:
    return ["print(0)", PARAMETERS, "\n".join(["# Parameters", *lines]), "import json"]


@pytest.mark.parametrize(
    "lines",
    [["seed = 3"], ["rate = 1"], ["blocks = [1, 2]", "fast = True"], ["model = 'x'"], []],
)
def test_good_parameters_pass(lines: list[str]) -> None:
    check_injected("a", injected(*lines))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sead = 3", "Unknown parameter for a: 'sead'. Did you mean 'seed'"),
        ("seed = 'one'", "Parameter 'seed' got 'one'. Allowed: a whole number"),
        ("seed = 1.5", "Parameter 'seed' got 1.5"),
        ("rate = float('nan')", "a finite number"),
        ("blocks = '0,1'", "Parameter 'blocks' got '0,1'"),
        ("fast = 1", "true or false"),
        ("blocks = [1, 1]", "Parameter 'blocks' has 1 twice"),
        ("model = None", "Parameter 'model' got None"),
    ],
)
def test_bad_ones_get_one_line(line: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        check_injected("a", injected(line))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_was_there_before_the_injection_is_known() -> None:
    found = before_injection(injected("seed = 3", "blocks = [7]"))
    assert found["seed"] == 0 and found["blocks"] == [0, 1] and found["rate"] == 0.5
    assert before_injection([PARAMETERS, "seed = 3"]) == {} == before_injection([])


def test_other_cells_and_no_notebook_are_left_alone() -> None:
    check_injected("a", [PARAMETERS, "# Settings\nsead = 3", "%matplotlib inline", "x = ("])
    check_injected("a", ["x = 1", "# Parameters of the model\nsead = 3"])
    check_injected("a", [])
    check_injected("a")


def test_papermill_from_another_folder_stops_at_once(tmp_path: Path) -> None:
    start = (
        "from oocr_lib.notebook import session\nsession.start('a', preset=preset, out_dir=out_dir)"
    )
    path = tiny_notebooks.write(tmp_path, "a", start, "open('reached', 'w')", finish=False)
    command = [sys.executable, "-m", "papermill", str(path), str(tmp_path / "b.ipynb")]
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [*command, "-p", "sead", "3", "-p", "out_dir", str(tmp_path / "out")],
        cwd=tmp_path / "elsewhere", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Unknown parameter for a: 'sead'. Did you mean 'seed'?" in done.stderr
    assert not list(tmp_path.rglob("reached"))
