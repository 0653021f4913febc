"""Notebook 10's runs: stacks that keep what they memorise, losses in which only some examples vote, and class means."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..losses import gls_loss
from .methods import Loss, Votes, pull
from .metrics import accuracies, calibration
from .models import initialising, mlp
from .problems import MLPRecipe, TextRecipe, fit_stack, train_on
from .runs import INIT, SPLIT, Recipe, Run, stream
from .stacks import ADAM, Problem, Stack, per_model, stack_loss

CLIP = 1.0  # length of a model's gradient at most: without, a loss without minimiser runs away under SGD


class ClippedSGD(torch.optim.SGD):
    """SGD with momentum .9 for the parameters of a `Stack`, each model's gradient cut to the length `CLIP`."""

    def __init__(self, parameters: Sequence[Tensor], lr: float):
        super().__init__(parameters, lr=lr, momentum=0.9, foreach=True)

    @torch.no_grad()
    def step(self) -> None:
        """One step; there is no closure."""
        views = per_model([p.grad for p in self.param_groups[0]["params"]])
        length = sum(g.flatten(1).square().sum(1) for g in views).sqrt()
        scale = CLIP / length.clamp_min(CLIP)
        for g in views:
            g.mul_(scale.view(-1, *[1] * (g.dim() - 1)))
        super().step()


# ---------------------------------------------------------------- losses


@dataclass(frozen=True)
class Matched(Loss):
    """GLS divided by 1 − r, u + λ c: every rate pulls with the same strength on the label."""

    def soft_labels(self, num_classes: int) -> np.ndarray | None:
        return super().soft_labels(num_classes) / (1 - self.rate)


def votes_loss(
    model_losses: Sequence[Loss], y: Tensor, num_classes: int, *, y_true: Tensor, seed: int
) -> Callable[..., Tensor]:
    """`stack_loss` of models of which some are `Votes`; which rows vote is drawn by `seed`, the same for all models."""
    ms = [m for m, loss in enumerate(model_losses) if isinstance(loss, Votes)]
    others = [m for m in range(len(model_losses)) if m not in ms]
    rest = stack_loss([model_losses[m] for m in others], y[others], num_classes) if others else None
    if not ms:
        return rest
    votes = [model_losses[m] for m in ms]
    draw = torch.from_numpy(np.random.default_rng(seed).random(len(y_true))).to(y.device)
    clean = y[ms] == y_true
    allowed = [{"all": draw < v.part, "clean": clean[i], "flipped": ~clean[i]}[v.voters] for i, v in enumerate(votes)]
    share = torch.stack([v.dose * a.float() for v, a in zip(votes, allowed, strict=True)])  # (m, N)
    rate, misfit = (torch.tensor([getattr(v, k) for v in votes], device=y.device)[:, None] for k in ("rate", "misfit"))
    equal = torch.tensor([v.equal_norm for v in votes], device=y.device)

    def loss(logits: Tensor, batch: Tensor, peer_logits: Tensor, peer_batch: Tensor) -> Tensor:
        z, target = logits[ms], y[ms][:, batch]
        own = rate * torch.where(z.argmax(1) == target, share[:, batch], misfit)
        each = gls_loss(z, target, own, reduction="none").mean(1)
        scale = torch.where(equal, pull(z, target, rate) / pull(z, target, own), 1.0)
        total = (scale * each).sum()
        return total + rest(logits[others], batch, peer_logits, peer_batch) if rest else total

    return loss


# ---------------------------------------------------------------- recipes


@dataclass(frozen=True)
class MemoryRecipe(MLPRecipe):
    """An `MLPRecipe`, by Adam or by `ClippedSGD`, whose records say at every evaluation what was memorised."""

    sgd: bool = False
    matched: bool = False  # losses divided by 1 − r

    def train(self, runs: Sequence[Run], device: torch.device) -> list[dict]:
        problem, matched = self.problem(runs), self.matched
        losses = [Matched("gls", run.rate) if matched and run.method == "gls" else Loss.of(run) for run in runs]
        draw = int(stream(runs[0].seed, SPLIT, 1).integers(2**31))
        loss = partial(votes_loss, y_true=problem.y_true.to(device), seed=draw)
        optimizer = ClippedSGD if self.sgd else ADAM
        return train_on(problem, losses, runs[0], device, optimizer=optimizer, loss=loss, memory=True)[0]


@dataclass(frozen=True)
class MemoryTextRecipe(TextRecipe):
    """The same on text, by Adam."""

    matched: ClassVar[bool] = False
    sgd: ClassVar[bool] = False
    train = MemoryRecipe.train


# ---------------------------------------------------------------- class means


@dataclass(frozen=True)
class ClassMeansRecipe(Recipe):
    """Classifiers by class means of the noisy labels, no network of which is trained but the plain one that `hidden`
    looks into: by `like`, on the same rows."""

    flips: ClassVar = MLPRecipe.flips
    trained_together = MLPRecipe.trained_together

    like: MLPRecipe

    def train(self, runs: Sequence[Run], device: torch.device) -> list[dict]:
        """The four accuracies, all alike, of the class means of the inputs; then accuracies of other classifiers that
        look at the noisy training labels only, and how much a row moves its own logits.

        means_tangent: class means of the tangent features of the network at its initial weights; means_hidden: of the
        last hidden layer of the network trained by cross entropy; probe: logistic regression on the inputs; and each of
        them again on the held-out noisy labels, as heldout_*. self_influence: see there, at the start;
        self_influence_trained: the same of the network trained by cross entropy.
        """
        started = time.perf_counter()
        like = [dataclasses.replace(run, method="gls", rate=0.0, recipe=self.like) for run in runs]
        problem = self.like.problem(like)
        stack = fit_stack(like, device)[1]
        with initialising(int(stream(runs[0].seed, INIT).integers(2**31))):  # as every model of the seed starts
            start = mlp(problem.x.shape[1], self.like.width, problem.num_classes)
        rows = [_class_means(problem, m, start, network_of(stack, m, problem)) for m in range(len(runs))]
        seconds = (time.perf_counter() - started) / len(runs)
        return [row | {"diverged": False, "seconds": seconds} for row in rows]


def _class_means(p: Problem, m: int, start: torch.nn.Sequential, trained: torch.nn.Sequential) -> dict:
    y, x, hidden = p.y[m], torch.cat([p.x_test, p.x_val]), trained[:-1]
    scores = {
        "inputs": by_means(p.x, y, x, p.num_classes),
        "tangent": tangent_means(start, p.x, y, x),
        "hidden": by_means(hidden(p.x).detach(), y, hidden(x).detach(), p.num_classes),
        "probe": logistic_regression(p.x, y, x),
    }
    measured = {}
    for name, both in scores.items():
        test, val = both.double().split([len(p.x_test), len(p.x_val)])
        heldout = (val.argmax(1) == p.y_val[m]).double().mean()
        if name == "inputs":
            found = accuracies((test.argmax(1) == p.y_test)[None], heldout[None]) | calibration(test, p.y_test)
            measured |= {k: v.item() for k, v in found.items()}
        key = name if name == "probe" else f"means_{name}"
        measured |= {key: (test.argmax(1) == p.y_test).double().mean().item(), f"heldout_{name}": heldout.item()}
    measured["self_influence"] = self_influence(start, p.x, p.y_true)
    measured["self_influence_trained"] = self_influence(trained, p.x, p.y_true)
    return measured


def by_means(x: Tensor, y: Tensor, x_new: Tensor, num_classes: int) -> Tensor:
    """Scores (n, K) of new rows: inner products of centred rows with the means of the centred rows of each class."""
    centre = x.mean(0)
    means = torch.stack([(x[y == k] - centre).mean(0) for k in range(num_classes)])
    return (x_new - centre) @ means.nan_to_num().T


def tangent_means(net: torch.nn.Sequential, x: Tensor, y: Tensor, x_new: Tensor) -> Tensor:
    """Scores (n, K): Σ_i k(x, x_i) (onehot(y_i) − 1/K), k the K × K tangent kernel of `net`.

    It is where the output of a network moves in a small step down the unhinged loss: the derivative of the output
    along the negative gradient of that loss.
    """
    z = net(x)
    agreement = (z.gather(1, y[:, None])[:, 0] - z.mean(1)).sum()
    directions = iter(torch.autograd.grad(agreement, list(net.parameters())))
    h, moved = x_new, torch.zeros_like(x_new)
    for layer in net:
        if isinstance(layer, torch.nn.Linear):
            moved = moved @ layer.weight.T + h @ next(directions).T + next(directions)
            h = layer(h)
        else:
            moved, h = moved * (h > 0), layer(h)
    return moved.detach()


def self_influence(net: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """κ = Σ_i |φ_i|² / |Σ_i φ_i|²: how much a row moves its own margin, against how much all rows together move it.

    φ_i is the gradient in the weights of the margin z_y − mean(z) of row i with its clean label.
    """
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def margin(w: dict, row: Tensor, signs: Tensor) -> Tensor:
        return torch.func.functional_call(net, w, (row[None],))[0] @ signs

    signs = torch.nn.functional.one_hot(y).to(x.dtype)
    signs = signs - signs.mean(1, keepdim=True)
    own, total = 0.0, None
    for rows, labels in zip(x.split(256), signs.split(256), strict=True):
        phi = torch.func.vmap(torch.func.grad(margin), (None, 0, 0))(weights, rows, labels)
        phi = torch.cat([g.flatten(1) for g in phi.values()], dim=1).double()
        own, total = own + phi.square().sum(), phi.sum(0) + (0 if total is None else total)
    return (own / total.square().sum()).item()


def logistic_regression(x: Tensor, y: Tensor, x_new: Tensor) -> Tensor:
    """Scores (n, K) of scikit-learn's, with its default penalty."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        model = LogisticRegression(max_iter=200, tol=1e-3).fit(x.double().numpy(), y.numpy())
    return torch.from_numpy(model.predict_log_proba(x_new.double().numpy())).clamp_min(-1e3)


def network_of(stack: Stack, model: int, problem: Problem) -> torch.nn.Sequential:
    """One model of a stack as a module."""
    width, num_classes = stack.shape[1:]
    net = mlp(problem.x.shape[1], width, num_classes)
    w1, w2, b2, w3, b3 = (p[model].detach().cpu() for p in per_model(stack.parameters))
    state = (w1[:-1].T, w1[-1], w2.T, b2[0], w3, b3)
    net.load_state_dict(dict(zip(net.state_dict(), state, strict=True)))
    return net
