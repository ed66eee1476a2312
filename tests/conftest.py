"""Set-up of all tests: one thread, no network, the same examples on every machine."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from hypothesis import settings

torch.set_num_threads(1)
# No deadline: a busy machine is no failure. Derandomized: a failure here is a failure everywhere.
settings.register_profile("oocr", deadline=None, derandomize=True)
settings.load_profile("oocr")
