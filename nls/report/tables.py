"""Tables: ours beside the paper's, rates chosen in several ways, and the scoreboard."""

import html
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .claims import judge, numbers, paired, save_claims
from .figures import CE_COLOUR, LS_COLOUR, NLS_COLOUR, rate_colour, write
from .paper import CLAIMS

PROTOCOLS = {
    "best_test": "best on test",
    "crossfit": "best on one half of the test set, scored on the other",
    "last": "last",
    "noisy_val": "chosen on noisy labels",
}
COLOURS = {
    "identity": NLS_COLOUR,
    "supported": NLS_COLOUR,
    "counterexample": LS_COLOUR,
    "reversed": LS_COLOUR,
    "smaller than matters": "#b9770e",
    "inconclusive": CE_COLOUR,
    "not tested": "#8a8a8a",
}


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
