"""Networks and devices."""

import pytest
import torch

from nls.models import mlp, pick_device


def test_mlp_shapes_and_default_initialisation():
    torch.manual_seed(3)
    net = mlp(5, (7, 6), 4)
    torch.manual_seed(3)
    first = torch.nn.Linear(5, 7)
    assert net(torch.zeros(2, 5)).shape == (2, 4)
    assert torch.equal(net[0].weight, first.weight)


def test_pick_device():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(ValueError, match=r"device: got"):
        pick_device(name)
