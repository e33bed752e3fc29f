from __future__ import annotations

from pathlib import Path

from tests.groups import FOLDER, GROUPS, group_of

ROOT = Path(__file__).parents[1]


def test_every_module_is_in_one_group() -> None:
    named = [module for modules in GROUPS.values() for module in modules]
    assert sorted(named) == sorted(path.stem for path in (ROOT / FOLDER).glob("test_*.py"))


def test_a_group_is_that_of_the_module() -> None:
    assert group_of("tests/end_to_end/test_search.py::test_mlflow_has_the_search") == "searches"
    assert group_of("tests/end_to_end/test_cards.py::TestGrowth::test_a[1::2]") == "commands"
    alone = "tests/tuner/test_list.py::test_a[x]"
    assert group_of(alone) == alone
