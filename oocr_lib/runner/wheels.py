"""Find and fetch the wheels of another system: with pip on this one, and markers for that one.

``pip download --platform`` picks wheels of another system, but judges the conditions in their
metadata (``; sys_platform == "win32"``) by the system that it runs on: on Linux it would leave out
what only Windows needs. So this module follows every wheel's requirements itself, with the markers
of the other system, and asks pip only for single wheels. The constraints fix the versions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from oocr_lib.util import file_digest
from oocr_lib.util.errors import UserError

#: Bytes that the wheels of one system may take; a CPU build takes about a third of it.
LIMIT = 1_500_000_000
#: Wheels above this many bytes are fetched alone, so that a lost connection costs only one.
_LARGE = 50_000_000
_GROUP = 12
#: "3.11" alone is 3.11.0 to pip, which some packages no longer support.
_PATCH = 9
_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "2")


@dataclass(frozen=True)
class System:
    """What pip and the markers call a system.

    Attributes:
        platforms: tags of its wheels, the best first.
        markers: what its Python reports of itself (PEP 508).
    """

    platforms: tuple[str, ...]
    markers: dict[str, str]


#: 64-bit laptops: Linux of 2019 and later (glibc 2.28), Windows, macOS 14 on Apple silicon (torch
#: has no wheel for older ones).
SYSTEMS = {
    "linux": System(
        (
            *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)),
            *(f"manylinux{year}_x86_64" for year in (2014, 2010, 1)),
            "linux_x86_64",
        ),
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
         "platform_machine": "x86_64"},
    ),
    "windows": System(
        ("win_amd64",),
        {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt",
         "platform_machine": "AMD64"},
    ),
    "macos": System(
        ("macosx_14_0_arm64",),
        {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix",
         "platform_machine": "arm64"},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Wheel:
    """One wheel as the index offers it.

    Attributes:
        name: of the package, in its canonical form.
        file: name of the wheel's file.
        sha256: of the file; empty where the index does not say.
        size: bytes; None where the index does not say.
        needs: its requirements, as in its metadata.
    """

    name: str
    version: str
    file: str
    sha256: str = ""
    size: int | None = None
    needs: tuple[str, ...] = ()

    def is_in(self, folder: Path) -> bool:
        """Whether the complete file lies in a folder."""
        path = folder / self.file
        return path.is_file() and (not self.sha256 or file_digest.sha256(path) == self.sha256)


def environment(system: str, python: str, extra: str = "") -> dict[str, str]:
    """Every marker of PEP 508 with its value on another system's Python."""
    markers = {"platform_release": "", "platform_version": "", "extra": extra}
    markers |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    markers |= {"python_version": python, "python_full_version": f"{python}.{_PATCH}"}
    return markers | {"implementation_version": f"{python}.{_PATCH}"} | SYSTEMS[system].markers


def resolve(
    requirements: Iterable[str],
    system: str,
    python: str,
    constraints: Path,
    ask: Callable[[Sequence[str]], list[Wheel]] | None = None,
) -> list[Wheel]:
    """Every wheel that the requirements need on a system, sorted by name.

    Args:
        ask: returns the wheels for a list of requirements, without what those need in turn; by
            default pip is asked.

    Raises:
        UserError: the index cannot be reached, has no such wheel, or two packages need different
            versions.
    """
    lookup = ask or (lambda lines: _ask_pip(lines, system, python, constraints))
    todo = [Requirement(text) for text in requirements]
    wheels: dict[str, Wheel] = {}
    followed = set[tuple[str, str]]()
    while todo:
        unresolved = {
            str(_bare(need)) for need in todo if canonicalize_name(need.name) not in wheels
        }
        if unresolved:
            wheels |= {wheel.name: wheel for wheel in lookup(sorted(unresolved))}
        next_round: list[Requirement] = []
        for need in todo:
            wheel = wheels[canonicalize_name(need.name)]
            if not need.specifier.contains(wheel.version, prereleases=True):
                raise UserError(
                    f"{system}: {wheel.name} {wheel.version} does not fit {str(need)!r}. Allowed: "
                    "versions that fit together; see constraints.txt."
                )
            for extra in ("", *sorted(need.extras)):
                if (wheel.name, extra) not in followed:
                    followed.add((wheel.name, extra))
                    here = environment(system, python, extra)
                    needs = [Requirement(text) for text in wheel.needs]
                    next_round += [n for n in needs if not n.marker or n.marker.evaluate(here)]
        todo = next_round
    return sorted(wheels.values(), key=lambda wheel: wheel.name)


def _bare(requirement: Requirement) -> Requirement:
    """Name and versions only: the marker was judged before, and ``resolve`` follows extras."""
    return Requirement(f"{requirement.name}{requirement.specifier}")


def options(system: str, python: str) -> list[str]:
    """Pip's options for the wheels of a system and its Python."""
    tags = [part for tag in SYSTEMS[system].platforms for part in ("--platform", tag)]
    return ["--only-binary=:all:", "--no-deps", "--python-version", f"{python}.{_PATCH}", *tags]


def _ask_pip(
    requirements: Sequence[str], system: str, python: str, constraints: Path
) -> list[Wheel]:
    """The wheels that pip would take, from its report; only metadata is downloaded."""
    with tempfile.TemporaryDirectory() as aside:
        needs = Path(aside, "requirements.txt")
        needs.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        report, target = Path(aside, "report.json"), Path(aside, "none")
        arguments = ["install", "--dry-run", "--ignore-installed", "--target", str(target)]
        arguments += [*options(system, python), "-c", str(constraints), "-r", str(needs)]
        pip([*arguments, "--report", str(report), "-q"], f"what {system} needs")
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    addresses = [str(item["download_info"]["url"]) for item in items]
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(_size, addresses))
    return [_wheel(*row) for row in zip(items, addresses, sizes, strict=True)]


def _wheel(item: dict[str, Any], address: str, size: int | None) -> Wheel:
    metadata = item["metadata"]
    hashes = item["download_info"].get("archive_info", {}).get("hashes", {})
    return Wheel(
        canonicalize_name(metadata["name"]),
        str(metadata["version"]),
        urllib.parse.unquote(urllib.parse.urlsplit(address).path.rsplit("/", 1)[-1]),
        str(hashes.get("sha256", "")),
        size,
        tuple(metadata.get("requires_dist", ())),
    )


def _size(address: str) -> int | None:
    """Size of a download in bytes, from its header; None where the server does not say."""
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, ValueError, TypeError):
        return None


def refuse_large(wheels: Sequence[Wheel], system: str) -> None:
    """Check that a system's wheels are not a CUDA build and take at most ``LIMIT`` bytes.

    Raises:
        UserError: they are, or take more; nothing was downloaded.
    """
    size = sum(wheel.size or 0 for wheel in wheels)
    cuda = [wheel.name for wheel in wheels if wheel.name.startswith("nvidia-")]
    if not cuda and size <= LIMIT:
        return
    excess = f"are {size / 1e9:.1f} GB"
    excess += f" with {len(cuda)} of CUDA, such as {cuda[0]}" if cuda else ""
    raise UserError(
        f"The wheels for {system} {excess}. Allowed: {LIMIT / 1e9:.1f} GB. Let pip find the CPU "
        "build of PyTorch (PIP_INDEX_URL or pip's own settings; PyTorch's page names the index), "
        "or take them all with --large; nothing was downloaded."
    )


def download(
    wheels: Sequence[Wheel], system: str, python: str, folder: Path
) -> Iterator[list[Wheel]]:
    """Fetch the wheels that are not in a folder yet; first yield those that are, then each group.

    Raises:
        UserError: the index cannot be reached, there is no room, or a file is not the listed one.
    """
    complete = [wheel for wheel in wheels if wheel.is_in(folder)]
    yield complete
    for group in _groups([wheel for wheel in wheels if wheel not in complete]):
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder.parent) as aside:
            pins = [f"{wheel.name}=={wheel.version}" for wheel in group]
            pip(["download", *options(system, python), "-q", "-d", aside, *pins], pins[0])
            for wheel in group:
                if not wheel.is_in(Path(aside)):
                    raise UserError(
                        f"{wheel.file}: the index sent another file than it had listed. Run it "
                        "again; what is complete is kept."
                    )
                os.replace(Path(aside, wheel.file), folder / wheel.file)
        yield group


def _groups(wheels: Sequence[Wheel]) -> Iterator[list[Wheel]]:
    """Small wheels in dozens, large ones alone and last."""
    small = [wheel for wheel in wheels if (wheel.size or 0) <= _LARGE]
    yield from (small[start : start + _GROUP] for start in range(0, len(small), _GROUP))
    yield from ([wheel] for wheel in wheels if (wheel.size or 0) > _LARGE)


def pip(arguments: Sequence[str], what: str) -> None:
    """Run pip with the reader's own settings: index, proxy, certificates.

    Raises:
        UserError: it failed; the message has its first error as one line.
    """
    command = [sys.executable, *_PIP, *arguments]
    process = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    if process.returncode == 0:
        return
    lines = (process.stderr or process.stdout).splitlines()
    errors = [line for line in lines if "ERROR" in line or "No module named pip" in line]
    messages = errors or lines or [f"pip ended with {process.returncode}"]
    reason = messages[0].removeprefix("ERROR: ")
    # When the index does not answer, pip only ends by saying that it knows no version at all.
    if any("Connection" in line or "retry" in line.lower() for line in lines):
        reason = "the package index does not answer, so there may be no network"
    elif "No space left" in process.stderr:
        reason = "no space left on the disk"
    raise UserError(
        f"Cannot fetch {what}: {reason[:300].rstrip('.')}. Run it again when that is mended; what "
        "is complete is kept."
    )
