"""The command line of a comparison."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuner.cli.test_arguments import CONTRACT
from tests.tuner.comparisons import ROWS, SEARCHED, comparison_of, write_yaml
from tuner import compare
from tuner.cli.dry_run import print_comparison
from tuner.comparison.comparison_experiment import check_comparison
from tuner.resources.share import Capacity


class TestCommandLine:
    def test_the_flags_are_those_of_the_search_but_for_its_trials(self) -> None:
        flags = {action.option_strings[-1]: action.metavar or "" for action in compare.parser()._actions}
        assert flags == {flag: takes for flag, takes in CONTRACT.items() if flag not in ("--trials", "--warm-start")}

    def test_a_dry_run_says_what_it_costs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tuner.cli.dry_run.this_machine", lambda: Capacity(2, 0))
        monkeypatch.setattr("ray.init", None)  # nothing is started
        comparison, screen = comparison_of(compare__rows=[*ROWS, SEARCHED]), io.StringIO()
        console = Console(file=screen, width=120, highlight=False)
        print_comparison(console, comparison, check_comparison(comparison), None)
        said = screen.getvalue()
        assert "3 rows × 2 columns × 2 seeds = 12 trainings, 24 steps; searches of 8 folds, 16 steps" in said
        assert "40 steps in all, about 20 one after the other" in said
        assert "searched: 2 trials × 2 folds" in said
        assert "2 trials at once" in said

    def test_bad_input_starts_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = write_yaml(tmp_path, compare__reference="none", tracking__directory=str(tmp_path / "experiments"))
        assert compare.main(["--space", str(file)]) == 2
        assert f"error: {file}:12: compare: expected a row's label" in capsys.readouterr().err
        assert not (tmp_path / "experiments").exists()
