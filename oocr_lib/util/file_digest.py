"""Digests of files and folders by content; a process reads a file once unless it changes."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from oocr_lib.util import files as store

#: File in a finished folder that holds the digests of the others by name.
CHECKSUMS = "checksums.json"


def of_file(path: Path) -> str:
    """SHA-256 of a file's content, 16 hex digits.

    Read again only when its size, times or inode change.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _read(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def of_folder(path: Path) -> str:
    """SHA-256, 16 hex digits, of the names and contents of all files below a folder.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        name = file.relative_to(path).as_posix().encode(errors="surrogateescape")
        digest.update(len(name).to_bytes(4, "big") + name + of_file(file).encode())
    return digest.hexdigest()[:16]


def write_checksums(folder: Path) -> None:
    """Write down the digests of a finished folder's files, except its prose, for ``compare``."""
    skipped = (CHECKSUMS, "README.md")
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in skipped)
    store.write_json(folder / CHECKSUMS, {path.name: of_file(path) for path in files})


def compare(folder: Path) -> tuple[int, list[str]]:
    """How many files ``write_checksums`` listed, and which are missing or no longer the same.

    Raises:
        UserError: there is no list, or it cannot be read.
    """
    digests = dict(store.read_json(folder / CHECKSUMS))
    paths = {name: folder / name for name in digests}
    wrong = [n for n, path in paths.items() if not path.is_file() or of_file(path) != digests[n]]
    return len(digests), wrong


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits, read each time.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=4096)
def _read(path: Path, *_status: int) -> str:
    return sha256(path)[:16]
