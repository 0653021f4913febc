"""Networks, and the device they run on."""

import platform
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

_INITIALISING = threading.Lock()  # PyTorch initialises from one generator for all threads


@contextmanager
def initialising(seed: int) -> Iterator[None]:
    """Networks made within have the initial weights of `seed`, and nobody else's random numbers change."""
    with _INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def mlp(num_features: int, width: int, num_classes: int) -> nn.Sequential:
    """ReLU network of two hidden layers, PyTorch's default initialisation: (N, num_features) -> (N, num_classes)."""
    hidden = nn.Linear(num_features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
    return nn.Sequential(*hidden, nn.Linear(width, num_classes))


def resnet34(num_classes: int) -> nn.Module:
    """ResNet-34 for 32 × 32 images: a 3 × 3 first convolution and no first pooling. (N, 3, 32, 32) -> (N, num_classes).

    The paper's network for CIFAR (its official code, 21.3 million weights), not pre-trained: torchvision's, initialised
    like the official code's, by PyTorch's default.
    """
    net = resnet34_torchvision(num_classes)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return net


def resnet34_torchvision(num_classes: int) -> nn.Module:
    """`resnet34` at torchvision's own initial weights but for the first layer: normal of variance 2 / fan-out, at most
    layers six times that of PyTorch's default. Before batch norm the scale of a weight w does not change the output,
    but a step of SGD turns w by an angle in proportion to 1 / |w|²."""
    from torchvision import models

    net = models.resnet34(num_classes=num_classes)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net.to(memory_format=torch.channels_last)


def resnet50(num_classes: int) -> nn.Module:
    """ResNet-50, pre-trained on ImageNet, with a new last layer. (N, 3, H, W) -> (N, num_classes).

    The weights are torchvision's, downloaded once (98 MB); OSError where they cannot be had.
    """
    from torchvision import models

    try:
        net = models.resnet50(weights=models.ResNet50_Weights.IMAGENET1K_V1)
    except (OSError, RuntimeError) as error:
        raise OSError(f"resnet50: torchvision's pre-trained weights could not be loaded ({error})") from error
    net.fc = nn.Linear(net.fc.in_features, num_classes)
    return net.to(memory_format=torch.channels_last)


def small_cnn(num_classes: int) -> nn.Module:
    """Four convolutions for a CPU, 243,000 weights at ten classes: (N, 3, 32, 32) -> (N, num_classes).

    The image is halved before every wider layer, the first time by the first convolution, and widths are multiples of
    32, which vector units fill: five times the speed of a plain stack of six convolutions with as many weights.
    """

    def block(channels: int, width: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(channels, width, kernel, stride, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]

    layers = [*block(3, 32, kernel=4, stride=2), *block(32, 64), nn.MaxPool2d(2), *block(64, 128), nn.MaxPool2d(2)]
    layers += [*block(128, 128), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(128, num_classes)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


class WhitenedCNN(nn.Module):
    """Seven convolutions in the manner of CIFAR-10 speed runs, 2 million weights: (N, 3, 32, 32) -> (N, num_classes).

    The first convolution, 2 × 2, is fixed by `whiten`, so that what follows sees uncorrelated patches. Then three
    blocks of two 3 × 3 convolutions with batch norm (no scale, a short memory), GELU and max pooling, initialised to
    pass their input on, and a linear head whose logits are divided by nine. Widths fill a CPU's bfloat16 units.
    After Keller Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (arXiv 2404.00498).
    """

    HEAD_SCALE = 1 / 9

    def __init__(self, num_classes: int, widths: tuple[int, ...] = (24, 64, 256, 256)):
        super().__init__()
        first, *rest = widths
        self.whitening = nn.Conv2d(3, first, 2)
        self.whitening.weight.requires_grad_(False)
        nn.init.zeros_(self.whitening.bias)
        layers: list[nn.Module] = [nn.GELU()]
        for channels, width in zip(widths, rest, strict=False):
            layers += [self._convolution(channels, width), nn.MaxPool2d(2), self._norm(width), nn.GELU()]
            layers += [self._convolution(width, width), self._norm(width), nn.GELU()]
        self.body = nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten())
        self.head = nn.Linear(rest[-1], num_classes, bias=False)

    @staticmethod
    def _convolution(channels: int, width: int) -> nn.Conv2d:
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        nn.init.dirac_(convolution.weight.data[:channels])  # the other filters stay random
        return convolution

    @staticmethod
    def _norm(width: int) -> nn.BatchNorm2d:
        norm = nn.BatchNorm2d(width, momentum=0.4)
        norm.weight.requires_grad_(False)
        return norm

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Set the first convolution to the principal components of the 2 × 2 patches of x (n, 3, H, W), both signs."""
        patches = x.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (components / (variances + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
        self.whitening.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.whitening(x))) * self.HEAD_SCALE


def whitened_cnn(num_classes: int) -> nn.Module:
    """A `WhitenedCNN` in channels-last memory; its first convolution waits for `whiten`."""
    return WhitenedCNN(num_classes).to(memory_format=torch.channels_last)


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU. Raises ValueError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9][0-9]?))?", name):
        raise ValueError(f"device: got {name!r}, expected auto, cpu, cuda or cuda:N")
    if name != "cpu" and int(name[5:] or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: got {name!r}, but this machine shows {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


@cache
def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device has units for it; elsewhere float32, since emulating them takes more than ten times as
    long (x86 without AVX512-BF16, and PyTorch without oneDNN)."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            has_units = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = torch.cpu.get_capabilities()
        has_units = torch.backends.mkldnn.is_available() and (known.get("avx512_bf16") or known.get("bf16"))
    return torch.bfloat16 if has_units else torch.float32


@cache
def versions() -> str:
    return f"python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}"


@cache
def device_name(device: torch.device) -> str:
    """GPU model, or processor model and the instruction set that PyTorch uses on it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"


def _processor() -> str:
    """Processor model; on Linux with family and model numbers, since virtual machines shorten the name."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    info = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in first)}
    if "cpu family" not in info:
        return info.get("model name") or platform.machine()
    return f"{info['model name']} (family {info['cpu family']}, model {info['model']})"
