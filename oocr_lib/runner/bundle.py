"""``oocr bundle``: a folder for a USB stick that installs and runs where there is no network.

It holds wheels for the chosen systems, the repository's files, the website if it was built, start
scripts, and a list of all files with their hashes. While it is made, and after a call that was
stopped, ``UNFINISHED.txt`` lies in it; its start scripts then refuse to run.
"""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import click

import oocr_lib
from oocr_lib.runner import wheels as wheel_files
from oocr_lib.util import file_digest, files as store
from oocr_lib.util.errors import UserError, choose, short
from oocr_lib.util.paths import ROOT

MANIFEST = "MANIFEST.json"
UNFINISHED = "UNFINISHED.txt"
PYTHONS = ("3.11", "3.12", "3.13")
#: What a bundle takes from the repository; the rest is for the library's developers.
COURSE = (
    "README.md", "REPRODUCE.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "constraints.txt",
    "pyproject.toml", "setup.py", "oocr_lib", "data", "docs", "examples", "notebooks", "workshop",
)  # fmt: skip
#: What the project's own wheel is built from.
_BUILT_FROM = ("README.md", "LICENSE", "pyproject.toml", "setup.py", "oocr_lib", "data")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "work", "*.egg-info", "*.partial*")
_STICK = ("start.sh", "start.bat", "README.txt")
#: Names of files that systems and file managers leave on a stick.
_FOREIGN = re.compile(r"(^|/)(\.|System Volume Information|Thumbs\.db|desktop\.ini|\$RECYCLE)")


def make(systems: str, pythons: str, out: Path, large: bool = False) -> None:
    """Make or finish a bundle, and print what is done.

    Args:
        systems: names of ``wheels.SYSTEMS``, with commas between them.
        pythons: minor versions of Python, with commas between them.
        out: the folder; it must be new, empty or a bundle.
        large: allow more than ``wheels.LIMIT`` bytes per system.

    Raises:
        UserError: an unknown name, a folder of something else, no network, no room.
    """
    chosen_systems = _several(systems, wheel_files.SYSTEMS, "system")
    versions = _several(pythons, PYTHONS, "version of Python")
    _refuse_folder(out)
    _refuse_outside()
    try:
        out.mkdir(parents=True, exist_ok=True)
        # First of all: whatever happens now, the folder says that it is not complete.
        (out / UNFINISHED).write_text("Not complete: run the same oocr bundle again.\n", "utf-8")
        (out / MANIFEST).unlink(missing_ok=True)
        _sweep(out)
        _fill_wheels(out, chosen_systems, versions, large)
        _fill_course(out)
        _write_starts(out, chosen_systems, versions)
        _write_manifest(out, chosen_systems, versions)
        (out / UNFINISHED).unlink()
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = "no space left on the disk" if full else error.strerror or str(error)
        raise UserError(
            f"Cannot write the bundle in {str(out)!r}: {reason}. Make room or choose another "
            "folder with --out; what is complete is kept."
        ) from error
    size = sum(path.stat().st_size for path in _files(out))
    click.echo(f"Complete: {out}, {size / 1e9:.2f} GB. Copy it, then check the copy:")
    click.echo("  oocr bundle --check FOLDER")


def check(folder: Path) -> list[str]:
    """What is wrong with a bundle or a copy of one, one line per file; empty if nothing is.

    Of files that are not in the list only those in ``wheels`` are named, as pip reads all of them.

    Raises:
        UserError: the folder is no bundle, or was not finished.
    """
    if (folder / UNFINISHED).exists():
        raise UserError(
            f"Folder {str(folder)!r} is not complete: {UNFINISHED} lies in it. Run the same oocr "
            "bundle again, or copy a finished one."
        )
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"Folder {str(folder)!r} has no {MANIFEST}. Allowed: a folder that oocr bundle made."
        )
    files = _listed(folder / MANIFEST)
    problems = []
    with click.progressbar(files.items(), label="Checking") as items:
        for name, (size, sha256) in items:
            path = folder / name
            if not path.is_file():
                problems.append(f"{name}: missing")
            elif path.stat().st_size != size:
                problems.append(f"{name}: {path.stat().st_size:,} bytes instead of {size:,}")
            elif file_digest.sha256(path) != sha256:
                problems.append(f"{name}: damaged, its SHA-256 is another")
    extra = sorted({_name(path, folder) for path in (folder / "wheels").glob("*.whl")} - {*files})
    return problems + [f"{name}: not in the list" for name in extra]


def _listed(manifest: Path) -> dict[str, tuple[int, str]]:
    """Size in bytes and SHA-256 of every file in a manifest."""
    content = store.read_json(manifest)
    try:
        files = content["files"].items()
        return {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"File {str(manifest)!r} is no list of a bundle ({short(str(error))}). Allowed: the "
            "one that oocr bundle wrote; copy it again."
        ) from error


def _several(text: str, allowed: Sequence[str] | dict[str, wheel_files.System], kind: str
             ) -> list[str]:  # fmt: skip
    """Names with commas between them, each once, in the order of the allowed ones."""
    names = [choose(part.strip(), allowed, kind) for part in text.split(",")]
    return [name for name in allowed if name in names]


def _refuse_folder(out: Path) -> None:
    """Check that a folder is new, empty, or a bundle, so that nothing else is overwritten."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{str(out)!r} is a file. Allowed: a folder, which is made if need be.")
    is_bundle = any((out / name).is_file() for name in (MANIFEST, UNFINISHED))
    if out.is_dir() and not is_bundle and any(out.iterdir()):
        raise UserError(
            f"Folder {str(out)!r} holds other things. Allowed: a new or empty folder, or an "
            "earlier bundle; name another one with --out."
        )


def _refuse_outside() -> None:
    """Check that the repository's files are here; an installation alone has no notebooks."""
    missing = [name for name in COURSE if not (ROOT / name).exists()]
    if missing:
        raise UserError(
            f"'oocr bundle' needs the repository, and {missing[0]!r} is not in {str(ROOT)!r}. Run "
            "it in a copy of the repository."
        )


def _sweep(out: Path) -> None:
    """Remove what a killed call left."""
    for path in out.glob(".unfinished-*"):
        shutil.rmtree(path, ignore_errors=True)


def _fill_wheels(out: Path, systems: list[str], pythons: list[str], large: bool) -> None:
    """Fetch all wheels of all systems, and remove those of an earlier choice."""
    folder = out / "wheels"
    folder.mkdir(exist_ok=True)
    own_wheel = _own_wheel(out)
    needs = _needs(own_wheel)
    by_system = dict[tuple[str, str], list[wheel_files.Wheel]]()
    for system in systems:
        for python in pythons:
            click.echo(f"{system}, Python {python}: asking the package index what it needs")
            wheels = wheel_files.resolve(needs, system, python, ROOT / "constraints.txt")
            if not large:
                wheel_files.refuse_large(wheels, system)
            by_system[system, python] = wheels
    files = {wheel.file: wheel for wheels in by_system.values() for wheel in wheels}
    missing = [wheel for wheel in files.values() if not (folder / wheel.file).is_file()]
    _refuse_room(out, sum(wheel.size or 0 for wheel in missing))
    for (system, python), wheels in by_system.items():
        total, ready = sum(wheel.size or 0 for wheel in wheels), list[wheel_files.Wheel]()
        for step in wheel_files.download(wheels, system, python, folder):
            ready += step
            size = sum(wheel.size or 0 for wheel in ready)
            click.echo(f"{system}, Python {python}: {len(ready)} of {len(wheels)} wheels, "
                       f"{size / 1e6:.0f} of {total / 1e6:.0f} MB")  # fmt: skip
    for path in folder.glob("*.whl"):
        if path.name not in {*files, own_wheel.name}:
            path.unlink()


def _own_wheel(out: Path) -> Path:
    """Build the project's wheel, from a copy because building leaves files beside the sources."""
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=out) as aside:
        source, output = Path(aside, "source"), Path(aside, "made")
        _copy(source, _BUILT_FROM)
        wheel_files.pip(["wheel", "--no-deps", "-q", "-w", str(output), str(source)],
                        "what builds this project's own wheel")  # fmt: skip
        (wheel,) = output.glob("*.whl")
        target = out / "wheels" / wheel.name
        for earlier in target.parent.glob("oocr_lib-*.whl"):
            earlier.unlink()
        return wheel.replace(target)


def _needs(wheel: Path) -> list[str]:
    """What a reader needs for this project's wheel: its own requirements, and JupyterLab."""
    with ZipFile(wheel) as archive:
        (name,) = [entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    lines = metadata.get_all("Requires-Dist") or []
    requirements = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        if not marker or "lab" in re.findall(r"extra\s*==\s*['\"](\w+)['\"]", marker):
            requirements.append(requirement.strip())
    return requirements


def _refuse_room(out: Path, size: int) -> None:
    """Check that the disk has room for wheels and the course."""
    free, needed = shutil.disk_usage(out).free, size + 200_000_000
    if free < needed:
        raise UserError(
            f"The disk of {str(out)!r} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are "
            "needed. Make room, choose fewer --systems, or another folder with --out."
        )


def _fill_course(out: Path) -> None:
    """Copy the repository's files and the website as they are now."""
    for name in ("course", "site"):
        shutil.rmtree(out / name, ignore_errors=True)
    _copy(out / "course", COURSE)
    site = ROOT / "build" / "book" / "html"
    if (site / "index.html").is_file():
        shutil.copytree(site, out / "site")
    else:
        click.echo("No website in it: none was built. 'oocr book' builds it; then run this again.")


def _copy(target: Path, names: Sequence[str]) -> None:
    target.mkdir(parents=True)
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=_LEFT_OUT)
        else:
            shutil.copyfile(source, target / name)


def _write_starts(out: Path, systems: list[str], pythons: list[str]) -> None:
    """Write the start scripts and the read-me; all but the shell's have Windows line endings."""
    for name in _STICK:
        text = (ROOT / "workshop" / "stick" / name).read_text(encoding="utf-8")
        text = text.replace("@VERSIONS@", " ".join(pythons)).replace(
            "@SYSTEMS@", ", ".join(systems)
        )
        newline = "\n" if name.endswith(".sh") else "\r\n"
        (out / name).write_text(text, encoding="utf-8", newline=newline)
    (out / "start.sh").chmod(0o755)


def _write_manifest(out: Path, systems: list[str], pythons: list[str]) -> None:
    """List every file with its size and SHA-256."""
    files = {
        _name(path, out): {"bytes": path.stat().st_size, "sha256": file_digest.sha256(path)}
        for path in _files(out)
    }
    header = {"schema": 1, "version": oocr_lib.__version__, "systems": systems, "python": pythons}
    store.write_json(out / MANIFEST, {**header, "files": files})


def _files(out: Path) -> Iterator[Path]:
    """All files that belong to a bundle, sorted by name."""
    for path in sorted(out.rglob("*")):
        name = _name(path, out)
        if path.is_file() and name not in (MANIFEST, UNFINISHED) and not _FOREIGN.search(name):
            yield path


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
