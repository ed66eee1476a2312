"""What a notebook shows: tables, and figures with a caption. Outside a notebook both are printed.

Everything that comes from data is escaped, since a model may have written it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

#: Columns of the library's tables, as a reader sees them; the glossary explains them.
NAMES = {
    "mc": "accuracy among options",
    "top1": "top-1",
    "p_truth": "p of the truth",
    "lr": "learning rate",
    "valid_loss": "validation loss",
    "valid_accuracy": "validation accuracy",
}
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#+|~$&])")


def table(frame: pd.DataFrame | pd.Series, digits: int = 2, *, index: bool = True) -> None:
    """Show a table: numbers rounded, no minus before what rounds to zero, nothing cut off.

    Columns of the library's own tables get readable names (``NAMES``).

    Args:
        digits: decimals of floating-point numbers.
        index: show the row names, too.
    """
    renamed = frame.to_frame() if isinstance(frame, pd.Series) else frame
    renamed = renamed.rename(columns=NAMES).rename_axis(index=NAMES, columns=NAMES)
    form = {"float_format": f"{{:z.{digits}f}}".format, "na_rep": "–", "index": index}
    text = renamed.to_string(**form)
    with pd.option_context("display.max_colwidth", None):  # pandas cuts long texts in HTML
        page = renamed.to_html(border=0, **form)
    _display(text, {"text/html": page, "text/plain": text})


def figure(png: bytes, alt: str, caption: str, source: str, origin: Mapping[str, str]) -> None:
    """Show a picture, its caption below it, and in small letters where its data lie.

    Args:
        alt: the picture in words, for those who cannot see it.
        source: the file with the data.
        origin: script, data and commit; they go to the output's metadata, not to the screen.
    """
    from IPython.display import Image, display

    if in_notebook():
        image = Image(data=png, format="png", alt=" ".join(alt.split()))
        display(image, metadata={"oocr": dict(origin)})
    plain = f"{caption} (data: {source})"
    below = f"*Figure.* {escaped(caption)}<br><small>Data: {escaped(source)}</small>"
    _display(plain, {"text/markdown": below, "text/plain": plain})


def listed(values: Mapping[str, object]) -> str:
    """Names and values as a line of text.

    >>> listed({"train": 40, "valid": 10})
    'train 40, valid 10'
    """
    return ", ".join(f"{name} {value}" for name, value in values.items())


def escaped(text: str) -> str:
    r"""Text as Markdown that shows it literally.

    >>> print(escaped("3x + 2 < f_1"))
    3x \+ 2 &lt; f\_1
    """
    return _MARKUP.sub(lambda m: _ENTITIES.get(m[1], "\\" + m[1]), " ".join(text.split()))


_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def in_notebook() -> bool:
    """Whether this runs under IPython."""
    from IPython.core.getipython import get_ipython

    return get_ipython() is not None


def _display(text: str, bundle: dict[str, str]) -> None:
    """Show a bundle of media types; outside a notebook print ``text``."""
    from IPython.display import display

    if in_notebook():
        display(bundle, raw=True)
    else:
        print(text)
