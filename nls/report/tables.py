"""Tables and sentences: ours beside the paper's, rates chosen in several ways, claims with their verdicts."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .claims import Part, judge, numbers, paired, save_claims
from .figures import CE_COLOUR, LS_COLOUR, NLS_COLOUR, rate_colour, rate_name, write
from .predictions import CLAIMS

PROTOCOLS = {
    "best_test": "best on test",
    "crossfit": "best on one half of the test set, scored on the other",
    "last": "last",
    "noisy_val": "chosen on noisy labels",
}
README_CLAIMS = (
    "thm3.6 table1-high table1-ropt table2-high table2-pretrained table3-nll table5-nls human-text-nls".split()
)
COLOURS = {
    "identity": NLS_COLOUR,
    "supported": NLS_COLOUR,
    "identity in part": "#6b8e23",
    "supported in part": "#6b8e23",
    "counterexample": LS_COLOUR,
    "reversed": LS_COLOUR,
    "refuted": LS_COLOUR,
    "no difference that matters": "#b9770e",
    "inconclusive": CE_COLOUR,
    "one seed so far": CE_COLOUR,
    "not tested": "#8a8a8a",
}
VERDICTS = tuple(COLOURS)


def summary(records: pd.DataFrame, keys: Sequence[str], measures: Sequence[str] = tuple(PROTOCOLS)) -> pd.DataFrame:
    """Mean, sd and n over seeds, for each combination of `keys`: columns (measure, mean | sd | n)."""
    grouped = records.groupby(list(keys), dropna=False)[list(measures)].agg(["mean", "std", "count"])
    return grouped.rename(columns={"std": "sd", "count": "n"}, level=1)


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """A `summary` for a csv file: columns measure_mean, measure_sd, measure_n, and the keys as columns."""
    return frame.set_axis([f"{a}_{b}" for a, b in frame.columns], axis=1).reset_index()


def user_row(records: pd.DataFrame) -> dict:
    """Last row for `rate_table`: `noisy_val` of the rate that each seed's held-out noisy labels choose, too."""
    chosen = chosen_on_noisy_labels(records, ["noise_rate", "seed"]).groupby("noise_rate")["noisy_val"]
    cells = {(e, "noisy_val"): percent(c.mean(), c.std()) for e, c in chosen}
    return {"label": "rate chosen on noisy labels"} | cells


def chosen_on_noisy_labels(records: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Per group of `keys` (seed among them): the run whose held-out noisy accuracy is best, ties to the rate nearest 0.

    Its `noisy_val` is what a user gets who may look at noisy labels only, for the rate as well as for the evaluation.
    """
    order = records.assign(_size=records["rate"].abs()).sort_values(["heldout", "_size"], ascending=[False, True])
    return order.groupby(list(keys), sort=True).head(1).drop(columns="_size").sort_values(list(keys))


def best_of(candidates: pd.DataFrame, measure: str, what: str | None = None) -> pd.Series:
    """Per seed, `measure` or `what` of the candidate that `measure` ranks first, or held-out labels for `noisy_val`."""
    by = "heldout" if measure == "noisy_val" else measure
    first = candidates.sort_values(by, ascending=False, kind="stable").groupby("seed").head(1)
    return first.set_index("seed")[what or measure].sort_index()


def at(records: pd.DataFrame, rate: float, measure: str = "best_test") -> pd.Series:
    """`measure` of one rate by seed; `records` is one cell: a record per rate and seed."""
    return records[records["rate"] == rate].set_index("seed")[measure].sort_index()


def best_rate(records: pd.DataFrame, rates: Sequence[float], measure: str = "best_test", lowest: bool = False) -> float:
    """Of `rates` the one with the best mean over the seeds of a cell; `lowest` where less is better, as of NLL."""
    means = records[records["rate"].isin(rates)].groupby("rate")[measure].mean()
    return float(means.idxmin() if lowest else means.idxmax())


def split_seeds(records: pd.DataFrame, fresh: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The records that make tables and choose rates, and those of the `fresh` seeds, which decide verdicts.

    Where there are none, as at `smoke`, the last seed is taken for fresh.
    """
    here = records["seed"].isin(list(fresh))
    here = here if here.any() else records["seed"] == records["seed"].max()
    return records[~here], records[here]


def tied_with_best(cell: pd.DataFrame, measure: str = "best_test") -> list[float]:
    """Rates of one cell that cannot be told from the best one: paired t-test over seeds, p > .05, not corrected.

    Of a single seed the best alone.
    """
    by_seed = cell.pivot(index="seed", columns="rate", values=measure)
    best = by_seed.mean().idxmax()
    differences = {r: (by_seed[best] - by_seed[r]).dropna() for r in by_seed}
    return [r for r, d in differences.items() if r == best or (len(d) > 1 and not paired(d)["p"] < 0.05)]


def rate_table(
    records: pd.DataFrame,
    printed: pd.DataFrame | None,
    measures: Sequence[str],
    caption: str,
    last_row: dict | None = None,
    column: str = "noise_rate",
) -> str:
    """HTML: a row per rate, a group of columns per value of `column` with the paper's number and ours in per cent.

    Ours is mean ± sd over seeds. In every column of ours the rates that cannot be told from the best one are bold, in
    the paper's (single values) the best one: green for a negative rate, red for a positive one, grey for none.
    `last_row` maps (noise rate, measure) to text for a final row.
    """
    means = summary(records, ["rate", column], measures)
    rates = sorted(records["rate"].unique(), reverse=True)
    noise = sorted(records[column].unique()) if column == "noise_rate" else list(records[column].unique())
    theirs = None if printed is None else printed.pivot(index="rate", columns=column, values="accuracy")
    columns, cells = [], []
    for eps in noise:
        cell = records[records[column] == eps]
        for measure in measures if theirs is None else ["paper", *measures]:
            if measure == "paper":
                values = theirs.reindex(index=rates, columns=noise)[eps]
                best, texts = [values.idxmax()] if values.notna().any() else [], [percent(v) for v in values]
            else:
                ours = means.xs(eps, level=1)[measure].reindex(rates)
                best, texts = tied_with_best(cell, measure), list(map(percent, ours["mean"], ours["sd"]))
            columns.append((f"ε = {eps:g}" if column == "noise_rate" else eps, PROTOCOLS.get(measure, measure)))
            marks = [_marked(text, rate) if rate in best else text for text, rate in zip(texts, rates, strict=True)]
            cells.append(marks + ([last_row.get((eps, measure), "")] if last_row is not None else []))
    index = [rate_name(r).replace(" ", "\u00a0") for r in rates] + ([last_row["label"]] if last_row is not None else [])
    frame = pd.DataFrame(dict(enumerate(cells)), index=index)
    frame.columns = pd.MultiIndex.from_tuples(columns)
    counts = records.groupby(column, sort=False)["seed"].nunique()
    n = str(counts.iloc[0]) if counts.nunique() == 1 else ", ".join(f"{v} ({k})" for k, v in counts.items())
    return html_table(frame, f"{caption} Per cent, mean ± sd over seeds, n = {n}.", escape=False)


def _marked(text: str, rate: float) -> str:
    return f'<b style="color:{rate_colour(rate)}">{text}</b>'


def percent(mean: float, sd: float = np.nan) -> str:
    """A share and its sd in per cent, on one line; nothing for NaN."""
    return "" if np.isnan(mean) else f"{mean * 100:.1f}" + ("" if np.isnan(sd) else f"\u00a0±\u00a0{sd * 100:.1f}")


def html_table(frame: pd.DataFrame, caption: str = "", escape: bool = True, index: bool = True) -> str:
    """A plain HTML table with a caption and true minus signs, the same bytes every time."""
    glossed = {"dataset": "data set", "noise_rate": "ε"}
    frame = frame.rename_axis(index=glossed, columns=glossed)
    body = frame.to_html(border=0, escape=escape, index=index, na_rep="", classes="nls", justify="center")
    body = re.sub(r"(?<=[>\s\[(])-(?=\.?\d)", "−", body)
    cap = f"<caption style='caption-side:top;text-align:left'>{html.escape(caption)}</caption>" if caption else ""
    return f'<div style="overflow-x:auto">{body.replace(">", ">" + cap, 1)}</div>'


def show(text: str) -> None:
    """Display HTML in a notebook."""
    from IPython.display import HTML, display

    display(HTML(text))


def say(text: str, name: str | None = None, figures: Path | str = ".") -> None:
    """Display Markdown whose numbers were computed. With a `name` it is kept as a file: a notebook's answer, which its
    first cell repeats (a test compares)."""
    from IPython.display import Markdown, display

    text = text.strip()
    if name:
        write(Path(figures) / f"{name}.md", text + "\n")
    display(Markdown(text))


def conclude(parts: Sequence[Part], notebook: str, figures: Path | str) -> pd.DataFrame:
    """Judge a notebook's parts, keep the verdicts for the scoreboard, show them and return them."""
    judged = judge(parts)
    save_claims(judged, notebook, figures)
    show(claims_table(judged))
    return judged


def claims_table(judged: pd.DataFrame) -> str:
    """HTML: a claim with its verdict and what decides, below it its parts; evidence is set apart and does not vote."""
    known, rows = {c.id: c for c in CLAIMS}, []
    for name, parts in judged.groupby("claim", sort=False):
        c = known[name]
        decides = f"Decided by: {c.primary}. Margin {c.margin:g}; named {c.named}." if c.primary else "Formulas, exact."
        head = f"{html.escape(c.text)} <i>({html.escape(c.source)})</i><br><small>{html.escape(decides)}</small>"
        rows.append((_coloured(parts["verdict"].iloc[0]), head, ""))
        for _, row in parts.iterrows():
            p = "" if np.isnan(row["p_holm"]) else f", p {'< .001' if row['p_holm'] < 0.001 else f'= {row.p_holm:.3f}'}"
            what = f"{row['statement']} [{row['protocol']}]" + (f"; {row['note']}" if row["note"] else "")
            result = row["result"] if row["role"] == "primary" else f"<i>evidence: {row['result']}</i>"
            rows.append((result, html.escape(what), html.escape(numbers(row).lstrip(": ") + p)))
    frame = pd.DataFrame(rows, columns=["verdict", "claim, and its parts", "difference [95 % interval]"])
    return _left(html_table(frame, escape=False, index=False))


def _coloured(verdict: str) -> str:
    return f'<b style="color:{COLOURS[verdict]}">{verdict}</b>'


def _left(table: str) -> str:
    return table.replace("<td>", '<td style="text-align:left">').replace("<th>", '<th style="text-align:left">')


def verdict_table(board: pd.DataFrame) -> str:
    """Lines of the scoreboard as HTML, verdicts coloured."""
    shown = board.map(lambda v: html.escape(str(v)))
    shown["verdict"] = [_coloured(v) for v in board["verdict"]]
    return _left(html_table(shown, escape=False, index=False))


def markdown_board(board: pd.DataFrame) -> str:
    """The claims that the README shows, as a Markdown table; the others are in the notebook of the scoreboard."""
    rows = [
        f"| {r.claim} ({r.source}) | **{r.verdict}** | {r.found} | {r.notebook} |"
        for r in board.set_index("id").loc[README_CLAIMS].itertuples()
    ]
    return "\n".join(["| claim | verdict | what we find | notebook |", "|---|---|---|---|", *rows])


def markdown_counts(board: pd.DataFrame) -> str:
    """How many claims of each kind have which verdict, as a Markdown table."""
    whose = np.where(board["of_paper"], "the paper", "ours and others'")
    counts = pd.crosstab([whose, board["kind"]], board["verdict"]).sort_index(ascending=[False, True])
    counts = counts[[v for v in VERDICTS if v in counts]]
    heads = [f"{who}, {what} ({n})" for (who, what), n in counts.sum(axis=1).items()]
    rows = [[verdict, *(str(n or "–") for n in column)] for verdict, column in counts.items()]
    lines = [["verdict", *heads], ["---"] * (1 + len(heads)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
