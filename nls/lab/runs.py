"""What a run is: the data that identifies and determines one trained model.

A `Run`'s `config` is a hash of all of it, so a record can only ever be read back for the run that made it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

# Independent random streams of one seed.
SPLIT, NOISE, INIT, BATCHES, FRESH = range(5)


@dataclass(frozen=True)
class Recipe:
    """How a run is trained: what `config` hashes are the fields, the rest is how recipes of this kind work."""

    flips: ClassVar[Literal["iid", "exact"]] = "iid"  # how synthetic label noise is drawn, see `nls.corrupt`

    def trained_together(self, run: "Run") -> Hashable:
        """Runs of a table with equal values of this are trained by one call; by default each has its own."""
        return run

    def warm_up(self, run: "Run") -> "Run | None":
        """The run that has to be trained before `run`, if there is one."""
        return None

    def keys(self) -> dict:
        """What a record holds beside the run's own keys."""
        return {}

    def train(self, runs: "Sequence[Run]", device: torch.device) -> list[dict]:
        """What is measured of each run of a group, in the order of the runs."""
        raise NotImplementedError


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
    recipe: Recipe

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
        return keys | {"config": self.config} | self.recipe.keys()

    @property
    def group(self) -> "tuple[Run, ...]":
        """The runs that are trained together with this one, itself included, as its table lists them.

        Always all of them, also if only one is missing: the last bits of a matrix product may depend on the size of
        the stack, so this is what makes a record the same whenever it is trained.
        """
        return self.__dict__.get("_group", (self,))

    @property
    def warm_up(self) -> "Run | None":
        return self.recipe.warm_up(self)


def grouped(runs: Sequence[Run]) -> list[Run]:
    """The runs, each knowing its `group` among them."""
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault((run.table, run.recipe.trained_together(run)), []).append(run)
    for members in map(tuple, groups.values()):
        for run in members:
            object.__setattr__(run, "_group", members)  # no field: it says nothing about the run itself
    return list(runs)


def stream(seed: int, purpose: int, extra: int = 0) -> np.random.Generator:
    """An independent generator for each purpose of a seed."""
    return np.random.default_rng((seed, purpose, extra))
