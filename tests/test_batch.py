"""Batches of notebooks: what runs again and why, what a failure leaves behind, and that nobody outlives the batch."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import psutil
import pytest

from nls.repro import batch

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
    """A small repository of its own; `nls` there is a copy to edit, which nobody imports."""
    shutil.copytree(ROOT / "nls", tmp_path / "nls", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "requirements-lock.txt").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.md"))
    (tmp_path / "docs" / "index.md").write_text("# House\n\n```{include} _toctree.md\n```\n")
    write(tmp_path / "notebooks" / "01_loss.ipynb", "def f():\n    from nls import gls_loss", "NUMBER + 1", NUMBER=1)
    write(tmp_path / "notebooks" / "03_theory.ipynb", "def f():\n    from nls import theory", NUMBER=1)
    return tmp_path


def job(house, name, **parameters):
    return batch.Job(house / "notebooks" / f"{name}.ipynb", house / "build", parameters)


# ---------------------------------------------------------------- what goes into the repository


def test_a_published_notebook_holds_nothing_that_chance_decides(tmp_path):
    new, marks = nbformat.v4.new_output, {"papermill": {"duration": 1.5}}
    printed = [new("stream", name="stdout", text=text) for text in ("one\n", "two\n")]
    outputs = [*printed, new("stream", name="stderr", text="slow\n"), new("display_data"), *printed]
    cell = nbformat.v4.new_code_cell("print()", outputs=outputs, metadata=marks | {"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=marks), tmp_path / "executed.ipynb")
    batch.publish(tmp_path / "executed.ipynb", tmp_path / "published.ipynb")
    notebook = nbformat.read(tmp_path / "published.ipynb", as_version=4)
    assert [o.get("text") for o in notebook.cells[0].outputs] == ["one\ntwo\n", None, "one\ntwo\n"]
    assert notebook.cells[0].metadata == {"tags": ["parameters"]} and "papermill" not in notebook.metadata
    assert sorted(p.name for p in tmp_path.iterdir()) == ["executed.ipynb", "published.ipynb"]


# ---------------------------------------------------------------- what a notebook depends on


@pytest.mark.slow
def test_only_what_changed_runs_again_and_says_why(house):
    loss, theory = job(house, "01_loss"), job(house, "03_theory")

    def again(jobs=(loss, theory), **options):
        why = {}

        def told(job, outcome):
            if outcome.state == "queued":
                why[job.stem] = outcome.why

        found = batch.run(jobs, told=told, workers=2, **options)
        assert {name for name, outcome in found.items() if outcome.state == "done"} == why.keys()
        return why

    assert again() == {"01_loss": "never finished", "03_theory": "never finished"}
    assert again() == {} == batch.changed([loss, theory])
    (house / "nls" / "losses.py").write_text("# other code")
    assert again() == {"01_loss": "changed: nls", "03_theory": "changed: nls"}
    write(house / "notebooks" / "03_theory.ipynb", "1 + 1", NUMBER=1)
    assert again() == {"03_theory": "changed: notebook"}
    for unreadable in ("[]", ""):
        loss.state.write_text(unreadable)
        assert again() == {"01_loss": "never finished"}
    assert again([loss], force=True) == {"01_loss": "asked for"}
    assert again([job(house, "01_loss", NUMBER=2)]) == {"01_loss": "changed: parameters"}


def test_what_is_read_is_part_of_the_key(house, tmp_path, monkeypatch):
    monkeypatch.setenv("NLS_DATA", str(tmp_path))
    for name in ("requirements-lock.txt", "results/table9.jsonl", "figures/01_drawn.csv", "cifar100.npz"):
        path = house / name
        path.parent.mkdir(exist_ok=True)
        before = batch.key_of(job(house, "01_loss"))
        path.write_text(f"other {name}")
        after = batch.key_of(job(house, "01_loss"))
        assert [k for k in after if after[k] != before.get(k)] == [f"{path.parent.name}/{path.name}"]
    assert "figures/01_drawn.csv" not in batch.key_of(job(house, "03_theory"))
    write(house / "notebooks" / "12_scoreboard.ipynb", "")
    claims = house / "build" / "figures" / "03_claims.csv"
    claims.parent.mkdir(parents=True)
    claims.write_text("")
    assert "figures/03_claims.csv" in batch.key_of(job(house, "12_scoreboard"))
    assert "figures/03_claims.csv" not in batch.key_of(job(house, "03_theory"))


def test_figures_that_are_gone_are_drawn_again(house):
    write(house / "notebooks" / "05_drawing.ipynb", "", FIGURES="figures")
    j = job(house, "05_drawing")
    j.output.parent.mkdir(parents=True)
    j.output.write_text("")
    before = {"key": batch.key_of(j), "seconds": 1.0, "cells": 2}
    assert batch.reason(before["key"], before, j) == "its figures are gone"
    (j.folder / "figures").mkdir()
    (j.folder / "figures" / "05_drawn.svg").write_text("")
    assert batch.reason(before["key"], before, j) == ""


def test_two_notebooks_of_one_name_are_refused(house):
    with pytest.raises(ValueError, match="jobs: expected each name once in a folder, got 01_loss, 01_loss"):
        batch.run([job(house, "01_loss"), job(house, "01_loss", NUMBER=2)])


def test_what_is_no_notebook_is_named(house):
    (house / "notebooks" / "02_broken.ipynb").write_text("{}")
    with pytest.raises(ValueError, match=r"02_broken\.ipynb: is no notebook"):
        batch.parameters_of(house / "notebooks" / "02_broken.ipynb")


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

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        patch.setattr(batch, "run_papermill", kill)
        batch.run([j], force=True)
    assert batch.reason(before, batch.last_state(j), j) == "never finished"


def test_a_kernel_that_cannot_start_is_started_again(house, monkeypatch):
    real, starts = batch.run_papermill, []

    def refuse(j):
        starts.append(j)
        yield batch.Outcome("begun", "")
        return (yield from real(j)) if len(starts) == 3 else ("RuntimeError: Kernel died before replying", 0)

    monkeypatch.setattr(batch, "run_papermill", refuse)
    assert batch.run([job(house, "01_loss")])["01_loss"].state == "done"
    assert len(starts) == batch.KERNEL_STARTS == 3
    monkeypatch.setattr(batch, "KERNEL_STARTS", 1)
    starts.clear()
    assert batch.run([job(house, "03_theory")])["03_theory"].why == "RuntimeError: Kernel died before replying"


@pytest.mark.slow
def test_parameters_and_paths_arrive_as_they_are(tmp_path, monkeypatch):
    """Numbers, text that looks like something else, and a folder with braces, which papermill takes for templates;
    and whatever kernel the user has under the name python3, the notebook runs in this Python."""
    home = tmp_path / "{a} folder"
    other = tmp_path / "user" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "another", "language": "python"}')
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "user"))
    path = home / "notebooks" / "02_values.ipynb"
    write(
        path,
        "import sys\nprint(repr((SMALL, TEXT, LIST, WHERE)), sys.executable)",
        SMALL=0,
        TEXT="",
        LIST=[],
        WHERE=None,
    )
    given = {"SMALL": 1e-5, "TEXT": "yes: − {b}", "LIST": [1, None, -2.5], "WHERE": "1e-5"}
    [outcome] = batch.run([batch.Job(path, home / "build", given)]).values()
    assert outcome.state == "done", outcome.why
    [_, _, shown] = nbformat.read(home / "build" / "notebooks" / "02_values.ipynb", as_version=4).cells
    assert shown.outputs[0].text == f"{(1e-5, 'yes: − {b}', [1, None, -2.5], '1e-5')!r} {sys.executable}\n"


# ---------------------------------------------------------------- many, some of them failing


@pytest.mark.slow
def test_a_process_that_is_killed_fails_its_notebook_alone(house):
    """The kernel kills the process that executes its notebook, every time; another leaves a process behind, which holds
    all that it was given open."""
    write(house / "notebooks" / "02_killer.ipynb", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
    write(house / "notebooks" / "04_leaver.ipynb", "import os\nos.system('sleep 600 & echo $! > ../left')")
    write(house / "notebooks" / "05_dead.ipynb", "import os\nos._exit(1)")
    names = ("01_loss", "02_killer", "03_theory", "04_leaver", "05_dead")
    outcomes = batch.run([job(house, name) for name in names], workers=2)
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "01_loss": "done",
        "02_killer": "failed",
        "03_theory": "done",
        "04_leaver": "done",
        "05_dead": "failed",
    }
    os.kill(int((house / "left").read_text()), signal.SIGKILL)
    assert outcomes["02_killer"].why == "killed by SIGKILL, for memory perhaps"


def hear_ctrl_c():
    """A shell lets its background jobs ignore Ctrl-C, and their children inherit that; on a terminal nobody does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals and named pipes")
def test_an_interruption_ends_everybody_and_can_be_taken_up_again(house):
    """More notebooks than processes, one of them with a process of its own; all hear of Ctrl-C, as on a terminal."""
    write(house / "notebooks" / "02_quick.ipynb", "1 + 1")
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
        write(house / "notebooks" / f"{number}_long.ipynb", long if number == "04" else "import time\ntime.sleep(3600)")
    command = [sys.executable, "-m", "nls", "run", "--jobs", "2", "--build", "build", "02", *numbers]
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
    assert said.startswith("02_quick"), said + child.communicate()[0]
    file = os.open(begun, os.O_RDONLY | os.O_NONBLOCK)
    assert select.select([file], [], [], 60)[0], "the long one has not begun"
    pids = [int(pid) for pid in os.read(file, 100).split()]
    guard.cancel()
    os.killpg(child.pid, signal.SIGINT)
    output = said + child.communicate(timeout=60)[0]
    assert child.returncode == 130, output
    assert "interrupted; what was recorded is kept" in output and "Traceback" not in output
    assert len(pids) == 3 and not any(psutil.pid_exists(pid) for pid in pids)

    again = subprocess.run([*command[:-6], "02"], cwd=house, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "unchanged" in again.stdout.splitlines()[0]
