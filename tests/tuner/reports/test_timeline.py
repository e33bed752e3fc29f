"""When the trainings of a search were, in seconds of work."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.tuner.tiny import baseline_events, fold, search_started
from trainables.results import EnsembleResult, RetrainResult
from tuner.record.events import (
    EnsembleTested,
    Event,
    FoldAhead,
    FoldFinished,
    RetrainingFinished,
    RungReached,
    SearchEnded,
    TrialEnded,
    TrialStarted,
)
from tuner.record.history import SearchHistory
from tuner.record.scores import RungScore
from tuner.reports.timeline import Span, spans_of, timeline_plot, timeline_px, worked


def at(seconds: float, event: Event) -> Event:
    return event.model_copy(update={"time_s": seconds})


def started(seconds: float, trial: int) -> Event:
    return at(seconds, TrialStarted(trial=trial, params={}, source="sampler"))


def finished(seconds: float, trial: int, number: int, duration_s: float) -> Event:
    return at(seconds, FoldFinished(trial=trial, result=fold(number, 0.5, duration_s)))


def spans(*events: Event) -> list[Span]:
    return spans_of(events, SearchHistory.of(events))


def test_folds_end_with_their_events_and_pauses_are_no_time() -> None:
    found = spans(
        at(100.0, search_started()),
        started(100.0, 0),
        finished(110.0, 0, 1, 8.0),
        at(112.0, SearchEnded(outcome="interrupted", why="")),
        at(1000.0, search_started()),
        finished(1006.0, 0, 2, 5.0),
        at(1006.0, TrialEnded(trial=0, state="complete")),
    )
    assert found == [
        Span("trial-0000", "fold 1", "complete", 2.0, 10.0),
        Span("trial-0000", "fold 2", "complete", 13.0, 18.0),
    ]


def test_a_fold_that_was_trained_ahead_ended_when_it_was_trained() -> None:
    found = spans(
        at(0.0, search_started()),
        started(0.0, 3),
        at(5.0, FoldAhead(trial=3, result=fold(2, 0.5, 4.0))),
        finished(9.0, 3, 1, 9.0),
        finished(9.0, 3, 2, 4.0),
    )
    assert [(span.label, span.start_s, span.end_s) for span in found[:2]] == [
        ("fold 1", 0.0, 9.0),
        ("fold 2", 1.0, 5.0),
    ]


@pytest.mark.parametrize(
    ("last", "kind", "label"),
    [
        ([at(9.0, TrialEnded(trial=0, state="failed", reason="diverged"))], "failed", "diverged"),
        (
            [
                at(8.0, RungReached(trial=0, rung=RungScore(fold=2, step=4, share=0.5, val_top1=0.1))),
                at(9.0, TrialEnded(trial=0, state="pruned", reason="behind")),
            ],
            "pruned",
            "behind",
        ),
        ([at(9.0, SearchEnded(outcome="interrupted", why=""))], "running", "fold 2"),
    ],
)
def test_a_trial_that_was_left_in_a_fold_has_a_last_span(last: Sequence[Event], kind: str, label: str) -> None:
    found = spans(at(0.0, search_started()), started(1.0, 0), finished(4.0, 0, 1, 3.0), *last)
    assert found[0] == Span("trial-0000", "fold 1", kind, 1.0, 4.0)  # type: ignore[arg-type]
    assert found[1] == Span("trial-0000", label, kind, 4.0, 9.0)  # type: ignore[arg-type]


def test_a_trial_that_was_stopped_after_a_fold_has_none() -> None:
    stopped = at(5.0, TrialEnded(trial=0, state="pruned", reason="behind"))
    found = spans(at(0.0, search_started()), started(0.0, 0), finished(5.0, 0, 1, 5.0), stopped)
    assert [span.label for span in found] == ["fold 1"]


def test_baselines_and_retrainings_have_rows_of_their_own() -> None:
    events = [
        at(0.0, search_started()),
        *(at(2.0 + i, event) for i, event in enumerate(baseline_events("linear_probe", [0.5], [0.6]))),
        started(5.0, 1),
        finished(6.0, 1, 1, 1.0),
        at(6.0, TrialEnded(trial=1, state="complete")),
        at(9.0, RetrainingFinished(trial=1, result=RetrainResult(0, 0.5, 2.0, [], {}))),
        at(10.0, EnsembleTested(trial=1, result=EnsembleResult("weights", [0, 1], 0.5, 1.0))),
    ]
    found = spans(*events)
    assert [span.row for span in found] == [
        "linear probe",
        "linear probe, seed 0",
        "trial-0001",
        "trial-0001, seed 0",
        "ensemble",
    ]
    assert {span.kind for span in found} == {"baseline", "retraining", "complete"}


def test_bars_are_in_minutes_of_a_long_search_and_rows_from_above() -> None:
    shown = [Span("a <b>", "fold 1", "complete", 60.0, 120.0), Span("b", "x", "failed", 120.0, 600.0)]
    figure = timeline_plot(shown)
    complete, failed = figure.data
    assert (list(complete.base), list(complete.x), list(complete.y)) == ([1.0], [1.0], ["a &lt;b&gt;"])
    assert list(failed.x) == [8.0]
    assert figure.layout.xaxis.title.text == "minutes of work"
    assert timeline_plot(shown[:1]).layout.xaxis.title.text == "seconds of work"
    assert figure.layout.yaxis.autorange == "reversed"
    assert list(figure.layout.yaxis.categoryarray) == ["a &lt;b&gt;", "b"]
    assert timeline_px(shown) < timeline_px([Span(str(i), "", "complete", 0, 1) for i in range(500)]) < 4000


def test_work_begins_anew_with_each_command() -> None:
    times = [at(10.0, search_started()), at(15.0, search_started()), at(16.0, SearchEnded(outcome="finished", why=""))]
    assert [seconds for seconds, _ in worked(times)] == [0.0, 0.0, 1.0]
