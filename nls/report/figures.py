"""Figures: one style and palette, an axis of rates, and files with the numbers behind every picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

LS_COLOUR, CE_COLOUR, NLS_COLOUR, PAPER_COLOUR = "#c0392b", "#5d6d7e", "#1e8449", "#7d3c98"


def home() -> Path:
    """The repository: the nearest folder upwards that holds `notebooks` and `pyproject.toml`, else the package's."""
    for folder in (Path.cwd(), *Path.cwd().parents, Path(__file__).parents[2]):
        if (folder / "pyproject.toml").exists() and (folder / "notebooks").is_dir():
            return folder
    return Path.cwd()


def rate_colour(rate: float) -> str:
    return LS_COLOUR if rate > 0 else NLS_COLOUR if rate < 0 else CE_COLOUR


def rate_position(rate) -> np.ndarray:
    """Where a rate stands on an axis that shows −8 and .8 alike: −r for r ≥ 0 and |r|/(1 + |r|) for r < 0."""
    r = np.asarray(rate, dtype=float)
    return -r / np.maximum(1, 1 - r)


def rate_axis(ax, rates: Sequence[float], label: bool = True) -> None:
    """Label the x axis of `ax` with smooth rates: label smoothing on the left, negative rates on the right."""
    ax.set_xticks(rate_position(rates), [f"{r:g}".replace("-", "−") for r in rates], rotation=90, fontsize=7.5)
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    if label:
        ax.set_xlabel("smooth rate r   (label smoothing  ←  0  →  negative)")


def style() -> None:
    """Matplotlib settings of all figures; the same numbers give the same bytes."""
    plt.rcdefaults()
    mpl.rcParams.update(
        {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "figure.constrained_layout.use": True,
            "figure.dpi": 100,
            "font.size": 10,
            "legend.frameon": False,
            "svg.fonttype": "path",
            "svg.hashsalt": "nls",
        }
    )


def save_figure(figure, name: str, numbers: pd.DataFrame, figures: Path | str) -> None:
    """Write `name`.svg, .png and, with the numbers behind the picture, .csv."""
    folder = Path(figures)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
    write(folder / f"{name}.csv", numbers.round(6).to_csv(index=False))


def write(path: Path, text: str) -> None:
    """UTF-8 with the same line ends on every platform; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
