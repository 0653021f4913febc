"""The losses by name: the one place that knows what a run's `method` and `variant` mean."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .. import losses
from ..checks import check_invertible
from ..theory import smoothed
from .runs import Run

GCE_EXPONENT = 0.7  # Zhang and Sabuncu 2018


def correction(run: Run) -> Literal["true", "estimated"] | None:
    """Which T a run's loss corrects with: that of its labels, an estimated one, or none."""
    return {"true T": "true", "estimated T": "estimated"}[run.variant] if run.method in ("blc", "flc") else None


@dataclass(frozen=True)
class Loss:
    """A run's loss: the name of its method with what that method needs."""

    method: str
    rate: float | None = None
    T: np.ndarray | None = None
    divergence: str | None = None
    alpha: float = 1.0

    @classmethod
    def of(cls, run: Run, T: np.ndarray | None = None) -> "Loss":
        """The variant names the divergence, who votes or, as `alpha 0.5`, the weight of the peers."""
        match run.method:
            case "votes":
                return Votes("votes", run.rate, **VOTES[run.variant])
            case "gce":
                return Robust("gce", exponent=GCE_EXPONENT)
            case "mae":
                return Robust("mae")
        alpha = float(run.variant.removeprefix("alpha ")) if run.method == "peer" and run.variant else 1.0
        return cls(run.method, run.rate, T, run.variant if run.method == "fdiv" else None, alpha)

    @property
    def peers(self) -> bool:
        """Whether it needs a second, independent batch."""
        return self.method in ("peer", "fdiv")

    @cached_property
    def _invertible(self) -> bool:
        """Whether backward correction can use T. An estimate may not have an inverse, as where two classes have one
        anchor: the loss is NaN then and the run has diverged, which ends no sweep."""
        try:
            check_invertible(torch.from_numpy(self.T))
        except ValueError:
            return False
        return True

    def soft_labels(self, num_classes: int) -> np.ndarray | None:
        """(K, K) rows t_y for a loss that is linear in the label, ℓ(z, y) = −Σ_j t_y[j] log p_j; None for the others.

        GLS is one, and so are backward correction and the complementary loss: they train side by side, whatever their
        number, as one cross entropy. `tests/test_stacks.py` holds them against the functions of `losses`.
        """
        onehot = np.eye(num_classes)
        match self.method:
            case "gls":
                return smoothed(onehot, self.rate)
            case "blc":
                return np.linalg.inv(self.T) if self._invertible else np.full_like(self.T, np.nan)
            case "complementary":
                return onehot - (1 - onehot) / (num_classes - 1)
        return None

    def __call__(self, logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor) -> Tensor:
        match self.method:
            case "gls":
                return losses.gls_loss(logits, target, self.rate)
            case "blc":
                return losses.backward_correction(logits, target, self.T) if self._invertible else np.nan * logits.sum()
            case "flc":
                return losses.forward_correction(logits, target, self.T)
            case "complementary":
                return losses.complementary_loss(logits, target)
            case "weight_decay":
                return 0 * logits.sum()
            case "peer":
                return losses.peer_loss(logits, target, peer_logits, peer_target, self.alpha)
            case "fdiv":
                return losses.f_divergence_loss(logits, target, peer_logits, peer_target, self.divergence)
        known = "gls, blc, flc, complementary, peer, fdiv, votes, gce, mae or weight_decay"
        raise ValueError(f"method: got {self.method!r}, expected {known}")


@dataclass(frozen=True)
class Robust(Loss):
    """Generalised cross entropy (1 − p_y^q)/q and, at q = 1, the mean absolute error 1 − p_y."""

    exponent: float = 1.0

    def __call__(self, logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor) -> Tensor:
        p = logits.softmax(1).gather(1, target[:, None])[:, 0]
        return ((1 - p.clamp_min(1e-12) ** self.exponent) / self.exponent).mean()


@dataclass(frozen=True)
class Votes(Loss):
    """GLS whose rate, example by example, is a share of r: what an example whose label is fitted adds beyond its cross
    entropy is its vote.

    Attributes:
        dose: the share for fitted examples that are voters; the other fitted ones have none.
        voters: all; or a part of the rows: clean (their label is right), flipped, or `part` of them at random.
        misfit: the share for examples whose label is not the prediction.
        equal_norm: whether the gradient of each batch is scaled to the length that it has with all votes.
    """

    dose: float = 1.0
    voters: str = "all"
    part: float = 1.0
    misfit: float = 1.0
    equal_norm: bool = False

    def __call__(self, logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor) -> Tensor:
        """Of one network, for which all rows are voters; of many, and for other voters, `mechanism.votes_loss`."""
        if (self.voters, self.part) != ("all", 1.0):
            raise ValueError(f"voters: got {self.part:g} of {self.voters}, expected all for one network alone")
        own = self.rate * torch.where(logits.argmax(1) == target, self.dose, self.misfit)
        loss = losses.gls_loss(logits, target, own)
        if not self.equal_norm:
            return loss
        whole, part = (pull(logits.T[None], target[None], r) for r in (own.new_tensor([[self.rate]]), own[None]))
        return whole[0] / part[0] * loss


VOTES: dict[str, dict] = {
    "no votes": {"dose": 0.0},
    "1/4 of each vote": {"dose": 0.25},
    "1/2 of each vote": {"dose": 0.5},
    "no votes, equal norm": {"dose": 0.0, "equal_norm": True},
    "1/4 of each vote, equal norm": {"dose": 0.25, "equal_norm": True},
    "1/2 of each vote, equal norm": {"dose": 0.5, "equal_norm": True},
    "1/4 of the voters": {"part": 0.25},
    "1/2 of the voters": {"part": 0.5},
    "clean voters": {"voters": "clean"},
    "flipped voters": {"voters": "flipped"},
    "votes alone": {"misfit": 0.0},
}


@torch.no_grad()
def pull(logits: Tensor, target: Tensor, rate: Tensor) -> Tensor:
    """Length (m,) of the gradient p − t in the logits (m, K, B) of a batch, t the label smoothed at `rate` (m, B)."""
    num_classes = logits.shape[1]
    onehot = torch.nn.functional.one_hot(target, num_classes).transpose(1, 2)
    t = (1 - rate)[:, None] * onehot + rate[:, None] / num_classes
    return (logits.softmax(1) - t).flatten(1).norm(dim=1)
