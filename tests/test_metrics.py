"""Four accuracies and the calibration, against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nls.lab.metrics import accuracies, calibration


def by_hand(correct, heldout):
    """The definitions of `accuracies` for one run, in NumPy loops."""
    test = [np.mean(row) for row in correct]
    halves = [[np.mean(row[0::2]) for row in correct], [np.mean(row[1::2]) for row in correct]]
    pick = int(np.argmax(heldout))
    crossed = [halves[1 - h][int(np.argmax(halves[h]))] for h in (0, 1)]
    return {
        "best_test": max(test),
        "crossfit": np.mean(crossed),
        "last": test[-1],
        "noisy_val": test[pick],
        "heldout": heldout[pick],
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 9))
def test_accuracies_are_their_definitions(seed, evaluations, examples):
    rng = np.random.default_rng(seed)
    correct = rng.random((3, evaluations, examples)) < 0.6
    heldout = rng.integers(0, 4, (3, evaluations)) / 4  # many ties
    got = accuracies(torch.from_numpy(correct), torch.from_numpy(heldout))
    for run in range(3):
        for name, value in by_hand(correct[run], heldout[run]).items():
            assert got[name][run].item() == pytest.approx(value, abs=1e-12), name


def test_calibration_of_a_calibrated_predictor():
    p = torch.tensor([0.15, 0.35, 0.6, 0.82, 0.97], dtype=torch.float64)
    rows = torch.stack([1 - p, p], -1).log().repeat_interleave(100, 0)
    target = torch.cat([(torch.arange(100) < round(100 * q.item())).long() for q in p])
    got = calibration(rows, target)
    assert got["ece"].item() == pytest.approx(0, abs=1e-9)
    assert got["confidence"].item() == pytest.approx(p.maximum(1 - p).mean().item())
    assert got["nll"].item() == pytest.approx(-(p * p.log() + (1 - p) * (1 - p).log()).mean().item())


def test_ece_of_an_overconfident_predictor():
    logits = torch.tensor([[0.0, 50.0]]).repeat(10, 1)
    got = calibration(logits, torch.tensor([1] * 6 + [0] * 4))
    assert got["ece"].item() == pytest.approx(0.4)
    assert got["confidence"].item() == pytest.approx(1.0)


def test_calibration_keeps_the_leading_shape():
    logits = torch.randn(4, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 5, (7,), generator=torch.Generator().manual_seed(1))
    got = calibration(logits, target)
    one = calibration(logits[2, 1], target)
    for name in ("nll", "ece", "confidence"):
        assert got[name].shape == (4, 3)
        assert got[name][2, 1].item() == pytest.approx(one[name].item())
