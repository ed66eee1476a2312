"""Progress bars for whoever watches, and whether anybody does.

One rule for all of them: ``OOCR_PROGRESS`` (``1`` or ``0``) decides where it is set, as the runner
sets it. Otherwise somebody watches a notebook whose front end could be asked something, as
JupyterLab and Colab can and papermill, nbval and nbconvert cannot, or a terminal. So bars and times
never get into outputs that are committed or compared.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def watched() -> bool:
    """Whether a person watches this run."""
    said = os.environ.get("OOCR_PROGRESS", "")
    if said:
        return said != "0"
    if kernel := getattr(_shell(), "kernel", None):
        return bool(getattr(kernel, "_allow_stdin", False))
    return sys.stderr is not None and sys.stderr.isatty()


def bar(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """The items one by one, with a bar while somebody watches; it leaves nothing behind.

    Args:
        total: how many items, where they cannot tell.
    """
    return iter(tqdm(items, desc=label, total=total, disable=not watched(), leave=False))


def _shell() -> object:
    """IPython's shell, if this runs in one; IPython is not loaded for that."""
    loaded = sys.modules.get("IPython.core.getipython")
    return loaded.get_ipython() if loaded else None
