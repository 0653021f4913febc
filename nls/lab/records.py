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
    """The records of a file; none if it is not there. The beginning of a line that a killed writer left is left out.

    Warns of that, and raises ValueError naming the line if any other line is no record. Empty lines are skipped.
    """
    path = Path(path)
    if not path.exists():
        return []
    *lines, last = path.read_bytes().split(b"\n")
    found = [_record(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if last.strip():
        try:
            found.append(_record(path, len(lines) + 1, last))
        except ValueError:
            warnings.warn(f"{path}: the last line is torn and is left out; the run is done again", stacklevel=2)
    return found


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
        self._last = b""  # the line that ended there

    def append(self, records: Sequence[dict]) -> None:
        """Append all of `records` that the file does not hold, or none of them if the disk refuses."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{self.path}.lock"), open(self.path, "a+b", buffering=0) as file:
            end = self._catch_up(file)
            new = [r for r in records if (r["config"], r["data"]) not in self.records]
            lines = [json.dumps(r).encode() for r in new]
            try:
                self._write(file, b"".join(line + b"\n" for line in lines))
            except OSError as error:
                file.truncate(end)
                raise OSError(
                    f"{self.path}: {len(new)} records could not be written ({error.strerror}); none was"
                ) from error
            self._take(lines)
            self._end = file.seek(0, os.SEEK_END)

    @staticmethod
    def _write(file: IO[bytes], text: bytes) -> None:
        written = 0
        while written < len(text):
            written += os.write(file.fileno(), text[written:])
        os.fsync(file.fileno())

    def _catch_up(self, file: IO[bytes]) -> int:
        """Read what was added since the last time; where the file then ends, in a whole line.

        The last line may lack its end: a whole record gets one, the beginning of one is cut off.
        """
        size = file.seek(0, os.SEEK_END)
        file.seek(max(self._end - len(self._last), 0))
        if file.read(len(self._last)) != self._last:  # somebody has written it anew
            self.records, self._end, self._lines = {}, 0, 0
        file.seek(self._end)
        *lines, last = file.read().split(b"\n")
        if last:
            try:
                _record(self.path, self._lines + len(lines) + 1, last)
                self._write(file, b"\n")
                lines.append(last)
                size += 1
            except ValueError:
                size -= len(last)
                file.truncate(size)
        self._take(lines)
        return size

    def _take(self, lines: Sequence[bytes]) -> None:
        for number, line in enumerate(lines, self._lines + 1):
            if line.strip():
                record = _record(self.path, number, line)
                self.records.setdefault((record["config"], record["data"]), record)
        self._lines += len(lines)
        self._last = lines[-1] + b"\n" if lines else self._last

    def check_writable(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{self.path}.lock"), open(self.path, "ab"):
                pass
        except OSError as error:
            raise OSError(f"{self.path}: cannot be written ({error.strerror}); nothing was trained") from error
