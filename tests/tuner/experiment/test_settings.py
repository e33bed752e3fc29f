from __future__ import annotations

import pytest
from pydantic import ValidationError

from tuner.experiment.settings import DEFAULT_NUM_TRIALS, SearchSettings


class TestTrials:
    def test_have_a_default_where_nothing_else_ends_the_search(self) -> None:
        assert SearchSettings().trials == SearchSettings(trials=None).trials == DEFAULT_NUM_TRIALS
        assert SearchSettings(timeout_s=60).trials == DEFAULT_NUM_TRIALS  # as it is on top of them

    def test_are_open_where_minutes_end_it(self) -> None:
        assert SearchSettings(minutes=30).trials is None
        assert SearchSettings(minutes=30, trials=4).trials == 4

    def test_read_back_from_their_record(self) -> None:
        for settings in (SearchSettings(), SearchSettings(minutes=30), SearchSettings(minutes=30, trials=4)):
            assert SearchSettings.model_validate(settings.model_dump(mode="json")) == settings

    def test_that_are_open_take_every_place_but_none_ahead(self) -> None:
        settings = SearchSettings(minutes=30, repeats=2)
        assert settings.folds_at_once(5, None) == 5
        assert not settings.takes_folds_ahead(5, None)
        assert SearchSettings(minutes=30, folds_in_parallel=True).takes_folds_ahead(5, None)


def test_folds_at_once_are_those_of_every_deal() -> None:
    settings = SearchSettings(folds=3, repeats=2, trials=1)
    assert settings.num_trial_folds == 6
    assert settings.folds_at_once(9, 1) == 6


def test_minutes_are_more_than_none() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        SearchSettings(minutes=0)
