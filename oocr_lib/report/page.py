"""Self-contained web pages, made from the templates in ``pages/``.

They fetch nothing from elsewhere, and every text put in is escaped and on one line.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("oocr_lib.report", "pages"),
        autoescape=True,
        finalize=_on_one_line,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _on_one_line(value: Any) -> Any:
    # What has __html__ is already part of a page.
    return value if hasattr(value, "__html__") else " ".join(str(value).split())


def render(template: str, **content: Any) -> str:
    """The page of a template, for instance ``claims.html``, filled in."""
    return _templates().get_template(template).render(content) + "\n"


def script(name: str) -> dict[str, str]:
    """A script of ``pages/``: its ``text``, and the ``digest`` by which a page allows it alone."""
    text = _templates().get_template(name).render()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": text, "digest": digest}
