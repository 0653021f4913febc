"""The command line: `nls run`, `nls train`, `nls verify`, `nls data`, `nls scoreboard`."""

import ast
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from . import data, report
from .experiments import PROFILES, TABLES
from .models import pick_device

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
SCOREBOARD = "11"  # reads what the others wrote, so it runs last and again whenever one of them ran


class Failure(typer.Exit):
    """One clear line on standard error and a non-zero exit."""

    def __init__(self, message: str, code: int = 2):
        typer.echo(f"nls: {message}", err=True)
        super().__init__(code)


def main() -> None:
    try:
        app()
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"nls: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("nls: interrupted; what was recorded is kept, the same command goes on from there", err=True)
        sys.exit(130)


@app.command()
def run(
    notebooks: Annotated[list[str] | None, typer.Argument(help="Numbers, such as 04; all by default.")] = None,
    profile: Annotated[str, typer.Option(help="smoke, quick, small or paper.")] = "quick",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    parameter: Annotated[list[str] | None, typer.Option("-p", help="NAME=VALUE, as in the notebook's cell.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Maintainers: rewrite notebooks/ and figures/.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run again even what is unchanged.")] = False,
    build: Annotated[Path | None, typer.Option(help="Where everything goes; build/PROFILE by default.")] = None,
) -> None:
    """Execute notebooks with papermill, training what their records lack, and render them as a site."""
    home = report.home()
    if profile not in PROFILES:
        raise Failure(f"--profile: got {profile!r}, expected one of {', '.join(PROFILES)}")
    pick_device(device)
    chosen = _choose(home, [Path(n).stem.zfill(2) for n in notebooks or []])
    given = _parse(parameter or [])
    if update and (given or profile != "quick"):
        raise Failure("--update: rewrites the committed outputs, which have the notebooks' own parameters; drop -p")
    folder = (build or home / "build" / ("update" if update else profile)).resolve()
    jobs = [_Job(home, path, folder, profile, device, given, update) for path in chosen]
    for job in jobs:
        job.check()
    started = time.perf_counter()
    failed = [job.name for job in jobs if not job.execute(force)]
    if not update:
        index = _site(home, folder)
        typer.echo(f"\n{_board_text(folder / 'figures')}\n\nSite: {index}\nFigures: {folder / 'figures'}")
    typer.echo(f"{len(jobs) - len(failed)} of {len(jobs)} notebooks done in {time.perf_counter() - started:.0f} s")
    if failed:
        raise Failure(f"failed: {', '.join(failed)}; the tracebacks are in {folder / 'notebooks'}", code=1)


def _choose(home: Path, wanted: list[str]) -> list[Path]:
    there = {p.stem[:2]: p for p in sorted((home / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    if not there:
        raise Failure(f"no notebooks in {home / 'notebooks'}; run this inside a checkout of the repository")
    unknown = [w for w in wanted if w[:2] not in there or not there[w[:2]].stem.startswith(w)]
    if unknown:
        raise Failure(f"notebook: got {', '.join(unknown)}, expected {', '.join(p.stem for p in there.values())}")
    return [path for number, path in there.items() if not wanted or any(w[:2] == number for w in wanted)]


def _parse(parameters: list[str]) -> dict[str, Any]:
    """NAME=VALUE with Python literals; what is not one is text."""
    given = {}
    for text in parameters:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise Failure(f"-p: got {text!r}, expected NAME=VALUE")
        try:
            given[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            given[name] = value
    return given


class _Job:
    """One notebook, its parameters, and the key under which it need not run again."""

    def __init__(self, home, path, folder, profile, device, given, update):
        self.home, self.path, self.folder, self.update, self.name = home, path, folder, update, path.stem
        self.given, self.device = given, device
        inside = folder.relative_to(home) if folder.is_relative_to(home) else folder
        places = {"RESULTS": (inside / "results").as_posix(), "FIGURES": (inside / "figures").as_posix()}
        self.parameters = {} if update else {"PROFILE": profile, "DEVICE": device} | places
        self.state = folder / "state" / f"{self.name}.json"
        self.output = folder / "notebooks" / path.name

    def check(self) -> None:
        """Refuse a parameter that the notebook's `parameters` cell does not assign: papermill would only log it."""
        names = parameter_names(self.path)
        unknown = sorted(self.given.keys() - names)
        if unknown:
            raise Failure(f"-p: {self.name} has no {', '.join(unknown)}; expected {', '.join(sorted(names))}")
        self.parameters = {k: v for k, v in self.parameters.items() if k in names} | self.given

    def key(self) -> str:
        """Hash of what decides the output: notebook, `nls`, lock file, parameters, data; for 11 the others' claims."""
        digest = hashlib.sha256(json.dumps(self.parameters, sort_keys=True, default=str).encode())
        digest.update(json.dumps([str(data.data_dir()), self.update]).encode())
        paths = [self.path, self.home / "requirements-lock.txt", *sorted((self.home / "nls").rglob("*.*"))]
        if self.update:
            paths += sorted((self.home / "results").glob("*.jsonl"))
        if self.name.startswith(SCOREBOARD):
            paths += sorted(self.figures().glob("*_claims.csv"))
        for path in paths:
            if path.suffix in (".py", ".csv", ".txt", ".jsonl", ".ipynb") and path.is_file():
                digest.update(path.name.encode() + (_source(path) if path == self.path else path.read_bytes()))
        return digest.hexdigest()

    def figures(self) -> Path:
        return self.home / "figures" if self.update else self.folder / "figures"

    def last(self) -> dict:
        """What is known of the last run; nothing if its figures are gone or the state is unreadable."""
        try:
            state = json.loads(self.state.read_text())
        except (OSError, ValueError):
            return {}
        drawn = any(self.figures().glob(f"{self.name[:2]}_*")) or "FIGURES" not in parameter_names(self.path)
        return state if drawn or self.name.startswith(SCOREBOARD) else {}

    def execute(self, force: bool) -> bool:
        """Run the notebook unless nothing changed; True if its output is good."""
        key = self.key()
        state = self.last()
        if not force and state.get("key") == key and self.output.exists():
            typer.echo(f"{self.name:34} unchanged ({state['seconds']:.0f} s when it ran)")
            return True
        started = time.perf_counter()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with _progress(self.name):
            error = _papermill(self.path, self.output, self.parameters)
        seconds = time.perf_counter() - started
        if error:
            typer.echo(f"{self.name:34} FAILED after {seconds:.0f} s: {error}")
            return False
        if self.update:
            publish(self.output, self.path)
        self.state.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.state.with_suffix(".tmp")
        temporary.write_text(json.dumps({"key": self.key() if self.update else key, "seconds": seconds}))
        temporary.replace(self.state)
        typer.echo(f"{self.name:34} done in {seconds:.0f} s")
        return True


def parameter_names(path: Path) -> set[str]:
    """Names assigned in the cell tagged `parameters`."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            tree = ast.parse("".join(cell["source"]))
            targets = [t for node in tree.body for t in getattr(node, "targets", [getattr(node, "target", None)])]
            return {t.id for t in targets if isinstance(t, ast.Name)}
    return set()


def _source(path: Path) -> bytes:
    """A notebook's cells without their outputs."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return json.dumps([[c["cell_type"], "".join(c["source"])] for c in cells]).encode()


def _papermill(path: Path, output: Path, parameters: dict) -> str | None:
    """Execute into `output`; the error's last line, or None. A failed notebook keeps its traceback."""
    import papermill

    try:
        papermill.execute_notebook(
            str(path),
            str(output),
            parameters,
            cwd=str(path.parent),
            progress_bar=False,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=40"],  # else every kernel warns that its port is not encrypted
        )
    except papermill.PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except RuntimeError as error:  # the kernel died: killed for memory, say
        return str(error)
    return None


def publish(executed: Path, target: Path) -> None:
    """Put an executed notebook into the repository: without time stamps, durations and papermill's own marks."""
    import nbformat

    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        tags = [t for t in cell.metadata.get("tags", []) if not t.startswith("papermill")]
        cell.metadata = {"tags": tags} if tags else {}
        cell.id = f"cell-{number:02}"
        if cell.cell_type == "code":
            cell.outputs = _one_stream([o for o in cell.outputs if o.get("name") != "stderr"])
    temporary = target.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(target)


def _one_stream(outputs: list) -> list:
    """Printed text that follows printed text, joined: where a kernel cuts it is chance."""
    joined: list = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


@contextmanager
def _progress(name: str) -> Iterator[None]:
    """A line on the terminal with the elapsed time and what the notebook's sweep last reported."""
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "progress"

        def watch() -> None:
            terminal, started, shown, last = sys.stderr.isatty(), time.perf_counter(), "", -10.0
            while not stop.wait(0.5):
                said, now = file.read_text() if file.exists() else "running", time.perf_counter() - started
                if terminal:
                    sys.stderr.write(f"\r\033[K{name:34} {now:4.0f} s  {said}")
                elif said != shown and now - last > 10:  # in a log, a line every ten seconds at most
                    sys.stderr.write(f"{name:34} {now:4.0f} s  {said}\n")
                    shown, last = said, now
                sys.stderr.flush()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        os.environ["NLS_PROGRESS"] = str(file)  # kernels inherit it; see sweep._Progress
        try:
            yield
        finally:
            del os.environ["NLS_PROGRESS"]
            stop.set()
            thread.join()
            if sys.stderr.isatty():
                sys.stderr.write("\r\033[K")
                sys.stderr.flush()


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>To smooth or not, reproduced</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;font-size:14px}}td,th{{padding:.3rem .6rem;text-align:left;border-bottom:1px solid #ddd;
vertical-align:top}}main ul{{list-style:none;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(16rem,
1fr));gap:1rem}}main li{{border:1px solid #ddd;border-radius:6px;padding:.8rem}}img{{max-width:100%}}</style>
<h1>To smooth or not, reproduced</h1><main><ul>{items}</ul><h2>Scoreboard</h2>{board}</main></html>
"""


def _site(home: Path, folder: Path) -> Path:
    """HTML of every executed notebook and an index page; only what changed is rendered again."""
    from nbconvert import HTMLExporter

    site, items = folder / "site", []
    (site / "figures").mkdir(parents=True, exist_ok=True)
    for image in (folder / "figures").glob("*.png"):
        shutil.copy2(image, site / "figures" / image.name)
    for notebook in sorted((folder / "notebooks").glob("*.ipynb")):
        page = site / f"{notebook.stem}.html"
        if not page.exists() or page.stat().st_mtime < notebook.stat().st_mtime:
            page.write_text(HTMLExporter().from_filename(str(notebook))[0], encoding="utf-8")
        image = next(iter(sorted((site / "figures").glob(f"{notebook.stem[:2]}_*.png"))), None)
        picture = f'<img src="figures/{image.name}" alt="">' if image else ""
        items.append(f'<li><a href="{page.name}">{notebook.stem.replace("_", " ")}{picture}</a></li>')
    index = site / "index.html"
    board = report.verdict_table(report.scoreboard(folder / "figures"))
    index.write_text(PAGE.format(items="".join(items), board=board), encoding="utf-8")
    return index


@app.command()
def train(
    table: Annotated[str, typer.Argument(help="A table, such as table2.")],
    profile: Annotated[str, typer.Option(help="smoke, quick, small or paper.")] = "small",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0.")] = 1,
    only: Annotated[
        list[str] | None, typer.Option(help="A column, such as 'cifar10 symmetric 0.6'; may repeat.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="results/ by default.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train what a table's records lack, all of it or column by column; an interruption loses nothing recorded."""
    from . import sweep
    from .experiments import table_runs

    runs = table_runs(table, profile, range(seeds))
    column = {r: f"{r.dataset} {r.noise} {r.noise_rate:g}" for r in runs}
    if unknown := set(only or []) - set(column.values()):
        known = "; ".join(sorted(set(column.values())))
        raise Failure(f"--only: got {', '.join(sorted(unknown))}, expected some of {known}")
    runs = [r for r in runs if not only or column[r] in only]
    started = time.perf_counter()
    records = sweep.sweep(runs, results or report.home() / "results", device=device)
    typer.echo(f"{table}: {len(records)} records, {time.perf_counter() - started:.0f} s")


@app.command()
def verify(
    table: Annotated[str, typer.Argument(help="A table of results/, such as table1.")],
    sample: Annotated[int, typer.Option(min=1, help="How many records to train again.")] = 5,
    seed: Annotated[int | None, typer.Option(help="Which records are drawn.")] = None,
    results: Annotated[Path | None, typer.Option(help="results/ by default.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train randomly drawn records again and compare with what is committed."""
    from . import sweep

    if table not in TABLES:
        raise Failure(f"table: got {table!r}, expected one of {', '.join(TABLES)}")
    rows = sweep.verify(table, results or report.home() / "results", sample, seed=seed, device=device)
    typer.echo(rows.to_string(index=False))
    good = int(rows["ok"].sum())
    typer.echo(f"{good} of {len(rows)} records of {table} agree")
    if good < len(rows):
        raise Failure(f"{table}: {len(rows) - good} records differ from what this code trains", code=1)


@app.command("data")
def show_data(
    fetch: Annotated[list[str] | None, typer.Option(help="Download this data set; may be repeated.")] = None,
) -> None:
    """What data are there, what can be fetched, checksums and licences."""
    for name in fetch or []:
        source = data.SOURCES.get(name)
        if source is None or source.fetch is None:
            known = ", ".join(n for n, s in data.SOURCES.items() if s.fetch)
            raise Failure(f"--fetch: got {name!r}, expected one of {known}")
        folder = data.data_dir() or Path("~/.cache/nls").expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        source.fetch(folder)
    for name, source in data.SOURCES.items():
        missing = source.missing()
        there = f"no, missing {', '.join(missing)}" if missing else f"yes, checksum {data.load(name).checksum}"
        there += f"; {source.state()}" if source.state and not missing else ""
        typer.echo(f"{name}: {source.title}\n  {source.contents}\n  there: {there}\n  licence: {source.licence}")
        typer.echo(f"  {source.obtain}\n  cite: {source.citation}\n")
    typer.echo(f"Folder of downloaded data (NLS_DATA): {data.data_dir() or 'none'}")


@app.command()
def scoreboard(
    build: Annotated[Path | None, typer.Option(help="A build folder; the committed figures by default.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table of the README.")] = False,
) -> None:
    """Every claim of the paper with its verdict."""
    figures = (build or report.home()) / "figures"
    if not any(figures.glob("*_claims.csv")):
        raise Failure(f"--build: {figures} holds no verdicts (NN_claims.csv); run the notebooks first")
    typer.echo(report.markdown_board(report.scoreboard(figures)) if markdown else _board_text(figures))


def _board_text(figures: Path) -> str:
    board = report.scoreboard(figures)
    rows = [f"{row.verdict:10}  {row.claim} ({row.source})" for row in board.itertuples()]
    counts = board["verdict"].value_counts()
    return "\n".join(rows) + "\n\n" + ", ".join(f"{n} {v}" for v, n in counts.items())
