/* Shows where a word was found, below each result of the search page. The texts are in
   search_texts.js, because pages cannot be fetched when the site is opened from disk. Texts are only
   ever set as text, never as HTML. */
"use strict";

(() => {
  const CONTEXT = 110; // characters before and behind the first hit
  const results = document.getElementById("search-results");
  const query = (new URLSearchParams(window.location.search).get("q") || "").trim();
  if (!results || !query || typeof BOOK_TEXTS === "undefined") return;

  const words = query.toLowerCase().split(/[^\p{L}\p{N}_]+/u).filter((word) => word);
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const either = (forms) => // longer forms first, so that they are marked as a whole
    [...new Set(forms)].sort((a, b) => b.length - a.length).map(escaped).join("|");
  const START = "(?<![\\p{L}\\p{N}])";
  const END = "(?![\\p{L}\\p{N}])";

  /* The words as typed and their stems, because "steering" is also found where "steers" is written,
     as Sphinx does; and patterns from the phrase to a part of a word. Called when the first result
     is there: Sphinx loads its stemmer after this script. */
  const forms = () => {
    const stemmer = typeof Stemmer === "undefined" ? null : new Stemmer();
    const stems = stemmer ? words.map((word) => stemmer.stemWord(word)) : [];
    const any = either([...words, ...stems].filter((form) => form.length > 1 || !words[1]));
    const found = [escaped(query)];
    if (words.length) found.push(`${START}(?:${either(words)})${END}`);
    if (any) found.push(`${START}(?:${any})`, any);
    return {
      patterns: found.map((pattern) => new RegExp(pattern, "iu")),
      mark: any ? new RegExp(`${START}(?:${any})[\\p{L}\\p{N}]*`, "giu") : null,
    };
  };
  let known = null;
  const searched = () => (known ??= forms());

  /* The first hit of the best kind: [section, position in its text]; or a heading's section. */
  const find = (sections) => {
    for (const pattern of searched().patterns)
      for (const section of sections) {
        const hit = pattern.exec(section[2]);
        if (hit) return [section, hit.index];
      }
    const [, ...below] = sections; // the page's own title is above the snippet
    const headed = below.find(([, heading]) =>
      searched().patterns.some((pattern) => pattern.test(heading)));
    return headed ? [headed, 0] : null;
  };

  const marked = (parent, text) => {
    const pattern = searched().mark;
    if (!pattern) return parent.append(text);
    let from = 0;
    for (const hit of text.matchAll(pattern)) {
      parent.append(text.slice(from, hit.index));
      const mark = document.createElement("mark");
      mark.textContent = hit[0];
      parent.append(mark);
      from = hit.index + hit[0].length;
    }
    parent.append(text.slice(from));
  };

  /* A paragraph: the link to the section where the hit is, and the text around it. */
  const snippet = (page, address, [[anchor, heading, text], position]) => {
    let start = Math.max(position - CONTEXT, 0);
    let end = Math.min(position + CONTEXT + query.length, text.length);
    if (start > 0) start = text.indexOf(" ", start) + 1 || start; // whole words
    if (start > position) start = position;
    if (end < text.length) end = Math.max(text.lastIndexOf(" ", end), position + query.length);
    const paragraph = document.createElement("p");
    paragraph.className = "context";
    if (anchor !== BOOK_TEXTS[page][0][0] && !address.includes("#")) {
      const link = document.createElement("a");
      link.href = `${address}#${anchor}`;
      link.textContent = heading;
      paragraph.append(link, ": ");
    }
    paragraph.append(start > 0 ? "… " : "");
    marked(paragraph, text.slice(start, end));
    paragraph.append(end < text.length ? " …" : "");
    return paragraph;
  };

  const complete = (item) => {
    const link = item.querySelector("a");
    if (!link || item.querySelector(".context")) return;
    const address = link.getAttribute("href");
    const [path, anchor] = address.split("#");
    const page = path.replace(/\.html$/, "");
    if (!Object.hasOwn(BOOK_TEXTS, page)) return;
    const sections = BOOK_TEXTS[page];
    const own = sections.filter((section) => section[0] === anchor && section[2]);
    // Nothing found: Sphinx also knows words that are not shown. Then the text's beginning.
    const first = own[0] || sections.find((section) => section[2]);
    const found = find(own) || (!own.length && find(sections)) || (first && [first, 0]);
    if (found) item.append(snippet(page, address, found));
  };

  /* Sphinx leaves out numbers, and a code name is one. When it has found nothing: the pages whose
     texts have every word. */
  const ownSearch = () => {
    const list = results.querySelector("ul.search");
    const status = results.querySelector(".search-summary");
    if (!list || list.children.length || !status.textContent || !words.length) return;
    const starts = words.map((word) => new RegExp(START + escaped(word), "iu"));
    const pages = Object.keys(BOOK_TEXTS).filter((page) => {
      const text = BOOK_TEXTS[page].map((section) => section.slice(1).join(" ")).join(" ");
      return starts.every((start) => start.test(text));
    });
    for (const page of pages) {
      const item = list.appendChild(document.createElement("li"));
      const link = item.appendChild(document.createElement("a"));
      link.href = `${page}.html`;
      link.textContent = BOOK_TEXTS[page][0][1];
    }
    if (pages.length) status.textContent = `Found on ${pages.length} page(s).`;
  };

  const all = () => {
    ownSearch();
    results.querySelectorAll("ul.search > li").forEach(complete);
  };
  new MutationObserver(all).observe(results, { childList: true, subtree: true });
  all();
})();
