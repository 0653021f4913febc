"""Notebook 10's losses against gradients by hand, its class means against loops, and its readings of curves."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from nls.lab import mechanism, tables
from nls.lab.mechanism import ClippedSGD, Matched, votes_loss
from nls.lab.methods import VOTES, Loss, Robust, Votes
from nls.lab.models import mlp
from nls.lab.stacks import Stack, per_model
from nls.report.mechanism import clustered, crossing, jackknife, minimum, partial_spearman, spearman, toy_threshold

K, N = 3, 40
Y_TRUE = torch.arange(N) % K
Y = torch.where(torch.arange(N) % 4 == 0, (Y_TRUE + 1) % K, Y_TRUE)  # every fourth label is wrong
BATCH = torch.arange(2, 32)


def gradient(losses, z, batch=BATCH, **how):
    """d loss / d logits of models with these losses on one batch, (M, K, B), times B."""
    z = z.clone().requires_grad_()
    labels = Y.expand(len(losses), -1)
    loss = votes_loss(losses, labels, K, y_true=Y_TRUE, seed=3, **how)
    loss(z, batch, z[:0], batch).backward()
    return z.grad * len(batch)


def by_hand(z, rates, batch=BATCH):
    """p − ((1 − r) onehot + r/K) with a rate for each example."""
    onehot = torch.eye(K, dtype=z.dtype)[Y[batch]].T
    return z.softmax(0) - (1 - rates) * onehot - rates / K


def logits(seed=0):
    return 2 * torch.randn(K, len(BATCH), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variant", VOTES)
def test_votes_have_the_gradient_written_out(variant):
    z, loss = logits(), Votes("votes", -8.0, **VOTES[variant])
    fitted, clean = z.argmax(0) == Y[BATCH], (Y == Y_TRUE)[BATCH]
    drawn = torch.from_numpy(np.random.default_rng(3).random(N))[BATCH] < loss.part
    voters = {"all": drawn, "clean": clean, "flipped": ~clean}[loss.voters]
    share = torch.where(fitted, loss.dose * voters, torch.tensor(loss.misfit))
    expected = by_hand(z, -8 * share)
    if loss.equal_norm:
        expected = expected * by_hand(z, torch.tensor(-8.0)).norm() / expected.norm()
    assert fitted.any() and not fitted.all() and (share != 1).any()
    torch.testing.assert_close(gradient([loss], z[None])[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", tables.IMAGE_VOTES)
def test_one_network_has_the_votes_of_a_stack_of_one(variant):
    z, loss = logits(), Votes("votes", -6.0, **VOTES[variant])
    alone = z.T.clone().requires_grad_()
    loss(alone, Y[BATCH], alone[:0], Y[:0]).backward()
    torch.testing.assert_close(alone.grad.T * len(BATCH), gradient([loss], z[None])[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="voters: got 1 of clean, expected all for one network alone"):
        Votes("votes", -6.0, voters="clean")(alone, Y[BATCH], alone[:0], Y[:0])


def test_all_votes_are_gls_and_none_are_taken_from_another_model():
    z = torch.stack([logits(), logits(1), logits(2)])
    both = gradient([Loss("gls", -8.0), Votes("votes", -8.0), Loss("gls", 0.0)], z)
    torch.testing.assert_close(both[1], by_hand(z[1], torch.tensor(-8.0)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both[0], by_hand(z[0], torch.tensor(-8.0)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both[2], by_hand(z[2], torch.tensor(0.0)), rtol=1e-5, atol=1e-5)


def test_gce_and_mae_weigh_the_cross_entropy_gradient_by_powers_of_the_label_s_probability():
    """d/dz of (1 − p_y^q)/q is p_y^q (p − onehot): Zhang and Sabuncu 2018; q = 1 is the mean absolute error."""
    z = logits()
    weight = z.softmax(0).gather(0, Y[BATCH][None])
    for q in (0.7, 1.0):
        expected = weight**q * by_hand(z, torch.tensor(0.0))
        found = gradient([Robust("gce", exponent=q)], z[None])[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_matched_loss_pulls_on_the_label_alike_at_every_rate():
    z = logits()
    for rate in (0.5, 0.0, -8.0):
        found = gradient([Matched("gls", rate)], z[None])[0]
        torch.testing.assert_close(found, by_hand(z, torch.tensor(rate)) / (1 - rate), rtol=1e-5, atol=1e-6)


def test_each_model_s_gradient_is_clipped_by_itself():
    stack = Stack(2, 4, 3, 2, seed=0)
    for p in stack.parameters:
        p.grad = torch.zeros_like(p)
    views = per_model([p.grad for p in stack.parameters])
    for g in views:
        g[0], g[1] = 1.0, 1e-3
    before = [g.clone() for g in views]
    length = sum(g[0].square().sum() for g in before).sqrt()
    ClippedSGD(stack.parameters, lr=0.1).step()
    for g, old in zip(views, before, strict=True):
        torch.testing.assert_close(g[0], old[0] / length)
        torch.testing.assert_close(g[1], old[1])


def test_tangent_means_are_where_a_small_step_down_the_unhinged_loss_goes():
    """Against the tangent kernel, summed row by row."""
    torch.manual_seed(0)
    net, x, y, new = mlp(3, 5, K).double(), torch.randn(8, 3).double(), Y[:8], torch.randn(2, 3).double()

    def jacobian(row):
        outputs = net(row[None])[0]
        grads = [torch.autograd.grad(o, list(net.parameters()), retain_graph=True) for o in outputs]
        return torch.stack([torch.cat([g.flatten() for g in row]) for row in grads])  # (K, weights)

    signs = torch.eye(K).double()[y] - 1 / K
    expected = sum(torch.stack([jacobian(n) @ jacobian(a).T @ s for n in new]) for a, s in zip(x, signs, strict=True))
    torch.testing.assert_close(mechanism.tangent_means(net, x, y, new), expected)
    phi = torch.stack([jacobian(a).T @ s for a, s in zip(x, signs, strict=True)])
    kappa = phi.square().sum() / phi.sum(0).square().sum()
    assert mechanism.self_influence(net, x, y) == pytest.approx(kappa.item(), rel=1e-6)


def test_class_means_of_a_run_come_from_its_noisy_labels_alone():
    runs = [r for r in tables.table_runs("mechanism_gain", "smoke", [0]) if r.method == "class_means"]
    other = dataclasses.replace(runs[0], noise_rate=0.0)
    noisy, clean = runs[0].recipe.train([runs[0], other], "cpu")
    assert clean["means_inputs"] > 0.9 and noisy["means_inputs"] != clean["means_inputs"]
    assert noisy["means_tangent"] != clean["means_tangent"] and noisy["probe"] != clean["probe"]
    assert noisy["self_influence"] == clean["self_influence"]  # of the clean labels, at the start


def test_a_run_says_what_it_memorised():
    """A network of one row of labels that are all wrong but one part: shares by hand from its own predictions."""
    runs = [r for r in tables.table_runs("mechanism_threshold", "smoke", [0]) if r.rate == 0]
    [measured] = runs[0].recipe.train(runs, "cpu")
    assert len(measured["test"]) == len(measured["reproduced"]) == 1
    assert measured["test"][-1] == pytest.approx(measured["last"], abs=5e-5)
    assert measured["test_nll"][-1] == pytest.approx(measured["nll"], abs=5e-5)
    assert 0 < measured["reproduced"][-1] < measured["fitted"][-1] < 1


def test_crossing_minimum_and_toy_threshold():
    s = np.array([1.0, 0.5, 0.0, -0.5, -1.0])
    assert crossing(s, [0.9, 0.9, 0.3, 0.1, 0.1]) == pytest.approx(1 / 6)
    assert np.isnan(crossing(s, [0.2, 0.2, 0.1, 0.1, 0.1]))
    assert minimum(s, (s - 0.3) ** 2) == pytest.approx(0.3)
    assert minimum(s, s) == -1.0
    assert [round(toy_threshold(0.3, k), 2) for k in (0.02, 0.12, 0.19)] == [0.31, 0.0, -0.29]
    assert toy_threshold(0.3, 0.5) == -np.inf


def test_clusters_are_drawn_whole():
    """Copies of one row in a cluster add nothing: the interval is that of the clusters."""
    rows = pd.DataFrame({"dataset": list("abcdef"), "a": [1, 2, 3, 4, 5, 6.0], "b": [2, 1, 4, 3, 6, 5.0]})
    once = clustered(rows, lambda t: spearman(t, "a", "b"))
    copies = clustered(pd.concat([rows] * 5), lambda t: spearman(t, "a", "b"))
    assert once[0] == pytest.approx(copies[0]) and np.allclose(once, copies)


def test_what_a_third_variable_explains_is_partialled_out():
    rng = np.random.default_rng(0)
    common = rng.standard_normal(3000)
    rows = pd.DataFrame({"c": common, **{k: common + 0.5 * rng.standard_normal(3000) for k in "ab"}})
    assert spearman(rows, "a", "b") > 0.7 and abs(partial_spearman(rows, "a", "b", ["c"])) < 0.06


def test_the_jackknife_of_a_mean_gives_the_values_back():
    rows = pd.DataFrame({"dataset": list("abc"), "x": [1.0, 5.0, 3.0]})
    assert jackknife(rows, lambda t: t["x"].mean()) == pytest.approx([1.0, 5.0, 3.0])
