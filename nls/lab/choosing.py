"""Notebook 11's runs: what somebody with noisy labels alone would see of a rate, and what the rate is worth."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .methods import Loss
from .problems import MLPRecipe, batch_order
from .runs import INIT, Run, stream
from .stacks import Problem, train_stack


@dataclass(frozen=True)
class ChoosingRecipe(MLPRecipe):
    """An `MLPRecipe` trained on all noisy labels, on those outside of each fold, and on all but one held-out part."""

    folds: int = 5  # of one partition

    def train(self, runs: Sequence[Run], device: torch.device) -> list[dict]:
        return choosing(runs, device)


def choosing(runs: Sequence[Run], device: torch.device | str = "cpu") -> list[dict]:
    """What is measured of each run of a group.

    last: accuracy on the clean test set at the last step, trained on all labels. fold_1 ...: accuracy at the last step
    on the noisy labels of a fold, trained on the others. heldout, noisy_val: the best accuracy on the held-out noisy
    labels of one part, trained on the rest, and the accuracy on the clean test set at that evaluation.
    """
    started, run = time.perf_counter(), runs[0]
    one = run.recipe.problem(runs)
    all_rows = dataclasses.replace(
        one,
        x=torch.cat([one.x_val, one.x]),
        y=torch.cat([one.y_val, one.y], dim=1),
        y_true=torch.cat([one.y_true.new_zeros(len(one.x_val)), one.y_true]),  # not read
    )
    number = torch.arange(len(all_rows.x)) % run.recipe.folds  # the rows are in random order
    problems = [_outside(all_rows, number == k, run) for k in range(run.recipe.folds)]
    problems.append(dataclasses.replace(all_rows, order=batch_order(len(all_rows.x), run.recipe, run.seed)))
    *folds, last = (_measured(problem, runs, run.recipe.steps, device) for problem in problems)
    heldout = _measured(one, runs, run.recipe.evaluate_every, device)
    seconds = (time.perf_counter() - started) / len(runs)
    return [
        {"last": last[m]["last"]}
        | {f"fold_{k}": fold[m]["heldout"] for k, fold in enumerate(folds, 1)}
        | {name: heldout[m][name] for name in ("heldout", "noisy_val")}
        | {"diverged": any(part[m]["diverged"] for part in (*folds, last, heldout)), "seconds": seconds}
        for m in range(len(runs))
    ]


def _outside(problem: Problem, fold: torch.Tensor, run: Run) -> Problem:
    """The problem with the rows of a fold held out and the others to train on."""
    order = batch_order(int((~fold).sum()), run.recipe, run.seed)
    x, y, y_true = problem.x[~fold], problem.y[:, ~fold], problem.y_true[~fold]
    return dataclasses.replace(
        problem, x=x, y=y, y_true=y_true, x_val=problem.x[fold], y_val=problem.y[:, fold], order=order
    )


def _measured(problem: Problem, runs: Sequence[Run], evaluate_every: int, device: torch.device | str) -> list[dict]:
    return train_stack(
        problem,
        [Loss.of(run) for run in runs],
        width=runs[0].recipe.width,
        lr=runs[0].recipe.lr,
        evaluate_every=evaluate_every,
        seed=int(stream(runs[0].seed, INIT).integers(2**31)),
        device=device,
    )[0]
