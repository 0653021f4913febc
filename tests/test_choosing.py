"""Notebook 11's runs, and what is read off them."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nls import report
from nls.lab import choosing as lab
from nls.lab import tables
from nls.lab.problems import fit_stack
from nls.lab.records import stored
from nls.report import choosing as read


def test_a_fold_is_held_out_from_its_model_and_nothing_is_lost(monkeypatch):
    runs = [r for r in tables.table_runs("choose", "smoke", [0]) if r.rate in (0.0, -8.0)]
    seen, train_on = [], lab.train_on
    monkeypatch.setattr(lab, "train_on", lambda problem, *a, **k: seen.append(problem) or train_on(problem, *a, **k))
    measured = runs[0].recipe.train(runs, "cpu")
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
    frame["stopped"] = [0.81, 0.82, 0.83, 0.84, 0.85, 0.86, 0.87]
    frame["fold_stop"], frame["heldout"] = [0.6, 0.5, 0.9, 0.5, 0.5, 0.5, 1.0], [0.5, 0.5, 0.5, 0.9, 0.9, 0.5, 1.0]
    [found] = read.ways(frame, {"a": 2}).to_dict("records")
    assert found["folds"] == 0.3 and found["rate of folds"] == -1  # by both folds, among the rates that are tried
    assert (
        found["folds, stopped"] == 0.83
        and found["one fold"] == 0.5
        and found["CE"] == 0.2
        and found["strong"] == 0.6
        and found["r_opt"] == 0.9
    )
    assert found["rate of hold-out"] == -2 and found["hold-out"] == pytest.approx(0.73)  # a tie goes to the nearest 0
    assert found["hold-out, all"] == 0.84 and found["CE, all"] == 0.82  # the model that folds stop, of these rates
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


def test_which_rate_repeats_what_the_notebook_found():
    root, way = Path(__file__).parents[1], read.WAYS
    text, judged = (root / "docs/which_rate.md").read_text("utf-8"), pd.read_csv(root / "figures/11_claims.csv")
    lines = [
        ("ce", "rate of 5 folds less cross entropy, last step"),
        ("ce", f"({way['folds']}) less ({way['CE, stopped']})"),
        ("holdout", "5 folds less one hold-out, rate and stop"),
        ("holdout", f"({way['folds, stopped']}) less ({way['hold-out, all']})"),
        ("ce", f"({way['folds, stopped']}) less ({way['CE, stopped']})"),
        ("ce", f"({way['folds, stopped']}) less ({way['CE, all']})"),
    ]
    parts = [report.part(judged, f"advice-new-{claim}", f"{line} [9 unused sets") for claim, line in lines]
    assert re.findall(r"([+−][^|]*\]) \|$", text, re.MULTILINE) == [report.span(part, scale=100) for part in parts]
    assert report.part(judged, "advice-new-set", "share")["note"] in text
    nine = judged[judged["role"] == "primary"].set_index("claim").loc[["advice-new-ce", "advice-new-holdout"]]
    uncorrected = " and ".join(f"{p:.3f}".lstrip("0") for p in nine["p"])
    assert (nine["p_holm"] > 0.05).all() and f"(uncorrected p = {uncorrected})" in text
    by_noise, answer = re.findall(r"([+−]\S+ \[[^]]+\]) (?:at|without)", text), root / "figures/11_answer.md"
    assert len(by_noise) == 3 and all(each in answer.read_text("utf-8") for each in by_noise)
    assert parts[3]["mean"] / parts[2]["mean"] == pytest.approx(0.5, abs=0.05)  # "about half"
    records = stored(tables.table_runs("choose_further", "paper", range(8)), root / "results")
    segment = records.query("dataset == 'segment' and noise_rate == 0").groupby("rate")["last"].mean()
    warning = f"r = −1 costs {100 * (segment[0.0] - segment[-1.0]):.0f} points on the set *segment*"
    assert warning in text and warning in (root / "README.md").read_text("utf-8")


def test_a_lead_is_in_points_by_data_set_and_noise_rate():
    cells = {"dataset": ["a", "a", "b", "b"], "noise_rate": [0.2, 0.2, 0.2, 0.4], "seed": [0, 1, 0, 0]}
    found = read.lead(pd.DataFrame(cells | {"folds": [0.5, 0.6, 0.7, 0.9], "CE": [0.4, 0.4, 0.9, 0.8]}), "folds", "CE")
    np.testing.assert_allclose(found.loc[["a", "b"], [0.2, 0.4]], [[15, np.nan], [-20, 10]])
