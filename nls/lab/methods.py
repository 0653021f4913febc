"""The losses by name: the one place that knows what a run's `method` and `variant` mean."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from .. import losses
from ..theory import smoothed
from .runs import Run


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
        """The variant names the divergence or, as `alpha 0.5`, the weight of the peers."""
        alpha = float(run.variant.removeprefix("alpha ")) if run.method == "peer" and run.variant else 1.0
        return cls(run.method, run.rate, T, run.variant if run.method == "fdiv" else None, alpha)

    @property
    def peers(self) -> bool:
        """Whether it needs a second, independent batch."""
        return self.method in ("peer", "fdiv")

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
                return np.linalg.inv(self.T)
            case "complementary":
                return onehot - (1 - onehot) / (num_classes - 1)
        return None

    def __call__(self, logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor) -> Tensor:
        match self.method:
            case "gls":
                return losses.gls_loss(logits, target, self.rate)
            case "blc":
                return losses.backward_correction(logits, target, self.T)
            case "flc":
                return losses.forward_correction(logits, target, self.T)
            case "complementary":
                return losses.complementary_loss(logits, target)
            case "peer":
                return losses.peer_loss(logits, target, peer_logits, peer_target, self.alpha)
            case "fdiv":
                return losses.f_divergence_loss(logits, target, peer_logits, peer_target, self.divergence)
        raise ValueError(f"method: got {self.method!r}, expected gls, blc, flc, complementary, peer or fdiv")
