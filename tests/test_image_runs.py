"""Image runs on digits: shared warm-ups, controls, starts, and what a kill leaves behind."""

import dataclasses

import numpy as np
import pytest
import torch

from nls.lab import data, images, labels, records, tables, trainer
from nls.lab.methods import Loss
from nls.lab.sweep import sweep
from nls.noise import transition_matrix

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("NLS_CACHE", str(tmp_path / "cache"))
    images.cached_problem.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def column():
    """Table 2's column on digits: enough epochs for the starts to differ."""
    recipe = tables.IMAGE_RECIPES["smoke"]
    warmup = dataclasses.replace(recipe.warmup, lrs=(0.05, 0.05, 0.2, 0.01))
    base = tables.image_base("table2", "smoke", "digits", "symmetric", 0.6, 3)
    runs = [tables.from_scratch(base)]
    for start in ("best_test", "noisy_val"):
        runs += tables.rates_and_controls(dataclasses.replace(base, start=start), (0.4, 0.0, -1.0, -6.0))
    return [dataclasses.replace(r, recipe=dataclasses.replace(r.recipe, warmup=warmup)) for r in runs]


def pick(runs, **keys):
    found = [r for r in runs if all(getattr(r, k) == v for k, v in keys.items())]
    assert len(found) == 1, found
    return found[0]


def measured(run):
    return {k: v for k, v in run.recipe.train([run], CPU)[0].items() if k != "seconds"}


def test_the_untouched_control_is_the_warm_ups_own_evaluation(column):
    warm = measured(column[0])
    for start in ("best_test", "noisy_val"):
        untouched = measured(pick(column, start=start, variant="untouched"))
        assert untouched["last"] == warm[start] == untouched["best_test"]
    assert len(warm["test"]) == len(warm["fit"]) == 4
    assert sum(warm["right"]) == round(warm["last"] * 270)
    assert sum(warm["right"] + warm["wrong"]) == 270


def test_learning_rate_zero_moves_only_the_running_statistics(column):
    run = tables.with_lr(pick(column, start="best_test", rate=0.0, variant=None), 0)
    p = images.problem(run, CPU)
    images.fit(images.warm_up_of(run), CPU)
    before = trainer.load_checkpoint(images.folder_of(run, p.checksum, CPU) / "best_test.pt")["net"]
    after = images.fit(run, CPU)[1].state_dict()
    assert before.keys() == after.keys()
    for name, old in before.items():
        assert torch.equal(old, after[name]) == ("running" not in name and "num_batches" not in name), name


def test_a_negative_rate_is_another_run_from_the_same_weights(column):
    runs = [pick(column, start="best_test", rate=r, variant=None) for r in (0.4, 0.0, -6.0)]
    curves = [(*measured(r)["heldout_labels"], measured(r)["nll"]) for r in runs]
    assert len(set(curves)) == 3


def test_starts_that_are_one_epoch_share_one_run(column, checkpoints, monkeypatch):
    recipe = dataclasses.replace(column[0].recipe.warmup, lrs=(0.05,))
    one = [dataclasses.replace(r, recipe=dataclasses.replace(r.recipe, warmup=recipe)) for r in column]
    first = measured(pick(one, start="best_test", rate=-1.0))

    def no_training(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(trainer, "_epoch", no_training)
    assert measured(pick(one, start="noisy_val", rate=-1.0)) == first


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kill_at", [pytest.param(n, marks=pytest.mark.slow) for n in (5, 12, 35)] + [20])
@pytest.mark.parametrize("pause", [0.0, trainer.CHECKPOINT_SECONDS])
def test_a_killed_run_ends_in_the_record_of_one_that_was_not(column, checkpoints, monkeypatch, kill_at, pause):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", pause)
    run = pick(column, start="noisy_val", rate=-1.0)
    run = dataclasses.replace(
        run,
        recipe=dataclasses.replace(
            run.recipe, stage=dataclasses.replace(run.recipe.stage, lrs=(1e-3,) * 3, steps=(3, 2, 3))
        ),
    )
    whole = measured(run)
    monkeypatch.setenv("NLS_CACHE", str(checkpoints / "again"))
    steps, real = [], Loss.__call__

    def dying(*args):
        steps.append(1)
        if len(steps) == kill_at:
            raise KilledError
        return real(*args)

    monkeypatch.setattr(Loss, "__call__", dying)
    with pytest.raises(KilledError):
        measured(run)
    assert measured(run) == whole
    assert pause or len(steps) <= 40 + 8  # of its 40 steps no more than one epoch was done again


def test_a_damaged_warm_up_is_one_clear_line_whose_advice_helps(column):
    run = pick(column, start="best_test", rate=-1.0)
    whole = measured(run)
    path = images.folder_of(run, images.problem(run, CPU).checksum, CPU) / f"{run.start}.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{run.start}.pt: not a readable checkpoint .*delete it"):
        images.fit(run, CPU)
    path.unlink()
    assert measured(run) == whole


@pytest.mark.slow
def test_every_method_of_table_5_trains_to_a_record(tmp_path):
    runs = tables.table_runs("table5", "smoke", [0])
    assert {r.method for r in runs} == {"gls", "blc", "flc", "peer", "fdiv"}
    made = sweep(runs, tmp_path, progress=False)
    assert len(made) == len(runs)
    assert made["best_test"].between(0, 1).all()
    assert (made["last"] <= made["best_test"]).all()
    assert list(made["lr"]) == [r.recipe.keys()["lr"] for r in runs]
    stored = records.stored(runs, tmp_path)
    assert stored["config"].tolist() == made["config"].tolist()


def test_the_true_and_the_estimated_transition():
    runs = tables.table_runs("table5", "smoke", [0])
    run = pick(runs, method="flc", variant="true T")
    p = images.problem(run, CPU)
    net = images.network(run, p, CPU)
    T = images.loss_of(run, net, p).T
    np.testing.assert_array_equal(T, transition_matrix(p.images.y_true.numpy(), p.images.y.numpy(), 10))
    estimated = images.loss_of(pick(runs, method="flc", variant="estimated T"), net, p).T
    np.testing.assert_allclose(estimated.sum(1), 1)
    assert not np.allclose(estimated, T)


def test_a_singular_estimate_ends_no_sweep(monkeypatch):
    """Where two classes have one anchor, T has two equal rows: the run counts as diverged and stays at its start."""
    monkeypatch.setattr(images, "estimate_transition", lambda *_, **__: np.full((10, 10), 0.1))
    runs = tables.table_runs("table5", "smoke", [0])
    found, start = (
        measured(pick(runs, **keys)) for keys in ({"method": "blc", "variant": "estimated T"}, {"variant": "untouched"})
    )
    assert found["diverged"] and not start["diverged"]
    assert found["last"] == found["best_test"] == start["last"]


@pytest.mark.parametrize(
    ("noise", "flips"),
    [
        ("asymmetric", {9: 1, 1: 9, 2: 0, 0: 2, 4: 7, 7: 4, 3: 5, 5: 3, 6: 8, 8: 6}),
        ("asymmetric_oneway", {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}),
    ],
)
def test_asymmetric_noise_is_the_declared_map(noise, flips):
    run = tables.image_base("table2", "medium", "cifar10", noise, 0.4, 0)
    y = np.repeat(np.arange(10), 4000)
    T = transition_matrix(y, labels.noisy_labels(run, y, 10), 10)
    for source in range(10):
        other = np.delete(T[source], [source, flips.get(source, source)])
        assert (other == 0).all()
        assert T[source, source] == pytest.approx(0.6 if source in flips else 1.0, abs=0.03)


def test_noise_is_shared_by_the_runs_of_a_seed_and_drawn_anew_for_another(column):
    y = data.load("digits").y_train
    drawn = [labels.noisy_labels(r, y, 10) for r in column[:4]]
    assert all((drawn[0] == other).all() for other in drawn)
    assert (labels.noisy_labels(dataclasses.replace(column[0], seed=4), y, 10) != drawn[0]).any()


def test_an_unknown_noise_or_start(column):
    with pytest.raises(ValueError, match=r"noise: got 'salt', expected one of symmetric, .*worse"):
        images.fit(dataclasses.replace(column[0], noise="salt"), CPU)
    with pytest.raises(ValueError, match="start: got 'middle', expected scratch, best_test"):
        images.fit(dataclasses.replace(column[5], start="middle"), CPU)


def test_the_grids_are_complete_and_without_doubles():
    runs = tables.table_runs("table2", "medium", range(3))
    assert len({r.config for r in runs}) == len(runs)
    for dataset, noise, rate in tables.TABLE2_COLUMNS:
        cell = [r for r in runs if (r.dataset, r.noise, r.noise_rate, r.seed) == (dataset, noise, rate, 0)]
        assert {r.rate for r in cell if r.start == "best_test" and r.variant is None} >= set(tables.TABLE2_RATES)
        assert {r.variant for r in cell} >= {"untouched", "lr x2", "lr x3", "lr x7"}
    five = tables.table_runs("table5", "medium", range(3))
    assert len({r.config for r in five}) == len(five)
    for column in tables.TABLE5_COLUMNS:
        cell = [r for r in five if ((r.dataset, r.noise), r.seed, r.start) == (column, 0, "noisy_val")]
        for rates in tables.CANDIDATES["table2"].values():
            assert {r.rate for r in cell} >= set(rates)
        methods = [r.method for r in cell if r.method != "gls" and r.variant != "true T"]
        assert {m: methods.count(m) for m in methods} == {"blc": 2, "flc": 2, "peer": 2, "fdiv": 2}
