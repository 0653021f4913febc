"""The command line: what it refuses before any work, what it says, and its exit codes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from nls.lab.sweep import sweep
from nls.lab.tables import table_runs
from nls.repro import batch, cli

ROOT = Path(__file__).parents[1]


def call(*arguments):
    """Exit code and all output, as the installed command gives them."""
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    if isinstance(result.exception, (ValueError, TypeError, OSError)):
        return 2, f"{result.output}nls: {result.exception}"
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A small repository with two notebooks of its own."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "requirements-lock.txt").write_text("")
    for name, code in {"01_good": "print(NUMBER * 2)", "02_bad": "raise RuntimeError('it broke')"}.items():
        cells = [
            nbformat.v4.new_code_cell("NUMBER = 3\nPROFILE = 'quick'", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(code),
            nbformat.v4.new_markdown_cell(f"# {name}"),
        ]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.md"))
    (tmp_path / "docs" / "index.md").write_text("# House\n\n```{include} _toctree.md\n```\n")
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "4.5"], "notebook: got 4.5, expected 01_good, 02_bad"),
        (["run", "../elsewhere/01_good.ipynb"], "notebook: got ../elsewhere/01_good.ipynb, expected 01_good, 02_bad"),
        (["run", "01", "-p", "PROFILE=Quick"], "-p: got PROFILE='Quick', expected one of smoke, quick"),
        (["site", "--build", "nowhere"], "nowhere holds no executed notebooks"),
        (["run", "01", "-p", "NUMBER=1j"], "-p: got NUMBER=1j, expected int, such as 3"),
        (["run", "01", "-p", "NUMBER=many"], "-p: got NUMBER='many', expected int, such as 3"),
        (["run", "--profile", "fast"], "--profile: got 'fast', expected one of smoke, quick, medium, ann"),
        (["run", "--device", "tpu:x"], "device: got 'tpu:x', expected auto, cpu, cuda"),
        (["run", "01", "-p", "NUMBR=4"], "-p: 01_good has no NUMBR; expected NUMBER, PROFILE"),
        (["run", "01", "-p", "NUMBER"], "-p: got 'NUMBER', expected NAME=VALUE"),
        (["run", "--update", "-p", "NUMBER=4"], "--update: rewrites the committed outputs"),
        (["data", "--fetch", "splice"], "--fetch: got 'splice', expected one of cifar10, cifar100"),
        (["verify", "table9"], "table: got 'table9', expected one of table1"),
        (["train", "table2", "--only", "cifar10 salt 0.2"], "--only: got cifar10 salt 0.2, expected some of cifar10"),
        (["train", "table2", "--device", "cuda:7"], "device: got 'cuda:7', but this machine shows"),
        (["scoreboard", "--build", "nowhere"], "holds no verdicts"),
    ],
)
def test_refused_before_any_work(house, arguments, message):
    code, output = call(*arguments)
    assert code == 2
    assert message in output
    assert not (house / "build").exists() and not (house / "results").exists()


def test_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(cli.report, "home", lambda: tmp_path)
    code, output = call("run")
    assert code == 2
    assert "no notebooks in" in output


@pytest.mark.slow
def test_run_executes_skips_and_keeps_failures(house):
    code, output = call("run", "01", "-p", "NUMBER=21")
    assert code == 0
    assert "01_good" in output and "done " in output and "never finished" in output
    executed = house / "build" / "quick" / "notebooks" / "01_good.ipynb"
    assert "42" in executed.read_text()
    assert (house / "build" / "quick" / "site" / "index.html").exists()

    written = executed.stat().st_mtime_ns
    code, output = call("run", "01", "-p", "NUMBER=21")
    assert code == 0 and "unchanged" in output
    assert executed.stat().st_mtime_ns == written
    assert "unchanged" not in call("run", "01", "-p", "NUMBER=22")[1]

    code, output = call("run")
    assert code == 1
    assert "RuntimeError: it broke" in output and "failed: 02_bad" in output
    assert "it broke" in (executed.parent / "02_bad.ipynb").read_text()


@pytest.mark.slow
def test_a_folder_that_refuses_fails_one_notebook_and_one_table_the_others_not(house, monkeypatch):
    (house / "build" / "quick" / "state" / "01_good.tmp").mkdir(parents=True)
    code, output = call("run")
    assert code == 1
    assert "IsADirectoryError" in output and "RuntimeError: it broke" in output
    assert "0 of 2 notebooks done" in output

    wanted = [r for t in ("two_dimensions", "connections") for r in table_runs(t, "smoke", [0])]
    monkeypatch.setattr(cli.plan, "runs", lambda *_: wanted)
    (house / "build" / "quick" / "results").mkdir()
    (house / "build" / "quick" / "results" / "connections.jsonl").write_text("damaged\n")
    notebook = nbformat.read(house / "notebooks" / "01_good.ipynb", as_version=4)
    notebook.cells[0].source += "\nRESULTS = 'results'"
    nbformat.write(notebook, house / "notebooks" / "01_good.ipynb")
    _, output = call("run", "01", "--force", "--device", "cpu")
    assert "connections.jsonl, line 1: got b'damaged', expected a record" in output
    assert len((house / "build" / "quick" / "results" / "two_dimensions.jsonl").read_text().splitlines()) == 16


@pytest.mark.slow
def test_output_that_cannot_show_a_sign_costs_that_sign_alone(house):
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "nls", "scoreboard", "--build", str(ROOT)]
    done = subprocess.run(command, cwd=house, env=environment, capture_output=True)
    assert done.returncode == 0 and b"with r ? ??" in done.stdout, done.stderr


@pytest.mark.slow
def test_update_leaves_no_trace_of_when_and_where(house):
    assert call("run", "01", "--update")[0] == 0
    path = house / "notebooks" / "01_good.ipynb"
    first = path.read_bytes()
    notebook = json.loads(first)
    assert notebook["cells"][1]["outputs"][0]["text"] in ("6\n", ["6\n"])
    assert not {"papermill", "execution"} & set(json.dumps([c["metadata"] for c in notebook["cells"]]).split('"'))
    assert str(house) not in first.decode()
    assert call("run", "01", "--update", "--force")[0] == 0
    assert path.read_bytes() == first


def test_parameters_and_literals():
    path = next((ROOT / "notebooks").glob("04_*.ipynb"))
    own = {"PROFILE": "quick", "DEVICE": "auto", "RESULTS": "results", "FIGURES": "figures", "SEEDS": 20}
    assert batch.parameters_of(path) == own
    assert cli.parse_parameters(["A=3", "B=[0.1, 2]", "C=text", "D='3'"]) == {
        "A": 3,
        "B": [0.1, 2],
        "C": "text",
        "D": "3",
    }


def test_notebooks_are_found_by_number_name_or_path(house):
    path = house / "notebooks" / "01_good.ipynb"
    (house / "notebooks" / "1a_draft.ipynb").write_bytes(path.read_bytes())
    for wanted in ("01", "1", "01_good", "01_good.ipynb", str(path)):
        chosen = cli.choose_notebooks(house, [wanted])
        assert chosen == [path]


@pytest.mark.slow
def test_train_keeps_to_the_columns_asked_for(tmp_path):
    code, text = call("train", "connections", "--profile", "smoke", "--results", tmp_path)
    assert code == 0 and "connections: 7 records" in text
    assert len((tmp_path / "connections.jsonl").read_text().splitlines()) == 7
    code, text = call(
        "train", "connections", "--profile", "smoke", "--results", tmp_path, "--only", "splice symmetric 0.3"
    )
    assert code == 0 and "connections: 7 records" in text


@pytest.mark.slow
def test_verify_tells_records_that_this_code_trains_from_others(tmp_path):
    sweep(table_runs("connections", "smoke", [0])[:1], tmp_path, device="cpu", progress=False)
    command = ["verify", "connections", "--sample", "1", "--device", "cpu", "--results", tmp_path]
    code, text = call(*command)
    assert code == 0 and "1 of 1 records of connections agree (to the bit)" in text
    path = tmp_path / "connections.jsonl"
    records = [json.loads(line) | {"last": 0.1} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    code, text = call(*command)
    assert code == 1 and "connections: 1 records differ from what this code trains" in text
