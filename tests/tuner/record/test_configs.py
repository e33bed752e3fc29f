from __future__ import annotations

from pathlib import Path

from tests.tuner.tiny import record, space_of
from tuner.experiment.baselines import baseline_config
from tuner.experiment.tree import flatten
from tuner.record.baselines import BaselineRecord
from tuner.record.configs import config_of


def test_a_trials_is_that_of_its_point() -> None:
    space, params = space_of(), {"method.gamma_fe": 0.02, "method.alpha": 0.5}
    assert config_of(record(0, params=params), space) == space.trial_config(params)


def test_a_baselines_is_what_was_recorded_whatever_the_experiment_says_now() -> None:
    then = baseline_config(space_of(), "linear_probe")
    recorded = BaselineRecord("linear_probe", flatten(then.model_dump(mode="json")))
    assert config_of(recorded, space_of(training__batch_size=24)) == then


def test_a_baselines_data_may_have_been_moved(tmp_path: Path) -> None:
    data = {"dataset": "imagefolder", "size_px": 32}
    then, now = (space_of(data=data | {"root": str(tmp_path / place)}) for place in ("then", "now"))
    recorded = BaselineRecord("linear_probe", flatten(baseline_config(then, "linear_probe").model_dump(mode="json")))
    assert config_of(recorded, now) == baseline_config(now, "linear_probe")
