"""Notebook 11: what each way to choose a rate would have taken, read off the records.

Fixed before them, but for the last three of `WAYS`, which were added after all records had been seen.
"""

import numpy as np
import pandas as pd

from ..choose import RATES, not_worse
from ..theory import r_opt
from .claims import paired, span
from .figures import rate_position

STRONG = -8.0
MARGIN = 0.01  # of not being worse than cross entropy
WAYS = {
    "folds": "5 folds, last step",
    "folds, stopped": "5 folds, rate and stop",
    "one fold": "one of these folds, last step",
    "hold-out": "one 15 % hold-out, rate and stop",
    "CE, stopped": "cross entropy, stopped by the hold-out",
    "CE": "cross entropy, last step",
    "strong": "always r = −8, last step",
    "r_opt": "r_opt of the true noise rate, last step",
    "hold-out, all": "the hold-out's rate, all labels, stopped by the folds",  # the same model as "folds, stopped"
    "CE, all": "cross entropy, all labels, stopped by the folds",
    "r_opt, all": "r_opt of the true noise rate, all labels, stopped by the folds",
}
CELL = ["dataset", "noise_rate", "seed"]


def ways(records: pd.DataFrame, num_classes: dict[str, int]) -> pd.DataFrame:
    """Clean test accuracy of each of `WAYS`, a row a data set, noise rate and seed; the rate that folds and hold-out
    take (ties go to the rate nearest 0); `best`, of the fixed rate that is best in hindsight (its mean over the seeds
    of the data set and noise rate); and `luckiest`, the best of each seed, test set and all.
    """
    records = records.assign(folds=records.filter(regex=r"^fold_\d").mean(axis=1))
    among = records[records["rate"].isin(RATES)]
    near = among.assign(size=rate_position(among["rate"])).sort_values("size", key=abs, kind="stable")

    def taken(by: str) -> pd.DataFrame:
        return near.sort_values(by, ascending=False, kind="stable").groupby(CELL).head(1).set_index(CELL).sort_index()

    by_rate = records.pivot_table(index=CELL, columns="rate", values="last")[list(RATES)]
    mean = by_rate.groupby(CELL[:2]).transform("mean")
    named = mean.rank(axis=1, ascending=False, method="first") == 1
    theory = np.isclose(records["rate"], r_opt(records["noise_rate"], records["dataset"].map(num_classes)))
    plain = among[among["rate"] == 0].set_index(CELL)
    folds, heldout = taken("folds"), taken("heldout")
    formula = records[theory].set_index(CELL)
    return pd.DataFrame(
        {
            "folds": folds["last"],
            "folds, stopped": taken("fold_stop")["stopped"],
            "one fold": taken("fold_1")["last"],
            "hold-out": heldout["noisy_val"],
            "CE, stopped": plain["noisy_val"],
            "CE": plain["last"],
            "strong": by_rate[STRONG],
            "r_opt": formula["last"],
            "hold-out, all": heldout["stopped"],
            "CE, all": plain["stopped"],
            "r_opt, all": formula["stopped"],
            "rate of folds": folds["rate"],
            "rate of hold-out": heldout["rate"],
            "best": by_rate.where(named).max(axis=1),
            "best rate": named.idxmax(axis=1),
            "luckiest": by_rate.max(axis=1),
        }
    ).reset_index()


def sets(records: pd.DataFrame) -> dict[tuple, tuple[float, ...]]:
    """Of each data set, noise rate and seed, the rates that its folds do not show to be worse than another one (95 %).

    As `nls.choose_rate` has them, but of one partition where that has three.
    """
    among = records[records["rate"].isin(RATES)].set_index("rate")
    found = {}
    for cell, rows in among.groupby(CELL):
        folds = rows.loc[list(RATES)].filter(regex=r"^fold_\d").to_numpy().T
        keep = not_worse(folds, len(folds), 0.95, 0)[0]
        found[cell] = tuple(rate for rate, kept in zip(RATES, keep, strict=True) if kept)
    return found


def lead(table: pd.DataFrame, way: str, base: str) -> pd.DataFrame:
    """Points of accuracy of one of `WAYS` less another, mean over seeds: a row a data set, a column a noise rate."""
    return (100 * (table[way] - table[base])).groupby([table["dataset"], table["noise_rate"]]).mean().unstack()


def spans(table: pd.DataFrame, way: str, base: str) -> dict[float, str]:
    """The mean of `lead` over data sets with its 95 % interval, by noise rate."""
    return {eps: span(paired(values)) for eps, values in lead(table, way, base).items()}


def by_seed(table: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    """Means over noise rates: a row a data set, a column a seed."""
    return values.groupby([table["dataset"], table["seed"]], sort=False).mean().unstack()
