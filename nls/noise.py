"""Label noise: transition matrices, corrupted labels, and estimates of both.

T is row-stochastic throughout: T[i, j] = P(noisy = j | clean = i), float64, shape (K, K).
A noise rate is the probability that a label changes (exclusive flips), unless a function says otherwise.
Labels and matrices are lists, NumPy arrays or torch tensors.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from .checks import (
    as_numpy,
    check_every_class,
    check_integer,
    check_labels,
    check_level,
    check_rate,
    check_rows,
)
from .theory import r_opt

# CIFAR-10: 0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 truck.
# The official repository's swaps, both ways: every class is noisy and the overall rate is the noise rate.
CIFAR10_SWAP = ((9, 1), (1, 9), (2, 0), (0, 2), (4, 7), (7, 4), (3, 5), (5, 3), (6, 8), (8, 6))
# The map that most papers use (Patrini et al. 2017): five noisy classes, so the overall rate is half the noise rate.
CIFAR10_ONEWAY = ((9, 1), (2, 0), (4, 7), (3, 5), (5, 3))

ANCHORS = 50  # rows a class, where there are as many, that `noise_report` counts T on
UNEVEN = 0.15  # a smaller share of flips out of place, beyond chance, can come from classes that overlap
DRAWS = 2000


def symmetric(num_classes: int, noise_rate: float) -> np.ndarray:
    """Symmetric noise: flips go to each of the other classes alike.

    Args:
        num_classes: K, at least 2.
        noise_rate: ε, in [0, 1]. Where a share s of the labels is redrawn from all K classes, as some papers have it,
            ε is s (K-1)/K, since a redrawn label is the old one with probability 1/K.

    Returns:
        T (K, K), 1 - ε on the diagonal and ε/(K-1) off it.
    """
    K = check_integer("num_classes", num_classes, 2)
    eps = check_rate("noise_rate", noise_rate)
    T = np.full((K, K), eps / (K - 1))
    np.fill_diagonal(T, 1 - eps)
    return T


def asymmetric(num_classes: int, noise_rate: float, pairs: ArrayLike) -> np.ndarray:
    """Asymmetric noise: for each (i, j) of `pairs`, class i becomes j with probability `noise_rate`; the rest stays.

    The overall rate is `noise_rate` times the share of labels in source classes.

    Args:
        num_classes: K, at least 2.
        noise_rate: in [0, 1].
        pairs: directed: a swap needs (i, j) and (j, i). i differs from j, and each class is a source once at most.

    Returns:
        T (K, K).
    """
    K = check_integer("num_classes", num_classes, 2)
    eps = check_rate("noise_rate", noise_rate)
    pairs = as_numpy("pairs", pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(f"pairs: expected pairs (source, destination) of classes, got {pairs.tolist()}")
    source, destination = pairs.T
    bad = (source == destination) | (pairs.min(axis=1) < 0) | (pairs.max(axis=1) >= K)
    if bad.any():
        raise ValueError(f"pairs: expected two different classes below num_classes={K}, got {pairs[bad][0].tolist()}")
    if len(np.unique(source)) < len(source):
        raise ValueError(f"pairs: expected each source class once, got {pairs.tolist()}")
    T = np.eye(K)
    T[source, source], T[source, destination] = 1 - eps, eps
    return T


def pair_flip(num_classes: int, noise_rate: float) -> np.ndarray:
    """Pair noise: class i becomes the next one, i + 1 mod K, with probability `noise_rate`.

    Args:
        num_classes, noise_rate: as for `symmetric`.

    Returns:
        T (K, K).
    """
    K = check_integer("num_classes", num_classes, 2)
    return asymmetric(K, noise_rate, [(i, (i + 1) % K) for i in range(K)])


def instance_dependent(x: ArrayLike, labels: ArrayLike, num_classes: int, noise_rate: float, seed: int) -> np.ndarray:
    """Instance-dependent noise: flip probabilities that depend on each row's features.

    After the part-dependent noise of Xia et al. (2020): row n flips with probability q_n, normal around `noise_rate`
    with standard deviation 0.1, and the flips go where random projections of x_n, other ones for each own class, point
    (softmax over the other classes). The normal is cut at 0 or 1 and at the mirror image about `noise_rate`, so that
    its mean is `noise_rate` whatever that is; cut at 0 and 1 alone it would be .08 for a `noise_rate` of 0.

    Args:
        x: (N, ...), finite, used in its own scale. The larger its values, the more each row's flips go to a single
            class, so standardise raw pixels first.
        labels: (N,), the clean classes, 0 ... K-1.
        num_classes: K, at least 2.
        noise_rate: the mean of q_n, in [0, 1].
        seed: an integer of at least 0.

    Returns:
        P(noisy = j | x_n, y_n), shape (N, K). `corrupt(labels, probabilities, seed)` draws labels from it.
    """
    K = check_integer("num_classes", num_classes, 2)
    labels = check_labels("labels", labels, K)
    eps = check_rate("noise_rate", noise_rate)
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    x = as_numpy("x", x)
    if x.dtype.kind not in "iuf":
        raise TypeError(f"x: expected real numbers, got dtype {x.dtype}")
    if x.ndim < 2 or len(x) != len(labels):
        raise ValueError(f"x: expected shape ({len(labels)}, ...), one row per label, got {x.shape}")
    x = x.reshape(len(x), -1).astype(np.float64)
    if not np.isfinite(x).all():
        raise ValueError("x: expected finite values, got NaN or infinity")

    from scipy.special import ndtr, ndtri  # here, so that `import nls` need not wait for SciPy

    width = min(eps, 1 - eps) / 0.1
    q = eps + 0.1 * ndtri(rng.uniform(ndtr(-width), ndtr(width), len(labels)))
    probabilities = np.zeros((len(labels), K))
    for own in range(K):
        projection = rng.standard_normal((x.shape[1], K))  # drawn for absent classes too, so that subsets agree
        rows = np.flatnonzero(labels == own)
        score = x[rows] @ projection
        score[:, own] = -np.inf
        share = np.exp(score - score.max(axis=1, keepdims=True))
        probabilities[rows] = q[rows, None] * share / share.sum(axis=1, keepdims=True)
        probabilities[rows, own] = 1 - q[rows]
    return probabilities


def corrupt(labels: ArrayLike, T: ArrayLike, seed: int, mode: str = "iid") -> np.ndarray:
    """Noisy labels, drawn from clean ones by T; the input stays as it is.

    Args:
        labels: (N,), the clean classes, 0 ... K-1.
        T: (K, K), or in mode "iid" a row of probabilities per label, (N, K). A square T is always read as (K, K).
        seed: an integer of at least 0. It has no default: a hidden one would give every repetition the same noise.
        mode: "iid" draws each label on its own. "exact" gives n_c T[c] labels of each class c its new values, so that
            the realised rate does not vary: whole parts first, then the largest remainders, ties going to the own
            class and then to c+1, c+2, ... in a circle. Which rows they are is random.

    Returns:
        The noisy labels, int64 (N,).
    """
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    if mode not in ("iid", "exact"):
        raise ValueError(f"mode: expected 'iid' or 'exact', got {mode!r}")
    T = check_rows("T", T)
    K = T.shape[1]
    labels = check_labels("labels", labels, K)
    per_class = len(T) == K
    if not per_class and (len(T) != len(labels) or mode == "exact"):
        expected = f"({K}, {K})" if mode == "exact" else f"({K}, {K}) or ({len(labels)}, {K})"
        raise ValueError(f"T: expected shape {expected} for mode {mode!r}, got {T.shape}")
    if mode == "exact":
        return _corrupt_exact(labels, T, rng)
    cumulative = np.cumsum(T, axis=1)
    cumulative /= cumulative[:, -1:]  # ends in exactly 1, so that no draw falls behind the last class
    draw = rng.random(len(labels))
    if not per_class:
        return (draw[:, None] >= cumulative).sum(axis=1)
    noisy, ends = np.empty_like(labels), np.cumsum(np.bincount(labels, minlength=K))
    for own, rows in enumerate(np.split(np.argsort(labels, kind="stable"), ends[:-1])):  # N x K might not fit
        noisy[rows] = np.searchsorted(cumulative[own], draw[rows], side="right")
    return noisy


def _corrupt_exact(labels: np.ndarray, T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    K = len(T)
    noisy = labels.copy()
    for own in range(K):
        rows = np.flatnonzero(labels == own)
        share = np.round(len(rows) * (T[own] / T[own].sum()), 9)  # 100 * 0.29 is 28.999999999999996
        counts = np.floor(share).astype(np.int64)
        circle = np.roll(np.arange(K), -own)
        by_remainder = circle[np.argsort(-np.round(share - counts, 8)[circle], kind="stable")]
        counts[by_remainder[: len(rows) - counts.sum()]] += 1
        noisy[rng.permutation(rows)] = np.repeat(np.arange(K), counts)
    return noisy


def transition_matrix(clean: ArrayLike, noisy: ArrayLike, num_classes: int) -> np.ndarray:
    """The empirical T of paired labels.

    Args:
        clean, noisy: (N,), classes 0 ... K-1. Every class has a clean row: an invented row of T would look like an
            estimate to whoever inverts it.
        num_classes: K, at least 2.

    Returns:
        T (K, K): the share of each clean class that carries each noisy label.
    """
    K = check_integer("num_classes", num_classes, 2)
    clean, noisy = check_labels("clean", clean, K), check_labels("noisy", noisy, K)
    if len(clean) != len(noisy):
        raise ValueError(f"noisy: expected {len(clean)} labels, as many as clean has, got {len(noisy)}")
    counts = np.bincount(K * clean + noisy, minlength=K * K).reshape(K, K)
    total = counts.sum(axis=1, keepdims=True)
    if not total.all():
        raise ValueError(f"clean: expected rows of all {K} classes, got none of class {np.argmin(total)}")
    return counts / total


def estimate_transition(probs: ArrayLike, *, filter_outliers: bool = False) -> np.ndarray:
    """T from the predictions of a model fitted to noisy labels (Patrini et al. 2017).

    The row with the largest p(i|x) is the anchor point of class i, taken to be a sure member, and T[i] its prediction.
    Where the labels are at hand, `noise_report` strays less: it counts them, and on many rows.

    Args:
        probs: (N, K), probabilities, not logits.
        filter_outliers: the anchor is the largest below the 97th percentile of p(i|x) (where all are equal, the first
            row). Each class is filtered by itself, while the original code wrote its zeros into the predictions that
            later classes read.

    Returns:
        T (K, K).
    """
    probs = check_rows("probs", probs, tolerance=1e-2)  # half precision sums are off by this much with 1,000 classes
    if not isinstance(filter_outliers, (bool, np.bool_)):
        raise TypeError(f"filter_outliers: expected True or False, got {filter_outliers!r}")
    candidates = probs
    if filter_outliers:
        candidates = np.where(probs < np.quantile(probs, 0.97, axis=0, method="higher"), probs, -1.0)
    T = probs[np.argmax(candidates, axis=0)]
    return T / T.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class NoiseReport:
    """What noisy labels and out-of-sample probabilities say of the noise.

    Attributes:
        T: (K, K), T[i, j] = P(noisy = j | clean = i).
        noise_rate: share of labels that differ from the clean ones.
        interval: of the noise rate, for the error of counting alone.
        level: of the interval.
        symmetric: False where flips favour some classes by more than chance and overlap explain.
        uneven: share of the flips that would have to go elsewhere to make the noise symmetric. Chance alone brings it
            near 1 where classes are many and rows are few, so `symmetric` compares it with what chance gives.
        n: number of labels.
    """

    T: np.ndarray = field(repr=False)
    noise_rate: float
    interval: tuple[float, float]
    level: float
    symmetric: bool
    uneven: float
    n: int

    @property
    def eta(self) -> tuple[float, float, float]:
        """η = Kε/(K-1), the share of signal that the labels have lost (all of it from 1 on), and its interval."""
        K = len(self.T)
        return tuple(K * e / (K - 1) for e in (self.noise_rate, *self.interval))

    @property
    def r_opt(self) -> tuple[float, float, float]:
        """`r_opt` of the noise rate and of its interval, lower end first; -inf where the labels have no signal left."""
        estimate, low, high = (
            r_opt(e, len(self.T)) if eta < 1 - 1e-9 else -math.inf
            for e, eta in zip((self.noise_rate, *self.interval), self.eta, strict=True)
        )
        return estimate, high, low

    def __str__(self) -> str:
        (low, high), (eta, eta_low, eta_high), (r, r_low, r_high) = self.interval, self.eta, self.r_opt
        lines = [
            f"Noise rate: {self.noise_rate:.3f} ({self.level:.0%} interval {low:.3f} to {high:.3f}), from {self.n} "
            f"labels of {len(self.T)} classes. The interval is for counting alone: labels cannot tell noise from "
            "overlap of classes or from errors of the model, which make the estimate too high."
        ]
        if self.noise_rate == 0:
            lines.append(
                "No label counts as wrong. Probabilities of the rows that a model was trained on say that, too; they "
                "have to be out of sample."
            )
        if self.symmetric and math.isinf(r):
            lines.append("Flips: no sign against symmetric noise, and none of any signal: labels drawn at random.")
        elif self.symmetric:
            lines.append(
                f"Flips: no sign against symmetric noise. Theory then recommends r_opt = {r:.2f} ({r_low:.2f} to "
                f"{r_high:.2f}) where cross entropy is best on clean labels and some negative rate wherever the best "
                f"rate there is below {eta:.2f} ({eta_low:.2f} to {eta_high:.2f})."
            )
        else:
            lines.append(
                f"Flips: not symmetric ({self.uneven:.0%} of them would have to go to other classes), so the theory of "
                "smooth rates does not apply. Train with forward_correction and the T of this report, and compare."
            )
        return "\n".join(lines)


def noise_report(labels: ArrayLike, pred_probs: ArrayLike, *, level: float = 0.95, seed: int = 0) -> NoiseReport:
    """The noise of labels, from probabilities that a model gave to rows it was not trained on (cleanlab's convention).

    Row n is confidently of class i if p(i|x_n) reaches its mean over the rows labelled i (Northcutt et al. 2021); T[i]
    counts the labels of the more confident half of these rows, at least 50, since the other half holds more overlap.
    Rows as confident as the last of that half count too, so the order of the rows is of no account.

    Args:
        labels: (N,), the noisy labels, 0 ... K-1, at least 10 of each class.
        pred_probs: (N, K), P(noisy label = k | x_n), out of sample (out of fold).
        level: of the interval, above 0 and below 1.
        seed: of the draws behind the interval and the test of symmetry.

    Raises:
        ValueError: also for probabilities that agree with every label though they expect disagreement: such a model
            has seen the labels.
    """
    probs = check_rows("pred_probs", pred_probs, tolerance=1e-2)
    K = probs.shape[1]
    labels, level, seed = check_every_class(labels, K), check_level(level), check_integer("seed", seed, 0)
    if len(labels) != len(probs):
        raise ValueError(f"pred_probs: expected {len(labels)} rows, one a label, got {len(probs)}")
    expected = len(probs) - probs.max(axis=1).sum()
    if expected > 10 and (probs.argmax(axis=1) == labels).all():
        raise ValueError(
            f"pred_probs: expected out-of-sample probabilities; these agree with all labels while they expect "
            f"{expected:.0f} disagreements, as a model does on the rows it was trained on"
        )
    return noise_from(labels, probs, level, seed)


def noise_from(labels: np.ndarray, probs: np.ndarray, level: float, seed: int) -> NoiseReport:
    """`noise_report` of checked arguments."""
    K, rng = probs.shape[1], np.random.default_rng(seed)
    joint, counts = _count(labels, probs)
    rows = counts.sum(axis=1)
    T = counts / rows[:, None]
    calibrated = joint / np.maximum(joint.sum(axis=0), 1e-12) * np.bincount(labels, minlength=K)
    prior = calibrated.sum(axis=1) / calibrated.sum()
    kept = np.diag(counts)
    pooled = ((rows - kept).sum() + 0.5) / (rows.sum() + 1)  # a prior of one row a class: 1/2 each would add up
    flips = 1 - rng.beta(kept + 1 - pooled, rows - kept + pooled, size=(DRAWS, K))
    shares = rng.dirichlet(np.maximum(prior * len(labels), 1e-3), size=DRAWS)
    low, high = np.quantile((flips * shares).sum(axis=1), [(1 - level) / 2, (1 + level) / 2])
    rate, uneven = float(prior @ (1 - np.diag(T))), _uneven(T)
    even = symmetric(K, min(1.0, float(1 - np.diag(T).mean())))
    chance = [_uneven(rng.multinomial(rows.astype(int), even) / rows[:, None]) for _ in range(200)]
    # Where counts are few, chance alone comes near 1: what overlap may add is a share of the room above it.
    median = np.median(chance)
    same = uneven <= np.quantile(chance, 0.95) or uneven - median <= UNEVEN * (1 - median)
    return NoiseReport(T, rate, (min(low, rate), max(high, rate)), level, bool(same), uneven, len(labels))


def _count(labels: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (columns) of the rows confidently of each class (rows): of all of them, and of the more confident half."""
    K = probs.shape[1]
    threshold = np.array([probs[labels == k, k].mean() for k in range(K)])
    sure = probs >= threshold - 1e-12
    member = np.where(sure.any(axis=1), np.where(sure, probs, -1.0).argmax(axis=1), -1)
    joint, anchors = np.zeros((K, K)), np.zeros((K, K))
    for k in range(K):
        rows = np.flatnonzero(member == k)
        joint[k] = np.bincount(labels[rows], minlength=K)
        if len(rows) == 0:  # a class that is never predicted: its likeliest row, as in `estimate_transition`
            rows = np.flatnonzero(probs[:, k] == probs[:, k].max())
        most = max(len(rows) // 2, min(len(rows), ANCHORS))
        cut = np.sort(probs[rows, k])[-most]  # with its ties: probabilities of 1.0 have no order but that of the file
        anchors[k] = np.bincount(labels[rows[probs[rows, k] >= cut]], minlength=K)
    return joint, anchors


def _uneven(T: np.ndarray) -> float:
    """Total variation between where flips go (and come from) and an even spread; 0 without flips."""
    off = T[~np.eye(len(T), dtype=bool)]
    return float(np.abs(off - off.mean()).sum() / (2 * off.sum())) if off.any() else 0.0
