"""The stack against single models, bit by bit and step by step."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from nls import backward_correction, complementary_loss, gls_loss
from nls.lab import methods, models, problems, stacks, tables
from nls.lab.runs import INIT, stream
from nls.noise import symmetric

RECIPE = tables.MLPRecipe(width=32, lr=0.01, steps=60)


def group(dataset="splice", **changes):
    runs = [r for r in tables.table_runs("table1", "paper", [3]) if r.dataset == dataset]
    return [dataclasses.replace(r, recipe=dataclasses.replace(RECIPE, **changes)) for r in runs]


def train(runs, device):
    return runs[0].recipe.train(runs, device)


def without_seconds(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("dataset", ["splice", "twonorm"])
def test_a_model_does_not_depend_on_the_others_of_the_stack(dataset):
    """Bit by bit at the width of Table 1; at smaller widths the blocking of the matrix product shows."""
    runs = group(dataset)
    whole = without_seconds(train(runs, torch.device("cpu")))
    for chosen in ([0], [7], [54], [3, 20, 41], list(range(5, 38))):
        part = without_seconds(train([runs[i] for i in chosen], torch.device("cpu")))
        assert part == [whole[i] for i in chosen]


def alone(run):
    """The usual way: one nn.Module, one optimiser, one loop. Returns the trained module and its last test accuracy."""
    problem = problems.tabular_problem([run])
    torch.manual_seed(int(stream(run.seed, INIT).integers(2**31)))
    net = models.mlp(problem.x.shape[1], run.recipe.width, problem.num_classes).double()
    optimizer = torch.optim.Adam(net.parameters(), lr=run.recipe.lr)
    for rows in problem.order:
        optimizer.zero_grad()
        gls_loss(net(problem.x[rows].double()), problem.y[0, rows], run.rate).backward()
        optimizer.step()
    with torch.no_grad():
        return net, (net(problem.x_test.double()).argmax(-1) == problem.y_test).double().mean().item()


@pytest.mark.parametrize("number", [3, 16, 48])
def test_a_model_of_the_stack_is_the_model_trained_alone(number):
    runs = group("twonorm")
    rows, stack = problems.fit_stack(runs)
    net, accuracy = alone(runs[number])
    first, second, third = (m for m in net if isinstance(m, torch.nn.Linear))
    mine = [p[number] for p in stacks.per_model(stack.parameters)]
    theirs = [
        torch.cat([first.weight.T, first.bias[None]]),
        second.weight.T,
        second.bias[None],
        third.weight,
        third.bias,
    ]
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.double(), b.detach(), rtol=2e-3, atol=2e-3)
    assert rows[number]["last"] == pytest.approx(accuracy, abs=0.003)


@pytest.mark.parametrize(
    ("loss", "function"),
    [
        (methods.Loss("gls", -2.5), lambda z, y: gls_loss(z, y, -2.5)),
        (methods.Loss("blc", T=symmetric(3, 0.3)), lambda z, y: backward_correction(z, y, symmetric(3, 0.3))),
        (methods.Loss("complementary"), complementary_loss),
    ],
)
def test_soft_labels_are_the_loss(loss, function):
    """What a stack trains as one cross entropy against the loss that users import, in value and gradient."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 40, generator=draw, dtype=torch.float64, requires_grad=True)
    y = torch.randint(3, (1, 40), generator=draw)
    rows = torch.arange(40)
    mine = stacks.stack_loss([loss], y, 3)(logits, rows, logits, rows)
    theirs = function(logits[0].T, y[0])
    assert mine.item() == pytest.approx(theirs.item(), abs=1e-6)  # the table of soft labels is float32
    gradients = [torch.autograd.grad(value, logits)[0] for value in (mine, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)


def test_the_loss_of_a_stack_is_the_sum_of_the_losses_of_its_models():
    """Linear ones, equal ones, ones with peers and ones without, in any order; in value and gradient."""
    T, other_T = symmetric(3, 0.3), symmetric(3, 0.1)
    peer = [("peer", {"alpha": 0.5}), ("fdiv", {"divergence": "tv"}), ("peer", {}), ("fdiv", {"divergence": "tv"})]
    kinds = [peer[0], ("gls", {"rate": -1.0}), ("flc", {"T": T}), *peer[1:], ("flc", {"T": other_T}), ("flc", {"T": T})]
    model_losses = [methods.Loss(method, **options) for method, options in kinds]
    model_losses += [methods.Robust("gce", exponent=exponent) for exponent in (0.7, 0.3)]
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(len(model_losses), 3, 20, generator=draw, dtype=torch.float64, requires_grad=True)
    of_peers = torch.randn(4, 3, 20, generator=draw, dtype=torch.float64, requires_grad=True)
    y = torch.randint(3, (len(model_losses), 50), generator=draw)
    rows, peer_rows = (torch.randperm(50, generator=draw)[:20] for _ in range(2))

    mine = stacks.stack_loss(model_losses, y, 3)(logits, rows, of_peers, peer_rows)
    with_peers = [m for m, loss in enumerate(model_losses) if loss.peers]
    theirs = sum(
        loss(logits[m].T, y[m, rows], of_peers[with_peers.index(m)].T if loss.peers else None, y[m, peer_rows])
        for m, loss in enumerate(model_losses)
    )
    assert mine.item() == pytest.approx(theirs.item(), abs=1e-6)
    for a, b in zip(*(torch.autograd.grad(v, (logits, of_peers)) for v in (mine, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)  # the table of soft labels is float32


def test_some_models_of_a_stack_compute_what_they_compute_among_all():
    stack = stacks.Stack(5, 6, 32, 3, seed=0)
    with torch.no_grad():
        for p in stack.parameters:
            p.add_(torch.rand(p.shape, generator=torch.Generator().manual_seed(1)))
    x = stacks.with_ones(torch.randn(8, 6, generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(stack(x, models=[4, 1]), stack(x)[[4, 1]])


def test_initial_weights_do_not_depend_on_other_threads():
    def weights(seed):
        return stacks.Stack(1, 40, 32, 2, seed).parameters[0].detach()

    expected = [weights(seed) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(torch.equal, pool.map(weights, range(40)), expected))


def test_training_does_not_touch_the_global_random_state():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    train(group(steps=3)[:2], torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())


def test_every_loss_trains_and_gls_at_r_opt_is_backward_correction():
    runs = [dataclasses.replace(r, recipe=RECIPE) for r in tables.table_runs("connections", "paper", [0])]
    rows, _ = problems.fit_stack(runs)
    by_method = {(r.method, r.rate): row for r, row in zip(runs, rows, strict=True)}
    assert all(row["last"] > 0.7 for row in rows)
    gls, blc = by_method["gls", -1.5], by_method["blc", None]
    assert gls["last"] == pytest.approx(blc["last"], abs=0.005)
    assert gls["nll"] == pytest.approx(blc["nll"], rel=0.02)


class Exploding(methods.Loss):
    def __call__(self, logits, target, peer_logits, peer_target):
        return (logits * math.inf).sum()


def test_a_learning_rate_out_of_all_bounds_ends_in_records():
    runs = [dataclasses.replace(r, recipe=dataclasses.replace(RECIPE, lr=1e30)) for r in group("twonorm")]
    rows = train(runs, torch.device("cpu"))
    assert all(row["diverged"] for row in rows)
    assert all(0 <= row[name] <= 1 for row in rows for name in ("best_test", "crossfit", "last", "noisy_val"))


def test_a_diverging_model_is_recorded_and_harms_nobody():
    runs = group("twonorm")[:5]
    problem = problems.tabular_problem(runs)
    losses = [methods.Loss("gls", r.rate) for r in runs]
    options = dict(width=8, lr=0.01, evaluate_every=10, seed=0)
    healthy, _ = stacks.train_stack(problem, losses, **options)
    losses[4] = methods.Loss("blc", T=np.full((2, 2), 0.5))  # an estimate that has no inverse
    losses[2] = Exploding("not finite")
    rows, _ = stacks.train_stack(problem, losses, **options)
    assert rows[4]["diverged"] is rows[2]["diverged"] is True
    assert 0 <= rows[2]["last"] <= 1
    for number in (0, 1, 3):
        assert {**rows[number], "seconds": 0} == {**healthy[number], "seconds": 0}


def test_fresh_scores_are_those_of_the_chosen_networks():
    runs = group("twonorm", steps=40)[:3]
    problem = problems.tabular_problem(runs)
    # Scored on the test rows themselves, the kept networks must give back what was measured there.
    problem = dataclasses.replace(problem, fresh=(problem.x_test, problem.y_test))
    rows, _ = stacks.train_stack(
        problem, [methods.Loss("gls", r.rate) for r in runs], width=8, lr=0.01, evaluate_every=10, seed=0
    )
    for row in rows:
        for choice in ("best_test", "noisy_val", "last"):
            assert row[f"fresh_{choice}"] == pytest.approx(row[choice], abs=1e-12)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method: got 'magic', expected gls"):
        methods.Loss("magic", T=symmetric(2, 0.1))(*[torch.zeros(2, 2), torch.zeros(2).long()] * 2)
