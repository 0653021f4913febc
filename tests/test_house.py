"""The rooms of the package: imports point one way, and the core needs torch, NumPy and SciPy alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nls"
BELOW = {"core": {"core"}, "lab": {"core", "lab"}, "report": {"core", "report"}, "repro": {"core", "lab", "report"}}
BELOW["repro"].add("repro")


def modules():
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "__main__.py"]


def room(parts):
    return parts[0] if parts and parts[0] in BELOW else "core"


def imported(path):
    """Modules of the package (as tuples of names) that a file imports, anywhere in it; and other packages' names."""
    here, own, foreign = path.relative_to(PACKAGE).parent.parts, set(), set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            names = tuple(node.module.split(".")) if node.module else ()
            own |= {(*base, *names)} if names else {(*base, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            foreign.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            foreign |= {alias.name.split(".")[0] for alias in node.names}
    return own, foreign


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_room_imports_a_higher_one(path):
    own, foreign = imported(path)
    here = room(path.relative_to(PACKAGE).parent.parts)
    assert {room(module) for module in own} <= BELOW[here]
    assert "nls" not in foreign
    if here == "core":
        extra = {"joblib", "matplotlib", "pandas", "sklearn"} if path.name == "choose.py" else set()  # where used
        assert foreign <= {"torch", "numpy", "scipy"} | extra | sys.stdlib_module_names
    if here == "report":
        assert "torch" not in foreign


def test_no_imports_go_in_a_circle():
    arrows = {}
    for path in modules():
        name = path.relative_to(PACKAGE).with_suffix("").parts
        found = {
            m if (PACKAGE.joinpath(*m).with_suffix(".py")).exists() else (*m, "__init__") for m in imported(path)[0]
        }
        arrows[name] = {m for m in found if PACKAGE.joinpath(*m).with_suffix(".py").exists()} - {name}
    while arrows:
        leaves = {name for name, targets in arrows.items() if not targets & arrows.keys()}
        assert leaves, f"in a circle: {sorted(arrows)}"
        arrows = {name: targets for name, targets in arrows.items() if name not in leaves}


BARE = """
import importlib.abc, sys, torch
allowed = {"nls", "numpy", "scipy", "__main__"} | sys.stdlib_module_names | {n.split(".")[0] for n in sys.modules}
class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Bare())
import nls
assert "scipy" not in sys.modules
"""


@pytest.mark.slow
def test_a_borrower_needs_nothing_but_torch_numpy_and_scipy():
    """The README's lines where every other package is hidden; SciPy is not even imported before it is used."""
    shown = re.search(r"```python\n(import torch.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)[1]
    code = BARE + shown + "print(nls.instance_dependent([[1.0], [2.0]], [0, 1], 2, 0.2, seed=0).shape)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(2, 2)" and "NLS" in done.stdout
    command = BARE + "import runpy; runpy.run_module('nls', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "pip install 'negative-label-smoothing[lab,report,repro,docs]'" in done.stderr


@pytest.mark.slow
def test_training_asks_for_no_part_of_jupyter(tmp_path):
    """Machines with a GPU often have the packages of the lab alone."""
    hidden = ("IPython", "ipykernel", "jupyterlab", "nbconvert", "nbformat", "papermill", "distributed")
    arguments = ["nls", "train", "connections", "--profile", "smoke", "--device", "cpu", "--results", str(tmp_path)]
    code = f"import runpy, sys; sys.modules.update(dict.fromkeys({hidden})); sys.argv = {arguments}\n"
    code += "if __name__ == '__main__': runpy.run_module('nls', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "connections.jsonl").read_text().splitlines()) == 7
