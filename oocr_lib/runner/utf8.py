"""UTF-8 wherever a command is started. Light, so that ``oocr --help`` loads nothing else."""

from __future__ import annotations

import os
import sys


def in_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale has another encoding.

    File names, the notebooks' texts and all output of the child processes are UTF-8.
    """
    if os.name == "posix" and sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.orig_argv[0], "-X", "utf8", *sys.orig_argv[1:]])
