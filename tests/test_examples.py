"""The example sweeps are what they say: every file is a plan that could start now."""

from __future__ import annotations

from pathlib import Path

import pytest

from oocr_lib.runner import batch
from oocr_lib.util.paths import ROOT

#: File, notebook, runs, values in them.
EXAMPLES = {
    "sweep": (6, {"hidden=Paris", "hidden=Lima", "seed=2", "block=0"}),
    "sites_and_blocks": (18, {"site=resid", "site=mlp_out", "block=7", "seed=2"}),
}


def test_every_example_is_known() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.yaml")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_plan(name: str, tmp_path: Path, capsys) -> None:
    runs, values = EXAMPLES[name]
    file = ROOT / "examples" / f"{name}.yaml"
    given = ["00_quickstart", "--grid", str(file), "--preset", "smoke", "--dry-run"]
    assert batch.main([*given, "--out", str(tmp_path)], several=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == runs
    assert values <= set(" ".join(lines).split())
    assert f"oocr sweep 00_quickstart --grid examples/{name}.yaml" in file.read_text()


def test_a_sweep_needs_several_values(tmp_path: Path, capsys) -> None:
    given = ["00_quickstart", "-p", "seed=1", "--dry-run", "--out", str(tmp_path)]
    assert batch.main(given, several=True) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("A sweep needs a parameter with several values. Give one")
    assert batch.main(given) == 0
