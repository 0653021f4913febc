"""Train committed records again and compare."""

import math
import os
import random
import tempfile
from pathlib import Path
from unittest import mock

import pandas as pd
import torch

from ..checks import check_integer
from . import data
from .models import device_name, pick_device
from .records import checksum, index, read
from .sweep import sweep
from .tables import PROFILES, table_runs

# On other hardware or versions; every other measured value 0.02. Last bits grow over a thousand steps: they move the
# last evaluation, they decide which one noisy labels choose, and a network that memorises noise has no scale.
TOLERANCE = {"last": 0.05, "noisy_val": 0.1, "ece": 0.1, "confidence": 0.1, "nll": math.inf}
TOLERANCE |= {"heldout": 0.05}  # of as few as 500 labels
TOLERANCE |= {"stopped": 0.1} | {f"fold_{k}": 0.1 for k in range(1, 6)}
TOLERANCE |= {f"fresh_{k}": TOLERANCE.get(k, 0.02) for k in ("best_test", "noisy_val", "last")}
CHEAP_SECONDS = 60.0


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
    included, the features of documents not; on a CPU none of a GPU's, whose seconds say nothing there. Returns a row
    per record with `difference` (the largest over the measured values), `exact` (the device and the versions are the
    record's own) and `ok`: equal where exact, elsewhere within `TOLERANCE`.
    """
    check_integer("sample", sample, 1)
    records = index(read(Path(results) / f"{table}.jsonl"))
    there = {d: checksum(d) for d in {r["dataset"] for r in records.values()} if not data.SOURCES[d].missing()}
    seeds = sorted({0} | {r["seed"] for r in records.values()})  # there are profiles with seed 0 alone
    runs = [run for profile in PROFILES for run in table_runs(table, profile, seeds)]
    described = {(r.config, there[r.dataset]): r for r in runs if r.dataset in there}
    gpu = pick_device(device).type == "cuda"
    near = {k for k, r in records.items() if gpu or ", " in r["device"]}  # a processor's name ends in its instructions
    cheap = sorted(k for k in near if k in described and records[k]["seconds"] <= max_seconds)
    if not cheap:
        what = f"{results}/{table}.jsonl: none of its {len(records)} records can be verified with this code"
        raise ValueError(f"{what}, these data and {max_seconds:g} seconds for each{'' if gpu else ' on a CPU'}")
    drawn = random.Random(seed).sample(cheap, min(sample, len(cheap)))
    # With an empty cache: nothing that an earlier run left there may answer for a record.
    with tempfile.TemporaryDirectory() as empty, mock.patch.dict(os.environ, NLS_CACHE=empty):
        sweep([described[key] for key in drawn], empty, device=device, progress=False)
        again = index(read(Path(empty) / f"{table}.jsonl"))
    return pd.DataFrame([compare(records[key], again[key]) for key in drawn])


def compare(record: dict, again: dict) -> dict:
    """One row of `verify`: the numbers of a record, its time apart, against those of the same run trained again.

    Image runs on a GPU are never exact.
    """
    exact = all(record[k] == again[k] for k in ("versions", "device"))
    exact = exact and not ("lr" in record and again["device"] != device_name(torch.device("cpu")))
    pairs = {k: (record.get(k), again.get(k)) for k in record.keys() | again.keys() if k != "seconds"}
    pairs = {k: p for k, p in pairs.items() if all(v is None or isinstance(v, int | float) for v in p)}
    differences = {k: 0.0 if a == b else math.inf if None in (a, b) else abs(a - b) for k, (a, b) in pairs.items()}
    ok = all(d <= (0.0 if exact else TOLERANCE.get(k, 0.02)) for k, d in differences.items())
    shown = ("dataset", "noise", "noise_rate", "method", "rate", "seed", "config")
    return {k: record[k] for k in shown} | {"difference": max(differences.values()), "exact": exact, "ok": ok}
