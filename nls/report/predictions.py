"""What this project predicts, of negative rates in notebook 10 and of its advice in 11, and all claims together.

The comparisons and their margins were fixed before the records of the tables `mechanism_*` and `choose*` were made, but
for what `named` says; and the interval of `gain` became a jackknife where a bootstrap had been named, before
its records were looked at. Trials on seeds from 1000 on, which no table uses, set steps and learning rates.
"""

from .paper import CLAIMS as PAPER_CLAIMS
from .paper import FIRST_LOOK, Claim


def _predicted(
    id: str, text: str, primary: str, margin: float, equal: bool = False, named: str = "before its records"
) -> Claim:
    return Claim(id, "this project", text, "10", primary, margin, equal, named)


PREDICTIONS = [
    Claim(
        "one-identity",
        "Lemire Paquin et al. 2026",
        "The label enters through the unhinged loss alone, at every rate",
        "10",
    ),
    Claim(
        "noise-is-smoothing", "Theorem 3.6, rewritten", "Symmetric noise is smoothing, and on the axis s both add", "10"
    ),
    _predicted(
        "shift",
        "On the axis s the best rates of all noise rates lie closer together, where a network cannot memorise",
        "AG News, 200 steps: the spread over four noise rates of the rate with the least clean NLL, on −log(1 − r) "
        "less on s; the noise rates are 1.5 apart, half of that matters",
        0.75,
    ),
    _predicted(
        "shift-same",
        "Noisy labels at r and clean labels at the rate of the same s ≥ 0 give the same likelihood",
        "AG News, 200 steps, three noise rates: clean NLL of noisy less clean labels, mean over s from 0 to .5: equal",
        0.05,
        equal=True,
    ),
    _predicted(
        "threshold",
        "Memorising falls off near s = 0, whatever the data",
        "Six tabular sets, 5,000 steps of Adam: the s at which the share of wrong labels reproduced crosses half of "
        "its range, mean of three noise rates, and 0: equal",
        0.3,
        equal=True,
    ),
    _predicted(
        "threshold-onset",
        "Memorising begins near s = 0, whatever the data",
        "Six tabular sets, 5,000 steps of Adam, seeds from 1 on: the s at which the share of wrong labels reproduced "
        "is a tenth of its range above its least, mean of three noise rates, and 0: equal",
        0.3,
        equal=True,
        named="after a look at seed 0, before the seeds that score it",
    ),
    _predicted(
        "threshold-length",
        "Longer training memorises more above the threshold than below it",
        "Mean of the six sets, from 1,000 to 5,000 steps: growth of the share reproduced at .25 ≤ s ≤ 1.25 less that "
        "at −1.25 ≤ s ≤ −.25",
        0.05,
    ),
    _predicted(
        "threshold-below",
        "Below the threshold, longer training memorises no more",
        "Mean of the six sets: the share reproduced at −1.25 ≤ s ≤ −.25 after 5,000 and after 1,000 steps: equal",
        0.05,
        equal=True,
    ),
    _predicted(
        "threshold-influence",
        "How much rows move their own logits says where the threshold is",
        "Two-class sets and noise rates: distance of the crossing from 0, less its distance from the s* of the "
        "measured self-influence",
        0.05,
    ),
    _predicted(
        "threshold-sgd",
        "The threshold is not the optimiser's: SGD with the scale 1 − r taken out has it where Adam has",
        "Twonorm, Splice, breast cancer, noise of shift 1: the crossing by matched SGD and by Adam: equal",
        0.3,
        equal=True,
    ),
    _predicted(
        "threshold-accuracy",
        "Below the threshold the last accuracy is higher than above it, where class means are good",
        "Twonorm, Splice, breast cancer, spambase, waveform, noise of shift 1: last accuracy at s = −.5 less at s = .5",
        0.02,
    ),
    _predicted(
        "ten-classes",
        "With ten classes from scratch it is the other way round",
        "Digits, noise of shift 1: last accuracy at s = .5 less at s = −.5",
        0.02,
    ),
    _predicted(
        "gain",
        "Strongly negative rates win over cross entropy where classifying by class means does",
        "22 data sets × 3 noise rates, last: Spearman's correlation of (r = −8 less CE) and (class means of inputs "
        "less CE of other seeds), jackknife over data sets",
        0.5,
    ),
    _predicted(
        "gain-rivals",
        "That predicts it better than a linear probe, and than stopping cross entropy early",
        "The correlation with class means less that with (linear probe less CE), and less that with (CE stopped by "
        "noisy labels less CE)",
        0.1,
    ),
    _predicted(
        "gain-features",
        "Class means of tangent features predict it better than those of inputs",
        "The correlation with class means of tangent features at the start less that with those of inputs",
        0.1,
    ),
    _predicted(
        "votes",
        "Without the votes of fitted examples there is no gain",
        "Five sets, noise of shift 1.5, last accuracy: r = −8 less r = −8 without these votes, and the same at equal "
        "gradient norm",
        0.05,
    ),
    _predicted(
        "votes-dose",
        "Half of each vote keeps a part of it",
        "Five sets, last accuracy: half of each vote less none",
        0.02,
    ),
    _predicted(
        "votes-clean",
        "The votes of rightly labelled rows are all that counts",
        "Five sets, last accuracy: with the votes of rightly labelled rows only, and with all: equal",
        0.02,
        equal=True,
    ),
    _predicted(
        "votes-flipped",
        "The votes of mislabelled rows alone do worse than none",
        "Five sets, last accuracy: no votes less the votes of mislabelled rows only",
        0.02,
    ),
    _predicted(
        "votes-alone",
        "Votes alone, with misfit examples at their cross-entropy weight, keep more than half of the gain",
        "Five sets, last accuracy: votes alone less the middle between all and no votes",
        0.02,
    ),
    _predicted(
        "unlearning",
        "From a network that has memorised noisy images, every negative rate un-learns",
        "CIFAR-10, whitened_cnn, symmetric .6, from the last epoch, last, r = −1: accuracy less that of the "
        "checkpoint, and the share of wrong labels that the checkpoint reproduces less that after r = −1",
        0.02,
        named=FIRST_LOOK,
    ),
]

# What `nls.choose_rate` is to be worth, in notebook 11: fixed before the records of table `choose`.
ADVICE = [
    Claim(
        "advice-regret",
        "this project",
        "Cross-validating the rate on all noisy labels loses at most half of what one hold-out loses",
        "11",
        "Ten sets × three noise rates: half the regret of one 15 % hold-out (rate and stop) less that of the rate "
        "chosen by 5 folds (last step), both against the fixed rate that is best in hindsight; mean over seeds, "
        "interval over data sets",
        0.0,
    ),
    Claim(
        "advice-ce",
        "this project",
        "It is on no data set worse than cross entropy by more than one point",
        "11",
        "Each of ten sets, mean of three noise rates: accuracy of the rate chosen by 5 folds less that of cross "
        "entropy, both at the last step, plus the margin of non-inferiority, .01",
        0.0,
    ),
    # Of table `choose_further`, after `choose` had shown that stopping counts, and before a run of the new sets.
    Claim(
        "advice-new-ce",
        "this project",
        "On data sets that it was not built on, the rate that it chooses beats cross entropy on average",
        "11",
        "Nine unused sets × three noise rates: accuracy of the rate chosen by 5 folds less that of cross entropy, both "
        "at the last step; mean over seeds, interval over data sets",
        0.01,
    ),
    Claim(
        "advice-new-holdout",
        "this project",
        "There 5 folds that choose rate and stop beat one hold-out that chooses both",
        "11",
        "Nine unused sets × three noise rates: accuracy of rate and stop by 5 folds less that of rate and stop by one "
        "15 % hold-out; mean over seeds, interval over data sets",
        0.005,
    ),
    Claim(
        "advice-new-set",
        "this project",
        "There the rates that it does not show to be worse hold the best one, and it says so where that is all of them",
        "11",
        "Nine unused sets × three noise rates: share of seeds whose set of rates not shown worse (95 %, one partition "
        "of 5 folds) holds the fixed rate that is best in hindsight, less .95, plus the margin, .03; interval over "
        "data sets",
        0.0,
    ),
]
CLAIMS = [*PAPER_CLAIMS, *PREDICTIONS, *ADVICE]
