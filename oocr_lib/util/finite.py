"""Values that are not a number (NaN) are refused where they first appear.

pandas leaves them out of means, ``argmax`` returns one as the best token, and every comparison with
them is false; so a broken model would look like one that knows nothing.
"""

from __future__ import annotations

from typing import Any

from oocr_lib.util.errors import UserError


def no_nan(values: Any, what: str) -> None:
    """Check numbers before anything is computed from them; infinite ones may pass.

    Args:
        values: a tensor, an array or a column of a table, of any shape.
        what: what the values are and where they come from, the message's first words.

    Raises:
        UserError: some are not a number.
    """
    bad = values != values  # only NaN differs from itself
    if bool(bad.any()):
        raise UserError(
            f"{what}: {int(bad.sum())} values are not a number (NaN). Allowed: numbers; look at "
            "the weights, the vector or the runs that they come from."
        )
