"""Which smooth rate for my labels: an answer from the noisy labels alone.

`choose_rate` cross-validates the rate of any scikit-learn estimator that has it as a parameter, skorch's among them.
It needs the package's extra `choose`. Wrong arguments end in an error before any training.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from .checks import check_every_class, check_integer, check_level
from .losses import GLSLoss
from .noise import DRAWS, NoiseReport, noise_from
from .theory import smoothing_scale

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

RATES = (0.4, 0.0, -1.0, -2.0, -4.0, -8.0)  # the default, and what notebook 11 studies


@dataclass(frozen=True)
class RateChoice:
    """A smooth rate with what it rests on; `str` says it in sentences, `plot` draws it.

    Attributes:
        rate: the decision, the rate of the best mean.
        not_worse: the rates that are not shown worse than another one. With probability `level` it holds every rate
            that is as good as the best.
        table: by rate: `accuracy` on noisy labels out of fold, its `difference` from the best mean with the limits
            `low` and `high`, which hold for all rates at once, `not_worse`, the difference of clean accuracy with its
            limits (`clean_difference`, `clean_low`, `clean_high`; NaN unless the noise is symmetric), and `diverged`,
            the number of folds in which training did: probabilities that are NaN count as wrong predictions.
        noise: `noise_report` of the out-of-fold probabilities of the rate nearest 0 (of those that gave each row some),
            the least saturated ones: negative rates drive them to 0 and 1, where they no longer tell sure rows from
            doubtful ones.
        pred_probs: (N, K), these probabilities, means over the repetitions that did not diverge.
        detectable: the difference of clean accuracy (noisy, unless symmetric) that had a chance of 80 % to be shown;
            NaN where no difference from the best varies over folds.
        class_mean: by how much a class-mean classifier beats the rate nearest 0 on noisy labels out of fold, with
            limits; None where class means cannot be computed, as where the inputs are no plain numbers.
        folds: (repeats * cv, len(rates)), the accuracy of each fold.
    """

    rate: float
    level: float
    not_worse: tuple[float, ...]
    table: "pd.DataFrame" = field(repr=False)
    noise: NoiseReport
    pred_probs: np.ndarray = field(repr=False)
    detectable: float
    class_mean: tuple[float, float, float] | None
    folds: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        accuracy, zero = self.table["accuracy"], _nearest_zero(self.table.index)
        named = "cross entropy" if zero == 0 else f"rate {zero:g}"
        shown = ", ".join(f"{r:g}" for r in self.not_worse)
        lines = [
            f"Rate {self.rate:g}: accuracy on the noisy labels out of fold {accuracy[self.rate]:.3f}, against "
            f"{accuracy[zero]:.3f} of {named} ({len(self.folds)} folds)."
        ]
        if len(self.not_worse) == len(self.table):
            lines.append(
                f"These labels cannot tell: none of the {len(self.table)} rates is shown worse than another; "
                f"{self.rate:g} is no more than the best guess."
            )
        else:
            verdict = "is not shown worse" if zero in self.not_worse else "is shown worse"
            lines.append(
                f"Not shown worse than any other ({self.level:.0%}, all together): {shown}; {named} {verdict}."
            )
        for rate, count in self.table["diverged"][self.table["diverged"] > 0].items():
            lines.append(
                f"Training diverged at rate {rate:g} in {count} of {len(self.folds)} folds: what it gave as NaN there "
                "counts as wrong."
            )
        kind = "clean" if self.noise.symmetric else "noisy"
        if math.isnan(self.detectable):
            lines.append(
                "The difference that could be shown is undefined: no rate's distance from the best varies over folds."
            )
        elif self.detectable > 1:
            lines.append(f"No difference of {kind} accuracy could have been shown with so few labels.")
        else:
            lines.append(
                f"A difference of {100 * self.detectable:.1f} points of {kind} accuracy would have been shown four "
                "times out of five; smaller ones may be there unseen."
            )
        lines.append(str(self.noise))
        if self.class_mean:
            gain, low, high = (100 * g for g in self.class_mean)
            word = "better than" if low > 0 else "worse than" if high < 0 else "as good, as far as can be told, as"
            hint = (
                "A strongly negative rate may help: it draws the network towards them."
                if low > 0
                else "Expect no gain from a strongly negative rate: it draws the network towards them."
                if high < 0
                else "This does not tell whether a strongly negative rate, which draws the network towards them, helps."
            )
            lines.append(
                f"Class means are {word} {named} here ({gain:+.1f} points of noisy accuracy, {low:+.1f} to "
                f"{high:+.1f}). {hint}"
            )
        else:
            lines.append(
                "Class means cannot be computed from these inputs, so they do not tell whether a strongly negative "
                "rate, which draws the network towards them, may help."
            )
        if self.rate < 0:
            lines.append(
                "Training: keep the optimiser, the learning rate and the epochs of the folds. Under SGD a step at this "
                f"rate is {1 - self.rate:g} times as long as cross entropy's, and some of the difference may be the "
                "step's; Adam makes them equal. If the accuracy falls together with the loss, as it may with more than "
                "two classes, begin with some epochs of cross entropy."
            )
        guess = ", the best guess" if len(self.not_worse) == len(self.table) else ""
        beside = "try forward correction with noise.T beside it, and keep what does better out of fold"
        also = "" if self.noise.symmetric else f"; {beside}"
        lines.append(f"In short: train at rate {self.rate:g}{guess}{also}.")
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Accuracy over s = -log(1 - r), on which smoothing and noise add; filled: not shown worse; band: `r_opt`."""
        import matplotlib.pyplot as plt

        ax = ax or plt.subplots(figsize=(6, 3.6), layout="constrained")[1]
        s = smoothing_scale(self.table.index.to_numpy())
        error = self.table["high"] - self.table["difference"]
        for x, rate, y, half in zip(s, self.table.index, self.table["accuracy"], error, strict=True):
            colour = "tab:green" if rate < 0 else "tab:red" if rate > 0 else "0.4"
            face = colour if rate in self.not_worse else "white"
            ax.errorbar(x, y, half, fmt="o", color=colour, markerfacecolor=face, capsize=3)
        _, low, high = self.noise.r_opt
        if self.noise.symmetric and math.isfinite(low):
            label = f"r_opt of the estimated noise, {self.level:.0%}"
            ax.axvspan(*smoothing_scale([low, high]), color="0.85", zorder=0, label=label)
        ax.axvline(smoothing_scale(self.rate), color="0.2", lw=1, ls=":", label=f"chosen: {self.rate:g}")
        ax.plot([], [], "o", color="0.4", label="not shown worse (open: shown worse)")
        ax.errorbar([], [], [], color="0.4", capsize=3, label="limits of the difference from the best")
        ax.set_xticks(s, [f"{rate:g}" for rate in self.table.index])
        ax.set(xlabel="smooth rate r, on the scale −log(1 − r)", ylabel="accuracy on noisy labels,\nout of fold")
        above = {"loc": "lower center", "bbox_to_anchor": (0.45, 1)}
        ax.legend(fontsize="small", frameon=False, ncols=2, columnspacing=1, handlelength=1, **above)
        return ax


def choose_rate(
    estimator: Any,
    X: Any,
    labels: ArrayLike,
    rates: Sequence[float] = RATES,
    *,
    param: str = "criterion__smooth_rate",
    cv: int = 5,
    repeats: int = 3,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
    n_jobs: int | None = None,
) -> RateChoice:
    """The smooth rate for noisy labels, by repeated stratified cross-validation on all of them, at the end of training.

    All rates share folds and initialisations, and each repetition has new ones, so differences are paired. Their error
    is that of repeated folds, whose training sets overlap: variance * (1/J + n_test/n_train) for J folds (Nadeau and
    Bengio 2003). The rates not shown worse come from the largest t of all pairs, step by step as rates drop out; the
    rate of the best mean is chosen. What is said of the noise rests on the rate nearest 0, whichever is chosen.

    All rates train as long as the estimator says. To choose the number of epochs too, call once for each number and
    take the call whose `table["accuracy"]` reaches highest: with the same `seed` all calls share their folds. With 0
    among the rates that compares with cross entropy that is stopped, too.

    Args:
        estimator: has `param` and `predict_proba`. Let it train with Adam: under SGD a rate's steps are 1 - r times as
            long as cross entropy's. Of networks, skorch's `NeuralNetClassifier(module, criterion=GLSLoss,
            criterion__smooth_rate=0.0, predict_nonlinearity=nn.Softmax(-1), train_split=None)`, say, or a pipeline.
            `module` is a class or a function there: a built network would start every fold from the same weights.
        X: (N, ...), an array, a sparse matrix or a data frame of rows, in the type that the estimator takes. NaN and
            infinite values only where the first steps of a pipeline replace them.
        labels: (N,), noisy, 0 ... K-1, at least 10 of each class, and `cv`.
        rates: smooth rates below 1, at least two.
        param: the rate's name in `estimator.set_params`.
        cv, repeats: folds and repetitions, at least 2 and 3: len(rates) * cv * repeats trainings.
        groups: (N,), none missing: rows of one group stay in one fold; equal rows of X, if not given.
        level: of all intervals and of the set, above 0 and below 1.
        seed: of folds, initialisations and draws.
        n_jobs: rates trained side by side, as in scikit-learn.

    Returns:
        A `RateChoice`: print it.

    Raises:
        ImportError: without pandas and scikit-learn, which the package's extra `choose` installs.
    """
    try:
        import pandas as pd
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"choose_rate needs the package's extra, pip install '.[choose]' in a clone: {error}"
        ) from error
    from scipy.stats import t

    rates, level, seed = _rates(rates), check_level(level), check_integer("seed", seed, 0)
    cv, repeats = check_integer("cv", cv, 2), check_integer("repeats", repeats, 3)
    labels = check_every_class(labels, None, cv)
    if not hasattr(X, "shape") or X.shape[0] != len(labels):
        shape = getattr(X, "shape", type(X).__name__)
        raise ValueError(f"X: expected an array or a data frame of {len(labels)} rows, one a label, got {shape}")
    groups = _equal_rows(X) if groups is None else np.asarray(groups)
    if groups.shape != labels.shape or pd.isna(groups).any():
        missing = f" with {pd.isna(groups).sum()} missing" if groups.shape == labels.shape else ""
        raise ValueError(f"groups: expected shape {labels.shape} without missing values, got {groups.shape}{missing}")
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # named, else several are warned of
        inputs = _inputs(estimator, X, labels)
        _try_out(estimator, param, rates, inputs, int(labels.max()) + 1)
    if len(np.unique(groups)) < cv:
        raise ValueError(f"groups: expected at least {cv} of rows, one a fold, got {len(np.unique(groups))}")

    settings = estimator, param, rates, cv, repeats, seed, n_jobs
    partitions, correct, lost, probs = _cross_validate(X, labels, groups, settings)
    folds = _fold_means(correct, partitions)
    mean, zero = folds.mean(axis=0), rates.index(_nearest_zero(rates))
    best = int(mean.argmax())
    keep, critical, error = not_worse(folds, cv, level, seed)
    spread = np.where(np.isfinite(error[best]), error[best], 0.0)
    diverged = (_fold_means(lost, partitions) > 0).sum(axis=0)
    whole = [not np.isnan(p).any() for p in probs]
    if not any(whole):
        raise ValueError(
            f"estimator: training diverged at every rate (NaN in {', '.join(map(str, diverged))} of {len(folds)} folds "
            f"at {', '.join(f'{rate:g}' for rate in rates)}); a smaller learning rate may help"
        )
    sound = rates.index(_nearest_zero(np.array(rates)[whole]))
    noise = noise_from(labels, probs[sound], level, seed)

    table = pd.DataFrame({"accuracy": mean, "difference": mean - mean[best]}, index=pd.Index(rates, name="rate"))
    table["low"], table["high"] = (table["difference"] + side * critical * spread for side in (-1, 1))
    table["not_worse"] = keep
    signal = [max(1 - eta, 1e-12) if noise.symmetric else math.nan for eta in noise.eta]
    table["clean_difference"] = table["difference"] / signal[0]
    table["clean_low"] = np.min([table["low"] / s for s in signal], axis=0)  # over the noise rate's interval
    table["clean_high"] = np.max([table["high"] / s for s in signal], axis=0)
    table["diverged"] = diverged
    other = spread[spread > 0]  # 0 for rates whose difference from the best never varies
    power = (critical + t.ppf(0.8, len(folds) - 1)) * np.median(other) if other.size else math.nan

    means = _class_means(X, labels, partitions)
    return RateChoice(
        rate=rates[best],
        level=level,
        not_worse=tuple(rate for rate, kept in zip(rates, keep, strict=True) if kept),
        table=table,
        noise=noise,
        pred_probs=probs[sound],
        detectable=float(power / signal[0] if noise.symmetric else power),
        class_mean=None if means is None else _with_limits(means - folds[:, zero], cv, level),
        folds=folds,
    )


# ---------------------------------------------------------------- Training


def _try_out(estimator: Any, param: str, rates: Sequence[float], inputs: Any, K: int) -> None:
    """Refuse before any training an estimator without the parameter or, if it is skorch's, without probabilities.

    skorch takes any parameter of a criterion that it has not built yet, so its networks are built here and meet a few
    of the rows that they will be given.
    """
    from sklearn.base import clone

    if isinstance(estimator, type) or not (hasattr(estimator, "predict_proba") and hasattr(estimator, "set_params")):
        raise TypeError(f"estimator: expected an object with set_params and predict_proba, got {estimator!r}")
    try:
        trial = clone(estimator).set_params(**{param: rates[0]})
        net = trial.steps[-1][1] if hasattr(trial, "steps") else trial
        if hasattr(net, "initialize"):
            net.initialize()
    except (TypeError, ValueError) as error:
        longer = [repr(name) for name in estimator.get_params() if name.endswith(f"__{param}")]
        raise ValueError(
            f"param: expected a parameter of the estimator that takes rates, got {param!r}: "
            f"{'this estimator has ' + ', '.join(longer) if longer else error}"
        ) from error
    loss = getattr(net, "criterion_", None)
    if type(loss) is torch.nn.CrossEntropyLoss and param.endswith("label_smoothing") and min(rates) < 0:
        raise ValueError(
            f"param: expected a loss that knows rates below 0, such as nls.GLSLoss with its smooth_rate, got {param!r} "
            "of torch.nn.CrossEntropyLoss, which trains plain cross entropy there"
        )
    if not hasattr(net, "initialize") or net.callbacks or not hasattr(inputs, "shape"):
        return  # a callback may shape the network when training begins
    rows = getattr(inputs, "iloc", inputs)[:8]
    try:
        probs, output = net.predict_proba(rows), net.forward(rows)
    except (RuntimeError, TypeError, ValueError) as error:
        kind = "rows of a data frame" if hasattr(rows, "iloc") else f"{rows.dtype} rows of shape {rows.shape[1:]}"
        hint = '; most networks take float32, which X.to_numpy("float32") or X.astype("float32") gives'
        raise ValueError(
            f"X: expected rows that the network takes, got {kind}: {error}{'' if 'float32 ' in kind else hint}"
        ) from error
    _check_probs(probs, K)
    output = (output[0] if isinstance(output, tuple) else output).double()
    if isinstance(loss, GLSLoss) and bool((output >= 0).all() and ((output.sum(1) - 1).abs() < 1e-4).all()):
        raise ValueError(
            f"estimator: expected a network that ends in logits, as GLSLoss takes them, got probabilities, "
            f"{output[0].numpy().round(3).tolist()} in a row; leave the softmax to predict_nonlinearity"
        )


def _check_probs(probs: np.ndarray, K: int) -> np.ndarray:
    probs = np.asarray(probs, dtype=np.float64)
    if probs.shape[1:] != (K,):
        raise ValueError(f"estimator: expected probabilities of {K} classes, got shape {probs.shape}")
    lost = ~np.isfinite(probs).all(axis=1)  # training diverged
    bad = ~lost & ((np.abs(probs.sum(axis=1) - 1) >= 1e-2) | (probs < -1e-9).any(axis=1))
    if bad.any():
        raise ValueError(
            f"estimator: expected predict_proba to give probabilities, got {np.round(probs[bad][0], 3).tolist()} in a "
            "row; skorch's networks give logits unless built with predict_nonlinearity=torch.nn.Softmax(-1)"
        )
    return np.where(lost[:, None], np.nan, probs)


def _cross_validate(
    X: Any, labels: np.ndarray, groups: np.ndarray, settings: tuple
) -> tuple[list, np.ndarray, np.ndarray, list]:
    """The splits of each repetition, who is right and who is NaN (repeats, rates, N), mean probabilities by rate."""
    from joblib import Parallel, delayed
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    estimator, param, rates, cv, repeats, seed, n_jobs = settings
    splitter, among = StratifiedGroupKFold, groups
    if len(np.unique(groups)) == len(groups):
        splitter, among = StratifiedKFold, None  # the same but faster
    partitions = [
        list(splitter(cv, shuffle=True, random_state=seed + i).split(labels, labels, among)) for i in range(repeats)
    ]
    for train, _ in (split for splits in partitions for split in splits):
        if gone := sorted({*labels} - {*labels[train]}):
            raise ValueError(
                f"groups: expected each class in more than one fold, got all rows of class {gone[0]} in one, which "
                "leaves none to train on (equal rows are one group)"
            )
    jobs = [(splits, rate, seed + i) for i, splits in enumerate(partitions) for rate in rates]
    probs = Parallel(n_jobs)(delayed(_out_of_fold)(estimator, {param: r}, X, labels, f, s) for f, r, s in jobs)
    lost = np.isnan(probs).any(axis=2).reshape(repeats, len(rates), -1)
    correct = np.array([p.argmax(axis=1) == labels for p in probs]).reshape(lost.shape) & ~lost
    means = [np.ma.masked_invalid(probs[i :: len(rates)]).mean(axis=0).filled(np.nan) for i in range(len(rates))]
    return partitions, correct, lost, means


def _out_of_fold(estimator: Any, setting: dict, X: Any, labels: np.ndarray, splits: list, seed: int) -> np.ndarray:
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_predict

    estimator = clone(estimator).set_params(**setting)
    random = [name for name in estimator.get_params() if name.split("__")[-1] == "random_state"]
    estimator.set_params(**dict.fromkeys(random, seed))
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        probs = cross_val_predict(estimator, X, labels, cv=splits, method="predict_proba")
    return _check_probs(probs, int(labels.max()) + 1)


def _class_means(X: Any, labels: np.ndarray, partitions: list) -> np.ndarray | None:
    """Accuracy of class means of standardised inputs in each fold; None where they cannot be computed.

    It comes after the training, so nothing in it may end in an error.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import cross_val_predict
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sparse = hasattr(X, "toarray")
    imputer, scaler = SimpleImputer(keep_empty_features=True), StandardScaler(with_mean=not sparse)
    model = make_pipeline(imputer, scaler, NearestCentroid())
    try:
        inputs = X if sparse else np.asarray(X).reshape(X.shape[0], -1)
        with warnings.catch_warnings(action="ignore"):  # features that are constant within classes
            right = [[cross_val_predict(model, inputs, labels, cv=splits) == labels] for splits in partitions]
    except Exception:
        return None
    return _fold_means(np.array(right), partitions)[:, 0]


def _equal_rows(X: Any) -> np.ndarray:
    """A number for each row, the same for rows of the same values."""
    X = X.to_numpy() if hasattr(X, "to_numpy") else X.tocsr() if hasattr(X, "tocsr") else np.asarray(X)
    X = X[:, None] if X.ndim == 1 else X  # texts
    rows = (x.toarray() if hasattr(x, "toarray") else x for x in X)
    seen: dict[int, int] = {}  # of hashes: the rows of a sparse X would not fit
    keys = (hash(repr(x.tolist()) if x.dtype == object else x.tobytes()) for x in rows)
    return np.array([seen.setdefault(key, len(seen)) for key in keys])


# ---------------------------------------------------------------- Inference


def _fold_means(correct: np.ndarray, partitions: list) -> np.ndarray:
    """Accuracy of each fold of each repetition (rows) and each rate."""
    return np.array(
        [right[:, test].mean(axis=1) for right, p in zip(correct, partitions, strict=True) for _, test in p]
    )


def _errors(covariance: np.ndarray) -> np.ndarray:
    """Standard deviations of differences, from covariances (..., m, m); inf where they are 0, which never differs."""
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    squared = variance[..., :, None] + variance[..., None, :] - 2 * covariance
    return np.sqrt(np.where(squared > 1e-15, squared, np.inf))


def _covariance(folds: np.ndarray, cv: int) -> np.ndarray:
    """Of the rates' means, corrected for the overlap of the training sets."""
    return np.atleast_2d(np.cov(folds.T)) * (1 / len(folds) + 1 / (cv - 1))


def not_worse(folds: np.ndarray, cv: int, level: float, seed: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Which rates no other one beats; the critical value of all pairs at once; standard errors of the differences.

    Under ties the largest t of all pairs exceeds its critical value with probability 1 - level. Rates that are beaten
    leave, and the rest is tested among itself, until nobody leaves (Hansen, Lunde and Nason 2011).
    """
    (J, m), mean, covariance = folds.shape, folds.mean(axis=0), _covariance(folds, cv)
    drawn = np.random.default_rng(seed).multivariate_normal(np.zeros(m), covariance, (DRAWS, J + 1), method="eigh")
    means, rest = drawn[:, 0], drawn[:, 1:] - drawn[:, 1:].mean(axis=1, keepdims=True)
    ties = (means[:, None, :] - means[:, :, None]) / _errors(np.einsum("dji,djk->dik", rest, rest) / (J - 1))
    error, difference = _errors(covariance), mean - mean[:, None]
    # The same difference in every fold is the strongest evidence.
    t = np.where(np.isinf(error) & (difference != 0), np.copysign(np.inf, difference), difference / error)
    keep, critical = np.ones(m, dtype=bool), []
    while True:
        critical.append(float(np.quantile(ties[:, keep][:, :, keep].max(axis=(1, 2)), level)))
        beaten = keep & (t[:, keep].max(axis=1) > critical[-1])
        if not beaten.any():
            return keep, critical[0], error
        keep &= ~beaten


def _with_limits(folds: np.ndarray, cv: int, level: float) -> tuple[float, float, float]:
    """Mean difference over folds, with limits corrected for their overlap."""
    from scipy.stats import t

    half = t.ppf((1 + level) / 2, len(folds) - 1) * math.sqrt(_covariance(folds, cv)[0, 0])
    mean = float(folds.mean())
    return mean, mean - half, mean + half


def _nearest_zero(rates: Sequence[float]) -> float:
    return float(min(rates, key=lambda rate: abs(smoothing_scale(rate))))


# ---------------------------------------------------------------- Checks


def _rates(rates: Sequence[float]) -> list[float]:
    array = np.asarray(rates)
    if array.ndim != 1 or array.dtype.kind not in "iuf" or len(np.unique(array)) < max(2, len(array)):
        raise ValueError(f"rates: expected two or more different numbers, got {rates!r}")
    bad = array[~(np.isfinite(array) & (array < 1))]
    if bad.size:
        raise ValueError(f"rates: expected finite rates below 1, got {bad[0]}")
    return [float(rate) for rate in array]


def _inputs(estimator: Any, X: Any, labels: np.ndarray) -> Any:
    """X, or what the first steps of a pipeline make of it; None where a step does more than transform.

    NaN and infinite values are refused.
    """
    from sklearn.base import clone

    inputs, name, hint = X, "X", ""
    if first := [step for _, step in getattr(estimator, "steps", ())[:-1] if step not in (None, "passthrough")]:
        if not all(hasattr(step, "transform") for step in first):
            return None
        try:
            inputs = clone(estimator[:-1]).fit_transform(X, labels)
        except (TypeError, ValueError) as error:
            raise ValueError(f"X: expected what the first steps of the pipeline take: {error}") from error
        name += " after the first steps of the pipeline"
        hint = "; sklearn.impute.SimpleImputer() as first step fills gaps"
    bad = _not_finite(inputs) if hasattr(inputs, "shape") else None
    if bad is not None:
        raise ValueError(f"{name}: expected finite values, got NaN or an infinite one, first in row {bad}{hint}")
    return inputs


def _not_finite(X: Any) -> int | None:
    """The first row with a value that is missing or infinite."""
    import pandas as pd

    if hasattr(X, "tocoo"):
        X = X.tocoo()
        rows = X.row[~np.isfinite(X.data)]
    else:
        array = X.to_numpy() if hasattr(X, "to_numpy") else np.asarray(X)
        rows = np.nonzero(pd.isna(array) | np.isin(array, [np.inf, -np.inf]))[0]
    return int(rows.min()) if rows.size else None
