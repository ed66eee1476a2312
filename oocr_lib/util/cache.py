"""Where large files are kept that are fetched or made once: outside the repository.

``OOCR_CACHE`` names the folder; by default it is ``oocr`` among the user's caches. Everything in it
can be deleted and is made again when it is asked for.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from oocr_lib.util.errors import UserError

VARIABLE = "OOCR_CACHE"
#: Seconds to wait for another process that makes the same thing.
PATIENCE = 900.0


def root() -> Path:
    """The cache folder; it need not exist."""
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser().resolve()
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "oocr"


@contextmanager
def making(target: Path, size: int) -> Iterator[Path | None]:
    """Yield an empty folder that becomes ``target`` on success; None where that is there already.

    A process that is killed leaves no ``target``, and what it left aside is thrown away by the
    next one. Two processes that want the same thing make it once.

    Args:
        target: a folder in the cache.
        size: bytes that it will need.

    Raises:
        UserError: no room for it, a place where nothing can be written, or another process that
            takes longer than ``PATIENCE``.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock"), timeout=PATIENCE):
            if target.is_dir():
                yield None
                return
            for left in target.parent.glob(f".{target.name}.*.tmp"):
                shutil.rmtree(left, ignore_errors=True)
            _refuse_full(target.parent, size)
            aside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
            aside.mkdir()
            try:
                yield aside
                os.replace(aside, target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except Timeout as error:
        raise UserError(
            f"Another process has been making {target.name!r} for {PATIENCE:.0f} s. Wait for it, "
            f"or end it."
        ) from error
    except OSError as error:
        raise UserError(
            f"Cannot write to the cache folder {str(root())!r}: {error.strerror or error}. Set "
            f"{VARIABLE} to a folder with room."
        ) from error


def _refuse_full(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"The cache folder {str(root())!r} has {free / 1e6:,.0f} MB free, "
            f"{size / 1e6:,.0f} MB are needed. Make room, or set {VARIABLE} to a folder with room."
        )
