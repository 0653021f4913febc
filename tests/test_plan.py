"""Which notebook shows which tables: the notebooks' own defaults, and that a sweep makes all that they look for."""

from pathlib import Path

import pytest

from nls.lab.tables import FRESH_SEEDS, TABLES
from nls.repro import batch, plan

NOTEBOOKS = {p.stem: p for p in (Path(__file__).parents[1] / "notebooks").glob("*.ipynb")}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_plan_has_the_notebooks_own_defaults(name):
    own = {k: v for k, v in batch.parameters_of(NOTEBOOKS[name]).items() if k.endswith("SEEDS")}
    assert own == {shown.parameter: shown.seeds for shown in plan.PLAN.get(name, ())}


def test_every_planned_notebook_is_there():
    assert plan.PLAN.keys() <= NOTEBOOKS.keys()
    assert all(shown.table in TABLES for tables in plan.PLAN.values() for shown in tables)


def test_parameters_and_profiles_reach_the_runs():
    few = plan.runs("04_table1_uci", "quick", {"SEEDS": 2})
    assert {r.seed for r in few} == {0, 1, *FRESH_SEEDS["table1"]} and {r.table for r in few} == {"table1"}
    assert {r.seed for r in plan.runs("04_table1_uci", "quick", {})} == {*range(20), *FRESH_SEEDS["table1"]}
    assert {r.regime for r in plan.runs("07_table2_cifar", "quick", {})} == {"quick"}
    assert {r.regime for r in plan.runs("07_table2_cifar", "medium", {})} == {"medium", "quick"}
    with pytest.raises(ValueError, match="SEEDS: expected an integer of at least 1, got 0"):
        plan.runs("04_table1_uci", "quick", {"SEEDS": 0})
    assert {r.table for r in plan.runs("09_table5_real_noise", "smoke", {})} == {"table5", "human_text"}
    assert plan.runs("01_generalized_label_smoothing", "quick", {}) == []
