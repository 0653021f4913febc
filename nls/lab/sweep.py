"""Train what is missing of some runs, on any executor, and keep the records."""

import math
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, ProcessPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pandas as pd
import torch
from joblib import cpu_count
from tqdm import tqdm

from .models import device_name, pick_device, versions
from .records import Log, checksum
from .runs import Run


def sweep(
    runs: Sequence[Run],
    results: Path | str,
    *,
    executor: Executor | None = None,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """The records of `runs`, in their order, training those that `results` does not hold yet.

    Groups are trained in the order of the runs, each after the warm-up that it starts from, and a record is kept as
    soon as it exists.

    Args:
        runs: what a table lists, or a part of it; of a group of which one run is missing all are trained.
        results: the folder of the records.
        executor: any `concurrent.futures.Executor`, only `submit` is used; its workers need this package, the same
            data and, on a GPU, a process each. By default one process per core or per GPU.
        device: auto, cpu, cuda (all GPUs) or cuda:N.
        progress: whether a bar is shown.

    Raises:
        ValueError, OSError: a device that is not there, a damaged file or one that cannot be written,
            before anything is trained; a worker that has other data or another version, or that was lost.
    """
    runs = list(runs)
    logs = {t: Log(Path(results) / f"{t}.jsonl") for t in dict.fromkeys(run.table for run in runs)}
    key = {run: (run.config, checksum(run.dataset)) for run in runs}
    missing = {run for run in runs if key[run] not in logs[run.table].records}
    if missing:
        device = device if executor else str(pick_device(device))
        for table in {run.table for run in missing}:
            logs[table].check_writable()
        if executor is None:
            _warn_of_other_warm_ups(missing, logs, device)
        groups = list(dict.fromkeys(run.group for run in runs if run in missing))
        bar = tqdm(total=len(missing), desc=groups[0][0].table, unit="run", disable=not progress, leave=False)
        places = None if executor else places_of(device)[: len(groups)]
        with nullcontext(executor) if executor else processes(places) as pool, bar:
            for group, records in _trained(groups, pool, places and len(places), device):
                _check_origin(group, records)
                logs[group[0].table].append(records)
                bar.set_description(group[0].table)
                bar.update(len(missing & set(group)))
    return pd.DataFrame([logs[run.table].records[key[run]] for run in runs])


def _warn_of_other_warm_ups(missing: set[Run], logs: dict[str, Log], device: str) -> None:
    """Of runs that begin at a warm-up which is on record, but was trained elsewhere: here it will not be the same."""
    here = {"versions": versions(), "device": device_name(torch.device(device))}
    for warm_up in {run.warm_up for run in missing} - {None} - missing:
        record = logs[warm_up.table].records.get((warm_up.config, checksum(warm_up.dataset)), here)
        if any(record[k] != here[k] for k in here):
            what = f"{warm_up.table}, {warm_up.dataset} {warm_up.noise} {warm_up.noise_rate:g}, seed {warm_up.seed}"
            there = f"trained with {record['versions']} on {record['device']}"
            what = f"{what}: what is recorded starts from a warm-up {there}; what is missing will start from one"
            warnings.warn(f"{what} trained here, and differences between the two will not be paired", stacklevel=3)


def _trained(
    waiting: list[tuple[Run, ...]], pool: Executor, places: int | None, device: str
) -> Iterator[tuple[tuple[Run, ...], list[dict]]]:
    """Groups with their records, as they are done. At most `places` at a time, the first that are ready: a column ends
    before more than the warm-up of the next is begun. After a failure what has ended by then comes first."""
    waiting, running = list(waiting), {}
    pending = {run for group in waiting for run in group}
    needs = {group: {run.warm_up for run in group} for group in waiting}
    try:
        while waiting or running:
            ready = [group for group in waiting if not needs[group] & pending]
            for group in ready[: None if places is None else places - len(running)]:
                running[pool.submit(train_group, group, device)] = group
                waiting.remove(group)
            done = wait(running, return_when=FIRST_COMPLETED).done
            for future in sorted(done, key=lambda future: future.exception() is not None):
                group = running.pop(future)
                yield group, future.result()
                pending -= set(group)
    except BaseException as error:
        for future in running if places is None else ():  # a pool of ours ends with its processes
            future.cancel()
        if isinstance(error, (BrokenExecutor, CancelledError)) or type(error).__name__ == "KilledWorker":
            what = f"{group[0].table}: a worker was lost, out of memory perhaps ({error}); what is recorded is kept"
            raise OSError(what) from error
        raise


def train_group(runs: Sequence[Run], device: str) -> list[dict]:
    """Train the runs of one group and return their full records. This is what an executor's worker runs.

    On a CPU with one thread, and the process stays at one: cores are not oversubscribed, and no record depends on how
    many there were. Raises OSError with one clear line where the memory does not suffice or a GPU fails.
    """
    first, place = runs[0], torch.device(own_place or str(pick_device(device)))
    if place.type == "cpu":
        torch.set_num_threads(1)
    try:
        measured = first.recipe.train(runs, place)
    except (torch.OutOfMemoryError, torch.AcceleratorError, MemoryError) as error:
        what = f"{first.table}, {first.dataset} {first.noise} {first.noise_rate:g}, seed {first.seed}"
        why = "out of memory" if not isinstance(error, torch.AcceleratorError) else str(error).partition("\n")[0]
        raise OSError(f"{place}: {why} while training {what}; what is recorded is kept") from error
    origin = {"versions": versions(), "device": device_name(place)}
    return [
        run.identity | {"data": checksum(run.dataset)} | rounded(values) | origin
        for run, values in zip(runs, measured, strict=True)
    ]


def _check_origin(group: Sequence[Run], records: Sequence[dict]) -> None:
    """Refuse what a worker on another machine made of other data or with other code."""
    for run, record in zip(group, records, strict=True):
        if record["data"] != checksum(run.dataset):
            there, here = record["data"], checksum(run.dataset)
            raise ValueError(f"{run.dataset}: a worker's data have the checksum {there}, expected {here} as here")
        if record["config"] != run.config:
            raise ValueError(f"{run.table}: a worker has another version of this package; its records were not kept")


def rounded(measured: dict) -> dict:
    """Floats to six decimals; one that is not finite (a diverged run's NLL) becomes null, which JSON knows."""
    floats = {k: v for k, v in measured.items() if isinstance(v, float)}
    return measured | {k: round(float(v), 6) if math.isfinite(v) else None for k, v in floats.items()}


# ---------------------------------------------------------------- workers


def places_of(device: str) -> list[str]:
    """The devices on which this machine trains at a time: one per core, or one per GPU (`cuda` means all of them)."""
    if device == "cpu":
        return ["cpu"] * cpu_count()
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if device == "cuda" else [device]


@contextmanager
def processes(places: Sequence[str]) -> Iterator[Executor]:
    """A process for each of `places`. What ends a sweep early ends them at once: their results would be lost anyway."""
    others, context = set(multiprocessing.active_children()), multiprocessing.get_context("spawn")
    free = context.SimpleQueue()
    for place in places:
        free.put(place)
    pool = ProcessPoolExecutor(len(places), context, initializer=_begin_worker, initargs=(free,))
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


own_place: str | None = None  # in a process of ours: the device that it trains on


def _begin_worker(free: "multiprocessing.SimpleQueue[str]") -> None:
    """No orphans: a worker whose parent was killed ends at once. Ctrl-C is the parent's affair."""
    global own_place
    own_place = free.get()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


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
