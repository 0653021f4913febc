"""The command line: `nls run`, `nls train`, `nls verify`, `nls site`, `nls data`, `nls scoreboard`."""

import ast
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from joblib import cpu_count
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from .. import report
from ..lab import data
from ..lab.models import pick_device
from ..lab.sweep import cluster, sweep
from ..lab.tables import PROFILES, table_runs
from ..lab.verify import CHEAP_SECONDS
from ..lab.verify import verify as train_again
from . import batch, plan, site

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
STYLES = {"done": "green", "failed": "red", "unchanged": "dim", "waiting": "dim"}
Scheduler = Annotated[str | None, typer.Option(help="Train on this Dask scheduler, such as tcp://10.0.0.1:8786.")]


class Failure(typer.Exit):
    """One clear line on standard error and a non-zero exit."""

    def __init__(self, message: str, code: int = 2):
        typer.echo(f"nls: {message}", err=True)
        super().__init__(code)


def _ended(*_: Any) -> None:
    """Like an interruption, also of a shell's background job, which ignores Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal or a file without "−" costs that sign, not the command
    signal.signal(signal.SIGTERM, _ended)
    try:
        data.absolute_environment()
        app()
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"nls: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:  # typer turns an interruption into exit code 130
        if isinstance(end, SystemExit) and end.code != 130:
            raise
        typer.echo("nls: interrupted; what was recorded is kept, the same command goes on from there", err=True)
        sys.exit(130)


@app.command()
def run(
    notebooks: Annotated[list[str] | None, typer.Argument(help="Numbers, such as 04; all by default.")] = None,
    profile: Annotated[str, typer.Option(help="smoke, quick, medium, annealed or paper.")] = "quick",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    parameter: Annotated[list[str] | None, typer.Option("-p", help="NAME=VALUE, as in the notebook's cell.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Maintainers: rewrite notebooks/ and figures/.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run again even what is unchanged.")] = False,
    build: Annotated[Path | None, typer.Option(help="Where everything goes; build/PROFILE by default.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Notebooks at a time; one per core by default.")] = None,
    scheduler: Scheduler = None,
) -> None:
    """Execute notebooks with papermill, training what their records lack, and render them as a site."""
    home = report.home()
    if profile not in PROFILES:
        raise Failure(f"--profile: got {profile!r}, expected one of {', '.join(PROFILES)}")
    if not scheduler:
        pick_device(device)
    chosen = choose_notebooks(home, notebooks or [])
    given = parse_parameters(parameter or [])
    if update and (given or profile != "quick"):
        raise Failure("--update: rewrites the committed outputs, with their own parameters; drop -p and --profile")
    folder = (build or home / "build" / ("update" if update else profile)).resolve()
    inside = folder.relative_to(home) if folder.is_relative_to(home) else folder
    places = {"RESULTS": (inside / "results").as_posix(), "FIGURES": (inside / "figures").as_posix()}
    usual = {} if update else {"PROFILE": profile, "DEVICE": device} | places
    todo = [batch.Job(path, folder, _parameters(path, usual, given), publish=update) for path in chosen]
    begun = time.perf_counter()
    _sweep_for(batch.changed(todo, force), home, device, scheduler)
    view = _View(todo)
    live = Live(get_renderable=view.table, console=view.console, refresh_per_second=2)
    with live if view.console.is_terminal else nullcontext():
        outcomes = batch.run(todo, workers=jobs or cpu_count(), force=force, told=view.told)
    if not update:
        typer.echo(f"\n{_board_text(folder / 'figures')}\n\nFigures: {folder / 'figures'}")
    failed = [name for name, outcome in outcomes.items() if outcome.state == "failed"]
    typer.echo(f"{len(todo) - len(failed)} of {len(todo)} notebooks done in {time.perf_counter() - begun:.0f} s")
    if not update:
        typer.echo(f"Site: {site.build(folder, folder / 'site')}")
    if failed:
        raise Failure(f"failed: {', '.join(failed)}; the tracebacks are in {folder / 'notebooks'}", code=1)


def _sweep_for(jobs: Sequence[batch.Job], home: Path, device: str, scheduler: str | None) -> None:
    """Train what these notebooks will look for, all of it in one pool. What cannot be trained stops nobody: the rest
    is trained table by table, and the notebook that needs it says so."""
    with cluster(scheduler) if scheduler else nullcontext() as executor:
        wanted: dict[tuple[Path, str], list] = {}
        for job in jobs:
            given = {"PROFILE": "quick", "RESULTS": "results", "DEVICE": device} | job.parameters
            runs = plan.runs(job.source.stem, given["PROFILE"], given)
            if runs:
                wanted.setdefault((home / given["RESULTS"], given["DEVICE"]), []).extend(runs)
        for (results, where), runs in wanted.items():
            try:
                sweep(runs, results, device=where, executor=executor)
            except (ValueError, TypeError, OSError):
                for table in dict.fromkeys(run.table for run in runs):
                    try:
                        sweep([r for r in runs if r.table == table], results, device=where, executor=executor)
                    except (ValueError, TypeError, OSError) as error:
                        typer.echo(f"nls: {error}", err=True)


def _parameters(path: Path, usual: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Refuses a parameter that the notebook's `parameters` cell does not assign (papermill would only log it), and a
    value of another kind."""
    own = batch.parameters_of(path)
    if unknown := sorted(given.keys() - own):
        raise Failure(f"-p: {path.stem} has no {', '.join(unknown)}; expected {', '.join(sorted(own))}")
    for name, value in given.items():
        kinds = {int, float} if isinstance(own[name], float) else {type(own[name])}
        if own[name] is not None and type(value) not in kinds:
            raise Failure(f"-p: got {name}={value!r}, expected {type(own[name]).__name__}, such as {own[name]!r}")
    if given.get("PROFILE", "quick") not in PROFILES:
        raise Failure(f"-p: got PROFILE={given['PROFILE']!r}, expected one of {', '.join(PROFILES)}")
    pick_device(given.get("DEVICE", "cpu"))
    return {k: v for k, v in usual.items() if k in own} | given


def choose_notebooks(home: Path, wanted: list[str]) -> list[Path]:
    """Notebooks by number, name or path, in the order of their numbers; all if none is named."""
    there = sorted((home / "notebooks").glob("[0-9]*_*.ipynb"))
    if not there:
        raise Failure(f"no notebooks in {home / 'notebooks'}; run this inside a checkout of the repository")
    chosen = {w: [p for p in there if _named(p, w)] for w in wanted}
    if unknown := [w for w, paths in chosen.items() if not paths]:
        raise Failure(f"notebook: got {', '.join(unknown)}, expected {', '.join(p.stem for p in there)}")
    return [path for path in there if not wanted or any(path in paths for paths in chosen.values())]


def _named(path: Path, wanted: str) -> bool:
    if wanted.isdecimal():
        return path.stem.split("_")[0].lstrip("0") == wanted.lstrip("0")
    return wanted in (path.stem, path.name) or Path(wanted).expanduser().resolve() == path.resolve()


def parse_parameters(parameters: list[str]) -> dict[str, Any]:
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


class _View:
    """What each notebook is doing: a table on a terminal, else a line per notebook as it ends."""

    def __init__(self, jobs: Sequence[batch.Job]):
        self.console = Console()
        self.rows = {job.stem: batch.Outcome("waiting", "") for job in jobs}

    def told(self, job: batch.Job, outcome: batch.Outcome) -> None:
        self.rows[job.stem] = replace(outcome, why=outcome.why or self.rows[job.stem].why)
        if not self.console.is_terminal and outcome.state in batch.ENDS:
            count = f"{outcome.cells:3} cells" if outcome.state != "unchanged" else " " * 9
            typer.echo(f"{job.stem:34} {outcome.state:9} {outcome.seconds:5.0f} s {count}  {outcome.why}")

    def table(self) -> Table:
        table = Table("notebook", "state", Column("seconds", justify="right"), "why", box=None)
        for name, row in self.rows.items():
            seconds = f"{row.seconds:.0f}" if row.seconds else ""
            table.add_row(name, row.state, seconds, Text(row.why), style=STYLES.get(row.state))
        return table


@app.command()
def train(
    table: Annotated[str, typer.Argument(help="A table, such as table2.")],
    profile: Annotated[str, typer.Option(help="smoke, quick, medium, annealed or paper.")] = "medium",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0.")] = 1,
    only: Annotated[
        list[str] | None, typer.Option(help="A column, such as 'cifar10 symmetric 0.6'; may repeat.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="results/ by default.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    scheduler: Scheduler = None,
) -> None:
    """Train what a table's records lack, all of it or column by column; an interruption loses nothing recorded."""
    if not scheduler:
        pick_device(device)
    runs = table_runs(table, profile, range(seeds))
    column = {r: f"{r.dataset} {r.noise} {r.noise_rate:g}" for r in runs}
    if unknown := set(only or []) - set(column.values()):
        known = "; ".join(sorted(set(column.values())))
        raise Failure(f"--only: got {', '.join(sorted(unknown))}, expected some of {known}")
    runs = [r for r in runs if not only or column[r] in only]
    started = time.perf_counter()
    with cluster(scheduler) if scheduler else nullcontext() as executor:
        records = sweep(runs, results or report.home() / "results", device=device, executor=executor)
    typer.echo(f"{table}: {len(records)} records, {time.perf_counter() - started:.0f} s")


@app.command()
def verify(
    table: Annotated[str, typer.Argument(help="A table of results/, such as table1.")],
    sample: Annotated[int, typer.Option(min=1, help="How many records to train again.")] = 5,
    max_seconds: Annotated[float, typer.Option(help="Draw from records that took no longer.")] = CHEAP_SECONDS,
    seed: Annotated[int | None, typer.Option(help="Which records are drawn.")] = None,
    results: Annotated[Path | None, typer.Option(help="results/ by default.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train randomly drawn records again and compare with what is committed."""
    folder = results or report.home() / "results"
    rows = train_again(table, folder, sample, seed=seed, max_seconds=max_seconds, device=device)
    typer.echo(rows.to_string(index=False))
    good, largest = int(rows["ok"].sum()), rows["difference"].max()
    where = "to the bit" if rows["exact"].all() else "within tolerance: another device or other versions"
    typer.echo(f"{good} of {len(rows)} records of {table} agree ({where}); largest difference {largest:.6g}")
    if good < len(rows):
        raise Failure(f"{table}: {len(rows) - good} records differ from what this code trains", code=1)


@app.command("site")
def make_site(
    build: Annotated[Path | None, typer.Option(help="A build folder; the committed notebooks by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="build/site, or site in the build folder, by default.")] = None,
) -> None:
    """A static site of the executed notebooks; it needs no network to be viewed."""
    folder = build or report.home()
    if not any((folder / "notebooks").glob("*.ipynb")):
        raise Failure(f"--build: {folder} holds no executed notebooks (notebooks/*.ipynb); run them first")
    target = output or (build / "site" if build else folder / "build" / "site")
    typer.echo(site.build(folder.resolve(), target))


@app.command("data")
def show_data(
    fetch: Annotated[list[str] | None, typer.Option(help="Download this data set; may be repeated.")] = None,
) -> None:
    """What data are there, what can be fetched, checksums and licences."""
    folder, damaged = data.data_dir(), []
    for name in fetch or []:
        source = data.SOURCES.get(name)
        if source is None or source.fetch is None:
            known = ", ".join(n for n, s in data.SOURCES.items() if s.fetch)
            raise Failure(f"--fetch: got {name!r}, expected one of {known}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            source.fetch(folder)
        except OSError as error:
            raise Failure(f"--fetch {name}: {error}", code=1) from error
    for name, source in data.SOURCES.items():
        try:
            missing = source.missing()
            there = f"no, missing {', '.join(missing)}" if missing else f"yes, checksum {data.load(name).checksum}"
        except (ValueError, OSError) as error:
            damaged.append(name)
            there = f"yes, but damaged: {' '.join(str(error).split())}"
        typer.echo(f"{name}: {source.title}\n  {source.contents}\n  there: {there}\n  licence: {source.licence}")
        typer.echo(f"  {source.obtain}\n  cite: {source.citation}\n")
    for file, names in data.HUMAN_LABELS.values():
        there = "yes" if (folder / file).is_file() else "no"
        typer.echo(
            f"{file}: CIFAR-N, labels by people ({', '.join(names)})\n  there: {there}\n  {data.CIFARN_OBTAIN}\n"
        )
    typer.echo(f"Folder of downloaded data (NLS_DATA): {folder}")
    if damaged:
        raise Failure(f"damaged: {', '.join(damaged)}", code=1)


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
    width = board["verdict"].str.len().max()
    rows = [f"{row.verdict:{width}}  {row.claim} ({row.source})" for row in board.itertuples()]
    counts = board["verdict"].value_counts()
    return "\n".join(rows) + "\n\n" + ", ".join(f"{n} {v}" for v, n in counts.items())
