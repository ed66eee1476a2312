"""How Sphinx builds the book; ``docs/build.py`` stages the pages and calls it.

Notebooks are never run here: the book shows the outputs that are committed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

project = "Out-of-context reasoning: an executable companion"
author = "The oocr companion authors"
language = "en"

extensions = ["myst_nb"]
exclude_patterns = ["download"]
highlight_language = "none"  # fences without a language are shell sessions or output
smartquotes = False  # "--preset" keeps its two hyphens

nb_execution_mode = "off"
nb_merge_streams = True  # one block for the lines of one cell
nb_code_prompt_show = "Show the code"  # of cells that only prepare or draw
nb_code_prompt_hide = "Hide the code"
myst_heading_anchors = 4
# Exercises are headings of level 3 in every session, also in those without one of level 2.
suppress_warnings = ["myst.header"]
myst_enable_extensions = ["attrs_block", "attrs_inline"]

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_use_index = False
html_copy_source = False  # every notebook page has a link to the file itself
html_show_copyright = False
# Summaries are fetched page by page, which browsers forbid for files opened from disk; the search
# page shows them from one script instead (search_texts.py).
html_show_search_summary = False

COLUMNS = re.compile(r"\S {2,}\S")


def alt_texts(notebook: dict[str, Any]) -> dict[str, str]:
    """What each picture shows, by the hash of its bytes, from the outputs' metadata."""
    texts = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            for kind, data in output.get("data", {}).items():
                alt = output.get("metadata", {}).get(kind, {})
                if kind in ("image/png", "image/jpeg") and isinstance(alt, dict) and alt.get("alt"):
                    raw = base64.b64decode("".join(data))
                    texts[hashlib.sha256(raw).hexdigest()] = str(alt["alt"])
    return texts


def describe_pictures(app: Any, doctree: Any) -> None:
    """Give a notebook's figures their alt text, which the notebook reader drops.

    Pictures are recognised by their bytes, so this does not depend on how they are named.
    """
    from docutils import nodes

    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix != ".ipynb":
        return
    texts = alt_texts(json.loads(source.read_text(encoding="utf-8")))
    for node in doctree.findall(nodes.image):
        path = Path(app.srcdir) / node["uri"].lstrip("/")
        file = path if path.is_file() else Path(node["uri"])
        if not node.get("alt") and file.is_file():
            node["alt"] = texts.get(hashlib.sha256(file.read_bytes()).hexdigest(), "")


def is_prose(text: str) -> bool:
    """Whether printed text is lines to read, not columns: few lines have spaces in a row inside."""
    lines = text.splitlines()
    return 2 * sum(COLUMNS.search(line) is not None for line in lines) < max(1, len(lines))


def wrap_prose(app: Any, doctree: Any) -> None:
    """Mark the printed text that may wrap; columns scroll instead."""
    from docutils import nodes

    for node in doctree.findall(nodes.literal_block):
        if "stream" in node["classes"] and is_prose(node.astext()):
            node["classes"].append("prose")


def anchor_cells(app: Any, doctree: Any) -> None:
    """Give every code cell of a notebook its id as an anchor, for links from other pages.

    Registered where MyST keeps the anchors of headings: so it finds them, and warns of others.
    """
    from docutils import nodes

    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix != ".ipynb":
        return
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for node in doctree.findall(nodes.container):
        if node.get("nb_element") == "cell_code":
            anchor = cells[node["cell_index"]]["id"]
            node["ids"].append(anchor)
            slugs.setdefault(anchor, (node.line or 0, anchor, "cell"))


def search_scripts(app: Any, pagename: str, *_: Any) -> None:
    """Load the pages' texts on the search page only; they are too much for every page."""
    if pagename == "search":
        app.add_js_file("search_texts.js")
        app.add_js_file("search_snippets.js")


def setup(app: Any) -> dict[str, bool]:
    """Connect what this file adds to Sphinx."""
    app.connect("doctree-read", describe_pictures)
    app.connect("doctree-read", wrap_prose)
    app.connect("doctree-read", anchor_cells)
    app.connect("html-page-context", search_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
