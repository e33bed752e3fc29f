"""A training says how far it is, to whoever listened when it began."""

from __future__ import annotations

import pytest

from tests.trainables.tiny import CPU
from tests.trainables.tiny_trials import trial_of
from trainables.data.images import LabelledImages
from trainables.training import progress
from trainables.training.progress import PERIOD_S, StepProgress, progress_to
from trainables.trial import Training

pytestmark = pytest.mark.usefixtures("built")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[StepProgress]:
    """What is said; every look at the clock is half a second after the one before."""
    now_s = 0.0

    def monotonic() -> float:
        nonlocal now_s
        now_s += 0.5
        return now_s

    monkeypatch.setattr(progress.time, "monotonic", monotonic)
    return []


def test_reports_at_most_once_a_period(images: LabelledImages, heard: list[StepProgress]) -> None:
    with progress_to(heard.append):
        training = Training(trial_of(num_steps=12), images, 0, CPU)
    training.run()  # outside of the block: the listener is that of its beginning
    assert [each.step for each in heard] == [4, 8, 12]
    first = heard[0]
    assert (first.num_steps, first.steps_per_epoch) == (12, 3)
    assert first.examples_per_s == pytest.approx(4 * 8 / PERIOD_S)
    assert first.left_s == pytest.approx(8 * PERIOD_S / 4)


def test_the_loss_is_the_sum_of_its_terms(images: LabelledImages, heard: list[StepProgress]) -> None:
    with progress_to(heard.append):
        training = Training(trial_of(num_steps=4), images, 0, CPU)
    training.run()
    terms = training.fit.history.terms
    (said,) = heard
    minimised = terms.keys() - training.fit.method.diagnostics.keys()
    assert said.loss == pytest.approx(sum(terms[name][-1] for name in minimised))
    assert "source_label_excess" in terms


def test_without_a_listener_nothing_is_measured(images: LabelledImages, heard: list[StepProgress]) -> None:
    with progress_to(heard.append):
        pass
    Training(trial_of(num_steps=12), images, 0, CPU).run()
    assert heard == []
