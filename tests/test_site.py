"""The site: no warning, nothing broken, nothing fetched, and a real browser that has nothing to say."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import nls
from nls import report
from nls.repro import site

ROOT = Path(__file__).parents[1]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # 1 × 1


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Path and text of every page of the committed notebooks' site. A warning would be an error."""
    folder = site.build(ROOT, tmp_path_factory.mktemp("built") / "site").parent
    return {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.html") if "_static" not in path.parts}


def page(pages, name):
    return next(text for path, text in pages.items() if path.name == name)


@pytest.mark.slow
def test_nothing_is_loaded_from_a_network_and_every_link_leads_somewhere(pages):
    checked = 0
    for path, text in pages.items():
        for tag, url in re.findall(r'<(\w+)[^>]*?\s(?:href|src)="([^"]*)"', text):
            target, _, anchor = html.unescape(url).partition("#")
            if re.match(r"(\w+:)?//|data:", target):
                assert tag == "a" or target.startswith("data:"), f"{path.name} loads {url}"
                continue
            there = (path.parent / unquote(target.partition("?")[0])).resolve() if target else path
            assert there.is_file(), f"{path.name}: {url}"
            found = not anchor or there not in pages or f'id="{unquote(anchor)}"' in pages[there]
            assert found, f"{path.name}: {url}"
            checked += 1
    assert checked > 500
    for style in next(iter(pages)).parent.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", style.read_text("utf-8")), style.name


@pytest.mark.slow
def test_every_formula_is_mathml(pages):
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        all_cells = nbformat.read(path, 4).cells
        outputs = (out.get("data", {}) for cell in all_cells for out in cell.get("outputs", []))
        cells = [cell.source for cell in all_cells if cell.cell_type == "markdown"]
        cells += [data["text/markdown"] for data in outputs if "text/markdown" in data]
        prose = (re.sub(r"`[^`]*`", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL)) for text in cells)
        expected = sum(text.replace("$$", "$").count("$") // 2 for text in prose)
        text = page(pages, f"{path.stem}.html")
        article = text[text.index("<article") : text.index("</article>")]
        assert article.count("<math ") == expected, path.stem
    signs = "".join(pages.values())
    assert '<mo form="prefix">&#x02212;</mo><mi>&#x0221E;</mi>' in signs and "<mo>&#x0221E;" not in signs


@pytest.mark.slow
def test_claims_figures_and_functions_are_there(pages):
    for claim in report.scoreboard(ROOT / "figures")["claim"]:
        assert html.escape(claim) in page(pages, "findings.html")
    assert all(f'id="nls.{name}"' in page(pages, "api.html") for name in nls.__all__)
    for figure in (ROOT / "figures").glob("*.png"):
        assert f"{figure.stem}.png" in page(pages, "figures.html"), figure.stem
    for table in (ROOT / "results").glob("*.jsonl"):
        assert f">{table.stem}<" in page(pages, "status.html")
    index = (next(path for path in pages if path.name == "index.html").parent / "searchindex.js").read_text("utf-8")
    assert '"gls_loss"' in index


SAID = "| rate |\n|---|\n| $r_i$ |\n\n[two](02_two.ipynb)"


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A small repository, one notebook of which ran and failed in a build folder."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.md"))
    (tmp_path / "docs/index.md").write_text("# House\n\n```{include} _ran.md\n```\n\n```{include} _toctree.md\n```\n")
    drawn = new_output("display_data", {"image/png": PIXEL})
    cells = [
        new_markdown_cell("# 01 · One: $r_i < 1$\n\n[two](02_two.ipynb)"),
        new_code_cell('# NBVAL_CHECK_OUTPUT\nsave_figure(fig, "01_drawn", numbers)', outputs=[drawn]),
        new_code_cell("say(text)", outputs=[new_output("display_data", {"text/markdown": SAID})]),
    ]
    told = new_markdown_cell("[In [1]](#papermill)", metadata={"tags": ["papermill-error-cell-tag"]})
    broken = new_output("error", ename="E", evalue="a < b", traceback=["\x1b[31mE\x1b[0m: a < b"])
    files = {"notebooks/01_one": cells, "notebooks/02_two": [new_markdown_cell("# 02 Committed")]}
    files["build/notebooks/02_two"] = [told, new_markdown_cell("# 02 Ran"), new_code_cell("1 / 0", outputs=[broken])]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        notebook = new_notebook(cells=content, metadata={"language_info": {"name": "python"}})
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(report, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.slow
def test_what_ran_is_shown_the_rest_as_committed_and_what_is_unchanged_not_again(house):
    index = site.build(house / "build", house / "build/site")
    one, two = (index.parent / f"notebooks/{name}.html" for name in ("01_one", "02_two"))
    assert "as committed" in index.read_text() and "here, and failed" in index.read_text()
    assert "01 One" in index.read_text() and "NBVAL" not in one.read_text() and 'id="drawn"' in one.read_text()
    said = one.read_text().partition("cell_output")[2].partition("<table")[2]
    assert "<math" in said.partition("</table>")[0] and 'href="02_two.html"' in said
    assert "a &lt; b" in two.read_text() and "Committed" not in two.read_text()
    before = one.stat().st_mtime_ns, two.stat().st_mtime_ns
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Again")]), house / "build/notebooks/02_two.ipynb")
    site.build(house / "build", house / "build/site")
    assert one.stat().st_mtime_ns == before[0] and two.stat().st_mtime_ns > before[1]
    nbformat.write(new_notebook(cells=[new_markdown_cell("# $y_$ $\\foo$")]), house / "build/notebooks/02_two.ipynb")
    with pytest.raises(ValueError, match=r"(?s)^site: notebooks/02_two\.ipynb.*: y_ .*: \\foo "):
        site.build(house / "build", house / "build/site")


# Opens one page after the other in a frame as wide as a phone and writes into the DOM what is wrong with it.
MEASURE = """<!doctype html><title>measure</title><pre id="found"></pre><script type="module">
const found = [];
for (const source of PAGES) {
  const frame = document.createElement("iframe"), say = (what) => found.push(`${source}: ${what}`);
  Object.assign(frame, { src: source, width: 360, height: 800, style: "border: 0" });
  await new Promise((loaded) => { frame.onload = loaded; document.body.append(frame); });
  const page = frame.contentDocument, width = page.documentElement.scrollWidth;
  if (width > 360) say(`${width} px wide`);
  for (const image of page.images) {
    image.loading = "eager";
    await new Promise((done) => { image.complete ? done() : (image.onload = image.onerror = done); });
    if (!image.naturalWidth) say(`no image: ${image.alt}`);
  }
  if (source.includes("?q=")) {
    await new Promise((done) => setTimeout(done, 5000));
    if (![...page.querySelectorAll("#search-results a")].some((a) => a.href.includes("api.html"))) say("not found");
  }
  say(page.documentElement.dataset.theme);
  frame.remove();
}
document.getElementById("found").textContent = found.join("\\n");
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
@pytest.mark.parametrize(("scheme", "setting"), [("light", 1), ("dark", 0)])
def test_a_browser_has_nothing_to_say_on_a_phone(pages, tmp_path, scheme, setting):
    """No error on the console, nothing wider than 360 px, no missing image; the search finds `gls_loss`."""
    addresses = sorted(f"{path.as_uri()}{'?q=gls_loss' * (path.name == 'search.html')}" for path in pages)
    (tmp_path / "measure.html").write_text(MEASURE.replace("PAGES", json.dumps(addresses)))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files"]
    command += [f"--blink-settings=preferredColorScheme={setting}", "--virtual-time-budget=600000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "measure.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in said if '"[PST]: ' not in line] == []  # the theme says what it does
    found = html.unescape(re.search(r'id="found">([^<]*)', done.stdout)[1]).splitlines()
    assert found == [f"{address}: {scheme}" for address in addresses]
