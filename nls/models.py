"""Networks, and the device they run on."""

import torch
from torch import nn


def mlp(num_features: int, hidden: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Fully connected ReLU network with PyTorch's default initialisation: (N, num_features) -> (N, num_classes)."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(num_features, width), nn.ReLU()]
        num_features = width
    return nn.Sequential(*layers, nn.Linear(num_features, num_classes))


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU. Raises ValueError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device: got {name!r}, expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: got {name!r}, but this machine shows {torch.cuda.device_count()} CUDA devices")
    return device
