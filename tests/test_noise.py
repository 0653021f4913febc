"""Transition matrices, the labels drawn from them, and the estimates of both."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest, truncnorm

from nls.noise import (
    CIFAR10_ONEWAY,
    CIFAR10_SWAP,
    asymmetric,
    corrupt,
    estimate_transition,
    instance_dependent,
    pair_flip,
    symmetric,
    transition_matrix,
)

FAST = settings(max_examples=50, deadline=None, derandomize=True)
CLASSES, RATE, SEED = st.integers(2, 12), st.floats(0, 1), st.integers(0, 2**32 - 1)


def random_transition(K, seed):
    return np.random.default_rng(seed).dirichlet(np.full(K, 0.5), size=K)


# Matrices


@FAST
@given(CLASSES, RATE)
def test_symmetric_and_pair_flip_have_their_entries(K, eps):
    expected = np.array([[1 - eps if i == j else eps / (K - 1) for j in range(K)] for i in range(K)])
    np.testing.assert_allclose(symmetric(K, eps), expected, atol=1e-15)
    shift = np.array([[float(j == (i + 1) % K) for j in range(K)] for i in range(K)])
    np.testing.assert_allclose(pair_flip(K, eps), (1 - eps) * np.eye(K) + eps * shift, atol=1e-15)
    for T in (symmetric(K, eps), pair_flip(K, eps)):
        assert T.dtype == np.float64 and (T >= 0).all()
        np.testing.assert_allclose(T.sum(axis=1), 1, atol=1e-12)


def test_cifar10_maps():
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    oneway = {names[i]: names[j] for i, j in CIFAR10_ONEWAY}
    assert oneway == dict(truck="automobile", bird="airplane", deer="horse", cat="dog", dog="cat")
    assert {frozenset(p) for p in CIFAR10_SWAP} == {frozenset(p) for p in [(9, 1), (2, 0), (4, 7), (3, 5), (6, 8)]}
    swap = asymmetric(10, 0.3, CIFAR10_SWAP)
    assert (swap == swap.T).all() and (np.diag(swap) == 0.7).all()
    assert 1 - np.trace(swap) / 10 == pytest.approx(0.3)
    T = asymmetric(10, 0.3, CIFAR10_ONEWAY)
    assert T[9, 1] == 0.3 and T[1, 9] == 0 and T[1, 1] == 1
    assert 1 - np.trace(T) / 10 == pytest.approx(0.15)
    np.testing.assert_allclose(T.sum(axis=1), 1)


# Labels


@FAST
@given(CLASSES, SEED, st.sampled_from(["iid", "exact"]), st.integers(1, 300))
def test_corrupt_is_a_function_of_its_seed_and_leaves_its_input(K, seed, mode, n):
    labels = np.random.default_rng(seed).integers(0, K, n)
    before, T = labels.copy(), random_transition(K, seed)
    kept = T.copy()
    noisy = corrupt(labels, T, seed, mode)
    np.testing.assert_array_equal(noisy, corrupt(labels, T, seed, mode))
    assert noisy.dtype == np.int64 and noisy.shape == (n,) and noisy.min() >= 0 and noisy.max() < K
    assert (labels == before).all() and (T == kept).all() and not np.shares_memory(noisy, labels)


@pytest.mark.parametrize("mode", ["iid", "exact"])
def test_other_seeds_give_other_labels(mode):
    labels = np.arange(2000) % 10
    draws = [corrupt(labels, symmetric(10, 0.4), seed, mode) for seed in range(6)]
    for i in range(6):
        for j in range(i):
            # Two independent draws agree with probability .6² + .4²/9 = .378
            assert 0.3 < (draws[i] == draws[j]).mean() < 0.45


@FAST
@given(CLASSES, SEED, st.integers(1, 400))
def test_exact_counts_are_the_largest_remainders(K, seed, n):
    """Within one of n_c T, complete, and no cell that was rounded up has a smaller remainder than one rounded down."""
    labels = np.random.default_rng(seed).integers(0, K, n)
    T = random_transition(K, seed)
    noisy = corrupt(labels, T, seed, "exact")
    for c in np.unique(labels):
        share = (labels == c).sum() * T[c]
        counts = np.bincount(noisy[labels == c], minlength=K)
        assert counts.sum() == (labels == c).sum()
        up = counts > share
        assert (np.abs(counts - share) < 1 + 1e-6).all()
        remainder = share - np.floor(share)
        assert not up.any() or up.all() or remainder[up].min() >= remainder[~up].max() - 1e-6


def test_exact_counts_by_hand():
    """Whole numbers stay whole (100 * .29 is 28.999... in floating point), ties go to the own class, then onwards."""
    labels = np.repeat([0, 1], [100, 5])
    noisy = corrupt(labels, [[0.71, 0.29], [0.1, 0.9]], 0, "exact")
    assert (noisy[:100] == 1).sum() == 29 and (noisy[100:] == 0).sum() == 0
    # 10 labels a class, 4/3 to each of three others: one more flip goes to the next class in the circle
    labels = np.repeat(np.arange(4), 10)
    realised = transition_matrix(labels, corrupt(labels, symmetric(4, 0.4), 0, "exact"), 4) * 10
    np.testing.assert_allclose(realised, [[6, 2, 1, 1], [1, 6, 2, 1], [1, 1, 6, 2], [2, 1, 1, 6]], atol=1e-12)


def test_exact_with_rows_that_sum_to_one_only_roughly():
    labels = np.zeros(400_000, dtype=int)
    T = np.array([[0.700003, 0.300004], [0, 1]])
    assert (corrupt(labels, T, 0, "exact") == 1).sum() == round(400_000 * 0.300004 / 1.000007)


def test_exact_chooses_rows_uniformly():
    """Over 3,000 seeds each of 20 rows flips equally often (level .001, seeds fixed; flips within a seed exclude
    each other, which makes the chi-square test conservative)."""
    labels, T = np.zeros(20, dtype=int), [[0.75, 0.25], [0.0, 1.0]]
    flips = sum(corrupt(labels, T, seed, "exact") for seed in range(3000))
    assert flips.sum() == 5 * 3000
    assert chisquare(flips).pvalue > 1e-3


def test_iid_from_probabilities_per_row():
    """A row of zeros and ones decides its label; equal rows draw what the class matrix draws."""
    labels = np.arange(3000) % 3
    wanted = np.random.default_rng(0).integers(0, 3, 3000)
    np.testing.assert_array_equal(corrupt(labels, np.eye(3)[wanted], 1), wanted)
    T = random_transition(3, 2)
    np.testing.assert_array_equal(corrupt(labels, T[labels], 1), corrupt(labels, T, 1))


@FAST
@given(CLASSES, SEED, st.integers(1, 300), st.sampled_from([0.01, 0.5, 10]))
def test_iid_counts_the_entries_of_the_cumulative_row_that_a_draw_has_passed(K, seed, n, spread):
    rng = np.random.default_rng(seed)
    T, labels = rng.dirichlet(np.full(K, spread), size=K), rng.integers(0, K, n)
    cumulative = T.cumsum(axis=1) / T.cumsum(axis=1)[:, -1:]
    draw = np.random.default_rng(seed).random(n)
    np.testing.assert_array_equal(corrupt(labels, T, seed), (draw[:, None] >= cumulative[labels]).sum(axis=1))


def test_iid_needs_no_array_of_labels_times_classes():
    labels, T = np.arange(20_000) % 500, symmetric(500, 0.2)
    tracemalloc.start()
    corrupt(labels, T, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(labels) * 500  # of 8 bytes each


@pytest.mark.parametrize("mode", ["iid", "exact"])
def test_absent_classes_and_extreme_rates(mode):
    labels = np.array([1, 1, 4, 4, 4, 1])
    np.testing.assert_array_equal(corrupt(labels, symmetric(6, 0), 0, mode), labels)
    assert (corrupt(labels, symmetric(6, 1), 0, mode) != labels).all()
    np.testing.assert_array_equal(corrupt(labels, pair_flip(6, 1), 0, mode), labels + 1)
    np.testing.assert_array_equal(corrupt([5], pair_flip(6, 1), 0, mode), [0])


def test_iid_with_rows_that_sum_to_slightly_less_than_one():
    """Some of a million draws lie above the sum, .999991: they must not become a third label."""
    T = np.array([[0.5, 0.499991], [0.0, 1.0]])
    noisy = corrupt(np.zeros(1_000_000, dtype=int), T, 0)
    assert np.random.default_rng(0).random(1_000_000).max() > 0.999991
    assert noisy.max() == 1


def test_torch_and_lists_are_taken():
    labels = np.arange(300) % 3
    expected = corrupt(labels, symmetric(3, 0.5), 5)
    T = torch.tensor(symmetric(3, 0.5))
    np.testing.assert_array_equal(corrupt(torch.tensor(labels), T, 5), expected)
    np.testing.assert_array_equal(corrupt(labels.tolist(), T.tolist(), np.int64(5)), expected)
    np.testing.assert_array_equal(corrupt(labels.astype(np.uint8), T, 5), expected)


def test_iid_and_exact_take_half_precision():
    labels, T = np.arange(300) % 10, torch.tensor(symmetric(10, 0.2)).half()
    exact = T.double() / T.double().sum(1, keepdim=True)
    for mode in ("iid", "exact"):
        np.testing.assert_array_equal(corrupt(labels, T, 0, mode), corrupt(labels, exact, 0, mode))
    np.testing.assert_array_equal(corrupt(labels, T.numpy(), 0), corrupt(labels, exact, 0))


# Instance-dependent noise


def problem(n=4000, d=8, K=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.integers(0, K, n)


@pytest.mark.parametrize("eps", [0, 0.05, 0.5, 1])
def test_instance_rates_are_the_truncated_normal_with_the_stated_mean(eps):
    x, y = problem()
    P = instance_dependent(x, y, 5, eps, 11)
    assert P.shape == (4000, 5) and (P >= 0).all()
    np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-12)
    q = 1 - P[np.arange(4000), y]
    assert q.mean() == pytest.approx(eps, abs=4 * 0.1 / math.sqrt(4000) + 1e-12)
    width = min(eps, 1 - eps) / 0.1
    if width:
        assert kstest(q, truncnorm(-width, width, loc=eps, scale=0.1).cdf).pvalue > 1e-3
    else:
        assert (np.abs(q - eps) < 1e-12).all()


def test_instance_noise_depends_on_the_features_and_the_seed():
    x, y = problem()
    P = instance_dependent(x, y, 5, 0.4, 3)
    np.testing.assert_array_equal(P, instance_dependent(x, y, 5, 0.4, 3))
    assert np.abs(P - instance_dependent(x, y, 5, 0.4, 4)).max() > 0.1
    moved = instance_dependent(x + 1.0, y, 5, 0.4, 3)
    own = np.arange(4000), y
    np.testing.assert_allclose(moved[own], P[own])  # how often a row flips comes from the seed alone
    assert np.abs(moved - P).max() > 0.1  # where it flips to comes from its features
    np.testing.assert_allclose(instance_dependent(x.reshape(-1, 2, 4), torch.tensor(y), 5, 0.4, 3), P)


def test_instance_destinations_are_a_softmax_of_linear_scores():
    """Among the other classes, log ratios of two destinations are linear in x with one set of weights per own class."""
    x, y = problem()
    P = instance_dependent(x, y, 5, 0.4, 3)
    slopes = []
    for own in range(5):
        a, b = [j for j in range(5) if j != own][:2]
        ratio = np.log(P[y == own, a] / P[y == own, b])
        slope, *_ = np.linalg.lstsq(x[y == own], ratio, rcond=None)
        np.testing.assert_allclose(x[y == own] @ slope, ratio, atol=1e-8)
        slopes.append(slope)
    # each is the difference of two standard normal vectors: its squares have mean 2 (40 values, so within 2 ± 1.4)
    assert 0.6 < np.mean(np.square(slopes)) < 3.4
    assert np.linalg.norm(slopes[0] - slopes[1]) > 0.1


def test_instance_noise_with_large_features_and_absent_classes():
    x, y = problem(n=200, K=2)
    P = instance_dependent(x * 1e6, y, 4, 0.3, 0)
    assert np.isfinite(P).all()
    np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-12)
    binary = instance_dependent(x, y, 2, 0.3, 0)
    np.testing.assert_allclose(binary[np.arange(200), 1 - y], 1 - binary[np.arange(200), y])
    realised = (corrupt(y, P, 0) != y).mean()
    assert realised == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 200))


# Estimates


def test_transition_matrix_by_hand():
    T = transition_matrix([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0], 2)
    np.testing.assert_array_equal(T, [[0.75, 0.25], [0.5, 0.5]])
    small = np.arange(100, dtype=np.uint8)  # 100 * 99 + 99 overflows uint8
    np.testing.assert_array_equal(transition_matrix(small, small, 100), np.eye(100))


def test_estimate_transition_finds_anchor_points():
    """Noisy posteriors p T, in which one row of each class is certain: the estimate is T itself."""
    T = 0.6 * np.eye(4) + 0.4 * random_transition(4, 3)
    rng = np.random.default_rng(0)
    clean = np.vstack([rng.dirichlet(np.ones(4), size=500), np.eye(4)])
    probs = clean[rng.permutation(504)] @ T
    # p(i|x) is largest at the anchor of i only where T[i, i] is the largest of its column
    assert (np.argmax(T, axis=0) == np.arange(4)).all()
    np.testing.assert_allclose(estimate_transition(probs), T, atol=1e-12)


def test_filter_outliers_ignores_the_top_three_percent_of_each_class_alone():
    """p(0|x) rises along the rows and p(1|x) falls: without the filter the last and the first row are the anchors."""
    n = 100
    first = np.linspace(0.1, 0.9, n)
    probs = np.stack([first, 1 - first], axis=1)
    np.testing.assert_allclose(estimate_transition(probs), [probs[99], probs[0]])
    # the 97th percentile is the value of rank 98 of 100 (np.quantile, "higher"), so ranks 98, 99 and 100 are left out
    np.testing.assert_allclose(estimate_transition(probs, filter_outliers=True), [probs[96], probs[3]])
    before = probs.copy()
    estimate_transition(probs, filter_outliers=True)
    np.testing.assert_array_equal(probs, before)


def test_filter_outliers_does_not_leak_between_classes():
    """Row 0 is an outlier of class 0 and, behind ten outliers, the anchor of class 2. Zeroing its first entry in place,
    as the original does, would turn T[2] = [.5, .05, .45] into [0, .1, .9]."""
    probs = np.tile([0.2, 0.7, 0.1], (200, 1))
    probs[:, 0] += np.linspace(0, 0.01, 200)
    probs[:, 1] -= np.linspace(0, 0.01, 200)
    probs[0] = [0.5, 0.05, 0.45]
    probs[1:11] = [0.01, 0.01, 0.98]
    T = estimate_transition(probs, filter_outliers=True)
    np.testing.assert_allclose(T[2], [0.5, 0.05, 0.45])


def test_filter_outliers_with_a_constant_model_keeps_its_prediction():
    probs = np.tile([0.25, 0.75], (50, 1))
    np.testing.assert_allclose(estimate_transition(probs, filter_outliers=True), probs[:2])


def test_estimate_transition_normalises_half_precision():
    probs = torch.softmax(torch.randn(50, 10, generator=torch.Generator().manual_seed(0)), dim=1).bfloat16()
    T = estimate_transition(probs)
    np.testing.assert_allclose(T.sum(axis=1), 1, atol=1e-12)
    assert np.abs(probs.double().sum(1).numpy() - 1).max() > 1e-5  # else this would test nothing


GOOD, Y = symmetric(3, 0.2), [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: symmetric(10, math.nan), ValueError, r"noise_rate: expected a number in \[0, 1\], got nan"),
        (lambda: symmetric(10, "0.2"), TypeError, r"noise_rate: expected a number in \[0, 1\], got '0\.2'"),
        (lambda: symmetric(1, 0.2), ValueError, r"num_classes: expected an integer of at least 2, got 1"),
        (
            lambda: symmetric(0.2, 10),
            TypeError,
            r"num_classes: expected an integer of at least 2, got 0\.2 of type float",
        ),
        (lambda: asymmetric(10, 0.2, []), ValueError, r"pairs: expected pairs .*got \[\]"),
        (lambda: asymmetric(10, 0.2, [(3, 3)]), ValueError, r"pairs: expected two different classes.*\[3, 3\]"),
        (lambda: asymmetric(10, 0.2, [(3, 10)]), ValueError, r"pairs: .*below num_classes=10, got \[3, 10\]"),
        (lambda: asymmetric(10, 0.2, [(1, 2), (1, 3)]), ValueError, r"pairs: expected each source class once.*1, 3"),
        (lambda: asymmetric(10, 0.2, [(1, 2, 3)]), ValueError, r"pairs: expected pairs .*got \[\[1, 2, 3\]\]"),
        (
            lambda: asymmetric(3, 0.2, None),
            ValueError,
            r"pairs: expected pairs \(source, destination\) of classes, got None",
        ),
        (lambda: corrupt([True, False], GOOD, 0), TypeError, r"labels: expected integers, got dtype bool; np\.unique"),
        (
            lambda: corrupt(np.array([0, 1], "O"), GOOD, 0),
            TypeError,
            r"labels: .*got dtype object; np\.unique\(labels",
        ),
        (lambda: corrupt([0.0, 1.0], GOOD, 0), TypeError, r"labels: expected integers, got dtype float64"),
        (lambda: corrupt([0, 3], GOOD, 0), ValueError, r"labels: expected classes 0 to 2, got 3"),
        (lambda: corrupt([[0, 1]], GOOD, 0), ValueError, r"labels: .*got shape \(1, 2\).*argmax\(1\)"),
        (lambda: corrupt([], GOOD, 0), ValueError, r"labels: expected .*at least one label, got shape \(0,\)"),
        (lambda: corrupt([[0], [1, 2]], GOOD, 0), ValueError, r"labels: expected an array, got rows of unequal length"),
        (lambda: corrupt(Y, GOOD, None), TypeError, r"seed: expected an integer of at least 0, got None"),
        (lambda: corrupt(Y, GOOD, 0, "Exact"), ValueError, r"mode: expected 'iid' or 'exact', got 'Exact'"),
        (lambda: corrupt(Y, GOOD * 1.1, 0), ValueError, r"T: expected rows that sum to 1, got 1\.1"),
        (lambda: corrupt(Y, [[1.1, -0.1], [0, 1]], 0), ValueError, r"T: expected probabilities .*got -0\.1"),
        (lambda: corrupt(Y, [[math.nan, 1], [0, 1]], 0), ValueError, r"T: expected probabilities .*got nan"),
        (lambda: corrupt(Y, [[0.9, 0.4], [0.1, 0.6]], 0), ValueError, r"T: .*got 1\.3 in row 0; its columns do"),
        (lambda: corrupt(Y, [1.0], 0), ValueError, r"T: expected two dimensions.*got shape \(1,\)"),
        (lambda: corrupt(Y, np.eye(3)[[0, 1]], 0), ValueError, r"T: expected shape \(3, 3\) or \(3, 3\).*got \(2, 3\)"),
        (lambda: corrupt([0] * 4, np.eye(3)[[0] * 4], 0, "exact"), ValueError, r"T: expected shape \(3, 3\) for mode"),
        (lambda: transition_matrix(Y, [0, 1], 3), ValueError, r"noisy: expected 3 labels.*got 2"),
        (lambda: transition_matrix([0, 0, 2], Y, 3), ValueError, r"clean: expected rows of all 3.*none of class 1"),
        (lambda: estimate_transition([[2.0, 3.0]]), ValueError, r"probs: expected rows that sum to 1, got 5 in row 0$"),
        (lambda: estimate_transition(GOOD, filter_outliers=0.97), TypeError, r"filter_outliers: expected True or"),
        (lambda: instance_dependent(np.eye(2), Y, 3, 0.2, 0), ValueError, r"x: expected shape \(3, \.\.\.\).*\(2, 2\)"),
        (lambda: instance_dependent(np.eye(3) * np.nan, Y, 3, 0.2, 0), ValueError, r"x: expected finite values"),
        (lambda: instance_dependent([["a"]] * 3, Y, 3, 0.2, 0), TypeError, r"x: expected real numbers, got dtype"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_rounding_residue_in_t_is_no_negative_probability():
    T = np.array([[0.9, 0.1, 1 - 0.9 - 0.1], [0, 1, 0], [0, 0, 1]])
    assert T.min() < 0
    assert set(corrupt(np.zeros(50, dtype=int), T, seed=0)) <= {0, 1}
