"""What the paper derives: the optimal smooth rate, its sign, and where a risk has a minimiser.

Symbols: K classes, noise rate ε (exclusive flips, T_ij = ε/(K-1) off the diagonal), smooth rate r, and r*, the rate
that would be best on clean labels. All of it concerns the population risk. Arguments are numbers or arrays that
broadcast; numbers give a number, arrays an array.
"""

import numpy as np
from numpy.typing import ArrayLike

from .checks import as_numpy

MARGIN = 1e-12  # closer than this to a threshold counts as on it, since thresholds such as 9/10 carry rounding errors


def r_opt(noise_rate: ArrayLike, num_classes: ArrayLike, r_star: ArrayLike = 0.0) -> float | np.ndarray:
    """The smooth rate that on noisy labels gives the risk of r* on clean ones (Theorems 3.3 and 3.6).

    Args:
        noise_rate: ε, below (K-1)/K, where labels carry no information; past it the formula changes sign.
        num_classes: K, at least 2.
        r_star: r*, at most 1.

    Returns:
        ((K-1) r* - K ε) / ((K-1) - K ε), the solution of (1-r) (1 - Kε/(K-1)) = 1 - r*. At r* = 0 it is the
        rate at which GLS is backward correction with the true symmetric T, example by example (Theorem 5.2).
    """
    eps, K, r_star = _check(noise_rate, num_classes, r_star)
    return _out(((K - 1) * r_star - K * eps) / ((K - 1) - K * eps))


def preference(noise_rate: ArrayLike, num_classes: ArrayLike, r_star: ArrayLike) -> str | np.ndarray:
    """Which sign the optimal rate has: above the threshold ε = (K-1) r*/K it is negative.

    Args:
        noise_rate, num_classes, r_star: as for `r_opt`.

    Returns:
        "LS" (positive), "CE" (zero, within 1e-12 of the threshold) or "NLS" (negative).
    """
    eps, K, r_star = _check(noise_rate, num_classes, r_star)
    excess = eps - (K - 1) * r_star / K
    return _out(np.where(np.abs(excess) <= MARGIN, "CE", np.where(excess > 0, "NLS", "LS")))


def smoothing_scale(
    smooth_rate: ArrayLike, noise_rate: ArrayLike = 0.0, num_classes: ArrayLike | None = None
) -> float | np.ndarray:
    """s = −log(1-r) − log(1-η): the smoothing of training and noise together, on the scale where they add.

    For every rate ℓ_r(z, y) = (1-r) [u(z, y) + λ c(z)] with λ = 1/(1-r), u = mean(z) − z_y (the unhinged loss, the
    only place where the label enters) and c = logsumexp(z) − mean(z) (a price on confidence). Without noise s = log λ.
    Noise is smoothing: the mean of u(z, noisy y) over the flips is (1-η) u(z, y), η = Kε/(K-1), and c does not see the
    label, so the expected noisy loss at r is the clean loss at r' with 1-r' = (1-r)(1-η).
    Theorems 3.3 and 3.6 read s = −log(1-r*): `r_opt` at r* = 0, backward correction, is s = 0.

    Args:
        smooth_rate: r, at most 1, where s is infinite.
        noise_rate, num_classes: as for `r_opt`; without noise the number of classes does not matter and may be None.
    """
    r = _numbers("smooth_rate", smooth_rate, -np.inf, 1)
    with np.errstate(divide="ignore"):
        return _out(_shift(noise_rate, num_classes) - np.log1p(-r))


def rate_at_scale(
    s: ArrayLike, noise_rate: ArrayLike = 0.0, num_classes: ArrayLike | None = None
) -> float | np.ndarray:
    """The smooth rate r at a point of `smoothing_scale`, its inverse: 1 − exp(−log(1-η) − s).

    Args:
        s: any finite number of at least -650; far below, the rate overflows.
        noise_rate, num_classes: as for `smoothing_scale`.
    """
    s = _numbers("s", s, -650, np.inf)
    return _out(0.0 - np.expm1(_shift(noise_rate, num_classes) - s))


def smoothed(target: ArrayLike, smooth_rate: float) -> np.ndarray:
    """The generalised smooth label (eq. 2). Of a noisy posterior it is the expected GLS target.

    Where it is a distribution it is also the minimiser of the risk.

    Args:
        target: (..., K), K at least 2: one-hot rows, posteriors or a mixture.
        smooth_rate: r, one number, at most 1.

    Returns:
        (1-r) target + r/K, of the target's shape.
    """
    target = _numbers("target", target, -np.inf, np.inf)
    r = _numbers("smooth_rate", smooth_rate, -np.inf, 1)
    if target.ndim == 0 or target.shape[-1] < 2:
        raise ValueError(f"target: expected shape (..., K) with K of at least 2, got {target.shape}")
    if r.ndim:
        raise ValueError(f"smooth_rate: expected one number, got shape {r.shape}")
    return (1 - r) * target + r / target.shape[-1]


def r_limit(posterior_min: ArrayLike, num_classes: ArrayLike) -> float | np.ndarray:
    """The most negative rate at which the GLS risk still has a minimiser.

    Below it some expected target (1-r) p + r/K is negative, and there the risk has no lower bound. Where the inputs
    determine the clean label, p = ε/(K-1) and the limit is `r_opt` at r* = 0.

    Args:
        posterior_min: p, the least noisy posterior, at most 1/K.
        num_classes: K, at least 2.

    Returns:
        p K/(p K - 1); -inf (no limit) at p = 1/K.
    """
    K = _integers("num_classes", num_classes)
    p = _numbers("posterior_min", posterior_min, 0, 1)
    _refuse("posterior_min", p, p > 1 / K + MARGIN, "at most 1/K, which the least of K probabilities cannot exceed")
    p, K = np.broadcast_arrays(p, K)
    free = np.abs(1 - p * K) <= MARGIN
    return _out(np.where(free, -np.inf, 0.0 - p * K / np.where(free, 1.0, 1 - p * K)))


def _check(
    noise_rate: ArrayLike, num_classes: ArrayLike, r_star: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    K = _integers("num_classes", num_classes)
    eps = _numbers("noise_rate", noise_rate, 0, 1)
    r_star = _numbers("r_star", r_star, -np.inf, 1)
    _refuse("noise_rate", eps, eps >= (K - 1) / K - MARGIN, "below (K-1)/K, where labels still carry information")
    return eps, K, r_star


def _shift(noise_rate: ArrayLike, num_classes: ArrayLike | None) -> float | np.ndarray:
    """−log(1-η), by how much noise moves a rate on the scale."""
    if num_classes is None and np.any(_numbers("noise_rate", noise_rate, 0, 1)):
        raise ValueError(f"num_classes: expected an integer of at least 2 beside noise_rate {noise_rate!r}, got None")
    eps, K, _ = _check(noise_rate, 2 if num_classes is None else num_classes, 0.0)
    return -np.log1p(-K * eps / (K - 1))


def _numbers(name: str, value: ArrayLike, low: float, high: float) -> np.ndarray:
    array = as_numpy(name, value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got {value!r}")
    array = array.astype(np.float64)
    expected = f"at most {high}" if low == -np.inf else f"in [{low}, {high}]"
    _refuse(name, array, ~(np.isfinite(array) & (array >= low) & (array <= high)), f"finite and {expected}")
    return array


def _integers(name: str, value: ArrayLike) -> np.ndarray:
    array = as_numpy(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an integer of at least 2, got {value!r} of {type(value).__name__}")
    _refuse(name, array, array < 2, "an integer of at least 2")
    return array.astype(np.int64)


def _refuse(name: str, values: np.ndarray, bad: np.ndarray, expected: str) -> None:
    if np.any(bad):
        values, bad = np.broadcast_arrays(values, bad)
        raise ValueError(f"{name}: expected {expected}, got {values[bad].flat[0]}")


def _out(array: np.ndarray) -> float | str | np.ndarray:
    """A Python scalar for a 0-d result, else the array."""
    return array.item() if np.ndim(array) == 0 else array
