"""Tasks: what is learned, in the testbed's wording and in the paper's.

``factory`` returns the generator of a task in a model's dialect.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import Any

from oocr_lib.tasks.base import Task
from oocr_lib.util import file_digest
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.paths import resolve

NAMES = ("risk", "locations", "functions", "backdoor")
DIALECTS = ("testbed", "paper")

__all__ = ["DIALECTS", "NAMES", "digest", "factory"]


@checked
def factory(name: str, dialect: str = "testbed", **options: Any) -> Callable[[str, int], Task]:
    """``make(concept, seed)`` of a task in one dialect, with the task's own options.

    Args:
        name: one of ``NAMES``.
        options: options of the task's ``make``; empty ones (``data=""``) are left out.

    Raises:
        UserError: an unknown name or dialect, or an option the task does not have.
    """
    choose(name, NAMES, "task")
    choose(dialect, DIALECTS, "dialect")
    settings = {key: value for key, value in options.items() if value not in ("", None)}
    module = import_module(f"oocr_lib.tasks.{name}.{dialect}")
    make: Callable[..., Task] = module.make
    for key in settings:
        choose(
            key, list(signature(make).parameters)[1:], f"option of the task {name!r} ({dialect}):"
        )

    @checked
    def task(concept: str, seed: int) -> Task:
        return make(concept, seed=seed, **settings)

    return task


@checked
def digest(path: str) -> str:
    """SHA-256 (16 hex digits) of a data file, part of a run's identity; "" for no file.

    Args:
        path: the file, looked up by ``paths.resolve``.

    Raises:
        UserError: no such file.
    """
    if not path:
        return ""
    try:
        return file_digest.of_file(resolve(path))
    except OSError as error:
        raise UserError(f"Cannot read data={path!r}: {error.strerror}. Give a file.") from error
