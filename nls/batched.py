"""Many small networks trained at once, as one stack of weights.

All the models of a seed share the split, the initial weights and the order of the batches, and differ in their labels
and in their loss; that pairing is what makes a comparison between rates sharp. It is also what makes it fast: the
first layer of every model sees the same batch, so M models of width h need one product with an (d, M·h) matrix in its
place of M products, and everything after it is a batched product. `benchmarks/table1.py` measures the gain.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import losses
from .metrics import accuracies, calibration
from .models import mlp

EVALUATION_ROWS = 2048  # rows that a stack evaluates at once: bounds the activations to about 15 MB


@dataclass(frozen=True)
class Problem:
    """What the models of a stack train on and are scored on. Shapes: M models, N rows, d features.

    x (N, d) float32 and y (M, N) int64 are the training rows and each model's noisy labels; x_val (V, d), y_val (M, V)
    the held-out rows with noisy labels; x_test (n, d), y_test (n,) the clean test set; fresh an optional second clean
    set. order (S, B) int64 names the rows of each of the S mini-batches.
    """

    x: Tensor
    y: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    order: Tensor
    num_classes: int
    fresh: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Loss:
    """The loss of one model of a stack: a name of `Run.method` with what that method needs."""

    method: str
    rate: float | None = None
    T: Any = None
    divergence: str | None = None

    def __call__(self, logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor) -> Tensor:
        match self.method:
            case "blc":
                return losses.backward_correction(logits, target, self.T)
            case "flc":
                return losses.forward_correction(logits, target, self.T)
            case "complementary":
                return losses.complementary_loss(logits, target)
            case "peer":
                return losses.peer_loss(logits, target, peer_logits, peer_target)
            case "fdiv":
                return losses.f_divergence_loss(logits, target, peer_logits, peer_target, self.divergence)
        raise ValueError(f"method: got {self.method!r}, expected gls, blc, flc, complementary, peer or fdiv")


class Stack:
    """M copies of one `mlp` with two hidden layers of width h, as six tensors that are views of one flat buffer.

    The buffer is padded to whole vector registers. PyTorch's fused Adam rounds the elements left over after the last
    full register differently, and without the padding a model's bits would depend on who else is in the stack.
    """

    def __init__(self, num_models: int, num_features: int, width: int, num_classes: int, seed: int, device="cpu"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = mlp(num_features, (width, width), num_classes)
        first, second, third = (m for m in net if isinstance(m, torch.nn.Linear))
        stacked = [first.weight.T.repeat(1, num_models), first.bias.repeat(num_models)]
        for layer in (second, third):
            stacked += [p.expand(num_models, -1, -1) for p in (layer.weight.T, layer.bias[None])]
        self.shape = num_models, width
        self.flat = torch.zeros(-(-sum(p.numel() for p in stacked) // 16) * 16, device=device)
        self.flat.grad = torch.zeros_like(self.flat)
        self.parameters, start = [], 0
        for p in stacked:
            part = slice(start, start := start + p.numel())
            view = self.flat[part].view(p.shape)
            view.copy_(p.detach())
            self.parameters.append(view.requires_grad_())
            view.grad = self.flat.grad[part].view(p.shape)

    def __call__(self, x: Tensor, parameters: Sequence[Tensor] | None = None) -> Tensor:
        """(B, d) rows, the same for every model, to (M, B, K) logits."""
        w1, b1, w2, b2, w3, b3 = parameters or self.parameters
        hidden = torch.addmm(b1, x, w1).relu_().view(len(x), *self.shape).transpose(0, 1)
        hidden = torch.baddbmm(b2, hidden, w2).relu_()
        return torch.baddbmm(b3, hidden, w3)

    @torch.no_grad()
    def evaluate(self, x: Tensor, parameters: Sequence[Tensor] | None = None) -> Tensor:
        return torch.cat([self(rows, parameters) for rows in x.split(EVALUATION_ROWS)], dim=1)

    def per_model(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Views of the parameters with the model as their first dimension."""
        m, h = self.shape
        w1, b1, *rest = parameters
        return [w1.view(-1, m, h).transpose(0, 1), b1.view(m, h), *rest]


def train(
    problem: Problem,
    model_losses: Sequence[Loss],
    *,
    width: int,
    lr: float,
    evaluate_every: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> tuple[list[dict], Stack]:
    """Train one model per loss with Adam; return what is measured of each, in the same order, and the trained stack.

    A model whose logits stop being finite is `diverged`: it keeps the accuracies up to there, and the others of the
    stack are untouched. `seconds` is the stack's time divided by the number of its models.
    """
    if not model_losses:
        raise ValueError("model_losses: got an empty list, expected at least one loss")
    if len(problem.y) != len(model_losses) or len(problem.y_val) != len(model_losses):
        raise ValueError(f"model_losses: got {len(model_losses)} for {len(problem.y)} rows of labels in problem.y")
    started = time.perf_counter()
    p = problem
    x, y, x_val, y_val, x_test, y_test, order = (
        t.to(device) for t in (p.x, p.y, p.x_val, p.y_val, p.x_test, p.y_test, p.order)
    )
    stack = Stack(len(model_losses), x.shape[1], width, problem.num_classes, seed, device)
    optimizer = torch.optim.Adam([stack.flat], lr=lr, fused=True)
    loss_of = stack_loss(model_losses, order.shape[1], device)
    peers = _peer_order(order) if any(loss.method in ("peer", "fdiv") for loss in model_losses) else None

    alive = torch.ones(len(model_losses), dtype=torch.bool, device=device)
    correct, heldout = [], []
    snapshots = None if p.fresh is None else _Snapshots(stack)
    test_logits = stack.evaluate(x_test)  # what a model reports that is dead at its first evaluation
    for step, rows in enumerate(order, 1):
        logits, target = stack(x[rows]), y[:, rows]
        peer = (stack(x[peers[0][step - 1]]), y[:, peers[1][step - 1]]) if peers else (logits, target)
        optimizer.zero_grad(set_to_none=False)
        loss_of(logits, target, *peer).sum().backward()
        optimizer.step()
        if step % evaluate_every and step != len(order):
            continue
        now = stack.evaluate(x_test)
        alive &= now.isfinite().all(-1).all(-1)
        test_logits = torch.where(alive[:, None, None], now, test_logits)
        right = test_logits.argmax(-1) == y_test
        val = (stack.evaluate(x_val).argmax(-1) == y_val).double().mean(-1)
        # A dead model repeats its last evaluation, which a tie never prefers to the earlier one.
        heldout.append(torch.where(alive, val, heldout[-1] if heldout else torch.zeros_like(val)))
        correct.append(right)
        if snapshots:
            snapshots.update(best_test=right.double().mean(-1), noisy_val=heldout[-1])

    measured = accuracies(torch.stack(correct, 1), torch.stack(heldout, 1)) | calibration(test_logits, y_test)
    if snapshots:
        measured |= snapshots.score(*(t.to(device) for t in p.fresh))
    seconds = (time.perf_counter() - started) / len(model_losses)
    columns = {k: v.tolist() for k, v in measured.items()}
    rows = [
        {k: v[m] for k, v in columns.items()} | {"diverged": not alive[m].item(), "seconds": seconds}
        for m in range(len(model_losses))
    ]
    return rows, stack


def stack_loss(model_losses: Sequence[Loss], batch_size: int, device) -> Callable[..., Tensor]:
    """The function from (M, B, K) logits and (M, B) targets, and the same of the peer batches, to the models' (M,)
    mean losses: first the gls models, all at once, then the others."""
    gls = [m for m, loss in enumerate(model_losses) if loss.method == "gls"]
    rates = torch.tensor([model_losses[m].rate for m in gls], dtype=torch.float32, device=device)
    rates = rates[:, None].expand(-1, batch_size)
    every = len(gls) == len(model_losses)

    def loss(logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor) -> Tensor:
        chosen = (logits, target) if every else (logits[gls], target[gls])
        flat = losses.gls_loss(chosen[0].flatten(0, 1), chosen[1].flatten(), rates.flatten(), reduction="none")
        means = flat.view(len(gls), batch_size).mean(1)
        if every:
            return means
        others = [
            one(logits[m], target[m], peer_logits[m], peer_target[m])
            for m, one in enumerate(model_losses)
            if one.method != "gls"
        ]
        return torch.cat([means, torch.stack(others)])

    return loss


def _peer_order(order: Tensor) -> tuple[Tensor, Tensor]:
    """Rows for peer inputs and, independently, for peer labels: the batches of other steps."""
    return order.roll(1, 0), order.roll(len(order) // 2 + 1, 0)


class _Snapshots:
    """The weights of every model at its best evaluation, under each of several scores."""

    def __init__(self, stack: Stack):
        self.stack, self.best, self.kept = stack, {}, {}

    @torch.no_grad()
    def update(self, **scores: Tensor) -> None:
        for name, score in scores.items():
            if name not in self.kept:
                self.kept[name] = [p.detach().clone() for p in self.stack.parameters]
                self.best[name] = score
                continue
            better = score > self.best[name]
            self.best[name] = torch.where(better, score, self.best[name])
            if better.any():
                kept, now = self.stack.per_model(self.kept[name]), self.stack.per_model(self.stack.parameters)
                for old, new in zip(kept, now, strict=True):
                    old[better] = new[better]

    def score(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        choices = {**self.kept, "last": self.stack.parameters}
        right = {k: (self.stack.evaluate(x, p).argmax(-1) == y).double().mean(-1) for k, p in choices.items()}
        return {f"fresh_{k}": v for k, v in right.items()}
