"""The pages' texts as one script, so that the search page shows where a word was found.

Sphinx fetches each page that it found to show a summary. Browsers forbid that for files opened from
disk, but they load scripts: ``_static/search_texts.js`` holds the text of every section, and
``_static/search_snippets.js`` takes the snippets from it.
"""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

SCRIPT = Path("_static", "search_texts.js")
#: More would make the search page slow to open.
LIMIT_BYTES = 2_000_000
#: Elements whose text nobody reads, or reads elsewhere.
_SILENT = {"script", "style", "svg", "noscript", "template"}
_SILENT_CLASSES = {"headerlink", "source-link"}
_VOID = {"img", "br", "hr", "input", "meta", "link", "col", "wbr", "source"}
#: Elements inside a line; all others end a word.
_INLINE = {"a", "b", "code", "em", "i", "mark", "span", "strong", "sub", "sup"}
_HEADINGS = {f"h{level}" for level in range(1, 7)}


class TooLargeError(Exception):
    """The texts are more than a search page should load."""


class _Sections(HTMLParser):
    """Collects [anchor, heading, text] of every section of a page's main part."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: list[list[str]] = []
        self._open: list[tuple[str, int | None]] = []  # tag; number of the section it began
        self._inside: list[int] = []  # sections that are open, by number
        self._silent = 0
        self._main = 0  # how many elements were open outside the main part; 0: outside
        self._heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID:
            self._add(" ")
            return
        given = {name: value or "" for name, value in attrs}
        began = None
        if given.get("role") == "main" and not self._main:
            self._main = len(self._open) + 1
        if self._main and tag == "section" and given.get("id"):
            began = len(self.sections)
            self.sections.append([given["id"], "", ""])
            self._inside.append(began)
        if tag in _SILENT or _SILENT_CLASSES & set(given.get("class", "").split()):
            self._silent += 1
            tag = f"!{tag}"
        self._heading = self._heading or tag in _HEADINGS
        self._open.append((tag, began))
        if tag not in _INLINE:
            self._add(" ")

    def handle_endtag(self, tag: str) -> None:
        names = [name.lstrip("!") for name, _ in self._open]
        if tag not in names:
            return
        while self._open:  # also closes what its author left open
            name, began = self._open.pop()
            self._silent -= name.startswith("!")
            if began is not None:
                self._inside.pop()
            if name in _HEADINGS:
                self._heading = False
            if len(self._open) < self._main:
                self._main = 0
            if name.lstrip("!") == tag:
                break
        if tag not in _INLINE:
            self._add(" ")

    def handle_data(self, data: str) -> None:
        self._add(data)

    def _add(self, text: str) -> None:
        if self._main and self._inside and not self._silent:
            self.sections[self._inside[-1]][1 if self._heading else 2] += text


def sections(html: str) -> list[list[str]]:
    """Anchor, heading and text of every section of a page, in order; spaces are joined."""
    reader = _Sections()
    reader.feed(html)
    reader.close()
    return [[a, " ".join(head.split()), " ".join(t.split())] for a, head, t in reader.sections]


def write(html: Path) -> Path:
    """Write the texts of all pages of a built site, and return the script's path.

    Raises:
        TooLargeError: They are more than two megabytes; nothing is written.
    """
    pages = {
        path.relative_to(html).with_suffix("").as_posix(): sections(path.read_text("utf-8"))
        for path in sorted(html.rglob("*.html"))
    }
    texts = json.dumps({name: found for name, found in pages.items() if found}, ensure_ascii=False)
    script = f"const BOOK_TEXTS = {texts};\n".encode()
    if len(script) > LIMIT_BYTES:
        raise TooLargeError(
            f"The texts for the search page are {len(script):,} bytes. Allowed: {LIMIT_BYTES:,}. "
            "Leave long outputs out of the notebooks, or raise LIMIT_BYTES in search_texts.py."
        )
    (html / SCRIPT).write_bytes(script)
    return html / SCRIPT
