"""What the paper derives: the optimal smooth rate, its sign, and other losses written as generalised smoothing (GLS).

Symbols: K classes, noise rate ε (exclusive flips, T_ij = ε/(K-1) off the diagonal), smooth rate r, and r*, the rate
that would be best on clean labels. All of it concerns the population risk. Arguments are numbers or arrays that
broadcast; numbers give a number, arrays an array.
"""

import numpy as np

from .checks import check_integer as check_integer

MARGIN = 1e-12  # closer than this to a threshold counts as on it, since thresholds such as 9/10 carry rounding errors


def r_opt(noise_rate, num_classes, r_star=0.0):
    """The smooth rate that on noisy labels gives the risk of r* on clean ones (Theorems 3.3 and 3.6).

    ((K-1) r* - K ε) / ((K-1) - K ε), the solution of (1-r) (1 - Kε/(K-1)) = 1 - r*. ValueError for ε ≥ (K-1)/K, where
    the labels carry no information and past which the formula changes sign, and for r* > 1.
    """
    eps, K, r_star = _check(noise_rate, num_classes, r_star)
    return _out(((K - 1) * r_star - K * eps) / ((K - 1) - K * eps))


def preference(noise_rate, num_classes, r_star):
    """Which sign the optimal rate has: "LS" (positive), "CE" (zero) or "NLS" (negative), a str or an array of them.

    The threshold is ε = (K-1) r*/K: above it negative smoothing, within 1e-12 of it cross entropy. Errors: see `r_opt`.
    """
    eps, K, r_star = _check(noise_rate, num_classes, r_star)
    excess = eps - (K - 1) * r_star / K
    return _out(np.where(np.abs(excess) <= MARGIN, "CE", np.where(excess > 0, "NLS", "LS")))


def r_backward(noise_rate, num_classes):
    """The rate at which GLS is backward correction with the true symmetric T, example by example (Theorem 5.2).

    It is `r_opt` at r* = 0: -Kε / ((K-1) - Kε). Errors as for `r_opt`.
    """
    return r_opt(noise_rate, num_classes, 0.0)


def loss_correction_rate(e0, e1):
    """(r_LC, λ_LC) of Proposition 5.1: binary labels with e0 = P(noisy 1 | clean 0) and e1 = P(noisy 0 | clean 1).

    The corrected risk is the GLS risk at r_LC = 2 e0/(2 e0 - 1) plus λ_LC = (e1 - e0)/(1 - 2 e0) times
    E over X, Y=1 of ℓ(f, 1) - ℓ(f, 0). The paper names the classes so that e1 ≥ e0; the identity does not need it.
    ValueError unless e0 < 1/2 and e0 + e1 < 1.
    """
    e0, e1 = _numbers("e0", e0, 0, 1), _numbers("e1", e1, 0, 1)
    _refuse("e0", e0, e0 >= 0.5 - MARGIN, "below 1/2, where r_LC has its pole")
    _refuse("e0 + e1", e0 + e1, e0 + e1 >= 1 - MARGIN, "below 1, or the labels carry no information")
    return _out(0.0 - 2 * e0 / (1 - 2 * e0)), _out((e1 - e0) / (1 - 2 * e0))


def peer_rate(p_noisy_positive):
    """(r_PL, λ_PL) of Proposition 5.4: 2p and 1 - 2p, where p is the share of noisy labels that are 1.

    The peer risk is E[ℓ(f, Y~) - GLS loss at r_PL] plus λ_PL times E over X, Y~=1 of ℓ(f, 1) - ℓ(f, 0). For p > 1/2 the
    rate exceeds 1 and is no smoothing any more (name the classes the other way round); the identity still holds.
    """
    p = _numbers("p_noisy_positive", p_noisy_positive, 0, 1)
    return _out(2 * p), _out(1 - 2 * p)


def smoothed(target, smooth_rate):
    """(1-r) target + r/K for targets (..., K), which may be one-hot rows, posteriors or a mixture; r is one number ≤ 1.

    For a noisy posterior this is the expected GLS target, and the minimiser of the risk where it is a distribution.
    """
    target = _numbers("target", target, -np.inf, np.inf)
    r = _numbers("smooth_rate", smooth_rate, -np.inf, 1)
    if target.ndim == 0 or target.shape[-1] < 2:
        raise ValueError(f"target: expected shape (..., K) with K of at least 2, got {target.shape}")
    if r.ndim:
        raise ValueError(f"smooth_rate: expected one number, got shape {r.shape}")
    return (1 - r) * target + r / target.shape[-1]


def r_limit(posterior_min, num_classes):
    """The most negative rate at which the GLS risk still has a minimiser: p K/(p K - 1), p the least noisy posterior.

    Below it some expected target (1-r) p + r/K is negative, and there the risk has no lower bound. Where the
    inputs determine the clean label, p = ε/(K-1) and the limit is `r_backward`. At p = 1/K there is none: -inf.
    """
    K = _integers("num_classes", num_classes)
    p = _numbers("posterior_min", posterior_min, 0, 1)
    _refuse("posterior_min", p, p > 1 / K + MARGIN, "at most 1/K, which the least of K probabilities cannot exceed")
    p, K = np.broadcast_arrays(p, K)
    free = np.abs(1 - p * K) <= MARGIN
    return _out(np.where(free, -np.inf, 0.0 - p * K / np.where(free, 1.0, 1 - p * K)))


def minimiser_exists(smooth_rate, posterior_min, num_classes):
    """Whether the GLS risk at rate r has a minimiser over all classifiers: r ≥ `r_limit`, up to rounding."""
    r = _numbers("smooth_rate", smooth_rate, -np.inf, 1)
    limit = r_limit(posterior_min, num_classes)
    return _out(r >= limit - MARGIN * np.maximum(1, np.abs(r)))


def _check(noise_rate, num_classes, r_star):
    K = _integers("num_classes", num_classes)
    eps = _numbers("noise_rate", noise_rate, 0, 1)
    r_star = _numbers("r_star", r_star, -np.inf, 1)
    _refuse("noise_rate", eps, eps >= (K - 1) / K - MARGIN, "below (K-1)/K, where labels still carry information")
    return eps, K, r_star


def _numbers(name, value, low, high):
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got {value!r}")
    array = array.astype(np.float64)
    expected = f"at most {high}" if low == -np.inf else f"in [{low}, {high}]"
    _refuse(name, array, ~(np.isfinite(array) & (array >= low) & (array <= high)), f"finite and {expected}")
    return array


def _integers(name, value):
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an integer of at least 2, got {value!r} of {type(value).__name__}")
    _refuse(name, array, array < 2, "an integer of at least 2")
    return array.astype(np.int64)


def _refuse(name, values, bad, expected):
    if np.any(bad):
        values, bad = np.broadcast_arrays(values, bad)
        raise ValueError(f"{name}: expected {expected}, got {values[bad].flat[0]}")


def _out(array):
    """A Python scalar for a 0-d result, else the array."""
    return array.item() if np.ndim(array) == 0 else array
