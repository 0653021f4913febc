"""torch's own tests of cross entropy, with ours in its place: its sample inputs, under each of its tracers."""

import sys
import types
import unittest

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from nls import GLSLoss, gls_loss

# torch's own: its forward-mode rules and its tests still script functions, and tracing warns of checks of shapes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


@pytest.fixture(scope="module")
def internal():
    """torch's private test modules. Importing them forbids plain assignment to backend flags, which is undone."""
    try:
        import expecttest  # noqa: F401
    except ImportError:  # torch derives its test case from this one, and uses nothing else of it here
        sys.modules["expecttest"] = types.SimpleNamespace(TestCase=unittest.TestCase)
    try:
        from torch.testing._internal import common_methods_invocations, common_modules, composite_compliance, optests
    except ImportError as error:
        pytest.skip(f"torch's own tests need what is absent: {error}")
    torch.backends.flags_frozen.__globals__["__allow_nonbracketed_mutation_flag"] = True
    return types.SimpleNamespace(
        ops=common_methods_invocations, modules=common_modules, compliance=composite_compliance, check=optests
    )


def samples(internal, requires_grad=True, dtype=torch.float64):
    """(arguments, keyword arguments) of torch's samples, without and with smoothing."""
    torch.manual_seed(0)
    for sample in internal.ops.sample_inputs_cross_entropy(None, "cpu", dtype, requires_grad):
        for smoothing in (0.0, 0.3):
            yield (sample.input, *sample.args), {**sample.kwargs, "label_smoothing": smoothing}


def few(internal, requires_grad=True):
    """One of each kind, of those that smooth: index and soft targets with weights, ignored labels, more dimensions."""
    for args, kwargs in samples(internal, requires_grad):
        special = kwargs.get("ignore_index") or (kwargs.get("reduction") == "mean" and "weight" in kwargs)
        if kwargs["label_smoothing"] and (special or args[0].dim() == 3):
            yield args, kwargs


def ours(logits, target, *, label_smoothing, **kwargs):
    return gls_loss(logits, target, label_smoothing, **kwargs)


def negative(logits, target, *, label_smoothing, **kwargs):
    return gls_loss(logits, target, -1 - label_smoothing, **kwargs)


def learned(logits, target, *, label_smoothing, **kwargs):
    return gls_loss(logits, target, logits.new_full((), -label_smoothing), **kwargs)


every_rate = pytest.mark.parametrize("loss", [ours, negative, learned])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_samples(internal, dtype):
    for args, kwargs in samples(internal, dtype=dtype):
        tensors = [a for a in args if a.requires_grad]
        values = [loss(*args, **kwargs) for loss in (ours, F.cross_entropy)]
        assert_close(*values)
        assert_close(*(torch.autograd.grad(value.sum(), tensors) for value in values))


@every_rate
def test_derivatives(internal, loss):
    for args, kwargs in few(internal):
        assert gradcheck(lambda *a, k=kwargs: loss(*a, **k), args, check_forward_ad=True, check_batched_grad=True)
        assert gradgradcheck(lambda *a, k=kwargs: loss(*a, **k), args, check_fwd_over_rev=True)


@every_rate
@pytest.mark.parametrize("mode", ["fake", "symbolic"])
def test_proxy_tensors(internal, loss, mode):
    for args, kwargs in few(internal, requires_grad=False):
        internal.check.make_fx_check(loss, args, kwargs, mode, randomize_data=False)


@every_rate
@pytest.mark.parametrize("dynamic", [False, True])
def test_aot_autograd(internal, loss, dynamic):
    for args, kwargs in few(internal):
        internal.check.aot_autograd_check(loss, args, kwargs, dynamic)


@every_rate
def test_composite_compliance(internal, loss):
    for args, kwargs in few(internal):
        internal.compliance.check_with_mode(loss, args, kwargs, assert_close)
        internal.compliance.check_all_permutations(loss, args, kwargs, assert_close)
        internal.compliance.check_backward_formula(loss, args, kwargs, assert_equal_fn=assert_close)
        internal.compliance.check_forward_ad_formula(loss, args, kwargs, assert_equal_fn=assert_close)


def test_modules(internal):
    torch.manual_seed(0)
    for sample in internal.modules.module_inputs_torch_nn_CrossEntropyLoss(None, "cpu", torch.float64, False, True):
        kwargs = dict(sample.constructor_input.kwargs)
        module = GLSLoss(kwargs.pop("label_smoothing", 0.0), **kwargs)
        logits, target = sample.forward_input.args
        assert_close(module(logits, target), sample.reference_fn(module, logits, target), equal_nan=True)
