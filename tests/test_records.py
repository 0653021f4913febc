"""The committed records are what the committed code trains."""

from pathlib import Path

import pytest

from nls import experiments, sweep

RESULTS = Path(__file__).parents[1] / "results"
TABLES = sorted(p.stem for p in RESULTS.glob("*.jsonl"))
SEEDS = {
    "table1": range(20),
    "tuning": experiments.TUNING_SEEDS,
    "connections": range(20),
    "two_dimensions": range(100),
}


@pytest.mark.parametrize("table", TABLES)
def test_complete_and_of_the_present_recipe(table):
    records = sweep.read(RESULTS / f"{table}.jsonl")
    keys = [(r["config"], r["data"]) for r in records]
    assert len(set(keys)) == len(keys)
    runs = experiments.table_runs(table, "paper", SEEDS[table])
    assert set(keys) == {(run.config, sweep.checksum(run.dataset)) for run in runs}
    described = {run.config: run for run in runs}
    for record in records:
        assert described[record["config"]].identity.items() <= record.items()


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_a_few_records_trained_again(table):
    rows = sweep.verify(table, RESULTS, sample=2, seed=20, device="cpu")
    assert rows["ok"].all(), rows.to_string()
