"""Check a static site: every link and anchor leads somewhere, every image says what it shows.

    python docs/check_links.py build/book/html

One line per problem, and exit code 1 if there is any. Links to other sites are not followed; but
scripts, styles and images must be part of the site, which has to work without a network.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Tags whose target is loaded with the page, so must not come from elsewhere.
LOADED = {"img", "script", "source", "iframe", "video", "audio", "embed", "object"}
#: `rel` of link tags that browsers load; others (canonical, search) only name something.
LOADED_RELATIONS = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}
_CSS_REMOTE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^\s'\")]+)")


@dataclass
class Link:
    """A target as it is written, and whether the page loads it."""

    target: str
    line: int
    loaded: bool


@dataclass
class Page:
    """What the check needs to know of one HTML file."""

    anchors: set[str] = field(default_factory=set)
    links: list[Link] = field(default_factory=list)
    no_alt: list[tuple[int, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    """Collects anchors, links and images without a description."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of one tag; self-closing tags come here, too."""
        given = {name: value or "" for name, value in attrs}
        line = self.getpos()[0]
        self.page.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "img" and not given.get("alt", "").strip():
            self.page.no_alt.append((line, _short(given.get("src", ""))))
        relations = set(given.get("rel", "").lower().split())
        loaded = tag in LOADED or (tag == "link" and bool(relations & LOADED_RELATIONS))
        for name in ("href", "src", "data", "poster", "xlink:href"):
            if name in given and (name != "data" or tag == "object"):
                self.page.links.append(Link(given[name].strip(), line, loaded))


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def read(path: Path) -> Page:
    """Anchors, links and images of one HTML file."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader.page


def problems(root: Path) -> list[str]:
    """One line for each thing that is wrong in a site, in the order of its files."""
    pages = {path.resolve(): read(path) for path in sorted(root.rglob("*.html"))}
    if not pages:
        return [f"{root.name}: no HTML file"]
    top = root.resolve()
    found = []
    for path, page in pages.items():
        name = path.relative_to(top).as_posix()
        found += [f"{name}:{line}: image without alt text: {src}" for line, src in page.no_alt]
        for link in page.links:
            wrong = _wrong(link, path, top, pages)
            if wrong:
                found.append(f"{name}:{link.line}: {wrong}: {_short(link.target)}")
    for sheet in sorted(root.rglob("*.css")):
        for remote in _CSS_REMOTE.findall(sheet.read_text(encoding="utf-8")):
            found.append(f"{sheet.relative_to(root).as_posix()}: loaded from elsewhere: {remote}")
    return found


def _wrong(link: Link, path: Path, top: Path, pages: dict[Path, Page]) -> str:
    """What is wrong with a link; empty if nothing."""
    parts = urlsplit(link.target)
    if parts.scheme == "data" or link.target == "#":
        return ""
    if parts.scheme or parts.netloc:
        return "loaded from elsewhere" if link.loaded else ""
    if not link.target:
        return "empty link"
    goal = path
    if parts.path:
        goal = Path(os.path.normpath(path.parent / unquote(parts.path)))
        goal = goal / "index.html" if goal.is_dir() else goal
        if not goal.is_relative_to(top):
            return "link out of the site"
        if not goal.is_file():
            return "broken link"
    anchor = unquote(parts.fragment)
    if anchor and goal in pages and anchor not in pages[goal].anchors:
        return "missing anchor"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the problems of the site in a folder; 1 if there are any."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 1:
        print("usage: check_links.py FOLDER", file=sys.stderr)
        return 2
    found = problems(Path(given[0]))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
