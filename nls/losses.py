"""Losses for learning with noisy labels: generalised label smoothing (GLS) and the losses that it is compared with.

The paper is "To Smooth or Not? When Label Smoothing Meets Noisy Labels" (Wei et al., ICML 2022). Everything here takes
raw logits ``z``, works in natural logarithms (nats) and shares these conventions:

Shapes
    As in :func:`torch.nn.functional.cross_entropy`: logits ``(K,)``, ``(N, K)`` or ``(N, K, d1, ...)`` with class
    indices (int64 or uint8) of shape ``()``, ``(N,)`` or ``(N, d1, ...)``. ``reduction="none"`` returns the shape of
    the class indices, ``"mean"`` and ``"sum"`` a scalar.
Precision
    float32 and float64 logits give a loss of their own type. float16 and bfloat16 logits are computed in, and return,
    float32 (torch's cross entropy returns the half type); their gradient has the logits' type.
Masked classes
    The term of a logit of -inf is infinite with the sign of its weight, and 0 where its weight is exactly 0. So a
    masked target costs +inf, and a masked class that is not the target +inf at r > 0, nothing at r = 0 and -inf at
    r < 0, unless ``uniform`` is 0 there. torch's cross entropy differs for a weight of 0: to it 0 * inf is NaN.
Checks
    Types, shapes and scalar arguments are checked always. Values inside tensors (label range, NaN rates, a singular T)
    are looked at only in plain eager calls on CPU tensors: anywhere else a look would break ``torch.compile``,
    ``torch.func``, ``torch.jit.trace`` and the like, or make the host wait for the GPU. There a label out of range ends
    as in torch's cross entropy, and a singular T in a loss of NaN.

All functions support ``torch.func`` transforms, ``torch.compile(fullgraph=True)``, ``torch.jit.trace`` and, in eager
mode, double backward.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .checks import (
    check_index,
    check_invertible,
    check_logits,
    check_number,
    check_options,
    check_smooth_rate,
    check_soft_target,
    check_transition_tensor,
    check_uniform,
    check_weight,
    readable,
)


def gls_loss(
    logits: Tensor,
    target: Tensor,
    smooth_rate: float | Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    uniform: Tensor | None = None,
) -> Tensor:
    r"""Cross entropy against the generalised smooth label ``(1 - r) y + r / K`` (eq. 2 of the paper), any real r <= 1.

    Per example, with ``p = softmax(z)``,

        loss = logsumexp(z) - (1 - r) z_y - r mean(z),        d loss / dz = p - ((1 - r) onehot(y) + r / K).

    ``r > 0`` is label smoothing, ``r = 0`` cross entropy, ``r < 0`` negative label smoothing (NLS). On [0, 1] it equals
    ``F.cross_entropy(..., label_smoothing=r)`` for every combination of arguments. Below 0 that function silently
    returns plain cross entropy; this one does not. The loss is convex in z for every r, but for r < 0 it is unbounded
    below: it rewards confidence without end, so train with a small learning rate or stop early.

    Args:
        logits: ``(K,)``, ``(N, K)`` or ``(N, K, d1, ...)``, floating point.
        target: class indices, or floating-point targets of the logits' shape. The latter are smoothed likewise and,
            as in torch, not checked to sum to one. For one logit a label (binary, multi-label) the loss is
            ``F.binary_cross_entropy_with_logits(logits, (1 - r) * target + r / 2)``, which takes any r.
        smooth_rate: r, a number, or a tensor that broadcasts to the shape of the class indices (for floating-point
            targets: to their shape without the class dimension) and has as many dimensions, such as ``(N, 1)``, to give
            each example its own rate. A tensor that requires grad receives its gradient, for an outer objective (clean
            validation loss, say): this loss itself falls without bound as r -> -inf, so r must not descend it too.
        weight: ``(K,)`` class weights, which multiply the terms of both the label and the uniform part, as in torch.
            No gradient flows to them.
        ignore_index: examples with this class index give zero loss and leave the mean. Not for floating-point targets.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``. As in torch, the mean over class indices divides by the sum of
            ``weight[target]``, that over floating-point targets by the number of examples.
        uniform: ``(K,)``, probabilities that take the place of ``1 / K``: the class prior, say. A zero leaves its class
            out of the smoothing, so that a logit of -inf there (a masked class) costs nothing unless it is the target.
            No gradient flows to them.

    Returns:
        The loss in nats. It may be negative when r < 0. The mean over nothing is NaN.

    Example:
        >>> gls_loss(torch.tensor([[0.2, 0.6, 0.2]]).log(), torch.tensor([1]), -0.3)
        tensor(0.2911)
    """
    if isinstance(target, Tensor) and target.is_floating_point():
        logits, dim, K = check_logits(logits)
        check_options(ignore_index, reduction)
        target = check_soft_target(target, logits, ignore_index)
        shape = target.shape[:dim] + target.shape[dim + 1 :]
        rate = check_smooth_rate(smooth_rate, shape, logits)
        if torch.compiler.is_compiling() and not isinstance(rate, Tensor):  # a number would need a graph for each value
            rate = (logits.new_zeros(()) + rate).expand(shape)
        weight = None if weight is None else _along(check_weight(weight, K, logits), logits, dim)
        uniform = 1 / K if uniform is None else _along(check_uniform(uniform, K, logits), logits, dim)
        if isinstance(rate, Tensor) or rate != 0:
            rate = rate.unsqueeze(dim) if isinstance(rate, Tensor) else rate
            target = (1 - rate) * target + rate * uniform
        return _reduce(-_times(F.log_softmax(logits, dim), target, weight, dim=dim), None, None, reduction)
    logits, index, keep, weight, factor, dim, K = _prepare(logits, target, weight, ignore_index, reduction)
    if uniform is not None:  # K q_j as the weight of a class in the uniform part alone
        uniform = K * check_uniform(uniform, K, logits)
        weight = uniform if weight is None else weight * uniform
    rate = check_smooth_rate(smooth_rate, index.shape, logits)
    if isinstance(rate, Tensor) or torch._C._are_functorch_transforms_active() or torch.jit.is_tracing():
        # Autograd finds the gradient of the rate, and both tracers know the rules of plain functions only.
        loss = _smoothed_nll(F.log_softmax(logits, dim), index, rate, weight, factor, dim)
    elif torch.compiler.is_compiling():
        # As a sum, a rate that changes is an input of the graph; as a number it would need a new graph each time.
        loss, _ = _FusedNLL.apply(logits, index, logits.new_zeros(()) + rate, weight, factor, dim)
    elif uniform is not None or rate == 0:  # at 0 torch's own two functions, which small batches notice
        loss = _smoothed_nll(F.log_softmax(logits, dim), index, rate, weight, factor, dim)
    else:
        loss = _SmoothedNLL.apply(F.log_softmax(logits, dim), index, rate, weight, factor, dim)
    return _reduce(loss, keep, factor, reduction)


class GLSLoss(nn.Module):
    """Module form of :func:`gls_loss`; the arguments have the same meaning.

    ``smooth_rate`` may be read, and assigned anew between batches, as a number or a tensor. An ``nn.Parameter`` is
    registered as such, for an outer objective: it must not descend this loss itself. Any other tensor, ``weight`` and
    ``uniform`` too, is copied into a buffer: it follows ``.to(device)`` and is in the state dict. A number is not:
    after loading, set it again.

    Raises:
        ValueError: also for a tensor ``smooth_rate`` that requires grad but is no ``nn.Parameter``.

    Example:
        >>> criterion = GLSLoss(-2.0)
        >>> criterion(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
        tensor(1.3863)
    """

    smooth_rate: float | Tensor
    weight: Tensor | None
    uniform: Tensor | None

    def __init__(
        self,
        smooth_rate: float | Tensor,
        *,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        uniform: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_options(ignore_index, reduction)
        self.smooth_rate = smooth_rate
        self.register_buffer("weight", None if weight is None else check_weight(weight).clone())
        self.register_buffer("uniform", None if uniform is None else check_uniform(uniform).clone())
        self.ignore_index = ignore_index
        self.reduction = reduction

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "smooth_rate":
            value = check_smooth_rate(value)
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                if value.requires_grad:
                    raise ValueError("smooth_rate: expected an nn.Parameter or a tensor that does not require grad")
                value = nn.Buffer(value.clone())
            if hasattr(self, name):  # nn.Module refuses a name that another kind holds
                delattr(self, name)
        super().__setattr__(name, value)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of these logits and targets, as :func:`gls_loss` takes them."""
        return gls_loss(
            logits,
            target,
            self.smooth_rate,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            uniform=self.uniform,
        )

    def extra_repr(self) -> str:
        rate = self.smooth_rate
        if isinstance(rate, Tensor):
            rate = f"tensor{tuple(rate.shape)}" if rate.dim() or rate.is_meta else rate.detach().item()
        weight = "" if self.weight is None else f", weight=tensor{tuple(self.weight.shape)}"
        uniform = "" if self.uniform is None else f", uniform=tensor{tuple(self.uniform.shape)}"
        return f"smooth_rate={rate}{weight}, ignore_index={self.ignore_index}, reduction={self.reduction!r}{uniform}"


def backward_correction(
    logits: Tensor,
    target: Tensor,
    T: Tensor | np.ndarray,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    r"""Backward loss correction (Patrini et al., CVPR 2017; section 5 of the paper): unbiased for the clean risk.

    Per example ``-sum_j (T^{-1})[y, j] log p_j``. Nothing is clipped: ``log p`` is an exact log-softmax. With the
    symmetric T of noise rate e it equals ``gls_loss`` with ``r = -K e / ((K - 1) - K e)``, example by example.
    Like NLS it is unbounded below.

    Args:
        logits: ``(K,)``, ``(N, K)`` or ``(N, K, d1, ...)``, floating point.
        target: class indices (int64 or uint8), the noisy labels.
        T: ``(K, K)``, row-stochastic, ``T[i, j] = P(noisy = j | clean = i)``, NumPy or torch. It is inverted in float64
            where it lies, then cast to the logits' type and device. That takes time at every call where K is large:
            ``gls_loss(logits, inverse[target], 0.0)``, with an inverse computed once, is the same loss of ``(N, K)``.
        weight: ``(K,)`` class weights: the loss of an example is multiplied by ``weight[target]``.
        ignore_index: examples with this class index give zero loss and leave the mean.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``; the mean divides by the sum of ``weight[target]``.

    Raises:
        ValueError: also when T is not row-stochastic, or singular (condition number above 8e6).
    """
    logits, index, keep, _, factor, dim, K = _prepare(logits, target, weight, ignore_index, reduction)
    inverse = check_invertible(check_transition_tensor(T, K, logits)).to(logits)
    # A soft label like any other: the row of T^{-1} that belongs to the noisy label.
    corrected = F.embedding(index, inverse).movedim(-1, dim)
    loss = -_times(F.log_softmax(logits, dim), corrected, dim=dim)
    return _reduce(_times(loss, factor), keep, factor, reduction)


def forward_correction(
    logits: Tensor,
    target: Tensor,
    T: Tensor | np.ndarray,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    r"""Forward loss correction (Patrini et al., CVPR 2017): cross entropy of the noisy posterior, ``-log (p T)_y``.

    Computed as ``-logsumexp_j(log p_j + log T[j, y])``, so that nothing needs clipping: gradients stay finite where
    p underflows and where T has zeros (even for a label that T says never occurs: its loss is +inf, its gradient zero).

    Args:
        logits, target, weight, ignore_index, reduction: as in :func:`backward_correction`.
        T: ``(K, K)``, row-stochastic, ``T[i, j] = P(noisy = j | clean = i)``, NumPy or torch; it may be singular.
            A tensor that requires grad receives its gradient.
    """
    logits, index, keep, _, factor, dim, K = _prepare(logits, target, weight, ignore_index, reduction)
    T = check_transition_tensor(T, K, logits).to(logits)
    # log 0 = -inf would make NaN gradients. This floor adds exp(floor) = 0 to the sum and leaves room to add log p.
    floor = torch.finfo(T.dtype).min / 4
    possible = T > 0
    log_T = torch.where(possible, torch.where(possible, T, 1.0).log(), floor)
    joint = F.log_softmax(logits, dim) + F.embedding(index, log_T.t().contiguous()).movedim(-1, dim)
    # Without its maximum the sum has a small logarithm, which keeps the digits that its gradient needs.
    top = joint.detach().amax(dim, keepdim=True)
    loss = -(top.squeeze(dim) + torch.logsumexp(joint - top, dim))
    loss = loss.masked_fill(loss > -floor / 2, math.inf)
    return _reduce(_times(loss, factor), keep, factor, reduction)


def complementary_loss(
    logits: Tensor, target: Tensor, *, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    r"""Loss of the label minus the mean loss of the other classes (Thm 5.3 of the paper), the r -> -inf limit of GLS.

    With ``l(j) = -log p_j``, per example ``l(y) - mean_{j != y} l(j) = mean_{j != y} z_j - z_y``: linear in the logits.
    It is K / (K - 1) times the limit of ``gls_loss / (1 - r)``; in the binary case, ``l(f, y) - l(f, 1 - y)``.

    Args:
        logits, target, weight, ignore_index, reduction: as in :func:`backward_correction`. K is at least 2.
    """
    logits, index, keep, _, factor, dim, K = _prepare(logits, target, weight, ignore_index, reduction)
    if K < 2:
        raise ValueError(f"logits: expected at least two classes, since the loss compares them, got K = {K}")
    # Subtracting first keeps a common offset of the logits from costing digits.
    loss = (logits - logits.gather(dim, index.unsqueeze(dim))).sum(dim) / (K - 1)
    return _reduce(_times(loss, factor), keep, factor, reduction)


def peer_loss(logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor, alpha: float = 1.0) -> Tensor:
    r"""Peer loss (Liu and Guo, ICML 2020): ``CE(logits, target) - alpha * CE(peer_logits, peer_target)``.

    The peer logits and the peer targets must come from two *independent* draws of the noisy data (two shuffled
    batches), so that their pair carries no information: the second term punishes agreement with blind guesses.
    With equal noisy priors and alpha = 1 its expectation is that of GLS as r -> -inf (Thm 5.5 of the paper).

    Args:
        logits, target: ``(K,)``, ``(N, K)`` or ``(N, K, d1, ...)`` and class indices; none is ignored.
        peer_logits, peer_target: likewise; the number of examples may differ, the number of classes may not.
        alpha: any finite real number.

    Returns:
        A scalar in nats: both terms are means over their examples. It may be negative.

    Example:
        >>> x, y, net = torch.randn(64, 5), torch.randint(3, (64,)), nn.Linear(5, 3)
        >>> batch, peer_x, peer_y = (torch.randperm(64)[:16] for _ in range(3))
        >>> loss = peer_loss(net(x[batch]), y[batch], net(x[peer_x]), y[peer_y])
    """
    check_number("alpha", alpha, "a finite real number")
    picked, peer = _log_probs(logits, target, peer_logits, peer_target)
    if alpha == 0:
        peer = peer.masked_fill(peer.isinf(), 0)
    return alpha * peer.mean() - picked.mean()


# name: (g(v), f*(g(v'))) with v a probability, as the authors' code has them.
_DIVERGENCES = {
    "tv": (lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
    "kl": (lambda v: v, lambda v: (v - 1).exp()),
    "js": (lambda v: math.log(2) - F.softplus(-v), lambda v: F.softplus(v) - math.log(2)),
    "pearson": (lambda v: v, lambda v: v.square() / 4 + v),
    "jeffrey": (lambda v: v, lambda v: v + v.square() / 4 + v.pow(3) / 16),
}


def f_divergence_loss(
    logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor, divergence: str
) -> Tensor:
    r"""Robust f-divergence loss (Wei and Liu, ICLR 2021): ``-E[g(v)] + E[f*(g(v'))]``, a variational lower bound.

    ``v = softmax(logits)[target]`` and ``v' = softmax(peer_logits)[peer_target]`` are probabilities, not their
    logarithms. The peer pairs are made as for :func:`peer_loss`.

    The formulas are those of the authors' code, whose conjugate of ``"jeffrey"`` is the exact one's Taylor polynomial
    of degree 3 at 0. Left out are those whose g there *falls* with v, so that the loss lowers the probability of the
    given label: squared Hellinger, reverse KL and Neyman.

    Args:
        logits, target, peer_logits, peer_target: as in :func:`peer_loss`.
        divergence: ``"tv"`` (total variation), ``"kl"``, ``"js"``, ``"pearson"`` or ``"jeffrey"``.

    Returns:
        A scalar, both terms being means.
    """
    if not isinstance(divergence, str) or divergence not in _DIVERGENCES:
        raise ValueError(f"divergence: expected one of {', '.join(_DIVERGENCES)}, got {divergence!r}")
    activation, conjugate = _DIVERGENCES[divergence]
    picked, peer = _log_probs(logits, target, peer_logits, peer_target)
    return conjugate(peer.exp()).mean() - activation(picked.exp()).mean()


# ---------------------------------------------------------------- Generalised label smoothing


def _smoothed_nll(
    log_p: Tensor, index: Tensor, rate: float | Tensor, weight: Tensor | None, factor: Tensor | None, dim: int
) -> Tensor:
    """``-(1 - r) log p_y - r mean_j log p_j`` per example, each term times its class weight."""
    # nll_loss instead of gather: the compiler turns its backward into a comparison that it can fuse.
    label = _times(F.nll_loss(log_p, index, reduction="none"), factor)
    if not isinstance(rate, Tensor) and rate == 0:
        return label  # not 0 * mean: a masked class has log p = -inf, and cross entropy must stay finite
    # Not the mean, whose gradient would fill another N x K tensor.
    uniform = -_times(log_p, _along(weight, log_p, dim), dim=dim) / log_p.shape[dim]
    if isinstance(rate, Tensor):
        loss = _times(label, 1 - rate) + _times(uniform, rate)
        infinite = (label == math.inf) & (rate < 0)
    elif rate > 0:
        return (1 - rate) * label + rate * uniform if rate < 1 else uniform
    else:
        loss, infinite = (1 - rate) * label + rate * uniform, label == math.inf
    # At a masked target and r < 0 infinities meet; there the whole weight, 1 - r + r / K, has the label's sign.
    return label.where(infinite, loss)


class _SmoothedNLL(torch.autograd.Function):
    """:func:`_smoothed_nll` for eager calls: linear in log p, so that its gradient needs no N x K tensor from forward.

    Autograd would fill one N x K gradient for the label and another for the mean, and add them. Here one fill and a
    scatter do. The log-softmax before it keeps log p, the only N x K buffer that lives until the backward.
    """

    forward = staticmethod(_smoothed_nll)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        log_p, index, ctx.rate, weight, factor, ctx.dim = inputs
        ctx.shape = log_p.shape
        ctx.save_for_backward(index, weight, factor)
        ctx.save_for_forward(index, weight, factor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        index, weight, factor = ctx.saved_tensors
        share = ctx.rate / ctx.shape[ctx.dim]
        label = grad * (ctx.rate - 1 - share)
        uniform = (grad * -share).unsqueeze(ctx.dim)
        if factor is not None:
            label = label * factor
            uniform = uniform * _along(weight, uniform, ctx.dim)
        # Overwriting (not adding) is deterministic on a GPU too.
        full = uniform.expand(ctx.shape).contiguous()
        full = full.scatter_(ctx.dim, index.unsqueeze(ctx.dim), label.unsqueeze(ctx.dim))
        return full, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        index, weight, factor = ctx.saved_tensors
        return _smoothed_nll(tangent, index, ctx.rate, weight, factor, ctx.dim)


class _FusedNLL(torch.autograd.Function):
    """GLS for the compiler: keeping p instead of log p makes its backward one fused pass without an exponential."""

    @staticmethod
    def forward(
        logits: Tensor, index: Tensor, rate: Tensor, weight: Tensor | None, factor: Tensor | None, dim: int
    ) -> tuple[Tensor, Tensor]:
        log_p = F.log_softmax(logits, dim)
        return _smoothed_nll(log_p, index, rate, weight, factor, dim), log_p.exp()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        _, index, rate, weight, factor, ctx.dim = inputs
        ctx.save_for_backward(output[1], index, rate, weight, factor)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        p, index, rate, weight, factor = ctx.saved_tensors
        dim, K = ctx.dim, p.shape[ctx.dim]
        label = (1 - rate).expand_as(grad) if factor is None else (1 - rate) * factor
        if weight is None:
            share, mass = rate / K, label + rate
        else:
            share, mass = _along(weight, p, dim) * (rate / K), label + weight.sum() * (rate / K)
        classes = _along(torch.arange(K, device=p.device), p, dim)
        smooth = share + torch.where(classes == index.unsqueeze(dim), label.unsqueeze(dim), 0)
        return grad.unsqueeze(dim) * (p * mass.unsqueeze(dim) - smooth), None, None, None, None, None


# ---------------------------------------------------------------- Shared by all losses


def _prepare(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, int, int]:
    """Check the arguments; return logits (at least float32), index, keep, weight, factor, class dimension and K.

    ``index`` holds the target with 0 in place of ignored labels, ``keep`` is False there (None: nothing is ignored),
    ``factor`` is ``weight[target]``, zero there (None: no weight).
    """
    logits, dim, K = check_logits(logits)
    check_options(ignore_index, reduction)
    index, keep = check_index(target, logits, dim, K, ignore_index)
    factor = None
    if weight is not None:
        weight = check_weight(weight, K, logits)
        # Not weight[index]: for logits (K,) that reads the label's value, which transforms and compilers cannot.
        factor = weight.gather(0, index.flatten()).view_as(index)
        if keep is not None:
            factor = factor.where(keep, 0)
    return logits, index, keep, weight, factor, dim, K


def _log_probs(logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the labels and of the peers' labels."""
    classes, picked = [], []
    for z, y, prefix in ((logits, target, ""), (peer_logits, peer_target, "peer_")):
        checked, dim, K = check_logits(z, prefix + "logits")
        classes.append(K)
        if K != classes[0]:
            raise ValueError(
                f"peer_logits: expected as many classes as logits of shape {tuple(logits.shape)}, got {tuple(z.shape)}"
            )
        index, _ = check_index(y, checked, dim, K, None, prefix)
        picked.append(-F.nll_loss(F.log_softmax(checked, dim), index, reduction="none"))
    return picked[0], picked[1]


def _times(values: Tensor, *factors: Tensor | None, dim: int | None = None) -> Tensor:
    """``values`` times the factors, summed over ``dim``; a factor of exactly 0 gives 0, be the value infinite."""
    factors = [factor for factor in factors if factor is not None]

    def product(values: Tensor) -> Tensor:
        terms = math.prod(factors, start=values)
        return terms if dim is None else terms.sum(dim)

    if not factors:
        return product(values)
    if all(map(readable, (values, *factors))):  # spares the pass and the copy below
        result = product(values)
        if not result.detach().isnan().any():
            return result
    zero = sum(factor == 0 for factor in factors) > 0
    return product(values.masked_fill(zero & values.isinf(), 0))


def _reduce(loss: Tensor, keep: Tensor | None, factor: Tensor | None, reduction: str) -> Tensor:
    """Leave out ignored labels and reduce. The loss has its class weights already; ``factor`` holds their share."""
    if keep is not None:
        loss = loss.where(keep, 0)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if factor is not None:
        return loss.sum() / factor.sum()
    return loss.mean() if keep is None else loss.sum() / keep.sum()


def _along(weight: Tensor | None, like: Tensor, dim: int) -> Tensor | None:
    """View class weights (K,) so that they broadcast along the class dimension of ``like``."""
    return None if weight is None else weight.view(-1, *[1] * (like.dim() - dim - 1))
