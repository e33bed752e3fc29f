from __future__ import annotations

import pytest
from pydantic import ValidationError

from tuner.experiment.settings import (
    DEFAULT_NUM_TRIALS,
    ResourceSettings,
    SearchSettings,
    TrackingSettings,
    tracking_key,
)


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


@pytest.mark.parametrize("cpus", [1e-320, 1e-5, 1.5])
def test_ray_counts_in_ten_thousandths(cpus: float) -> None:
    with pytest.raises(ValidationError):
        ResourceSettings(cpus=cpus)
    assert ResourceSettings(cpus=1e-4, gpus=0).gpus == 0


def test_so_are_shares_of_a_gpu() -> None:
    with pytest.raises(ValidationError, match=r"a number of at least 0\.0001"):
        ResourceSettings(gpus=1e-5)


@pytest.mark.parametrize("name", ["team/pets", "a:b", "a@b", "", " ", "../x", "it's", "a\nb", "x" * 300])
def test_a_model_has_a_name_that_mlflow_and_its_uris_take(name: str) -> None:
    with pytest.raises(ValidationError, match="a name of letters, digits"):
        TrackingSettings(registered_model=name)
    for good in ("pets", "My pets 2", "catalog.schema.pets", "tiere-für-alle", None):
        assert TrackingSettings(registered_model=good).registered_model == good


def test_the_store_is_said_by_the_file_or_else_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    assert (tracking_key(None), tracking_key("sqlite:///x.db")) == ("MLFLOW_TRACKING_URI", "tracking.uri")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking_key(None) == "tracking.uri"


def test_an_empty_store_is_none() -> None:
    """As of `--tracking-uri "$URI"` where the variable is not set: not the store of the working folder."""
    with pytest.raises(ValidationError):
        TrackingSettings(uri="")
