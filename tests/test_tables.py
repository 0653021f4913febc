"""The runs of each table, and what a seed reaches."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nls.lab import problems, tables
from nls.lab.tables import TABLES, table_runs
from nls.noise import transition_matrix

SEEDS = dict.fromkeys(("tuning", "text_tuning", "image_tuning"), tables.TUNING_SEEDS)


def some(dataset, seed=0):
    return [r for r in table_runs("table1", "paper", [seed]) if r.dataset == dataset]


@pytest.mark.parametrize("table", TABLES)
def test_every_run_has_its_own_config_and_smoke_differs(table):
    seeds = SEEDS.get(table, range(3))
    paper, smoke = table_runs(table, "paper", seeds), table_runs(table, "smoke", seeds)
    assert len({r.config for r in paper + smoke}) == len(paper) + len(smoke)
    assert {r.regime for r in smoke} == {"smoke"}
    if table in ("table1", "tuning", "two_dimensions", "connections"):  # `quick` is a slice of images, and real text
        assert table_runs(table, "quick", seeds) == table_runs(table, "medium", seeds) == paper


FROZEN = pd.read_csv(Path(__file__).parent / "configs.csv")


@pytest.mark.parametrize(("table", "profile", "number", "digest"), list(FROZEN.itertuples(index=False, name=None)))
def test_no_config_has_changed(table, profile, number, digest):
    """A record belongs to its config: where one changes by mistake, hours of training are lost.

    To change a recipe on purpose, or to add runs, write the new digests (`digest_of`) into the file.
    """
    runs = table_runs(table, profile, SEEDS.get(table, range(20)))
    configs = sorted(r.config for r in runs if r.dataset != "clothing1m")  # listed where its folder is
    assert (len(configs), digest_of(configs)) == (number, digest)


def test_the_configs_of_every_table_are_frozen():
    assert set(FROZEN["table"]) == set(TABLES)


def digest_of(configs):
    return hashlib.sha256(" ".join(configs).encode()).hexdigest()[:16]


def test_tuning_seeds_are_used_nowhere_else():
    used = {r.seed for t in TABLES if t not in SEEDS for r in table_runs(t, "paper", range(100))}
    assert not used & set(tables.TUNING_SEEDS)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(tables.Run)])
def test_config_depends_on_every_field(field):
    run = some("splice")[0]
    value = getattr(run, field)
    if field == "recipe":
        for part in dataclasses.fields(value):
            before = getattr(value, part.name)
            other = dataclasses.replace(value, **{part.name: before + 1 if before is not None else (5, 6)})
            assert dataclasses.replace(run, recipe=other).config != run.config
    else:
        other = "other" if value is None or isinstance(value, str) else value + 1
        assert dataclasses.replace(run, **{field: other}).config != run.config


def test_equal_runs_have_equal_configs():
    run = some("splice")[0]
    for name, values in {"rate": (-8, -8.0, np.float64(-8)), "noise_rate": (0, 0.0, -0.0)}.items():
        runs = [dataclasses.replace(run, **{name: v}) for v in values]
        assert len({r.config for r in runs}) == len(set(runs)) == 1
    assert table_runs("table1", "paper", np.arange(2)) == table_runs("table1", "paper", [0, 1])


def test_splice_split_is_the_paper_s():
    x_train, y_train, x_test, y_test = problems.rows_of(some("splice")[0])
    assert (len(x_test), len(x_train)) == (459, 2595)
    assert np.bincount(np.concatenate([y_train, y_test])).tolist() == [1527, 1527]


@pytest.mark.parametrize("dataset", ["splice", "twonorm"])
def test_problem_is_made_as_declared(dataset):
    runs = some(dataset)
    p = problems.tabular_problem(runs)
    both = np.concatenate([p.x_val.numpy(), p.x.numpy()])
    np.testing.assert_allclose(both.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(both.std(0), 1, atol=1e-3)
    assert p.x.shape[1] == {"splice": 240, "twonorm": 20}[dataset]
    assert p.order.shape == (1000, 64)
    assert p.order.max() < len(p.x)
    _, clean, _, _ = problems.rows_of(runs[0])
    for row, run in enumerate(runs):
        noisy = np.concatenate([p.y_val[row].numpy(), p.y[row].numpy()])
        # Exact counts: each class has the same share of flips, up to one label.
        flips = 1 - np.diag(transition_matrix(clean, noisy, 2))
        np.testing.assert_allclose(flips, run.noise_rate, atol=1 / np.bincount(clean).min())


def test_a_seed_reaches_split_noise_batches_and_weights():
    a, b = (problems.tabular_problem(some("splice", seed)[:30]) for seed in (0, 1))
    assert not np.array_equal(a.x_test.numpy(), b.x_test.numpy())
    assert not np.array_equal(a.y[29].numpy(), b.y[29].numpy())
    assert not np.array_equal(a.order.numpy(), b.order.numpy())


def test_an_epoch_meets_every_row_at_most_once():
    recipe = tables.MLPRecipe(width=8, lr=0.1, steps=25, batch_size=10)
    order = problems.batch_order(105, recipe, seed=4)
    first = order[:10].flatten()
    assert len(first.unique()) == 100
    assert order.shape == (25, 10)


@pytest.mark.parametrize(
    ("table", "profile", "seeds", "message"),
    [
        ("table9", "quick", [0], "table: got 'table9', expected one of table1"),
        ("table1", "fast", [0], "profile: got 'fast', expected one of smoke, quick, medium, annealed, paper"),
        ("table1", "quick", [], "seeds: got .*without any run"),
        ("table1", "quick", [-1], "seed: expected an integer of at least 0, got -1"),
        ("table1", "quick", [3, 3], r"seeds: got \[3, 3\], expected each seed once"),
    ],
)
def test_a_grid_that_is_not_there(table, profile, seeds, message):
    with pytest.raises(ValueError, match=message):
        table_runs(table, profile, seeds)
