"""The image trainer on digits: what it learns, that a killed run resumes to the same end, what it refuses."""

import contextlib
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from nls import gls_loss
from nls.lab import data, models, trainer
from nls.lab.trainer import (
    FadingStage,
    Images,
    LinearStage,
    Stage,
    crop_and_flip,
    evaluate,
    load_checkpoint,
    placements,
    save_checkpoint,
    train_network,
)

STAGE = Stage(lrs=(0.1, 0.1, 0.05, 0.01), momentum=0.9, batch_size=64, augment=False)


@pytest.fixture(scope="module")
def images():
    d = data.load("digits")
    x, x_test = (torch.from_numpy(np.repeat(a[:, None] * 15, 3, 1)) for a in (d.x_train, d.x_test))
    y = torch.from_numpy(d.y_train)
    three = torch.full((3,), 75.0), torch.full((3,), 90.0)
    parts = x[200:], y[200:], y[200:], x[:200], y[:200], x_test, torch.from_numpy(d.y_test)
    return Images(*parts, *three).to(torch.device("cpu"))


def network(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
    )
    return net.to(memory_format=torch.channels_last)


def cross_entropy(logits, target, peer_logits, peer_target):
    return gls_loss(logits, target, 0.0)


def run(images, net=None, **options):
    net = net or network()
    options = {"seed": 5} | options
    return net, train_network(net, images, options.pop("loss", cross_entropy), options.pop("stage", STAGE), **options)


def test_digits_are_learnt_and_measured(images):
    _, history = run(images)
    measured = history.measured(images.y_test)
    assert measured["best_test"] > 0.9
    assert measured["best_test"] >= measured["last"]
    assert len(history.correct) == len(history.heldout) == len(STAGE.lrs)
    assert not measured["diverged"]


def test_the_seed_reaches_the_batches(images):
    first, again, other = (run(images, seed=s)[0] for s in (5, 5, 6))
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_computed_in_is_what_the_device_is_fast_in(images, monkeypatch, dtype):
    monkeypatch.setattr(trainer, "compute_dtype", lambda device: dtype)
    net, seen = network(), set()
    net[-1].register_forward_hook(lambda _, __, logits: seen.add((net.training, logits.dtype)))
    _, history = run(images, net, stage=dataclasses.replace(STAGE, lrs=(0.1,)))
    assert seen == {(True, dtype), (False, dtype)}
    assert history.logits.dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["whitened_cnn", "resnet34"])
def test_on_a_gpu_the_graphs_compute_what_the_network_does(images, monkeypatch, name):
    """What five steps from the same start do to weights and running statistics, with graphs and kernel by kernel: as
    near each other as kernel by kernel twice, whose sums come in any order. No graph outlives the stage."""
    few = {"x_test": images.x[:64], "y_test": images.y[:64], "x_val": images.x[:64], "y_val": images.y[:64]}
    small = dataclasses.replace(images, x=nn.functional.interpolate(images.x, (32, 32)))
    small = dataclasses.replace(small, **few | {"x_test": small.x[:64], "x_val": small.x[:64]}).to(torch.device("cuda"))
    stage, graphed = Stage((0.01,), (5,), momentum=0.9, nesterov=True, augment=False), trainer._graphed
    monkeypatch.setattr(trainer, "FIT_ROWS", 64)

    def moved(graphs: bool) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(trainer, "_graphed", graphed if graphs else lambda *_: contextlib.nullcontext())
        with models.initialising(0):
            net = getattr(models, name)(10).cuda()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        run(small, net, stage=stage)
        assert "forward" not in vars(net)
        return {k: (v - before[k]).double() for k, v in net.state_dict().items()}

    once, twice, replayed = moved(False), moved(False), moved(True)
    for key, change in once.items():
        noise = (twice[key] - change).norm().item()
        assert (replayed[key] - change).norm().item() <= 5 * noise + 0.1 * change.norm().item(), key
    assert once["head.weight" if name == "whitened_cnn" else "fc.weight"].norm().item() > 0


def test_weights_are_kept_at_the_chosen_epochs(images, tmp_path):
    keep = {name: tmp_path / f"{name}.pt" for name in ("best_test", "noisy_val", "last")}
    net, history = run(images, keep=keep)
    measured = history.measured(images.y_test)
    for name, path in keep.items():
        net.load_state_dict(load_checkpoint(path)["net"])
        right = evaluate(net, images, images.x_test).argmax(1) == images.y_test
        assert right.double().mean().item() == pytest.approx(measured[name]), name


@pytest.mark.parametrize("pause", [0.0, trainer.CHECKPOINT_SECONDS])
def test_what_was_kept_before_a_kill_is_there_after_it(images, tmp_path, monkeypatch, pause):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", pause)
    stage, real = Stage(lrs=(0.1, 0.1, 5.0, 5.0), batch_size=64, augment=False), trainer._epoch
    paths = {"checkpoint": tmp_path / "run.pt", "keep": {"best_test": tmp_path / "best.pt"}}

    def dying(*args):
        if args[6] == 3:  # the epoch
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as dies, pytest.raises(KeyboardInterrupt):
        dies.setattr(trainer, "_epoch", dying)
        run(images, stage=stage, **paths)
    assert paths["checkpoint"].exists() == (pause == 0)
    net, history = run(images, stage=stage, **paths)
    assert history.best("best_test") < 3
    net.load_state_dict(load_checkpoint(tmp_path / "best.pt")["net"])
    right = evaluate(net, images, images.x_test).argmax(1) == images.y_test
    assert right.double().mean().item() == pytest.approx(history.measured(images.y_test)["best_test"])


def test_what_is_remembered_of_wrong_and_right_labels(images):
    """Every label rotated on a third of the rows: what the network says of them before and after it fits the rest."""
    y = images.y.clone()
    y[::3] = (y[::3] + 1) % 10
    noisy = dataclasses.replace(images, y=y)
    net, history = run(noisy)
    given = evaluate(net, noisy, noisy.x).argmax(1) == y
    wrong = y != noisy.y_true
    assert history.reproduced[-1] == pytest.approx(given[wrong].double().mean().item())
    assert history.fitted[-1] == pytest.approx(given[~wrong].double().mean().item())
    assert history.fitted[-1] > 0.8 > 0.5 > history.reproduced[-1]
    assert run(images)[1].measured(images.y_test)["reproduced"] == [None] * len(STAGE.lrs)


def test_a_linear_stage_moves_the_learning_rate_step_by_step(images):
    stage = LinearStage(lrs=(0.2, 0.0), batch_size=64, augment=False, begin=0.1)
    assert [stage.lr_at(0, 0.0), stage.lr_at(0, 0.5), stage.lr_at(1, 0.25)] == pytest.approx([0.1, 0.15, 0.15])
    flat = LinearStage(lrs=(0.1, 0.1), batch_size=64, augment=False, begin=0.1)
    constant = Stage(lrs=(0.1, 0.1), batch_size=64, augment=False)
    (a, _), (b, _), (c, _) = (run(images, stage=s) for s in (flat, constant, stage))
    assert torch.equal(a[0].weight, b[0].weight) and not torch.equal(a[0].weight, c[0].weight)


def test_a_fading_stage_ends_without_augmentation(images):
    options = {"lrs": (0.1, 0.1), "batch_size": 64}
    fading, never, always = FadingStage(**options, augmented=1), Stage(**options, augment=False), Stage(**options)
    assert [fading.augments(e) for e in (0, 1)] == [True, False]
    weights = [run(images, stage=s)[0][0].weight for s in (fading, never, always)]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_divergence_ends_the_run_with_a_record_and_its_last_good_weights(images, tmp_path):
    stage = Stage(lrs=(0.1, 1e30, 0.1), batch_size=64, augment=False)
    net, history = run(images, stage=stage, keep={"last": tmp_path / "last.pt"})
    measured = history.measured(images.y_test)
    assert measured["diverged"] and len(history.correct) == 1
    net.load_state_dict(load_checkpoint(tmp_path / "last.pt")["net"])
    right = evaluate(net, images, images.x_test).argmax(1) == images.y_test
    assert right.double().mean().item() == pytest.approx(measured["last"])
    assert all(math.isfinite(v) for v in measured.values() if not isinstance(v, list))
    assert len(measured["test"]) == len(measured["heldout_labels"]) == 1


def test_divergence_in_the_first_epoch(images, tmp_path):
    """Its record and what is kept are the start's, so that what goes on from there has something to go on from."""
    net = network()
    start, keep = net.state_dict()["0.weight"].clone(), {"best_test": tmp_path / "best.pt"}
    _, history = run(images, net, stage=Stage(lrs=(1e30, 0.1), batch_size=64, augment=False), keep=keep)
    assert torch.equal(load_checkpoint(keep["best_test"])["net"]["0.weight"], start)
    measured = history.measured(images.y_test)
    assert measured["diverged"]
    assert 0 <= measured["last"] <= 1


def test_peers_are_independent_batches(images):
    seen = []

    def peer(logits, target, peer_logits, peer_target):
        seen.append((target, peer_target, torch.equal(logits, peer_logits)))
        return gls_loss(logits, target, 0.0) - 0.1 * gls_loss(peer_logits, peer_target, 0.0)

    run(images, loss=peer, peers=True, stage=Stage(lrs=(0.01,), batch_size=64, augment=False))
    assert not any(same for _, _, same in seen)
    agree = torch.cat([t == p for t, p, _ in seen]).float().mean()
    assert 0.05 < agree < 0.15  # ten classes: labels of unrelated rows agree one time in ten


def test_crop_and_flip_shift_and_mirror_whole_images():
    x = torch.arange(1, 1 + 6 * 3 * 8 * 8).view(6, 3, 8, 8)
    out = crop_and_flip(x, placements((6,), torch.Generator().manual_seed(0)))
    assert out.shape == x.shape
    padded = nn.functional.pad(x, (4,) * 4)
    for n in range(6):
        windows = [padded[n, :, i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
        assert any(torch.equal(out[n], w) or torch.equal(out[n], w.flip(2)) for w in windows)
    assert len({tuple(o.flatten().tolist()) for o in out}) == 6


def test_a_checkpoint_replaces_the_old_one_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"epoch": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
