"""GLS towards other distributions than the uniform one, and its binary form, against closed forms and `gls_loss`."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from nls import GLSLoss, gls_loss

PRIOR = torch.tensor([0.1, 0.2, 0.0, 0.7], dtype=torch.float64)
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=torch.float64)
rates, seeds = st.floats(-16, 1, allow_subnormal=False), st.integers(0, 2**31)
# torch's own, as in test_losses
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning", "ignore:.torch.jit.:FutureWarning")


def example(shape=(6, 4), seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)


def value_and_grad(loss, *inputs):
    return loss.detach(), *torch.autograd.grad(loss.sum(), inputs, retain_graph=True)


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5)])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weight"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_smooths_towards_the_given_distribution(shape, weight, reduction):
    """The closed form with class indices, floating-point targets, numbers and tensors as rates, and the compiler."""
    logits, target = example(shape)
    target.view(-1)[0] = -100
    keep = target != -100
    view = (-1, *[1] * (len(shape) - 2))
    one_hot = F.one_hot(target.where(keep, 0), 4).movedim(-1, 1).double()
    smooth = (1 + 1.5) * one_hot - 1.5 * PRIOR.view(view)
    w = torch.ones(4, dtype=torch.float64) if weight is None else weight
    loss = (-(smooth * w.view(view) * logits.log_softmax(1)).sum(1)).where(keep, 0)
    share = w[target.where(keep, 0)].where(keep, 0).sum()
    expected = {"none": loss, "sum": loss.sum(), "mean": loss.sum() / share}[reduction]
    options = {"weight": weight, "reduction": reduction, "uniform": PRIOR}
    expected = value_and_grad(expected, logits)
    module = GLSLoss(-1.5, **options)
    assert "uniform=tensor(4,)" in repr(module) and torch.equal(module.state_dict()["uniform"], PRIOR)
    torch.compiler.reset()
    compiled = torch.compile(lambda z, y: gls_loss(z, y, -1.5, **options), backend="aot_eager", fullgraph=True)
    for found in (
        gls_loss(logits, target, -1.5, **options),
        gls_loss(logits, target, torch.tensor(-1.5, dtype=torch.float64), **options),
        module(logits, target),
        compiled(logits, target),
    ):
        assert_close(value_and_grad(found, logits), expected)
    if reduction == "none":
        soft = gls_loss(logits, one_hot, -1.5, **options).where(keep, 0)
        assert_close(value_and_grad(soft, logits), expected)


def test_at_the_prior_the_smoothed_risk_is_least_at_the_smoothed_posterior():
    """With the noisy prior in place of 1 / K, GLS undoes noise that redraws labels from it: r = -e / (1 - e)."""
    e, clean = 0.3, torch.tensor([0.6, 0.3, 0.0, 0.1], dtype=torch.float64)
    noisy = (1 - e) * clean + e * PRIOR
    logits = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses = gls_loss(logits.expand(4, 4), torch.arange(4), -e / (1 - e), reduction="none", uniform=PRIOR)
    assert_close((1 - e) * (noisy * losses).sum(), (1 - e) * F.cross_entropy(logits, clean))


@pytest.mark.parametrize("rate", [-2.0, 0.3, torch.tensor([-2.0, 0.3], dtype=torch.float64)])
def test_masked_classes_cost_nothing(rate):
    logits = torch.tensor([[0.0, 1.0, -math.inf, 2.0], [1.0, 0.0, -math.inf, 0.5]], dtype=torch.float64)
    logits.requires_grad_()
    target = torch.tensor([0, 3])
    assert gls_loss(logits, target, -2.0).isinf()
    left = logits[:, [0, 1, 3]]
    expected = gls_loss(left, torch.tensor([0, 2]), rate, uniform=PRIOR[[0, 1, 3]])
    one_hot = F.one_hot(target, 4).double()
    compiled = torch.compile(lambda z: gls_loss(z, target, rate, uniform=PRIOR), backend="aot_eager")
    for found in (
        gls_loss(logits, target, rate, uniform=PRIOR),
        gls_loss(logits, one_hot, rate, uniform=PRIOR),
        compiled(logits),
    ):
        assert_close(value_and_grad(found, logits), value_and_grad(expected, logits))


def test_derivatives_and_transforms():
    logits, target = example((3, 4))
    rate = torch.tensor([-2.0, -0.5, 0.5], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda z: gls_loss(z, target, -1.0, uniform=PRIOR), logits, check_forward_ad=True)
    assert gradgradcheck(lambda z, r: gls_loss(z, target, r, uniform=PRIOR), (logits, rate))
    loss = lambda z, y: gls_loss(z, y, -1.0, uniform=PRIOR)  # noqa: E731
    by_loop = torch.stack([loss(z, y) for z, y in zip(logits, target, strict=True)])
    assert_close(torch.func.vmap(loss)(logits, target), by_loop)


# One logit a label ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [-8.0, -0.3, 0.0, 0.4, 1.0])
def test_one_logit_is_two_classes(rate):
    """The formula in the docstring of gls_loss."""
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    y = torch.arange(15).view(5, 3) % 2
    found = F.binary_cross_entropy_with_logits(z, (1 - rate) * y.double() + rate / 2)
    expected = gls_loss(torch.stack([torch.zeros_like(z), z], 1), y, rate)
    assert_close(value_and_grad(found, z), value_and_grad(expected, z))


Z, Y = torch.zeros(3, 4), torch.tensor([0, 1, 3])
BAD = {
    "uniform a list": (lambda: gls_loss(Z, Y, 0.1, uniform=[0.25] * 4), TypeError, "uniform: expected a torch.Tensor"),
    "too short": (lambda: gls_loss(Z, Y, 0.1, uniform=torch.ones(3) / 3), ValueError, r"uniform: .* shape \(4,\)"),
    "sum": (lambda: gls_loss(Z, Y, 0.1, uniform=torch.ones(4)), ValueError, "uniform: expected probabilities that sum"),
    "negative": (
        lambda: GLSLoss(0.1, uniform=torch.tensor([-1.0, 2.0])),
        ValueError,
        "uniform: expected probabilities",
    ),
    "soft": (lambda: gls_loss(Z, Z, 0.1, uniform=torch.ones(4)), ValueError, "uniform: expected probabilities"),
    "logits": (lambda: gls_loss([0.0], Y, 0.1, uniform=torch.ones(1)), TypeError, "logits: expected a torch.Tensor"),
    "scalar": (lambda: gls_loss(Z[0, 0], Y, 0.1, uniform=torch.ones(1)), ValueError, "logits: expected shape"),
    "soft at 0": (lambda: gls_loss(Z, Z, 0.0, uniform=torch.ones(3)), ValueError, r"uniform: .* shape \(4,\)"),
    "empty": (lambda: GLSLoss(0.1, uniform=torch.ones(0)), ValueError, "uniform: expected probabilities"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
