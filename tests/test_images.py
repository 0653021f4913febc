"""CIFAR and CIFAR-N: found, checked, and refused where they are damaged or in another order."""

import dataclasses
import os

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from nls.lab import data, images, models, tables
from nls.lab.data import HUMAN_LABELS, Raw, human_labels, load
from nls.lab.trainer import Stage
from nls.noise import transition_matrix

FILE = HUMAN_LABELS["cifar10"][0]
IN_FILE = ("clean_label", "aggre_label", "random_label1", "random_label2", "random_label3", "worse_label")
CLEAN = np.arange(60) % 10


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with label files for 50 training images, and those images."""
    monkeypatch.setenv("NLS_DATA", str(tmp_path))
    raw = Raw(np.zeros((60, 2, 2, 3), np.uint8), CLEAN, 10)
    source = dataclasses.replace(data.SOURCES["cifar10"], read=lambda: raw, files=())
    monkeypatch.setitem(data.SOURCES, "cifar10", source)
    write(tmp_path)
    return tmp_path


def write(folder, **changes):
    labels = {key: (CLEAN[:50] + shift) % 10 for shift, key in enumerate(IN_FILE)} | changes
    torch.save(labels, folder / FILE)


@pytest.mark.parametrize(("shift", "noise"), [*enumerate(["aggre", "rand1", "rand2", "rand3", "worse"], 1)])
def test_labels_of_a_name_come_in_the_images_order(folder, shift, noise):
    labels = human_labels("cifar10", noise)
    assert labels.dtype == np.int64
    assert np.array_equal(labels, (load("cifar10").y_train + shift) % 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"worse_label": CLEAN[:49]}, r"expected 50 labels, got \(50,\) and \(49,\)"),
        ({"clean_label": CLEAN[:50][::-1].copy()}, "its clean labels differ from the images' from index 0"),
        ({"worse_label": CLEAN[:50] + 5}, "expected classes 0 to 9, got 1"),
        ({"worse_label": "text"}, "not a readable CIFAR-N file"),
    ],
)
def test_label_files_that_do_not_fit(folder, changes, message):
    write(folder, **changes)
    with pytest.raises(ValueError, match=message):
        human_labels("cifar10", "worse")


def test_a_damaged_label_file(folder):
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:200])
    with pytest.raises(ValueError, match="not a readable CIFAR-N file"):
        human_labels("cifar10", "worse")


class Attack:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_label_file_cannot_run_code(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write(folder, worse_label=Attack())
    with pytest.raises(ValueError, match="not a readable CIFAR-N file"):
        human_labels("cifar10", "worse")
    assert not (folder / "pwned").exists()


def test_missing_files_and_unknown_names(folder):
    (folder / FILE).unlink()
    with pytest.raises(
        ValueError, match=r"CIFAR-10_human\.pt: expected a label file of CIFAR-N, got no such file.* non-commercial"
    ):
        human_labels("cifar10", "worse")
    with pytest.raises(ValueError, match=r"noise: expected one of cifar10 aggre, .*, got cifar10 worst"):
        human_labels("cifar10", "worst")
    with pytest.raises(ValueError, match=r"cifar100: expected cifar100\.npz\|cifar-100-python/train in"):
        load("cifar100")


def real(name):
    return os.environ.get("NLS_DATA") and not data.SOURCES[name].missing()


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_real_images_and_human_labels(name):
    if not real(name):
        pytest.skip(f"{name} is not in NLS_DATA")
    d = load(name)
    assert d.x_train.shape == (50000, 32, 32, 3) and d.x_test.shape == (10000, 32, 32, 3)
    assert (np.bincount(d.y_train) == 50000 // d.num_classes).all()
    realised = {"aggre": 0.0901, "rand1": 0.1723, "rand2": 0.1812, "rand3": 0.1764, "worse": 0.4021, "fine": 0.4020}
    for noise in HUMAN_LABELS[name][1]:
        T = transition_matrix(d.y_train, human_labels(name, noise), d.num_classes)
        assert 1 - np.diag(T).mean() == pytest.approx(realised[noise], abs=5e-5)


@pytest.fixture
def clothing(tmp_path, monkeypatch):
    """Clothing1M's folder with 24 pictures, their colour given by the class."""
    notes, names = tmp_path / "clothing1m/annotations", []
    notes.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(24):
        name = f"images/{i % 2}/{i}.jpg"
        (tmp_path / "clothing1m" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (280, 300 + i), (18 * (i % 14),) * 3).save(tmp_path / "clothing1m" / name)
        names.append(name)
    (notes / "noisy_train_key_list.txt").write_text("\n".join(names[:16]))
    (notes / "clean_test_key_list.txt").write_text("\n".join(names[16:]))
    (notes / "noisy_label_kv.txt").write_text("\n".join(f"{n} {rng.integers(14)}" for n in names[:16]))
    (notes / "clean_label_kv.txt").write_text("\n".join(f"{n} {i % 14}" for i, n in enumerate(names)))
    monkeypatch.setenv("NLS_DATA", str(tmp_path))
    monkeypatch.setenv("NLS_CACHE", str(tmp_path / "cache"))
    images.cached_problem.cache_clear()
    return notes


def test_clothing1m_in_its_published_layout(clothing):
    d = data.load("clothing1m")
    assert d.x_train[3] == "images/1/3.jpg" and len(d.x_train) == 16
    assert d.num_classes == 14
    assert d.y_test.tolist() == [i % 14 for i in range(16, 24)]
    pictures = images.Files(d.x_test)
    assert pictures[torch.tensor([2, 0])].shape == (2, 3, 256, 256)
    assert pictures[torch.tensor([2])].float().mean().item() == pytest.approx(18 * (18 % 14), abs=2)
    assert [len(part) for part in pictures.split(3)] == [3, 3, 2]


def test_clothing1m_goes_through_the_same_trainer(clothing, monkeypatch):
    monkeypatch.setattr(models, "resnet50", models.small_cnn)
    runs = [r for r in tables.table_runs("table5", "paper", [0]) if r.dataset == "clothing1m"]
    assert {r.method for r in runs} == {"gls", "blc", "flc", "peer", "fdiv"}
    warmup, stage = Stage((0.01,), batch_size=7), Stage((0.001,), batch_size=7)
    short = dataclasses.replace(runs[0].recipe, warmup=warmup, stage=stage)
    nls_run = next(r for r in runs if r.rate == -1.0)
    [measured] = short.train([dataclasses.replace(nls_run, recipe=short)], torch.device("cpu"))
    assert 0 <= measured["best_test"] <= 1 and sum(measured["right"] + measured["wrong"]) == 8


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "noisy_label_kv.txt",
            "images/0/0.jpg 14",
            r"expected in noisy_label_kv.txt a label for each name in noisy_train_key_list.txt, got .*",
        ),
        (
            "noisy_train_key_list.txt",
            "images/9.jpg",
            r"expected in noisy_label_kv.txt a label for each name in noisy_train_key_list.txt, got 'images/9.jpg'",
        ),
        ("clean_test_key_list.txt", "", r"a label for each name in clean_test_key_list.txt, got .*"),
    ],
)
def test_clothing1m_with_bad_annotations(clothing, file, text, message):
    (clothing / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        data.load("clothing1m")


def test_a_picture_that_cannot_be_read_is_named(clothing):
    (clothing.parent / "images/0/16.jpg").write_bytes(b"no picture")
    with pytest.raises(OSError, match=r"16.jpg: not a readable picture"):
        images.Files(data.load("clothing1m").x_test)[torch.tensor([0])]


def test_pretrained_weights_that_cannot_be_had_are_one_line(monkeypatch):
    def unreachable(**_):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "resnet50", unreachable)
    with pytest.raises(OSError, match=r"resnet50: torchvision's pre-trained weights could not be loaded \(no route"):
        models.resnet50(14)
