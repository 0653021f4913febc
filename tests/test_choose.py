"""The advice on noisy labels: coverage in simulations, estimates of T, the decision, and what is refused."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, make_moons
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from nls import GLSLoss, choose_rate, corrupt, noise_report, pair_flip, r_opt, symmetric
from nls.choose import _class_means, not_worse

matplotlib.use("Agg")
ROOT = Path(__file__).parents[1]

SETS = {"breast_cancer": load_breast_cancer, "iris": load_iris, "digits": load_digits}
SETS["moons"] = lambda return_X_y: make_moons(1500, noise=0.25, random_state=0)


def overlapping(n, T, seed):
    """Noisy labels with their true posteriors: classes on a circle at six standard deviations, Bayes error .2 %."""
    rng = np.random.default_rng(seed)
    K = len(T)
    angle = 2 * np.pi * np.arange(K) / K
    centres = 3 / np.sin(np.pi / K) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    clean = np.arange(n) % K
    x = centres[clean] + rng.standard_normal((n, 2))
    score = x @ centres.T - (centres**2).sum(axis=1) / 2
    posterior = np.exp(score - score.max(axis=1, keepdims=True))
    return corrupt(clean, T, seed), posterior / posterior.sum(axis=1, keepdims=True) @ T


ASYMMETRIC = np.array([[0.9, 0.1, 0.0], [0.0, 0.7, 0.3], [0.2, 0.0, 0.8]])
SIMULATED = {"symmetric": symmetric(3, 0.3), "clean": np.eye(3) * 0.97 + 0.01, "asymmetric": ASYMMETRIC}


@pytest.mark.parametrize("T", SIMULATED.values(), ids=SIMULATED)
def test_the_interval_of_the_noise_rate_covers_at_its_level_with_true_posteriors(T):
    """80 % in 150 draws of 900 labels, within three standard errors (.033 each)."""
    truth = 1 - np.diag(T).mean()
    reports = [noise_report(*overlapping(900, T, seed), level=0.8) for seed in range(150)]
    covered = np.mean([report.interval[0] <= truth <= report.interval[1] for report in reports])
    assert 0.7 <= covered <= 0.9
    assert np.mean([report.symmetric for report in reports]) == pytest.approx(float(T is not ASYMMETRIC), abs=0.05)


def confident_joint(labels, probs):
    """The estimate of T of Northcutt et al. (2021), calibrated to the counts of labels, as cleanlab computes it."""
    K = probs.shape[1]
    sure = probs >= [probs[labels == k, k].mean() for k in range(K)]
    row = np.where(sure, probs, -1).argmax(axis=1)[sure.any(axis=1)]
    joint = np.bincount(K * row + labels[sure.any(axis=1)], minlength=K * K).reshape(K, K)
    joint = joint / joint.sum(axis=0) * np.bincount(labels)
    return joint / joint.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def out_of_fold():
    """(T, labels, probabilities of logistic regression) of four sets with symmetric noise and flips to the next."""
    found = []
    for load in SETS.values():
        X, y = load(return_X_y=True)
        K = y.max() + 1
        for T in (symmetric(K, 0.3), pair_flip(K, 0.3) if K > 2 else np.array([[0.95, 0.05], [0.35, 0.65]])):
            noisy = corrupt(y, T, seed=1)
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
            folds = StratifiedKFold(5, shuffle=True, random_state=0)
            found.append((T, noisy, cross_val_predict(model, X, noisy, cv=folds, method="predict_proba")))
    return found


def test_the_estimate_of_t_is_better_than_the_confident_joint(out_of_fold):
    errors = [
        (np.abs(noise_report(y, p).T - T).mean(), np.abs(confident_joint(y, p) - T).mean()) for T, y, p in out_of_fold
    ]
    ours, theirs = np.mean(errors, axis=0)
    assert ours < theirs
    assert (np.diff(errors, axis=1) > -0.02).all()


def test_symmetric_noise_is_told_from_flips_to_the_next_class(out_of_fold):
    reports = [noise_report(y, p) for _, y, p in out_of_fold]
    assert [report.symmetric for report in reports] == [True, False] * len(SETS)
    for report in reports:
        assert ("r_opt" in str(report)) == report.symmetric
        assert ("forward_correction" in str(report)) != report.symmetric


def many_classes(T, per, seed):
    """`per` noisy labels of each class, and posteriors that are sure of the clean one."""
    K, rng = len(T), np.random.default_rng(1000 + seed)
    clean = np.repeat(np.arange(K), per)
    sure = rng.uniform(0.85, 0.99, (len(clean), 1))
    return corrupt(clean, T, seed), (sure * np.eye(K)[clean] + (1 - sure) / (K - 1) * (1 - np.eye(K)[clean])) @ T


@pytest.mark.parametrize(
    ("T", "per", "same"),
    [
        (pair_flip(100, 0.2), 100, False),
        (pair_flip(100, 0.3), 20, False),
        (pair_flip(50, 0.3), 20, False),
        (symmetric(100, 0.2), 100, True),
        (symmetric(100, 0.3), 20, True),
    ],
)
def test_many_classes_with_few_rows_hide_no_asymmetry(T, per, same):
    """Chance alone puts .86 to .96 of these flips out of place: what is beyond chance tells, and is printed alone."""
    report = noise_report(*many_classes(T, per, 0))
    assert report.symmetric == same and report.uneven > 0.85
    assert f"{report.uneven:.0%}" not in str(report) or not same


@pytest.mark.parametrize(("K", "per", "repetitions"), [(100, 20, 20), (10, 100, 60)])
def test_the_interval_covers_with_few_rows_of_many_classes_too(K, per, repetitions):
    """At 95 %, and without a pull towards 1/2 from each class."""
    found = [noise_report(*many_classes(symmetric(K, 0.2), per, seed)).interval for seed in range(repetitions)]
    assert np.mean([low <= 0.2 <= high for low, high in found]) >= 0.85
    middle = np.mean([(low + high) / 2 for low, high in found])
    assert middle == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("order", ["random", "by label"])
def test_the_order_of_rows_with_saturated_probabilities_is_of_no_account(order):
    """As of a float32 softmax at a negative rate: 1.0 in most rows. The labels of all tied rows count."""
    rng = np.random.default_rng(0)
    clean, K = np.arange(900) % 3, 3
    labels = corrupt(clean, symmetric(K, 0.3), 0, mode="exact")
    probs = np.eye(K)[clean]
    unsure = rng.random(900) < 0.1
    probs[unsure] = 0.9 * probs[unsure] + 0.1 / K
    rows = rng.permutation(900) if order == "random" else np.argsort(labels != clean, kind="stable")
    report, other = noise_report(labels, probs), noise_report(labels[rows], probs[rows])
    np.testing.assert_allclose(other.T, report.T, rtol=0, atol=1e-12)
    found = [(r.noise_rate, *r.interval, r.uneven) for r in (report, other)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-12)
    tied = [np.bincount(labels[~unsure & (clean == k)], minlength=K) for k in range(K)]
    np.testing.assert_allclose(report.T, tied / np.sum(tied, axis=1, keepdims=True), rtol=0, atol=1e-12)


def test_r_opt_carries_the_interval_of_the_noise_rate():
    report = noise_report(*overlapping(900, symmetric(3, 0.3), 0))
    assert report.r_opt == tuple(r_opt(e, 3) for e in (report.noise_rate, report.interval[1], report.interval[0]))
    rng = np.random.default_rng(0)
    hopeless = noise_report(rng.integers(0, 2, 300), rng.dirichlet([1, 1], 300))
    assert hopeless.r_opt[1] == -np.inf and hopeless.eta[2] > 1 and "-inf" in str(hopeless)
    assert "labels drawn at random" in str(replace(hopeless, noise_rate=0.5))


def test_a_report_of_no_wrong_label_names_the_likeliest_mistake():
    labels = np.random.default_rng(0).integers(0, 2, 600)
    report = noise_report(labels, np.where(np.eye(2)[labels] == 1, 0.996, 0.004))  # as if a network had memorised them
    assert report.noise_rate == 0 and "have to be out of sample" in str(report)


# The set and the decision --------------------------------------------------------------------------------------------


def folds_of(mean, rng, N=1000, cv=5, repeats=3):
    """Fold means of rates, neighbours alike, whose overlap has the correlation that Nadeau and Bengio assume."""
    m, J = len(mean), cv * repeats
    s = np.arange(m)
    root = np.linalg.cholesky(0.25 * np.exp(-np.abs(s[:, None] - s) / 3) + 1e-12 * np.eye(m))
    shared, own = rng.standard_normal((1, m)) @ root.T, rng.standard_normal((J, m)) @ root.T
    return mean + np.sqrt(cv / N) * (np.sqrt(1 / cv) * shared + np.sqrt(1 - 1 / cv) * own)


@pytest.mark.slow
def test_the_set_keeps_all_tied_rates_at_its_level():
    rng = np.random.default_rng(0)
    tied = [not_worse(folds_of(np.full(6, 0.7), rng), 5, 0.8, 0)[0].all() for _ in range(150)]
    assert 0.7 <= np.mean(tied) <= 0.9  # three standard errors
    mean = np.array([0.3, 0.5, 0.7, 0.7, 0.7, 0.5])
    kept = np.array([not_worse(folds_of(mean, rng), 5, 0.8, 0)[0] for _ in range(150)])
    assert 0.7 <= kept[:, 2:5].all(axis=1).mean() <= 0.9  # as the others leave first
    assert kept[:, [0, 1, 5]].mean() < 0.01


def test_rates_with_the_same_predictions_stay_together():
    folds = folds_of(np.array([0.7, 0.7, 0.2]), np.random.default_rng(0))
    folds[:, 1] = folds[:, 0]
    assert not_worse(folds, 5, 0.95, 0)[0].tolist() == [True, True, False]


def test_a_difference_that_never_varies_is_the_strongest_evidence():
    folds = np.column_stack([np.full(15, 0.5), np.ones(15), np.ones(15)])
    assert not_worse(folds, 5, 0.95, 0)[0].tolist() == [False, True, True]


# Choosing ------------------------------------------------------------------------------------------------------------


class Oracle(ClassifierMixin, BaseEstimator):
    """Knows the clean label, column 0 of X, and errs on rows by chance, more often the further its rate is from -2."""

    def __init__(self, rate=0.0, slope=0.1, random_state=None):
        self.rate, self.slope, self.random_state = rate, slope, random_state

    def fit(self, X, y):
        self.classes_, self.seen_ = np.unique(y), {x.tobytes() for x in X}
        return self

    def predict_proba(self, X):
        assert not self.seen_ & {x.tobytes() for x in X}
        K, clean = len(self.classes_), X[:, 0].astype(int)
        wrong = np.random.default_rng(self.random_state).random(len(X)) < 0.02 + self.slope * abs(self.rate + 2)
        return 0.9 * np.eye(K)[(clean + wrong) % K] + 0.1 / K

    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)


def oracle_data(n=600, K=3, eps=0.2, seed=0):
    clean = np.arange(n) % K
    return np.stack([clean, np.arange(n)], axis=1).astype(float), corrupt(clean, symmetric(K, eps), seed, mode="exact")


def test_choose_rate_finds_the_best_rate_and_the_noise():
    X, labels = oracle_data()
    X[1::4], labels[1::4] = X[0::4], labels[0::4]  # duplicates, which Oracle refuses to meet again
    choice = choose_rate(Oracle(), X, labels, [0.5, 0, -2], param="rate")
    assert choice.rate == -2 and choice.not_worse == (-2.0,) and choice.folds.shape == (15, 3)
    assert abs(choice.noise.noise_rate - 0.2) < 0.05 and choice.noise.symmetric
    table = choice.table
    assert table.loc[-2, ["difference", "low", "high"]].tolist() == [0, 0, 0]
    np.testing.assert_allclose(table["clean_difference"], table["difference"] / (1 - choice.noise.eta[0]))
    assert (table["clean_low"] <= table["clean_difference"]).all()
    assert (table["clean_high"] >= table["clean_difference"]).all() and (table["clean_low"] <= table["low"]).all()
    text = str(choice)
    assert "Rate -2" in text and "cross entropy is shown worse" in text and "3 times as long" in text
    again = choose_rate(Oracle(), X, labels, [0.5, 0, -2], param="rate")
    assert str(again) == text


class Strict(Oracle):
    """Refuses rows of a group, column 1 of X, that it was trained on."""

    def fit(self, X, y):
        self.groups_ = set(X[:, 1])
        return super().fit(X, y)

    def predict_proba(self, X):
        assert self.groups_.isdisjoint(X[:, 1])
        return super().predict_proba(X)


class Reader(Oracle):
    """Of texts: the clean label and a number."""

    def fit(self, X, y):
        self.classes_, self.seen_, self.texts_ = np.unique(y), set(), set(X)
        return self

    def predict_proba(self, X):
        assert self.texts_.isdisjoint(X)
        return super().predict_proba(np.array([[float(text.split()[0])] for text in X]))


@pytest.mark.parametrize("kind", [pd.Series, lambda texts: np.array(texts, dtype=object), np.array])
def test_texts_are_rows_and_equal_ones_a_group(kind):
    texts = [f"{i % 2} {i // 4}" for i in range(600)]
    assert choose_rate(Reader(), kind(texts), np.arange(600) % 2, [0, -2], param="rate").rate == -2


def test_groups_stay_in_one_fold_of_all_kinds():
    X, labels = oracle_data()
    groups = np.arange(600) // 4
    X = np.column_stack([X[:, 0], groups, np.arange(600)])
    assert choose_rate(Strict(), X, labels, [0, -2], param="rate", groups=groups).rate == -2
    with pytest.raises(AssertionError):
        choose_rate(Strict(), X, labels, [0, -2], param="rate")


class Saturated(Oracle):
    """As a network does: the more negative its rate, the nearer its probabilities are to 0 and 1."""

    def predict_proba(self, X):
        probs = super().predict_proba(X) ** (1 - self.rate)
        return probs / probs.sum(axis=1, keepdims=True)


def test_the_noise_is_read_from_the_rate_nearest_0():
    choice = choose_rate(Saturated(), *oracle_data(), [0.9, -1, -2], param="rate")
    assert choice.rate == -2
    assert choice.pred_probs.max() == pytest.approx(0.9333**2 / (0.9333**2 + 2 * 0.0333**2), abs=1e-3)
    assert str(choice.noise) == str(noise_report(oracle_data()[1], choice.pred_probs))


def test_choose_rate_says_when_labels_cannot_tell():
    choice = choose_rate(Oracle(slope=0.001), *oracle_data(90), [0.4, 0, -1], param="rate")
    assert len(choice.not_worse) == 3 and "cannot tell" in str(choice)
    assert str(choice).endswith(f"In short: train at rate {choice.rate:g}, the best guess.")


def test_choose_rate_withholds_the_theory_where_noise_is_not_symmetric():
    X, _ = oracle_data()
    choice = choose_rate(Oracle(), X, corrupt(X[:, 0].astype(int), pair_flip(3, 0.3), 0), [0, -2], param="rate")
    assert not choice.noise.symmetric and choice.table["clean_difference"].isna().all()
    assert "; try forward correction" in str(choice).splitlines()[-1]
    assert "forward_correction" in str(choice) and "points of noisy accuracy would" in str(choice)


def test_the_difference_that_could_be_shown_is_undefined_between_rates_that_predict_the_same():
    choice = choose_rate(Oracle(slope=0.0), *oracle_data(90), [0, -1], param="rate")
    assert np.isnan(choice.detectable) and "could be shown is undefined" in str(choice)
    assert "would have been shown" not in str(choice) and "nan" not in str(choice)
    twice = choose_rate(Oracle(), *oracle_data(), [-1, -3, 0], param="rate")  # -1 and -3 predict the same
    assert twice.detectable > 0.001 and "points of clean accuracy would have been shown" in str(twice)
    assert "No difference of clean accuracy could have been shown" in str(replace(twice, detectable=1.2))


def test_class_means_speak_for_a_negative_rate_only_where_they_are_shown_better():
    choice = choose_rate(Oracle(), *oracle_data(90), [0, -2], param="rate")
    for limits, said in (
        ((0.05, 0.01, 0.09), "A strongly negative rate may help"),
        ((0.05, -0.01, 0.11), "This does not tell whether a strongly negative rate"),
        ((-0.05, -0.09, -0.01), "Expect no gain from a strongly negative rate"),
    ):
        text = str(replace(choice, class_mean=limits))
        assert said in text and ("may help: " in text) == (limits[1] > 0)


class Diverging(Oracle):
    """Gives NaN at its `broken` rates with the seeds below `until`."""

    def __init__(self, rate=0.0, slope=0.1, random_state=None, broken=(), until=9):
        super().__init__(rate, slope, random_state)
        self.broken, self.until = broken, until

    def predict_proba(self, X):
        probs = super().predict_proba(X)
        return probs * np.nan if self.rate in self.broken and self.random_state < self.until else probs


def test_a_rate_at_which_training_diverges_loses_and_is_reported():
    X, labels = oracle_data()
    choice = choose_rate(Diverging(broken=[-2, 0]), X, labels, [0, -1, -2], param="rate", cv=2)
    assert choice.rate == -1 and choice.table["diverged"].tolist() == [6, 0, 6]
    assert choice.table["accuracy"][[0, -2]].tolist() == [0, 0]
    assert "diverged at rate -2 in 6 of 6 folds" in str(choice) and "at rate -1 in" not in str(choice)
    assert np.isfinite(choice.pred_probs).all() and abs(choice.noise.noise_rate - 0.2) < 0.06


def test_no_rate_that_diverges_is_taken_over_one_that_is_always_right():
    X, labels = oracle_data(eps=0)
    choice = choose_rate(Diverging(broken=[0], slope=-0.02), X, labels, [0, -1], param="rate")
    assert choice.rate == -1 and choice.not_worse == (-1.0,) and (choice.folds == [0, 1]).all()
    assert "These labels cannot" not in str(choice) and "cross entropy is shown worse" in str(choice)


def test_repetitions_that_did_not_diverge_are_enough():
    X, labels = oracle_data()
    choice = choose_rate(Diverging(broken=[-2, 0], until=1), X, labels, [0, -2], param="rate", cv=2)
    assert (choice.folds[:2] == 0).all() and (choice.folds[2:] > 0.5).all()
    assert choice.table["diverged"].tolist() == [2, 2] and "diverged at rate 0 in 2 of 6 folds" in str(choice)
    np.testing.assert_allclose(choice.pred_probs.sum(axis=1), 1)


def test_training_that_diverges_at_every_rate_is_said_to():
    with pytest.raises(ValueError, match=r"diverged at every rate \(NaN in 6, 6 of 6 folds at 0, -2\)"):
        choose_rate(Diverging(broken=[-2, 0]), *oracle_data(90), [0, -2], param="rate", cv=2)


def with_a_hole(X, value=np.nan, row=7):
    X = X.copy()
    X[[row, row + 20], -1] = value
    return X


def test_holes_that_a_pipeline_fills_cost_no_training():
    X, labels = oracle_data(90)
    pipe = make_pipeline(SimpleImputer(keep_empty_features=True), Oracle())
    choice = choose_rate(pipe, with_a_hole(X), labels, [0, -2], param="oracle__rate")
    assert choice.class_mean is not None
    empty = np.column_stack([X, np.full(90, np.nan)])
    choice = choose_rate(pipe, pd.DataFrame(empty), labels, [0, -2], param="oracle__rate")
    assert np.isfinite(choice.class_mean).all()


@pytest.mark.parametrize("form", [np.asarray, csr_array], ids=["dense", "sparse"])
def test_class_means_of_features_that_are_constant_within_classes(form):
    X, labels = np.eye(3)[np.arange(90) % 3], np.arange(90) % 3
    splits = list(StratifiedKFold(3).split(X, labels))
    assert _class_means(form(X), labels, [splits]).tolist() == [1, 1, 1]


def test_class_means_that_cannot_be_computed_are_none_and_said_to_be():
    X, labels = oracle_data(90)
    for other in (np.ones((90, 2)), np.full((90, 2), "a")):
        assert _class_means(other, labels, [list(StratifiedKFold(3).split(X, labels))]) is None
    text = str(replace(choose_rate(Oracle(), X, labels, [0, -2], param="rate"), class_mean=None))
    assert "Class means cannot be computed" in text and "do not tell whether" in text


def test_the_plot_shows_every_rate_and_rises_to_the_right():
    choice = choose_rate(Oracle(), *oracle_data(), [-2, 0, 0.5], param="rate")
    ax = choice.plot()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["-2", "0", "0.5"]
    assert (np.diff(ax.get_xticks()) > 0).all()
    plt.close(ax.figure)


def network(**changes):
    arguments = {"criterion": GLSLoss, "criterion__smooth_rate": 0.0, "predict_nonlinearity": nn.Softmax(-1)}
    arguments |= {
        "train_split": None,
        "verbose": 0,
        "max_epochs": 1,
        "module__in_features": 2,
        "module__out_features": 3,
    }
    arguments |= changes
    return NeuralNetClassifier(**{"module": nn.Linear} | {k: v for k, v in arguments.items() if v is not ...})


class Probabilities(nn.Linear):
    def forward(self, x):
        return super().forward(x).softmax(-1)


def piped(net, X):
    return choose_rate(make_pipeline(StandardScaler(), net), X, Y, param="neuralnetclassifier__criterion__smooth_rate")


def test_a_network_of_skorch_needs_no_code():
    X, labels = oracle_data(60)
    X = X.astype("float32")
    for net, param in (
        (network(), "criterion__smooth_rate"),
        (make_pipeline(network()), "neuralnetclassifier__criterion__smooth_rate"),
    ):
        choice = choose_rate(net, X, labels, [0, -2], param=param, cv=2)
        assert choice.pred_probs.shape == (60, 3) and choice.class_mean is not None
    net, state = network(), torch.random.get_rng_state()
    choose_rate(net, X, labels, [0, -2], cv=2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_rates_share_their_initial_weights_and_repetitions_do_not():
    X, labels = oracle_data(60)
    arguments = X.astype("float32"), labels, [0, -2]
    weights = []

    def remembering(*sizes, **named):
        weights.append((net := nn.Linear(*sizes, **named)).weight.detach().clone())
        return net

    one = choose_rate(network(module=remembering), *arguments, cv=2)
    begun = torch.stack(weights[-12:]).view(3, 2, -1)  # repetitions, rates, weights in the folds
    assert torch.equal(begun[:, 0], begun[:, 1]) and not torch.isclose(begun[0], begun[1]).any()
    other = choose_rate(network(), *arguments, cv=2, n_jobs=2)
    np.testing.assert_array_equal(one.folds, other.folds)
    np.testing.assert_array_equal(one.pred_probs, other.pred_probs)


X, Y = oracle_data(60)
P = np.full((60, 3), 1 / 3)
BAD = {
    "label range": (lambda: noise_report(Y + 1, P), ValueError, "labels: expected classes 0 to 2, got 3"),
    "label type": (lambda: noise_report(Y + 0.5, P), TypeError, "labels: expected integers.* leave out rows without"),
    "class missing": (
        lambda: noise_report(np.minimum(Y, 1), P),
        ValueError,
        "labels: expected at least 10 rows of each",
    ),
    "sum": (lambda: noise_report(Y, P * 2), ValueError, "pred_probs: expected rows that sum to 1"),
    "length": (lambda: noise_report(Y, P[:50]), ValueError, "pred_probs: expected 60 rows"),
    "in sample": (
        lambda: noise_report(Y, 0.5 * np.eye(3)[Y] + 0.5 / 3),
        ValueError,
        "pred_probs: expected out-of-sample",
    ),
    "level": (lambda: noise_report(Y, P, level=95), ValueError, "level: expected a number in"),
    "level 0": (lambda: noise_report(Y, P, level=0), ValueError, r"level: expected a number in \(0, 1\)"),
    "level 1": (lambda: choose_rate(Never(), X, Y, param="rate", level=1.0), ValueError, "level: expected a number in"),
    "few rows": (
        lambda: choose_rate(Never(), X[:27], Y[:27], param="rate"),
        ValueError,
        "labels: expected at least 10",
    ),
    "rate": (
        lambda: choose_rate(Never(), X, Y, [0, 1.5], param="rate"),
        ValueError,
        "rates: expected finite rates below 1",
    ),
    "one rate": (lambda: choose_rate(Never(), X, Y, [0], param="rate"), ValueError, "rates: expected two or more"),
    "repeats": (
        lambda: choose_rate(Never(), X, Y, param="rate", repeats=1),
        ValueError,
        "repeats: expected an integer of",
    ),
    "rows": (
        lambda: choose_rate(Never(), X[:50], Y, param="rate"),
        ValueError,
        "X: expected an array or a data frame of 60",
    ),
    "NaN": (lambda: choose_rate(Never(), with_a_hole(X), Y, param="rate"), ValueError, "X: .* first in row 7$"),
    "infinite": (lambda: choose_rate(Never(), with_a_hole(X, -np.inf), Y, param="rate"), ValueError, "X: .* in row 7$"),
    "sparse NaN": (
        lambda: choose_rate(Never(), csr_array(with_a_hole(X)), Y, param="rate"),
        ValueError,
        "X: .* first in row 7$",
    ),
    "None in a frame": (
        lambda: choose_rate(Never(), pd.DataFrame(with_a_hole(X.astype(object), None)), Y, param="rate"),
        ValueError,
        "X: .* first in row 7$",
    ),
    "NaN after a pipeline": (
        lambda: choose_rate(make_pipeline(StandardScaler(), Never()), with_a_hole(X), Y, param="never__rate"),
        ValueError,
        "X after the first steps of the pipeline: .* first in row 7; .*SimpleImputer",
    ),
    "few groups": (
        lambda: choose_rate(Never(), X, Y, param="rate", groups=np.zeros(60)),
        ValueError,
        "groups: expected at least 5 of rows, one a fold, got 1",
    ),
    "a class": (lambda: choose_rate(Never, X, Y), TypeError, "estimator: expected an object .*got <class .*Never"),
    "groups": (lambda: choose_rate(Never(), X, Y, param="rate", groups=[1, 2]), ValueError, "groups: expected shape"),
    "a class in one group": (
        lambda: choose_rate(Never(), X, Y, param="rate", groups=np.where(Y == Y[0], -1, np.arange(60))),
        ValueError,
        r"groups: expected each class in more than one fold, got all rows of class \d in one",
    ),
    "groups missing": (
        lambda: choose_rate(Never(), X, Y, param="rate", groups=[None] * 40 + ["a"] * 20),
        ValueError,
        r"groups: expected shape \(60,\) without missing values, got \(60,\) with 40 missing",
    ),
    "param": (lambda: choose_rate(Never(), X, Y, param="alpha"), ValueError, "param: expected a parameter"),
    "criterion": (
        lambda: choose_rate(network(criterion=nn.CrossEntropyLoss, criterion__smooth_rate=...), X, Y),
        ValueError,
        "param: expected a",
    ),
    "logits": (
        lambda: choose_rate(network(predict_nonlinearity=None), X.astype("f"), Y),
        ValueError,
        "estimator: expected predict_proba to give",
    ),
    "logits in a pipeline": (
        lambda: piped(network(predict_nonlinearity=None), X.astype("f")),
        ValueError,
        "estimator: expected predict_proba to give",
    ),
    "probabilities for logits": (
        lambda: choose_rate(network(module=Probabilities), X.astype("f"), Y),
        ValueError,
        "estimator: expected a network that ends in logits.*got probabilities",
    ),
    "float64": (lambda: choose_rate(network(), X, Y), ValueError, r"X: .*got float64 rows of shape \(2,\): .*float32"),
    "float64 in a pipeline": (lambda: piped(network(), X), ValueError, "X: .*got float64 rows .*float32"),
    "width": (
        lambda: choose_rate(network(module__in_features=5), X.astype("f"), Y),
        ValueError,
        r"X: expected rows that the network takes, got float32 rows of shape \(2,\): .*multiplied.*\)$",
    ),
    "text in a pipeline": (lambda: piped(network(), np.full((60, 2), "a")), ValueError, "X: expected what the first"),
    "param without its steps": (
        lambda: choose_rate(make_pipeline(StandardScaler(), network()), X.astype("f"), Y),
        ValueError,
        "param: expected a .*this estimator has 'neuralnetclassifier__criterion__smooth_rate'$",
    ),
    "label_smoothing of torch": (
        lambda: choose_rate(
            network(criterion=nn.CrossEntropyLoss, criterion__smooth_rate=...),
            X.astype("f"),
            Y,
            param="criterion__label_smoothing",
        ),
        ValueError,
        "param: expected a loss that knows rates below 0",
    ),
    "names": (
        lambda: choose_rate(Never(), X, np.array(["a", "b", "c"], dtype=object)[Y], param="rate"),
        TypeError,
        "labels: expected integers, got dtype object; np.unique",
    ),
    "from 1": (lambda: choose_rate(Never(), X, Y + 1, param="rate"), ValueError, "labels: .*got 0 of 0; np.unique"),
    "missing label": (
        lambda: choose_rate(Never(), X, np.where(np.arange(60) == 5, -1, Y), param="rate"),
        ValueError,
        "labels: expected classes counted from 0, got -1, in pandas the code of a missing label; np.unique",
    ),
    "classes": (
        lambda: choose_rate(network(module__out_features=2), X.astype("f"), Y),
        ValueError,
        "estimator: expected probabilities of 3",
    ),
    "no estimator": (
        lambda: choose_rate(nn.Linear(2, 3), X, Y),
        TypeError,
        "estimator: expected an object with set_params",
    ),
}


class Never(Oracle):
    def fit(self, X, y):
        raise AssertionError("trained before the arguments were checked")


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named_before_any_training(call, error, message, monkeypatch):
    monkeypatch.setattr(NeuralNetClassifier, "fit", Never.fit)
    with pytest.raises(error, match=f"^{message}"):
        call()
