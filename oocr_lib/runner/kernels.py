"""The kernel that a notebook run gets: the interpreter that the command was called with.

A notebook names a kernel, ``python3`` for instance, and Jupyter looks it up in the user's folders,
where it may be any interpreter. A run must not depend on that, so the runner writes its own spec
into a folder that Jupyter searches first. Another kernel is used only when asked for by name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.paths import ROOT, data_dir

NATIVE = "python3"
_ASK_SECONDS = 60
#: Run by IPython before the first cell, without a trace in the notebook's history.
_RECORD = "__import__('oocr_lib.runner.kernel_record').runner.kernel_record.write()"


@dataclass(frozen=True)
class Kernel:
    """What starts a kernel; by default the interpreter of this process, called ``python3``.

    Attributes:
        argv: its command, with ``{connection_file}`` where Jupyter puts the path.
        env: variables that it adds to the environment.
    """

    name: str = NATIVE
    display_name: str = "Python 3"
    argv: tuple[str, ...] = (
        sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
    )  # fmt: skip
    env: Mapping[str, str] = field(default_factory=dict)

    def metadata(self) -> dict[str, str]:
        """The ``kernelspec`` of a notebook that this kernel ran."""
        return {"name": self.name, "display_name": self.display_name, "language": "python"}


def wished(notebook: Path) -> str:
    """The kernel that a notebook names; ``python3`` if it names none.

    Raises:
        UserError: the notebook is in another language.
    """
    metadata = json.loads(notebook.read_text(encoding="utf-8")).get("metadata", {})
    spec = metadata.get("kernelspec") or {}
    language = spec.get("language") or "python"
    if language.lower() != "python":
        raise UserError(
            f"{notebook.name} is for the kernel {spec.get('name')!r} ({language}). "
            "Allowed: Python notebooks."
        )
    return str(spec.get("name") or NATIVE)


def kernel_for(notebook: Path, asked: str | None = None) -> tuple[Kernel, str]:
    """The kernel of a run, and one line if it is not the one that the notebook names, else "".

    Args:
        asked: the name given with ``--kernel``, if any.

    Raises:
        UserError: the kernel that is asked for, or else the one that the notebook names, is not
            installed, or is of another language.
    """
    wish = wished(notebook)
    if asked is None and wish != NATIVE and wish not in _installed():
        raise UserError(
            f"{notebook.name} is for the kernel {wish!r}, which is not installed. Allowed: "
            f"{', '.join(_names())}. To run it with this Python, give --kernel {NATIVE}."
        )
    kernel = Kernel() if asked in (None, NATIVE) else _known(str(asked))
    if kernel.name == wish:
        return kernel, ""
    hint = "" if asked else f"; --kernel {wish} runs it there"
    runs = "the Python of this command" if kernel.name == NATIVE else f"the kernel {kernel.name!r}"
    return kernel, f"{notebook.name} names the kernel {wish!r} and runs with {runs}{hint}."


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a notebook's process: the same library, data and text encoding as here."""
    variables = {k: v for k, v in os.environ.items() if k != "OOCR_PRESET"}
    # The kernel gets the library that runs here, even from a checkout that is not installed.
    search = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, search))
    variables["PYTHONUTF8"] = "1"
    if variables.get("OOCR_DATA"):  # the kernel works in another folder
        variables["OOCR_DATA"] = str(data_dir())
    return variables | dict(extra)


def ask(kernel: Kernel, folder: Path) -> dict[str, Any]:
    """What the kernel's interpreter says of itself when started in ``folder``.

    Raises:
        UserError: it does not start, or is not a Python that can report this.
    """
    env = environment(kernel.env)
    relevant = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", *kernel.env)
    answer = _ask(kernel.argv[0], folder, tuple((k, env[k]) for k in relevant if k in env))
    record: dict[str, Any] = json.loads(answer)
    return record


@contextmanager
def private_spec(kernel: Kernel) -> Iterator[dict[str, str]]:
    """Yield the environment in which Jupyter finds this kernel under its name, before any other.

    IPython's folder is private, too, so that the user's start-up files are not run.
    """
    argv = [*kernel.argv, f"--IPKernelApp.exec_lines={_RECORD}"]
    spec = {"argv": argv, "display_name": kernel.display_name, "language": "python"}
    with TemporaryDirectory(prefix="oocr-kernel-", ignore_cleanup_errors=True) as folder:
        place = Path(folder, "kernels", kernel.name)
        place.mkdir(parents=True)
        content = json.dumps(spec | {"env": dict(kernel.env)})
        (place / "kernel.json").write_text(content, encoding="utf-8")
        search = [folder, os.environ.get("JUPYTER_PATH", "")]
        path = os.pathsep.join(filter(None, search))
        yield {"JUPYTER_PATH": path, "IPYTHONDIR": str(Path(folder, "ipython"))}


@cache
def _ask(interpreter: str, folder: Path, variables: tuple[tuple[str, str], ...]) -> str:
    """The answer as JSON; a process asks each interpreter and search path only once."""
    if interpreter in ("python", "python3", f"python3.{sys.version_info[1]}"):
        interpreter = sys.executable  # as Jupyter does
    try:
        process = subprocess.run(
            [interpreter, "-m", "oocr_lib.runner.kernel_record"],
            cwd=folder, env=environment({}) | dict(variables), stdin=subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", errors="replace", timeout=_ASK_SECONDS,
        )  # fmt: skip
        json.loads(process.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UserError(
            f"The interpreter {interpreter!r} does not say its versions "
            f"({type(error).__name__}). Allowed: kernels of ipykernel with a Python that starts."
        ) from error
    return process.stdout


def _known(name: str) -> Kernel:
    """The installed Python kernel called ``name``; raises UserError if there is none."""
    specs = _installed()
    if name not in specs:
        choose(name, _names(), "kernel")
    spec = specs[name]
    if str(spec.get("language", "")).lower() != "python" or not spec.get("argv"):
        raise UserError(f"Kernel {name!r} is of {spec.get('language')}. Allowed: Python kernels.")
    # Our copy of the spec lies elsewhere: fill in the path of the spec's own folder now.
    argv = [a.replace("{resource_dir}", str(spec["resource_dir"])) for a in spec["argv"]]
    return Kernel(name, str(spec.get("display_name") or name), tuple(argv), spec.get("env") or {})


def _names() -> list[str]:
    return list(dict.fromkeys([NATIVE, *sorted(_installed())]))


def _installed() -> dict[str, dict[str, Any]]:
    """The specs that Jupyter finds here, by name."""
    from jupyter_client.kernelspec import KernelSpecManager

    specs = KernelSpecManager().get_all_specs()
    return {
        name: {**entry["spec"], "resource_dir": entry["resource_dir"]}
        for name, entry in specs.items()
    }
