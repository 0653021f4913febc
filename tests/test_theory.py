"""Each formula against what it stands for: risks are computed here from scratch, with T and its inverse in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nls.losses import gls_loss
from nls.noise import symmetric
from nls.theory import (
    preference,
    r_limit,
    r_opt,
    rate_at_scale,
    smoothed,
    smoothing_scale,
)

FAST = settings(max_examples=60, deadline=None, derandomize=True)
CLASSES = st.integers(2, 100)
SHARE = st.floats(0, 0.99)  # of the largest noise rate, (K-1)/K
R_STAR = st.floats(-3, 1)


@FAST
@given(st.integers(2, 12), SHARE, R_STAR, st.integers(0, 2**32 - 1))
def test_noisy_gls_risk_at_r_opt_is_the_clean_risk_at_r_star(K, share, r_star, seed):
    """Theorem 3.6 on the expected targets of a random clean posterior, with T applied by matrix product."""
    eps = share * (K - 1) / K
    clean = np.random.default_rng(seed).dirichlet(np.ones(K), size=5)
    noisy = clean @ symmetric(K, eps)
    np.testing.assert_allclose(smoothed(noisy, r_opt(eps, K, r_star)), smoothed(clean, r_star), atol=1e-10)


@pytest.mark.parametrize("K", [2, 7, 100])
def test_preference_at_and_around_the_threshold(K):
    for r_star in (0.0, 0.1, 0.3, 0.7):
        threshold = (K - 1) * r_star / K
        assert preference(threshold, K, r_star) == "CE"
        assert preference(threshold + 5e-13, K, r_star) == "CE"
        assert preference(threshold + 2e-12, K, r_star) == "NLS"
        if threshold:
            assert preference(threshold - 5e-13, K, r_star) == "CE"
            assert preference(threshold - 2e-12, K, r_star) == "LS"


def test_published_values():
    """The binary form (r* - 2e)/(1 - 2e), the rates of the AG News table (K=4), backward correction for K=10."""
    assert r_opt(0.3, 2, 0.2) == pytest.approx((0.2 - 0.6) / 0.4, abs=1e-12)
    np.testing.assert_allclose(r_opt([0.1, 0.2, 0.3, 0.4], 4), [-2 / 13, -4 / 11, -2 / 3, -8 / 7], rtol=1e-12)
    np.testing.assert_allclose(r_opt([0.2, 0.4, 0.6, 0.8], 10), [-2 / 7, -0.8, -2, -8], rtol=1e-12)


def test_scalars_give_scalars_and_arrays_broadcast():
    assert type(r_opt(0.2, 10)) is float and type(r_opt(np.float32(0.25), np.int64(4))) is float
    assert type(preference(0.2, 10, 0.5)) is str
    eps, r_star = np.linspace(0, 0.4, 5)[:, None], np.linspace(-1, 1, 7)
    grid, choice = r_opt(eps, 2, r_star), preference(eps, 2, r_star)
    assert grid.shape == choice.shape == (5, 7)
    assert grid[3, 2] == r_opt(eps[3, 0], 2, r_star[2]) and choice[3, 2] == preference(eps[3, 0], 2, r_star[2])
    assert set(choice.flat) == {"LS", "CE", "NLS"}
    np.testing.assert_array_equal(r_opt(0.2, [2, 10]), [r_opt(0.2, 2), r_opt(0.2, 10)])


def test_clean_labels_keep_their_rate():
    assert r_opt(0, 10, 0.3) == pytest.approx(0.3, abs=1e-15)
    assert math.copysign(1, r_opt(0, 10)) == 1


@FAST
@given(CLASSES, SHARE)
def test_limit_for_certain_labels_is_backward_correction(K, share):
    eps = share * (K - 1) / K
    r = r_opt(eps, K)
    assert r_limit(eps / (K - 1), K) == pytest.approx(r, rel=1e-9, abs=1e-12)


def test_limit_at_the_ends():
    assert r_limit(0, 5) == 0 and r_limit(1 / 3, 3) == -math.inf and r_limit(0.1, 10) == -math.inf
    np.testing.assert_allclose(r_limit([0.1, 0.2], [2, 4]), [-0.25, -4])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: r_opt(-0.1, 10), ValueError, r"noise_rate: expected .*in \[0, 1\], got -0\.1"),
        (lambda: r_opt(np.nextafter(0.9, 0), 10), ValueError, r"noise_rate: expected below \(K-1\)/K"),
        (lambda: r_opt(math.nan, 10), ValueError, r"noise_rate: expected finite.*got nan"),
        (lambda: r_opt("0.1", 10), TypeError, r"noise_rate: expected real numbers, got '0\.1'"),
        (lambda: r_opt([[0.1], [0.2, 0.3]], 10), ValueError, r"noise_rate: expected an array, got rows of unequal"),
        (lambda: r_opt(0.1, 1), ValueError, r"num_classes: expected an integer of at least 2, got 1"),
        (lambda: r_opt(0.1, 10.0), TypeError, r"num_classes: expected an integer of at least 2, got 10\.0 of float"),
        (lambda: r_opt(0.1, 10, 1.1), ValueError, r"r_star: expected finite and at most 1, got 1\.1"),
        (lambda: r_limit(0.2, 10), ValueError, r"posterior_min: expected at most 1/K.*got 0\.2"),
        (lambda: smoothed([[1.0], [1.0]], 0.1), ValueError, r"target: expected shape \(\.\.\., K\).*\(2, 1\)"),
        (lambda: smoothed(np.eye(3), [0.1, 0.2, 0.3]), ValueError, r"smooth_rate: expected one number, got shape"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# The scale on which noise and smoothing add. The parts of the loss are written out here, in torch and float64.


def parts(z):
    """The unhinged loss of every class, (N, K), and the price on confidence, (N, 1), of logits (N, K)."""
    mean = z.mean(1, keepdim=True)
    return mean - z, z.logsumexp(1, keepdim=True) - mean


def losses_of_every_label(z, rate):
    """GLS loss (N, K) if the label were 0, ..., K-1."""
    labels = torch.arange(z.shape[1]).expand(len(z), -1)
    return gls_loss(z[:, :, None].expand(-1, -1, z.shape[1]), labels, rate, reduction="none")


@FAST
@given(st.integers(2, 12), st.floats(-20, 0.99), st.integers(0, 2**32 - 1))
def test_the_label_enters_through_the_unhinged_loss_alone(K, rate, seed):
    z = 3 * torch.randn(5, K, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    u, c = parts(z)
    whole = losses_of_every_label(z, rate) / (1 - rate)
    np.testing.assert_allclose(whole, u + math.exp(smoothing_scale(rate)) * c, rtol=1e-12, atol=1e-12)


@FAST
@given(st.integers(2, 12), SHARE, st.floats(-20, 0.99), st.integers(0, 2**32 - 1))
def test_noise_is_smoothing(K, share, rate, seed):
    """Averaged over the flips, the loss at r is the loss of the clean label at the rate of the same s."""
    eps = 0.9 * share * (K - 1) / K
    z = 3 * torch.randn(5, K, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected = losses_of_every_label(z, rate) @ torch.from_numpy(symmetric(K, eps)).T
    same = rate_at_scale(smoothing_scale(rate, eps, K))
    assert math.isclose(1 - same, (1 - rate) * (1 - K * eps / (K - 1)), rel_tol=1e-12)
    np.testing.assert_allclose(expected, losses_of_every_label(z, same), rtol=1e-12, atol=1e-12 * (1 - rate))


@FAST
@given(CLASSES, SHARE, R_STAR)
def test_r_opt_puts_the_noisy_scale_on_the_clean_one(K, share, r_star):
    eps = share * (K - 1) / K
    r = r_opt(eps, K, r_star)
    if r_star < 1 - 1e-6:
        assert math.isclose(smoothing_scale(r, eps, K), smoothing_scale(r_star), abs_tol=1e-9)
    assert math.isclose(rate_at_scale(0.0, eps, K), r_opt(eps, K), rel_tol=1e-12, abs_tol=1e-12)


def test_scale_and_its_inverse_take_arrays_and_refuse_what_has_no_scale():
    rates = np.array([-8.0, -1.0, 0.0, 0.8])
    np.testing.assert_allclose(rate_at_scale(smoothing_scale(rates, 0.3, 4), 0.3, 4), rates, atol=1e-12)
    shift = smoothing_scale(0.0, 0.3, 4)
    np.testing.assert_allclose(smoothing_scale(rates, 0.3, 4) - smoothing_scale(rates), shift, atol=1e-12)
    assert smoothing_scale(1.0) == math.inf and smoothing_scale(0.0, 0.0, 10) == 0.0
    with pytest.raises(ValueError, match=r"smooth_rate: expected finite and at most 1, got 1\.5"):
        smoothing_scale(1.5)
    with pytest.raises(ValueError, match="noise_rate: expected below"):
        smoothing_scale(0.0, 0.5, 2)
    assert rate_at_scale(-650.0, 0.5 - 1e-11, 2) > -math.inf
    with pytest.raises(ValueError, match=r"s: expected finite and in \[-650, inf\], got -800"):
        rate_at_scale(-800.0)
    for of in (smoothing_scale, rate_at_scale):  # without K it would be that of another number of classes
        with pytest.raises(ValueError, match=r"num_classes: expected an integer .* beside noise_rate 0\.4"):
            of(-1.0, 0.4)
    with pytest.raises(ValueError, match=r"broadcast together with shapes \(2,\) \(3,\)"):
        r_opt([0.1, 0.2], [2, 3, 4])


def test_tensors_that_require_grad_are_numbers_too():
    assert r_opt(torch.tensor(0.2, requires_grad=True), 10) == pytest.approx(r_opt(0.2, 10))
