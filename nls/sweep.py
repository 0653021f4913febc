"""Run what is missing of a table, on any executor, and keep the records.

`results/<table>.jsonl` is append-only, one JSON object a line. A run counts as done if the file holds a record with its
`config` (the hash of everything that determines it) and the checksum of the data as they are now; any other record of
the same run stays in the file and is not used. Appending holds a lock, so several processes may share a file, and is
all or nothing, so a process may be killed at any moment.

Workers share this machine's places, one per core or one per GPU: where the environment variable NLS_PLACES names a
folder, with the workers of all sweeps that know it. NLS_SCHEDULER names a Dask scheduler to train on instead.
"""

import dataclasses
import json
import math
import os
import random
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import IO

import filelock
import pandas as pd
import torch
from tqdm import tqdm

from . import data
from .experiments import PROFILES, TABLES
from .models import device_name, pick_device, versions
from .runs import Run
from .theory import check_integer

UNMEASURED = {f.name for f in dataclasses.fields(Run)} | {"config", "data", "versions", "device", "seconds", "diverged"}
UNMEASURED |= {
    "lr",
    "test",
    "heldout_labels",
    "fit",
    "reproduced",
    "fitted",
    "right",
    "wrong",
}  # what an image record has beside the rest
# On other hardware or versions; every other measured value 0.02. Last bits grow over a thousand steps: they move the
# last evaluation, they decide which one noisy labels choose, and a network that memorises noise has no scale.
TOLERANCE = {"last": 0.05, "noisy_val": 0.1, "ece": 0.1, "confidence": 0.1, "nll": math.inf}
TOLERANCE |= {f"fresh_{k}": TOLERANCE.get(k, 0.02) for k in ("best_test", "noisy_val", "last")}
CHEAP_SECONDS = 60.0


def sweep(
    runs: Sequence[Run],
    results: Path | str,
    *,
    executor: Executor | None = None,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """The records of `runs`, in their order, training those that `results` does not hold yet.

    Any `concurrent.futures.Executor` will do, only `submit` is used; its workers need this package and the same data.
    By default one process per core or per GPU. Raises ValueError for an empty grid, a device that is not there or a
    damaged file, OSError if `results` cannot be written; all of them before anything is trained. ValueError, too, if a
    worker has other data.
    """
    runs = list(runs)
    if not runs:
        raise ValueError("runs: got an empty grid, expected at least one run")
    remote = executor is not None or os.environ.get("NLS_SCHEDULER")
    device = device if remote else str(pick_device(device))
    logs = {t: Log(Path(results) / f"{t}.jsonl") for t in dict.fromkeys(run.table for run in runs)}
    key = {run: (run.config, checksum(run.dataset)) for run in runs}
    missing = [run for run in runs if key[run] not in logs[run.table].records]
    if missing:
        for table in {run.table for run in missing}:
            logs[table].check_writable()
        groups, waiting = list(dict.fromkeys(whole_group(run) for run in missing)), set(missing)
        # First what others start from: no worker then waits for another's warm-up.
        waves = [[g for g in groups if (g[0].start == "scratch") == first] for first in (True, False)]
        bar = _Progress(missing[0].table, len(runs), len(runs) - len(missing), progress)
        with _pool(executor, device, len(groups)) as pool, bar:
            for wave in waves:
                futures = {pool.submit(train_group, group, device): group for group in wave}
                try:
                    for future in as_completed(futures):
                        group = futures.pop(future)
                        _check_origin(group, future.result())
                        logs[group[0].table].append(future.result())
                        bar.update(len(waiting & set(group)))
                except BaseException as error:
                    for future in futures if remote else ():  # a pool of ours ends with its processes
                        future.cancel()
                    if isinstance(error, (BrokenExecutor, CancelledError)) or type(error).__name__ == "KilledWorker":
                        lost = f"a worker was lost, out of memory perhaps ({error}); what is recorded is kept"
                        raise OSError(f"{missing[0].table}: {lost}") from error
                    raise
    return pd.DataFrame([logs[run.table].records[key[run]] for run in runs])


def whole_group(run: Run) -> tuple[Run, ...]:
    """The runs of the table that are trained together with `run`, itself included.

    Always all of them, also if only one is missing: the last bits of a matrix product may depend on the size of the
    stack, so this is what makes a record the same whenever it is trained.
    """
    table = TABLES[run.table]
    if table.group(run) == run:
        return (run,)
    listed = table.runs("smoke" if run.regime == "smoke" else "paper", [run.seed])
    group = tuple(r for r in listed if table.group(r) == table.group(run))
    return group if run in group else (run,)


def stored(runs: Sequence[Run], results: Path | str) -> pd.DataFrame:
    """Those records of `runs` that `results` holds, in their order, whether or not the data are on this machine."""
    files = dict.fromkeys(run.table for run in runs)
    found: dict = {}
    for record in (r for table in files for r in read(Path(results) / f"{table}.jsonl")):
        found.setdefault(record["config"], record)
    return pd.DataFrame([found[run.config] for run in runs if run.config in found])


def train_group(runs: Sequence[Run], device: str) -> list[dict]:
    """Train the runs of one group and return their full records. This is what an executor's worker runs.

    On a CPU with one thread, and the process stays at one: cores are not oversubscribed, and no record depends on how
    many there were. Raises OSError with one clear line where the memory does not suffice.
    """
    first = runs[0]
    with _place(str(pick_device(device))) as place:
        torch_device = torch.device(place)
        if torch_device.type == "cpu":
            torch.set_num_threads(1)
        try:
            measured = TABLES[first.table].train(runs, torch_device)
        except (torch.OutOfMemoryError, MemoryError) as error:
            what = f"{first.table}, {first.dataset} {first.noise} {first.noise_rate:g}, seed {first.seed}"
            raise OSError(f"{device}: out of memory while training {what}; what is recorded is kept") from error
        finally:
            if torch_device.type == "cuda":
                torch.cuda.empty_cache()  # the GPU's next user may be another process
    origin = {"versions": versions(), "device": device_name(torch_device)}
    return [
        run.identity | {"data": checksum(run.dataset)} | _rounded(values) | origin
        for run, values in zip(runs, measured, strict=True)
    ]


def _check_origin(group: Sequence[Run], records: Sequence[dict]) -> None:
    """Refuse what a worker on another machine made of other data or with other code."""
    for run, record in zip(group, records, strict=True):
        if record["data"] != checksum(run.dataset):
            there, here = record["data"], checksum(run.dataset)
            raise ValueError(f"{run.dataset}: a worker's data have the checksum {there}, expected {here} as here")
        if record["config"] != run.config:
            raise ValueError(f"{run.table}: a worker has another version of this package; nothing of its was kept")


def _rounded(measured: dict) -> dict:
    """Floats to six decimals; one that is not finite (a diverged run's NLL) becomes null, which JSON knows."""
    floats = {k: v for k, v in measured.items() if isinstance(v, float)}
    return measured | {k: round(float(v), 6) if math.isfinite(v) else None for k, v in floats.items()}


def read(path: Path | str) -> list[dict]:
    """The records of a file; none if it is not there. What follows the last line end (a killed writer's) is left out.

    Warns of that, and raises ValueError naming the line if any other line is no record.
    """
    path = Path(path)
    if not path.exists():
        return []
    *lines, torn = path.read_bytes().split(b"\n")
    if torn:
        warnings.warn(f"{path}: the last line is torn and is left out; the run is done again", stacklevel=2)
    return [_record(path, number, line) for number, line in enumerate(lines, 1)]


def _record(path: Path, number: int, line: bytes) -> dict:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not {"config", "data"} <= record.keys():
        raise ValueError(
            f"{path}, line {number}: got {line[:60]!r}, expected a record; delete that line to train it again"
        )
    return record


def index(records: Iterable[dict]) -> dict[tuple[str, str], dict]:
    """Records by (config, data). The first of equals counts."""
    found: dict = {}
    for record in records:
        found.setdefault((record["config"], record["data"]), record)
    return found


class Log:
    """A file of records, by (config, data) in `records`; what other processes add is seen at the next `append`."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.records = index(read(self.path))
        self._end = self._lines = 0  # how far the file was read while it was locked

    def append(self, records: Sequence[dict]) -> None:
        """Append all of `records` that the file does not hold, or none of them if the disk refuses."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{self.path}.lock"), open(self.path, "a+b", buffering=0) as file:
            end = self._catch_up(file)
            new = [r for r in records if (r["config"], r["data"]) not in self.records]
            lines = [json.dumps(r).encode() for r in new]
            text = b"".join(line + b"\n" for line in lines)
            try:
                written = 0
                while written < len(text):
                    written += os.write(file.fileno(), text[written:])
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(end)
                raise OSError(
                    f"{self.path}: {len(new)} records could not be written ({error.strerror}); none was"
                ) from error
            self._take(lines)
            self._end = end + written

    def _catch_up(self, file: IO[bytes]) -> int:
        """Read what was added since the last time, cut off a killed writer's torn line; where the file then ends."""
        size = file.seek(0, os.SEEK_END)
        if size < self._end:  # somebody has written it anew
            self.records, self._end, self._lines = {}, 0, 0
        file.seek(self._end)
        *lines, torn = file.read().split(b"\n")
        file.truncate(size - len(torn))
        self._take(lines)
        return size - len(torn)

    def _take(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._lines += 1
            record = _record(self.path, self._lines, line)
            self.records.setdefault((record["config"], record["data"]), record)

    def check_writable(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{self.path}.lock"), open(self.path, "ab"):
                pass
        except OSError as error:
            raise OSError(f"{self.path}: cannot be written ({error.strerror}); nothing was trained") from error


@cache
def checksum(dataset: str) -> str:
    return data.load(dataset).checksum


# ---------------------------------------------------------------- workers


@contextmanager
def _pool(executor: Executor | None, device: str, num_groups: int) -> Iterator[Executor]:
    """Where to train: on `executor`, else on the Dask scheduler that is named, else in processes of this machine."""
    if executor is not None:
        yield executor
    elif address := os.environ.get("NLS_SCHEDULER"):
        with cluster(address) as executor:
            yield executor
    else:
        with _processes(device, num_groups) as executor:
            yield executor


@contextmanager
def _processes(device: str, num_groups: int) -> Iterator[Executor]:
    """What ends a sweep early ends these processes at once: their results would be lost anyway."""
    others, workers = set(active_children()), min(len(_places(device)), num_groups)
    with tempfile.TemporaryDirectory() as own:
        places = os.environ.get("NLS_PLACES") or own
        pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin_worker, initargs=(places,))
        try:
            yield pool
        except BaseException:
            for process in set(active_children()) - others:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """An executor of the Dask scheduler at `address`, such as tcp://10.0.0.1:8786; needs the extra `dask`.

    A worker that dies is replaced by its nanny and its group trained again. Raises ValueError without Dask, OSError if
    nobody answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("scheduler: needs Dask, pip install 'negative-label-smoothing[dask]'") from error
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise OSError(f"scheduler: nobody answers at {address!r} ({error})") from error
    with client:
        if not client.scheduler_info()["workers"]:
            warnings.warn(f"{address}: this scheduler has no workers yet; waiting for some", stacklevel=3)
        # pure: Dask would take equal calls for one and fake independent runs.
        yield client.get_executor(pure=False)


_shared: Path | None = None  # in a worker: the folder of the places that it shares with others


def _begin_worker(places: str) -> None:
    global _shared
    _shared = Path(places)
    follow_parent()


def follow_parent() -> None:
    """No orphans: a worker whose parent was killed ends at once. Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """With these environment variables (None: without), also in the processes that are started meanwhile."""

    def put(values: dict[str, str | None]) -> None:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    before = {name: os.environ.get(name) for name in variables}
    put(variables)
    try:
        yield
    finally:
        put(before)


def cores() -> int:
    """That this process may use; at most 61, all that a pool of processes can wait for on Windows."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, 61) if os.name == "nt" else allowed


def _places(device: str) -> list[str]:
    """How many groups this machine trains at a time: one per core, or one per GPU (`cuda` means all of them)."""
    if device == "cpu":
        return [f"cpu:{i}" for i in range(cores())]
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if device == "cuda" else [device]


@contextmanager
def _place(device: str) -> Iterator[str]:
    """Hold a place of this machine, waiting for one where all are taken; yields the device to train on."""
    if _shared is None:
        yield device
        return
    places = _places(device)
    while True:
        for place in places:
            lock = filelock.FileLock(_shared / f"{place.replace(':', '-')}.lock")
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                continue
            try:
                yield "cpu" if device == "cpu" else place
                return
            finally:
                lock.release()
        time.sleep(0.01 * len(places))


class _Progress:
    """A progress bar; where the environment variable NLS_PROGRESS names a file, one line in that file instead."""

    def __init__(self, table: str, total: int, done: int, show: bool):
        self.table, self.total, self.done, self.file = table, total, done, os.environ.get("NLS_PROGRESS")
        bar = show and not self.file
        self.bar = tqdm(total=total, initial=done, desc=table, unit="run", disable=not bar, leave=False)

    def update(self, count: int) -> None:
        self.done += count
        self.bar.update(count)
        if self.file:
            Path(self.file).write_text(f"{self.table} {self.done}/{self.total}")

    def __enter__(self) -> "_Progress":
        self.update(0)
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()


def verify(
    table: str,
    results: Path | str,
    sample: int,
    *,
    seed: int | None = None,
    max_seconds: float = CHEAP_SECONDS,
    device: str = "auto",
) -> pd.DataFrame:
    """Train `sample` randomly drawn records of a table again and compare.

    Drawn are records that the present code and data still describe and that took at most `max_seconds`, a warm-up
    included, the features of documents not. Returns a row per record with `difference` (the largest over the measured
    values), `exact` (the device and the versions are the record's own) and `ok`: equal where exact, elsewhere within
    `TOLERANCE`.
    """
    check_integer("sample", sample, 1)
    records = index(read(Path(results) / f"{table}.jsonl"))
    there = {d: checksum(d) for d in {r["dataset"] for r in records.values()} if not data.SOURCES[d].missing()}
    runs = _all_runs(table, records.values())
    described = {(run.config, there[run.dataset]): run for run in runs if run.dataset in there}
    cheap = sorted(k for k, r in records.items() if k in described and r["seconds"] <= max_seconds)
    if not cheap:
        what = f"{results}/{table}.jsonl: none of its {len(records)} records can be verified with this code"
        raise ValueError(f"{what}, these data and {max_seconds:g} seconds for each")
    drawn = random.Random(time.time_ns() if seed is None else seed).sample(cheap, min(sample, len(cheap)))
    groups = dict.fromkeys(whole_group(described[key]) for key in drawn)
    device = str(pick_device(device))
    # Nothing that an earlier run left in the cache folder may answer for a record.
    with tempfile.TemporaryDirectory() as empty, environment(NLS_CACHE=empty), _processes(device, len(groups)) as pool:
        futures = [pool.submit(train_group, group, device) for group in groups]
        again = index(record for future in futures for record in future.result())
    return pd.DataFrame([compare(records[key], again[key]) for key in drawn])


def compare(record: dict, again: dict) -> dict:
    """One row of `verify`: a record against the same run trained again. Image runs on a GPU are never exact."""
    exact = all(record[k] == again[k] for k in ("versions", "device"))
    exact = exact and not ("lr" in record and record["device"].startswith("NVIDIA"))
    names = sorted((record.keys() | again.keys()) - UNMEASURED)
    pairs = {k: (record.get(k), again.get(k)) for k in names}
    differences = {k: 0.0 if a == b else math.inf if None in (a, b) else abs(a - b) for k, (a, b) in pairs.items()}
    allowed = {k: 0.0 if exact else TOLERANCE.get(k, 0.02) for k in names}
    ok = record["diverged"] == again["diverged"] and all(differences[k] <= allowed[k] for k in names)
    shown = ("dataset", "noise", "noise_rate", "method", "rate", "seed", "config")
    return {k: record[k] for k in shown} | {"difference": max(differences.values()), "exact": exact, "ok": ok}


def _all_runs(table: str, records: Iterable[dict]) -> list[Run]:
    seeds = sorted({r["seed"] for r in records})
    return [run for profile in PROFILES for run in TABLES[table].runs(profile, seeds)]
