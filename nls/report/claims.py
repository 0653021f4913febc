"""Claims and verdicts: what was compared, how it came out, and whether that is what the paper says.

The rule. A statement about formulas is an `identity`, or a `counterexample` to it is shown; `identity in part`: some of
what it can mean holds, to the rest there is a counterexample. Every other claim has a
**primary** comparison, written into `CLAIMS` together with the margin that matters. Its paired differences
(positive: as claimed) decide; p is adjusted after Holm over the notebook's primaries:

| verdict | when |
|---|---|
| one seed so far | no interval yet |
| no difference that matters | the 90 % interval lies inside the margin, on whichever side of zero |
| supported | p < .05, on the claimed side; of a claim of equality: the 90 % interval lies inside the margin |
| reversed | p < .05, on the other side: the opposite holds |
| refuted | of a claim of equality: the 95 % interval lies outside the margin |
| inconclusive | none of these |
| not tested | the comparison that decides has not been run |

Of several primary parts all must be there and supported; else the claim is reversed or refuted if one part is, then the
verdict is no difference that matters, or `supported in part` if at least one part is supported, then inconclusive.
Everything else is evidence: shown beside it, corrected together, without a vote. Of what is inconclusive the line says
which true difference as many seeds "could have shown", four times in five.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, stats

from .figures import write
from .paper import OF_PAPER, Claim
from .predictions import CLAIMS

OPEN = ("inconclusive", "one seed so far")
IN_PART = {"no difference that matters": "supported in part", "counterexample": "identity in part"}


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
    """One comparison: paired `differences` over seeds (positive = as claimed), or `ok` for what is exact.

    `protocol` says how it was measured, `evidence` that it does not vote, `n` how many cases an `ok` covers. `overlap`
    is the ratio of test to training rows where seeds are repeated splits of one set, see `paired`.
    """

    claim: str
    statement: str
    protocol: str
    differences: Sequence[float] | None = None
    ok: bool | None = None
    evidence: bool = False
    n: int | None = None
    overlap: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        if (self.differences is None) == (self.ok is None):
            raise ValueError(f"{self.claim}, {self.statement}: expected either differences or ok, got both or neither")


def paired(differences: Sequence[float], overlap: float = 0.0) -> dict:
    """Mean, 95 % t-interval, two-sided p, sd and n of paired differences, and the 90 % interval as low90, high90.

    `overlap` is n_test / n_train of random splits of one data set: their training rows overlap, so the variance of the
    mean is sd² (1/n + overlap) (Nadeau and Bengio 2003). With n = 1 there is neither interval nor p. Of differences
    that are all the same there is no t, and p is that of the sign test.
    """
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or not len(d) or not np.isfinite(d).all():
        raise ValueError(f"differences: got shape {d.shape}, {np.isfinite(d).sum()} finite; expected finite numbers")
    mean, n = d.mean(), len(d)
    if n == 1:
        return {"mean": mean, "n": 1} | dict.fromkeys(("low", "high", "low90", "high90", "p", "sd"), np.nan)
    error = d.std(ddof=1) * np.sqrt(1 / n + overlap)
    wide, narrow = (stats.t.ppf(q, n - 1) * error for q in (0.975, 0.95))
    p = 2 * stats.t.sf(abs(mean) / error, n - 1) if error else 2.0 ** (1 - n) if mean else 1.0
    ends = {"low": mean - wide, "high": mean + wide, "low90": mean - narrow, "high90": mean + narrow}
    return {"mean": mean, **ends, "p": p, "sd": d.std(ddof=1), "n": n}


def detectable(sd: float, n: int, overlap: float = 0.0) -> float:
    """The true mean difference that n pairs would have shown (two-sided p < .05) with a probability of 80 %."""
    limit = stats.t.ppf(0.975, n - 1)
    shift = optimize.brentq(lambda d: stats.nct.sf(limit, n - 1, d) - 0.8, 0, 100)
    return float(shift * sd * np.sqrt(1 / n + overlap))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the given order; NaN stays NaN and does not count."""
    p = pd.Series(p_values, dtype=float).reset_index(drop=True)
    steps = p.dropna().sort_values(kind="stable") * np.arange(p.count(), 0, -1)
    return steps.cummax().clip(upper=1).reindex(p.index).to_numpy()


def judge(parts: Sequence[Part]) -> pd.DataFrame:
    """One row per part: estimate, intervals, n, Holm-adjusted p and `result`; `verdict` is the claim's."""
    known = {c.id: c for c in CLAIMS}
    unknown = {p.claim for p in parts} - known.keys()
    if unknown or not parts:
        raise ValueError(f"parts: got claims {sorted(unknown)} of {len(parts)} parts, expected ids of CLAIMS")
    empty = dict.fromkeys(("mean", "low", "high", "low90", "high90", "p", "sd"), np.nan)
    rows = []
    for part in parts:
        row = {"claim": part.claim, "role": "evidence" if part.evidence else "primary"}
        row |= {"statement": part.statement, "protocol": part.protocol, "note": part.note, "overlap": part.overlap}
        row |= {"n": part.n, "ok": part.ok} | empty
        rows.append(row if part.differences is None else row | paired(part.differences, part.overlap))
    table = pd.DataFrame(rows)
    tests = table["p"].mask([known[claim].equal for claim in table["claim"]])  # an equality is judged by its interval
    table["p_holm"] = tests.groupby(table["role"]).transform(lambda p: holm(p))
    table["result"] = [_result(row, known[row.claim]) for row in table.itertuples()]
    deciding = table[table["role"] == "primary"].groupby("claim")["result"]
    decided = {claim: _of_all(results, known[claim].parts) for claim, results in deciding}
    table["verdict"] = [decided.get(claim, "not tested") for claim in table["claim"]]
    return table.drop(columns="ok")


def _result(row, claim) -> str:
    if row.ok is not None:
        exact = ("counterexample", "identity") if not claim.primary else ("refuted", "supported")
        return exact[bool(row.ok)]
    if row.n == 1:
        return "one seed so far"
    inside = -claim.margin < row.low90 and row.high90 < claim.margin
    if claim.equal:
        outside = row.low >= claim.margin or row.high <= -claim.margin
        return "supported" if inside else "refuted" if outside else "inconclusive"
    if inside:
        return "no difference that matters"
    return ("supported" if row.mean > 0 else "reversed") if row.p_holm < 0.05 else "inconclusive"


def _of_all(results: pd.Series, parts: int) -> str:
    """A conjunction's verdict: what speaks against it first. A part without records leaves it open."""
    found = {*results, *["inconclusive"] * (len(results) < parts)}
    order = ("counterexample", "reversed", "refuted", "no difference that matters", *OPEN, "supported", "identity")
    first = min(found, key=order.index)
    return IN_PART[first] if first in IN_PART and IN_PART[first].removesuffix(" in part") in found else first


def save_claims(judged: pd.DataFrame, notebook: str, figures: Path | str) -> None:
    """Keep a notebook's verdicts as `NN_claims.csv`, where the scoreboard finds them."""
    write(Path(figures) / f"{notebook}_claims.csv", judged.round(6).to_csv(index=False))


def scoreboard(figures: Path | str) -> pd.DataFrame:
    """Every claim of `CLAIMS` with its verdict and the numbers of its primary comparison.

    `not tested` where no notebook has judged it.
    """
    found = [pd.read_csv(f) for f in sorted(Path(figures).glob("*_claims.csv"))]
    judged = pd.concat(found) if found else pd.DataFrame(columns=["claim", "role", "result"])
    rows = []
    for c in CLAIMS:
        parts, other = (judged[(judged["claim"] == c.id) & (judged["role"] == r)] for r in ("primary", "evidence"))
        verdict = parts["verdict"].iloc[0] if len(parts) else "not tested"
        row = {"id": c.id, "verdict": verdict, "claim": c.text, "source": c.source, "notebook": c.notebook}
        measured = bool(c.primary) or verdict == "not tested"
        row |= {"kind": "measured" if measured else "formulas", "compared": c.primary, "margin": c.margin}
        row |= {
            "of_paper": c.source.startswith(OF_PAPER),
            "named": c.named if c.primary else "",
            "found": _found(parts, verdict, c) + _but(other, verdict),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _found(parts: pd.DataFrame, verdict: str, claim: Claim) -> str:
    """How the parts came out, then the first of those that decide the verdict; with the margin where it counts.

    It counts in an equality, and for what lies inside of it.
    """
    if not len(parts):
        return ""
    decides = {whole: one for one, whole in IN_PART.items()}.get(verdict, verdict)
    first = parts.iloc[parts["result"].eq(decides).argmax()]
    held = claim.equal or max(-first["low90"], first["high90"]) < claim.margin
    margin = f", margin {claim.margin:g}" if held and not np.isnan(first["mean"]) else ""
    false = "false: " if decides == "counterexample" else ""
    return f"{_came_out(parts, first['result'], claim)}{false}{first['statement']}{numbers(first)}{margin}"


def _came_out(parts: pd.DataFrame, decided: str, claim: Claim) -> str:
    """How many of several parts have which result, what is open last; `decided` is the result of the one shown."""
    counts, n = parts["result"].value_counts(), len(parts)
    what = "comparisons" if claim.primary else "checks"
    if n < claim.parts:
        return f"{n} of {claim.parts} parts have records; "
    if len(counts) == 1:
        return "" if n == 1 else f"both {what}; " if n == 2 else f"all {n} {what}; "
    order = sorted(counts.index, key=lambda r: (r in OPEN, -counts[r], r in ("supported", "identity")))
    found = [f"{result} in {counts[result]}" for result in order]
    found[0] += f" of {n} {what}"
    example = ", for example: " if counts[decided] > 1 else ": "
    return ", ".join(found) + ("" if decided == order[-1] else f"; {decided}") + example


def _but(evidence: pd.DataFrame, verdict: str) -> str:
    """What of the evidence lies on the other side of a supported claim, so that its line does not hide it."""
    against = evidence[evidence["result"].isin(["reversed", "refuted"]) & (verdict in ("supported", "identity"))]
    return "".join(
        f"; but [{row['protocol']}] {row['statement']}{numbers(row)}" for _, row in against.head(1).iterrows()
    )


def part(judged: pd.DataFrame, claim: str, *texts: str) -> pd.Series:
    """The first part of a claim that has all `texts` in its statement and, in brackets, its protocol."""
    parts = judged[judged["claim"] == claim]
    said = parts["statement"] + " [" + parts["protocol"] + "]"
    return parts[[all(text in line for text in texts) for line in said]].iloc[0]


def span(estimate: Mapping, digits: int = 1, scale: float = 1.0, sign: str = "+", unit: str = "") -> str:
    """A `paired` estimate in a sentence: `mean unit [low, high]`, of a single value without the interval.

    A negative `scale` turns it round; with `sign` "" only a minus is shown.
    """
    mean, *ends = (scale * estimate[k] for k in ("mean", "low", "high"))
    interval = " [{}, {}]".format(*(f"{v:{sign}.{digits}f}" for v in sorted(ends))) if estimate["n"] > 1 else ""
    return f"{mean:{sign}.{digits}f}{unit}{interval}".replace("-", "−")


def numbers(row) -> str:
    """A part's estimate with its interval, n, and, where it is inconclusive, what could have been shown."""
    if np.isnan(row["mean"]):
        return f" (n = {row['n']:,.0f})" if row["n"] and not np.isnan(row["n"]) else ""
    digits = 4 if abs(row["mean"]) < 0.1 else 3
    text = f": {span(row, digits)}, n = {row['n']:.0f}"
    if row["n"] > 1 and row["result"] == "inconclusive":
        text += f", could have shown {detectable(row['sd'], int(row['n']), row['overlap']):.3f}"
    return text
