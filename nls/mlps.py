"""Stacks of small networks: the data of a seed on UCI, in the plane and on text, and the training of all its models."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

from . import batched, data, texts
from .noise import estimate_transition, symmetric, transition_matrix
from .runs import FRESH, INIT, SPLIT, Run, TextRecipe, batch_order, stream


def pooled(dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """All raw rows of a data set without an official split, and their labels."""
    d = data.load(dataset)
    return np.concatenate([d.x_train, d.x_test]), np.concatenate([d.y_train, d.y_test])


def balanced_split(labels: np.ndarray, seed: int, test_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (train, test): every class cut at random to the size of the smallest, then a random test part.

    The test part is rounded up, as in the PeerLoss code: 459 of the 3,054 balanced Splice rows, the denominator of
    every Splice cell that the paper prints.
    """
    rng = stream(seed, SPLIT)
    smallest = np.bincount(labels).min()
    kept = np.concatenate([rng.choice(np.flatnonzero(labels == c), smallest, False) for c in np.unique(labels)])
    kept = rng.permutation(kept)
    num_test = math.ceil(test_fraction * len(kept))
    return kept[num_test:], kept[:num_test]


def features(dataset: str, x: np.ndarray) -> np.ndarray:
    """Raw rows as network inputs: Splice's letters one-hot (60 × 4), everything else flat."""
    if dataset == "splice":
        x = x[:, :, None] == np.arange(1, 5)
    return x.reshape(len(x), -1).astype(np.float64)


def rows_of(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Raw clean x_train, y_train, x_test, y_test of a run's seed."""
    if run.recipe.draws:
        seeds = [int(stream(run.seed, SPLIT, part).integers(2**31)) for part in (0, 1)]
        parts = [data.plane_sample(n, seed) for n, seed in zip(run.recipe.draws, seeds, strict=True)]
        return *parts[0], *parts[1]
    x, y = pooled(run.dataset)
    train, test = balanced_split(y, run.seed, run.recipe.test_fraction)
    return x[train], y[train], x[test], y[test]


def problem(runs: Sequence[Run]) -> batched.Problem:
    """The stack of runs that share data set, seed and recipe: split, noise, scaling and order of the batches."""
    run, recipe = runs[0], runs[0].recipe
    x_train, y_train, x_test, y_test = rows_of(run)
    noisy = texts.noisy_labels(runs, y_train)
    num_val = math.ceil(recipe.heldout_fraction * len(y_train))
    # Scaled by the training rows, the held-out ones included, as in the PeerLoss code.
    mean, scale = _scaling(features(run.dataset, x_train))
    fresh = None
    if recipe.fresh_draws:
        x, y = data.twonorm_sample(recipe.fresh_draws, seed=int(stream(run.seed, FRESH).integers(2**31)))
        fresh = _rows((x - mean) / scale), torch.from_numpy(y)
    x_train, x_test = (_rows((features(run.dataset, x) - mean) / scale) for x in (x_train, x_test))
    return batched.Problem(
        x=x_train[num_val:],
        y=torch.from_numpy(noisy[:, num_val:]),
        x_val=x_train[:num_val],
        y_val=torch.from_numpy(noisy[:, :num_val]),
        x_test=x_test,
        y_test=torch.from_numpy(y_test),
        order=batch_order(len(y_train) - num_val, recipe, run.seed),
        num_classes=int(y_train.max()) + 1,
        fresh=fresh,
    )


def scaler(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of the features that the models of a run's seed are trained on."""
    return _scaling(features(run.dataset, rows_of(run)[0]))


def _scaling(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, scale = x.mean(0), x.std(0)
    scale[scale == 0] = 1
    return mean, scale


def _rows(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.astype(np.float32))


def fit_mlps(runs: Sequence[Run], device: torch.device | str = "cpu") -> tuple[list[dict], batched.Stack]:
    """Train the runs of one group: what is measured of each, in the order of the runs, and the trained networks."""
    stacked = texts.problem(runs) if isinstance(runs[0].recipe, TextRecipe) else problem(runs)
    T = _transitions(stacked, runs, device)
    model_losses = [batched.Loss.of(r.method, r.rate, r.variant, T.get(_correction(r))) for r in runs]
    return _train(stacked, model_losses, runs[0], device)


def _train(stacked, model_losses, run: Run, device) -> tuple[list[dict], batched.Stack]:
    return batched.train(
        stacked,
        model_losses,
        width=run.recipe.width,
        lr=run.recipe.lr,
        evaluate_every=run.recipe.evaluate_every,
        seed=int(stream(run.seed, INIT).integers(2**31)),
        device=device,
    )


def _transitions(stacked: batched.Problem, runs: Sequence[Run], device) -> dict:
    """The T of each correction: of the noise (as drawn, if by people), or Patrini's from a model by cross entropy.

    One for all runs under the same noise. The models that they are estimated with are a stack of their own.
    """
    models = {_correction(run): m for m, run in enumerate(runs) if run.method in ("blc", "flc")}
    guessed = {key: m for key, m in models.items() if runs[m].variant == "estimated T"}
    T = {key: _true_transition(stacked, m, runs[m]) for key, m in models.items() if key not in guessed}
    if guessed:
        chosen = list(guessed.values())
        plain = dataclasses.replace(stacked, y=stacked.y[chosen], y_val=stacked.y_val[chosen])
        stack = _train(plain, [batched.Loss("gls", 0.0)] * len(chosen), runs[0], device)[1]
        for key, logits in zip(guessed, stack.evaluate(plain.x.to(device)), strict=True):
            T[key] = estimate_transition(logits.double().softmax(1), filter_outliers=True)
    return T


def _correction(run: Run) -> tuple:
    return *texts.noise_of(run), run.variant


def _true_transition(stacked: batched.Problem, model: int, run: Run) -> np.ndarray:
    if run.noise == "symmetric":
        return symmetric(stacked.num_classes, run.noise_rate)
    return transition_matrix(texts.clean_rows(run), stacked.y[model].numpy(), stacked.num_classes)


def train_mlps(runs: Sequence[Run], device: torch.device) -> list[dict]:
    return fit_mlps(runs, device)[0]
