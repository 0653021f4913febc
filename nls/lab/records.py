"""The files of records: `results/<table>.jsonl`, append-only, one JSON object a line.

A record answers for a run if it has the run's `config` (the hash of everything that determines it) and the checksum of
the data as they are now; any other record of the same run stays in the file and is not used. Appending holds a lock, so
several processes may share a file. A disk that refuses leaves nothing of what was appended, a kill whole lines and at
most the beginning of one, which the next append cuts off.
"""

import json
import os
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import IO

import filelock
import pandas as pd

from . import data
from .runs import Run


@cache
def checksum(dataset: str) -> str:
    return data.load(dataset).checksum


def stored(runs: Sequence[Run], results: Path | str) -> pd.DataFrame:
    """Those records of `runs` that `results` holds, in their order, whether or not the data are on this machine."""
    files = dict.fromkeys(run.table for run in runs)
    found: dict = {}
    for record in (r for table in files for r in read(Path(results) / f"{table}.jsonl")):
        found.setdefault(record["config"], record)
    return pd.DataFrame([found[run.config] for run in runs if run.config in found])


def read(path: Path | str) -> list[dict]:
    """The records of a file; none if it is not there. What a killed writer left, a line without its end, is left out.

    Warns of that, and raises ValueError naming the line if another one is no record. Empty lines are skipped.
    """
    path = Path(path)
    *lines, torn = path.read_bytes().split(b"\n") if path.exists() else [b""]
    if torn:
        warnings.warn(f"{path}: the last line is torn and is left out; the run is done again", stacklevel=2)
    return [_record(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


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
        self._seen: tuple[int, int] | None = None  # size and time of the file as this process left it

    def append(self, records: Sequence[dict]) -> None:
        """Append all of `records` that the file does not hold, or none of them if the disk refuses."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{self.path}.lock"), open(self.path, "a+b", buffering=0) as file:
            if _size_and_time(file) != self._seen:
                file.truncate(self.path.read_bytes().rfind(b"\n") + 1)  # off with what a killed writer began
                self.records = index(read(self.path))
            lines = [json.dumps(r).encode() for r in records if (r["config"], r["data"]) not in self.records]
            end = file.seek(0, os.SEEK_END)
            try:
                _write(file, b"".join(line + b"\n" for line in lines))
            except OSError as error:
                file.truncate(end)
                raise OSError(
                    f"{self.path}: {len(lines)} records could not be written ({error.strerror}); none was"
                ) from error
            self.records |= index(map(json.loads, lines))
            self._seen = _size_and_time(file)

    def check_writable(self) -> None:
        try:
            self.append([])
        except OSError as error:
            raise OSError(f"{self.path}: cannot be written ({error.strerror}); nothing was trained") from error


def _size_and_time(file: IO[bytes]) -> tuple[int, int]:
    stat = os.fstat(file.fileno())
    return stat.st_size, stat.st_mtime_ns


def _write(file: IO[bytes], text: bytes) -> None:
    written = 0
    while written < len(text):
        written += os.write(file.fileno(), text[written:])
    os.fsync(file.fileno())
