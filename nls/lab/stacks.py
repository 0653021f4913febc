"""Many small networks trained at once, as one stack of weights.

All the models of a seed share the split, the initial weights and the order of the batches, and differ in their labels
and in their loss; that pairing is what makes a comparison between rates sharp. It is also what makes it fast: the
first layer of every model sees the same batch, so M models of width h need one product with an (d, M·h) matrix in its
place of M products, and everything after it is a batched product. `benchmarks/table1.py` measures the gain.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..losses import gls_loss
from .methods import Loss
from .metrics import accuracies, calibration
from .models import initialising, mlp

ADAM = partial(torch.optim.Adam, fused=True)
MEMORY_ROWS = 2000  # training rows on which the memory of labels is measured
EVALUATION_ROWS = 256  # rows that a stack evaluates at once, so that the activations stay in cache


@dataclass(frozen=True)
class Problem:
    """What the models of a stack train on and are scored on. Shapes: M models, N rows, d features.

    x (N, d) float32 and y (M, N) int64 are the training rows and each model's noisy labels, y_true (N,) the clean ones;
    x_val (V, d), y_val (M, V) the held-out rows with noisy labels; x_test (n, d), y_test (n,) the clean test set; fresh
    an optional second clean set. order (S, B) int64 names the rows of each of the S mini-batches.
    """

    x: Tensor
    y: Tensor
    y_true: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    order: Tensor
    num_classes: int
    fresh: tuple[Tensor, Tensor] | None = None


class Stack:
    """M copies of one `mlp` with two hidden layers of width h, as five tensors.

    The first bias is the last row of the first weights, and inputs end in a one. The last bias is padded to whole
    vector registers: PyTorch's fused Adam rounds the elements left over after the last full register differently, and
    without the padding a model's bits would depend on who else is in the stack.
    """

    def __init__(self, num_models: int, num_features: int, width: int, num_classes: int, seed: int, device="cpu"):
        with initialising(seed):
            net = mlp(num_features, width, num_classes)
        first, second, third = (m for m in net if isinstance(m, torch.nn.Linear))
        stacked = [
            torch.cat([first.weight.T, first.bias[None]]).repeat(1, num_models),
            *(p.repeat(num_models, 1, 1) for p in (second.weight.T, second.bias[None], third.weight)),
            torch.nn.functional.pad(third.bias.repeat(num_models), (0, -num_models * num_classes % 16)),
        ]
        self.shape = num_models, width, num_classes
        self.parameters = [p.detach().to(device).contiguous().requires_grad_() for p in stacked]

    def __call__(
        self, x: Tensor, parameters: Sequence[Tensor] | None = None, models: Sequence[int] | None = None
    ) -> Tensor:
        """(B, d + 1) rows that end in a one, the same for every model, to (M, K, B) logits; of some `models` or of all.

        The classes come second, as in PyTorch's losses: a product with two columns is slow, one with two rows is not.
        """
        m, h, k = self.shape
        w1, w2, b2, w3, b3 = parameters or self.parameters
        if models is not None:
            w1, w2, b2, w3, b3 = (p[models] for p in per_model((w1, w2, b2, w3, b3)))
            w1, b3, m = w1.transpose(0, 1).flatten(1), b3.flatten(), len(models)
        hidden = torch.mm(x, w1).relu_().view(len(x), m, h).transpose(0, 1)
        hidden = torch.baddbmm(b2, hidden, w2).relu_()
        if hidden.requires_grad:
            hidden.register_hook(Tensor.contiguous)  # its gradient comes transposed, which slows all that follows
        return torch.baddbmm(b3[: m * k].view(m, k, 1), w3, hidden.transpose(1, 2))

    @torch.no_grad()
    def evaluate(self, x: Tensor, parameters: Sequence[Tensor] | None = None) -> Tensor:
        """(N, d) rows to (M, N, K) logits."""
        logits = [self(rows, parameters).transpose(1, 2) for rows in with_ones(x).split(EVALUATION_ROWS)]
        return torch.cat(logits, dim=1)


def per_model(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Views of a stack's parameters, or of their gradients, with the model as their first dimension."""
    w1, w2, b2, w3, b3 = parameters
    m, k, h = w3.shape
    return [w1.view(-1, m, h).transpose(0, 1), w2, b2, w3, b3[: m * k].view(m, k)]


def with_ones(x: Tensor) -> Tensor:
    return torch.nn.functional.pad(x, (0, 1), value=1.0)


def train_stack(
    problem: Problem,
    model_losses: Sequence[Loss],
    *,
    width: int,
    lr: float,
    evaluate_every: int,
    seed: int,
    device: torch.device | str = "cpu",
    optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
    loss: Callable[..., Callable[..., Tensor]] | None = None,
    memory: bool = False,
    curves: bool = False,
) -> tuple[list[dict], Stack]:
    """Train one model per loss; return what is measured of each, in the same order, and the trained stack.

    A model whose logits stop being finite is `diverged`: it keeps the accuracies up to there, and the others of the
    stack are untouched. `seconds` is the stack's time divided by the number of its models. `loss` stands in for
    `stack_loss`. With `memory`, a value an evaluation is kept, too, of `test` (accuracy), `test_nll`, `test_ece`,
    `reproduced` and `fitted` (shares of the first 2,000 training rows with a wrong and with a right label that are
    given their label). With `curves` it is `test` and `heldout_labels` (accuracy on the held-out noisy labels).
    """
    started = time.perf_counter()
    p = problem
    x, y, x_val, y_val, x_test, y_test, order = (
        t.to(device) for t in (p.x, p.y, p.x_val, p.y_val, p.x_test, p.y_test, p.order)
    )
    stack = Stack(len(model_losses), x.shape[1], width, problem.num_classes, seed, device)
    optimizer = optimizer(stack.parameters, lr=lr)
    loss_of = (loss or stack_loss)(model_losses, y, p.num_classes)
    peers = _with_peers(model_losses)
    # Rows for peer inputs and, independently, for peer labels: the batches of other steps.
    peer_rows, peer_labels = order.roll(1, 0), order.roll(len(order) // 2 + 1, 0)

    alive = torch.ones(len(model_losses), dtype=torch.bool, device=device)
    correct, heldout, remembered = [], [], []
    snapshots = None if p.fresh is None else _Snapshots(stack)
    test_logits = stack.evaluate(x_test)  # a model without a single finite evaluation reports its start
    x, x_both = with_ones(x), torch.cat([x_test, x_val])
    for step, batch in enumerate(order, 1):
        logits = stack(x.index_select(0, batch))
        peer_logits = stack(x.index_select(0, peer_rows[step - 1]), models=peers) if peers else logits[:0]
        optimizer.zero_grad(set_to_none=True)
        loss_of(logits, batch, peer_logits, peer_labels[step - 1]).backward()
        optimizer.step()
        if step % evaluate_every and step != len(order):
            continue
        now, val = stack.evaluate(x_both).split([len(x_test), len(x_val)], dim=1)
        alive &= now.flatten(1).sum(1).isfinite()
        test_logits = torch.where(alive[:, None, None], now, test_logits)
        right = test_logits.argmax(-1) == y_test
        score = (val.argmax(-1) == y_val).double().mean(-1)
        # A dead model repeats its last evaluation, which a tie never prefers to the earlier one.
        heldout.append(torch.where(alive, score, heldout[-1] if heldout else torch.zeros_like(score)))
        correct.append(right)
        if memory:
            given = stack.evaluate(p.x[:MEMORY_ROWS].to(device)).argmax(-1) == y[:, :MEMORY_ROWS]
            wrong = y[:, :MEMORY_ROWS] != p.y_true[:MEMORY_ROWS].to(device)
            remembered.append(_memory(given, wrong) | calibration(test_logits, y_test))
        if snapshots:
            snapshots.update(best_test=right.double().mean(-1), noisy_val=heldout[-1])

    measured = accuracies(torch.stack(correct, 1), torch.stack(heldout, 1)) | calibration(test_logits, y_test)
    if memory:
        remembered = {k: torch.stack([r[k] for r in remembered], 1) for k in ("nll", "ece", "reproduced", "fitted")}
        remembered = {f"test_{k}" if k in measured else k: v for k, v in remembered.items()}
        measured |= {"test": torch.stack(correct, 1).double().mean(-1)} | remembered
    if curves:
        measured |= {"test": torch.stack(correct, 1).double().mean(-1), "heldout_labels": torch.stack(heldout, 1)}
    if snapshots:
        measured |= snapshots.score(*(t.to(device) for t in p.fresh))
    seconds = (time.perf_counter() - started) / len(model_losses)
    columns = {k: v.tolist() if v.dim() == 1 else _short(v) for k, v in measured.items()}
    rows = [
        {k: v[m] for k, v in columns.items()} | {"diverged": not alive[m].item(), "seconds": seconds}
        for m in range(len(model_losses))
    ]
    return rows, stack


def _memory(given: Tensor, wrong: Tensor) -> dict[str, Tensor]:
    """Shares (M,) of the rows (M, N) with a wrong and with a right label that are given it; NaN where none are."""
    parts = {"reproduced": wrong, "fitted": ~wrong}
    return {name: (given & rows).sum(1).double() / rows.sum(1) for name, rows in parts.items()}


def _short(curves: Tensor) -> list[list[float | None]]:
    """(M, E) to four decimals; what is not finite becomes None, which JSON knows."""
    return [[round(v, 4) if math.isfinite(v) else None for v in row] for row in curves.tolist()]


def stack_loss(model_losses: Sequence[Loss], y: Tensor, num_classes: int) -> Callable[..., Tensor]:
    """The sum of the models' mean losses, as a function of the logits of a batch and of its peers.

    It takes (M, K, B) logits, the B row numbers, (P, K, B) logits of peer rows for the P models whose loss needs them,
    and the B row numbers of the peer labels. y (M, N) are the models' labels. Losses that are linear in the label go
    through one call, equal ones of the others through a call each: (M, K, B) is PyTorch's (N, K, d1).
    """
    tables = [loss.soft_labels(num_classes) for loss in model_losses]
    linear = [m for m, table in enumerate(tables) if table is not None]
    rows = torch.from_numpy(np.array([tables[m] for m in linear], dtype=np.float32)).to(y.device)
    models = torch.arange(len(linear), device=y.device)[:, None]
    soft = rows[models, y[linear]].transpose(1, 2).contiguous() if linear else None  # (m, K, N)
    equal: dict = {}
    for m, loss in enumerate(model_losses):
        if tables[m] is None:
            fields = vars(loss) | {"T": id(loss.T)}
            equal.setdefault(tuple(fields.values()), []).append(m)
    peers = _with_peers(model_losses)
    calls = [(model_losses[ms[0]], ms, y[ms], [peers.index(m) for m in ms if m in peers]) for ms in equal.values()]

    def loss(logits: Tensor, batch: Tensor, peer_logits: Tensor, peer_batch: Tensor) -> Tensor:
        total = logits.new_zeros(())
        if linear:
            chosen = logits if not calls else logits[linear]
            total = gls_loss(chosen, soft.index_select(2, batch), 0.0, reduction="sum") / len(batch)
        for mean_loss, ms, labels, ps in calls:
            mean = mean_loss(logits[ms], labels[:, batch], peer_logits[ps], labels[:, peer_batch])
            total = total + len(ms) * mean
        return total

    return loss


def _with_peers(model_losses: Sequence[Loss]) -> list[int]:
    return [m for m, loss in enumerate(model_losses) if loss.peers]


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
                kept, now = per_model(self.kept[name]), per_model(self.stack.parameters)
                for old, new in zip(kept, now, strict=True):
                    old[better] = new[better]

    def score(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        choices = {**self.kept, "last": self.stack.parameters}
        right = {k: (self.stack.evaluate(x, p).argmax(-1) == y).double().mean(-1) for k, p in choices.items()}
        return {f"fresh_{k}": v for k, v in right.items()}
