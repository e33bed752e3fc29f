"""No text of a record keeps a password on its way into a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.reports.searches import fold
from trainables.frozen import Frozen
from tuner.record.directory import RunDirectory
from tuner.record.environment import Environment
from tuner.record.events import EarlierTrial, FoldFinished, SearchEnded, TrialStarted, WarmStarted
from tuner.reports.redacted_record import redacted, redacted_environment

SECRET = "http://robot:hunter2@host:5000"
SHOWN = "http://host:5000"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (SearchEnded(outcome="failed", why=SECRET), SearchEnded(outcome="failed", why=SHOWN)),
        (
            TrialStarted(trial=0, params={"data.root": SECRET}, source="sampler", attrs={"x": [{"y": SECRET}]}),
            TrialStarted(trial=0, params={"data.root": SHOWN}, source="sampler", attrs={"x": [{"y": SHOWN}]}),
        ),
        (
            WarmStarted(trials=(EarlierTrial(origin=SECRET, params={}, state="failed"),), notes=(SECRET,)),
            WarmStarted(trials=(EarlierTrial(origin=SHOWN, params={}, state="failed"),), notes=(SHOWN,)),
        ),
        (FoldFinished(trial=0, result=fold(1, 0.5)), FoldFinished(trial=0, result=fold(1, 0.5))),
    ],
)
def test_every_text_of_an_event_is_redacted_at_any_depth(event: Frozen, expected: Frozen) -> None:
    time_s = {"time_s": 1.0}
    assert redacted(event.model_copy(update=time_s)) == expected.model_copy(update=time_s)


def test_an_environment_is_redacted_and_may_be_missing(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert redacted_environment(directory) == Environment()
    Environment(command=f"search --tracking-uri {SECRET}", packages={"torch": "2.9"}).write(directory)
    expected = Environment(command=f"search --tracking-uri {SHOWN}", packages={"torch": "2.9"})
    assert redacted_environment(directory) == expected
