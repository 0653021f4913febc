"""One network at a time, fast: images live on the device as bytes, and batches are cut, flipped and scaled there.

The same code runs on a CPU and on a GPU: channels-last memory, bfloat16 where the device has units for it, no data
loader; on a GPU the network's passes are replayed as CUDA graphs. Everything random in an epoch comes from (seed,
epoch), so a checkpoint between epochs needs no random state, and a run that was killed ends in the record of a run that
was not.
"""

import copy
import gc
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from .metrics import accuracies, calibration
from .models import compute_dtype

PAD = 4  # pixels, as in the usual random crop
# At a time: activations stay in a CPU's cache (1.4 times the speed of 1,000, the same bits), a GPU has more to do for
# each launch.
EVALUATION_ROWS = {"cpu": 125, "cuda": 1000}
FIT_ROWS = 5000  # training rows on which the memory of labels is measured
CONFIDENCE_BINS = 20
CHECKPOINT_SECONDS = 30.0  # between two checkpoints at least: on a GPU an epoch may take less than half a second

LossOf = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # logits, target, peer logits, peer target


@dataclass(frozen=True)
class Stage:
    """A stretch of training by SGD: `lrs` is the learning rate of every epoch; no epochs, and it is an evaluation.

    `steps` is the number of mini-batches of every epoch, drawn from all rows without replacement; by default all.
    """

    lrs: tuple[float, ...]
    steps: tuple[int, ...] | None = None
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    batch_size: int = 128
    augment: bool = True  # random crop with 4 pixels of padding, and horizontal flip

    def lr_at(self, epoch: int, part: float) -> float:
        """The learning rate of a step, `part` of the epoch's steps being done."""
        return self.lrs[epoch]

    def augments(self, epoch: int) -> bool:
        return self.augment


@dataclass(frozen=True)
class FadingStage(Stage):
    """A stage of which only the first `augmented` epochs augment: what follows meets the same images again and again,
    and memorises their labels."""

    augmented: int = 0

    def augments(self, epoch: int) -> bool:
        return self.augment and epoch < self.augmented


@dataclass(frozen=True)
class LinearStage(Stage):
    """A stage whose learning rate moves linearly from epoch to epoch: `lrs` has its values at their ends."""

    begin: float = 0.0

    def lr_at(self, epoch: int, part: float) -> float:
        before = self.lrs[epoch - 1] if epoch else self.begin
        return before + part * (self.lrs[epoch] - before)


@dataclass(frozen=True)
class Images:
    """Images on the device. x (N, C, H, W) uint8 channels-last; y (N,) noisy labels, y_true the clean ones of the same
    rows; the held-out labels are noisy."""

    x: Tensor
    y: Tensor
    y_true: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    mean: Tensor
    std: Tensor

    def to(self, device: torch.device) -> "Images":
        moved = {k: v.to(device) for k, v in vars(self).items()}
        for name in ("x", "x_val", "x_test"):
            moved[name] = moved[name].contiguous(memory_format=torch.channels_last)
        return Images(**moved)

    def scaled(self, x: Tensor) -> Tensor:
        """Bytes to zero mean and unit variance of each channel."""
        return (x.float() - self.mean[:, None, None]) / self.std[:, None, None]


@dataclass
class History:
    """What an evaluation after every epoch saw; enough for all four accuracies."""

    correct: list[Tensor] = field(default_factory=list)  # bool (n,) each
    heldout: list[float] = field(default_factory=list)
    fit: list[float] = field(default_factory=list)  # share of the noisy training labels that the epoch predicted
    reproduced: list[float] = field(default_factory=list)  # share of mislabelled training rows given their wrong label
    fitted: list[float] = field(default_factory=list)  # share of rightly labelled training rows given their label
    logits: Tensor | None = None  # of the last finite evaluation on the test set
    diverged: bool = False
    seconds: float = 0.0

    def best(self, choice: str) -> int:
        """The epoch, from 0, that the test set ("best_test") or noisy labels ("noisy_val") choose, else the last one.

        Ties go to the earlier.
        """
        scores = {"best_test": [c.double().mean().item() for c in self.correct], "noisy_val": self.heldout}
        return int(np.argmax(scores[choice])) if choice in scores else len(self.correct) - 1

    def measured(self, y_test: Tensor) -> dict:
        """The measured values of a record. A run that diverged keeps the accuracies up to there.

        Beside the four accuracies and the calibration: `auc`, the probability that of a right and a wrong prediction of
        the last evaluation the right one has the greater confidence; one value an evaluation of `test`,
        `heldout_labels`, `fit`, `reproduced` and `fitted` (the last two on the first 5,000 training rows, None where
        none of them is mislabelled); `right` and `wrong`, how many of the last evaluation's right and wrong predictions
        have a confidence in each of 20 bins of equal width.
        """
        logits, y_test = self.logits.cpu(), y_test.cpu()
        correct = torch.stack(self.correct).cpu()
        found = accuracies(correct, torch.tensor(self.heldout, dtype=torch.float64)) | calibration(logits, y_test)
        confidence, predicted = logits.double().softmax(-1).max(-1)
        curves = {"test": correct.double().mean(1).tolist(), "heldout_labels": self.heldout, "fit": self.fit}
        curves |= {"reproduced": self.reproduced, "fitted": self.fitted}
        hit = predicted == y_test
        right, wrong = confidence[hit], confidence[~hit]
        pairs = len(right) * len(wrong)
        auc = float(mannwhitneyu(right, wrong).statistic) / pairs if pairs else 0.5
        counts = {"right": right, "wrong": wrong}
        counts = {k: torch.histc(values, CONFIDENCE_BINS, 0, 1).int().tolist() for k, values in counts.items()}
        curves = {k: [None if math.isnan(v) else round(v, 4) for v in values] for k, values in curves.items()}
        measured = {k: v.item() for k, v in found.items()}
        return measured | {"auc": auc, "diverged": self.diverged, "seconds": self.seconds} | curves | counts


def placements(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws (*shape, 3) for `crop_and_flip`: rows down, columns right, and whether to mirror."""
    shift = torch.randint(2 * PAD + 1, (*shape, 2), generator=generator)
    return torch.cat([shift, torch.randint(2, (*shape, 1), generator=generator)], dim=-1)


def crop_and_flip(x: Tensor, placement: Tensor) -> Tensor:
    """Shift every image by up to 4 pixels in each direction, zeros coming in, and mirror where `placement` says so."""
    n, _, height, width = x.shape
    padded = nn.functional.pad(x, (PAD,) * 4)
    down, right, mirror = placement[:, :, None].unbind(1)
    rows = down + torch.arange(height, device=x.device)
    columns = right + torch.arange(width, device=x.device)
    columns = torch.where(mirror.bool(), columns.flip(1), columns)
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _autocast(device: torch.device, cache: bool = True) -> torch.autocast:
    enabled = compute_dtype(device) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=cache)


def evaluate(net: nn.Module, images: Images, x: Tensor) -> Tensor:
    """Logits (n, K), float32, without touching the running statistics."""
    net.eval()
    with torch.inference_mode(), _autocast(x.device):
        logits = [net(images.scaled(rows)).float() for rows in x.split(EVALUATION_ROWS[x.device.type])]
    net.train()
    return torch.cat(logits)


def train_network(
    net: nn.Module,
    images: Images,
    loss_of: LossOf,
    stage: Stage,
    *,
    seed: int,
    peers: bool = False,
    checkpoint: Path | None = None,
    keep: dict[str, Path] | None = None,
) -> History:
    """Train `net` in place for one stage, evaluating after every epoch.

    `peers` draws a second, independent batch for losses that need one. `checkpoint` is written after an epoch, at most
    every half minute, and at the end, and resumed from if it is there; that of a finished run gives back its history
    and leaves `net` alone. `keep` names files for the weights at the best epoch by "best_test" and by "noisy_val" and
    at the "last" one, written at the end. Stops at the first evaluation whose logits are not finite.
    """
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=max(stage.lrs, default=0.0),
        momentum=stage.momentum,
        nesterov=stage.nesterov,
        weight_decay=stage.weight_decay,
        fused=images.x.device.type == "cuda",
    )
    torch.backends.cudnn.benchmark = True  # shapes do not change
    history, first, kept = History(), 0, {}
    if checkpoint and checkpoint.exists():
        state = load_checkpoint(checkpoint)
        history, first = History(**state["history"]), state["epoch"] + 1
        if history.diverged or "net" not in state:
            return history
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        kept = state["kept"]
    beginning = copy.deepcopy(net.state_dict()) if not history.correct else None
    if not stage.lrs:
        _look(net, images, history, beginning)
        return history
    written = time.monotonic()
    with _graphed(net, images, stage, peers):
        for epoch in range(first, len(stage.lrs)):
            started = time.perf_counter()
            history.fit.append(_epoch(net, images, loss_of, optimizer, stage, seed, epoch, peers))
            _look(net, images, history, beginning)
            history.seconds += time.perf_counter() - started
            if keep:
                weights = copy.deepcopy(net.state_dict())
                kept |= {name: weights for name in keep if history.best(name) == epoch}
            goes_on = epoch + 1 < len(stage.lrs) and not history.diverged
            if goes_on and time.monotonic() - written < CHECKPOINT_SECONDS:
                continue
            state = {"epoch": epoch, "history": vars(history)}
            if goes_on:
                state |= {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "kept": kept}
            else:  # before the checkpoint says so
                for name, weights in kept.items():
                    save_checkpoint(keep[name], {"net": weights})
            if checkpoint:
                save_checkpoint(checkpoint, state)
            written = time.monotonic()
            if not goes_on:
                break
    return history


@contextmanager
def _graphed(net: nn.Module, images: Images, stage: Stage, peers: bool) -> Iterator[None]:
    """On a GPU, forward and backward pass of a step of training each as one CUDA graph: the kernels of a network for
    small images end sooner than the next is launched. Not with peers, whose two passes a step would share the graph's
    memory, and not with images from files, which are read for longer than launching takes.
    """
    device, size = images.x.device, stage.batch_size
    if device.type != "cuda" or peers or not isinstance(images.x, Tensor) or len(images.x) < size:
        yield
        return
    state = copy.deepcopy(net.state_dict())
    x = images.scaled(images.x[:size]).contiguous(memory_format=torch.channels_last)
    gc.collect()  # graphs stay in cycles of references; one that goes during a capture breaks it
    with torch.cuda.device(device), _autocast(device, cache=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch 2.11 warns of the streams of its own warm-up
        warnings.filterwarnings("error", message="The CUDA Graph is empty")
        torch.cuda.make_graphed_callables(net, (x,))
    try:
        net.load_state_dict(state)  # the capture moved the running statistics
        yield
    finally:
        del net.forward
        gc.collect()


def _epoch(net, images, loss_of, optimizer, stage, seed, epoch, peers) -> float:
    """One epoch; the share of its noisy labels that the network predicted, each before the step that it was part of."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
    n, size = len(images.x), stage.batch_size
    steps = min(stage.steps[epoch] if stage.steps else n // size, n // size)
    right = torch.zeros((), dtype=torch.int64, device=images.x.device)

    def order() -> Tensor:
        return torch.randperm(n, generator=generator)[: steps * size].view(-1, size).to(images.x.device)

    # Drawn and moved once an epoch: a copy to a GPU in every step would make it wait.
    number = 1 + peers
    placed = placements((steps, number, size), generator).to(images.x.device) if stage.augments(epoch) else None

    def forward(rows: Tensor, step: int, which: int = 0) -> Tensor:
        x = images.x[rows]
        x = x if placed is None else crop_and_flip(x, placed[step, which])
        return net(images.scaled(x).contiguous(memory_format=torch.channels_last))

    batches = order()
    peer_batches = (order(), order()) if peers else (batches, batches)
    for step, (rows, peer_x, peer_y) in enumerate(zip(batches, *peer_batches, strict=True)):
        optimizer.param_groups[0]["lr"] = stage.lr_at(epoch, step / steps)
        with _autocast(images.x.device):
            logits = forward(rows, step)
            peer_logits = forward(peer_x, step, 1) if peers else logits
        optimizer.zero_grad(set_to_none=True)
        loss_of(logits.float(), images.y[rows], peer_logits.float(), images.y[peer_y]).backward()
        optimizer.step()
        right += (logits.argmax(1) == images.y[rows]).sum()
    return right.item() / max(steps * size, 1)


def _look(net: nn.Module, images: Images, history: History, beginning: dict | None) -> None:
    logits = evaluate(net, images, images.x_test)
    if not logits.isfinite().all():
        history.diverged = True
        if history.correct:
            return
        net.load_state_dict(beginning)  # a run without a single finite evaluation reports its start
        logits = evaluate(net, images, images.x_test)
    history.logits = logits
    history.correct.append((logits.argmax(1) == images.y_test).cpu())
    val = evaluate(net, images, images.x_val).argmax(1) == images.y_val
    history.heldout.append(val.double().mean().item())
    device = images.y.device
    rows = torch.arange(min(FIT_ROWS, len(images.y)), device=device).split(EVALUATION_ROWS[device.type])
    given = torch.cat([evaluate(net, images, images.x[r]).argmax(1) == images.y[r] for r in rows])
    right = (images.y == images.y_true)[: len(given)]
    history.reproduced.append(given[~right].double().mean().item())
    history.fitted.append(given[right].double().mean().item())


def save_checkpoint(path: Path, state: dict) -> None:
    """Write beside, then rename: a kill leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict:
    """Raises ValueError for a damaged file, with what to do about it."""
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises half a dozen types for a truncated or foreign file
        raise ValueError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); delete it to train anew"
        ) from error
