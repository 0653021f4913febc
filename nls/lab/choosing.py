"""Notebook 11's runs: what somebody with noisy labels alone would see of a rate, and what the rate is worth."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .methods import Loss
from .problems import MLPRecipe, TextRecipe, batch_order, train_on
from .runs import Run
from .stacks import Problem


@dataclass(frozen=True)
class ChoosingRecipe(MLPRecipe):
    """An `MLPRecipe` trained on all noisy labels, on those outside of each fold, and on all but one held-out part."""

    folds: int = 5  # of one partition

    def train(self, runs: Sequence[Run], device: torch.device) -> list[dict]:
        """What is measured of each run of a group.

        last: accuracy on the clean test set at the last step, trained on all labels. fold_1 ...: accuracy at the last
        step on the noisy labels of a fold, trained on the others. fold_stop: the mean of the folds at the evaluation
        where it is best, and stopped: the clean accuracy there of the model trained on all labels. heldout, noisy_val:
        the best accuracy on the held-out noisy labels of one part, trained on the rest, and the clean accuracy at that
        evaluation. So stopped and noisy_val differ in the rows that train as well as in the stop.
        """
        started, run, losses = time.perf_counter(), runs[0], [Loss.of(r) for r in runs]
        one = self.problem(runs)
        x, y = torch.cat([one.x_val, one.x]), torch.cat([one.y_val, one.y], dim=1)
        all_rows = dataclasses.replace(one, x=x, y=y, order=batch_order(len(x), self, run.seed))
        number = torch.arange(len(x)) % self.folds  # the rows are in random order
        problems = [*(_outside(all_rows, number == k, run) for k in range(self.folds)), all_rows, one]
        *folds, whole, heldout = (train_on(p, losses, run, device, curves=True)[0] for p in problems)
        seconds = (time.perf_counter() - started) / len(runs)
        rows = []
        for m in range(len(runs)):
            noisy = np.array([fold[m]["heldout_labels"] for fold in folds])
            stop = int(noisy.mean(axis=0).argmax())
            row = {"last": whole[m]["last"]} | {f"fold_{k}": v for k, v in enumerate(noisy[:, -1].tolist(), 1)}
            row |= {"fold_stop": float(noisy[:, stop].mean()), "stopped": whole[m]["test"][stop]}
            row |= {name: heldout[m][name] for name in ("heldout", "noisy_val")}
            diverged = any(part[m]["diverged"] for part in (*folds, whole, heldout))
            rows.append(row | {"diverged": diverged, "seconds": seconds})
        return rows


@dataclass(frozen=True)
class ChoosingTextRecipe(TextRecipe, ChoosingRecipe):
    """The same on text."""


def _outside(problem: Problem, fold: torch.Tensor, run: Run) -> Problem:
    """The rows of a fold held out and the others to train on; nobody asks for the test set, nor reads y_true."""
    order = batch_order(int((~fold).sum()), run.recipe, run.seed)
    x_test, y_test = problem.x_test[:2], problem.y_test[:2]
    parts = {"x": problem.x[~fold], "y": problem.y[:, ~fold], "x_val": problem.x[fold], "y_val": problem.y[:, fold]}
    return dataclasses.replace(problem, **parts, x_test=x_test, y_test=y_test, order=order)
