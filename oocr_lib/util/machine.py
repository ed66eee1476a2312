"""The environment of a run: threads, seeds, quiet libraries, the commit."""

from __future__ import annotations

import os
import random
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT

#: The environment variable that sets the CPU threads of a run.
THREADS = "OOCR_THREADS"


def set_up(seed: int) -> int:
    """Seed Python, NumPy and torch, fix the threads, silence libraries; return the thread count."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    count = threads()
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    libraries = r"(transformers|peft|torch|huggingface_hub|accelerate)(\.|$)"
    warnings.filterwarnings("ignore", module=libraries)
    torch.set_num_threads(count)
    random.seed(seed)
    np.random.seed(seed)  # libraries may use the global generator
    torch.manual_seed(seed)
    return count


def threads() -> int:
    """CPU threads to use: ``OOCR_THREADS``, by default 1, at most as many as there are CPUs.

    The same thread count is needed for bitwise equal results. ``oocr run`` sets it to all cores
    for a real model that runs alone (``runner.batch.all_cores``).
    """
    text = os.environ.get(THREADS) or "1"
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"OOCR_THREADS is {text!r}. Give a whole number, 1 or more.")
    return min(int(text), os.cpu_count() or 1)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' loading report and progress bars, whose times get into notebooks."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@cache
def commit() -> str:
    """The commit of the checkout, with a plus sign if the library was changed since."""
    command = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*command, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            [*command, "status", "--porcelain", "--", "oocr_lib"], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changes.stdout else "")
