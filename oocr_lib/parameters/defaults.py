"""What a run changes in a notebook's defaults, and the folder that it gets for that.

    <out>/<preset>/<notebook>/                     the defaults: the reference results
    <out>/<preset>/<notebook>/<name=value,...>/    anything else, named by what differs

So exploration never replaces reference results, however the values were given: to the runner, to
papermill, or by changing the parameters cell in Jupyter. Because of the last way, the defaults are
those of the last commit; in a copy without git, those of the file.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from typing import Any

from oocr_lib.parameters import cell as parameters, values as batch_grid
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT

#: Parameters that choose a folder above the run's.
ASIDE = ("preset", "out_dir")


@cache
def shipped(notebook: str) -> Mapping[str, Any]:
    """Default values of a notebook of this repository by name; empty for an unknown notebook."""
    path = f"notebooks/{notebook}.ipynb"
    for text in (_committed(path), _there(path)):
        try:
            cells = json.loads(text)["cells"]
            tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", ())]
            declared = parameters.read_cell(notebook, "".join(tagged[0]["source"]))
            return {name: parameter.default for name, parameter in declared.items()}
        except (ValueError, KeyError, IndexError, UserError):  # none, or damaged
            continue
    return {}


def changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values that differ from the defaults, in the order of the defaults.

    Values without a default are left out, and so are those of ``ASIDE``.
    """
    return {
        name: values[name]
        for name, default in defaults.items()
        if name in values and name not in ASIDE and values[name] != default
    }


def label(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The folder of a run below its notebook's; empty for the defaults."""
    other = changed(values, defaults)
    return batch_grid.label(other, tuple(other))


def _committed(place: str) -> str:
    """A file of the repository as it was last committed; "" where git does not know it."""
    command = ["git", "-C", str(ROOT), "show", f"HEAD:./{place}"]
    try:
        process = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return process.stdout.decode(errors="replace")


def _there(place: str) -> str:
    try:
        return (ROOT / place).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
