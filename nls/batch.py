"""Execute notebooks with papermill, several at once, and only those of which something has changed.

A notebook's state is `state/<name>.json` in its build folder: the key under which it ran (hashes of its cells, its
parameters, the modules of `nls` that it uses, the data and the lock file), the seconds and the cells. It is written
when the notebook is done and taken away when it begins, so what a kill leaves behind counts as not done.
"""

import ast
import hashlib
import json
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from . import data, site, sweep

SCOREBOARD = "11"  # reads what the others wrote, so it runs last and again whenever one of them ran
KERNEL_STARTS = 3  # a kernel's ports are chosen before they are taken, and another one may be quicker


@dataclass(frozen=True, eq=False)
class Job:
    """One notebook to execute: where it is, its parameters, and the folder that all it makes goes into.

    With `publish` its outputs are also written back into the notebook itself.
    """

    source: Path
    folder: Path
    parameters: dict[str, Any]
    publish: bool = False
    name: str = ""  # of the outputs; the notebook's own by default

    @property
    def stem(self) -> str:
        return self.name or self.source.stem

    @property
    def output(self) -> Path:
        return self.folder / "notebooks" / f"{self.stem}.ipynb"

    @property
    def state(self) -> Path:
        return self.folder / "state" / f"{self.stem}.json"


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `done`, `unchanged` or `failed` (`why` is then the error), its seconds and executed cells."""

    state: str
    why: str
    seconds: float = 0.0
    cells: int = 0


def run(
    jobs: Sequence[Job],
    *,
    executor: Executor | None = None,
    workers: int = 1,
    force: bool = False,
    progress: Path | None = None,
    started: Callable[[Job, str], None] = lambda job, why: None,
    ended: Callable[[Job, Outcome], None] = lambda job, outcome: None,
) -> dict[str, Outcome]:
    """Execute what has changed, on any `concurrent.futures.Executor`; what became of every job, by its name.

    By default `workers` processes on this machine, the job that took longest last time first. Another executor's
    workers must be processes (papermill changes the working folder) that see the same files. A failing notebook stops
    nobody: it keeps its traceback in `notebooks/` of its folder. `started` (with the reason why the job runs) and
    `ended` are called as things happen; in between, the folder `progress` says how far each is, see `execute`. An
    interruption ends the processes and their kernels.
    """
    outcomes: dict[str, Outcome] = {}

    def finish(job: Job, outcome: Outcome) -> None:
        outcomes[job.stem] = outcome
        ended(job, outcome)

    def round_of(waiting: dict[Job, tuple]) -> dict[Job, tuple]:
        """Execute these; returns those whose process was lost."""
        futures: dict[Future, Job] = {}
        lost = {}
        with processes(min(workers, len(waiting))) if executor is None else nullcontext(executor) as pool:
            try:
                # The long ones first, so that short ones fill the end; of those that never ran, the later ones, the
                # experiments.
                for job, (key, why, _) in sorted(reversed(waiting.items()), key=lambda item: -item[1][2]):
                    futures[pool.submit(execute, job, key, progress)] = job
                    started(job, why)
                for future in as_completed(futures):
                    job = futures[future]
                    try:
                        outcome = future.result()
                    except BrokenExecutor:
                        lost[job] = waiting[job]
                        continue
                    except Exception as error:
                        outcome = Outcome("failed", f"{type(error).__name__}: {error}")
                    finish(job, replace(outcome, why=waiting[job][1]) if outcome.state == "done" else outcome)
            except BrokenExecutor:  # already while they were submitted
                lost = {job: waiting[job] for job in waiting if job.stem not in outcomes}
            except BaseException:
                for future in futures if executor is not None else ():  # our own pool ends with its processes, and
                    future.cancel()  # its thread stumbles over a future that somebody else has cancelled
                raise
        return lost

    last = [job for job in jobs if job.stem.startswith(SCOREBOARD)]
    for part in ([job for job in jobs if job not in last], last):
        waiting = {}
        for job in part:
            key, before = key_of(job), last_state(job)
            if not force and not (changed := reason(key, before, job)):
                finish(job, Outcome("unchanged", "", before["seconds"], before["cells"]))
            else:
                waiting[job] = (key, "asked for" if force else changed, before.get("seconds", 0.0))
        lost = round_of(waiting) if waiting else {}
        for job in lost:  # a process that dies takes its pool along, and with it others' work: now each has its own
            if executor is not None or round_of({job: lost[job]}):
                finish(job, Outcome("failed", "its process was killed, for memory perhaps"))
    return outcomes


# ---------------------------------------------------------------- what a job depends on


def key_of(job: Job) -> dict[str, str]:
    """What decides the job's output, as name: hash."""
    home, cells = job.source.parents[1], _source(job.source)
    package = home / "nls" if (home / "nls").is_dir() else Path(__file__).parent
    key = {"notebook": _hash(cells), "parameters": _hash(json.dumps(job.parameters, sort_keys=True, default=str))}
    used = modules_used("\n".join(text for kind, text in json.loads(cells) if kind == "code"), package)
    key |= {f"nls.{name}": _file_hash(package / f"{name}.py") for name in sorted(used)}
    files = [home / "requirements-lock.txt"]
    if {"data", "paper"} & used:
        files += sorted((package / "assets").glob("*.csv"))
    if "data" in used:
        files += data.files()
    if "sweep" in used:  # what was recorded before is read, for comparison or where data are absent
        files += sorted((home / "results").glob("*.jsonl"))
    if not job.publish:
        files += sorted((home / "figures").glob(f"{job.source.stem[:2]}_*.csv"))
    if job.stem.startswith(SCOREBOARD):
        files += sorted(_figures(job).glob("*_claims.csv"))
    return key | {f"{path.parent.name}/{path.name}": _file_hash(path) for path in files}


def modules_used(code: str, package: Path) -> set[str]:
    """The modules of the package that some code imports, and those that they import in turn; all if it is no Python."""
    exported = {name: module for module, name in _imports((package / "__init__.py").read_text("utf-8"))}
    try:
        imported = _imports("\n".join("pass" if re.match("[%!]", line) else line for line in code.split("\n")), "nls")
    except SyntaxError:
        return {path.stem for path in package.glob("*.py")}
    open_ends = set()
    for module, name in imported:
        # `import nls` is all that it exports, and `from nls import gls_loss` the module that defines it.
        open_ends |= {module} if module else {exported.get(name, name)} if name else set(exported.values())
    found = set()
    while open_ends:
        module = open_ends.pop()
        path = package / f"{module}.py"
        if module not in found and path.is_file():
            found.add(module)
            open_ends |= {inner or name for inner, name in _imports(path.read_text("utf-8"))}
    return found


def _imports(code: str, package: str | None = None) -> set[tuple[str, str]]:
    """(module, name) of each import from `package` or, without it, of each relative one; "" where there is none."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            first, *inner = [""] if package is None else (node.module or "").split(".")
            if node.level == (package is None) and first == (package or ""):
                module = (node.module or "").split(".")[0] if package is None else "".join(inner[:1])
                found |= {(module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import) and package:
            dotted = [alias.name.split(".") for alias in node.names]
            found |= {("".join(names[1:2]), "") for names in dotted if names[0] == package}
    return found


def last_state(job: Job) -> dict[str, Any]:
    """What is known of the last run; nothing if the state is unreadable."""
    try:
        state = json.loads(job.state.read_text())
        return state if {"key", "seconds", "cells"} <= state.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def reason(key: dict[str, str], before: dict[str, Any], job: Job) -> str:
    """Why the job is to run; empty if nothing has changed."""
    if not before or not job.output.exists():
        return "never finished"
    changed = [name for name in key.keys() | before["key"].keys() if key.get(name) != before["key"].get(name)]
    if changed:
        return f"changed: {', '.join(sorted(changed)[:3])}{' …' if len(changed) > 3 else ''}"
    drawn = any(_figures(job).glob(f"{job.source.stem[:2]}_*")) or "FIGURES" not in parameter_names(job.source)
    return "" if drawn or job.stem.startswith(SCOREBOARD) else "its figures are gone"


def _figures(job: Job) -> Path:
    return (job.source.parents[1] if job.publish else job.folder) / "figures"


def parameter_names(path: Path) -> set[str]:
    """Names assigned in the cell tagged `parameters`."""
    for cell in _cells(path):
        if "parameters" in cell["metadata"].get("tags", []):
            tree = ast.parse("".join(cell["source"]))
            targets = [t for node in tree.body for t in getattr(node, "targets", [getattr(node, "target", None)])]
            return {t.id for t in targets if isinstance(t, ast.Name)}
    return set()


def _source(path: Path) -> str:
    """A notebook's cells without their outputs."""
    return json.dumps([[c["cell_type"], "".join(c["source"])] for c in _cells(path)])


def _cells(path: Path) -> list[dict]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: is no notebook ({error})") from error


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file_hash(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return "absent"
    return _content_hash(path, stat.st_size, stat.st_mtime_ns)


@cache
def _content_hash(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


# ---------------------------------------------------------------- executing one


def execute(job: Job, key: dict[str, str], progress: Path | None = None) -> Outcome:
    """Run one notebook, render its page, keep its state: what an executor's worker does. A failure is an outcome.

    In the folder `progress` it keeps `<name>.cells`, when it began and how many cells of how many are executed, and its
    kernel's sweep `<name>.sweep`.
    """
    import papermill

    begun = time.time()
    for folder in (job.output.parent, job.state.parent):
        folder.mkdir(parents=True, exist_ok=True)
    job.state.unlink(missing_ok=True)
    executed, total = -1, sum(kind == "code" for kind, _ in json.loads(_source(job.source))) + bool(job.parameters)

    def count(**_: Any) -> None:
        nonlocal executed
        executed += 1
        if progress:
            (progress / f"{job.stem}.cells").write_text(f"{begun} {executed} {total}")

    count()
    error: str | None = ""
    with sweep.environment(NLS_PROGRESS=progress and str(progress / f"{job.stem}.sweep")):
        for _ in range(KERNEL_STARTS):
            try:
                papermill.execute_notebook(
                    str(job.source),
                    str(job.output),
                    job.parameters,
                    cwd=str(job.source.parent),
                    progress_bar=False,
                    kernel_name="python3",
                    extra_arguments=["--IPKernelApp.log_level=50"],  # else kernels log their ports and their end
                    on_cell_executed=count,
                )
                error = None
            except papermill.PapermillExecutionError as failure:
                error = f"{failure.ename}: {failure.evalue}"
            except RuntimeError as failure:  # the kernel died: killed for memory, say
                error = str(failure) or type(failure).__name__
                if not executed:
                    continue
            break
    if job.publish:
        if error is None:
            publish(job.output, job.source)
    else:
        site.page(job.output, job.folder / "site")
    outcome = Outcome("done" if error is None else "failed", error or "", time.time() - begun, executed)
    if error is None:
        temporary = job.state.with_suffix(".tmp")
        temporary.write_text(json.dumps({"key": key} | asdict(outcome)))
        temporary.replace(job.state)
    return outcome


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


# ---------------------------------------------------------------- processes


@contextmanager
def processes(workers: int) -> Iterator[Executor]:
    """A pool for notebooks (papermill's working folder is the process's own). Their sweeps share the machine's places.

    Whatever ends the batch early ends the kernels and their workers too.
    """
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as places, sweep.environment(NLS_PLACES=places):
        pool = ProcessPoolExecutor(workers, context, initializer=sweep.follow_parent)
        try:
            yield pool
        except BaseException:
            _end([p.pid for p in multiprocessing.active_children() if p not in others])
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _end(pids: Sequence[int | None]) -> None:
    """Kill processes with all their descendants, a kernel among them being in a session of its own."""
    import psutil

    family, descendants = [], []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            family.append(psutil.Process(pid))
            family[-1].suspend()  # else it might start a kernel between the look at its children and its end
            descendants += family[-1].children(recursive=True)
    for process in family + descendants:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    # The pool waits for its own processes: for one that somebody else reaped it would wait for ever.
    psutil.wait_procs(descendants, timeout=3)
