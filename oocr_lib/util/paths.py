"""Where the repository's files are, and which file a typed path means."""

from __future__ import annotations

import os
from pathlib import Path

from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, short


def _root() -> Path:
    """The repository that holds the package or, after ``pip install .``, the current folder."""
    checkout, here = Path(__file__).resolve().parents[2], Path.cwd()
    for folder in (checkout, here, *here.parents):
        if (folder / "data" / "world").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return checkout


ROOT = _root()


def data_dir() -> Path:
    """The ``data`` folder; the environment variable ``OOCR_DATA`` overrides it.

    Outside the repository it is the copy that was installed with the package.
    """
    override = os.environ.get("OOCR_DATA")
    if override:
        return resolve(override)
    checkout, installed = ROOT / "data", Path(__file__).resolve().parents[1] / "data"
    return checkout if (checkout / "world").is_dir() or not installed.is_dir() else installed


@checked
def resolve(text: str | os.PathLike[str], typed_in: Path | None = None) -> Path:
    """The file or folder that a parameter names, as an absolute path; it need not exist.

    A relative path is looked for in the folder where the command was typed, then in the
    repository's root; if it is in neither, the first is returned, for the message. The runner's
    kernels work in the notebook's folder, so it passes the folder of the command in ``OOCR_CWD``;
    without that it is the current folder.

    Args:
        typed_in: the folder where it was typed, instead of ``OOCR_CWD`` or the current folder.

    Raises:
        UserError: a path that no file can have: an unknown user's home, too long a name.
    """
    here = typed_in or Path(os.environ.get("OOCR_CWD") or Path.cwd())
    try:
        path = Path(text).expanduser()
        places = [Path(os.path.abspath(base / path)) for base in (here, ROOT)]
        return next((place for place in places if place.exists()), places[0])
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"Path {short(str(text))} cannot be used: {getattr(error, 'strerror', None) or error}. "
            "Allowed: a path of this machine; check it."
        ) from error
