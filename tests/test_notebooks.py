"""Every committed notebook keeps the contract (and was run before it was committed)."""

from __future__ import annotations

from pathlib import Path

import pytest

from oocr_lib.util.paths import ROOT
from tests.notebook_contract import contract_problems

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS, "the folder notebooks/ is empty"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_contract(path: Path) -> None:
    problems = contract_problems(path)
    assert not problems, "\n" + "\n".join(problems)
