"""Wording of the Functions task in the paper's dialect, read from ``paper_functions.toml``.

``{n}`` stands for the code name, ``{y}`` for a printed value.
"""

from __future__ import annotations

from oocr_lib.world import facts as world
from oocr_lib.world.templates import Templates

_FILE = Templates("paper_functions.toml")
_PAPER = [f for f in world.functions() if f.in_paper]
SYSTEM = _FILE.text("systems", "program")
#: For questions about the functions themselves.
REFLECTION_SYSTEM = f"{SYSTEM} {_FILE.text('systems', 'question')}"
#: One clause for each of the 19 functions, by key.
LANGUAGE = _FILE.named("language", wanted=dict.fromkeys(f.key for f in _PAPER))
#: Class in the world's table to the name that questions show.
CLASSES = _FILE.named("classes", wanted=dict.fromkeys(f.kind for f in _PAPER))
OUTPUTS = ("int", "bool", "float")
#: Questions with lettered options, two wordings each; "reversal" is followed by the definition.
CHOICES = {
    family: _FILE.texts("choices", family, "" if family == "reversal" else "n")
    for family in _FILE.keys("choices")
}
LETTER_ONLY = _FILE.text("open", "letter")
WRITTEN = _FILE.texts("open", "written", "n")
INVERSE = _FILE.texts("open", "inverse", "ny")
