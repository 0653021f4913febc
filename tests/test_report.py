"""Verdicts follow the written rule; tables and figures say what the records say, byte for byte the same each time."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nls import report
from nls.report import Part
from nls.report.predictions import CLAIMS

MEASURED = next(c for c in CLAIMS if c.id == "table1-high")
EQUAL = next(c for c in CLAIMS if c.id == "table1-cells-twonorm")


def part(differences, claim="table1-high", **more):
    return Part(claim, "a statement", "a protocol", differences=differences, **more)


def verdict(*parts):
    [found] = set(report.judge(parts)["verdict"])
    return found


RNG = np.random.default_rng(0)
NOISE = (lambda z: (z - z.mean()) / z.std(ddof=1))(RNG.normal(size=20))


def differences(mean, sd):
    """Twenty with exactly this mean and standard deviation; their mean's error is sd / √20."""
    return mean + sd * NOISE


WIDE, NARROW = 0.05, 0.001


@pytest.mark.parametrize(
    ("mean", "sd", "expected"),
    [
        (0.1, WIDE, "supported"),
        (-0.1, WIDE, "reversed"),
        (0.0, WIDE, "inconclusive"),
        (0.0, NARROW, "no difference that matters"),
        (0.002, NARROW, "no difference that matters"),  # significant, on the claimed side, and too small to matter
        (-0.002, NARROW, "no difference that matters"),
        (0.006, NARROW, "supported"),
    ],
)
def test_the_verdict_of_a_difference(mean, sd, expected):
    assert verdict(part(differences(mean, sd))) == expected


@pytest.mark.parametrize(
    ("mean", "sd", "expected"),
    [(0.0, NARROW, "supported"), (0.1, WIDE, "refuted"), (-0.1, WIDE, "refuted"), (0.0, WIDE, "inconclusive")],
)
def test_the_verdict_of_an_equality(mean, sd, expected):
    assert verdict(part(differences(mean, sd), EQUAL.id)) == expected


def test_all_parts_of_a_conjunction_must_be_supported():
    up, none, down = part(differences(0.1, 0.01)), part(differences(0.0, WIDE)), part(differences(-0.1, 0.01))
    assert verdict(up, up) == "supported"
    assert verdict(up, none) == "inconclusive"
    tiny = part(differences(0.0, NARROW))
    assert verdict(none, tiny) == verdict(tiny, tiny) == "no difference that matters"
    assert verdict(up, tiny) == verdict(up, none, tiny) == "supported in part"
    assert verdict(up, tiny, down) == "reversed"
    assert verdict(up, none, down) == "reversed"


def test_evidence_has_no_vote_and_a_correction_of_its_own():
    weak = part(differences(0.1, 0.18))
    against = [part(differences(-0.1, WIDE), evidence=True)] * 40
    assert verdict(weak, *against) == "supported"


def test_formulas_are_identities_or_have_a_counterexample():
    assert verdict(Part("thm1", "s", "p", ok=True)) == "identity"
    assert verdict(Part("thm1", "s", "p", ok=True), Part("thm1", "s", "p", ok=False)) == "identity in part"
    assert verdict(Part("thm1", "s", "p", ok=False)) == "counterexample"
    assert verdict(Part(MEASURED.id, "s", "p", ok=False)) == "refuted"
    assert verdict(Part("thm1", "s", "p", ok=True, evidence=True)) == "not tested"


def test_what_could_have_been_shown():
    """Simulated: of a true difference of that size eight in ten draws are significant."""
    size = report.detectable(1.0, 5)
    assert size == pytest.approx(1.7, abs=0.05)
    draws = np.random.default_rng(0).normal(size, 1, (4000, 5))
    assert (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.02)


def test_overlapping_splits_widen_the_interval():
    d = differences(0.1, 0.05)
    apart, overlapping = report.paired(d), report.paired(d, overlap=0.2)
    wider = (overlapping["high"] - overlapping["low"]) / (apart["high"] - apart["low"])
    assert wider == pytest.approx(np.sqrt((1 / 20 + 0.2) / (1 / 20)))
    assert overlapping["p"] > apart["p"] and overlapping["mean"] == apart["mean"]


def test_paired_is_the_t_test():
    got, expected = report.paired(WIDE * NOISE + 0.02), stats.ttest_1samp(WIDE * NOISE + 0.02, 0)
    assert got["p"] == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (got["low"], got["high"], got["n"]) == (pytest.approx(low), pytest.approx(high), 20)


def test_equal_differences_are_certain_unless_zero():
    assert report.paired([0.25] * 4)["p"] == 0.125 and report.paired([0.0] * 4)["p"] == 1  # the sign test
    assert report.paired([0.0] * 4)["p"] == 1


@pytest.mark.parametrize("bad", [[], [1.0, np.nan], [[1.0, 2.0]]])
def test_differences_that_are_none(bad):
    with pytest.raises(ValueError, match="differences: got shape"):
        report.paired(bad)


def test_holm_by_hand():
    assert report.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(report.holm([0.01, np.nan])[1])
    assert report.holm([0.9, 0.8]).max() <= 1


def test_holm_counts_all_primaries_of_a_notebook():
    """What is significant alone need not be among forty."""
    weak = part(differences(0.1, 0.18))
    judged = report.judge([weak, *[part(differences(0.0, WIDE), "table1-clean")] * 40])
    assert verdict(weak) == "supported" and judged["verdict"].iloc[0] == "inconclusive"


def test_a_part_without_records_leaves_a_conjunction_open(tmp_path):
    """A claim of two comparisons is not supported by one of them, but one is enough to reverse it."""
    for mean, expected in ((0.1, "inconclusive"), (-0.1, "reversed")):
        half = part(differences(mean, WIDE), "table2-high")
        assert verdict(half) == expected
        report.save_claims(report.judge([half]), "07", tmp_path)
        board = report.scoreboard(tmp_path).set_index("id")
        assert board.loc["table2-high", "found"].startswith("1 of 2 parts have records; a statement: ")
    assert verdict(*[part(differences(0.1, WIDE), "table2-high")] * 2) == "supported"


def test_one_seed_is_never_enough():
    assert verdict(part([0.5])) == "one seed so far"


@pytest.mark.parametrize("both", [{}, {"ok": True, "differences": [1.0]}])
def test_a_part_is_a_difference_or_a_threshold(both):
    with pytest.raises(ValueError, match="expected either differences or ok"):
        Part("thm1", "s", "p", **both)


def test_unknown_claims_and_no_parts():
    with pytest.raises(ValueError, match=r"\['thm99'\] of 1 parts"):
        report.judge([part([1.0], claim="thm99")])
    with pytest.raises(ValueError, match="of 0 parts"):
        report.judge([])


def test_a_claims_table_shows_what_decided_and_how():
    shown = report.claims_table(report.judge([part(differences(0.1, WIDE), note="why"), part([0.5], evidence=True)]))
    assert "supported" in shown and MEASURED.primary in shown and "evidence: one seed so far" in shown
    assert (
        "+0.100 [+0.077, +0.123], n = 20, p &lt; .001" in shown.replace(", p < .001", ", p &lt; .001")
        and "why" in shown
    )


def test_an_estimate_in_a_sentence():
    d = {"mean": -0.0123, "low": -0.02, "high": 0.004, "n": 5}
    assert report.span(d, scale=100, unit=" points") == "−1.2 points [−2.0, +0.4]"
    assert report.span(d, scale=-100, sign="") == "1.2 [−0.4, 2.0]"
    assert report.span(d | {"n": 1}, 2) == "−0.01"


def test_a_part_is_found_by_what_it_says():
    judged = report.judge([part([0.1, 0.2]), part([0.3, 0.5], evidence=True)])
    assert report.part(judged, MEASURED.id, "a statement", "[a protocol]")["role"] == "primary"
    with pytest.raises(IndexError):
        report.part(judged, MEASURED.id, "another")


def test_scoreboard_lists_every_claim(tmp_path):
    assert set(report.scoreboard(tmp_path)["verdict"]) == {"not tested"}
    judged = report.judge([part(differences(0.1, WIDE)), part([0.1], "table1-clean"), Part("thm1", "s", "p", ok=True)])
    report.save_claims(judged, "01", tmp_path)
    board = report.scoreboard(tmp_path).set_index("claim")
    assert len(board) == len(CLAIMS)
    assert (board["verdict"] != "not tested").sum() == 3
    line = board.loc[MEASURED.text]
    assert (line["verdict"], line["kind"], line["compared"]) == ("supported", "measured", MEASURED.primary)
    assert line["found"] == "a statement: +0.100 [+0.077, +0.123], n = 20"
    assert board.loc[next(c.text for c in CLAIMS if c.id == "thm1"), "kind"] == "formulas"


def test_a_supported_line_names_what_speaks_against_it(tmp_path):
    against = Part(MEASURED.id, "elsewhere", "last", differences=differences(-0.1, WIDE), evidence=True)
    report.save_claims(report.judge([part(differences(0.1, WIDE)), against]), "01", tmp_path)
    found = report.scoreboard(tmp_path).set_index("claim").loc[MEASURED.text, "found"]
    assert "; but [last] elsewhere: −0.100" in found


def found(tmp_path, *parts):
    report.save_claims(report.judge(parts), "01", tmp_path)
    return report.scoreboard(tmp_path).set_index("id").loc[parts[0].claim, "found"]


def test_a_line_says_how_many_comparisons_came_out_how(tmp_path):
    """What is decided before what is open, the many before the few, and one that decides; its margin if inside."""
    up, none, down, tiny = (part(differences(*d)) for d in ((0.1, 0.01), (0.0, WIDE), (-0.1, 0.01), (0.001, NARROW)))
    assert found(tmp_path, up, up).startswith("both comparisons; a statement: +0.100")
    text = found(tmp_path, up, none, none, none, down, down, up)
    start = (
        "reversed in 2 of 7 comparisons, supported in 2, inconclusive in 3; reversed, for example: a statement: −0.100"
    )
    assert text.startswith(start) and "margin" not in text
    text = found(tmp_path, up, up, tiny)
    assert text.startswith("supported in 2 of 3 comparisons, no difference that matters in 1: a statement: +0.001")
    assert text.endswith(f"n = 20, margin {MEASURED.margin:g}")


@pytest.mark.parametrize("mean", [0.0, 0.1])
def test_a_line_of_an_equality_has_its_margin(tmp_path, mean):
    assert found(tmp_path, part(differences(mean, NARROW), EQUAL.id)).endswith(f"n = 20, margin {EQUAL.margin:g}")


def test_the_counts_are_those_of_the_scoreboard(tmp_path):
    report.save_claims(report.judge([part(differences(0.1, WIDE)), Part("thm1", "s", "p", ok=True)]), "01", tmp_path)
    board = report.scoreboard(tmp_path)
    head, _, *rows = report.markdown_counts(board).splitlines()
    measured = (board["of_paper"] & (board["kind"] == "measured")).sum()
    assert f"the paper, measured ({measured})" in head.split(" | ")[2]
    assert [row.split(" | ")[0] for row in rows] == ["| identity", "| supported", "| not tested"]
    assert [row.split(" | ")[2] for row in rows] == ["–", "1", str(measured - 1)]
    assert sum(int(n) for n in re.findall(r"\((\d+)\)", head)) == len(CLAIMS)


def test_an_inconclusive_line_says_what_could_have_been_shown(tmp_path):
    report.save_claims(report.judge([part(differences(0.0, WIDE))]), "01", tmp_path)
    found = report.scoreboard(tmp_path).set_index("claim").loc[MEASURED.text, "found"]
    assert found.endswith(f"could have shown {report.detectable(WIDE, 20):.3f}")


def records():
    rng = np.random.default_rng(1)
    rows = [
        {"rate": r, "noise_rate": e, "seed": s, "best_test": rng.random(), "noisy_val": 0.5, "heldout": 0.1 * abs(r)}
        for r in (0.4, 0.0, -1.0)
        for e in (0.0, 0.2)
        for s in range(4)
    ]
    return pd.DataFrame(rows)


def test_rate_table_marks_what_cannot_be_told_from_the_best():
    frame = records()
    frame["best_test"] = frame["rate"].map({0.4: 0.5, 0.0: 0.9, -1.0: 0.9}) + 0.01 * frame["seed"] * (frame["rate"] < 0)
    html = report.rate_table(frame, None, ["best_test"], "Caption.")
    assert report.tied_with_best(frame[frame["noise_rate"] == 0]) == [-1.0, 0.0]
    assert html.count("<b style") == 4 and "50.0" in html
    assert "n = 4." in html
    assert html == report.rate_table(frame, None, ["best_test"], "Caption.")


def test_rate_chosen_on_noisy_labels_ties_to_the_rate_nearest_zero():
    frame = records().assign(heldout=0.7)
    assert set(report.chosen_on_noisy_labels(frame, ["noise_rate", "seed"])["rate"]) == {0.0}
    frame.loc[frame["rate"] == -1.0, "heldout"] = 0.8
    assert set(report.chosen_on_noisy_labels(frame, ["noise_rate", "seed"])["rate"]) == {-1.0}


def test_fresh_seeds_are_apart_from_those_that_choose():
    rows = [{"rate": r, "seed": s, "best_test": 0.5 - abs(r) / 10 + s} for r in (0.4, -1.0) for s in (0, 1, 20, 21)]
    choosing, fresh = report.split_seeds(pd.DataFrame(rows), range(20, 40))
    assert set(choosing["seed"]) == {0, 1} and set(fresh["seed"]) == {20, 21}
    assert report.best_rate(choosing, [0.4, -1.0]) == 0.4
    assert report.best_rate(choosing, [0.4, -1.0], lowest=True) == -1.0
    assert report.at(fresh, -1.0).to_dict() == {20: pytest.approx(20.4), 21: pytest.approx(21.4)}
    assert set(report.split_seeds(choosing, range(20, 40))[1]["seed"]) == {1}


def test_on_the_axis_of_rates_smoothing_adds():
    two = 1 - (1 - 0.3) * (1 - 0.5)  # smoothing twice
    assert report.rate_position([0.3, 0.5]).sum() == pytest.approx(report.rate_position(two))
    assert report.rate_position([-8, 0, 0.8]).tolist() == pytest.approx([-np.log(9), 0, np.log(5)])


def test_a_saved_figure_is_the_same_bytes_each_time(tmp_path):
    for folder in ("a", "b"):
        report.style()
        figure, axis = plt.subplots()
        axis.plot([0, 1], [1, 0], label="line")
        report.rate_axis(axis, [0.4, 0, -1])
        report.save_figure(figure, "00_test", pd.DataFrame({"x": [1 / 3], "zero": [-1e-9]}), tmp_path / folder)
        plt.close(figure)
    assert (tmp_path / "a" / "00_test.csv").read_text() == "x,zero\n0.333333,0.0\n"
    for kind in ("svg", "png", "csv"):
        assert (tmp_path / "a" / f"00_test.{kind}").read_bytes() == (tmp_path / "b" / f"00_test.{kind}").read_bytes()


def test_home_is_found_from_any_folder(monkeypatch, tmp_path):
    for folder in (Path(__file__).parent, Path(__file__).parents[1] / "notebooks", tmp_path):
        monkeypatch.chdir(folder)
        assert (report.home() / "pyproject.toml").exists()


def test_the_best_candidate_is_chosen_by_the_protocol():
    candidates = pd.DataFrame(
        {
            "seed": [1, 1, 0, 0],
            "best_test": [0.5, 0.6, 0.8, 0.7],
            "noisy_val": [0.40, 0.41, 0.42, 0.43],
            "heldout": [0.9, 0.1, 0.2, 0.3],
        }
    )
    assert report.best_of(candidates, "best_test").to_dict() == {0: 0.8, 1: 0.6}
    assert report.best_of(candidates, "noisy_val").to_dict() == {0: 0.43, 1: 0.40}


def test_rate_table_with_named_columns_and_gaps():
    records = pd.DataFrame(
        {
            "rate": [0.0, -1.0, 0.0, -1.0],
            "seed": [0, 0, 0, 0],
            "column": ["b", "b", "a", "a"],
            "best_test": [0.5, 0.6, 0.7, 0.8],
        }
    )
    printed = pd.DataFrame({"rate": [0.0], "column": ["a"], "accuracy": [0.75]})
    text = report.rate_table(records, printed, ["best_test"], "Title.", column="column")
    assert text.index(">b<") < text.index(">a<")
    assert "75.0" in text and "80.0" in text and "nan" not in text.lower()
    assert "n = 1." in text
