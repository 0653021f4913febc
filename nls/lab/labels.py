"""The noisy training labels of a run: the one place where they are drawn or read."""

import numpy as np

from .. import noise
from . import data
from .runs import NOISE, Run, stream

HUMAN_NOISE = ("human", *(name for _, names in data.HUMAN_LABELS.values() for name in names))
MAPS = {"asymmetric": noise.CIFAR10_SWAP, "asymmetric_oneway": noise.CIFAR10_ONEWAY}


def noisy_labels(run: Run, y: np.ndarray, num_classes: int) -> np.ndarray:
    """The training labels of a run, in the order of its data set's clean ones, y. Synthetic noise is drawn anew for
    every seed, and is the same for all rates and methods of the seed."""
    if run.noise in HUMAN_NOISE:
        return data.human_labels(run.dataset, run.noise)
    if run.noise == "web":  # Clothing1M: the labels are the shops'
        return y
    if run.noise == "symmetric":
        T = noise.symmetric(num_classes, run.noise_rate)
    elif run.noise in MAPS:
        T = noise.asymmetric(num_classes, run.noise_rate, MAPS[run.noise])
    else:
        known = ", ".join(("symmetric", *MAPS, "web", *HUMAN_NOISE))
        raise ValueError(f"noise: got {run.noise!r}, expected one of {known}")
    seed = int(stream(run.seed, NOISE, round(run.noise_rate * 1e6)).integers(2**31))  # one draw a noise rate
    return noise.corrupt(y, T, seed, mode=run.recipe.flips)


def true_transition(run: Run, y_true: np.ndarray, y: np.ndarray, num_classes: int) -> np.ndarray:
    """The T that an oracle would correct with: of the labels as they are, or of symmetric noise of exact counts."""
    if run.noise == "symmetric" and run.recipe.flips == "exact":
        return noise.symmetric(num_classes, run.noise_rate)
    return noise.transition_matrix(y_true, y, num_classes)
