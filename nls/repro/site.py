"""The notebooks as a web site that opens from a folder: an index, a page a notebook, what ran when and on what.

Whatever a browser would otherwise fetch or compute is made here, formulas and colours included: no page loads anything
from a network or runs a script. Same notebooks, figures and records, same bytes. Needs the extra `notebooks`.
"""

import html
import json
import os
import re
import subprocess
import threading
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from posixpath import normpath
from xml.etree import ElementTree

import pandas as pd
from PIL import Image

from .. import report
from ..lab.records import read

TITLE = "To smooth or not, reproduced"
ABOUT = """<p class="lead">Wei et al. (ICML 2022, <a href="https://arxiv.org/abs/2106.04149">arXiv 2106.04149</a>)
train on noisy labels with a <em>negative</em> smooth rate. Here their tables and figures are made again from data, a
notebook each, with the published number beside ours and a verdict on every claim. Tables and
figures are made from the <a data-to="status.html">records</a> of the runs; sentences are written about them.</p>"""
SAVED = re.compile(r'save_figure\(\w+, "(\w+)"')
# Colours that notebooks write into their tables, made readable: on white, on black.
COLOURS = {
    "#1e8449": ("#1a7a42", "#58d68d"),
    "#c0392b": ("#b83227", "#ff8f80"),
    "#5d6d7e": ("#566575", "#a9b7c4"),
    "#b9770e": ("#8f5a06", "#e6b35a"),
    "#7d3c98": ("#7d3c98", "#cf9fe3"),
    "#999": ("#696969", "#a8a8a8"),
}
CSS = """:root{color-scheme:light dark;
--paper:#fff;--ink:#1c2024;--soft:#5a636c;--line:#d9dde1;--box:#f6f7f8;--link:#0b5cad}
@media(prefers-color-scheme:dark){
:root{--paper:#15181c;--ink:#e3e6e8;--soft:#a3acb4;--line:#363c43;--box:#1d2126;--link:#7db8f5}
figure img,.cards img{padding:.4rem}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.6 system-ui,sans-serif;overflow-wrap:break-word}
header,main,footer{max-width:70rem;margin:auto;padding:0 1rem}
nav{display:flex;flex-wrap:wrap;gap:.3rem .8rem;padding:.8rem 0;font-size:.9375rem}
header{border-bottom:1px solid var(--line)}header a:first-child{margin-right:auto;font-weight:600}
footer{border-top:1px solid var(--line);margin-top:3rem}[rel=next]{margin-left:auto;text-align:right}
header [rel]{margin:0}
a{color:var(--link)}a:not([href]){color:inherit}nav a,.cards a{text-decoration:none}a:hover{text-decoration:underline}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}main:focus{outline:0}
.skip{position:absolute;left:-99rem}.skip:focus{position:static;display:inline-block;margin:.5rem 1rem}
h1,h2,h3{line-height:1.25;text-wrap:balance}h1{margin:1.8rem 0 1rem}h2{margin:2.4rem 0 .8rem}
p,li{max-width:46rem}.lead{font-size:1.1rem}p:has(.scroll){max-width:none}
details{margin:1rem 0;color:var(--soft)}summary{cursor:pointer}details ul{margin:.3rem 0;padding-left:1.2rem}
code,pre{font:.875rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
:not(pre)>code{background:var(--box);padding:.1em .3em;border-radius:3px}
.scroll{overflow-x:auto;margin:.9rem 0}span.scroll{display:block}
pre{padding:.1rem .9rem;border-left:3px solid var(--line)}
.highlight pre,.text_cell pre{padding:.7rem .9rem;background:var(--box);border:0;border-radius:6px}
table{border-collapse:collapse;font-size:.875rem;line-height:1.4;font-variant-numeric:tabular-nums}
caption{padding:.3rem .6rem;color:var(--soft);min-width:16rem;max-width:calc(100vw - 2rem);position:sticky;left:0}
tbody th{min-width:6rem;position:sticky;left:0;background:var(--paper)}
table{width:max-content}th,td{max-width:16rem}tbody th{max-width:9rem}
@media(max-width:40rem){td{max-width:9rem}td+td{max-width:7.5rem}}
@media(min-width:41rem){td:first-child:nth-last-child(3){max-width:none}}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
figure{margin:1rem 0}figcaption,small{color:var(--soft);font-size:.875rem}figcaption{margin-top:.3rem}
img{max-width:100%;height:auto;display:block;background:#fff;border-radius:6px}
.cards{list-style:none;padding:0;display:grid;gap:1.2rem;
grid-template-columns:repeat(auto-fill,minmax(min(18rem,100%),1fr))}
.cards li{border:1px solid var(--line);border-radius:8px}.cards small{display:block;padding:0 .8rem .8rem}
.cards a{display:block;padding:.8rem;font-weight:600;line-height:1.35}
.cards img{width:100%;aspect-ratio:16/9;object-fit:contain;margin-bottom:.6rem}
.cards div{display:grid;grid-template-columns:1fr 1fr;gap:.5rem;padding:0 .8rem .4rem}.cards div a{padding:0}
math{font-size:1.08em;font-family:Cambria Math,STIX Two Math,Latin Modern Math,DejaVu Math TeX Gyre,math}
math[display=block]{padding:.2rem 0}mn[mathvariant=bold]{font-weight:bold}"""


def page(notebook: Path, site: Path) -> Path:
    """HTML of one executed notebook, as `site/<stem>.html`. Its neighbours are linked by `build`, which knows them."""
    target = site / f"{notebook.stem}.html"
    _write(site / "style.css", _style())
    _write(target, _shell(notebook.stem, _main(_exported(notebook), notebook.stem.replace("_", " ")), site, {}))
    target.touch()  # rendered now, also if it came out the same
    return target


def build(notebooks: Path, figures: Path, results: Path, site: Path, states: Path | None = None) -> Path:
    """The whole site from executed notebooks; only pages older than their notebook (or this file) are rendered again.

    `states` may hold `<stem>.json` with the `seconds` that each notebook took. Returns the path of the index.
    """
    _write(site / "style.css", _style())
    for file in (file for file in figures.glob("*.*") if file.suffix in (".png", ".svg", ".csv")):
        _write(site / "figures" / file.name, file.read_bytes())
    mains, found = {}, sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    for notebook in found:
        target = site / f"{notebook.stem}.html"
        newest = max(file.stat().st_mtime for file in (notebook, Path(__file__)))
        if not target.exists() or target.stat().st_mtime < newest:
            page(notebook, site)
        text = target.read_text(encoding="utf-8")
        mains[notebook.stem] = text[text.index("<main") : text.rindex("</main>") + len("</main>")]
    titles = {stem: _heading(main) for stem, main in mains.items()}
    for stem, main in mains.items():
        _write(site / f"{stem}.html", _shell(stem, main, site, titles))
    _write(site / "status.html", _shell("status", _main(_status(found, titles, results, states)), site, titles))
    _write(site / "index.html", _shell("index", _main(_index(mains, titles, figures)), site, titles))
    return site / "index.html"


def _exported(notebook: Path) -> str:
    """nbconvert's HTML of the cells, formulas as MathML: its parser knows what in a text cell is one, and what code."""
    import nbformat
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def inline_math(self, body: str) -> str:
            return mathml(body)

        def block_math(self, body: str) -> str:
            return mathml(body, "block")

    def markdown(text: str) -> str:
        return MarkdownWithMath(Renderer(escape=False, exclude_anchor_links=True)).render(text)

    exporter = HTMLExporter(template_name="basic", filters={"markdown2html": markdown})
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    read = nbformat.read(notebook, as_version=4)
    for cell in read.cells:
        cell.source = cell.source.removeprefix("# NBVAL_CHECK_OUTPUT\n")  # says something to the tests only
        saved = SAVED.search(cell.source)
        cell.metadata["alt"] = f"Figure: {saved[1][3:].replace('_', ' ') if saved else 'drawn by the code above'}"
    return exporter.from_notebook_node(read)[0]


def mathml(latex: str, display: str = "inline") -> str:
    """A formula as MathML, spaced as TeX does where latex2mathml leaves it to the browser; as code if it is no TeX."""
    from latex2mathml.converter import convert_to_element

    try:
        math = convert_to_element(latex, display=display)
    except Exception:  # its errors have no common base
        return f"<code>{html.escape(latex)}</code>"
    for parent in math.iter():
        children = list(parent)
        for child in children:
            child.text = child.text and html.unescape(child.text)
        for before, child, after in zip([None, *children], children, [*children[1:], None], strict=False):
            opens = before is None or (before.tag == "mo" and before.text not in (")", "]", "|", "‖"))
            if child.text == "∞":
                child.tag = "mi"
            elif child.text == "/":
                child.attrib |= {"lspace": "0", "rspace": "0"}
            elif child.text in ("−", "+") and opens:  # a sign, not an operation
                child.set("form", "prefix")
            elif child.tag == "mi" and len(child.text or "") > 1:  # log, sin
                child.tag, tight = "mo", after is None or after.text == "("
                child.attrib |= {"lspace": "0" if opens else ".17em", "rspace": "0" if tight else ".17em"}
            elif child.tag == "mpadded":  # the label of an arrow, with lengths that browsers do not know
                child.attrib.clear()
            elif parent.tag == "mover" and child.text in ("~", "^", "¯"):
                parent.set("accent", "true")
    math.attrib.pop("xmlns", None)
    return ElementTree.tostring(math, encoding="unicode")


def _main(text: str, title: str = "") -> str:
    """`text` as the `main` element of a page, for phone, keyboard and screen reader, its links as in the site."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(text if "<h1" in text else f"<h1>{title}</h1>{text}", "html.parser")
    for script in soup("script"):
        script.decompose()
    ids = {"main"}
    for number, heading in enumerate(soup.select("h1,h2,h3,h4")):
        heading.name = "h2" if number and heading.name == "h1" else heading.name
        key = re.sub(r"[^\w.]+", "-", heading.get_text()).strip("-")
        heading["id"] = f"{key}-{number}" if key in ids else key
        ids.add(heading["id"])
    for link in soup.select("a[href]"):
        path, _, fragment = link["href"].partition("#")
        if path and not re.match(r"[a-z]+:", path):
            link.attrs = _target(normpath(f"notebooks/{path}"), fragment)
    for image in soup.select(".code_cell img"):
        if png := re.match(r"data:image/png;base64,(.{32})", image["src"]):
            header = b64decode(png[1])
            image["width"], image["height"] = (str(int.from_bytes(header[i : i + 4])) for i in (16, 20))
        if saved := SAVED.search(image.find_parent(class_="code_cell").get_text()):
            files = " · ".join(f'<a data-to="figures/{saved[1]}.{s}">{s.upper()}</a>' for s in ("svg", "csv"))
            image.parent.name, image.parent["id"] = "figure", saved[1]
            image.parent.append(BeautifulSoup(f"<figcaption>{files}</figcaption>", "html.parser"))
    for table in soup("table"):
        box = table.parent if "overflow" in table.parent.get("style", "") else table.wrap(soup.new_tag("div"))
        label = (table.caption or table.find_previous(["h1", "h2", "h3"])).get_text()
        box.attrs = {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": f"Table: {label}"}
        for cell in table("th"):
            cell.attrs |= {"scope": "col" if cell.find_parent("thead") else "row"}
            if not cell.get_text(strip=True):
                cell.name, cell.attrs = "td", {}
    for box in [*soup("pre"), *(math.wrap(soup.new_tag("span")) for math in soup.select("math[display=block]"))]:
        label = "Formula" if box.math else "Code" if box.find_parent(class_="highlight") else "Output"
        box.attrs = {"class": "scroll", "role": "group", "tabindex": "0", "aria-label": label}
    sections = "".join(f'<li><a href="#{h["id"]}">{h.decode_contents()}</a></li>' for h in soup("h2"))
    if sections and soup.select(".code_cell"):
        contents = f"<details><summary>On this page</summary><ul>{sections}</ul></details>"
        soup.h1.insert_after(BeautifulSoup(contents, "html.parser"))
    return f'<main id="main" tabindex="-1">{soup}</main>'


def _target(path: str, fragment: str) -> dict[str, str]:
    """Attributes of a link to a `path` of the repository. Whether a `data-to` is in the site is for `_shell` to see."""
    inside = re.sub(r"^notebooks/(\w+)\.ipynb$", r"\1.html", path)
    if inside != path or path.startswith("figures/"):
        return {"data-to": f"{inside}#{fragment}" if fragment else inside}
    files = [file for name in ("CITATION.cff", "pyproject.toml") if (file := report.home() / name).exists()]
    told = "\n".join(file.read_text(encoding="utf-8") for file in files)
    url = re.search(r"""(?mi)^repository(?:-code)?\s*[:=]\s*["']?(https?://[^\s"']+)""", told)
    return {"href": f"{url[1]}/blob/HEAD/{path}"} if url else {}


def _heading(main: str) -> str:
    """The first heading as HTML, without the notebook's number."""
    return re.sub(r"^\d\d[ ·:]+", "", re.search(r"<h1[^>]*>(.*?)</h1>", main, re.DOTALL)[1])


def _shell(stem: str, main: str, site: Path, titles: Mapping[str, str]) -> str:
    """A whole page around `main`: head, navigation, and links to what is in the site by now."""

    def settled(link: re.Match) -> str:
        href = f' href="{link[1]}"' if (site / link[1].partition("#")[0]).exists() else ""
        return f'<a{href} data-to="{link[1]}"'

    order = ["", *titles, ""]
    at = order.index(stem) if stem in titles else 0
    near = (("prev", "← {}", order[at - 1]), ("next", "{} →", order[at + 1] if at else ""))
    links = [(f'<a rel="{rel}" href="{to}.html">{form}</a>', to) for rel, form, to in near if to]
    top = "".join(link.format(to[:2]) for link, to in links)
    bottom = "".join(link.format(f"{to[:2]} {titles[to]}") for link, to in links)
    title = re.sub("<[^>]*>", "", _heading(main))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title if stem == "index" else f"{title} · {TITLE}"}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css">
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header><nav aria-label="Site"><a href="index.html">To smooth or not</a>{top}<a href="status.html">Status</a></nav>
</header>
{re.sub(r'<a(?: href="[^"]*")? data-to="([^"]*)"', settled, main)}
<footer><nav aria-label="Notebooks">{bottom or '<a href="index.html">All notebooks</a>'}</nav></footer>
</body>
</html>
"""


def _index(mains: Mapping[str, str], titles: Mapping[str, str], figures: Path) -> str:
    """What this is, a card per notebook, the scoreboard."""

    def counts(verdicts: pd.Series) -> str:
        n = verdicts.value_counts()
        return " · ".join(f'<b style="color:{c}">{v}</b> {n[v]}' for v, c in report.COLOURS.items() if v in n)

    def thumbnail(figure: str) -> str:
        with Image.open(figures / f"{figure}.png") as opened:
            size = 'width="{}" height="{}"'.format(*opened.size)
        return f'<img src="figures/{figure}.png" {size} alt="Figure {figure}" loading="lazy">'

    board, cards = report.scoreboard(figures), []
    for stem, title in titles.items():
        drawn = dict.fromkeys(re.findall(r'data-to="figures/(\w+)\.svg"', mains[stem]))
        first, *others = [name for name in drawn if (figures / f"{name}.png").exists()] or [None]
        link = f'<a data-to="{stem}.html">{thumbnail(first) if first else ""}{stem[:2]} {title}</a>'
        more = "".join(f'<a data-to="{stem}.html#{name}">{thumbnail(name)}</a>' for name in others)
        verdicts = counts(board.loc[board["notebook"] == stem[:2], "verdict"])
        cards.append(f"<li>{link}<small>{verdicts}</small><div>{more}</div></li>")
    table = report.verdict_table(board)
    for stem in titles:  # in a row's last cell
        table = re.sub(rf">{stem[:2]}(</td>\s*</tr>)", rf'><a data-to="{stem}.html">{stem[:2]}</a>\1', table)
    return f"""<h1>{TITLE}</h1>{ABOUT}<h2>Notebooks</h2><ul class="cards">{"".join(cards)}</ul>
<h2>Scoreboard</h2><p>{len(board)} claims: {counts(board["verdict"])}</p>{table}"""


def _status(found: Sequence[Path], titles: Mapping[str, str], results: Path, states: Path | None) -> str:
    """What each notebook and each file of records took."""
    ran, files = [], []
    for notebook in found:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        link = f'<a data-to="{notebook.stem}.html">{notebook.stem[:2]} {titles[notebook.stem]}</a>'
        count = sum(cell["cell_type"] == "code" for cell in cells)
        ran.append({"notebook": link, "code cells": count, "ran for": _seconds(states, notebook.stem)})
    for file, records in ((file, read(file)) for file in sorted(results.glob("*.jsonl"))):
        for regime, runs in pd.DataFrame(records).groupby("regime", sort=False) if records else ():
            row = {"table": file.stem, "regime": regime, "records": len(runs), "seeds": runs["seed"].nunique()}
            row["trained on"] = html.escape("; ".join(runs["device"].unique()))
            row["torch"] = ", ".join(runs["versions"].str.extract(r"torch ([^,\s]+)")[0].unique())
            files.append(row | {"training time": _duration(_trained(runs)), "file of": _date(file)})
    tables = [report.html_table(pd.DataFrame(rows), escape=False, index=False) if rows else "" for rows in (ran, files)]
    return f"""<h1>Status</h1><h2>Notebooks</h2>{tables[0]}<h2>Records</h2>
<p>The training time is that of all records, one after the other, each warm-up once.</p>{tables[1]}"""


def _seconds(states: Path | None, stem: str) -> str:
    try:
        return _duration(float(json.loads((states / f"{stem}.json").read_text())["seconds"]))
    except (TypeError, OSError, ValueError, LookupError):  # no folder, no file, no number
        return "–"


def _trained(runs: pd.DataFrame) -> float:
    """Seconds of training. A record counts the warm-up that it starts from, but it was trained once."""
    same = ["dataset", "noise", "noise_rate", "seed"]
    warm = runs[(runs["start"] == "scratch") & (runs["rate"] == 0)].groupby(same)["seconds"].first().rename("warm")
    return runs["seconds"].sum() - runs[runs["start"] != "scratch"].join(warm, on=same)["warm"].sum()


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


def _date(path: Path) -> str:
    """Of the last commit that touched the file, else of the file."""
    try:
        command = ["git", "log", "-1", "--format=%cs", "--", path.name]
        said = subprocess.run(command, cwd=path.parent, capture_output=True, text=True).stdout.strip()
    except OSError:
        said = ""
    return said or datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()


def _style() -> str:
    """The style sheet: code and tables have a set of colours for a light page and one for a dark one."""
    from pygments.formatters import HtmlFormatter

    light, dark = (
        HtmlFormatter(style=style).get_token_style_defs(".highlight")
        + [f'[style*="{colour}"]{{color:{shown[i]}!important}}' for colour, shown in COLOURS.items()]
        for i, style in enumerate(("xcode", "github-dark"))
    )
    return "\n".join([CSS, *light, "@media(prefers-color-scheme:dark){", *dark, "}\n"])


def _write(path: Path, content: str | bytes) -> None:
    """All or nothing, so that nobody reads half a page; what is there already keeps its date."""
    content = content.encode() if isinstance(content, str) else content
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
