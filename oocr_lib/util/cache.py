"""The folder for large files that are downloaded or made once; it is outside the repository.

``OOCR_CACHE`` names the folder; by default it is ``oocr`` among the user's caches. Everything in it
can be deleted and is made again when it is needed.
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
#: Seconds to wait for another process that is making the same thing.
PATIENCE = 900.0


def root() -> Path:
    """The cache folder; it need not exist."""
    if folder := os.environ.get(VARIABLE):
        return Path(folder).expanduser().resolve()
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "oocr"


@contextmanager
def making(target: Path, size: int) -> Iterator[Path | None]:
    """Yield an empty folder that becomes ``target`` on success; None if that exists already.

    A killed process leaves no ``target``, and the next one deletes its temporary folder. Two
    processes that want the same thing make it only once.

    Args:
        target: a folder in the cache.
        size: bytes that it will need.

    Raises:
        UserError: too little room, a folder that cannot be written to, a file elsewhere that the
            caller cannot read, or another process that takes longer than ``PATIENCE``.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock"), timeout=PATIENCE):
            if target.is_dir():
                yield None
                return
            for leftover in target.parent.glob(f".{target.name}.*.tmp"):
                shutil.rmtree(leftover, ignore_errors=True)
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
        if error.filename and not Path(error.filename).absolute().is_relative_to(root().absolute()):
            raise UserError(
                f"Cannot read {str(error.filename)!r}: {error.strerror}. Check the file."
            ) from error
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
