"""Verdicts follow the written rule; tables and figures say what the records say, byte for byte the same each time."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nls import report
from nls.report import Part
from nls.report.paper import CLAIMS


def part(differences, claim="thm1", **more):
    return Part(claim, "a statement", "a protocol", differences=differences, **more)


def verdicts(*parts):
    return dict(report.judge(parts).groupby("claim")["verdict"].first())


RNG = np.random.default_rng(0)
UP, NOTHING = RNG.normal(1, 0.5, 20), RNG.normal(0, 1, 20) - 0.1


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([UP, UP], "holds"),
        ([UP, NOTHING], "partly"),
        ([NOTHING, -UP], "does not"),
        ([[0.5]], "one seed"),
    ],
)
def test_verdict_rule(parts, verdict):
    assert verdicts(*map(part, parts)) == {"thm1": verdict}


def test_a_threshold_is_a_part_too():
    assert verdicts(part(UP), Part("thm1", "s", "p", ok=True)) == {"thm1": "holds"}
    assert verdicts(part(UP), Part("thm1", "s", "p", ok=False)) == {"thm1": "partly"}


def test_paired_is_the_t_test():
    got, expected = report.paired(UP), stats.ttest_1samp(UP, 0)
    assert got["p"] == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (got["low"], got["high"], got["n"]) == (pytest.approx(low), pytest.approx(high), 20)


def test_equal_differences_are_certain_unless_zero():
    assert report.paired([0.25] * 4)["p"] == 0
    assert report.paired([0.0] * 4)["p"] == 1


@pytest.mark.parametrize("bad", [[], [1.0, np.nan], [[1.0, 2.0]]])
def test_differences_that_are_none(bad):
    with pytest.raises(ValueError, match="differences: got shape"):
        report.paired(bad)


def test_holm_by_hand():
    assert report.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(report.holm([0.01, np.nan])[1])
    assert report.holm([0.9, 0.8]).max() <= 1


def test_holm_counts_all_parts_of_a_notebook():
    """What is significant alone need not be among forty."""
    weak = stats.norm.ppf((np.arange(20) + 0.5) / 20) + 0.55
    assert verdicts(part(weak)) == {"thm1": "holds"}
    assert verdicts(part(weak), *[part(NOTHING, claim="fig2")] * 40)["thm1"] == "does not"


def test_one_seed_is_never_enough():
    assert verdicts(Part("thm1", "s", "p", ok=True, n=1)) == {"thm1": "one seed"}
    assert verdicts(Part("thm1", "s", "p", ok=True, n=None)) == {"thm1": "holds"}


@pytest.mark.parametrize("both", [{}, {"ok": True, "differences": [1.0]}])
def test_a_part_is_a_difference_or_a_threshold(both):
    with pytest.raises(ValueError, match="expected either differences or ok"):
        Part("thm1", "s", "p", **both)


def test_unknown_claims_and_no_parts():
    with pytest.raises(ValueError, match=r"\['thm99'\] of 1 parts"):
        report.judge([part(UP, claim="thm99")])
    with pytest.raises(ValueError, match="of 0 parts"):
        report.judge([])


def test_lines_show_interval_n_and_p():
    text = report.lines(report.judge([part(UP, note="why")]))
    assert text.startswith("HOLDS: ")
    assert "n = 20, p < .001; why" in text


def test_scoreboard_lists_every_claim(tmp_path):
    assert set(report.scoreboard(tmp_path)["verdict"]) == {"not tested"}
    report.save_claims(report.judge([part(UP), part(NOTHING, claim="fig2")]), "01", tmp_path)
    board = report.scoreboard(tmp_path)
    assert len(board) == len(CLAIMS)
    assert board["verdict"].value_counts().to_dict() == {"not tested": len(board) - 2, "holds": 1, "does not": 1}


def records():
    rng = np.random.default_rng(1)
    rows = [
        {"rate": r, "noise_rate": e, "seed": s, "best_test": rng.random(), "noisy_val": 0.5, "heldout": 0.1 * abs(r)}
        for r in (0.4, 0.0, -1.0)
        for e in (0.0, 0.2)
        for s in range(4)
    ]
    return pd.DataFrame(rows)


def test_rate_table_colours_the_best_two():
    frame = records()
    html = report.rate_table(frame, None, ["best_test"], "Caption.")
    means = frame.pivot_table(index="rate", columns="noise_rate", values="best_test")
    assert html.count("<b style") == 4
    for eps in means:
        worst = means[eps].idxmin()
        assert f">{means[eps][worst] * 100:.1f}\u00a0±" in html
    assert "n = 4." in html
    assert html == report.rate_table(frame, None, ["best_test"], "Caption.")


def test_rate_chosen_on_noisy_labels_ties_to_the_rate_nearest_zero():
    frame = records().assign(heldout=0.7)
    assert set(report.chosen_on_noisy_labels(frame, ["noise_rate", "seed"])["rate"]) == {0.0}
    frame.loc[frame["rate"] == -1.0, "heldout"] = 0.8
    assert set(report.chosen_on_noisy_labels(frame, ["noise_rate", "seed"])["rate"]) == {-1.0}


def test_rate_chosen_elsewhere_never_scores_the_seeds_that_chose():
    rows = [{"rate": r, "seed": s, "best_test": float((r < 0) == (s % 2 == 0))} for r in (0.4, -1.0) for s in range(10)]
    # Each half's favourite is the other half's worst: chosen on other seeds, the score is 0; on its own it would be 1.
    assert report.rate_chosen_elsewhere(pd.DataFrame(rows), [0.4, -1.0]).tolist() == [0.0] * 10
    odd = pd.DataFrame(rows).query("seed % 2 == 1").assign(best_test=lambda t: (t["seed"] % 4 == 1) == (t["rate"] < 0))
    assert not report.rate_chosen_elsewhere(odd.astype({"best_test": float}), [0.4, -1.0]).any()


def test_rate_position_shows_both_sides_alike():
    assert report.rate_position([0.8, 0, -4, -8]).tolist() == pytest.approx([-0.8, 0, 0.8, 8 / 9])
    assert (np.diff(report.rate_position(np.linspace(1, -20, 50))) > 0).all()


def test_a_saved_figure_is_the_same_bytes_each_time(tmp_path):
    for folder in ("a", "b"):
        report.style()
        figure, axis = plt.subplots()
        axis.plot([0, 1], [1, 0], label="line")
        report.rate_axis(axis, [0.4, 0, -1])
        report.save_figure(figure, "00_test", pd.DataFrame({"x": [1 / 3]}), tmp_path / folder)
        plt.close(figure)
    for kind in ("svg", "png", "csv"):
        assert (tmp_path / "a" / f"00_test.{kind}").read_bytes() == (tmp_path / "b" / f"00_test.{kind}").read_bytes()


def test_home_is_found_from_any_folder(monkeypatch, tmp_path):
    for folder in (Path(__file__).parent, Path(__file__).parents[1] / "notebooks", tmp_path):
        monkeypatch.chdir(folder)
        assert (report.home() / "pyproject.toml").exists()


def test_with_one_seed_only_the_sign_is_shown(tmp_path):
    judged = report.judge([part([0.5]), part([-0.5]), Part("thm1", "s", "p", ok=False, n=1)])
    marks = [line.split()[0] for line in report.lines(judged).splitlines()[1:]]
    assert marks == ["(+)", "(-)", "(-)"]
    report.save_claims(judged, "01", tmp_path)
    row = report.scoreboard(tmp_path).set_index("source").loc["Theorem 1"]
    assert (row["verdict"], row["parts"]) == ("one seed", "1/3 in sign")
    report.save_claims(report.judge([part([0.5]), part([-0.5]), part([0.4, 0.5, 0.6])]), "01", tmp_path)
    row = report.scoreboard(tmp_path).set_index("source").loc["Theorem 1"]
    assert (row["verdict"], row["parts"]) == ("one seed", "1/1, 1/2 in sign")


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
