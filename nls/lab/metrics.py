"""What is measured of a model: four accuracies that differ in how the evaluation was chosen, and its calibration.

A run is evaluated several times on the clean test set. Which of these evaluations is reported decides the number as
much as the method does, so every record holds all four choices (`accuracies`), and none is called "the" accuracy.
"""

import torch
from torch import Tensor

ECE_BINS = 15


def accuracies(correct: Tensor, heldout: Tensor) -> dict[str, Tensor]:
    """Accuracy on the clean test set under four choices of the evaluation.

    Args:
        correct: bool (..., E, N), whether test example n is right at evaluation e; the examples are in random order.
        heldout: (..., E), accuracy on the held-out noisy labels at each evaluation.

    Returns a dict of tensors of shape (...), accuracies in [0, 1]:
        best_test: the best evaluation on the whole test set, an oracle; the paper's choice.
        crossfit: the evaluation chosen on one half of the test set (even rows), scored on the other, and the other
            way round, averaged: the oracle without its luck.
        last: the last evaluation.
        noisy_val: the evaluation with the best accuracy on held-out noisy labels: what a user can do.
        heldout: that best held-out accuracy, on which a user would also choose between models.
    Ties go to the earlier evaluation: `Tensor.argmax` returns the first maximum.
    """
    test = correct.double().mean(-1)
    even, odd = correct[..., 0::2].double().mean(-1), correct[..., 1::2].double().mean(-1)
    chosen = heldout.argmax(-1)
    return {
        "best_test": test.amax(-1),
        "crossfit": (at(odd, even.argmax(-1)) + at(even, odd.argmax(-1))) / 2,
        "last": test[..., -1],
        "noisy_val": at(test, chosen),
        "heldout": at(heldout.double(), chosen),
    }


def at(scores: Tensor, index: Tensor) -> Tensor:
    return scores.gather(-1, index[..., None])[..., 0]


def calibration(logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Mean negative log-likelihood (nats), expected calibration error and mean confidence of (..., N, K) logits.

    The confidence of a prediction is its largest probability; the ECE takes 15 bins of equal width.
    """
    log_p = logits.double().log_softmax(-1)
    confidence, predicted = log_p.exp().max(-1)
    right = (predicted == target).double()
    bins = (confidence * ECE_BINS).ceil().long().clamp(1, ECE_BINS) - 1
    gap = torch.zeros(*bins.shape[:-1], ECE_BINS, dtype=log_p.dtype, device=log_p.device)
    gap.scatter_add_(-1, bins, confidence - right)
    nll = -log_p.gather(-1, target.expand(bins.shape)[..., None])[..., 0].mean(-1)
    return {"nll": nll, "ece": gap.abs().sum(-1) / bins.shape[-1], "confidence": confidence.mean(-1)}
