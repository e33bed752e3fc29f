"""The command line of a search: what overrides what."""

from __future__ import annotations

from pathlib import Path

from tests.tuner.tiny import write_yaml
from tuner.search import parser, resolve_space


class TestCommandLine:
    def test_warm_start_is_repeatable_and_overrides_the_file(self, tmp_path: Path) -> None:
        file = write_yaml(tmp_path, search__warm_start="one")
        arguments = ["--space", str(file), "--warm-start", "two", "--warm-start", "three/now"]
        assert resolve_space(parser().parse_args(arguments)).search.warm_start == ("two", "three/now")
        assert resolve_space(parser().parse_args(arguments[:2])).search.warm_start == ("one",)

    def test_flags_override_the_file(self, tmp_path: Path) -> None:
        file = write_yaml(tmp_path)
        arguments = ["--space", str(file), "--trials", "9", "--name", "other", "--tracking-uri", "sqlite:///x.db"]
        space = resolve_space(parser().parse_args([*arguments, "--set", "training.num_steps=7"]))
        assert (space.name, space.search.trials, space.tracking.uri) == ("other", 9, "sqlite:///x.db")
        assert space.fixed["training"]["num_steps"] == 7

    def test_smoke_shrinks_what_the_other_flags_made(self, tmp_path: Path) -> None:
        arguments = ["--space", str(write_yaml(tmp_path)), "--smoke", "--name", "other", "--trials", "9"]
        space = resolve_space(parser().parse_args(arguments))
        assert (space.name, space.search.trials) == ("other-smoke", 2)
