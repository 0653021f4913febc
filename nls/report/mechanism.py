"""Notebook 10: what was predicted of negative rates, with the numbers that decide it, and how they are read off.

Everything in this file but the functions was fixed before the records of the tables `mechanism_*` were made; a trial on
seed 1000, which no table uses, set steps and learning rates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from ..theory import noise_shift, smoothing_scale


@dataclass(frozen=True)
class Prediction:
    """A primary comparison: `margin` is the effect that matters, in the unit of the differences.

    kind: greater, the differences are predicted above zero, by more than the margin; equal, within the margin of zero.
    """

    id: str
    text: str
    margin: float
    kind: str = "greater"


PREDICTIONS = [
    Prediction(
        "shift",
        "On the axis s the minima of the clean NLL of all noise rates lie closer together than on −log(1 − "
        "r), by at least half of the 1.5 that the noise rates are apart (AG News, trained briefly)",
        0.75,
    ),
    Prediction(
        "shift-same",
        "Noisy labels at r and clean labels at r' with the same s ≥ 0, trained alike, have the same clean "
        "NLL within .05 nats",
        0.05,
        kind="equal",
    ),
    Prediction(
        "threshold",
        "The share of wrong labels reproduced crosses half of its range within .3 of s = 0, on every set, "
        "after five times Table 1's steps of Adam (mean of three noise rates)",
        0.3,
        kind="equal",
    ),
    Prediction(
        "threshold-length",
        "From 1,000 to 5,000 steps the share reproduced grows by more above the threshold (s ≥ .25) than "
        "below it (s ≤ −.25), by at least .05",
        0.05,
    ),
    Prediction(
        "threshold-below",
        "Below the threshold (s ≤ −.25) it changes by less than .05",
        0.05,
        kind="equal",
    ),
    Prediction(
        "threshold-influence",
        "The crossing is nearer to the s* of the measured self-influence than to 0, by at least .05",
        0.05,
    ),
    Prediction(
        "threshold-sgd",
        "By SGD with the scale 1 − r taken out the crossing is that of Adam within .3",
        0.3,
        kind="equal",
    ),
    Prediction(
        "accuracy",
        "On Twonorm, Splice, breast cancer, spambase and waveforms, the last accuracy at s = −.5 is higher "
        "than at s = .5, by at least .02",
        0.02,
    ),
    Prediction(
        "ten-classes",
        "With ten classes from scratch (digits) it is the other way round: the last accuracy at s = .5 is "
        "higher than at s = −.5, by at least .02",
        0.02,
    ),
    Prediction(
        "gain",
        "Over data sets and noise rates, the gain of r = −8 over cross entropy rises with (class means − "
        "cross entropy): Spearman's correlation of at least .5",
        0.5,
    ),
    Prediction(
        "gain-rivals",
        "It does so more than with the gain of a linear probe and with that of stopping cross entropy "
        "early, by at least .1 each",
        0.1,
    ),
    Prediction(
        "gain-features",
        "Class means of tangent features at the start predict it better than those of inputs, by at least .1",
        0.1,
    ),
    Prediction(
        "votes",
        "Without the votes of fitted examples r = −8 loses last accuracy, at least .05, also with each "
        "batch's gradient scaled to equal length",
        0.05,
    ),
    Prediction(
        "votes-dose",
        "Half of each vote keeps accuracy over none, at least .02",
        0.02,
    ),
    Prediction(
        "votes-clean",
        "The votes of rightly labelled rows alone do as well as all votes, within .02",
        0.02,
        kind="equal",
    ),
    Prediction(
        "votes-flipped",
        "The votes of mislabelled rows alone do worse than no votes, by at least .02",
        0.02,
    ),
    Prediction(
        "votes-alone",
        "Votes alone, with misfit examples at their cross-entropy weight, keep more than half of what all "
        "of r = −8 gains over no votes, by at least .02",
        0.02,
    ),
    Prediction(
        "unlearning",
        "From a network that has memorised noisy images, r < 0 raises the clean accuracy over going on by "
        "cross entropy with the same step, by at least .02",
        0.02,
    ),
]

HALF_RANGE = 0.2  # a share that moves less than this over all rates has no crossing
SAME_S = (0.0, 0.5)  # where noisy and clean labels are compared
BESIDE = 0.25  # how far from 0 a point of s counts as above or below the threshold
BOOTSTRAPS = 4000


def on_scale(records: pd.DataFrame, num_classes: dict[str, int]) -> pd.DataFrame:
    """The records with the columns x = −log(1 − r), shift = −log(1 − η) and s, to the two decimals of the grid."""
    shift = [noise_shift(e, num_classes[d]) for e, d in zip(records["noise_rate"], records["dataset"], strict=True)]
    x = smoothing_scale(records["rate"].to_numpy(dtype=float))
    return records.assign(x=np.round(x, 2) + 0.0, shift=np.round(shift, 2), s=np.round(x + shift, 2) + 0.0)


def crossing(s: Sequence[float], share: Sequence[float]) -> float:
    """Where a share that rises with s first crosses the middle of its range, by linear interpolation.

    Seen from below; NaN where it moves by less than `HALF_RANGE`.
    """
    order = np.argsort(s)
    s, share = np.asarray(s, dtype=float)[order], np.asarray(share, dtype=float)[order]
    if np.ptp(share) < HALF_RANGE:
        return np.nan
    half = (share.min() + share.max()) / 2
    lowest = int(share.argmin())
    above = lowest + int(np.argmax(share[lowest:] >= half))
    if share[above] < half or above == 0:
        return np.nan
    part = (half - share[above - 1]) / (share[above] - share[above - 1])
    return s[above - 1] + part * (s[above] - s[above - 1])


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
    """s* of two classes with one shared and one own logit: −log[(1 − ε)(1 − 2ε)/(1 − 2ε − κ)], κ < 1 − 2ε."""
    e, k = noise_rate, self_influence
    return float(np.log((1 - 2 * e - k) / ((1 - e) * (1 - 2 * e)))) if k < 1 - 2 * e else -np.inf


def clustered(
    table: pd.DataFrame, statistic: Callable[[pd.DataFrame], float], cluster: str = "dataset", seed: int = 0
) -> tuple[float, float, float]:
    """A statistic of a table with the 95 % interval of a bootstrap that draws whole clusters."""
    parts = [part for _, part in table.groupby(cluster)]
    rng = np.random.default_rng(seed)
    draws = (pd.concat([parts[i] for i in rng.integers(len(parts), size=len(parts))]) for _ in range(BOOTSTRAPS))
    low, high = np.nanquantile([statistic(draw) for draw in draws], (0.025, 0.975))
    return statistic(table), low, high


def spearman(table: pd.DataFrame, a: str, b: str) -> float:
    return float(stats.spearmanr(table[a], table[b]).statistic)
