"""The committed notebooks: their form, their outputs, and that each runs from nothing."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nls.report.predictions import CLAIMS

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def cells(request):
    return json.loads(request.param.read_text(encoding="utf-8"))["cells"]


def code(cells):
    return [c for c in cells if c["cell_type"] == "code"]


def outputs(cells):
    return json.dumps([c["outputs"] for c in code(cells)])


def test_form(cells):
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    assert "Runtime" in "".join(cells[0]["source"])
    assert cells[1]["metadata"]["tags"] == ["parameters"]
    assert re.fullmatch(r"# \d\d · .+\n", cells[0]["source"][0])
    long = [i for i, c in enumerate(cells) if c["cell_type"] == "code" and len(c["source"]) > 24]
    assert not long, f"code cells of more than 24 lines: {long}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_first_cell_gives_the_computed_answer(path):
    """What the notebook computed and kept as NN_answer.md, so that no number in it was typed."""
    first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    answer = (ROOT / "figures" / f"{path.stem[:2]}_answer.md").read_text(encoding="utf-8").strip()
    assert answer in first


def test_executed_in_order_without_errors_or_foreign_paths(cells):
    counts = [c["execution_count"] for c in code(cells)]
    assert counts == list(range(1, len(counts) + 1))
    assert '"output_type": "error"' not in outputs(cells)
    assert not re.search(r"(/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\)", outputs(cells))
    assert '"name": "stderr"' not in outputs(cells)


def test_identities_match(cells):
    text = outputs(cells)
    assert "match: False" not in text


def test_every_figure_is_there_and_nothing_else():
    drawn = set()
    for path in NOTEBOOKS:
        for cell in code(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            drawn |= set(re.findall(r'save_figure\(\s*\w+,\s*"(\w+)"', "".join(cell["source"])))
    there = {p.stem for p in (ROOT / "figures").glob("*") if not p.stem.endswith(("_claims", "_answer"))}
    assert there == drawn
    for name in drawn:
        for kind in ("svg", "png", "csv"):
            path = ROOT / "figures" / f"{name}.{kind}"
            assert 0 < path.stat().st_size < 1_000_000, path.name


def test_verdict_files_belong_to_notebooks_that_exist():
    files = {p.stem[:2] for p in (ROOT / "figures").glob("*_claims.csv")}
    assert files <= {p.stem[:2] for p in NOTEBOOKS}
    assert files <= {c.notebook for c in CLAIMS}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what the notebooks read, so that running them changes nothing in the repository."""
    home = tmp_path_factory.mktemp("house")
    for name in ("docs", "notebooks", "results", "figures"):
        shutil.copytree(ROOT / name, home / name)
    for name in ("pyproject.toml", "requirements-lock.txt"):
        shutil.copy(ROOT / name, home / name)
    return home


def finished(command, folder):
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_committed_outputs_are_what_the_records_give(copy):
    """nbval runs every cell again and compares those marked NBVAL_CHECK_OUTPUT."""
    before = {p.name: p.read_bytes() for p in (copy / "results").glob("*.jsonl")}
    command = ["pytest", "--nbval-lax", "--nbval-cell-timeout=600", "-p", "no:cacheprovider", "-W", "default", "."]
    code, output = finished(command, copy / "notebooks")
    assert code == 0, output
    for name, old in before.items():  # where data are absent, the notebooks train a slice on data that are always there
        new = (copy / "results" / name).read_bytes()
        assert new.startswith(old)
        added = {json.loads(line)["dataset"] for line in new[len(old) :].splitlines()}
        assert added <= {"digits", "headlines"}, f"{name}: records were missing"
    for path in sorted([*(ROOT / "figures").glob("*.csv"), *(ROOT / "figures").glob("*.md")]):
        assert (copy / "figures" / path.name).read_text() == path.read_text(), path.name


@pytest.mark.slow
def test_every_notebook_runs_at_smoke_from_nothing_and_then_not_again(copy):
    shutil.copytree(ROOT / "nls", copy / "nls", ignore=shutil.ignore_patterns("__pycache__"))
    code, output = finished(["nls", "run", "--profile", "smoke"], copy)
    assert code == 0, output
    site = copy / "build" / "smoke" / "site"
    assert {p.stem for p in site.glob("notebooks/*.html")} == {p.stem for p in NOTEBOOKS}
    assert (site / "status.html").read_text().count(" UTC<") == len(NOTEBOOKS)
    code, output = finished(["nls", "run", "--profile", "smoke"], copy)
    assert code == 0, output
    assert output.count("unchanged") == len(NOTEBOOKS)
