"""Commands as they are typed, without the seconds that every new Python spends on imports.

A process imports the library once and then forks for every command: each still has a process, a
folder, an environment and streams of its own, and runs the module as ``python -m`` would.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

#: What nearly every command imports; the rest is imported by the command itself.
WARM = ("oocr_lib.runner.cli", "oocr_lib.runner.sweep", "oocr_lib.notebook.session")

_SERVER = """
import importlib, json, os, runpy, sys, traceback
for name in sys.argv[1:]:
    importlib.import_module(name)
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 0
        for number, name in ((0, os.devnull), (1, asked["stdout"]), (2, asked["stderr"])):
            opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        sys.stdin = open(0, closefd=False)
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")
        sys.stderr = open(2, "w", closefd=False, encoding="utf-8", buffering=1)
        try:
            os.chdir(asked["cwd"])
            os.environ.clear()
            os.environ.update(asked["env"])
            sys.path[0] = asked["cwd"]
            sys.argv = ["", *asked["arguments"]]
            sys.modules.pop(asked["module"], None)
            runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 0xFF)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Served:
    """Modules run as commands, one after another, by children of one warm process.

    Args:
        root: The repository whose modules are run.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._process: subprocess.Popen[str] | None = None

    def call(
        self, module: str, arguments: Sequence[str], cwd: Path, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """What ``python -m MODULE ARGUMENTS`` does in a folder."""
        env = {**env, "PYTHONPATH": str(self.root)}
        if not hasattr(os, "fork"):  # Windows: the long way
            command = [sys.executable, "-m", module, *arguments]
            return subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8")
        process = self._started()
        assert process.stdin and process.stdout
        with tempfile.TemporaryDirectory() as place:
            files = {name: str(Path(place, name)) for name in ("stdout", "stderr")}
            asked = {"module": module, "arguments": list(arguments), "cwd": str(cwd), "env": env}
            process.stdin.write(json.dumps({**asked, **files}) + "\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            said = {
                name: Path(file).read_text("utf-8", errors="replace")
                for name, file in files.items()
            }
        return subprocess.CompletedProcess([module, *arguments], code, **said)

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            env = {**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVER, *WARM], cwd=self.root, env=env,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
            )  # fmt: skip
            assert self._process.stdout and self._process.stdout.readline() == "ready\n"
            atexit.register(self.end)
        return self._process

    def end(self) -> None:
        """Ends the warm process."""
        if self._process is not None:
            assert self._process.stdin and self._process.stdout
            self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
            self._process = None
