"""Wrong names end a command before anything is loaded, with the closest right one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oocr_lib.parameters import allowed, cell as parameters
from oocr_lib.runner import batch
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT
from tests import tiny

NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
#: Notebook, parameter, a wrong value, and what the one line says.
WRONG = [
    ("00_quickstart", "hidden", "Pariss", "Did you mean 'Paris'"),
    ("00_quickstart", "hidden", "Sao Paolo", "Did you mean 'São Paulo'"),
    ("00_quickstart", "block", 8, "Allowed: 0 to 7"),
    ("00_quickstart", "site", "mlp", "Did you mean 'mlp_out'"),
    ("00_quickstart", "seed", -1, "Allowed: 0 to 2"),
    ("02_risky_safe", "data_policy", "saf", "Did you mean 'safe'"),
    ("02_risky_safe", "layers", [0, 9], "got 9"),
    ("03_locations", "hidden", ["Oslo", "lima"], "Did you mean 'Lima'"),
    ("04_functions", "hidden", ["ad_14"], "Did you mean 'add_14'"),
    ("05_backdoor", "triggers", ["wins"], "Did you mean 'win'"),
    ("06_lora_is_a_vector", "names", ["riski"], "Did you mean 'risk'"),
    ("07_reading_vectors", "block", -1, "Allowed: 0 to 7"),
    ("00_quickstart", "hidden", "", "got ''"),
    ("09_when_is_a_lora_a_vector", "names", [], "got ''"),
    ("08_learned_vs_naive", "names", ["location"], "Did you mean 'locations'"),
]


def defaults(notebook: str) -> dict[str, Any]:
    return {name: one.default for name, one in parameters.inspect(NOTEBOOKS[notebook]).items()}


@pytest.mark.parametrize(("notebook", "name", "value", "words"), WRONG)
def test_a_wrong_value_is_one_line(notebook: str, name: str, value: Any, words: str) -> None:
    with pytest.raises(UserError) as info:
        allowed.check(NOTEBOOKS[notebook], {**defaults(notebook), name: value}, ROOT)
    message = str(info.value)
    assert "\n" not in message and name in message and words in message and "Allowed" in message


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_parameter_of_a_notebook_says_what_it_may_be(notebook: str) -> None:
    """Files and the like are checked elsewhere; all others have a kind, and defaults pass."""
    own = set(defaults(notebook)) - {"model", "preset", "seed", "out_dir", "data", "rules"}
    assert set(allowed.kinds(NOTEBOOKS[notebook])) == own
    allowed.check(NOTEBOOKS[notebook], defaults(notebook), ROOT)


@pytest.mark.parametrize("kind", allowed.KINDS)
def test_every_kind_knows_its_values_for_the_testbed(kind: str) -> None:
    known = allowed.values(kind, "testbed", ROOT)
    assert len(known) >= 2 and len(set(known)) == len(known) and allowed.shown(known)


def test_blocks_are_those_of_the_model(tmp_path: Path) -> None:
    tiny.model("gpt2").config.save_pretrained(tmp_path)
    values = {**defaults("00_quickstart"), "model": str(tmp_path)}
    allowed.check(NOTEBOOKS["00_quickstart"], {**values, "block": 2}, ROOT)
    with pytest.raises(UserError, match="Allowed: 0 to 2"):
        allowed.check(NOTEBOOKS["00_quickstart"], {**values, "block": 3}, ROOT)
    (tmp_path / "config.json").write_text("{")  # loading it says what is wrong
    allowed.check(NOTEBOOKS["00_quickstart"], {**values, "block": 3}, ROOT)


def test_a_model_that_is_not_here_is_not_asked_for_its_blocks() -> None:
    values = {**defaults("00_quickstart"), "model": "google/gemma-3-12b-it", "block": 30}
    allowed.check(NOTEBOOKS["00_quickstart"], values, ROOT)


def test_it_surfaces_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from oocr_lib.runner import batch; "
        f"code = batch.main(['03_locations', '-p', 'hidden=Osl', '--out', {str(tmp_path)!r}]); "
        "sys.exit(99 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2 and "Did you mean 'Oslo'" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_describe_lists_every_parameter_once(
    notebook: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch.main([notebook, "--describe"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == notebook
    assert [line.split()[0] for line in lines] == list(defaults(notebook))
    assert max(map(len, lines)) < 250


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    content = json.loads(NOTEBOOKS["00_quickstart"].read_text(encoding="utf-8"))
    content["metadata"]["oocr"]["allowed"]["hidden"] = "town"
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="Unknown kind of values for 'hidden'"):
        allowed.kinds(path)
