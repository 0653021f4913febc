"""Ours beside theirs: tables, claims with intervals and verdicts, figures with the numbers behind them.

The rule for verdicts, fixed before the runs. A claim has one or more parts. A part about a difference holds if the mean
paired difference over seeds lies in the claimed direction with a two-sided t-test at p < .05 after Holm's correction
over all such parts of a notebook. A part about an identity or a threshold fixed beforehand holds if it is met. A claim
`holds` if all its parts do, `does not` if none does, else `partly`; with one seed the verdict is `one seed`.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from .paper import CLAIMS

PROTOCOLS = {"best_test": "best", "crossfit": "crossfit", "last": "last", "noisy_val": "noisy val"}
LS_COLOUR, CE_COLOUR, NLS_COLOUR, PAPER_COLOUR = "#c0392b", "#5d6d7e", "#1e8449", "#7d3c98"
VERDICTS = {"holds": "#1e8449", "partly": "#b9770e", "does not": "#c0392b", "one seed": "#5d6d7e", "not tested": "#999"}


def home() -> Path:
    """The repository: the nearest folder upwards that holds `notebooks` and `pyproject.toml`, else the package's."""
    for folder in (Path.cwd(), *Path.cwd().parents, Path(__file__).parents[1]):
        if (folder / "pyproject.toml").exists() and (folder / "notebooks").is_dir():
            return folder
    return Path.cwd()


def check(what: str, see, expected, tolerance: float = 1e-12) -> bool:
    """Print `what: we see …, expected …, match: …` to four decimals; of more than four numbers the means.

    They match if all of them differ by at most `tolerance` (equal infinities do not differ).
    """
    see, expected = np.asarray(see, dtype=float), np.asarray(expected, dtype=float)
    match = bool(np.allclose(see, expected, rtol=0, atol=tolerance))
    if see.size > 4:
        what, see, expected = f"{what}, mean of {see.size:,}", see.mean(), expected.mean()
    see, expected = ((0 + np.round(v, 4)).tolist() for v in (see, expected))
    print(f"{what}: we see {see}, expected {expected}, match: {match}")
    return match


# ---------------------------------------------------------------- claims


@dataclass(frozen=True)
class Part:
    """One tested statement. Either paired `differences` over seeds (positive = as claimed), or a plain `ok`.

    `protocol` says how it was measured; `note` is shown beside the result. `n` counts the seeds or cases of an `ok`.
    """

    claim: str
    statement: str
    protocol: str
    differences: Sequence[float] | None = None
    ok: bool | None = None
    n: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if (self.differences is None) == (self.ok is None):
            raise ValueError(f"{self.claim}, {self.statement}: expected either differences or ok, got both or neither")


def paired(differences: Sequence[float]) -> dict:
    """Mean, 95 % t-interval, two-sided p and n of paired differences. With n = 1 there is no interval and no p."""
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or not len(d) or not np.isfinite(d).all():
        raise ValueError(f"differences: got shape {d.shape}, {np.isfinite(d).sum()} finite; expected finite numbers")
    mean, n = d.mean(), len(d)
    if n == 1:
        return {"mean": mean, "low": np.nan, "high": np.nan, "p": np.nan, "sd": np.nan, "n": 1}
    sd = d.std(ddof=1)
    if sd == 0:
        return {"mean": mean, "low": mean, "high": mean, "p": float(mean == 0), "sd": 0.0, "n": n}
    half = stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n)
    p = 2 * stats.t.sf(abs(mean) / (sd / np.sqrt(n)), n - 1)
    return {"mean": mean, "low": mean - half, "high": mean + half, "p": p, "sd": sd, "n": n}


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the given order; NaN stays NaN and does not count."""
    p = np.asarray(p_values, dtype=float)
    adjusted, counted = np.full(p.shape, np.nan), np.flatnonzero(~np.isnan(p))
    order = counted[np.argsort(p[counted], kind="stable")]
    steps = p[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def judge(parts: Sequence[Part]) -> pd.DataFrame:
    """One row per part: estimate, interval, n, Holm-adjusted p, and whether it holds; `verdict` is the claim's."""
    known = {c.id: c for c in CLAIMS}
    unknown = {p.claim for p in parts} - known.keys()
    if unknown or not parts:
        raise ValueError(f"parts: got claims {sorted(unknown)} of {len(parts)} parts, expected ids of paper.CLAIMS")
    rows = []
    for part in parts:
        row = {"claim": part.claim, "statement": part.statement, "protocol": part.protocol, "note": part.note}
        measured = paired(part.differences) if part.differences is not None else {"n": part.n}
        rows.append(row | {"mean": np.nan, "low": np.nan, "high": np.nan, "p": np.nan, "sd": np.nan} | measured)
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"])
    tested = [p.differences is not None for p in parts]
    as_claimed = (table["mean"] > 0) & (table["p_holm"] < 0.05)
    table["holds"] = np.where(tested, as_claimed, [bool(p.ok) for p in parts])
    single = table["n"].eq(1)
    verdicts = {}
    for claim, rows_of in table.groupby("claim", sort=False):
        held = rows_of["holds"]
        verdict = "holds" if held.all() else "partly" if held.any() else "does not"
        verdicts[claim] = "one seed" if single[rows_of.index].any() else verdict
    table["verdict"] = table["claim"].map(verdicts)
    return table


def lines(judged: pd.DataFrame) -> str:
    """The judged parts as text, a claim a paragraph: what notebooks print and what is compared in tests.

    With one seed nothing is tested; (+) and (-) then only say whether the difference has the claimed sign.
    """
    known, out = {c.id: c for c in CLAIMS}, []
    for claim, rows in judged.groupby("claim", sort=False):
        c = known[claim]
        out.append(f"{rows['verdict'].iloc[0].upper()}: {c.text} ({c.source})")
        for row in rows.itertuples():
            mark = ("(+)" if row.holds or row.mean > 0 else "(-)") if row.n == 1 else "yes" if row.holds else "no "
            out.append(f"  {mark}  {row.statement} [{row.protocol}]{_numbers(row)}")
    return "\n".join(out)


def _numbers(row) -> str:
    text = ""
    if not np.isnan(row.mean):
        digits = "+.1e" if abs(row.mean) < 5e-5 else "+.4f"
        text = f": {row.mean:{digits}}"
        if row.n > 1:
            p = "p < .001" if row.p_holm < 0.001 else f"p = {row.p_holm:.3f}"
            text += f" [{row.low:{digits}}, {row.high:{digits}}], n = {row.n:.0f}, {p}"
        else:
            text += ", n = 1"
    elif row.n and not np.isnan(row.n):
        text = f": n = {row.n:.0f}"
    return text + (f"; {row.note}" if row.note else "")


def save_claims(judged: pd.DataFrame, notebook: str, figures: Path | str) -> None:
    """Keep a notebook's verdicts as `NN_claims.csv`, where the scoreboard finds them."""
    _write(Path(figures) / f"{notebook}_claims.csv", judged.round(6).to_csv(index=False))


def conclude(parts: Sequence[Part], notebook: str, figures: Path | str) -> None:
    """Judge a notebook's parts, keep the verdicts for the scoreboard and print them."""
    judged = judge(parts)
    save_claims(judged, notebook, figures)
    print(lines(judged))


def scoreboard(figures: Path | str) -> pd.DataFrame:
    """Every claim of `paper.CLAIMS` with its verdict; `not tested` where no notebook has judged it."""
    found = [pd.read_csv(f) for f in sorted(Path(figures).glob("*_claims.csv"))]
    judged = pd.concat(found) if found else pd.DataFrame(columns=["claim"])
    rows = []
    for c in CLAIMS:
        parts = judged[judged["claim"] == c.id]
        tested = len(parts) > 0
        n = parts["n"].dropna() if tested else []
        rows.append(
            {
                "claim": c.text,
                "source": c.source,
                "verdict": parts["verdict"].iloc[0] if tested else "not tested",
                "parts": _parts(parts) if tested else "",
                "n": f"{n.min():.0f}" if len(n) else "",
                "protocol": "; ".join(dict.fromkeys(parts["protocol"])) if tested else "",
                "notebook": c.notebook,
            }
        )
    return pd.DataFrame(rows)


def _parts(parts: pd.DataFrame) -> str:
    """How many parts hold; of those with one seed, how many have the claimed sign."""
    single = parts[parts["n"] == 1]
    tested = parts.drop(single.index)
    signs = f"{(single['holds'] | (single['mean'] > 0)).sum()}/{len(single)} in sign"
    held = f"{tested['holds'].sum()}/{len(tested)}"
    return held if not len(single) else signs if not len(tested) else f"{held}, {signs}"


# ---------------------------------------------------------------- tables


def summary(records: pd.DataFrame, keys: Sequence[str], measures: Sequence[str] = tuple(PROTOCOLS)) -> pd.DataFrame:
    """Mean, sd and n over seeds, for each combination of `keys`: columns (measure, mean | sd | n)."""
    grouped = records.groupby(list(keys), dropna=False)[list(measures)].agg(["mean", "std", "count"])
    return grouped.rename(columns={"std": "sd", "count": "n"}, level=1)


def user_row(records: pd.DataFrame) -> dict:
    """Last row for `rate_table`: the `noisy_val` of the rate, too, that each seed's held-out noisy labels choose."""
    chosen = chosen_on_noisy_labels(records, ["noise_rate", "seed"]).groupby("noise_rate")["noisy_val"]
    cells = {(e, "noisy_val"): f"{c.mean() * 100:.1f}\u00a0±\u00a0{c.std() * 100:.1f}" for e, c in chosen}
    return {"label": "rate chosen on noisy labels"} | cells


def chosen_on_noisy_labels(records: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Per group of `keys` (seed among them): the run whose held-out noisy accuracy is best, ties to the rate nearest 0.

    Its `noisy_val` is what a user gets who may look at noisy labels only, for the rate as well as for the evaluation.
    """
    order = records.assign(_size=records["rate"].abs()).sort_values(["heldout", "_size"], ascending=[False, True])
    return order.groupby(list(keys), sort=True).head(1).drop(columns="_size").sort_values(list(keys))


def best_of(candidates: pd.DataFrame, measure: str) -> pd.Series:
    """Per seed, `measure` of the candidate that it ranks first; for `noisy_val` of the one that held-out labels do."""
    by = "heldout" if measure == "noisy_val" else measure
    first = candidates.sort_values(by, ascending=False, kind="stable").groupby("seed").head(1)
    return first.set_index("seed")[measure].sort_index()


def rate_chosen_elsewhere(records: pd.DataFrame, rates: Sequence[float], measure: str = "best_test") -> pd.Series:
    """Per seed, `measure` of the best of `rates`, where best is the mean over the seeds of the other half.

    Every other seed chooses for the rest and the other way round, so the choice is never scored on the seeds that made
    it, and a longer list of rates is no advantage. (A single seed chooses for itself; its verdict is `one seed`.)
    `records` is one cell: a record per rate and seed.
    """
    by_seed = records[records["rate"].isin(rates)].pivot(index="seed", columns="rate", values=measure)
    scored = []
    for half in (0, 1) if len(by_seed) > 1 else (0,):
        mine, others = by_seed.iloc[half::2], by_seed.iloc[1 - half :: 2]
        scored.append(mine[(others if len(others) else mine).mean().idxmax()])
    return pd.concat(scored).sort_index()


def best_rates(accuracy: pd.Series) -> list[float]:
    """The rates (the index) with the best two values to four decimals, ties included, in rising order."""
    rounded = accuracy.round(4)
    return sorted(rounded[rounded >= rounded.nlargest(2).iloc[-1]].index)


def tied_with_best(cell: pd.DataFrame, measure: str = "best_test") -> list[float]:
    """Rates of one cell that cannot be told from the best one: paired t-test over seeds, p > .05, not corrected."""
    by_seed = cell.pivot(index="seed", columns="rate", values=measure)
    best = by_seed.mean().idxmax()
    return [r for r in by_seed if r == best or not paired(by_seed[best] - by_seed[r])["p"] < 0.05]


def rate_table(
    records: pd.DataFrame,
    printed: pd.DataFrame | None,
    measures: Sequence[str],
    caption: str,
    last_row: dict | None = None,
    column: str = "noise_rate",
) -> str:
    """HTML: a row per rate, a group of columns per value of `column` with the paper's number and ours in per cent.

    Ours is mean ± sd over seeds. In every column the best two rates (and ties) are bold and coloured as in the paper,
    green for a negative rate, red for a positive one. `last_row` maps (noise rate, measure) to text for a final row.
    """
    means = summary(records, ["rate", column], measures)
    rates = sorted(records["rate"].unique(), reverse=True)
    noise = sorted(records[column].unique()) if column == "noise_rate" else list(records[column].unique())
    theirs = None if printed is None else printed.pivot(index="rate", columns=column, values="accuracy")
    heads = (["paper"] if theirs is not None else []) + [PROTOCOLS.get(m, m) for m in measures]
    columns, cells = [], []
    for eps in noise:
        for head in heads:
            measure = None if head == "paper" else measures[heads.index(head) - (theirs is not None)]
            ours = None if measure is None else means[measure, "mean"].xs(eps, level=1).reindex(rates)
            values = ours if measure else theirs[eps].reindex(rates) if eps in theirs else pd.Series(index=rates)
            texts = ["" if np.isnan(v) else f"{v * 100:.1f}" for v in values]
            if measure is not None:
                sds = means[measure, "sd"].xs(eps, level=1).reindex(rates)
                texts = [
                    t if np.isnan(s) else f"{t}\u00a0±\u00a0{s * 100:.1f}" for t, s in zip(texts, sds, strict=True)
                ]
            columns.append((f"ε = {eps:g}" if column == "noise_rate" else eps, head))
            cells.append(_coloured(texts, values.to_numpy(), rates))
            if last_row is not None:
                cells[-1].append(last_row.get((eps, measure or "paper"), ""))
    index = [f"r = {r:g}" for r in rates] + ([last_row["label"]] if last_row is not None else [])
    frame = pd.DataFrame(dict(enumerate(cells)), index=index)
    frame.columns = pd.MultiIndex.from_tuples(columns)
    n = " to ".join(str(int(v)) for v in dict.fromkeys(means[measures[0], "n"].agg(["min", "max"])))
    return html_table(frame, f"{caption} Per cent, mean ± sd, n = {n}.", escape=False)


def _coloured(texts: list[str], values: np.ndarray, rates: Sequence[float]) -> list[str]:
    best = best_rates(pd.Series(values, index=rates))
    return [f'<b style="color:{rate_colour(r)}">{t}</b>' if r in best else t for t, r in zip(texts, rates, strict=True)]


def html_table(frame: pd.DataFrame, caption: str = "", escape: bool = True, index: bool = True) -> str:
    """A plain HTML table with a caption, the same bytes every time."""
    body = frame.to_html(border=0, escape=escape, index=index, na_rep="", classes="nls", justify="center")
    cap = f"<caption style='caption-side:top;text-align:left'>{html.escape(caption)}</caption>" if caption else ""
    return f'<div style="overflow-x:auto">{body.replace(">", ">" + cap, 1)}</div>'


def show(text: str) -> None:
    """Display HTML in a notebook."""
    from IPython.display import HTML, display

    display(HTML(text))


def verdict_table(board: pd.DataFrame) -> str:
    """The scoreboard as HTML, verdicts coloured."""
    shown = board.map(lambda v: html.escape(str(v)))
    shown["verdict"] = [f'<b style="color:{VERDICTS[v]}">{v}</b>' for v in board["verdict"]]
    table = html_table(shown, escape=False, index=False)
    return table.replace("<td>", '<td style="text-align:left">').replace("<th>", '<th style="text-align:left">')


def markdown_board(board: pd.DataFrame) -> str:
    """The tested claims as a Markdown table, for the README."""
    tested = board[board["verdict"] != "not tested"]
    rows = [f"| **{r.verdict}** | {r.parts} | {r.claim} | {r.source} | {r.notebook} |" for r in tested.itertuples()]
    head = ["| verdict | parts that hold | claim | source | notebook |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"{len(board) - len(tested)} further claims are not tested yet."])


# ---------------------------------------------------------------- figures


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
    _write(folder / f"{name}.csv", numbers.round(6).to_csv(index=False))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
