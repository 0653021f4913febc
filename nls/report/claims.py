"""Claims with intervals and verdicts.

The rule, fixed before the runs. A claim has one or more parts. A part about a difference holds if the mean
paired difference over seeds lies in the claimed direction with a two-sided t-test at p < .05 after Holm's correction
over all such parts of a notebook. A part about an identity or a threshold fixed beforehand holds if it is met. A claim
`holds` if all its parts do, `does not` if none does, else `partly`; with one seed the verdict is `one seed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from .figures import write
from .paper import CLAIMS


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
    write(Path(figures) / f"{notebook}_claims.csv", judged.round(6).to_csv(index=False))


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
