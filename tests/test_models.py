"""Networks and devices."""

import pytest
import torch

from nls.models import mlp, pick_device, resnet34, small_cnn


def test_mlp_shapes_and_default_initialisation():
    torch.manual_seed(3)
    net = mlp(5, (7, 6), 4)
    torch.manual_seed(3)
    first = torch.nn.Linear(5, 7)
    assert net(torch.zeros(2, 5)).shape == (2, 4)
    assert torch.equal(net[0].weight, first.weight)


@pytest.mark.parametrize(("make", "weights"), [(resnet34, 21_282_122), (small_cnn, 243_146)])
def test_image_networks(make, weights):
    net = make(10)
    assert sum(p.numel() for p in net.parameters()) == weights
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert make(100)(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_resnet34_keeps_the_resolution_of_small_images():
    """The stem neither strides nor pools: stage 1 sees 32 × 32, stage 4 sees 4 × 4, as in the official code."""
    net, seen = resnet34(10), []
    for stage in (net.layer1, net.layer4):
        stage.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
    net.eval()(torch.zeros(1, 3, 32, 32))
    assert seen == [(64, 32, 32), (512, 4, 4)]


def test_pick_device():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "mps", "meta"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(ValueError, match=r"device: got"):
        pick_device(name)
