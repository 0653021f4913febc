"""The site: nothing broken, nothing fetched, the same bytes every time, and a real browser that has nothing to say."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from nls import report
from nls.repro import site

ROOT = Path(__file__).parents[1]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # 1 × 1


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """The site of the committed notebooks, and its pages parsed."""
    index = site.build(ROOT / "notebooks", ROOT / "figures", ROOT / "results", tmp_path_factory.mktemp("site"))
    return {path: BeautifulSoup(path.read_text(), "html.parser") for path in index.parent.glob("*.html")}


@pytest.fixture
def house(tmp_path):
    """Two small notebooks, with what makes trouble."""
    text = (
        "# 01 One & two: $r_i$\n\nCosts `5$` and `6$`, $a_1 < b_2$ and *so* on, $c_3$.\n\n$$ x\n= \\frac 1 2 $$\n\n"
        "```\nif $HOME and $b:\n```\n\n[next](02_next.ipynb#What-holds), [lost](03_lost.ipynb), "
        "[code](../nls/losses.py), [out](https://example.org), [here](#Again)\n\n## Again\n\n## Again\n\n## $\\foo{$"
    )
    table = report.html_table(pd.DataFrame({"a": [1]}, index=["x"]), "A caption")
    outputs = [
        new_output("display_data", {"text/html": f"{table}<script>alert()</script>"}),
        new_output("display_data", {"image/png": PIXEL}),
        new_output("stream", text="a < b costs $1 or $2\n"),
    ]
    cells = [
        new_markdown_cell(text),
        new_code_cell('# NBVAL_CHECK_OUTPUT\nsave_figure(fig, "01_drawn", f"$")', outputs=outputs),
    ]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks/01_one.ipynb")
    nbformat.write(new_notebook(cells=[new_markdown_cell("## What holds")]), tmp_path / "notebooks/02_next.ipynb")
    for folder in ("figures", "results", "state"):
        (tmp_path / folder).mkdir()
    (tmp_path / "figures/01_drawn.svg").write_text("<svg/>")
    record = {"regime": "paper", "seed": 0, "device": "a & b", "versions": "python 3, torch 2.11", "start": "scratch"}
    record |= {
        "dataset": "x",
        "noise": "y",
        "noise_rate": 0.1,
        "rate": 0.0,
        "config": "c",
        "data": "d",
        "seconds": 9000,
    }
    lines = [record] + [record | {"start": "last", "rate": rate, "seconds": 9360} for rate in (-1.0, -2.0)]
    (tmp_path / "results/table2.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def build(house):
    return site.build(*(house / name for name in ("notebooks", "figures", "results", "site", "state")))


def parsed(path):
    return BeautifulSoup(path.read_text(), "html.parser")


@pytest.mark.slow
def test_every_link_and_source_is_there(committed):
    checked = 0
    for path, page in committed.items():
        for element in page.select("[href],[src]"):
            target, _, fragment = element.get("href", element.get("src")).partition("#")
            if re.match(r"data:|https:", target):
                continue
            there = (path.parent / target).resolve() if target else path
            assert there.is_file(), f"{path.name}: {element}"
            assert not fragment or committed[there].find(id=fragment), f"{path.name}: {element}"
            checked += 1
    assert checked > 200


def test_nothing_is_loaded_from_a_network_and_nothing_runs(committed):
    style = next(iter(committed)).parent / "style.css"
    assert not re.search(r"url\(|@import|http", style.read_text())
    for page in committed.values():
        assert not page(["script", "iframe", "object", "style"])
        loaded = [e.get("src") or e["href"] for e in page.select("[src],link[href]")]
        assert all(re.match(r"data:|style\.css$|figures/", url) for url in loaded)


def test_every_formula_of_the_notebooks_is_mathml(committed):
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = (cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
        prose = (re.sub(r"`[^`]*`", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL)) for text in cells)
        expected = sum(text.replace("$$", "$").count("$") // 2 for text in prose)
        page = next(page for other, page in committed.items() if other.stem == path.stem)
        formulas = [math for math in page.select(".text_cell math") if not math.find_parent("details")]
        assert len(formulas) == expected, path.stem
        assert not [math for math in formulas if "\\" in math.get_text()], path.stem  # a command that is not known


def test_pages_have_landmarks_one_title_and_unique_ids(committed):
    for path, page in committed.items():
        assert page.html["lang"] == "en" and page.title.get_text()
        assert [len(page(tag)) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1], path.name
        ids = [element["id"] for element in page.select("[id]")]
        assert len(ids) == len(set(ids)), path.name
        assert page.body.find("a")["href"] == "#main"
        assert all(image.get("alt") and image.get("width") and image.get("height") for image in page("img"))


def test_what_is_wide_scrolls_in_a_box_that_the_keyboard_reaches(committed):
    for path, page in committed.items():
        for element in page.select("table,pre,math[display=block]"):
            box = element if element.name == "pre" else element.parent
            assert "scroll" in box["class"] and box["tabindex"] == "0" and box["aria-label"], path.name
        assert all(head.get("scope") for head in page("th"))


def test_the_index_shows_every_notebook_and_every_claim(committed):
    index = next(page for path, page in committed.items() if path.name == "index.html")
    cards = [a["href"] for a in index.select(".cards li > a")]
    assert cards == [f"{p.stem}.html" for p in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    thumbnails = [Path(image["src"]).stem for image in index.select(".cards img[loading=lazy]")]
    assert sorted(thumbnails) == sorted(p.stem for p in (ROOT / "figures").glob("*.png"))
    for link in index.select(".cards div a"):  # to the figure itself
        assert link["href"].split("#")[1] == Path(link.img["src"]).stem
    board = report.scoreboard(ROOT / "figures")
    rows = index.select("tbody tr")
    assert [row.td.get_text() for row in rows] == list(board["claim"])
    assert rows[0].select("td")[-1].a["href"].startswith("01_")
    assert index.select('nav a[href="status.html"]')


def test_the_status_page_has_a_row_per_notebook_and_per_table(committed):
    status = next(page for path, page in committed.items() if path.name == "status.html")
    notebooks, records = status("table")
    assert len(notebooks.select("tbody tr")) == len(list((ROOT / "notebooks").glob("*.ipynb")))
    tables = {row.td.get_text() for row in records.select("tbody tr")}
    assert tables == {path.stem for path in (ROOT / "results").glob("*.jsonl")}
    assert re.search(r"\d{4}-\d\d-\d\d", records.get_text())


def test_formulas_are_converted_and_code_is_not(house):
    page = parsed(build(house).parent / "01_one.html")
    math = [m.get_text(" ", strip=True) for m in page.select("main p math")]
    assert math[:2] == ["a 1 < b 2", "c 3"] and page.select_one("math[display=block] mfrac")
    assert [code.get_text() for code in page.select("p code")] == ["5$", "6$"]
    assert page.find("pre", string=re.compile(r"if \$HOME and \$b:"))
    assert page.find("pre", string=re.compile(r"a < b costs \$1 or \$2"))
    assert page.h1.get_text() == "01 One & two: ri" and page.title.get_text().startswith("One & two: ri · ")


def test_a_formula_that_is_no_tex_is_shown_as_it_is():
    assert site.mathml(r"\frac 1 2 < y_") == r"<code>\frac 1 2 &lt; y_</code>"


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"(-\infty, 1]", '<mo form="prefix">−</mo><mi>∞</mi>'),
        (r"1 - r", "<mn>1</mn><mo>−</mo><mi>r</mi>"),
        (r"r/K", '<mo lspace="0" rspace="0">/</mo>'),
        (r"a\log p", '<mo lspace=".17em" rspace=".17em">log</mo>'),
        (r"\tilde Y", '<mover accent="true">'),
        (r"a < b", "<mo>&lt;</mo>"),
    ],
)
def test_formulas_are_spaced_as_tex_does(latex, expected):
    assert expected in site.mathml(latex)


def test_links_go_where_something_is(house):
    page = parsed(build(house).parent / "01_one.html")
    links = {a.get_text(): a.get("href") for a in page.main("a")}
    assert links["next"] == "02_next.html#What-holds" and links["out"] == "https://example.org"
    assert links["lost"] is links["code"] is None  # plain text
    assert links["SVG"] == "figures/01_drawn.svg" and links["CSV"] is None
    assert page.find(id="What-holds") is None and links["here"] == "#Again" and page.find(id="Again")
    assert [a["href"] for a in page.footer("a")] == ["02_next.html"]
    assert [a["href"] for a in parsed(house / "site/02_next.html").footer("a")] == ["01_one.html"]


def test_links_to_other_files_lead_to_the_repository_if_it_has_an_address(house, monkeypatch):
    (house / "CITATION.cff").write_text('title: x\nrepository-code: "https://example.org/nls"\n')
    monkeypatch.setattr(report, "home", lambda: house)
    page = parsed(build(house).parent / "01_one.html")
    assert page.find("a", string="code")["href"] == "https://example.org/nls/blob/HEAD/nls/losses.py"


def test_tables_and_figures_of_a_notebook(house):
    page = parsed(build(house).parent / "01_one.html")
    box = page.table.parent
    assert (box["role"], box["tabindex"], box["aria-label"]) == ("region", "0", "Table: A caption")
    assert [(cell.name, cell.get("scope")) for cell in page.table("tr")[1](["th", "td"])] == [
        ("th", "row"),
        ("td", None),
    ]
    assert page.table.td.get_text() == "" and not page("script") and "NBVAL" not in page.get_text()
    assert (page.img["width"], page.img["height"], page.img["alt"]) == ("1", "1", "Figure: drawn")


def test_what_is_not_there_yet_is_no_error(tmp_path):
    """No figures, records or states, and a notebook that broke before its title."""
    broken = new_output("error", ename="E", evalue="a < b", traceback=["\x1b[31mE\x1b[0m: a < b"])
    (tmp_path / "new").mkdir()
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0", outputs=[broken])]), tmp_path / "new/07_broken.ipynb")
    index = site.build(*(tmp_path / name for name in ("new", "no", "none", "new/site", "nowhere")))
    page = parsed(index.parent / "07_broken.html")
    assert page.h1.get_text() == "07 broken" and page("pre")[1].get_text().strip() == "E: a < b"
    assert len(parsed(index).select("tbody tr")) == len(report.scoreboard(tmp_path))
    assert [row.td.get_text() for row in parsed(index.parent / "status.html").select("tbody tr")] == ["07 broken"]


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_input_gives_the_same_bytes(house):
    """Also if a page was made before its neighbours were there, as in a batch."""
    first = files_of(build(house).parent)
    shutil.rmtree(house / "site")
    site.page(house / "notebooks/01_one.ipynb", house / "site")
    assert "02_next.html" not in (house / "site/01_one.html").read_text().split("<footer>")[1]
    assert files_of(build(house).parent) == first
    assert not [name for name in first if name.endswith(".tmp")]


def test_an_untouched_page_is_not_rendered_again(house, monkeypatch):
    build(house)
    rendered = []
    monkeypatch.setattr(site, "_exported", lambda notebook: rendered.append(notebook.stem) or "<h1>New</h1>")
    before = (house / "site/01_one.html").stat().st_mtime_ns
    build(house)
    assert rendered == [] and (house / "site/01_one.html").stat().st_mtime_ns == before
    later = before / 1e9 + 10
    os.utime(house / "notebooks/02_next.ipynb", (later, later))
    build(house)
    assert rendered == ["02_next"] and "New" in (house / "site/02_next.html").read_text()


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ('{"seconds": 12.4}', "12 s"),
        ('{"seconds": 150}', "2.5 min"),
        ('{"seconds": null}', "–"),
        ("{torn", "–"),
        ("[]", "–"),
    ],
)
def test_the_runtime_is_what_the_state_says_if_it_says_something(house, state, shown):
    (house / "state/01_one.json").write_text(state)
    os.utime(house / "results/table2.jsonl", (1e9, 1e9))  # in no repository: the date is the file's
    build(house)
    rows = [[cell.get_text() for cell in row("td")] for row in parsed(house / "site/status.html").select("tbody tr")]
    assert rows[0] == ["01 One & two: ri", "1", shown] and rows[1][2] == "–"
    assert rows[2] == ["table2", "paper", "3", "1", "a & b", "2.11", "2.7 h", "2001-09-09"]  # of one warm-up


# Opens one page after the other in a frame as wide as a phone and writes into the DOM what is wrong with it.
MEASURE = """<!doctype html><title>measure</title><pre id="found"></pre><script type="module">
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => numbers(colour).slice(0, 3).map((c) => c / 255)
  .map((c) => (c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const found = [];
for (const source of PAGES) {
  const frame = document.createElement("iframe"), say = (what) => found.push(`${source}: ${what}`);
  Object.assign(frame, { src: source, width: 360, height: 800, style: "border: 0" });
  await new Promise((loaded) => { frame.onload = loaded; document.body.append(frame); });
  const page = frame.contentDocument, style = frame.contentWindow.getComputedStyle;
  const width = page.documentElement.scrollWidth;
  if (width > 360) say(`${width} px wide`);
  for (const image of page.images) {
    image.loading = "eager";
    await new Promise((done) => { image.complete ? done() : (image.onload = image.onerror = done); });
    if (!image.naturalWidth) say(`no image: ${image.alt}`);
  }
  for (const { name } of frame.contentWindow.performance.getEntriesByType("resource"))
    if (!/^(file|data):/.test(name)) say(`loads ${name}`);
  const walk = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.data.trim().slice(0, 40), element = walk.currentNode.parentElement;
    if (!text || !element.getClientRects().length) continue;
    let behind = element;
    while (numbers(style(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const light = [style(element).color, style(behind).backgroundColor].map(luminance).sort();
    if ((light[1] + .05) / (light[0] + .05) < 4.5) say(`hard to read: ${text}`);
  }
  say(frame.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  frame.remove();
}
document.getElementById("found").textContent = found.join("\\n");
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
@pytest.mark.parametrize(("scheme", "setting"), [("light", 1), ("dark", 0)])
def test_a_browser_has_nothing_to_say_on_a_phone(committed, tmp_path, scheme, setting):
    """No message on the console, nothing wider than 360 px, no missing image, no text below a contrast of 4.5."""
    pages = sorted(path.as_uri() for path in committed)
    (tmp_path / "measure.html").write_text(MEASURE.replace("PAGES", json.dumps(pages)))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files"]
    command += [f"--blink-settings=preferredColorScheme={setting}", "--virtual-time-budget=600000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "measure.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    found = BeautifulSoup(done.stdout, "html.parser").find(id="found").get_text().splitlines()
    assert found == [f"{page}: {scheme}" for page in pages]
