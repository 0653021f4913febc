"""The files a newcomer meets agree with each other."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from nls import report

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA_NAMES = {"torch": "pytorch"}


def requirements():
    project = PYPROJECT["project"]
    groups = project["optional-dependencies"].values()
    return list(dict.fromkeys([*project["dependencies"], *(r for group in groups for r in group)]))


def test_environment_yml_is_in_step_with_pyproject():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    expected = []
    for requirement in requirements():
        name, bound = re.match(r"([\w.-]+)(.*)", requirement).groups()
        expected.append(CONDA_NAMES.get(name, name) + bound)
    assert sorted(listed) == sorted([*expected, f"python{PYPROJECT['project']['requires-python']}"])


def pinned():
    lines = (ROOT / "requirements-lock.txt").read_text().splitlines()
    return [re.match(r"([\w.-]+)==([^ ;]+)", line).groups() for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("requirement", [*requirements(), "setuptools>=77"])
def test_every_requirement_is_locked_within_its_bound(requirement):
    name, least = requirement.split(">=")
    versions = [v for n, v in pinned() if n.replace("_", "-").lower() == name.lower()]
    assert versions, f"{name} is not in the lock file"
    number = lambda v: tuple(int(p) for p in re.findall(r"\d+", v)[:3])  # noqa: E731
    assert all(number(v) >= number(least) for v in versions)


def test_the_lock_names_no_index_and_no_file():
    text = (ROOT / "requirements-lock.txt").read_text()
    assert not re.search(r"https?:|file:|--|@ ", text)


def test_the_readme_gives_the_computed_answer():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    answer = text.split("<!-- answer -->\n")[1].split("\n<!-- /answer -->")[0]
    assert answer == (ROOT / "figures" / "12_answer.md").read_text(encoding="utf-8").strip()


def test_the_readme_shows_claims_as_they_are_judged():
    """As `python -m nls scoreboard --markdown` prints them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split("<!-- scoreboard -->\n")[1].split("\n<!-- /scoreboard -->")[0]
    assert shown == report.markdown_board(report.scoreboard(ROOT / "figures"))


def test_the_readme_links_to_files_that_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert links and all((ROOT / link).exists() for link in links)


def test_the_citation_names_the_paper_first():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["preferred-citation"]["title"].startswith("To Smooth or Not?")
    assert PYPROJECT["project"]["name"] != "nls"  # taken by another project on the package index
