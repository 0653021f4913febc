"""The losses against torch, timm, closed forms in float64 and each other."""

import copy
import itertools
import math
import shutil
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.loss import LabelSmoothingCrossEntropy
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close

from nls import (
    GLSLoss,
    backward_correction,
    complementary_loss,
    f_divergence_loss,
    forward_correction,
    gls_loss,
    peer_loss,
    r_opt,
    symmetric,
)

# torch's own: its forward-mode rules still script functions, and its tracer warns of every check of a shape.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),
]

RATES = [-16.0, -6.0, -1.0, -0.3, 0.0, 0.1, 0.7, 1.0]
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
rates = st.floats(-16, 1, allow_subnormal=False)
seeds = st.integers(0, 2**31)


def example(shape=(6, 4), seed=0, dtype=torch.float64, scale=3.0, ignored=False):
    """Logits that require grad, and class indices."""
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
    dim = min(1, len(shape) - 1)
    target = torch.randint(shape[dim], shape[:dim] + shape[dim + 1 :], generator=generator)
    if ignored:
        target.view(-1)[::3] = -100
    return logits.requires_grad_(), target


def pairwise(**options):
    """Parametrise by as few combinations as hold every pair of values of two options; found greedily."""
    every = list(itertools.product(*options.values()))
    pairs = lambda row: set(itertools.combinations(enumerate(row), 2))  # noqa: E731
    missing, chosen = set().union(*map(pairs, every)), []
    while missing:
        chosen.append(max(every, key=lambda row: len(pairs(row) & missing)))
        missing -= pairs(chosen[-1])
    return pytest.mark.parametrize(list(options), chosen)


def value_and_grad(loss, logits):
    return loss.detach(), torch.autograd.grad(loss.sum(), logits)[0]


def closed_form(z, y, r):
    return z.logsumexp(1) - (1 - r) * z.gather(1, y[:, None]).squeeze(1) - r * z.mean(1)


def asymmetric(K=4):
    return torch.eye(K, dtype=torch.float64).roll(1, 1) * 0.3 + 0.7 * torch.eye(K, dtype=torch.float64)


LOSSES = {
    "gls": lambda z, y, **kw: gls_loss(z, y, -1.5, **kw),
    "gls_tensor_rate": lambda z, y, **kw: gls_loss(z, y, torch.tensor(-1.5, dtype=torch.float64), **kw),
    "backward": lambda z, y, **kw: backward_correction(z, y, asymmetric(), **kw),
    "forward": lambda z, y, **kw: forward_correction(z, y, asymmetric(), **kw),
    "complementary": complementary_loss,
}
PAIRED = {
    "peer": lambda z, y: peer_loss(z, y, z.flip(0), y, 0.7),
    "fdiv": lambda z, y: f_divergence_loss(z, y, z.flip(0), y, "js"),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


# Against torch and timm ----------------------------------------------------------------------------------------------


@pairwise(
    shape=[(4,), (6, 4), (3, 4, 5), (2, 4, 3, 2)],
    rate=[0.0, 0.3, 1.0],
    weighted=[False, True],
    ignore_index=[-100, -1, 2],
    reduction=["none", "sum", "mean"],
)
def test_equals_torch_for_class_indices(shape, rate, weighted, ignore_index, reduction):
    logits, target = example(shape)
    if ignore_index < 0 and target.dim():
        target.view(-1)[::2] = ignore_index
    arguments = {
        "weight": torch.tensor([0.5, 2.0, 1.0, 0.0], dtype=torch.float64) if weighted else None,
        "ignore_index": ignore_index,
        "reduction": reduction,
    }
    ours = value_and_grad(gls_loss(logits, target, rate, **arguments), logits)
    torchs = value_and_grad(F.cross_entropy(logits, target, label_smoothing=rate, **arguments), logits)
    assert_close(ours, torchs, rtol=1e-12, atol=1e-12)
    per_example = torch.full(target.shape, rate, dtype=torch.float64)
    assert_close(
        value_and_grad(gls_loss(logits, target, per_example, **arguments), logits), torchs, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    ("shape", "weighted", "reduction"),
    [((4,), True, "mean"), ((6, 4), False, "sum"), ((3, 4, 5), False, "mean"), ((3, 4, 5), True, "none")],
)
def test_equals_torch_for_floating_point_targets(shape, weighted, reduction):
    logits, _ = example(shape)
    target = torch.rand(shape, dtype=torch.float64)  # does not sum to one
    weight = torch.tensor([0.5, 2.0, 1.0, 0.0], dtype=torch.float64) if weighted else None
    for rate in (0.0, 0.3, 1.0):
        ours = gls_loss(logits, target, rate, weight=weight, reduction=reduction)
        torchs = F.cross_entropy(logits, target, weight, label_smoothing=rate, reduction=reduction)
        assert_close(value_and_grad(ours, logits), value_and_grad(torchs, logits), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "weighted"), [((4,), True), ((6, 4), False), ((3, 4, 5), True)])
def test_one_hot_targets_are_class_indices(shape, weighted):
    logits, target = example(shape)
    dim = min(1, len(shape) - 1)
    one_hot = F.one_hot(target, 4).movedim(-1, dim).double()
    weight = torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=torch.float64) if weighted else None
    per_example = torch.linspace(-4, 1, target.numel(), dtype=torch.float64).reshape(target.shape)
    for rate in (-2.0, per_example):
        hard = gls_loss(logits, target, rate, weight=weight, reduction="none")
        soft = gls_loss(logits, one_hot, rate, weight=weight, reduction="none")
        assert_close(value_and_grad(hard, logits), value_and_grad(soft, logits))


@given(rate=rates, seed=seeds)
@settings(max_examples=25, deadline=None)
def test_equals_timm_for_negative_rates_too(rate, seed):
    logits, target = example((5, 7), seed)
    timm = LabelSmoothingCrossEntropy(0.0)
    timm.smoothing, timm.confidence = rate, 1 - rate
    assert_close(value_and_grad(gls_loss(logits, target, rate), logits), value_and_grad(timm(logits, target), logits))


def test_torch_silently_ignores_a_negative_rate():
    """The trap that this package exists for: whoever tries NLS with the built-in trains plain cross entropy."""
    logits, target = example()
    builtin = F.cross_entropy(logits, target, label_smoothing=-0.4)
    assert torch.equal(builtin, F.cross_entropy(logits, target))
    assert not torch.isclose(gls_loss(logits, target, -0.4), builtin, rtol=1e-2)


def test_at_rate_zero_it_is_torchs_cross_entropy_and_no_more():
    logits, target = example((6, 4), dtype=torch.float32)
    ours, torchs = (
        loss(logits, target, reduction="none")
        for loss in (lambda *args, **kw: gls_loss(*args, 0.0, **kw), F.cross_entropy)
    )
    assert type(ours.grad_fn) is type(torchs.grad_fn)
    assert all(map(torch.equal, value_and_grad(ours, logits), value_and_grad(torchs, logits)))


def test_accepts_bytes_as_torch_does():
    logits, target = example((300, 200))
    target[0] = 156  # -100 as an unsigned byte: must not be taken for ignore_index
    ours = gls_loss(logits, target.byte(), 0.1, reduction="none")
    assert_close(ours, F.cross_entropy(logits, target, label_smoothing=0.1, reduction="none"))


def test_empty_and_fully_ignored_batches_are_as_in_torch():
    for logits, target in (
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(2, 3), torch.full((2,), -100)),
    ):
        logits.requires_grad_()
        for loss in (LOSSES["gls"], lambda *a, **kw: gls_loss(*a, 0.0, **kw), complementary_loss):
            assert loss(logits, target).isnan()
            assert loss(logits, target, reduction="sum") == 0
            assert torch.equal(loss(logits, target, reduction="none"), torch.zeros(len(target)))
            grad = torch.autograd.grad(loss(logits, target, reduction="sum"), logits)[0]
            assert torch.equal(grad, torch.zeros_like(logits))


# Closed forms --------------------------------------------------------------------------------------------------------


@given(rate=rates, seed=seeds, K=st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_closed_form_and_gradient(rate, seed, K):
    logits, target = example((5, K), seed)
    loss, grad = value_and_grad(gls_loss(logits, target, rate, reduction="none"), logits)
    smooth = (1 - rate) * F.one_hot(target, K).double() + rate / K
    assert_close(loss, closed_form(logits, target, rate).detach(), rtol=1e-10, atol=1e-10)
    assert_close(loss, -(smooth * F.log_softmax(logits, 1)).sum(1).detach(), rtol=1e-10, atol=1e-10)
    assert_close(grad, logits.detach().softmax(1) - smooth, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(), (1,), (1, 5), (3, 1)])
def test_rate_broadcasts_to_the_shape_of_the_indices(shape):
    logits, target = example((3, 4, 5))
    rate = torch.linspace(-2, 1, math.prod(shape), dtype=torch.float64).reshape(shape)
    loss, grad = value_and_grad(gls_loss(logits, target, rate, reduction="none"), logits)
    full = rate.expand(3, 5)
    for n in range(3):
        for d in range(5):
            expected = gls_loss(logits[n, :, d], target[n, d], full[n, d].item())
            assert_close(loss[n, d], expected.detach())
            assert_close(grad[n, :, d], torch.autograd.grad(expected, logits)[0][n, :, d])
    soft = F.one_hot(target, 4).movedim(-1, 1).double()
    assert_close(gls_loss(logits, soft, rate, reduction="none").detach(), loss)


def test_a_rate_for_each_example_is_not_taken_for_one_for_each_place():
    logits, target = example((4, 3, 4))
    for y in (target, F.one_hot(target, 3).movedim(-1, 1).double()):
        with pytest.raises(ValueError, match=r"^smooth_rate: expected .* 2 dimensions .* got shape \(4,\)"):
            gls_loss(logits, y, torch.zeros(4))


@given(seed=seeds, K=st.integers(2, 12), fraction=st.floats(0, 0.9))
@settings(max_examples=50, deadline=None)
def test_backward_correction_is_gls_at_r_opt(seed, K, fraction):
    """Section 5 of the paper, Thm 5.2: under symmetric noise, example by example."""
    noise_rate = fraction * (K - 1) / K
    logits, target = example((5, K), seed)
    corrected = backward_correction(logits, target, torch.from_numpy(symmetric(K, noise_rate)), reduction="none")
    smoothed = gls_loss(logits, target, r_opt(noise_rate, K), reduction="none")
    assert_close(value_and_grad(corrected, logits), value_and_grad(smoothed, logits), rtol=1e-12, atol=1e-11)


@given(seed=seeds, K=st.integers(2, 12))
@settings(max_examples=25, deadline=None)
def test_complementary_loss_is_the_limit_of_gls(seed, K):
    logits, target = example((5, K), seed)
    l = -F.log_softmax(logits, 1)
    own = l.gather(1, target[:, None]).squeeze(1)
    loss = complementary_loss(logits, target, reduction="none")
    assert_close(loss, own - (l.sum(1) - own) / (K - 1), rtol=1e-10, atol=1e-10)
    for rate in (-1e4, -1e7):
        limit = gls_loss(logits, target, rate, reduction="none") / (1 - rate)
        assert_close(loss, K / (K - 1) * limit, rtol=0, atol=40 * 2 / -rate)


def test_corrections_are_unbiased_and_proper_on_a_known_posterior():
    """E over noisy labels of the backward loss is the clean loss; forward is cross entropy of the noisy posterior."""
    T = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.3, 0.3, 0.4]], dtype=torch.float64)
    logits, _ = example((5, 3))
    l = -F.log_softmax(logits, 1)
    noisy = [torch.full((5,), j) for j in range(3)]
    per_label = torch.stack([backward_correction(logits, y, T, reduction="none") for y in noisy], 1)
    assert_close(per_label @ T.t(), l)  # column i: the expectation when the clean label is i
    p = logits.softmax(1) @ T
    for j, y in enumerate(noisy):
        assert_close(forward_correction(logits, y, T, reduction="none"), -p[:, j].log())


@pytest.mark.parametrize("correction", [backward_correction, forward_correction])
def test_corrections_without_noise_are_cross_entropy(correction):
    weight = torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=torch.float64)
    for shape, T in [((4,), np.eye(4)), ((6, 4), torch.eye(4)), ((3, 4, 5), np.eye(4, dtype=int))]:
        logits, target = example(shape, ignored=len(shape) > 1)
        torchs = value_and_grad(F.cross_entropy(logits, target, weight), logits)
        assert_close(value_and_grad(correction(logits, target, T, weight=weight), logits), torchs)


@every_loss
def test_reductions_weights_and_ignored_labels(loss):
    logits, target = example((7, 4), ignored=True)
    weight = torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=torch.float64)
    keep = target != -100
    plain = loss(logits, target, reduction="none")
    assert torch.equal(plain == 0, ~keep)
    assert_close(plain[keep], loss(logits[keep], target[keep], reduction="none"))
    assert_close(loss(logits, target), plain[keep].mean())
    weighted = loss(logits, target, weight=weight, reduction="none")
    factor = weight[target.clamp(min=0)] * keep
    assert_close(loss(logits, target, weight=weight, reduction="sum"), weighted.sum())
    assert_close(loss(logits, target, weight=weight), weighted.sum() / factor.sum())
    if loss not in (LOSSES["gls"], LOSSES["gls_tensor_rate"]):  # there the uniform part has weights of its own
        assert_close(weighted, plain * factor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("correction", [backward_correction, forward_correction])
def test_a_transition_matrix_in_half_precision_is_taken_and_its_rows_made_to_sum_to_one(correction, dtype):
    T = torch.from_numpy(symmetric(10, 0.2)).to(dtype)
    exact = T.double() / T.double().sum(1, keepdim=True)
    assert (T.double().sum(1) - 1).abs().max() > 1e-4  # else this would test nothing
    logits, target = example((6, 10))
    expected = correction(logits, target, exact)
    traced = make_fx(lambda z, y: correction(z, y, T))(logits, target)
    for found in (correction(logits, target, T), traced(logits, target)):
        assert_close(found, expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"^T: expected rows that sum to 1, got 1\.0[2-9]"):
        correction(logits, target, T * 1.05)


def test_peer_loss_is_cross_entropy_minus_the_peers():
    (logits, target), (peer_logits, peer_target) = example((6, 4)), example((9, 4), 1)
    ce, peer_ce = F.cross_entropy(logits, target), F.cross_entropy(peer_logits, peer_target)
    assert_close(peer_loss(logits, target, peer_logits, peer_target), ce - peer_ce)
    assert_close(peer_loss(logits, target, peer_logits, peer_target, -0.3), ce + 0.3 * peer_ce)


def test_peer_loss_at_equal_priors_is_gls_at_minus_infinity():
    """Thm 5.5: with labels of equal prior, the mean over all peer pairs is the limit of GLS / (1 - r)."""
    logits, _ = example((8, 4))
    target = torch.arange(8) % 4
    pairs = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    expected = peer_loss(logits, target, logits[pairs[:, 0]], target[pairs[:, 1]])
    assert_close(expected, 3 / 4 * complementary_loss(logits, target))


@pytest.mark.parametrize(
    ("divergence", "g", "conjugate"),
    [
        ("tv", lambda v: math.tanh(v) / 2, lambda g: g),
        ("kl", lambda v: v, lambda g: math.exp(g - 1)),
        ("js", lambda v: math.log(2) - math.log(1 + math.exp(-v)), lambda g: -math.log(2 - math.exp(g))),
        ("pearson", lambda v: v, lambda g: g * g / 4 + g),
        ("jeffrey", lambda v: v, lambda g: g + g * g / 4 + g**3 / 16),
    ],
)
def test_f_divergences(divergence, g, conjugate):
    (logits, target), (peer_logits, peer_target) = example((5, 4)), example((3, 4), 1)
    v = logits.softmax(1)[range(5), target].tolist()
    peer = peer_logits.softmax(1)[range(3), peer_target].tolist()
    expected = np.mean([conjugate(g(x)) for x in peer]) - np.mean([g(x) for x in v])
    loss = f_divergence_loss(logits, target, peer_logits, peer_target, divergence)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    own_grad = torch.autograd.grad(loss, logits)[0][range(5), target]
    assert (own_grad < 0).all()


# Numerics ------------------------------------------------------------------------------------------------------------


@pairwise(rate=[-16.0, 0.0, 1.0], scale=[0.1, 3.0, 1e4], dtype=[torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_against_float64(rate, scale, dtype):
    logits, target = example((64, 33), dtype=dtype, scale=scale)
    exact = logits.detach().double().requires_grad_()
    loss, grad = value_and_grad(gls_loss(logits, target, rate, reduction="none"), logits)
    expected, expected_grad = value_and_grad(closed_form(exact, target, rate), exact)
    assert loss.dtype == torch.float32
    assert grad.dtype == dtype
    size = (1 + 2 * abs(rate)) * (1 + exact.detach().abs().amax(1))
    assert ((loss - expected).abs() <= 1e-6 * size).all()
    rounding = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert_close(grad.double(), expected_grad, rtol=rounding, atol=1e-5 * (1 + abs(rate)))


@pytest.mark.parametrize("loss", [*LOSSES.values(), *PAIRED.values()], ids=[*LOSSES, *PAIRED])
def test_half_precision_is_computed_in_float32(loss):
    for dtype in (torch.float16, torch.bfloat16):
        logits, target = example((6, 4), dtype=dtype)
        full = logits.detach().float().requires_grad_()
        value, grad = value_and_grad(loss(logits, target), logits)
        expected, expected_grad = value_and_grad(loss(full, target), full)
        assert torch.equal(value, expected)
        assert value.dtype == torch.float32
        # of peers two gradients of half precision are added
        assert_close(grad.float(), expected_grad, rtol=2 * torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, torch.tensor(0.0), torch.zeros(2)])
def test_masked_classes_leave_cross_entropy_finite(rate):
    logits = torch.tensor([[1.0, -math.inf, 2.0], [0.0, 0.0, -math.inf]], requires_grad=True)
    target = torch.tensor([0, 1])
    assert_close(
        value_and_grad(gls_loss(logits, target, rate), logits), value_and_grad(F.cross_entropy(logits, target), logits)
    )
    assert gls_loss(logits, target, 0.1) == math.inf
    assert gls_loss(logits, target, -0.1) == -math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_correction_has_finite_gradients_at_zeros(dtype):
    T = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    logits = torch.tensor([[0.0, 0, 0], [0, 0, 2e4], [0, 0, 2e4], [1, 2, 3]], dtype=dtype, requires_grad=True)
    target = torch.tensor([0, 0, 1, 2])  # class 2 never occurs; the second posterior underflows
    loss, grad = value_and_grad(forward_correction(logits, target, T, reduction="none"), logits)
    expected = torch.tensor([math.log(1.5), 2e4 - math.log(2), 0, math.inf], dtype=dtype)
    assert_close(loss, expected)
    expected_grad = torch.tensor([[-1 / 6, -1 / 6, 1 / 3], [-0.5, -0.5, 1], [0, 0, 0], [0, 0, 0]], dtype=dtype)
    assert_close(grad, expected_grad)


INF = math.inf
MASKED = {
    "soft": (lambda z, y, w: gls_loss(z, torch.tensor([[0.5, 0.5, 0.0]]), 0.0), 0.8133),
    "soft_weight": (lambda z, y, w: gls_loss(z, torch.tensor([[0.0, 1.0, 0.0]]), -1.0, weight=w), 0.0843),
    "backward": (lambda z, y, w: backward_correction(z, y, torch.eye(3)), 0.3133),
    "weight": (lambda z, y, w: gls_loss(z, y, -1.0, weight=w, reduction="sum"), 0.0843),
    "weight_tensor_rate": (lambda z, y, w: gls_loss(z, y, torch.tensor(-1.0), weight=w, reduction="sum"), 0.0843),
    "weight_of_label": (lambda z, y, w: gls_loss(z, y + 1, 0.0, weight=w, reduction="sum"), 0.0),
    "weight_of_backward": (lambda z, y, w: backward_correction(z, y + 1, torch.eye(3), weight=w, reduction="sum"), 0.0),
    "weight_of_forward": (lambda z, y, w: forward_correction(z, y + 1, torch.eye(3), weight=w, reduction="sum"), 0.0),
}


@pytest.mark.parametrize(("loss", "expected"), MASKED.values(), ids=MASKED)
def test_a_masked_class_of_weight_zero_adds_nothing(loss, expected):
    """torch's cross entropy gives NaN: 0 * inf. Elsewhere than in eager mode too."""
    logits = torch.tensor([[0.0, 1.0, -INF]], requires_grad=True)
    target, weight = torch.tensor([1]), torch.tensor([1.0, 1.0, 0.0])
    for function in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        torch.compiler.reset()
        value, grad = value_and_grad(function(logits, target, weight), logits)
        assert value.item() == pytest.approx(expected, abs=5e-5)
        assert grad.isfinite().all()


@pytest.mark.parametrize("uniform", [None, torch.tensor([0.5, 0.5, 0.0])], ids=["1/K", "uniform"])
@pytest.mark.parametrize("rate", [-0.5, 0.0, 0.3, 1.0])
def test_class_indices_are_one_hot_targets_at_masked_classes_too(rate, uniform):
    """Also the target itself, masked: a term of weight 0 leaves, and no infinities of two signs meet."""
    logits, target = torch.tensor([[1.0, 2.0, -INF]]).expand(3, 3), torch.arange(3)
    for weight in (None, torch.tensor([0.5, 2.0, 1.0])):
        options = {"weight": weight, "uniform": uniform, "reduction": "none"}
        expected = gls_loss(logits, torch.eye(3), rate, **options)
        assert not expected.isnan().any()
        function = lambda r, options=options: gls_loss(logits, target, r, **options)  # noqa: E731
        for found in (function(rate), function(torch.full((3,), rate)), compiled(function)(rate)):
            assert_close(found, expected)


def test_peers_of_weight_zero_add_nothing():
    peer = torch.tensor([[0.0, -INF]], requires_grad=True)
    loss = peer_loss(torch.zeros(1, 2), torch.tensor([0]), peer, torch.tensor([1]), 0.0)
    assert loss.item() == pytest.approx(math.log(2)) and not torch.autograd.grad(loss, peer)[0].any()


def test_gradients_of_targets_and_transitions_are_finite_at_masked_classes():
    logits, soft = torch.tensor([[0.0, 1.0, -INF]]), torch.tensor([[0.5, 0.5, 0.0]], requires_grad=True)
    rate, T = torch.zeros(1, requires_grad=True), torch.eye(3, requires_grad=True)
    gls_loss(logits, soft, rate).backward()
    backward_correction(logits, torch.tensor([1]), T).backward()
    assert all(tensor.grad.isfinite().all() for tensor in (soft, rate, T))


def test_corrections_do_not_clip_confident_predictions():
    """Clipping p at 1e-7, as is usual, caps the loss at 16 and kills the gradient."""
    logits = torch.tensor([[0.0, 500.0]], requires_grad=True)
    for correction in (forward_correction, backward_correction):
        loss, grad = value_and_grad(correction(logits, torch.tensor([0]), np.eye(2)), logits)
        assert_close(loss, torch.tensor(500.0))
        assert_close(grad, torch.tensor([[-1.0, 1.0]]))


# Autograd, transforms, compiler --------------------------------------------------------------------------------------


@every_loss
def test_first_and_second_derivatives(loss):
    logits, target = example((2, 4, 3), scale=1.0, ignored=True)
    weight = torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=torch.float64)

    def function(z):
        return loss(z, target, weight=weight, reduction="none")

    assert gradcheck(function, logits, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, logits)


@pytest.mark.parametrize("loss", [peer_loss, lambda *pairs: f_divergence_loss(*pairs, "js")])
def test_derivatives_of_paired_losses(loss):
    (logits, target), (peer_logits, peer_target) = example((3, 4), scale=1.0), example((2, 4), 1, scale=1.0)
    assert gradcheck(lambda z, z2: loss(z, target, z2, peer_target), (logits, peer_logits))
    assert gradgradcheck(lambda z, z2: loss(z, target, z2, peer_target), (logits, peer_logits))


def test_derivatives_of_rates_targets_and_transitions():
    logits, target = example((3, 4), scale=1.0)
    rate = torch.tensor([-2.0, -0.5, 0.5], dtype=torch.float64, requires_grad=True)
    soft = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda z, r: gls_loss(z, target, r), (logits, rate), check_forward_ad=True)
    assert gradgradcheck(lambda z, r: gls_loss(z, target, r), (logits, rate))
    assert gradcheck(gls_loss, (logits, soft, rate))
    T = torch.from_numpy(symmetric(4, 0.3))
    free = T.logit().requires_grad_()
    for correction in (forward_correction, backward_correction):
        assert gradcheck(lambda t, f=correction: f(logits, target, t.softmax(1)), free)


@pairwise(shape=[(6, 4), (3, 4, 5)], rate=["scalar", "tensor"], weighted=[False, True])
def test_keeps_one_buffer_of_the_logits_size(shape, rate, weighted):
    logits, target = example(shape, ignored=True)
    rate = -1.0 if rate == "scalar" else torch.linspace(-1, 1, target.numel()).reshape(target.shape)
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = gls_loss(logits, target, rate, weight=torch.ones(4, dtype=torch.float64) if weighted else None)
    assert sum(size >= logits.numel() for size in kept.values()) == 1
    loss.backward()
    assert logits.grad is not None


@every_loss
def test_does_not_change_its_inputs_and_takes_strided_ones(loss):
    logits, target = example((6, 4), ignored=True)
    strided = logits.detach().t().contiguous().t().requires_grad_()
    doubled = torch.stack([target, target], 1)[:, 0]
    before = strided.detach().clone(), doubled.clone()
    assert_close(
        value_and_grad(loss(strided, doubled), strided),
        value_and_grad(loss(logits, target), logits),
        rtol=0,
        atol=1e-15,
    )
    assert torch.equal(strided.detach(), before[0])
    assert torch.equal(doubled, before[1])


@every_loss
def test_autocast_and_no_grad_change_no_value(loss):
    logits, target = example((6, 4), dtype=torch.float32)
    value = loss(logits, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(logits, target), value)
    with torch.no_grad():
        assert torch.equal(loss(logits, target), value)
        assert not loss(logits, target).requires_grad
    assert not loss(logits.detach(), target).requires_grad


@every_loss
def test_hessian_of_torch_func(loss):
    logits, target = example((4,))
    hessian = torch.func.hessian(loss)(logits.detach(), target)
    assert_close(hessian, torch.autograd.functional.hessian(lambda z: loss(z, target), logits))


def test_vmap_over_rates():
    logits, target = example((6, 4))
    sweep = torch.tensor(RATES, dtype=torch.float64)
    losses = torch.func.vmap(lambda r: gls_loss(logits, target, r))(sweep)
    assert_close(losses, torch.stack([gls_loss(logits, target, r) for r in RATES]))


# Where values cannot be looked at ------------------------------------------------------------------------------------

WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.1])
TRACED = {
    "gls": lambda z, y: gls_loss(z, y, -0.5),
    "gls_weight": lambda z, y: gls_loss(z, y, -0.5, weight=WEIGHT.to(z)),
    "gls_tensor_rate": lambda z, y: gls_loss(z, y, z.new_full((), -0.5)),
    "backward": lambda z, y: backward_correction(z, y, asymmetric(), weight=WEIGHT.to(z)),
    "forward": lambda z, y: forward_correction(z, y, np.full((4, 4), 0.25), weight=WEIGHT.to(z)),
    "complementary": lambda z, y: complementary_loss(z, y, weight=WEIGHT.to(z)),
    "soft": lambda z, y: gls_loss(z, z.detach().flip(0).softmax(-1), -0.5, weight=WEIGHT.to(z)),
    "module": GLSLoss(-1.0, weight=WEIGHT),
    **PAIRED,
}
every_traced = pytest.mark.parametrize("loss", TRACED.values(), ids=TRACED)


def compiled(function, backend="aot_eager"):
    torch.compiler.reset()
    return torch.compile(function, backend=backend, fullgraph=True)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["gls", "gls_weight", "forward"])
def test_compiles_to_machine_code(name):
    logits, target = example((6, 4), dtype=torch.float32, ignored=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, about its imports and the machine
        machine = value_and_grad(compiled(TRACED[name], "inductor")(logits, target), logits)
    assert_close(machine, value_and_grad(TRACED[name](logits, target), logits), rtol=1e-5, atol=1e-6)


@every_traced
def test_compiles_to_one_graph(loss):
    """A batch, and one example with a label of shape (), whose class weight must not be looked up by its value."""
    logits, target = example((6, 4), dtype=torch.float32)
    for z, y in ((logits, target), (logits[0].detach().requires_grad_(), target[0])):
        assert_close(value_and_grad(compiled(loss)(z, y), z), value_and_grad(loss(z, y), z), rtol=1e-5, atol=1e-6)
    vmapped = compiled(torch.func.vmap(loss))(logits, target)
    assert_close(vmapped, torch.stack([loss(z, y) for z, y in zip(logits, target, strict=True)]))


@pytest.mark.parametrize("name", ["gls_loss", "GLSLoss", "soft", "peer_loss"])
def test_a_scheduled_number_does_not_exhaust_the_compiler(name):
    logits, target = example((6, 4), dtype=torch.float32)
    criterion = GLSLoss(0.0)

    def with_module(number):
        return criterion(logits, target)

    function = {
        "gls_loss": lambda number: gls_loss(logits, target, number),
        "GLSLoss": with_module,
        "soft": lambda number: gls_loss(logits, logits.detach().softmax(1), number),
        "peer_loss": lambda number: peer_loss(logits, target, logits.flip(0), target, number),
    }[name]
    scheduled = compiled(function)
    for number in [-1.0, -0.5, 0.0, *torch.linspace(-4, 1, 10).tolist()]:  # more than torch's limit of 8 graphs
        criterion.smooth_rate = number
        assert_close(value_and_grad(scheduled(number), logits), value_and_grad(function(number), logits))


REFUSES = {
    "gls": lambda z, y: gls_loss(z, y, 0.1, ignore_index=0),
    "gls_weight": lambda z, y: gls_loss(z, y, 0.1, weight=WEIGHT, ignore_index=0),
    "forward": lambda z, y: forward_correction(z, y, np.eye(4), ignore_index=0),
    "complementary": lambda z, y: complementary_loss(z, y, ignore_index=0),
    "peer": lambda z, y: peer_loss(z, y, z, y.clamp(0, 3)),
    "peer_of_peer": lambda z, y: peer_loss(z, y.clamp(0, 3), z, y),
    "fdiv": lambda z, y: f_divergence_loss(z, y, z, y.clamp(0, 3), "tv"),
}


@pytest.mark.parametrize("loss", REFUSES.values(), ids=REFUSES)
def test_a_label_out_of_range_is_refused_where_it_cannot_be_looked_at(loss):
    """-100 above all: nll_loss skips it unless told otherwise."""
    logits, _ = example((3, 4), dtype=torch.float32)
    graph = make_fx(lambda z, y: loss(z, y))(logits, torch.tensor([3, 1, 0]))
    for label in (-100, -1, 4):
        target = torch.tensor([label, 1, 0])
        for function in (compiled(loss), graph):
            with pytest.raises((IndexError, RuntimeError), match=r"out of (bounds|range)"):
                function(logits, target)


@every_traced
def test_a_graph_is_right_for_other_batches(loss):
    """The traced batch has no ignored label, the other has: a look at the values would leave them in the mean."""
    (logits, target), (other, labels) = example(), example((9, 4), 1, ignored=True)
    if loss in PAIRED.values():
        labels = labels.clamp(min=0)
    scripted = torch.jit.trace(loss, (logits, target))
    assert_close(value_and_grad(scripted(other, labels), other), value_and_grad(loss(other, labels), other))
    graph = make_fx(lambda z, y: loss(z, y))(logits, target)
    assert_close(graph(other[:6], labels[:6]), loss(other[:6], labels[:6]))


@every_traced
def test_linearize_and_fake_tensors(loss):
    logits, target = example()
    logits = logits.detach()
    value, tangent = torch.func.linearize(lambda z: loss(z, target), logits)
    expected = torch.func.jvp(lambda z: loss(z, target), (logits,), (logits,))
    assert_close((value, tangent(logits)), expected)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = loss(mode.from_tensor(logits), mode.from_tensor(target))
    assert (fake.shape, fake.dtype) == (value.shape, value.dtype)


@every_traced
def test_gradients_of_each_example(loss):
    """The idiom vmap(grad(loss)), which meets labels of shape ()."""
    logits, target = example()
    logits = logits.detach()
    for z, y, grad in zip(logits, target, torch.func.vmap(torch.func.grad(loss))(logits, target), strict=True):
        z = z.clone().requires_grad_()
        assert_close(grad, torch.autograd.grad(loss(z, y), z)[0])
    meta = copy.deepcopy(loss).to("meta") if isinstance(loss, nn.Module) else loss
    assert meta(logits[0].to("meta"), target[0].to("meta")).shape == ()


def test_a_singular_matrix_that_cannot_be_looked_at_gives_nan():
    logits, target = example((3, 4))
    graph = make_fx(lambda z, y, T: backward_correction(z, y, T))(logits, target, torch.eye(4))
    assert_close(graph(logits, target, torch.eye(4)), F.cross_entropy(logits, target))
    assert graph(logits, target, torch.full((4, 4), 0.25)).isnan()


# The module ----------------------------------------------------------------------------------------------------------


def test_module():
    logits, target = example((6, 4), ignored=True)
    weight = torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=torch.float64)
    module = GLSLoss(-0.5, weight=weight, ignore_index=-100, reduction="sum")
    assert torch.equal(module(logits, target), gls_loss(logits, target, -0.5, weight=weight, reduction="sum"))
    assert repr(module) == "GLSLoss(smooth_rate=-0.5, weight=tensor(4,), ignore_index=-100, reduction='sum')"
    assert list(module.state_dict()) == ["weight"]
    per_example = GLSLoss(torch.linspace(-1, 1, 6, dtype=torch.float64))
    assert list(per_example.state_dict()) == ["smooth_rate"]
    assert torch.equal(per_example(logits, target), gls_loss(logits, target, per_example.smooth_rate))
    scalar = GLSLoss(nn.Parameter(torch.tensor(-2.0)))
    assert repr(scalar) == "GLSLoss(smooth_rate=-2.0, ignore_index=-100, reduction='mean')"
    assert "tensor()" in repr(scalar.to("meta"))


def test_a_parameter_is_learned():
    logits, target = example((6, 4))
    rate = nn.Parameter(torch.tensor(-0.5))
    criterion = GLSLoss(rate)
    assert dict(criterion.named_parameters()) == {"smooth_rate": rate}
    torch.optim.SGD(criterion.parameters(), lr=0.1).zero_grad()
    criterion(logits, target).backward()
    assert_close(rate.grad.double(), (logits.gather(1, target[:, None]).squeeze(1) - logits.mean(1)).mean().detach())
    twin = copy.deepcopy(criterion)
    with torch.no_grad():
        rate.fill_(-3.0)
    assert_close(criterion(logits, target), gls_loss(logits, target, -3.0))
    assert_close(twin(logits, target), gls_loss(logits, target, -0.5))
    criterion.double()
    with torch.no_grad():
        criterion.smooth_rate.fill_(-4.0)
    assert criterion.smooth_rate.dtype == torch.float64
    assert_close(criterion(logits, target), gls_loss(logits, target, -4.0))
    functional = torch.func.functional_call(criterion, {"smooth_rate": torch.tensor(0.5)}, (logits, target))
    assert_close(functional, gls_loss(logits, target, 0.5))


def test_a_rate_that_joins_the_descent_makes_it_degenerate():
    """What the docstrings say: where the label has more than the mean logit, the loss falls without bound in r."""
    logits = torch.tensor([[2.0, 0.0]])
    losses = [gls_loss(logits, torch.tensor([0]), r).item() for r in (0.0, -10.0, -1e3, -1e6)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < -9e5


def test_the_buffers_are_copies_and_are_saved():
    logits, target = example((6, 4))
    rate, weight = torch.tensor(-0.5), torch.ones(4, dtype=torch.float64)
    criterion = GLSLoss(rate, weight=weight)
    rate.fill_(-9.0)
    weight.fill_(0.0)
    assert_close(criterion(logits, target), gls_loss(logits, target, -0.5))
    restored = GLSLoss(torch.tensor(0.0), weight=weight)
    restored.load_state_dict(criterion.state_dict())
    assert torch.equal(copy.deepcopy(restored)(logits, target), criterion(logits, target))


def test_the_rate_may_be_assigned_anew_as_any_kind():
    logits, target = example((6, 4))
    kinds = {
        "number": lambda r: r,
        "buffer": torch.tensor,
        "parameter": lambda r: nn.Parameter(torch.tensor(r)),
    }
    for (_, before), (name, after) in itertools.product(kinds.items(), kinds.items()):
        criterion = GLSLoss(before(-0.5))
        criterion.smooth_rate = after(-2.0)
        assert torch.as_tensor(criterion.smooth_rate) == -2.0
        assert_close(criterion(logits, target), gls_loss(logits, target, -2.0))
        assert list(criterion.state_dict()) == ([] if name == "number" else ["smooth_rate"])
        assert len(list(criterion.parameters())) == (name == "parameter")
        for bad in (1.5, torch.tensor(1.5), nn.Parameter(torch.tensor(math.nan))):
            with pytest.raises(ValueError, match=r"^smooth_rate: .*r <= 1"):
                criterion.smooth_rate = bad
        with pytest.raises(TypeError, match=r"^smooth_rate: .*got '1' of type str"):
            criterion.smooth_rate = "1"
        assert torch.as_tensor(criterion.smooth_rate) == -2.0


# Bad input -----------------------------------------------------------------------------------------------------------

Z, Y, EYE = torch.zeros(3, 4), torch.tensor([0, 1, 3]), np.eye(4)
BAD = {  # one for each check
    "logits a list": (lambda: gls_loss([[0.0]], Y, 0.1), TypeError, r"logits: expected a torch\.Tensor, got list"),
    "logits of integers": (lambda: gls_loss(Z.long(), Y, 0.1), TypeError, r"logits: expected a floating.*torch\.int64"),
    "logits without classes": (lambda: gls_loss(Z[:, :0], Y, 0.1), ValueError, r"logits: .*K >= 1, got \(3, 0\)"),
    "target an array": (lambda: gls_loss(Z, Y.numpy(), 0.1), TypeError, r"target: expected a torch\.Tensor.*as_tensor"),
    "target int32": (lambda: gls_loss(Z, Y.int(), 0.1), TypeError, r"target: .*int64 or uint8, got torch\.int32.*long"),
    "target too short": (lambda: gls_loss(Z, Y[:2], 0.1), ValueError, r"target: .*shape \(3,\) .*\(3, 4\), got \(2,\)"),
    "target too large": (lambda: gls_loss(Z, Y + 1, 0.1), ValueError, r"target: .*0 \.\.\. 3 or ignore.*-100, got 4"),
    "target not ignored": (lambda: gls_loss(Z, Y - 100, 0, ignore_index=-1), ValueError, r"target: .*= -1, got -100"),
    "target one-hot": (
        lambda: gls_loss(Z, Z.long(), -1.0),
        ValueError,
        r"target: .*got \(3, 4\); of one-hot.*\.float\(",
    ),
    "target of floats": (lambda: gls_loss(Z, Y.float(), 0.1), ValueError, r"target: .*shape of logits, \(3, 4\), got"),
    "target elsewhere": (lambda: gls_loss(Z, Y.to("meta"), 0.1), ValueError, r"target: .*device of logits, cpu, got"),
    "rate above 1": (lambda: gls_loss(Z, Y, 1.1), ValueError, r"smooth_rate: .*r <= 1.*got 1\.1"),
    "rate NaN": (lambda: gls_loss(Z, Y, math.nan), ValueError, r"smooth_rate: .*r <= 1.*got nan"),
    "rate minus infinity": (
        lambda: gls_loss(Z, Y, -math.inf),
        ValueError,
        r"smooth_rate: .*finite.*complementary_loss",
    ),
    "rate a string": (lambda: gls_loss(Z, Y, "0.1"), TypeError, r"smooth_rate: .*r <= 1.*got '0\.1' of type str"),
    "rates of bool": (lambda: gls_loss(Z, Y, Y > 0), TypeError, r"smooth_rate: .*got a tensor of dtype torch\.bool"),
    "rates with NaN": (lambda: gls_loss(Z, Y, Z[:, 0] + math.nan), ValueError, r"smooth_rate: .*got nan in it"),
    "rates too many": (lambda: gls_loss(Z, Y, Z[0]), ValueError, r"smooth_rate: .*indices, \(3,\), got shape \(4,"),
    "weight a list": (
        lambda: gls_loss(Z, Y, 0.1, weight=[1.0] * 4),
        TypeError,
        r"weight: .*got list; convert",
    ),
    "weight too short": (lambda: gls_loss(Z, Y, 0, weight=Z[0, 1:]), ValueError, r"weight: .*\(4,\), got \(3,\)"),
    "weight with grad": (
        lambda: gls_loss(Z, Y, 0.1, weight=torch.ones(4, requires_grad=True)),
        ValueError,
        r"weight: .*not require grad.*detach",
    ),
    "ignore_index a float": (
        lambda: gls_loss(Z, Y, 0, ignore_index=1.0),
        TypeError,
        r"ignore_index: .*an int, got 1\.0",
    ),
    "ignore_index with soft": (lambda: gls_loss(Z, Z, 0.1, ignore_index=1), ValueError, r"ignore_index: not supported"),
    "reduction": (lambda: gls_loss(Z, Y, 0.1, reduction="avg"), ValueError, r"reduction: .*'mean' or 'sum', got 'avg'"),
    "module rate": (lambda: GLSLoss(2), ValueError, r"smooth_rate: .*r <= 1.*got 2"),
    "module weight": (lambda: GLSLoss(0.1, weight=Z), ValueError, r"weight: .*shape \(K,\), got \(3, 4\)"),
    "module rate that requires grad": (
        lambda: GLSLoss(torch.zeros(3, requires_grad=True)),
        ValueError,
        r"smooth_rate: expected an nn\.Parameter or a tensor that does not require grad",
    ),
    "module reduction": (lambda: GLSLoss(0.1, reduction=None), ValueError, r"reduction: .*got None"),
    "T a list": (
        lambda: forward_correction(Z, Y, [[1]]),
        TypeError,
        r"T: .*torch\.Tensor or a NumPy array, got list",
    ),
    "T of strings": (lambda: forward_correction(Z, Y, EYE.astype(str)), TypeError, r"T: .*real numbers, got.*<U"),
    "T of bool": (lambda: forward_correction(Z, Y, EYE > 0), TypeError, r"T: .*real numbers, got.*torch\.bool"),
    "T too small": (lambda: backward_correction(Z, Y, EYE[:3, :3]), ValueError, r"T: .*\(4, 4\) .*got \(3, 3\)"),
    "T of columns": (
        lambda: backward_correction(Z, Y, np.array([[0.9, 0.3, 0, 0], [0.1, 0.7, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
        ValueError,
        r"T: .*rows that sum to 1, got \S+ in row \d; .*transpose",
    ),
    "T nearly singular": (
        lambda: backward_correction(Z, Y, symmetric(4, 0.75 - 1e-9)),
        ValueError,
        r"T: .*invertible.*condition number [12]\S*e\+09 .*forward_correction",
    ),
    "one class": (lambda: complementary_loss(Z[:, :1], Y * 0), ValueError, r"logits: .*two classes.*K = 1"),
    "alpha": (lambda: peer_loss(Z, Y, Z, Y, math.nan), ValueError, r"alpha: expected a finite real number, got nan"),
    "peer classes": (lambda: peer_loss(Z, Y, Z[:, :3], Y), ValueError, r"peer_logits: .*classes as logits.*\(3, 3\)"),
    "peer shape": (
        lambda: peer_loss(Z, Y, Z, Y[:2]),
        ValueError,
        r"peer_target: .*\(3,\) for peer_logits .*got \(2,\)",
    ),
    "divergence": (
        lambda: f_divergence_loss(Z, Y, Z, Y, "neyman"),
        ValueError,
        r"divergence: .*tv, kl, js.*'neyman'",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match="^" + message):
        call()


def test_integers_of_numpy_are_taken_for_ignored_labels():
    assert gls_loss(Z, Y, 0.1, ignore_index=np.int64(3)) == gls_loss(Z, Y, 0.1, ignore_index=3)


def test_transition_matrix_may_be_read_only_or_reversed():
    T = symmetric(4, 0.3)
    frozen = T.copy()
    frozen.flags.writeable = False
    for variant in (frozen, T[::-1, ::-1]):
        assert torch.equal(forward_correction(Z, Y, variant), forward_correction(Z, Y, T))
