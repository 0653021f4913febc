"""Which notebook shows which tables, and with how many seeds by default, the fresh ones apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..checks import check_integer
from ..lab.runs import Run
from ..lab.tables import FRESH_SEEDS, table_runs


@dataclass(frozen=True)
class Shown:
    """A table that a notebook shows, and the parameter that says for how many seeds.

    With `part` it takes hours: the profiles of `WHOLE` train it, the others a part of it, for one seed (and without
    `slice` nothing), and show the committed records.
    """

    table: str
    seeds: int
    parameter: str = "SEEDS"
    part: bool = False
    slice: bool = True


WHOLE = ("medium", "paper")
PLAN = {
    "04_table1_uci": (Shown("table1", 20),),
    "05_two_dimensions": (Shown("two_dimensions", 100),),
    "06_connections": (Shown("connections", 20),),
    "07_table2_cifar": (Shown("table2", 5, part=True),),
    "08_table3_ag_news": (Shown("table3", 20), Shown("text_checks", 5, "CHECK_SEEDS")),
    "09_table5_real_noise": (Shown("table5", 5, part=True), Shown("human_text", 20, "TEXT_SEEDS")),
    "10_why_negative_rates": (
        *(Shown(f"mechanism_{name}", 5, part=True) for name in ("shift", "threshold", "classes", "sgd")),
        Shown("mechanism_gain", 6, "GAIN_SEEDS", part=True),
        Shown("mechanism_votes", 10, "VOTE_SEEDS", part=True),
    ),
    "11_choose_your_rate": (
        Shown("choose", 8, part=True),
        Shown("choose_further", 8, "FURTHER_SEEDS", part=True, slice=False),
    ),
}


def runs(notebook: str, profile: str, parameters: Mapping[str, Any]) -> list[Run]:
    """What a notebook reads records of at a profile; none if it trains nothing."""
    found = []
    for shown in PLAN.get(notebook, ()):
        seeds = check_integer(shown.parameter, parameters.get(shown.parameter, shown.seeds), 1)
        if not shown.part or profile in WHOLE:
            found += table_runs(shown.table, profile, [*range(seeds), *FRESH_SEEDS.get(shown.table, ())])
        if shown.part and shown.slice:
            found += table_runs(shown.table, "smoke" if profile == "smoke" else "quick", [0])
    return found
