"""The recipes of docs/recipes run, each where the packages that its docstring names are installed."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.py"))


def needs(path):
    return re.search(r"Needs ([\w, -]+)\.", path.read_text("utf-8"))[1].split(", ")


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_ends_with_a_good_classifier_from_noisy_labels(path):
    for package in needs(path):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed")
    environment = os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, path], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracy = re.findall(r"clean accuracy[^:]*: ([\d.]+)", done.stdout)[-1]
    assert float(accuracy) > 0.8


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= 60


@pytest.mark.slow
def test_the_code_of_which_rate_runs():
    pytest.importorskip("skorch")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "which_rate.md").read_text("utf-8"), re.DOTALL)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "\n".join(blocks)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Rate ") and len(blocks) == 5
