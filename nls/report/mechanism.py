"""Notebook 10: how thresholds, minima and correlations are read off the records; the constants as fixed before."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from ..theory import rate_at_scale, smoothing_scale
from .claims import paired
from .figures import CE_COLOUR, rate_name

HALF_RANGE = 0.2  # a share that moves less than this over all rates has no crossing
SAME_S = (0.0, 0.5)  # where noisy and clean labels are compared
BESIDE = 0.25  # how far from 0 a point of s counts as above or below the threshold
BOOTSTRAPS = 1000


def on_scale(records: pd.DataFrame, num_classes: dict[str, int]) -> pd.DataFrame:
    """The records with the columns x = −log(1 − r), shift = −log(1 − η) and s, to the two decimals of the grid.

    x and s are NaN where a loss has no rate."""
    shift = smoothing_scale(0.0, records["noise_rate"], records["dataset"].map(num_classes))
    x = np.array([smoothing_scale(r) if np.isfinite(r) else np.nan for r in records["rate"].to_numpy(dtype=float)])
    return records.assign(x=np.round(x, 2) + 0.0, shift=np.round(shift, 2), s=np.round(x + shift, 2) + 0.0)


def crossing(s: Sequence[float], share: Sequence[float], level: float = 0.5) -> float:
    """Where a share that rises with s first stands `level` of its range above its least, by linear interpolation.

    Seen from the least upwards; NaN where it moves by less than `HALF_RANGE`.
    """
    order = np.argsort(s)
    s, share = np.asarray(s, dtype=float)[order], np.asarray(share, dtype=float)[order]
    lowest = int(share.argmin())
    at = share.min() + level * np.ptp(share)
    above = lowest + int(np.argmax(share[lowest:] >= at))
    if np.ptp(share) < HALF_RANGE or share[above] < at:
        return np.nan
    part = (at - share[above - 1]) / (share[above] - share[above - 1])
    return s[above - 1] + part * (s[above] - s[above - 1])


def onset(s: Sequence[float], share: Sequence[float]) -> float:
    """Where a share begins to rise: a tenth of its range above its least."""
    return crossing(s, share, 0.1)


def minimum(s: Sequence[float], values: Sequence[float]) -> float:
    """Where values on an even grid are lowest: the vertex of the parabola through the least and its neighbours."""
    order = np.argsort(s)
    s, v = np.asarray(s, dtype=float)[order], np.asarray(values, dtype=float)[order]
    at = int(v.argmin())
    if at in (0, len(v) - 1):
        return s[at]
    left, mid, right = v[at - 1 : at + 2]
    return s[at] + (s[at + 1] - s[at]) * (left - right) / (2 * (left - 2 * mid + right))


def toy_threshold(noise_rate: float, self_influence: float) -> float:
    """s* = −log[(1 − ε)(1 − 2ε)/(1 − 2ε − κ)] of two classes, κ < 1 − 2ε: where wrong labels tip over in a toy.

    A row's logit is moved by the mean of all pulls and by κ times its own. Right labels are fitted and pull with −r/2,
    wrong ones are on the fence and pull with (r − 1)/2; they tip over where (1 − ε)(−r/2) + (ε + κ)(r − 1)/2 = 0.
    """
    e, k = noise_rate, self_influence
    return float(np.log((1 - 2 * e - k) / ((1 - e) * (1 - 2 * e)))) if k < 1 - 2 * e else -np.inf


def clustered(table: pd.DataFrame, statistic: Callable[[pd.DataFrame], float]) -> tuple[float, float, float]:
    """A statistic of a table with the 95 % interval of a bootstrap that draws whole data sets."""
    rows = list(table.groupby("dataset").indices.values())
    rng = np.random.default_rng(0)
    draws = (np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))]) for _ in range(BOOTSTRAPS))
    low, high = np.nanquantile([statistic(table.iloc[draw]) for draw in draws], (0.025, 0.975))
    return statistic(table), low, high


def spearman(table: pd.DataFrame, a: str, b: str) -> float:
    return float(stats.spearmanr(table[a], table[b]).statistic)


def partial_spearman(table: pd.DataFrame, a: str, b: str, given: Sequence[str]) -> float:
    """Spearman's correlation of a and b with the ranks of `given` partialled out, linearly."""
    ranks = table[[a, b, *given]].rank().to_numpy()
    others = np.column_stack([np.ones(len(ranks)), ranks[:, 2:]])
    left = ranks[:, :2] - others @ np.linalg.lstsq(others, ranks[:, :2], rcond=None)[0]
    return float(np.corrcoef(left.T)[0, 1])


def by_the_shared_axis(cells: pd.DataFrame) -> np.ndarray:
    """Correlations, a thousand, of the gain with the class means of *another* data set less the cross entropy of this
    one: what cross entropy on both axes makes by itself."""
    rng = np.random.default_rng(0)
    means = (cells["means_inputs"] + cells["ce"]).to_numpy().reshape(cells["dataset"].nunique(), -1)
    other = (rng.permutation(means).ravel() - cells["ce"] for _ in range(BOOTSTRAPS))
    return np.array([stats.spearmanr(values, cells["strong"]).statistic for values in other])


def jackknife(table: pd.DataFrame, statistic: Callable[[pd.DataFrame], float]) -> list[float]:
    """Pseudo-values of a statistic, one a data set: their mean and spread judge it as if these were the sample."""
    names, whole = table["dataset"].unique(), statistic(table)
    left_out = [statistic(table[table["dataset"] != name]) for name in names]
    return [len(names) * whole - (len(names) - 1) * value for value in left_out]


def at_evaluation(records: pd.DataFrame, number: int) -> pd.DataFrame:
    """The records with the numbers of one evaluation in the place of the curves, named as those of the last one."""
    names = {"test": "accuracy", "test_nll": "nll", "test_ece": "ece", "reproduced": "reproduced", "fitted": "fitted"}
    values = {new: [row[number] for row in records[old]] for old, new in names.items()}
    return records.drop(columns=list(names)).assign(
        **{k: pd.Series(v, records.index, float) for k, v in values.items()}
    )


def each_curve(
    table: pd.DataFrame, read: Callable[[Sequence[float], Sequence[float]], float], measure: str
) -> pd.Series:
    """What `read` (`crossing`, `minimum`) finds in `measure` against s, by data set, shift and seed."""
    groups = table.groupby(["dataset", "shift", "seed"])
    return groups[["s", measure]].apply(lambda curve: read(curve["s"], curve[measure])).rename(measure)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % t-interval of a mean, as the band that seaborn asks for; of a single value the value."""
    values = np.asarray(values, dtype=float)
    found = paired(values[np.isfinite(values)])
    return (found["mean"],) * 2 if found["n"] == 1 else (found["low"], found["high"])


def scale_axis(ax, low: float, high: float, label: bool = True, shift: float = 0.0) -> None:
    """Label the x axis with s and, below it, the rate at one noise rate, whose −log(1 − η) is `shift`."""
    step = 0.5 if high - low <= 3 else 1
    ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    names = [f"{s:g}\n{rate_at_scale(s - shift):.2g}".replace("-", "−") for s in ticks]
    ax.set_xticks(ticks, names)
    ax.axvline(0, color="0.3", lw=1, zorder=0)
    ax.set_xlabel(f"s   (below: r {'at this' if shift else 'without'} noise)" if label else "")


PREDICTORS = {
    "means_inputs": "class means of inputs",
    "means_tangent": "class means of tangent features",
    "means_hidden": "class means of the last layer",
    "probe": "linear probe",
    "early": "early-stopped cross entropy",
    "heldout": "class means of inputs, on noisy labels",
}


def gains(records: pd.DataFrame) -> pd.DataFrame:
    """A row a data set and noise rate: last accuracies, mean over seeds, of table `mechanism_gain`.

    `strong` and `unhinged` are gains of r = −8 and of the unhinged loss over cross entropy, all on even seeds; the
    PREDICTORS are other classifiers less cross entropy, on odd seeds; `heldout` is what somebody without clean labels
    can see: class means less cross entropy (at its best evaluation), both on held-out noisy labels.
    """
    even, odd = records[records["seed"] % 2 == 0], records[records["seed"] % 2 == 1]

    def mean(part: pd.DataFrame, method: str, rate: float | None = None, measure: str = "last") -> pd.Series:
        here = (part["method"] == method) & (part["rate"].isna() if rate is None else part["rate"] == rate)
        return part[here].groupby(["dataset", "shift"])[measure].mean()

    plain, again = mean(even, "gls", 0.0), mean(odd, "gls", 0.0)
    found = {"ce": plain, "strong": mean(even, "gls", -8.0) - plain, "unhinged": mean(even, "complementary") - plain}
    found |= {k: mean(odd, "class_means", measure=k) - again for k in PREDICTORS if k not in ("early", "heldout")}
    found["heldout"] = mean(odd, "class_means", measure="heldout_inputs") - mean(odd, "gls", 0.0, "heldout")
    found["early"] = mean(odd, "gls", 0.0, "noisy_val") - again
    return pd.DataFrame(found).reset_index()


LOSSES = {
    ("gls", 0.0): "cross entropy",
    ("gls", -8.0): "r = −8: all votes",
    ("complementary", None): "unhinged (r → −∞)",
    ("gce", None): "generalised cross entropy",
    ("mae", None): "mean absolute error",
}


def loss_names(records: pd.DataFrame) -> list[str]:
    """What each run of table `mechanism_votes` trains: its variant, or its loss in words."""
    runs = records[["variant", "method", "rate"]].astype(object).where(lambda t: t.notna(), None)
    return [variant or LOSSES[method, rate] for variant, method, rate in runs.itertuples(index=False)]


RING = {"ls": "", "marker": "o", "ms": 10, "mfc": "none", "mec": CE_COLOUR, "mew": 2, "label": "r = 0"}


def ring(ax, table: pd.DataFrame, measure: str) -> None:
    """A grey ring around the mean of plain cross entropy at each noise rate."""
    plain = table[table["rate"] == 0].groupby("s")[measure].mean()
    ax.plot(plain.index, plain, **RING)


OTHERS = {
    "weight_decay": "weight decay alone",
    "complementary": "unhinged loss, step × 7",
    "gce": "generalised cross entropy, step × 7",
    "mae": "mean absolute error, step × 7",
}


def image_names(records: pd.DataFrame) -> list[str]:
    """What each run on images is, in words: its rate or loss, and what was changed."""

    def name(method: str, rate: float, variant: str | None) -> str:
        if method in OTHERS:
            return OTHERS[method]
        changed = "" if pd.isna(variant) else ", " + variant.replace("lr x", "step × ")
        return "the checkpoint" if variant == "untouched" else rate_name(rate) + changed

    return [name(*run) for run in records[["method", "rate", "variant"]].itertuples(index=False)]
