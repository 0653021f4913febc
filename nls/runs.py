"""What a run is: the data that identifies and determines one trained model.

A `Run`'s `config` is a hash of all of it, so a record can only ever be read back for the run that made it.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np
import torch

from .train import Stage

# Independent random streams of one seed.
SPLIT, NOISE, INIT, BATCHES, FRESH = range(5)


@dataclass(frozen=True)
class MLPRecipe:
    """A ReLU network of two hidden layers of `width`, trained by Adam for `steps` mini-batches."""

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


@dataclass(frozen=True)
class TextRecipe(MLPRecipe):
    """The same on fixed features of documents, with the publisher's test part."""

    encoder: str = "lsa-words"  # a name of `texts.ENCODERS`
    rows: int | None = None  # training rows, the held-out ones included; all by default


@dataclass(frozen=True)
class ImageRecipe:
    """A network trained by cross entropy (`warmup`), then by the run's own loss from one of its checkpoints (`stage`).

    Without a `stage` the run's own loss is trained from scratch, by the schedule of `warmup`.
    """

    network: str  # a name of `models`
    warmup: Stage
    stage: Stage | None = None
    rows: int | None = None  # training images, the held-out ones included; all by default
    heldout_fraction: float = 0.1  # of the training images; noisy labels, never trained on
    version: int = 1  # as above

    @property
    def lr(self) -> float:
        """The first learning rate of the stage in which the run's own loss is trained; 0 if it is not trained."""
        return max((self.stage or self.warmup).lrs[:1], default=0.0)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One trained model: the identifying keys of a record, and the recipe."""

    table: str
    regime: str
    dataset: str
    noise: str
    noise_rate: float
    method: str
    rate: float | None
    variant: str | None = None
    start: str = "scratch"
    seed: int
    recipe: MLPRecipe | ImageRecipe

    def __post_init__(self) -> None:
        # −8 and −8.0 are equal, and so must their hashes be; −0.0 likewise.
        object.__setattr__(self, "noise_rate", float(self.noise_rate) + 0.0)
        if self.rate is not None:
            object.__setattr__(self, "rate", float(self.rate) + 0.0)

    @property
    def config(self) -> str:
        """Hash of everything that determines the run, the data apart."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def identity(self) -> dict:
        """The identifying keys of the record; `data` is added where the data are read."""
        keys = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "recipe"}
        keys["config"] = self.config
        if isinstance(self.recipe, ImageRecipe):
            keys["lr"] = self.recipe.lr
        if isinstance(self.recipe, TextRecipe):
            keys["encoder"] = self.recipe.encoder
        return keys


def stream(seed: int, purpose: int, extra: int = 0) -> np.random.Generator:
    """An independent generator for each purpose of a seed."""
    return np.random.default_rng((seed, purpose, extra))


def noise_seed(run: Run) -> int:
    """One draw per noise rate, the same for every smooth rate and method of the seed."""
    return int(stream(run.seed, NOISE, round(run.noise_rate * 1e6)).integers(2**31))


def batch_order(num_rows: int, recipe: MLPRecipe, seed: int) -> torch.Tensor:
    """(steps, batch_size) row numbers: epochs in random order, an incomplete last batch dropped."""
    rng, per_epoch = stream(seed, BATCHES), num_rows // recipe.batch_size
    epochs = [
        rng.permutation(num_rows)[: per_epoch * recipe.batch_size].reshape(per_epoch, recipe.batch_size)
        for _ in range(math.ceil(recipe.steps / per_epoch))
    ]
    return torch.from_numpy(np.concatenate(epochs)[: recipe.steps])
