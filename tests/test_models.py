"""Networks and devices."""

import pytest
import torch

from nls.lab.models import compute_dtype, mlp, pick_device, resnet34, resnet34_torchvision, small_cnn, whitened_cnn


def test_mlp_shapes_and_default_initialisation():
    torch.manual_seed(3)
    net = mlp(5, 7, 4)
    torch.manual_seed(3)
    first = torch.nn.Linear(5, 7)
    assert net(torch.zeros(2, 5)).shape == (2, 4)
    assert torch.equal(net[0].weight, first.weight)


@pytest.mark.parametrize(("make", "weights"), [(resnet34, 21_282_122), (small_cnn, 243_146), (whitened_cnn, 1_972_792)])
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


def test_the_two_initialisations_of_resnet34():
    """PyTorch's default has variance 1 / (3 fan-in), torchvision's 2 / fan-out: where width and resolution stay, six
    times that."""
    for make, times in ((resnet34, 1), (resnet34_torchvision, 6)):
        weight = make(10).layer3[1].conv1.weight
        assert weight.var().item() == pytest.approx(times / (3 * 256 * 9), rel=0.02)


def test_the_first_convolution_whitens_patches():
    """On the images that it was made from its outputs are uncorrelated, of one variance, and come in both signs."""
    x = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)).cumsum(3).cumsum(2) / 20
    net = whitened_cnn(10)
    net.whiten(x)
    out = net.whitening(x).permute(1, 0, 2, 3).flatten(1).double()
    assert torch.allclose(out[:12], -out[12:], atol=1e-4)
    moments = out[:12] @ out[:12].T / out.shape[1]
    loudest = moments[3:, 3:]  # of the faintest directions the constant that keeps the division finite takes some
    assert torch.allclose(loudest, torch.diag(loudest.diag()), atol=1e-3)
    assert 0.9 < loudest.diag().min() <= loudest.diag().max() <= 1.001
    assert not net.whitening.weight.requires_grad


def test_blocks_begin_by_passing_their_input_on():
    first = whitened_cnn(10).body[1]
    x = torch.randn(2, 24, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(first(x)[:, :24], x, atol=1e-6)


@pytest.mark.parametrize(
    ("capabilities", "onednn", "expected"),
    [
        ({"avx512_bf16": True}, True, torch.bfloat16),
        ({"bf16": True}, True, torch.bfloat16),  # ARM
        ({"avx512_f": True, "avx512_bf16": False}, True, torch.float32),
        ({"bf16": True}, False, torch.float32),
        ({}, True, torch.float32),
    ],
)
def test_a_processor_computes_in_bfloat16_only_with_units_for_it(monkeypatch, capabilities, onednn, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    assert compute_dtype.__wrapped__(torch.device("cpu")) == expected


def test_pick_device():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "cuda:128", "cpu:7", "mps", "meta"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(ValueError, match=r"device: got"):
        pick_device(name)
