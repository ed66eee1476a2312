"""Is this machine ready? One line per check: ``ok``, or what to do.

    python -m oocr_lib.runner.doctor

Exit code 0 if everything is ok, else 1. Nothing is changed, and no network is used.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from oocr_lib.runner import kernels
from oocr_lib.util import file_digest, machine, paths
from oocr_lib.util.errors import UserError

#: What a laptop run needs, in GiB.
MEMORY, DISK = 4.0, 3.0


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do if that is not enough."""

    thing: str
    found: str
    to_do: str = ""

    def __str__(self) -> str:
        if self.to_do:
            return f"TO DO  {self.thing:<11} {self.found}. {self.to_do}"
        return f"ok     {self.thing:<11} {self.found}"


def python() -> Finding:
    """The interpreter's version."""
    description = f"{platform.python_version()} ({platform.system()}, {platform.machine()})"
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    return Finding("Python", description, "" if fits else "Use Python 3.11, 3.12 or 3.13.")


def packages() -> Finding:
    """Whether every package that a reader needs is there, in a version that fits."""
    try:
        requirements = [Requirement(text) for text in requires("oocr-lib") or []]
    except PackageNotFoundError:  # run from a checkout that was put on the search path
        return Finding(
            "packages", "oocr-lib is not installed", "Run pip install -e . in the repository."
        )
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    problems = []
    for requirement in needed:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            problems.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed.split("+")[0], prereleases=True):
            problems.append(f"{requirement.name} {installed} is not {requirement.specifier}")
    torch, transformers = version("torch"), version("transformers")
    summary = f"{len(needed)} there, torch {torch}, transformers {transformers}"
    if problems:
        return Finding("packages", "; ".join(problems), "Run pip install -e . in the repository.")
    return Finding("packages", summary)


def threads() -> Finding:
    """How many CPU threads a run takes, how many cores there are, and how busy they are."""
    try:
        count = machine.threads()
    except UserError as error:
        return Finding("threads", f"OOCR_THREADS is {os.environ['OOCR_THREADS']!r}", str(error))
    cores, load = os.cpu_count() or 1, psutil.getloadavg()[0]
    alone = "" if os.environ.get(machine.THREADS) else ", all for a real model that runs alone"
    return Finding(
        "threads", f"{count} a run (OOCR_THREADS){alone}; {cores} cores, load {load:.1f}"
    )


def memory() -> Finding:
    """Memory that is free now."""
    free, total = (
        number / 2**30
        for number in (psutil.virtual_memory().available, psutil.virtual_memory().total)
    )
    to_do = f"Close other programs: a run takes up to {MEMORY:.0f} GiB." if free < MEMORY else ""
    return Finding("memory", f"{free:.1f} of {total:.1f} GiB free", to_do)


def disk(out: Path) -> Finding:
    """Free space where results go."""
    place = next(folder for folder in (out, *out.parents) if folder.exists())
    free = shutil.disk_usage(place).free / 2**30
    to_do = "" if free >= DISK else f"Make room: {DISK:.0f} GiB are needed, or give another --out."
    return Finding("disk", f"{free:.1f} GiB free for results", to_do)


def writing(out: Path) -> Finding:
    """Whether results can be written."""
    place = next(folder for folder in (out, *out.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            return Finding("writing", "results can be written")
    except OSError as error:
        return Finding("writing", f"no: {error.strerror}", "Give another folder with --out.")


def accelerator() -> Finding:
    """A GPU, if there is one; none is needed."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Finding("GPU", f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free")
    if torch.backends.mps.is_available():
        return Finding("GPU", "Apple's, used where device='mps' is asked for")
    return Finding("GPU", "none; the testbed needs none")


def testbed() -> Finding:
    """Whether the shipped checkpoint is complete and unchanged."""
    try:
        count, wrong = file_digest.compare(paths.data_dir() / "testbed")
    except UserError as error:
        return Finding("testbed", str(error).rstrip("."), "Get data/testbed again.")
    if wrong:
        to_do = "Get data/testbed again (git checkout data/testbed), or run make testbed."
        return Finding("testbed", f"changed or missing: {', '.join(wrong)}", to_do)
    return Finding("testbed", f"{count} files as they were made")


def kernel() -> Finding:
    """Whether notebooks can be run with this Python."""
    try:
        versions = kernels.ask(kernels.Kernel(), Path.cwd())
    except UserError as error:
        return Finding("kernel", str(error).rstrip("."), "Run pip install ipykernel.")
    return Finding("kernel", f"Python {versions['python']}, this environment")


def examine(out: Path) -> Iterator[Finding]:
    """All findings, the quick ones first."""
    checks: Sequence[Callable[[], Finding]] = (
        python,
        packages,
        threads,
        memory,
        lambda: disk(out),
        lambda: writing(out),
        testbed,
        kernel,
        accelerator,
    )
    for check in checks:
        yield check()


def main(out: Path = Path("results")) -> int:
    """Print the findings; return 0 if there is nothing to do, else 1."""
    code = 0
    for finding in examine(out.resolve()):
        print(finding, flush=True)
        code = code or int(bool(finding.to_do))
    return code


if __name__ == "__main__":
    sys.exit(main())
