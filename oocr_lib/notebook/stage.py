"""The files of a run appear together when it is finished, or not at all.

    <folder>/.stage/<name>/    what an unfinished run has written so far
    <folder>/.made.json        the files of the finished run: what the next one may take away

An unfinished run writes into a stage. When it is finished, the list of its files is written there,
and from then on they belong to the folder: moving them takes several steps, so if it is cut off,
the next run completes it (``recover``). A stage without a list is removed. So a failure or a kill
at any moment leaves either the earlier results or all of the new ones.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from oocr_lib.notebook import finished
from oocr_lib.util import files as store
from oocr_lib.util.errors import UserError

#: Tells a notebook where its runner wants its files until the run is finished.
VARIABLE = "OOCR_STAGE"
LIST = ".made.json"
_STAGES = ".stage"
_SHARED = ".shared"
#: A kernel that lives this long without writing is taken for dead.
_LEFTOVER_SECONDS = 7 * 24 * 3600.0


class Stage:
    """A fresh folder for the files of one run.

    Attributes:
        folder: where they go in the end.
        path: where they are written until then.
    """

    def __init__(self, folder: Path, shared: Path, kind: str = "kernel") -> None:
        """Make the folder.

        Args:
            shared: the preset's folder, for the few files that belong to all notebooks.
            kind: "run" for a runner's stage, which only the holder of the folder's lock writes.
        """
        self.folder, self._shared = folder, shared
        self.path = folder / _STAGES / f"{kind}-{secrets.token_hex(4)}"
        shared_here(self.path).mkdir(parents=True)

    def publish(self) -> None:
        """Move everything into place, and remove what only the run before had made.

        Raises:
            OSError: a full disk, for instance.
        """
        content = {
            "files": _files(self.path),
            "shared": _files(shared_here(self.path)),
            "shared_folder": Path(os.path.relpath(self._shared, self.folder)).as_posix(),
        }
        store.write_json(self.path / LIST, content)
        _move(self.path, self.folder)

    def discard(self) -> None:
        """Remove the stage, unless it is complete and only the move was cut off."""
        if not (self.path / LIST).is_file():
            _remove(self.path)


def shared_here(path: Path) -> Path:
    """Where, in a stage, the files for the preset's folder are written."""
    return path / _SHARED


def given(folder: Path) -> Path | None:
    """The stage that the runner made for a run with this folder, if there is one."""
    text = os.environ.get(VARIABLE, "")
    same = bool(text) and Path(text).parents[1].resolve() == folder.resolve()
    return Path(text) if same else None


def recover(folder: Path, *, alone: bool = False) -> None:
    """Finish or remove what killed processes left.

    Args:
        folder: of the run.
        alone: whether the caller holds the folder's lock, so that no runner can be at work.
    """
    for path in sorted((folder / _STAGES).glob("*")):
        if (path / LIST).is_file():
            with suppress(FileNotFoundError):  # its own process is moving it
                _move(path, folder)
        elif (alone and path.name.startswith("run-")) or _old(path):
            _remove(path)


def _move(path: Path, folder: Path) -> None:
    """Move the files of a complete stage, except those that were moved already."""
    content = store.read_json(path / LIST)
    if finished.FILE not in content["files"] or (path / finished.FILE).is_file():
        (folder / finished.FILE).unlink(missing_ok=True)  # meanwhile it must not look finished
    for name in set(_made(folder)) - set(content["files"]):
        (folder / name).unlink(missing_ok=True)
    shared = folder / content["shared_folder"]
    moves = [(shared_here(path) / name, shared / name) for name in content["shared"]]
    names = sorted(content["files"], key=lambda name: name == finished.FILE)  # the record last
    moves += [(path / name, folder / name) for name in names]
    for source, target in moves:
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
    os.replace(path / LIST, folder / LIST)
    _remove(path)


def _files(path: Path) -> list[str]:
    """Names of the files below, without hidden ones."""
    files = [file.relative_to(path) for file in path.rglob("*") if file.is_file()]
    return sorted(
        name.as_posix() for name in files if not any(part.startswith(".") for part in name.parts)
    )


def _made(folder: Path) -> list[str]:
    """What the run before made; nothing outside its folder, whatever the list says."""
    try:
        names: list[Any] = store.read_json(folder / LIST)["files"]
        return [n for n in names if ".." not in Path(n).parts and not Path(n).is_absolute()]
    except (UserError, KeyError, TypeError):  # none, or damaged
        return []


def _old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # others are in it, or it is gone
        path.parent.rmdir()
