"""Numbers of the smoke runs against the references; collected after the notebooks have run.

Not named ``test_*``: it needs the output folder that the run of the notebooks filled
(``make smoke``), which starts empty, so that a notebook that writes no metrics fails here.
"""

from __future__ import annotations

import os

import pytest

from oocr_lib.report import metrics
from oocr_lib.runner import batch
from oocr_lib.util.paths import ROOT, data_dir

NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
REFERENCE = data_dir() / "reference"


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS, "the folder notebooks/ is empty"


def test_every_reference_has_its_notebook() -> None:
    known = {path.parent.name for path in (REFERENCE / "smoke").glob("*/metrics.json")}
    assert known <= set(NOTEBOOKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_metrics_agree_with_the_reference(notebook: str) -> None:
    assert os.environ.get("OOCR_OUT"), "OOCR_OUT is not set: run 'make smoke'"
    if why := batch.absent(ROOT / "notebooks" / f"{notebook}.ipynb", {}):
        pytest.skip(why)
    measured = ROOT / os.environ["OOCR_OUT"] / "smoke"
    tolerances = metrics.load_tolerances(REFERENCE / "tolerances.json")
    found = metrics.compare_folders(measured, REFERENCE / "smoke", tolerances, [notebook])
    assert not found[notebook], "\n" + "\n".join(found[notebook])
