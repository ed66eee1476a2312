"""Progress bars, shown only while somebody watches.

One rule for all of them: ``OOCR_PROGRESS`` (``1`` or ``0``) decides if it is set; the runner sets
it. Otherwise somebody watches in a terminal, or in a notebook whose front end can ask for input, as
JupyterLab and Colab can and papermill, nbval and nbconvert cannot. So bars and times never get into
outputs that are committed or compared.
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
    setting = os.environ.get("OOCR_PROGRESS", "")
    if setting:
        return setting != "0"
    if kernel := getattr(_shell(), "kernel", None):
        return bool(getattr(kernel, "_allow_stdin", False))
    return sys.stderr is not None and sys.stderr.isatty()


def bar(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """The items one by one, with a bar while somebody watches; it leaves nothing behind.

    Args:
        total: the number of items, if they have no length.
    """
    return iter(tqdm(items, desc=label, total=total, disable=not watched(), leave=False))


def _shell() -> object:
    """IPython's shell, if this runs in one; does not import IPython."""
    module = sys.modules.get("IPython.core.getipython")
    return module.get_ipython() if module else None
