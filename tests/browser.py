"""A real browser, driven over two pipes by its developer tools' protocol: no other package."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Name, code and number of the keys that tests press.
KEYS = {
    "Tab": ("Tab", 9),
    "Home": ("Home", 36),
    "End": ("End", 35),
    "ArrowDown": ("ArrowDown", 40),
    "ArrowRight": ("ArrowRight", 39),
    "ArrowLeft": ("ArrowLeft", 37),
}
_SECONDS = 60.0
#: The browser reads from file 3 and writes to file 4, whatever numbers the pipes have here.
_AS_3_AND_4 = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a headless browser."""

    def __init__(self, process: subprocess.Popen[bytes], read: int, write: int) -> None:
        self._process, self._read, self._write = process, read, write
        self._number, self._session, self._rest = 0, "", b""
        self.loaded = list[str]()  # addresses that the page asked for
        self.complaints = list[str]()  # what it wrote to the console, and errors
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for part in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{part}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command, and what it returns."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (found := self._next()).get("id") != number:
            self._note(found)
        assert "error" not in found, f"{method}: {found['error']}"
        return dict(found["result"])

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._rest:
            assert self._process.poll() is None, "the browser has ended"
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            self._rest += os.read(self._read, 1 << 16)
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.loaded.append(params["request"]["url"])
        if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(params))

    def open(self, address: str) -> None:
        """Open an address, and wait until it is loaded."""
        self.send("Page.navigate", url="about:blank")  # else a new # would not load anything
        self.send("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + _SECONDS
        while not self.ask(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def press(self, key: str, times: int = 1) -> None:
        """Press a key, as a reader without a mouse does."""
        code, number = KEYS[key]
        named = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        for kind in ("rawKeyDown", "keyUp") * times:
            self.send("Input.dispatchKeyEvent", type=kind, **named)

    def size(self, width: int, height: int = 800) -> None:
        """Make the window as wide as a phone's, or a desk's."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def scripts(self, allowed: bool) -> None:
        """Switch JavaScript on or off for pages that are opened later."""
        self.send("Emulation.setScriptExecutionDisabled", value=not allowed)


@contextmanager
def opened(folder: Path) -> Iterator[Browser]:
    """A browser whose profile lies in a folder; skips where there is none."""
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip("no Chromium: the page was not opened in a browser")
    if sys.platform == "win32":
        pytest.skip("the browser is driven over pipes that Windows does not have")
    theirs_read, write = os.pipe()
    read, theirs_write = os.pipe()
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    command += ["--no-first-run", f"--user-data-dir={folder / 'profile'}", "about:blank"]
    # Its crash reporter writes to the home folder, which may be read-only.
    with open(folder / "browser.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _AS_3_AND_4, str(theirs_read), str(theirs_write), *command],
            pass_fds=(theirs_read, theirs_write),
            env=os.environ | {"HOME": str(folder)},
            stderr=log,
        )
    os.close(theirs_read)
    os.close(theirs_write)
    try:
        yield Browser(process, read, write)
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)
