"""GLS towards other distributions than the uniform one, and its binary form, against closed forms and `gls_loss`."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from nls import GLSLoss, binary_gls_loss, gls_loss

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


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("rate", [-8.0, -0.3, 0.0, 0.4, 1.0])
def test_one_logit_is_two_classes(shape, rate):
    generator = torch.Generator().manual_seed(0)
    z = (3 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    y = torch.randint(2, shape, generator=generator)
    two = torch.stack([torch.zeros_like(z), z], min(1, z.dim()))
    weight, uniform = torch.tensor([0.5, 2.0], dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64)
    for options, binary in (
        ({}, {}),
        ({"uniform": uniform}, {"uniform": 0.7}),
        (
            {"weight": weight, "uniform": uniform},
            {"weight": weight[0], "pos_weight": weight[1] / weight[0], "uniform": 0.7},
        ),
    ):
        for reduction in ("none", "sum") if "weight" in options else ("none", "sum", "mean"):
            expected = value_and_grad(gls_loss(two, y, rate, reduction=reduction, **options), z)
            for target in (y, y.double(), y.bool()):
                found = binary_gls_loss(z, target, rate, reduction=reduction, **binary)
                assert_close(value_and_grad(found, z), expected)


def test_binary_labels_may_be_unknown_soft_and_smoothed_apart():
    z = torch.tensor([[0.5, -1.0], [2.0, 0.3]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[1.0, -1.0], [0.0, 1.0]], dtype=torch.float64)
    loss = binary_gls_loss(z, y, -1.0, ignore_index=-1)
    known = binary_gls_loss(z[[0, 1, 1], [0, 0, 1]], y[[0, 1, 1], [0, 0, 1]], -1.0)
    assert_close(value_and_grad(loss, z), value_and_grad(known, z))
    assert torch.autograd.grad(loss, z)[0][0, 1] == 0
    assert_close(
        binary_gls_loss(z, torch.full_like(z, 0.3), 0.0), F.binary_cross_entropy_with_logits(z, torch.full_like(z, 0.3))
    )
    rate = torch.tensor([-1.0, 0.2], dtype=torch.float64, requires_grad=True)
    own = binary_gls_loss(z, y.clamp(min=0), rate, uniform=torch.tensor([0.1, 0.5]), reduction="none")
    assert_close(own[:, 0], binary_gls_loss(z[:, 0], y[:, 0], -1.0, uniform=0.1, reduction="none"))
    assert gradcheck(lambda z, r: binary_gls_loss(z, y, r, ignore_index=-1), (z, rate))
    assert binary_gls_loss(z.bfloat16(), y.clamp(min=0), -1.0).dtype == torch.float32


@pytest.mark.parametrize("ignore_index", [-100, -1])
def test_no_byte_is_taken_for_the_ignored_label(ignore_index):
    """In uint8, -100 is 156 and -1 is 255."""
    z, byte = torch.zeros(2), torch.tensor([1, ignore_index % 256], dtype=torch.uint8)
    with pytest.raises(ValueError, match=rf"target: expected .* ignore_index = {ignore_index}, got {byte[1]}"):
        binary_gls_loss(z, byte, -1.0, ignore_index=ignore_index)
    loss = binary_gls_loss(z, byte, -1.0, ignore_index=int(byte[1]), reduction="none")
    assert_close(loss, torch.tensor([math.log(2), 0.0]))


@pytest.mark.parametrize("name", ["uniform", "weight", "pos_weight"])
def test_the_loss_keeps_the_type_of_the_logits(name):
    value = torch.tensor([0.1, 0.5], dtype=torch.float64)
    z, y = torch.randn(3, 2), torch.ones(3, 2)
    found = binary_gls_loss(z, y, -1.0, **{name: value})
    assert_close(found, binary_gls_loss(z.double(), y, -1.0, **{name: value}).float())
    assert binary_gls_loss(z.half(), y, -1.0, **{name: value}).dtype == torch.float32


@pytest.mark.parametrize(("z", "y"), [(-math.inf, 0), (math.inf, 1)])
def test_an_infinite_logit_of_weight_0_costs_nothing(z, y):
    z, y = torch.tensor([z, 0.5], requires_grad=True), torch.tensor([y, 0])
    compiled = torch.compile(binary_gls_loss, backend="aot_eager", fullgraph=True)
    for call in (binary_gls_loss, compiled):
        for options in ({"smooth_rate": 0.0}, {"smooth_rate": -0.7, "uniform": float(y[0])}):
            loss, grad = value_and_grad(call(z, y, **options, reduction="none"), z)
            assert loss[0] == 0 and grad[0] == 0 and loss.isfinite().all()
    assert binary_gls_loss(z, 1 - y, 0.0, reduction="none")[0] == math.inf
    assert binary_gls_loss(z, 1 - y, 0.0, weight=torch.tensor([0.0, 1.0]), reduction="none")[0] == 0


def test_finite_logits_go_through_torchs_own_function(monkeypatch):
    """Which is several times as fast as two log-sigmoids; both give the same."""
    z, y = torch.randn(6, 3, dtype=torch.float64, requires_grad=True), torch.randint(2, (6, 3))
    options = {"weight": torch.rand(3).double(), "pos_weight": torch.rand(3).double(), "uniform": 0.3}
    f = lambda z, y: binary_gls_loss(z, y, -2.0, **options)  # noqa: E731
    expected = value_and_grad(torch.func.vmap(f)(z, y).mean(), z)
    torch.compiler.reset()
    assert_close(value_and_grad(torch.compile(f, backend="aot_eager", fullgraph=True)(z, y), z), expected)
    monkeypatch.setattr(F, "logsigmoid", None)
    assert_close(value_and_grad(f(z, y), z), expected)


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
    "binary shape": (
        lambda: binary_gls_loss(Z, Y, 0.1),
        ValueError,
        r"target: expected a tensor of the shape of logits",
    ),
    "binary target": (
        lambda: binary_gls_loss(Z, Z + 2, 0.1),
        ValueError,
        r"target: expected values in \[0, 1\] or ignore_index = -100, got 2",
    ),
    "soft at 0": (lambda: gls_loss(Z, Z, 0.0, uniform=torch.ones(3)), ValueError, r"uniform: .* shape \(4,\)"),
    "empty": (lambda: GLSLoss(0.1, uniform=torch.ones(0)), ValueError, "uniform: expected probabilities"),
    "binary list": (lambda: binary_gls_loss(Z, [0], 0.1), TypeError, "target: expected a torch.Tensor, got list"),
    "binary complex": (lambda: binary_gls_loss(Z, Z + 0j, 0.1), TypeError, "target: expected real .*complex64"),
    "binary uniform": (lambda: binary_gls_loss(Z, Z, 0.1, uniform=1.5), ValueError, r"uniform: .*\[0, 1\].*got 1.5"),
    "binary uniform tensor": (
        lambda: binary_gls_loss(Z, Z, 0.1, uniform=torch.tensor([0.1, 0.2, math.nan, 0.4])),
        ValueError,
        r"uniform: expected a number in \[0, 1\], or a tensor of them, got nan",
    ),
    "binary uniform None": (
        lambda: binary_gls_loss(Z, Z, 0.1, uniform=None),
        TypeError,
        "uniform: expected a number .* got None of type NoneType",
    ),
    "binary uniform str": (lambda: binary_gls_loss(Z, Z, 0.1, uniform="a"), TypeError, "uniform: .* got 'a' of type"),
    "binary uniform shape": (
        lambda: binary_gls_loss(Z, Z, 0.1, uniform=torch.ones(3)),
        ValueError,
        r"uniform: expected .* broadcasts to the shape of logits, \(3, 4\), got shape \(3,\)",
    ),
    "binary uniform grad": (
        lambda: binary_gls_loss(Z, Z, 0.1, uniform=torch.ones(4, requires_grad=True)),
        ValueError,
        "uniform: .* not require grad",
    ),
    "binary weight": (
        lambda: binary_gls_loss(Z, Z, 0.1, weight=[1, 2]),
        TypeError,
        "weight: expected a torch.Tensor, got list",
    ),
    "binary weight shape": (
        lambda: binary_gls_loss(Z, Z, 0.1, weight=torch.ones(2, 3, 4)),
        ValueError,
        r"weight: expected .* \(3, 4\), got shape \(2, 3, 4\)",
    ),
    "binary pos_weight": (
        lambda: binary_gls_loss(Z, Z, 0.1, pos_weight=3),
        TypeError,
        "pos_weight: expected a torch.Tensor, got int",
    ),
    "binary logits": (lambda: binary_gls_loss(Z.long(), Z, 0.1), TypeError, r"logits: expected a floating-point"),
    "binary rate": (lambda: binary_gls_loss(Z, Z, 2.0), ValueError, r"smooth_rate: expected a finite number r <= 1"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
