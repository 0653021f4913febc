"""Checks of arguments, shared by `losses`, `noise`, `choose` and the rooms above.

A check returns its argument in the form to compute with, or raises an error that begins with the argument's name and
says what was expected and what came: TypeError for a wrong kind of thing, ValueError for a wrong value of the right
kind. `theory` has its own, for arrays that broadcast.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Past this condition number, a matrix that was ever stored in float32 cannot be told from a singular one.
_MAX_CONDITION = 1 / torch.finfo(torch.float32).eps
_MOST_CLASSES = 10**6  # where K is read from the labels: more are identifiers
_TOLERANCE = 1e-5  # of sums of rows, and of entries below 0: T may have been float32


# ---------------------------------------------------------------- Numbers


def check_number(name: str, value: float, expected: str, low: float = -math.inf, high: float = math.inf) -> float:
    """`value`; TypeError unless it is a real number (bool is not), ValueError unless finite and in [`low`, `high`]."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected {expected}, got {value!r} of type {type(value).__name__}")
    if not (low <= value <= high and abs(value) < math.inf):  # the compiler cannot follow math.isfinite
        raise ValueError(f"{name}: expected {expected}, got {value}")
    return value


def check_rate(name: str, value: float) -> float:
    """`value` as a float; TypeError unless it is a number, ValueError outside [0, 1] or NaN."""
    return float(check_number(name, value, "a number in [0, 1]", 0, 1))


def check_integer(name: str, value: int, least: int) -> int:
    """`value` as an int; TypeError unless it is an integer (bool is not), ValueError below `least`."""
    expected = f"an integer of at least {least}"
    if not isinstance(value, Integral):
        raise TypeError(f"{name}: expected {expected}, got {value!r} of type {type(value).__name__}")
    return int(check_number(name, value, expected, least))


# ---------------------------------------------------------------- NumPy arrays, and what can be made into one


def as_numpy(name: str, value: Any) -> np.ndarray:
    """`value` as an array, torch tensors on any device and of any float type included."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.double().numpy() if value.is_floating_point() else value.numpy()
    try:
        return np.asarray(value)
    except ValueError as error:  # rows of unequal length
        raise ValueError(f"{name}: expected an array, got rows of unequal length") from error


def check_labels(name: str, labels: Any, num_classes: int | None) -> np.ndarray:
    """`labels` as int64 (N,); TypeError unless integers, ValueError unless 1-D, not empty, 0 ... num_classes - 1.

    `num_classes` None: any number of classes.
    """
    labels = as_numpy(name, labels)
    if labels.ndim != 1 or labels.size == 0:
        hint = f"; {name}.ravel() makes labels of one column, {name}.argmax(1) of one-hot rows" * (labels.ndim == 2)
        raise ValueError(f"{name}: expected one dimension and at least one label, got shape {labels.shape}{hint}")
    number = f"np.unique({name}, return_inverse=True)[1] counts classes of any kind from 0"
    if labels.dtype.kind not in "iu":
        hint = "leave out rows without a label, then .astype(int)" if labels.dtype.kind == "f" else number
        raise TypeError(f"{name}: expected integers, got dtype {labels.dtype}; {hint}")
    outside = labels[(labels < 0) | (labels >= (num_classes or _MOST_CLASSES))]
    if outside.size:
        expected = f"classes 0 to {num_classes - 1}" if num_classes else "classes counted from 0"
        hint = f", in pandas the code of a missing label; {number}" if outside[0] == -1 else ""
        raise ValueError(f"{name}: expected {expected}, got {outside[0]}{hint}")
    return labels.astype(np.int64)


def check_level(level: float) -> float:
    """`level` as a float; ValueError unless it lies strictly between 0 and 1."""
    return float(check_number("level", level, "a number in (0, 1)", math.nextafter(0, 1), math.nextafter(1, 0)))


def check_every_class(labels: Any, num_classes: int | None, least: int = 0) -> np.ndarray:
    """`check_labels` of "labels"; also a ValueError unless each class has `least` rows, and ten (None: K from them)."""
    array = check_labels("labels", labels, num_classes)
    counts = np.bincount(array, minlength=max(2, num_classes or 0))
    least, k = max(10, least), int(counts.argmin())
    if counts[k] < least:
        hint = "; np.unique(labels, return_inverse=True)[1] counts the classes from 0"
        raise ValueError(
            f"labels: expected at least {least} rows of each class 0 to {len(counts) - 1}, got {counts[k]} of {k}"
            f"{hint if counts[k] == 0 and not num_classes else ''}"
        )
    return array


def check_rows(name: str, rows: Any, tolerance: float = _TOLERANCE) -> np.ndarray:
    """`rows` as a float64 copy (N, K); TypeError unless numbers, ValueError unless each row is a distribution."""
    if str(getattr(rows, "dtype", "")).endswith("float16"):  # bfloat16 too
        tolerance = max(tolerance, 1e-2)
    array = as_numpy(name, rows)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name}: expected two dimensions, a row of probabilities in each, got shape {array.shape}")
    array = array.astype(np.float64)
    if not array.min() >= -_TOLERANCE:  # also true of NaN; 1 − .9 − .1 is −3e-17
        raise ValueError(f"{name}: expected probabilities of at least 0, got {array.min()}")
    array = np.maximum(array, 0.0)
    total = array.sum(axis=1)
    worst = np.argmax(np.abs(total - 1))
    if not abs(total[worst] - 1) <= tolerance:
        turned = array.shape[0] == array.shape[1] and np.abs(array.sum(axis=0) - 1).max() <= tolerance
        hint = "; its columns do, transpose it" if turned else ""
        raise ValueError(f"{name}: expected rows that sum to 1, got {total[worst]:.6g} in row {worst}{hint}")
    return array


# ---------------------------------------------------------------- Arguments of losses


def readable(tensor: Tensor) -> bool:
    """Whether the values may be looked at: a plain CPU tensor that nothing traces, transforms or intercepts.

    Elsewhere a look ends in an error, in a graph that is right for this one batch, or in a wait for the GPU.
    """
    return (
        not torch.compiler.is_compiling()
        and type(tensor) in (Tensor, nn.Parameter)
        and tensor.device.type == "cpu"
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._len_torch_function_stack()
    )


def check_logits(logits: Tensor, name: str = "logits") -> tuple[Tensor, int, int]:
    """The logits in the type to compute in (float32 for half precision), their class dimension, and K."""
    _check_floating(name, logits)
    dim = min(1, logits.dim() - 1)
    if dim < 0 or logits.shape[dim] == 0:
        raise ValueError(
            f"{name}: expected shape (K,), (N, K) or (N, K, d1, ...) with K >= 1, got {tuple(logits.shape)}"
        )
    K = logits.shape[dim]
    if torch.jit.is_tracing():
        K = int(K)  # a tensor there, with which rate / K would be float32
    return (logits if logits.dtype in (torch.float32, torch.float64) else logits.float()), dim, K


def check_index(
    target: Tensor, logits: Tensor, dim: int, K: int, ignore_index: int | None, prefix: str = ""
) -> tuple[Tensor, Tensor | None]:
    """The class indices as int64, 0 in place of ignored ones, and where they count (None: everywhere).

    `ignore_index` None: the loss ignores no index. The names of the arguments begin with `prefix`.
    """
    name = f"{prefix}target"
    if not isinstance(target, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(target).__name__}; convert with torch.as_tensor")
    if target.dtype not in (torch.int64, torch.uint8):
        raise TypeError(f"{name}: expected class indices of dtype int64 or uint8, got {target.dtype}; use .long()")
    expected = logits.shape[:dim] + logits.shape[dim + 1 :]
    if target.shape != expected:
        hint = "; of one-hot rows, gls_loss takes .float()" if target.shape == logits.shape else ""
        raise ValueError(
            f"{name}: expected class indices of shape {tuple(expected)} for {prefix}logits of shape "
            f"{tuple(logits.shape)}, got {tuple(target.shape)}{hint}"
        )
    _check_device(name, target, logits)
    index = target.long()
    keep = None if ignore_index is None else index != ignore_index
    if keep is not None:
        index = index.where(keep, 0)
    if readable(target) and target.numel():
        low, high = map(int, index.aminmax())
        if low < 0 or high >= K:
            also = "" if ignore_index is None else f" or ignore_index = {ignore_index}"
            raise ValueError(f"{name}: expected class indices in 0 ... {K - 1}{also}, got {low if low < 0 else high}")
        return index, None if keep is None or keep.all() else keep
    if ignore_index != -100:
        # nll_loss skips -100 unless told otherwise. K it refuses, as cross entropy refuses any label out of range.
        index = index.where(index != -100, K)
    return index, keep


def check_soft_target(target: Tensor, logits: Tensor, ignore_index: int) -> Tensor:
    """Floating-point targets in the logits' type."""
    if target.shape != logits.shape:
        raise ValueError(
            f"target: floating-point targets need the shape of logits, {tuple(logits.shape)}, got "
            f"{tuple(target.shape)}; class indices need dtype int64"
        )
    _check_device("target", target, logits)
    if ignore_index >= 0:
        raise ValueError(f"ignore_index: not supported with floating-point targets, got {ignore_index}")
    return target.to(logits.dtype)


def check_smooth_rate(
    rate: float | Tensor, shape: Sequence[int] | None = None, logits: Tensor | None = None
) -> float | Tensor:
    """The rate as a float, or as a tensor expanded to ``shape``, that of the class indices; without it, as it came."""
    wanted = "a finite number r <= 1 (r -> -inf is complementary_loss), or a tensor of them"
    if not isinstance(rate, Tensor):
        return float(check_number("smooth_rate", rate, wanted, high=1))
    if rate.dtype == torch.bool or rate.is_complex():
        raise TypeError(f"smooth_rate: expected {wanted}, got a tensor of dtype {rate.dtype}")
    if readable(rate):
        bad = ~(rate.isfinite() & (rate <= 1))
        if bad.any():
            raise ValueError(f"smooth_rate: expected {wanted}, got {rate.detach()[bad][0].item()} in it")
    if shape is None:
        return rate
    if rate.numel() == 1:
        return rate.to(logits).reshape(()).expand(shape)
    # As many dimensions: of logits (N, K, d), a rate for each example (N,) would meet d.
    if rate.dim() != len(shape) or any(a not in (1, b) for a, b in zip(rate.shape, shape, strict=True)):
        raise ValueError(
            f"smooth_rate: expected one number, or {len(shape)} dimensions that broadcast to the shape of the class "
            f"indices, {tuple(shape)}, got shape {tuple(rate.shape)}"
        )
    _check_device("smooth_rate", rate, logits)
    return rate.to(logits).expand(shape)


def check_weight(weight: Tensor, K: int | None = None, logits: Tensor | None = None, name: str = "weight") -> Tensor:
    """Class weights, in the type of the logits; without logits, what can be checked without them."""
    _check_floating(name, weight)
    if weight.dim() != 1 or (K is not None and len(weight) != K):
        expected = "(K,)" if K is None else f"({K},)"
        raise ValueError(f"{name}: expected one weight a class, shape {expected}, got {tuple(weight.shape)}")
    if weight.requires_grad:
        raise ValueError(f"{name}: expected a tensor that does not require grad, since none flows to it; use .detach()")
    if logits is None:
        return weight
    _check_device(name, weight, logits)
    return weight.to(logits)


def check_uniform(uniform: Tensor, K: int | None = None, logits: Tensor | None = None) -> Tensor:
    """The distribution to smooth towards, as `check_weight` returns class weights."""
    checked = check_weight(uniform, K, logits, "uniform")
    if readable(uniform) and not ((uniform >= 0).all() and abs(uniform.double().sum().item() - 1) <= 1e-3):
        raise ValueError(f"uniform: expected probabilities that sum to 1, got {uniform.tolist()}")
    return checked


def check_options(ignore_index: int, reduction: str) -> None:
    """`ignore_index` and `reduction` as in torch."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, Integral):  # NumPy's integers too
        raise TypeError(f"ignore_index: expected an int, got {ignore_index!r}")


def check_transition_tensor(T: Tensor | np.ndarray, K: int, logits: Tensor) -> Tensor:
    """T as a tensor on its own device; of its own type, but in half precision its rows sum to 1 in float32."""
    if isinstance(T, np.ndarray):
        try:
            T = torch.from_numpy(np.array(T))  # a copy: read-only arrays and negative strides are fine
        except TypeError as error:
            raise TypeError(f"T: expected real numbers, got an array of dtype {T.dtype}") from error
    if not isinstance(T, Tensor):
        raise TypeError(f"T: expected a torch.Tensor or a NumPy array, got {type(T).__name__}")
    if T.dtype == torch.bool or T.is_complex():
        raise TypeError(f"T: expected real numbers, got a tensor of dtype {T.dtype}")
    if T.shape != (K, K):
        raise ValueError(
            f"T: expected shape ({K}, {K}) for logits of shape {tuple(logits.shape)}, got {tuple(T.shape)}"
        )
    if readable(T):
        check_rows("T", T)
    if T.dtype in (torch.float16, torch.bfloat16):
        T = T.float() / T.float().sum(1, keepdim=True)
    return T


def check_invertible(T: Tensor) -> Tensor:
    """The inverse in float64. A row-stochastic T has infinity norm 1, so the inverse's norm is the condition number."""
    T = T.cpu() if T.device.type == "mps" else T  # which knows no float64
    inverse, info = torch.linalg.inv_ex(T.double())
    condition = inverse.detach().abs().sum(1).max().masked_fill(info != 0, math.inf)
    if not readable(T):  # the inverse of a singular matrix is garbage: better NaN
        return inverse.where(condition <= _MAX_CONDITION, math.nan)
    if not condition <= _MAX_CONDITION:
        raise ValueError(
            f"T: expected an invertible matrix, got condition number {condition:.3g} (at most {_MAX_CONDITION:.2g}): "
            "labels that carry no information about a class cannot be corrected backward; forward_correction needs no "
            "inverse"
        )
    return inverse


def _check_floating(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}; convert with torch.as_tensor")
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point dtype, got {tensor.dtype}")


def _check_device(name: str, tensor: Tensor, logits: Tensor) -> None:
    if tensor.device != logits.device:
        raise ValueError(f"{name}: expected on the device of logits, {logits.device}, got {tensor.device}")
