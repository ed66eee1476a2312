"""The workshop's slides: one page a session that needs no server, no network and no script.

Made from the exercises' notebooks by what their cells say for slides (the ``slideshow`` metadata of
RISE and nbconvert). On a screen every slide fills it, and Space, PageDown and PageUp go from one to
the next; printed, every slide is a page.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

SOURCES = Path("workshop", "exercises")
FOLDER = Path("workshop", "slides")
#: Cells that begin a slide; cells without a word stay on the one before.
_BEGIN = ("slide", "subslide")
#: Begins one if it is text: what is found stands not beside the exercise. Code stays with its text.
_LATER = "fragment"
_ASIDE = ("skip", "notes")
#: Pages and notebooks of the book, which are beside the slides as pages.
_PAGE = re.compile(r'(href="(?!\w+:)[^"#]+)\.(?:md|ipynb)(?=["#])')
_STYLE = """
html { scroll-snap-type: y proximity; }
body { margin: 0; color: #1a1a1a; background: #fff; font: 22px/1.4 system-ui, sans-serif; }
section { box-sizing: border-box; min-height: 100vh; padding: 4vh 8vw; position: relative;
  scroll-snap-align: start; border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
h1 { font-size: 1.8em; } h2 { font-size: 1.4em; } h3 { font-size: 1.2em; }
pre { font-size: 0.75em; line-height: 1.35; background: #f5f5f5; padding: 0.6em;
  white-space: pre-wrap; }
code { font-family: ui-monospace, monospace; } p code, li code { font-size: 0.9em; }
table { border-collapse: collapse; } th, td { border: 1px solid #bbb; padding: 0.2em 0.6em; }
details { color: #555; font-size: 0.85em; } a { color: #0b57a4; }
.number { position: absolute; right: 1.2em; bottom: 0.6em; font-size: 0.6em; color: #666; }
@page { size: A4 landscape; margin: 12mm; }
@media print {
  body { font-size: 15pt; } details { display: none; }
  section { min-height: 0; padding: 0; border: 0; break-after: page; } .number { display: none; }
}
"""


def decks(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The cells of every slide, in order; what comes before the first one is left out."""
    found: list[list[dict[str, Any]]] = []
    for cell in notebook["cells"]:
        kind = cell["metadata"].get("slideshow", {}).get("slide_type", "")
        if kind in _BEGIN or (kind == _LATER and cell["cell_type"] == "markdown"):
            found.append([])
        if found and kind not in _ASIDE:
            found[-1].append(cell)
    return found


def page(notebook: dict[str, Any]) -> str:
    """One HTML page of a session's slides; links to pages of the book go to their HTML."""
    slides = decks(notebook)
    parts = []
    for number, cells in enumerate(slides, start=1):
        inside = "\n".join(_cell(cell) for cell in cells)
        count = f'<div class="number">{number} / {len(slides)}</div>'
        parts.append(f"<section>\n{inside}\n{count}\n</section>")
    title = html.escape("".join(slides[0][0]["source"]).partition("\n")[0].lstrip("# "))
    colours = HtmlFormatter(style="default").get_style_defs("pre")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{colours}\n{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        # With HTML, as hints are folded by it; the sources are the repository's own.
        made = MarkdownIt("commonmark", {"html": True}).enable("table").render(source)
        return _PAGE.sub(r"\1.html", str(made))
    coloured = highlight(source, PythonLexer(), HtmlFormatter(nowrap=True))
    return f'<pre tabindex="0"><code>{coloured}</code></pre>'


def write(root: Path, site: Path) -> list[Path]:
    """Write the slides of all sessions into a built site; none where there is no workshop."""
    made = []
    for source in sorted((root / SOURCES).glob("*.ipynb")):
        target = site / FOLDER / f"{source.stem}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        text = page(json.loads(source.read_text(encoding="utf-8")))
        target.write_text(text, encoding="utf-8")
        made.append(target)
    return made
