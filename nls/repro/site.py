"""The site: the pages of docs/, the executed notebooks, and what claims and records say, built by Sphinx."""

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from .. import report
from ..lab.records import read

SHOWN = ["verdict", "claim", "source", "compared", "found", "notebook"]
SAVED = re.compile(r'save_figure\(\s*\w+,\s*"(\w+)"')


def build(folder: Path, target: Path) -> Path:
    """The site of a build folder, in `target`: what ran there, and all other notebooks as committed.

    Only what has changed is rendered again. What Sphinx reads and remembers lies beside `target`, with a dot before its
    name.

    Returns:
        The path of the index.

    Raises:
        ValueError: Sphinx has something to say, if only a warning. What could be built is there.
    """
    home, source = report.home(), target.with_name(f".{target.name}") / "source"
    ran = {path.name[:2] for path in folder.glob("notebooks/*.ipynb")}
    files = {path.relative_to(home / "docs"): path.read_bytes() for path in (home / "docs").rglob("*.*")}
    for place in (home, folder):
        for path in (*place.glob("notebooks/*.ipynb"), *place.glob("figures/*.*")):
            if place == folder or path.name[:2] not in ran:
                files[path.relative_to(place)] = path.read_bytes()
    for old in (path for path in source.rglob("*.*") if path.relative_to(source) not in files and path.name[0] != "_"):
        old.unlink()
    _write(source, files)
    pages = {f"_{name}.md": text.encode() for name, text in _parts(folder, source).items()}
    _write(source, pages)
    options = ["-W", "-q", "--no-color", "-d", source.parent / "doctrees"]
    command = [sys.executable, "-m", "sphinx", *options, source, target]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"site: {done.stderr.replace(f'{source}/', '').strip()}")
    return target / "index.html"


def _write(folder: Path, files: Mapping[Path | str, bytes]) -> None:
    """What is there already keeps its date, by which Sphinx tells what has changed."""
    for path, content in ((folder / name, content) for name, content in files.items()):
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _parts(folder: Path, source: Path) -> dict[str, str]:
    """What pages of docs/ include, in Markdown."""
    links, figures = {}, []
    for path in sorted(source.glob("notebooks/*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        links[path.stem[:2]] = (f"notebooks/{path.stem}", _title(path.stem, cells))
        shown = ["".join(cell["source"]) for cell in cells if "image/png" in str(cell.get("outputs"))]
        names = [saved[1] for saved in map(SAVED.search, shown) if saved]
        figures += [f"[![{n}](figures/{n}.png)](#{n})" for n in names if (source / f"figures/{n}.png").exists()]
    board = report.scoreboard(source / "figures")
    counts = " · ".join(f"{n} {_verdict(v)}" for v, n in board["verdict"].value_counts().items())
    readme = report.home() / "README.md"
    return {
        "README": readme.read_text(encoding="utf-8") if readme.exists() else "<!-- answer -->\n<!-- /answer -->",
        "toctree": "\n".join(["```{toctree}", *(f"{title} <{page}>" for page, title in links.values()), "```"]),
        "counts": f"{len(board)} claims: {counts}",
        "findings": _table(board[SHOWN].rename(columns={"compared": "decided by"}), links),
        "figures": "\n\n".join(["```{container} gallery", *figures, "```"]),
        "ran": _table(pd.DataFrame(_ran(folder, links)), links),
        "records": _table(pd.DataFrame(_records(folder / "results")), links),
    }


def _title(stem: str, cells: list[dict]) -> str:
    """Number and first words of a notebook's title, short enough for the navigation."""
    words = re.search(r"^# (?:\d\d)?[ ·:]*([^:(<$\n]+)", "".join(cells[0]["source"]) if cells else "")
    return f"{stem[:2]} {words[1].strip() if words else stem[3:].replace('_', ' ')}"


def _verdict(verdict: str) -> str:
    return f'<b data-verdict="{verdict}">{verdict}</b>'


def _table(frame: pd.DataFrame, links: Mapping[str, tuple[str, str]]) -> str:
    """HTML that is a table on a screen and on a phone a list; style.css takes the heads from `data-head` there."""
    rows = []
    for row in frame.astype(str).to_dict("records"):
        cells = {head: html.escape(text) for head, text in row.items()}
        if "verdict" in cells:
            cells["verdict"] = _verdict(cells["verdict"])
        if (number := cells.get("notebook")) in links:
            page, title = links[number]
            cells["notebook"] = f'<a href="{page}.html" title="{html.escape(title)}">{number}</a>'
        rows.append("".join(f'<td data-head="{head}">{text}</td>' for head, text in cells.items()))
    heads = "".join(f"<th>{head}</th>" for head in frame)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="table board"><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table>\n'


def _ran(folder: Path, links: Mapping[str, tuple[str, str]]) -> Iterator[dict]:
    for number, (page, title) in links.items():
        row = {"notebook": number, "title": title.removeprefix(number), "ran": "as committed", "took": ""}
        state = folder / "state" / f"{Path(page).stem}.json"
        try:
            took = f"{json.loads(state.read_text())['seconds']:.0f} s"
            row |= {"ran": f"{datetime.fromtimestamp(state.stat().st_mtime, UTC):%Y-%m-%d %H:%M} UTC", "took": took}
        except (TypeError, OSError, ValueError, LookupError):  # no folder, no file, no number
            if (folder / f"{page}.ipynb").exists() and folder != report.home():
                row["ran"] = "here, and failed"
        yield row


def _records(results: Path) -> Iterator[dict]:
    for file in sorted(results.glob("*.jsonl")):
        records = pd.DataFrame(read(file))
        for regime, runs in records.groupby("regime", sort=False) if len(records) else ():
            same = ["dataset", "noise", "noise_rate", "seed"]  # a record counts its warm-up, which was trained once
            warm = runs[(runs["start"] == "scratch") & (runs["rate"] == 0)].groupby(same)["seconds"].first()
            again = runs[runs["start"] != "scratch"].join(warm.rename("warm"), on=same)["warm"].sum()
            yield {
                "table": file.stem,
                "regime": regime,
                "records": f"{len(runs):,}",
                "seeds": runs["seed"].nunique(),
                "trained on": "; ".join(runs["device"].unique()),
                "torch": ", ".join(runs["versions"].str.extract(r"torch ([^,\s]+)")[0].unique()),
                "minutes of training": f"{(runs['seconds'].sum() - again) / 60:,.1f}",
            }
