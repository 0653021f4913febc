"""Batches of notebooks: what runs again and why, what a failure leaves behind, and that nobody outlives the batch."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nbformat
import psutil
import pytest

from nls import batch

ROOT = Path(__file__).parents[1]


def write(path, *code, **parameters):
    """A notebook of code cells, the first of them the parameters'."""
    first = nbformat.v4.new_code_cell(
        "\n".join(f"{k} = {v!r}" for k, v in parameters.items()), metadata={"tags": ["parameters"]}
    )
    notebook = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, code)])
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture
def house(tmp_path):
    """A small repository of its own; `nls` there is a copy to edit, imported where that takes no time: nowhere."""
    shutil.copytree(ROOT / "nls", tmp_path / "nls", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "requirements-lock.txt").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    write(tmp_path / "notebooks" / "01_loss.ipynb", "def f():\n    from nls import gls_loss", "NUMBER + 1", NUMBER=1)
    write(tmp_path / "notebooks" / "03_theory.ipynb", "def f():\n    from nls import theory", NUMBER=1)
    return tmp_path


def job(house, name, **parameters):
    return batch.Job(house / "notebooks" / f"{name}.ipynb", house / "build", parameters)


@pytest.fixture(scope="module")
def pool():
    """An executor of the caller's own: one process for all the batches here."""
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        yield executor


# ---------------------------------------------------------------- what a notebook depends on


def test_the_modules_that_code_uses(tmp_path):
    (tmp_path / "__init__.py").write_text("from .b import fb\nfrom .c import fc\n")
    (tmp_path / "a.py").write_text("from . import b\n")
    (tmp_path / "b.py").write_text("import os\nfrom .c import x\n")
    (tmp_path / "c.py").write_text("def later():\n    from .d import y\n")
    (tmp_path / "d.py").write_text("")
    for code, expected in {
        "import numpy": "",
        "from nls import a": "abcd",
        "from nls.a import anything": "abcd",
        "import nls.d": "d",
        "from nls import fb": "bcd",
        "import nls": "bcd",
        "from nls import fc, d": "cd",
        "from nlsx import a\nfrom elsewhere.nls import b": "",
        "from nls.b import f\nfrom nls.d import f": "bcd",
        "%timeit 1\n!ls\nfrom nls import d": "d",
        "this is no Python": ["a", "b", "c", "d", "__init__"],
    }.items():
        assert batch.modules_used(code, tmp_path) == set(expected), code


def test_committed_notebooks_depend_on_what_they_use():
    def used(number):
        [path] = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        return {name.removeprefix("nls.") for name in batch.key_of(batch.Job(path, ROOT / "build", {}))}

    assert {"losses", "theory", "report"} <= used("01")
    assert not {"sweep", "images", "experiments"} & used("03")
    assert {"sweep", "experiments", "batched", "theory"} <= used("04")
    for number in ("01", "04", "07", "11"):
        assert not {"cli", "batch", "site"} & used(number)


@pytest.mark.slow
def test_only_what_changed_runs_again_and_says_why(house, pool):
    loss, theory = job(house, "01_loss"), job(house, "03_theory")
    reasons = {}

    def again(**options):
        reasons.clear()
        options |= {"executor": pool, "started": lambda j, why: reasons.update({j.stem: why})}
        found = batch.run([loss, theory], **options)
        return [found[name].state for name in ("01_loss", "03_theory")]

    def edit(path, old, new):
        path.write_text(path.read_text().replace(old, new, 1))

    assert again() == ["done", "done"]
    assert reasons == {"01_loss": "never finished", "03_theory": "never finished"}
    assert again() == ["unchanged", "unchanged"] and not reasons

    edit(house / "nls" / "losses.py", "def gls_loss(", "def gls_loss (")
    assert again() == ["done", "unchanged"]
    assert reasons == {"01_loss": "changed: nls.losses"}

    edit(house / "nls" / "theory.py", "def r_opt(", "def r_opt (")
    assert again() == ["unchanged", "done"]
    edit(house / "nls" / "cli.py", "def main(", "def main (")
    assert again() == ["unchanged", "unchanged"]

    write(house / "notebooks" / "03_theory.ipynb", "def f():\n    from nls import theory", "1 + 1", NUMBER=1)
    assert again() == ["unchanged", "done"]
    assert reasons == {"03_theory": "changed: notebook"}
    (house / "requirements-lock.txt").write_text("torch==3")
    assert again() == ["done", "done"]
    loss.state.write_text("[]")
    assert again() == ["done", "unchanged"]
    assert again(force=True) == ["done", "done"]
    assert reasons["01_loss"] == "asked for"
    loss = job(house, "01_loss", NUMBER=2)
    assert again() == ["done", "unchanged"]
    assert reasons == {"01_loss": "changed: parameters"}


def test_committed_records_and_figures_are_part_of_the_key(house):
    write(house / "notebooks" / "05_sweep.ipynb", "from nls import sweep")
    jobs = {name: job(house, name) for name in ("01_loss", "05_sweep")}
    before = {name: batch.key_of(j) for name, j in jobs.items()}
    (house / "results").mkdir()
    (house / "results" / "table9.jsonl").write_text("{}\n")
    assert batch.key_of(jobs["01_loss"]) == before["01_loss"]
    assert batch.key_of(jobs["05_sweep"]).keys() - before["05_sweep"].keys() == {"results/table9.jsonl"}
    (house / "figures").mkdir()
    (house / "figures" / "01_drawn.csv").write_text("1")
    assert batch.key_of(jobs["01_loss"]).keys() - before["01_loss"].keys() == {"figures/01_drawn.csv"}


def test_what_is_no_notebook_is_named(house):
    (house / "notebooks" / "02_broken.ipynb").write_text("{}")
    with pytest.raises(ValueError, match=r"02_broken\.ipynb: is no notebook"):
        batch.parameter_names(house / "notebooks" / "02_broken.ipynb")


def test_data_are_part_of_the_key(house, tmp_path, monkeypatch):
    monkeypatch.setenv("NLS_DATA", str(tmp_path))
    (tmp_path / "cifar100.npz").write_bytes(b"one")
    write(house / "notebooks" / "05_data.ipynb", "from nls import data")
    before = batch.key_of(job(house, "05_data"))
    untouched = batch.key_of(job(house, "03_theory"))
    (tmp_path / "cifar100.npz").write_bytes(b"another")
    after = batch.key_of(job(house, "05_data"))
    assert [name for name in after if after[name] != before[name]] == [f"{tmp_path.name}/cifar100.npz"]
    assert batch.key_of(job(house, "03_theory")) == untouched


def test_outputs_are_no_change_and_one_that_began_is_not_done(house):
    path = house / "notebooks" / "01_loss.ipynb"
    before = batch.key_of(job(house, "01_loss"))
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="an output")]
    nbformat.write(notebook, path)
    assert batch.key_of(job(house, "01_loss")) == before

    j = job(house, "01_loss")
    j.state.parent.mkdir(parents=True)
    j.state.write_text(json.dumps({"key": before, "seconds": 1.0, "cells": 2}))
    j.output.parent.mkdir(parents=True)
    j.output.write_text("")
    assert batch.reason(before, batch.last_state(j), j) == ""

    class Died(BaseException):
        pass

    def kill(*_, **__):
        raise Died

    import papermill

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        patch.setattr(papermill, "execute_notebook", kill)
        batch.execute(j, before)
    assert batch.reason(before, batch.last_state(j), j) == "never finished"


def test_a_kernel_that_cannot_start_is_started_again(house, monkeypatch):
    import papermill

    real, starts = papermill.execute_notebook, []

    def refuse(*arguments, on_cell_executed, **options):
        starts.append(arguments)
        real(*arguments, prepare_only=True)
        if len(starts) != 3:
            raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(papermill, "execute_notebook", refuse)
    assert batch.execute(job(house, "01_loss"), {}).state == "done"
    assert len(starts) == batch.KERNEL_STARTS == 3
    monkeypatch.setattr(batch, "KERNEL_STARTS", 1)
    assert batch.execute(job(house, "03_theory"), {}).why == "Kernel died before replying to kernel_info"


# ---------------------------------------------------------------- many, some of them failing


@pytest.mark.slow
def test_a_batch_in_which_one_in_ten_fails(house):
    """Copies of one notebook with parameters of their own, several at a time; `benchmarks/batch.py` takes 200."""
    path = house / "notebooks" / "09_copy.ipynb"
    write(path, "assert NUMBER % 10, f'number {NUMBER} fails'", "print(NUMBER)", NUMBER=1)
    jobs = [batch.Job(path, house / "build", {"NUMBER": n}, name=f"copy_{n:03}") for n in range(20)]
    outcomes = batch.run(jobs, workers=2)
    failed = {name: outcome.why for name, outcome in outcomes.items() if outcome.state == "failed"}
    assert failed == {f"copy_{n:03}": f"AssertionError: number {n} fails" for n in (0, 10)}
    assert sum(outcome.state == "done" and outcome.cells == 4 for outcome in outcomes.values()) == 18
    assert "number 10 fails" in jobs[10].output.read_text()
    assert '"19\\n"' in jobs[19].output.read_text()
    again = batch.run(jobs, workers=2)
    assert {name for name, outcome in again.items() if outcome.state != "unchanged"} == failed.keys()


@pytest.mark.slow
def test_a_process_that_is_killed_fails_its_notebook_alone(house):
    """The kernel kills the process that executes its notebook, every time."""
    write(house / "notebooks" / "02_killer.ipynb", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
    names = ("01_loss", "02_killer", "03_theory")
    outcomes = batch.run([job(house, name) for name in names], workers=2)
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "01_loss": "done",
        "02_killer": "failed",
        "03_theory": "done",
    }
    assert outcomes["02_killer"].why.startswith("its process was killed")


def test_what_an_executor_cannot_do_fails_that_notebook(house, pool):
    class Elsewhere(Executor):
        def submit(self, fn, /, *args):
            return pool.submit(os.strerror, "no number")

    outcomes = batch.run([job(house, "01_loss")], executor=Elsewhere())
    assert outcomes["01_loss"].state == "failed" and outcomes["01_loss"].why.startswith("TypeError: ")


def hear_ctrl_c():
    """A shell lets its background jobs ignore Ctrl-C, and their children inherit that; on a terminal nobody does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals and named pipes")
def test_an_interruption_ends_everybody_and_can_be_taken_up_again(house):
    """More notebooks than processes, one of them with a process of its own; all hear of Ctrl-C, as on a terminal."""
    write(house / "notebooks" / "09_quick.ipynb", "1 + 1")  # the later ones begin
    begun = house / "begun"
    os.mkfifo(begun)
    long = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
        f"with open({str(begun)!r}, 'w') as file:\n    file.write(f'{{os.getppid()}} {{os.getpid()}} {{child.pid}} ')\n"
        "time.sleep(3600)"
    )
    numbers = ["04", "05", "06", "07", "08"]
    for number in numbers:
        write(house / "notebooks" / f"{number}_long.ipynb", long if number == "08" else "import time\ntime.sleep(3600)")
    command = [sys.executable, "-m", "nls", "run", "--jobs", "2", "--build", "build", "09", *numbers]
    child = subprocess.Popen(
        command,
        cwd=house,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    guard = threading.Timer(120, os.killpg, (child.pid, signal.SIGKILL))
    guard.start()
    said = child.stdout.readline()  # the short one is done
    assert said.startswith("09_quick"), said + child.communicate()[0]
    file = os.open(begun, os.O_RDONLY | os.O_NONBLOCK)
    assert select.select([file], [], [], 60)[0], "the long one has not begun"
    pids = [int(pid) for pid in os.read(file, 100).split()]
    guard.cancel()
    os.killpg(child.pid, signal.SIGINT)
    output = said + child.communicate(timeout=60)[0]
    assert child.returncode == 130, output
    assert "interrupted; what was recorded is kept" in output and "Traceback" not in output
    assert len(pids) == 3 and not any(psutil.pid_exists(pid) for pid in pids)

    again = subprocess.run([*command[:-6], "09"], cwd=house, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "unchanged" in again.stdout.splitlines()[0]
