"""Finding a literal text (a code name, a trigger), but never inside a longer word or number."""

from __future__ import annotations

import re
from functools import cache


@cache
def whole(literal: str) -> re.Pattern[str]:
    """A case-sensitive pattern for ``literal``, but not inside a longer run of letters or digits.

    "star" is not found in "start" and "City 50337" not in "City 503371"; a literal that begins or
    ends with another character, such as "(win2844)", may touch anything there.
    """
    before = r"(?<![^\W_])" if literal[:1].isalnum() else ""
    after = r"(?![^\W_])" if literal[-1:].isalnum() else ""
    return re.compile(before + re.escape(literal) + after)
