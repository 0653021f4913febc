"""Ours beside theirs: the published numbers, tables, claims with verdicts, figures. Shows records; trains nothing."""

from .claims import VERDICTS, Part, check, detectable, holm, judge, paired, part, save_claims, scoreboard, span
from .figures import (
    CE_COLOUR,
    LS_COLOUR,
    NLS_COLOUR,
    PAPER_COLOUR,
    RATE_LABEL,
    home,
    noise_palette,
    rate_axis,
    rate_colour,
    rate_lines,
    rate_position,
    save_figure,
    style,
)
from .tables import (
    COLOURS,
    PROTOCOLS,
    at,
    best_of,
    best_rate,
    chosen_on_noisy_labels,
    claims_table,
    conclude,
    flat,
    html_table,
    markdown_board,
    rate_table,
    say,
    show,
    split_seeds,
    summary,
    tied_with_best,
    user_row,
    verdict_table,
)
