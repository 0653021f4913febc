"""Generalised label smoothing with negative rates, and the experiments of the paper that proposed it.

`gls_loss(logits, target, smooth_rate)` is cross entropy against (1 − r)·onehot + r/K for any real r ≤ 1: label
smoothing for r > 0, cross entropy at 0, negative label smoothing (NLS) below. `r_opt` says which rate the theory of
"To Smooth or Not? When Label Smoothing Meets Noisy Labels" (ICML 2022) recommends at a noise rate. An argument of the
wrong type raises TypeError, a wrong shape or value ValueError; the message begins with the argument's name.
"""

from .choose import RateChoice, choose_rate
from .losses import (
    GLSLoss,
    backward_correction,
    complementary_loss,
    f_divergence_loss,
    forward_correction,
    gls_loss,
    peer_loss,
)
from .noise import (
    NoiseReport,
    asymmetric,
    corrupt,
    estimate_transition,
    instance_dependent,
    noise_report,
    pair_flip,
    symmetric,
    transition_matrix,
)
from .theory import preference, r_opt, rate_at_scale, smoothing_scale

__all__ = [
    "GLSLoss",
    "NoiseReport",
    "RateChoice",
    "asymmetric",
    "backward_correction",
    "choose_rate",
    "complementary_loss",
    "corrupt",
    "estimate_transition",
    "f_divergence_loss",
    "forward_correction",
    "gls_loss",
    "instance_dependent",
    "noise_report",
    "pair_flip",
    "peer_loss",
    "preference",
    "r_opt",
    "rate_at_scale",
    "smoothing_scale",
    "symmetric",
    "transition_matrix",
]
