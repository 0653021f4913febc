"""Execute notebooks with papermill, several at once, and only those of which something has changed.

A notebook's state is `state/<name>.json` in its build folder: the key under which it ran (hashes of its cells, its
parameters, the package, the data, the records and the lock file), the seconds and the cells. It is written when the
notebook is done and taken away when it begins, so one that was killed counts as not done.
"""

import ast
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import yaml

from ..lab import data

SCOREBOARD = "12"  # reads what the others wrote, so it runs last and again whenever one of them ran
ENDS = ("done", "unchanged", "failed")
LOOK_SECONDS = 0.05  # between two looks at what the notebooks are doing
STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DISK_SLEEP)  # the last while a child is started
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
    """What becomes of a job, with its seconds and executed cells: `queued`, `cell 3 of 9`, then one of ENDS.

    `why` is why it runs, of a failed one the error.
    """

    state: str
    why: str
    seconds: float = 0.0
    cells: int = 0


Told = Callable[[Job, Outcome], None]  # of a job's state, again and again


def changed(jobs: Sequence[Job], force: bool = False) -> dict[Job, str]:
    """The jobs that have to run, and why."""
    reasons = {job: "asked for" if force else reason(key_of(job), last_state(job), job) for job in jobs}
    return {job: why for job, why in reasons.items() if why}


def run(
    jobs: Sequence[Job], *, workers: int = 1, force: bool = False, told: Told = lambda *_: None
) -> dict[str, Outcome]:
    """Execute what has changed, `workers` notebooks at a time; what became of every job, by its name.

    The job that took longest last time comes first, the scoreboard last. A failing notebook stops nobody: it keeps its
    traceback in `notebooks/` of its folder. An interruption ends the notebooks and their kernels. Main thread only.
    """
    outcomes = {}
    if len({job.state for job in jobs}) < len(jobs):
        raise ValueError(f"jobs: expected each name once in a folder, got {', '.join(job.stem for job in jobs)}")
    last = [job for job in jobs if job.stem.startswith(SCOREBOARD)]
    for part in ([job for job in jobs if job not in last], last):
        why = changed(part, force)
        for job in part:
            if job not in why:
                before = last_state(job)
                outcomes[job.stem] = Outcome("unchanged", "", before["seconds"], before["cells"])
                told(job, outcomes[job.stem])
        waiting = deque(sorted(why, key=lambda job: -last_state(job).get("seconds", 0.0)))
        for job in waiting:
            told(job, Outcome("queued", why[job]))
        active: dict[Job, Generator[Outcome, None, None]] = {}
        with _noted_interruptions() as interrupted:
            try:
                while waiting or active:
                    while waiting and len(active) < workers:
                        job = waiting.popleft()
                        active[job] = execute(job)
                    for job, course in list(active.items()):
                        outcome = next(course)
                        if outcome.state in ENDS:
                            del active[job]
                            outcome = replace(outcome, why=why[job]) if outcome.state == "done" else outcome
                            outcomes[job.stem] = outcome
                        told(job, outcome)
                    if interrupted:
                        raise KeyboardInterrupt
                    time.sleep(LOOK_SECONDS)
            finally:
                for course in active.values():
                    course.close()
    return outcomes


# ---------------------------------------------------------------- what a job depends on


def key_of(job: Job) -> dict[str, str]:
    """What decides the job's output, as name: hash."""
    home = job.source.parents[1]
    package = home / "nls" if (home / "nls").is_dir() else Path(__file__).parents[1]
    code = [
        f"{p.relative_to(package)} {_file_hash(p)}" for p in sorted(package.rglob("*")) if p.suffix in (".py", ".csv")
    ]
    key = {
        "notebook": _hash(json.dumps([[c["cell_type"], "".join(c["source"])] for c in _cells(job.source)])),
        "parameters": _hash(json.dumps(job.parameters, sort_keys=True, default=str)),
        "nls": _hash("\n".join(code)),
    }
    files = [home / "requirements-lock.txt", *data.files(), *sorted((home / "results").glob("*.jsonl"))]
    if not job.publish:
        files += sorted((home / "figures").glob(f"{job.source.stem[:2]}_*.csv"))
    if job.stem.startswith(SCOREBOARD):
        files += sorted(_figures(job).glob("*_claims.csv"))
    return key | {f"{path.parent.name}/{path.name}": _file_hash(path) for path in files}


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
    other = sorted(name for name in key.keys() | before["key"].keys() if key.get(name) != before["key"].get(name))
    if other:
        return f"changed: {', '.join(other[:3])}{' …' if len(other) > 3 else ''}"
    drawn = any(_figures(job).glob(f"{job.source.stem[:2]}_*")) or "FIGURES" not in parameters_of(job.source)
    return "" if drawn or job.stem.startswith(SCOREBOARD) else "its figures are gone"


def _figures(job: Job) -> Path:
    return (job.source.parents[1] if job.publish else job.folder) / "figures"


def parameters_of(path: Path) -> dict[str, Any]:
    """What the cell tagged `parameters` assigns, by name; None for what is no literal."""
    found: dict[str, Any] = {}
    for cell in _cells(path):
        if "parameters" in cell["metadata"].get("tags", []):
            for node in ast.parse("".join(cell["source"])).body:
                for target in getattr(node, "targets", [getattr(node, "target", None)]):
                    if isinstance(target, ast.Name):
                        found[target.id] = None
                        with suppress(ValueError):
                            found[target.id] = ast.literal_eval(node.value)
    return found


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


def execute(job: Job) -> Generator[Outcome, None, None]:
    """Run one notebook in a process of its own and keep its state: what it is doing, as often as one asks, and its end.

    A failure is an outcome. Closed before its end, it kills the process and its descendants.
    """
    begun, executed = time.time(), 0
    try:
        key = key_of(job)
        for folder in (job.output.parent, job.state.parent):
            folder.mkdir(parents=True, exist_ok=True)
        job.state.unlink(missing_ok=True)
        job.output.unlink(missing_ok=True)
        for _ in range(KERNEL_STARTS):
            error, executed = yield from run_papermill(job)
            if not error or executed:
                break
        if job.publish and not error:
            publish(job.output, job.source)
        outcome = Outcome("failed" if error else "done", error, time.time() - begun, executed)
        if not error:
            temporary = job.state.with_suffix(".tmp")
            temporary.write_text(json.dumps({"key": key} | asdict(outcome)))
            temporary.replace(job.state)
    except Exception as error:  # a folder or a disk that refuses, say
        outcome = Outcome("failed", f"{type(error).__name__}: {error}", time.time() - begun, executed)
    yield outcome


def run_papermill(job: Job) -> Generator[Outcome, None, tuple[str, int]]:
    """What went wrong, empty if nothing did, and how many cells were executed; what it said is kept in `state/`."""
    from ipykernel import kernelspec  # here, as Jupyter's packages below: training asks for none of them

    # papermill takes these two paths for templates of parameters.
    source, output = (str(path).replace("{", "{{").replace("}", "}}") for path in (job.source, job.output))
    command = [sys.executable, "-m", "papermill", source, output, "--cwd", str(job.source.parent)]
    command += ["--kernel", "python3", "--progress-bar", "--no-log-output"]
    command += ["--parameters_yaml", yaml.safe_dump(job.parameters)]
    log, begun = job.state.with_suffix(".log"), time.time()
    with tempfile.TemporaryDirectory() as kernels:
        # The kernel is this Python, whatever other kernel of that name the user may have.
        kernelspec.write_kernel_spec(Path(kernels, "kernels", "python3"))
        search = os.pathsep.join([kernels, os.environ.get("JUPYTER_PATH", "")])
        env = {**os.environ, "JUPYTER_PATH": search, "PYTHONIOENCODING": "utf-8"}
        # Not a pipe, whose end would wait for whatever process a notebook leaves behind; a session of its own, so that
        # Ctrl-C reaches this process alone.
        with open(log, "wb") as file:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, env=env, start_new_session=True)
        try:
            while process.poll() is None:
                executed, cells, _ = _progress(log)
                yield Outcome(f"cell {executed} of {cells}" if cells else "begun", "", time.time() - begun, executed)
        finally:
            if process.poll() is None:
                _end(process)
    code, (executed, _, said) = process.returncode, _progress(log)
    if code < 0:
        return f"killed by {signal.Signals(-code).name}, for memory perhaps", executed
    return (_error_in(job.output) or said or f"exit code {code}") if code else "", executed


def _progress(log: Path) -> tuple[int, int, str]:
    """How many cells of how many are executed, and the last line about something else."""
    executed, cells, said = 0, 0, ""
    for line in log.read_text("utf-8", "replace").splitlines():
        if at := re.search(r"(\d+)/(\d+) \[", line):
            executed, cells = int(at[1]), int(at[2])
        elif line.strip():
            said = line.strip()
    return executed, cells, said


def _error_in(notebook: Path) -> str:
    """The error that a notebook ended with, in a line."""
    import nbformat

    with suppress(OSError, ValueError, LookupError):
        outputs = [o for c in nbformat.read(notebook, as_version=4).cells for o in c.get("outputs", [])]
        return next((f"{o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"), "")
    return ""


def publish(executed: Path, target: Path) -> None:
    """Put an executed notebook into the repository: without time stamps, durations and papermill's own marks."""
    import nbformat
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

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
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    CoalesceStreamsPreprocessor().preprocess(notebook, {})  # where a kernel cuts printed text is chance
    temporary = target.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(target)


# ---------------------------------------------------------------- processes


@contextmanager
def _noted_interruptions() -> Iterator[list[int]]:
    """Ctrl-C adds to the list: raised at once, it might fall between a process's start and our knowing of it."""
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _end(process: subprocess.Popen) -> None:
    """Kill a process with all its descendants, a kernel among them being in a session of its own."""
    family = []
    with suppress(psutil.NoSuchProcess):
        family.append(psutil.Process(process.pid))
    for member in family:  # which grows by the children of each
        with suppress(psutil.NoSuchProcess):
            member.suspend()  # else it might start another between the look at its children and its end
            asked = time.monotonic()
            while member.status() not in STOPPED and time.monotonic() < asked + 1:
                time.sleep(0.001)
            family += member.children()
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=3)
