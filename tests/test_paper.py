"""The published numbers as printed, and the list of claims."""

import numpy as np

from nls.report.paper import CLAIMS, TABLE1_BEST_RATES, published


def test_table1_is_complete_and_splice_counts_459_rows():
    cells = published("table1")
    assert len(cells) == 2 * 11 * 5
    splice = cells.loc[cells["dataset"] == "splice", "accuracy"]
    hits = (splice * 459).round() / 459
    assert (hits.round(3) == splice).all()


def test_percentages_become_shares():
    for table in ("table2", "table3", "table5"):
        assert published(table)["accuracy"].between(0, 1).all()
    assert published("table2")["std"].max() < 0.05


def test_the_last_row_names_rates_of_the_table():
    rates = set(published("table1")["rate"])
    assert len(TABLE1_BEST_RATES) == 10
    assert all(low in rates and high in rates and low <= high for low, high in TABLE1_BEST_RATES.values())


def test_claims_have_unique_ids_and_a_notebook():
    assert len({c.id for c in CLAIMS}) == len(CLAIMS)
    assert {c.notebook for c in CLAIMS} <= {*(f"{i:02}" for i in range(1, 12)), "—"}
    assert not np.any([c.text.endswith(".") for c in CLAIMS])
