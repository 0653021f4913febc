"""Losses for learning with noisy labels: generalised label smoothing (GLS) and the losses that it is compared with.

The paper is "To Smooth or Not? When Label Smoothing Meets Noisy Labels" (Wei et al., ICML 2022). Everything here takes
raw logits ``z``, works in natural logarithms (nats) and shares three conventions:

Shapes
    As in :func:`torch.nn.functional.cross_entropy`: logits ``(K,)``, ``(N, K)`` or ``(N, K, d1, ...)`` with class
    indices (int64 or uint8) of shape ``()``, ``(N,)`` or ``(N, d1, ...)``. ``reduction="none"`` returns the shape of
    the class indices, ``"mean"`` and ``"sum"`` a scalar.
Precision
    float32 and float64 logits give a loss of their own type. float16 and bfloat16 logits are computed in, and return,
    float32 (torch's cross entropy returns the half type); their gradient has the logits' type.
Checks
    Types, shapes and scalar arguments are checked always, with a ``TypeError`` or a ``ValueError`` that names the
    argument. Values inside tensors (label range, NaN rates, a singular T) are checked only in eager calls on CPU
    tensors: anywhere else the check would break ``torch.compile(fullgraph=True)`` or ``torch.func``, or would make the
    host wait for the GPU.

All functions support ``torch.func`` transforms, ``torch.compile(fullgraph=True)`` and, in eager mode, double backward.
"""

import math
from numbers import Real
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = [
    "GLSLoss",
    "backward_correction",
    "complementary_loss",
    "f_divergence_loss",
    "forward_correction",
    "gls_loss",
    "peer_loss",
]

# Past this condition number, a matrix that was ever stored in float32 cannot be told from a singular one.
_MAX_CONDITION = 1 / torch.finfo(torch.float32).eps
_ROW_SUM_TOLERANCE = 1e-5


def gls_loss(
    logits: Tensor,
    target: Tensor,
    smooth_rate: float | Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
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
            as in torch, not checked to sum to one.
        smooth_rate: r, a number, or a tensor that broadcasts to the shape of the class indices (for floating-point
            targets: to their shape without the class dimension), to give each example its own rate. A tensor that
            requires grad receives its gradient. A tensor also spares ``torch.compile`` a new graph when r changes.
        weight: ``(K,)`` class weights, which multiply the terms of both the label and the uniform part, as in torch.
            No gradient flows to them.
        ignore_index: examples with this class index give zero loss and leave the mean. Not for floating-point targets.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``. As in torch, the mean over class indices divides by the sum of
            ``weight[target]``, that over floating-point targets by the number of examples.

    Returns:
        The loss in nats. It may be negative when r < 0. The mean over nothing is NaN.

    Raises:
        TypeError, ValueError: the argument is named, with what came and what was expected.

    Example:
        >>> gls_loss(torch.tensor([[0.2, 0.6, 0.2]]).log(), torch.tensor([1]), -0.3)
        tensor(0.2911)
    """
    return _gls_loss(logits, target, smooth_rate, weight, ignore_index, reduction)


class GLSLoss(nn.Module):
    """Module form of :func:`gls_loss`; the arguments have the same meaning.

    ``weight`` and a tensor ``smooth_rate`` become buffers: they follow ``.to(device)`` and are saved in the state dict.

    Example:
        >>> criterion = GLSLoss(-2.0)
        >>> criterion(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
        tensor(1.3863)
    """

    weight: Tensor | None

    def __init__(
        self,
        smooth_rate: float | Tensor,
        *,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        smooth_rate = _check_rate(smooth_rate)
        if isinstance(smooth_rate, Tensor):
            self.register_buffer("smooth_rate", smooth_rate)
        else:
            self.smooth_rate = smooth_rate
        if weight is not None:
            _check_weight(weight, None)
        _check_ignore_index(ignore_index)
        _check_reduction(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return gls_loss(
            logits,
            target,
            self.smooth_rate,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        rate = self.smooth_rate
        if isinstance(rate, Tensor):
            rate = f"tensor{tuple(rate.shape)}" if rate.dim() else rate.item()
        weight = "" if self.weight is None else f", weight=tensor{tuple(self.weight.shape)}"
        return f"smooth_rate={rate}{weight}, ignore_index={self.ignore_index}, reduction={self.reduction!r}"


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
            where it lies, then cast to the logits' type and device.
        weight: ``(K,)`` class weights: the loss of an example is multiplied by ``weight[target]``.
        ignore_index: examples with this class index give zero loss and leave the mean.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``; the mean divides by the sum of ``weight[target]``.

    Raises:
        TypeError, ValueError: as above; also when T is not row-stochastic, or singular (condition number above 8e6).
    """
    logits, index, keep, factor, dim = _prepare(logits, target, weight, ignore_index, reduction)
    inverse = _invert(_check_transition(T, logits.shape[dim], logits)).to(logits)
    # A soft label like any other: the row of T^{-1} that belongs to the noisy label.
    corrected = F.embedding(index, inverse).movedim(-1, dim)
    return _reduce(F.cross_entropy(logits, corrected, reduction="none"), keep, factor, reduction)


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

    Raises:
        TypeError, ValueError: the argument is named, with what came and what was expected.
    """
    logits, index, keep, factor, dim = _prepare(logits, target, weight, ignore_index, reduction)
    T = _check_transition(T, logits.shape[dim], logits).to(logits)
    # log 0 = -inf would make NaN gradients. This floor adds exp(floor) = 0 to the sum and leaves room to add log p.
    floor = torch.finfo(T.dtype).min / 4
    possible = T > 0
    log_T = torch.where(possible, torch.where(possible, T, 1.0).log(), floor)
    joint = F.log_softmax(logits, dim) + F.embedding(index, log_T.t().contiguous()).movedim(-1, dim)
    # Without its maximum the sum has a small logarithm, which keeps the digits that its gradient needs.
    top = joint.detach().amax(dim, keepdim=True)
    loss = -(top.squeeze(dim) + torch.logsumexp(joint - top, dim))
    return _reduce(loss.masked_fill(loss > -floor / 2, math.inf), keep, factor, reduction)


def complementary_loss(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    r"""Loss of the label minus the mean loss of the other classes (Thm 5.3 of the paper), the r -> -inf limit of GLS.

    With ``l(j) = -log p_j``, per example ``l(y) - mean_{j != y} l(j) = mean_{j != y} z_j - z_y``: linear in the logits.
    It is K / (K - 1) times the limit of ``gls_loss / (1 - r)``; in the binary case, ``l(f, y) - l(f, 1 - y)``.

    Args:
        logits, target, weight, ignore_index, reduction: as in :func:`backward_correction`.

    Raises:
        TypeError, ValueError: the argument is named, with what came and what was expected.
    """
    logits, index, keep, factor, dim = _prepare(logits, target, weight, ignore_index, reduction)
    K = logits.shape[dim]
    if K < 2:
        raise ValueError(f"logits: expected at least two classes, since the loss compares them, got K = {K}")
    # Subtracting first keeps a common offset of the logits from costing digits.
    others = (logits - logits.gather(dim, index.unsqueeze(dim))).sum(dim) / (K - 1)
    return _reduce(others, keep, factor, reduction)


def peer_loss(logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor, alpha: float = 1.0) -> Tensor:
    r"""Peer loss (Liu and Guo, ICML 2020): ``CE(logits, target) - alpha * CE(peer_logits, peer_target)``.

    The peer logits and the peer targets must come from two *independent* draws of the noisy data (two shuffled
    batches), so that their pair carries no information: the second term punishes agreement with blind guesses.
    With equal noisy priors and alpha = 1 its expectation is that of GLS as r -> -inf (Thm 5.5 of the paper).

    Args:
        logits, target: ``(K,)``, ``(N, K)`` or ``(N, K, d1, ...)`` and class indices, as for cross entropy.
        peer_logits, peer_target: likewise; the number of examples may differ, the number of classes may not.
        alpha: any finite real number.

    Returns:
        A scalar: both terms are means over their examples. It may be negative.

    Raises:
        TypeError, ValueError: the argument is named, with what came and what was expected.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, Real):
        raise TypeError(f"alpha: expected a real number, got {_describe(alpha)}")
    if not math.isfinite(alpha):
        raise ValueError(f"alpha: expected a finite number, got {alpha}")
    picked = _log_prob(logits, target)
    peer = _log_prob(peer_logits, peer_target, "peer_logits", "peer_target", logits)
    return alpha * peer.mean() - picked.mean()


# name: (g(v), f*(g(v'))) with v a probability, as the authors' code has them.
_DIVERGENCES = {
    "tv": (lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
    "kl": (lambda v: v, lambda v: (v - 1).exp()),
    "js": (lambda v: math.log(2) - F.softplus(-v), lambda v: F.softplus(v) - math.log(2)),
    "pearson": (lambda v: v, lambda v: v.square() / 4 + v),
    "sqhellinger": (lambda v: 1 - v.exp(), lambda v: (-v).exp() - 1),
    "reverse_kl": (lambda v: -v.exp(), lambda v: -1 - v),
}


def f_divergence_loss(
    logits: Tensor, target: Tensor, peer_logits: Tensor, peer_target: Tensor, divergence: str
) -> Tensor:
    r"""Robust f-divergence loss (Wei and Liu, ICLR 2021): ``-E[g(v)] + E[f*(g(v'))]``, a variational lower bound.

    ``v = softmax(logits)[target]`` and ``v' = softmax(peer_logits)[peer_target]`` are probabilities, not their
    logarithms. The peer pairs are made as for :func:`peer_loss`.

    The formulas are those of the authors' code. For ``"sqhellinger"`` and ``"reverse_kl"`` its g *falls* with v
    (``1 - e^v`` and ``-e^v``), so that minimising the loss lowers the probability of the given label: the classifier
    that it trains is read with argmin. They are here to reproduce that code; for anything else take one of the others.

    Args:
        logits, target, peer_logits, peer_target: as in :func:`peer_loss`.
        divergence: ``"tv"`` (total variation), ``"kl"``, ``"js"``, ``"pearson"``, ``"sqhellinger"``, ``"reverse_kl"``.

    Returns:
        A scalar, both terms being means.

    Raises:
        TypeError, ValueError: the argument is named, with what came and what was expected.
    """
    if not isinstance(divergence, str) or divergence not in _DIVERGENCES:
        raise ValueError(f"divergence: expected one of {', '.join(_DIVERGENCES)}, got {divergence!r}")
    activation, conjugate = _DIVERGENCES[divergence]
    v = _log_prob(logits, target).exp()
    peer = _log_prob(peer_logits, peer_target, "peer_logits", "peer_target", logits).exp()
    return conjugate(peer).mean() - activation(v).mean()


# ---------------------------------------------------------------------------------------------------------------------
# Generalised label smoothing


def _gls_loss(
    logits: Tensor, target: Tensor, rate: float | Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    if isinstance(target, Tensor) and target.is_floating_point():
        return _gls_loss_soft(logits, target, rate, weight, ignore_index, reduction)
    logits, index, keep, factor, dim = _prepare(logits, target, weight, ignore_index, reduction)
    rate = _check_rate(rate, index.shape, logits)
    if weight is not None:
        weight = weight.to(logits)
    if isinstance(rate, Tensor) or torch._C._are_functorch_transforms_active():
        # torch.func knows the rules of these, and autograd finds the gradient of the rate.
        loss = _smoothed_nll(F.log_softmax(logits, dim), index, rate, weight, factor, dim)
    elif torch.compiler.is_compiling():
        loss, _ = _FusedNLL.apply(logits, index, rate, weight, factor, dim)
    else:
        loss = _SmoothedNLL.apply(F.log_softmax(logits, dim), index, rate, weight, factor, dim)
    return _reduce(loss, keep, factor, reduction, weighted=True)


def _gls_loss_soft(
    logits: Tensor, target: Tensor, rate: float | Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    """GLS of floating-point targets of the logits' shape: smooth them, and let torch do the rest."""
    logits = _check_logits(logits)
    _check_reduction(reduction)
    _check_ignore_index(ignore_index)
    if target.shape != logits.shape:
        raise ValueError(
            f"target: floating-point targets need the shape of logits, {tuple(logits.shape)}, got "
            f"{tuple(target.shape)}; class indices need dtype int64"
        )
    _check_device("target", target, logits)
    if ignore_index >= 0:
        raise ValueError(f"ignore_index: not supported with floating-point targets, got {ignore_index}")
    dim = min(1, logits.dim() - 1)
    K = logits.shape[dim]
    if weight is not None:
        weight = _check_weight(weight, K, logits).to(logits)
    rate = _check_rate(rate, target.shape[:dim] + target.shape[dim + 1 :], logits)
    target = target.to(logits.dtype)
    if isinstance(rate, Tensor):
        rate = rate.unsqueeze(dim)
    if isinstance(rate, Tensor) or rate != 0:
        target = (1 - rate) * target + rate / K
    return F.cross_entropy(logits, target, weight=weight, reduction=reduction)


def _smoothed_nll(
    log_p: Tensor, index: Tensor, rate: float | Tensor, weight: Tensor | None, factor: Tensor | None, dim: int
) -> Tensor:
    """``-(1 - r) log p_y - r mean_j log p_j`` per example, each term times its class weight."""
    # nll_loss instead of gather: the compiler turns its backward into a comparison that it can fuse.
    label = F.nll_loss(log_p, index, reduction="none")
    if factor is not None:
        label = label * factor
    if not isinstance(rate, Tensor) and rate == 0:
        return label  # not 0 * mean: a masked class has log p = -inf, and cross entropy must stay finite
    if weight is None:
        uniform = -log_p.mean(dim)
    else:
        uniform = -(log_p * _along(weight, log_p, dim)).sum(dim) / log_p.shape[dim]
    if isinstance(rate, Tensor):
        uniform = uniform.masked_fill((rate == 0) & uniform.isinf(), 0)  # the same, where the rate is 0
    return (1 - rate) * label + rate * uniform


class _SmoothedNLL(torch.autograd.Function):
    """:func:`_smoothed_nll` for eager calls: linear in log p, so that its gradient needs no N x K tensor from forward.

    Autograd would fill one N x K gradient for the label and another for the mean, and add them. Here one fill and a
    scatter do. The log-softmax before it keeps log p, the only N x K buffer that lives until the backward.
    """

    @staticmethod
    def forward(
        log_p: Tensor, index: Tensor, rate: float, weight: Tensor | None, factor: Tensor | None, dim: int
    ) -> Tensor:
        return _smoothed_nll(log_p, index, rate, weight, factor, dim)

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
        logits: Tensor, index: Tensor, rate: float, weight: Tensor | None, factor: Tensor | None, dim: int
    ) -> tuple[Tensor, Tensor]:
        log_p = F.log_softmax(logits, dim)
        return _smoothed_nll(log_p, index, rate, weight, factor, dim), log_p.exp()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        _, index, ctx.rate, weight, factor, ctx.dim = inputs
        ctx.save_for_backward(output[1], index, weight, factor)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        p, index, weight, factor = ctx.saved_tensors
        dim, K = ctx.dim, p.shape[ctx.dim]
        label = torch.full_like(grad, 1 - ctx.rate) if factor is None else (1 - ctx.rate) * factor
        if weight is None:
            share, mass = ctx.rate / K, label + ctx.rate
        else:
            share, mass = _along(weight, p, dim) * (ctx.rate / K), label + weight.sum() * (ctx.rate / K)
        classes = _along(torch.arange(K, device=p.device), p, dim)
        smooth = share + torch.where(classes == index.unsqueeze(dim), label.unsqueeze(dim), 0)
        return grad.unsqueeze(dim) * (p * mass.unsqueeze(dim) - smooth), None, None, None, None, None


# ---------------------------------------------------------------------------------------------------------------------
# Shared by all losses


def _prepare(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, int]:
    """Check the arguments; return logits (at least float32), index, keep, factor and the class dimension.

    ``index`` holds the target with 0 in place of ignored labels, ``keep`` is False there (None: nothing is ignored),
    ``factor`` is ``weight[target]``, zero there (None: no weight).
    """
    logits = _check_logits(logits)
    _check_reduction(reduction)
    _check_ignore_index(ignore_index)
    dim = min(1, logits.dim() - 1)
    K = logits.shape[dim]
    index = _check_index(target, logits, dim)
    keep = None
    if _ignores(index, K, ignore_index):
        keep = index != ignore_index
        index = index.where(keep, 0)
    factor = None
    if weight is not None:
        factor = _check_weight(weight, K, logits).to(logits)[index]
        if keep is not None:
            factor = factor.where(keep, 0)
    return logits, index, keep, factor, dim


def _log_prob(
    logits: Tensor,
    target: Tensor,
    logits_name: str = "logits",
    target_name: str = "target",
    like: Tensor | None = None,
) -> Tensor:
    """Log-probability of the label; with ``like``, the logits whose number of classes these must have."""
    logits = _check_logits(logits, logits_name)
    dim = min(1, logits.dim() - 1)
    K = logits.shape[dim]
    if like is not None and K != like.shape[min(1, like.dim() - 1)]:
        raise ValueError(
            f"{logits_name}: expected as many classes as logits of shape {tuple(like.shape)}, got {tuple(logits.shape)}"
        )
    index = _check_index(target, logits, dim, target_name, logits_name)
    _ignores(index, K, None, target_name)
    return -F.nll_loss(F.log_softmax(logits, dim), index, reduction="none")


def _reduce(loss: Tensor, keep: Tensor | None, factor: Tensor | None, reduction: str, weighted: bool = False) -> Tensor:
    """Apply class weights (unless the loss has them already), ignored labels and the reduction."""
    if factor is not None and not weighted:
        loss = loss * factor
    if keep is not None:
        loss = loss.where(keep, 0)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if factor is not None:
        return loss.sum() / factor.sum()
    return loss.mean() if keep is None else loss.sum() / keep.sum()


def _along(weight: Tensor, like: Tensor, dim: int) -> Tensor:
    """View class weights (K,) so that they broadcast along the class dimension of ``like``."""
    return weight.view(-1, *[1] * (like.dim() - dim - 1))


def _in_graph() -> bool:
    """Whether torch.compile or a torch.func transform is tracing, where values of tensors cannot be looked at."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def _readable(tensor: Tensor) -> bool:
    """Whether a check of values is possible and costs no synchronisation."""
    return tensor.device.type == "cpu" and not _in_graph()


def _describe(value: object) -> str:
    return f"{value!r} of type {type(value).__name__}"


def _check_logits(logits: Tensor, name: str = "logits") -> Tensor:
    """Return the logits in the type to compute in: float32 for half precision."""
    if not isinstance(logits, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(logits).__name__}")
    if not logits.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point dtype, got {logits.dtype}")
    if logits.dim() == 0 or logits.shape[min(1, logits.dim() - 1)] == 0:
        raise ValueError(
            f"{name}: expected shape (K,), (N, K) or (N, K, d1, ...) with K >= 1, got {tuple(logits.shape)}"
        )
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _check_index(target: Tensor, logits: Tensor, dim: int, name: str = "target", logits_name: str = "logits") -> Tensor:
    """Return the class indices as int64."""
    if not isinstance(target, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(target).__name__}; convert with torch.as_tensor")
    if target.dtype not in (torch.int64, torch.uint8):
        raise TypeError(f"{name}: expected class indices of dtype int64 or uint8, got {target.dtype}; use .long()")
    expected = logits.shape[:dim] + logits.shape[dim + 1 :]
    if target.shape != expected:
        raise ValueError(
            f"{name}: expected class indices of shape {tuple(expected)} for {logits_name} of shape "
            f"{tuple(logits.shape)}, got {tuple(target.shape)}"
        )
    _check_device(name, target, logits)
    return target.long()


def _ignores(index: Tensor, K: int, ignore_index: int | None, name: str = "target") -> bool:
    """Check the range of the labels; return whether any may be ignored (None: the loss ignores no index)."""
    if not _readable(index):
        return ignore_index is not None
    if index.numel() == 0:
        return False
    low, high = (int(bound) for bound in index.aminmax())
    if 0 <= low and high < K:
        return ignore_index is not None and low <= ignore_index <= high
    outside = (index < 0) | (index >= K)
    if ignore_index is not None:
        outside &= index != ignore_index
    if outside.any():
        also = "" if ignore_index is None else f" or ignore_index = {ignore_index}"
        raise ValueError(f"{name}: expected class indices in 0 ... {K - 1}{also}, got {int(index[outside][0])}")
    return True


def _check_device(name: str, tensor: Tensor, logits: Tensor) -> None:
    if tensor.device != logits.device:
        raise ValueError(f"{name}: expected on the device of logits, {logits.device}, got {tensor.device}")


def _check_rate(rate: float | Tensor, shape: torch.Size | None = None, logits: Tensor | None = None) -> float | Tensor:
    """Return a float, or a tensor expanded to ``shape``; without a shape check what can be checked without logits."""
    wanted = "expected a real number r <= 1, or a tensor of them"
    if isinstance(rate, Tensor):
        if rate.dtype == torch.bool or rate.is_complex():
            raise TypeError(f"smooth_rate: {wanted}, got a tensor of dtype {rate.dtype}")
        if _readable(rate):
            bad = ~(rate.isfinite() & (rate <= 1))
            if bad.any():
                raise ValueError(f"smooth_rate: {wanted}, got {rate[bad][0].item()} in it")
        if shape is None or logits is None:
            return rate
        if rate.dim():
            _check_device("smooth_rate", rate, logits)
            missing = len(shape) - rate.dim()
            if missing < 0 or any(a not in (1, b) for a, b in zip(rate.shape, shape[missing:], strict=True)):
                raise ValueError(
                    f"smooth_rate: expected a tensor that broadcasts to the class indices' shape {tuple(shape)}, got "
                    f"shape {tuple(rate.shape)}"
                )
        return rate.to(logits).expand(shape)
    if isinstance(rate, bool | np.bool_) or not isinstance(rate, Real):
        raise TypeError(f"smooth_rate: {wanted}, got {_describe(rate)}")
    if rate == -math.inf:
        raise ValueError("smooth_rate: expected a finite number, got -inf; the limit is complementary_loss")
    if not rate <= 1:  # also true of NaN
        raise ValueError(f"smooth_rate: {wanted}, got {rate}")
    return float(rate)


def _check_weight(weight: Tensor, K: int | None, logits: Tensor | None = None) -> Tensor:
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight: expected a torch.Tensor of shape (K,), got {type(weight).__name__}")
    if not weight.is_floating_point():
        raise TypeError(f"weight: expected a floating-point dtype, got {weight.dtype}")
    if weight.dim() != 1 or (K is not None and len(weight) != K):
        expected = "(K,)" if K is None else f"({K},)"
        raise ValueError(f"weight: expected one weight a class, shape {expected}, got {tuple(weight.shape)}")
    if weight.requires_grad:
        raise ValueError("weight: expected a tensor that does not require grad, since none flows to it; use .detach()")
    if logits is not None:
        _check_device("weight", weight, logits)
    return weight


def _check_ignore_index(ignore_index: int) -> None:
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
        raise TypeError(f"ignore_index: expected an int, got {_describe(ignore_index)}")


def _check_reduction(reduction: str) -> None:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")


def _check_transition(T: Tensor | np.ndarray, K: int, logits: Tensor) -> Tensor:
    """Return T as a tensor, still of its own type and device."""
    if isinstance(T, np.ndarray):
        try:
            T = torch.from_numpy(np.array(T))  # a copy: read-only arrays and negative strides are fine
        except TypeError as error:
            raise TypeError(f"T: expected real numbers, got an array of dtype {T.dtype}") from error
    if not isinstance(T, Tensor):
        raise TypeError(f"T: expected a torch.Tensor or a NumPy array, got {type(T).__name__}")
    if T.dtype == torch.bool or T.is_complex():
        raise TypeError(f"T: expected real numbers, got a tensor of dtype {T.dtype}")
    if T.dim() != 2 or T.shape[0] != T.shape[1]:
        raise ValueError(f"T: expected a square matrix, got shape {tuple(T.shape)}")
    if len(T) != K:
        raise ValueError(
            f"T: expected shape ({K}, {K}) for logits of {K} classes, shape {tuple(logits.shape)}, got {tuple(T.shape)}"
        )
    if _readable(T):
        entries = T.detach().double()
        rows = entries.sum(1)
        if not entries.isfinite().all() or entries.min() < -_ROW_SUM_TOLERANCE:
            worst = entries[~(entries >= -_ROW_SUM_TOLERANCE) | entries.isinf()][0].item()
            raise ValueError(f"T: expected probabilities, T[i, j] = P(noisy = j | clean = i), got an entry {worst}")
        if ((rows - 1).abs() > _ROW_SUM_TOLERANCE).any():
            i = int((rows - 1).abs().argmax())
            hint = "; its columns do, transpose it" if (entries.sum(0) - 1).abs().max() < _ROW_SUM_TOLERANCE else ""
            raise ValueError(f"T: expected rows that sum to 1, got {rows[i].item():.6g} in row {i}{hint}")
    return T


def _invert(T: Tensor) -> Tensor:
    """Inverse in float64. A row-stochastic T has infinity norm 1, so the inverse's norm is the condition number."""
    inverse, info = torch.linalg.inv_ex(T.double())
    if _readable(T):
        condition = inverse.detach().abs().sum(1).max().item()
        if info.item() != 0 or not condition <= _MAX_CONDITION:
            condition = math.inf if info.item() != 0 else condition
            raise ValueError(
                f"T: expected an invertible matrix, got condition number {condition:.3g} (at most "
                f"{_MAX_CONDITION:.2g}): labels that carry no information about a class cannot be corrected backward; "
                "forward_correction needs no inverse"
            )
    return inverse
