"""The published numbers, and every claim of the paper and its slides that this project holds against evidence."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

# The last row of Table 1, "r_opt": the rates that the paper names as best, per column (an interval is printed as one).
TABLE1_BEST_RATES = {
    ("twonorm", 0.0): (0.0, 0.8),
    ("twonorm", 0.1): (0.4, 0.8),
    ("twonorm", 0.2): (-1.0, -0.4),
    ("twonorm", 0.3): (-4.0, -0.4),
    ("twonorm", 0.4): (-8.0, -8.0),
    ("splice", 0.0): (0.0, 0.8),
    ("splice", 0.1): (-0.6, -0.4),
    ("splice", 0.2): (-8.0, -4.0),
    ("splice", 0.3): (-8.0, -8.0),
    ("splice", 0.4): (-8.0, -8.0),
}


def published(table: str) -> pd.DataFrame:
    """Table 1, 2, 3 or 5 as published, one row a cell: accuracies (and `std`) in [0, 1], the smooth rate as `rate`."""
    cells = pd.read_csv(Path(__file__).parent / "assets" / f"{table}.csv")
    cells = cells.rename(columns={"smooth_rate": "rate", "noise_type": "noise"})
    for column in [c for c in cells if c.endswith("_percent")]:
        cells[column.removesuffix("_percent")] = cells.pop(column) / 100
    return cells


FIRST_LOOK = "after a first look"
# How the source of a claim begins that is the paper's, its slides' or its authors'; a reading of it is ours.
OF_PAPER = ("Appendix", "Figure", "Proposition", "Table", "Theorem", "author", "slides")


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper (or of the slides that go with it), where it stands, and the notebook that tests it.

    `primary` says which comparison decides, `margin` how large it must be to matter (in the unit of what is compared;
    half a point of accuracy unless something else is said), `equal` that the claim is one of equality. `named` says
    when: before the seeds that score it were trained, or after records of the same kind had been seen. A statement
    about formulas has no primary. Nor has what was not tested.
    """

    id: str
    source: str
    text: str
    notebook: str
    primary: str = ""
    margin: float = 0.005
    equal: bool = False
    named: str = "before its records"
    parts: int = 1  # how many comparisons `primary` is made of, at least; without all of them nothing is supported


_NET = "whitened_cnn"

CLAIMS = [
    Claim("gls-ls", "slides", "Label smoothing punishes a confident prediction, also a right one", "01"),
    Claim("gls-nls", "slides", "A negative rate rewards a confident prediction", "01"),
    Claim("thm1", "Theorem 1", "NLS at −r is 2ℓ(y) less LS at r", "01"),
    Claim(
        "human-noise",
        "assumed by the theory",
        "Label noise depends on the class alone, all wrong classes alike",
        "02",
        "Every CIFAR-N set: the favourite wrong class's share of a class's wrong labels, and an equal share",
        margin=0.05,
        equal=True,
        named=FIRST_LOOK,
    ),
    Claim("thm3.6", "Theorems 3.3, 3.6", "On noisy labels, r_opt recovers the classifier of r* on clean labels", "03"),
    Claim("fig2", "Figure 2", "A negative rate is preferred exactly when (K−1)r*/K < ε < (K−1)/K", "03"),
    Claim("ropt-accuracy", "a reading of Table 3", "r_opt at r* = 0 has the best accuracy, whichever r* is best", "03"),
    Claim("assumption1", "a reading of Assumption 1", "On clean data one rate r* ≤ 1 is strictly the best", "03"),
    Claim(
        "table1-clean",
        "Table 1",
        "Without noise, a positive rate is best",
        "04",
        "Splice and Twonorm, ε = 0, best on test: the best of four LS rates less CE, and less that of four NLS rates",
    ),
    Claim(
        "table1-high",
        "Table 1",
        "At ε = .4 on Splice, strongly negative rates beat CE and every positive rate",
        "04",
        "Splice, ε = .4, best on test: the best of four NLS rates less CE, and less the best of four LS rates",
    ),
    Claim(
        "table1-shift",
        "Table 1",
        "The best rate falls as the noise rate grows",
        "04",
        "Splice and Twonorm, best on test: −Spearman's correlation of noise rate and best of nine rates, per seed",
        margin=0.3,
    ),
    Claim(
        "table1-ropt",
        "a reading of Table 1",
        "The rates that are most accurate without noise predict those with noise through r_opt",
        "04",
        "Every noisy column, best on test: the best rate inside the predicted interval and the best of all, equal",
        equal=True,
    ),
    Claim(
        "table1-cells-splice",
        "Table 1",
        "The printed Splice accuracies, to within 3 points, from a recipe of ours",
        "04",
        "The printed column means and ours, best on test: equal within 3 points, the target set before the first run",
        margin=0.03,
        equal=True,
    ),
    Claim(
        "table1-cells-twonorm",
        "Table 1",
        "The printed Twonorm accuracies, to within half a point, from a recipe of ours",
        "04",
        "The printed column means and ours, best on test: equal",
        equal=True,
        named=FIRST_LOOK,
    ),
    Claim(
        "plane-order",
        "slides",
        "At 30 % noise in two dimensions, NLS > CE > LS (on data of ours)",
        "05",
        "ε = .3, best on test: the best of two NLS rates less CE, and CE less the best of two LS rates",
    ),
    Claim(
        "plane-low",
        "slides",
        "At low noise in two dimensions, LS is best (on data of ours)",
        "05",
        "ε = .05, best on test: the best of two LS rates less CE, and less the best of two NLS rates",
    ),
    Claim(
        "cor1",
        "Theorem 5, Corollary 1",
        "The lower the rate, the larger the mean of the larger probability (a weaker form)",
        "05",
        "In two dimensions, at both noise rates: mean confidence at r = −1 less CE, and CE less r = .4",
    ),
    Claim("prop5.1", "Proposition 5.1", "Binary backward correction is GLS at r_LC plus a bias term", "06"),
    Claim("prop5.1-forward", "Proposition 5.1", "Forward correction has the same minimum, too (2021 wording)", "06"),
    Claim("thm5.2", "Theorem 5.2", "Under symmetric noise, backward correction is NLS", "06", equal=True),
    Claim("thm5.2-forward", "Theorem 5.2", "Under symmetric noise, forward correction is NLS", "06", equal=True),
    Claim("thm5.3", "Theorem 5.3", "The complementary loss is NLS with r → −∞", "06", equal=True),
    Claim("prop5.4", "Proposition 5.4", "Peer loss is GLS at r_PL plus a bias term", "06"),
    Claim("thm5.5", "Theorem 5.5", "With equal noisy priors, peer loss is NLS with r → −∞", "06", equal=True),
    Claim(
        "table2-high",
        "Table 2",
        "On CIFAR at high symmetric noise, NLS beats LS and CE",
        "07",
        f"CIFAR-10, symmetric .6, {_NET}, stage with the paper's sum of learning rates, start and evaluation best on "
        "test: r = −6 less CE, and less r = .4",
        named="after looks at longer stages, before the records of this one",
        parts=2,
    ),
    Claim(
        "table2-asym",
        "Table 2",
        "On CIFAR under asymmetric noise, NLS beats LS and CE",
        "07",
        f"CIFAR-10, asymmetric .3, {_NET}, stage with the paper's sum of learning rates, start and evaluation best on "
        "test: r = −.4 less CE, and less r = .4",
        parts=2,
    ),
    Claim(
        "table2-pretrained",
        "this project",
        "From a network that has memorised the noise, NLS beats CE",
        "07",
        f"CIFAR-10, symmetric .6, {_NET}, from the last epoch of the warm-up, last: r = −6 less CE",
        named=FIRST_LOOK,
    ),
    Claim(
        "table2-memorised",
        "this project",
        "From a network that has memorised the noise, NLS wins back at least half of what that cost",
        "07",
        f"CIFAR-10, symmetric .6, {_NET}, from the last epoch, last: what r = −2 wins back less half of what was lost",
        named=FIRST_LOOK,
    ),
    Claim(
        "table2-nll",
        "a reading of Theorem 3.6",
        "On CIFAR, 400 steps after cross entropy, r_opt has the best clean log-likelihood",
        "07",
        f"CIFAR-10, symmetric .6, {_NET}, from the best epoch on test, last: clean NLL of r = −4 less that of r_opt",
        margin=0.02,
        named=FIRST_LOOK,
    ),
    Claim(
        "lukasik",
        "Lukasik et al. 2020",
        "On CIFAR, label smoothing helps under label noise",
        "07",
        f"CIFAR-10, symmetric .6, {_NET}, stage with the paper's sum of learning rates, start and evaluation by noisy "
        "labels: the best of three LS rates less CE",
        named="after looks at longer stages, before the records of this one",
    ),
    Claim(
        "confidence-cifar",
        "Figure 3, 2021 version",
        "On CIFAR, negative rates part right from wrong predictions",
        "05",
        f"CIFAR-10, symmetric .6, {_NET}, from the best epoch on test, last: area under ROC of r = −4 less CE",
        margin=0.01,
        named=FIRST_LOOK,
    ),
    Claim("table2-scratch", "author's reply", "Negative rates need a warm-up; from scratch they diverge", "07"),
    Claim("table2-cells", "Tables 2, 5", "The printed accuracies of ResNet-34 on CIFAR and CIFAR-N", "07"),
    Claim(
        "table3-ropt",
        "Table 3",
        "r_opt at r* = 0 is the most accurate rate of every column (printed: of four in five)",
        "08",
        "LSA features, every noise rate, best on test: r_opt less the best other rate",
    ),
    Claim(
        "table3-nll",
        "Theorem 3.6",
        "On text, r_opt is the rate with the best clean log-likelihood",
        "08",
        "LSA features, every noise rate, last: clean NLL of the best other rate less that of r_opt",
        margin=0.02,
    ),
    Claim(
        "table3-flat",
        "Table 3",
        "At r_opt accuracy falls from ε = 0 to .4 by no more than the paper's 1.8 points and one",
        "08",
        "LSA features, best on test: .028 (the paper's fall and a point) less the fall at r_opt",
        margin=0.0,
    ),
    Claim(
        "table3-positive",
        "Table 3",
        "Positive rates hurt at every noise rate",
        "08",
        "LSA features, every noise rate, best on test: CE less r = .2, and less r = .4",
    ),
    Claim(
        "table5-nls",
        "Table 5",
        "On human noise, NLS beats LS, CE and the robust losses",
        "09",
        f"CIFAR-10N worse, {_NET}, best on test: the best of three NLS rates less the best candidate of CE, LS, BLC, "
        "FLC, PL and F-div",
        named=FIRST_LOOK,
        parts=6,
    ),
    Claim(
        "human-text-nls",
        "this project",
        "On human labels of text, NLS beats CE and LS",
        "09",
        "Best on test: the best of three NLS rates less CE, and less the best of three LS rates",
    ),
    Claim(
        "human-text-ropt",
        "this project",
        "On human labels of text, r_opt of the average noise rate helps",
        "09",
        "Best on test: r = −.36 less CE",
    ),
    Claim(
        "human-text-T",
        "Patrini et al. 2017",
        "On human labels of text, correction with an estimated T beats every rate",
        "09",
        "Best on test: forward correction with T estimated less the best rate",
    ),
    Claim(
        "human-text-fdiv",
        "Wei and Liu 2021",
        "On human labels of text, f-divergences beat every rate",
        "09",
        "Best on test: total variation less the best rate",
    ),
    Claim(
        "human-text-ls",
        "Lukasik et al. 2020",
        "On human labels of text, label smoothing beats CE",
        "09",
        "Best on test: the best of three LS rates less CE",
    ),
    Claim("table5-clothing", "Table 5", "On Clothing1M, NLS ranks 4th of 33", "09"),
    Claim("table4", "Table 4", "NLS is competitive with nine robust methods on synthetic noise", "—"),
    Claim("bias-variance", "Appendix E", "On clean data, bias grows and variance falls with a positive rate", "—"),
]
