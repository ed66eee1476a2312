"""Set-up of all tests: one thread, no network, the same examples on every machine.

And what the tests of the protocols share: the shipped testbed with an empty store of runs.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import settings

from oocr_lib.notebook.session import Experiment
from oocr_lib.runs.presets import Settings

torch.set_num_threads(1)
# No deadline: a busy machine is no failure. Derandomized: a failure here is a failure everywhere.
settings.register_profile("oocr", deadline=None, derandomize=True)
settings.load_profile("oocr")


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The testbed as a notebook has it; runs of a test file are kept until its end."""
    out = tmp_path_factory.mktemp("out")
    return Experiment("00_test", "testbed", "laptop", 0, out, Settings({}))
