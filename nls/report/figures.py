"""Figures: one theme and palette, the axis of rates, and files with the numbers behind every picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from ..theory import smoothing_scale as rate_position  # where a rate stands on the axis of rates

LS_COLOUR, CE_COLOUR, NLS_COLOUR, PAPER_COLOUR = "#c0392b", "#5d6d7e", "#1e8449", "#7d3c98"
RATE_LABEL = "smooth rate r   (negative  ←  0  →  label smoothing)"


def home() -> Path:
    """The nearest folder upwards with `notebooks` and `pyproject.toml`, else that of the package, else here."""
    for folder in (Path.cwd(), *Path.cwd().parents, Path(__file__).parents[2]):
        if (folder / "pyproject.toml").exists() and (folder / "notebooks").is_dir():
            return folder
    return Path.cwd()


def rate_colour(rate: float) -> str:
    return LS_COLOUR if rate > 0 else NLS_COLOUR if rate < 0 else CE_COLOUR


def rate_name(rate: float) -> str:
    return f"r = {rate:g}".replace("-", "−")


def rate_axis(ax, rates: Sequence[float], label: bool = True) -> None:
    """Label the x axis of `ax` with smooth rates: negative rates on the left, label smoothing on the right."""
    ax.set_xticks(rate_position(rates), [f"{r:g}".replace("-", "−") for r in rates], rotation=90)
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    ax.set_xlabel(RATE_LABEL if label else "")


def rate_lines(ax, records: pd.DataFrame, measure: str, **how) -> None:
    """Mean of `measure` over seeds against the rate, with a band of two standard errors; `how` goes to seaborn."""
    data = records.assign(position=rate_position(records["rate"]))
    sns.lineplot(data, x="position", y=measure, errorbar=("se", 2), marker="o", ax=ax, **how)


def noise_palette(noise_rates: Sequence[float]) -> dict[float, tuple]:
    """A colour for each noise rate, light for none, dark for much."""
    return dict(zip(noise_rates, sns.color_palette("flare", len(noise_rates)), strict=True))


def style() -> None:
    """The theme of all figures; the same numbers give the same bytes."""
    plt.rcdefaults()
    rc = {
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "grid.alpha": 0.4,
        "legend.frameon": False,
        "svg.fonttype": "path",
        "svg.hashsalt": "nls",
    }
    sns.set_theme(style="ticks", palette=[NLS_COLOUR, LS_COLOUR, CE_COLOUR, PAPER_COLOUR], rc=rc)


def save_figure(figure, name: str, numbers: pd.DataFrame, figures: Path | str) -> None:
    """Write `name`.svg, .png and, with the numbers behind the picture, .csv."""
    folder = Path(figures)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
    numbers = numbers.round(6)
    floats = numbers.select_dtypes("floating")
    write(folder / f"{name}.csv", numbers.assign(**floats + 0.0).to_csv(index=False))  # of a zero no sign


def write(path: Path, text: str) -> None:
    """UTF-8 with the same line ends on every platform; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
