"""Image runs: the data of a seed, the warm-up by cross entropy that its runs share, and the run's own loss after it.

A warm-up is trained once per data set, noise and seed, and kept with three of its epochs' weights in the checkpoint
folder: whatever starts from it, on this machine or after a kill, finds it there.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import filelock
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from ..noise import estimate_transition
from . import data, labels, models
from .methods import Loss, correction
from .runs import BATCHES, INIT, SPLIT, Recipe, Run, stream
from .trainer import History, Images, Stage, evaluate, load_checkpoint, train_network

WHITENING_ROWS = 5000
STARTS = ("best_test", "noisy_val", "last")
# Mean and standard deviation of the training pixels of each channel, from 0 to 255.
SCALE = {
    "cifar10": ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    "cifar100": ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
    "digits": ((77.0,) * 3, (94.0,) * 3),
    "clothing1m": ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)),  # of ImageNet, on which its network was trained
}


@dataclasses.dataclass(frozen=True)
class ImageRecipe(Recipe):
    """A network trained by cross entropy (`warmup`), then by the run's own loss from one of its checkpoints (`stage`).

    Without a `stage` the run's own loss is trained from scratch, by the schedule of `warmup`.
    """

    network: str  # a name of `models`
    warmup: Stage
    stage: Stage | None = None
    rows: int | None = None  # training images, the held-out ones included; all by default
    heldout_fraction: float = 0.1  # of the training images; noisy labels, never trained on
    version: int = 1  # raised when the code changes what this recipe trains, if only in the last bits

    def keys(self) -> dict:
        """The first learning rate of the stage in which the run's own loss is trained; 0 if it is not trained."""
        return {"lr": max((self.stage or self.warmup).lrs[:1], default=0.0)}

    def warm_up(self, run: Run) -> Run | None:
        return None if run.start == "scratch" else warm_up_of(run)

    def train(self, runs: Sequence[Run], device: torch.device) -> list[dict]:
        return [fit(run, device)[0].measured(problem(run, device).images.y_test) for run in runs]


@dataclasses.dataclass(frozen=True)
class Problem:
    """What the runs of one label set and seed share: images on the device, clean labels of the same training rows."""

    images: Images
    num_classes: int
    checksum: str


def problem(run: Run, device: torch.device) -> Problem:
    """The data of a run: a seed draws which rows are held out (with noisy labels) and, if fewer, which are used."""
    recipe = dataclasses.replace(run.recipe, network="", warmup=Stage(()), stage=None)
    only = {"table": "", "regime": "", "method": "", "rate": None, "variant": None, "start": ""}
    return cached_problem(dataclasses.replace(run, recipe=recipe, **only), device)


@lru_cache(maxsize=1)
def cached_problem(run: Run, device: torch.device) -> Problem:
    d = data.load(run.dataset)
    noisy = labels.noisy_labels(run, d.y_train, d.num_classes)
    order = stream(run.seed, SPLIT).permutation(len(d.y_train))[: run.recipe.rows]
    held, kept = np.split(order, [round(run.recipe.heldout_fraction * len(order))])
    part = Files if d.x_train.dtype.hasobject else partial(as_images, run.dataset)
    mean, std = (torch.tensor(values) for values in SCALE[run.dataset])
    images = Images(
        x=part(d.x_train[kept]),
        y=torch.from_numpy(noisy[kept]),
        y_true=torch.from_numpy(d.y_train[kept]),
        x_val=part(d.x_train[held]),
        y_val=torch.from_numpy(noisy[held]),
        x_test=part(d.x_test),
        y_test=torch.from_numpy(d.y_test),
        mean=mean,
        std=std,
    )
    return Problem(images.to(device), d.num_classes, d.checksum)


class Files:
    """Images that do not fit into memory: what is asked for is decoded, scaled and cut to squares, batch by batch.

    Looks like a tensor (N, 3, SIDE, SIDE) of bytes to the trainer. OSError names a picture that cannot be read.
    """

    SIDE = 256

    def __init__(self, names: np.ndarray, device: torch.device | str = "cpu"):
        self.names, self.device = names, torch.device(device)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: Tensor) -> Tensor:
        with ThreadPoolExecutor() as pool:
            return torch.stack(list(pool.map(self._picture, self.names[rows.cpu().numpy()]))).to(self.device)

    def _picture(self, name: str) -> Tensor:
        path = data.data_dir() / data.CLOTHING1M / name
        try:
            with Image.open(path) as file:
                picture = file.convert("RGB")
        except OSError as error:
            raise OSError(f"{path}: not a readable picture ({error})") from error
        square = ImageOps.fit(picture, (self.SIDE, self.SIDE), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)

    def split(self, size: int) -> Iterator[Tensor]:
        return (self[rows] for rows in torch.arange(len(self)).split(size))

    def to(self, device: torch.device) -> "Files":
        return Files(self.names, device)

    def contiguous(self, memory_format: torch.memory_format) -> "Files":
        return self


def as_images(dataset: str, x: np.ndarray) -> Tensor:
    """(N, H, W, 3) bytes as (N, 3, H, W); digits, 8 × 8 with values to 16, enlarged to 32 × 32 in three channels."""
    if dataset == "digits":
        x = np.minimum(x.astype(np.uint8) * 16, 255).astype(np.uint8)
        x = np.repeat(x.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
    return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2)


def network(run: Run, p: Problem, device: torch.device) -> nn.Module:
    """The run's network at the initial weights of its seed, and whitening on its training images where it whitens."""
    with models.initialising(int(stream(run.seed, INIT).integers(2**31))):
        net = getattr(models, run.recipe.network)(p.num_classes).to(device)
    if isinstance(net, models.WhitenedCNN):
        net.whiten(p.images.scaled(p.images.x[:WHITENING_ROWS]))
    return net


def warm_up_of(run: Run) -> Run:
    """The run from scratch by plain cross entropy whose checkpoints `run` starts from."""
    recipe = dataclasses.replace(run.recipe, stage=None)
    return dataclasses.replace(run, method="gls", rate=0.0, variant=None, start="scratch", recipe=recipe)


def folder_of(run: Run, checksum: str, device: torch.device) -> Path:
    """The checkpoint folder of the warm-up that belongs to a run: of these data, this device and these versions."""
    origin = hashlib.sha256(f"{models.device_name(device)} {models.versions()}".encode()).hexdigest()[:12]
    return data.cache_dir() / "checkpoints" / f"{warm_up_of(run).config}-{checksum}-{origin}"


def fit(run: Run, device: torch.device) -> tuple[History, nn.Module]:
    """Train one run (and first its warm-up, where the checkpoint folder lacks it); its history and its network.

    A run that was killed goes on after its last checkpoint. The network of a run that had already ended is the start's.
    """
    p = problem(run, device)
    net, folder = network(run, p, device), folder_of(run, p.checksum, device)
    folder.mkdir(parents=True, exist_ok=True)
    if run.start == "scratch":
        with filelock.FileLock(folder / f"{run.config}.lock"):
            keep = {start: folder / f"{start}.pt" for start in STARTS} if run == warm_up_of(run) else None
            return _train(run, net, p, folder / f"{run.config}.pt", keep), net
    if run.start not in STARTS:
        raise ValueError(f"start: got {run.start!r}, expected scratch, {', '.join(STARTS)}")
    history = folder / f"{warm_up_of(run).config}.pt"
    with filelock.FileLock(history.with_suffix(".lock")):
        lost = history.exists() and not (folder / f"{run.start}.pt").exists()
        if lost and "net" not in load_checkpoint(history):  # removed by hand: the warm-up is trained again
            history.unlink()
    warm = fit(warm_up_of(run), device)[0]
    net.load_state_dict(load_checkpoint(folder / f"{run.start}.pt")["net"])
    # Two starts may be one epoch, and then their runs are one: the checkpoint is named after the epoch.
    once = dataclasses.replace(run, start=str(warm.best(run.start)))
    history = _train(run, net, p, folder / f"{once.config}.pt", None)
    return dataclasses.replace(history, seconds=history.seconds + warm.seconds), net


def _train(run: Run, net: nn.Module, p: Problem, checkpoint: Path, keep: dict[str, Path] | None) -> History:
    stage = run.recipe.stage or run.recipe.warmup
    loss = loss_of(run, net, p)
    seed = int(stream(run.seed, BATCHES, int(run.start != "scratch")).integers(2**31))
    return train_network(net, p.images, loss, stage, seed=seed, peers=loss.peers, checkpoint=checkpoint, keep=keep)


def loss_of(run: Run, net: nn.Module, p: Problem) -> Loss:
    """The run's loss. An estimated T is Patrini's, from the predictions of the network that the run starts from."""
    T = None
    if correction(run) == "true":
        T = labels.true_transition(run, p.images.y_true.cpu().numpy(), p.images.y.cpu().numpy(), p.num_classes)
    elif correction(run) == "estimated":
        logits = evaluate(net, p.images, p.images.x)
        T = estimate_transition(logits.double().softmax(1), filter_outliers=p.num_classes <= 10)
    return Loss.of(run, T)
