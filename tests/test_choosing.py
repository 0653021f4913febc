"""Notebook 11's runs, and what is read off them."""

import numpy as np
import pandas as pd
import pytest

from nls.lab import choosing as lab
from nls.lab import tables
from nls.lab.problems import fit_stack
from nls.report import choosing as read


def test_a_fold_is_held_out_from_its_model_and_nothing_is_lost(monkeypatch):
    runs = [r for r in tables.table_runs("choose", "smoke", [0]) if r.rate in (0.0, -8.0)]
    seen, train_on = [], lab.train_on
    monkeypatch.setattr(lab, "train_on", lambda problem, *a, **k: seen.append(problem) or train_on(problem, *a, **k))
    measured = lab.choosing(runs)
    *folds, whole, heldout = seen
    rows = {tuple(row.tolist()) for row in whole.x}
    assert len(folds) == runs[0].recipe.folds and len(whole.x) == len(heldout.x) + len(heldout.x_val)
    for p in folds:
        train, val = ([tuple(row.tolist()) for row in part] for part in (p.x, p.x_val))
        assert not set(train) & set(val) and set(train) | set(val) == rows and p.order.max() < len(train)
        assert p.y.shape[1] == len(train) and p.y_val.shape[1] == len(val)
    assert sum(len(p.x_val) for p in folds) == len(whole.x)
    for m in measured:
        assert m["fold_stop"] >= sum(m[f"fold_{k}"] for k in range(1, 6)) / 5 - 1e-9
    assert [m["noisy_val"] for m in measured] == [m["noisy_val"] for m in fit_stack(runs)[0]]  # Table 1's own hold-out


def records(**columns):
    """One cell of one seed on a set of two classes; noise .2, whose r_opt is −2/3."""
    rates = [*read.RATES, -0.666666666667]
    frame = pd.DataFrame({"dataset": "a", "noise_rate": 0.2, "seed": 0, "rate": rates, "last": 0.5, "heldout": 0.6})
    frame = frame.assign(noisy_val=np.linspace(0.7, 0.76, 7), fold_1=0.6, fold_2=0.6, fold_stop=0.6, stopped=0.8)
    for name, values in columns.items():
        frame[name] = values
    return frame


def test_ways_take_what_they_say():
    frame = records(
        last=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9], fold_1=[0, 0, 0.5, 0, 0.6, 0, 1], fold_2=[0, 0, 0.5, 0, 0.1, 0, 1]
    )
    [found] = read.ways(frame, {"a": 2}).to_dict("records")
    assert found["folds"] == 0.3 and found["rate of folds"] == -1  # by both folds, among the rates that are tried
    assert (
        found["folds, stopped"] == 0.8
        and found["one fold"] == 0.5
        and found["CE"] == 0.2
        and found["strong"] == 0.6
        and found["r_opt"] == 0.9
    )
    assert found["rate of hold-out"] == 0 and found["hold-out"] == pytest.approx(0.71)  # a tie goes to the nearest 0
    assert found["best"] == 0.6 and found["best rate"] == -8


def test_the_set_leaves_out_what_folds_show_to_be_worse():
    frame = records()
    for k in range(1, 6):
        frame[f"fold_{k}"] = np.where(frame["rate"] < -1, 0.3, 0.8) + 0.01 * np.cos(k * np.arange(7))
    assert read.sets(frame) == {("a", 0.2, 0): (0.4, 0.0, -1.0)}


def test_best_is_one_rate_for_all_seeds_and_luckiest_is_not():
    one, two = records(last=[0, 0.5, 0.6, 0, 0, 0, 0]), records(last=[0, 0.9, 0.4, 0, 0, 0, 0], seed=1)
    found = read.ways(pd.concat([one, two]), {"a": 2})
    assert found["best"].tolist() == [0.5, 0.9] and found["luckiest"].tolist() == [0.6, 0.9]
    assert read.by_seed(found, found["best"]).loc["a"].tolist() == [0.5, 0.9]
