"""Lines and live display of a search."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.tuner.tiny import add_trial, baseline_events, fold, search_journal, search_started, space_of
from trainables.results import RetrainResult
from trainables.training.progress import StepProgress
from tuner.cli.search_progress import MAX_ROWS, SearchProgress
from tuner.messages.invocation import command_line
from tuner.record.events import (
    BaselineFailed,
    BaselineFoldFinished,
    BaselineRetrainingFailed,
    FoldFinished,
    RetrainingFailed,
    RetrainingFinished,
    ShareGrown,
    TrialEnded,
    TrialStarted,
)
from tuner.record.live_steps import StepFile


class Screen:
    """A search's journal, and what a person sees of it."""

    def __init__(self, directory: Path, terminal: bool = False, **changes: Any) -> None:
        self.file = io.StringIO()
        console = Console(file=self.file, force_terminal=terminal, width=120, highlight=False)
        space = space_of(search__trials=4, **changes)
        self.progress = SearchProgress(console, space, num_trials=4, concurrency=2)
        self.journal = search_journal(directory)
        self.journal.listeners.append(self.progress)
        self.journal.append(search_started(space))

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


@pytest.fixture
def plain(tmp_path: Path) -> Screen:
    return Screen(tmp_path)


def test_plain_lines_for_folds_and_trials(plain: Screen) -> None:
    add_trial(plain.journal, 0, [0.5, 0.75])
    first, second = plain.lines
    assert first == "[0:00] trial-0000 fold 1/2: 0.5000 in 0:01"
    assert second == (
        "[0:00] trial-0000 val top-1 0.6250 (0.5000 0.7500)  gamma_fe=0.05 alpha=0.5"
        "  | 1/4 trials, 0 running, best 0.6250 (trial-0000), about 0:03 of trials left"
    )


def test_many_folds_are_said_in_short(tmp_path: Path) -> None:
    screen = Screen(tmp_path, search__repeats=3)
    add_trial(screen.journal, 0, [0.5, 0.75, 0.5, 0.75, 0.25, 1.0])
    assert "trial-0000 fold 5/6: 0.2500" in screen.lines[-2]
    assert "val top-1 0.6250 (6 from 0.2500 to 1.0000)" in screen.lines[-1]


def test_a_baseline_says_its_folds_and_its_score_and_is_in_every_summary(plain: Screen) -> None:
    for event in baseline_events("linear_probe", [0.5, 0.75]):
        plain.journal.append(event)
    assert plain.lines == [
        "[0:00] linear probe fold 1/2: 0.5000 in 0:01",
        "[0:00] linear probe: validation top-1 0.6250 (0.5000 0.7500)",
    ]
    add_trial(plain.journal, 0, [0.5, 0.75])
    assert "0 running, best 0.6250 (trial-0000), linear probe 0.6250, about" in plain.lines[-1]


def test_a_baseline_that_failed_says_why(plain: Screen) -> None:
    plain.journal.append(BaselineFailed(baseline="fine_tuning", reason="fold 1 collapsed"))
    assert plain.lines == ["[0:00] fine-tuning is left out: fold 1 collapsed"]


def test_a_retraining_of_a_baseline_says_whose_it_is(plain: Screen) -> None:
    for event in baseline_events("linear_probe", [0.5], [0.875]):
        plain.journal.append(event)
    plain.journal.append(BaselineRetrainingFailed(baseline="fine_tuning", seed=1, reason="diverged"))
    assert plain.lines[-2:] == [
        "[0:00] linear probe: retrained with seed 0: test top-1 0.8750 in 0:01",
        "[0:00] fine-tuning: retraining with seed 1 failed: diverged",
    ]


def test_a_baseline_is_shown_while_it_runs(tmp_path: Path) -> None:
    screen = Screen(tmp_path, terminal=True)
    started, first, second = baseline_events("fine_tuning", [0.5, 0.75])
    with screen.progress:
        for event in (started, first):
            screen.journal.append(event)
        screen.progress.console.print(screen.progress.render())
        assert "fold 2/2" in screen.file.getvalue()
        screen.journal.append(second)
    assert not screen.journal.history.baselines["fine_tuning"].missing_folds


def test_of_very_many_trials_a_screenful_is_listed(tmp_path: Path) -> None:
    screen = Screen(tmp_path, terminal=True)
    for number in range(MAX_ROWS + 3):
        add_trial(screen.journal, number, [0.5], "running")
    console = Console(file=io.StringIO(), width=200)
    console.print(screen.progress.render())
    said = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert said.count("fold 2/2") == MAX_ROWS
    assert "and 3 more" in said


def test_a_trial_that_was_stopped_says_why_and_is_counted(plain: Screen) -> None:
    add_trial(plain.journal, 0, [0.5], "pruned", "after 1 of 2 folds 0.0410 behind trial-0004, margin 0.0180")
    assert "trial-0000 pruned: after 1 of 2 folds 0.0410 behind trial-0004, margin 0.0180" in plain.lines[-1]
    assert "1/4 trials, 0 running, 1 stopped early" in plain.lines[-1]


def test_a_failure_says_why_and_is_counted(plain: Screen) -> None:
    add_trial(plain.journal, 0, [], "failed", "fold 1 diverged: target_label is not finite at step 3")
    assert "trial-0000 failed: fold 1 diverged: target_label is not finite at step 3" in plain.lines[-1]
    assert "1 failed" in plain.lines[-1]


def test_a_share_that_grows_is_said(plain: Screen) -> None:
    plain.journal.append(ShareGrown(gpus=0.5, trial=0, reason="CUDA out of memory"))
    assert plain.lines == ["[0:00] out of memory on its share of a GPU: 0.5 of one from now on"]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("reason", ["[/bold]", "got [red] and [a, b]", "[Errno 2] no [/x]"])
def test_square_brackets_are_text(tmp_path: Path, terminal: bool, reason: str) -> None:
    screen = Screen(tmp_path, terminal)
    with screen.progress:
        screen.journal.append(TrialStarted(trial=0, params={"data.root": reason}, source="sampler"))
        screen.journal.append(FoldFinished(trial=0, result=fold(1, 0.5)))
        screen.progress._live and screen.progress._live.refresh()
        screen.journal.append(TrialEnded(trial=0, state="failed", reason=reason))
    assert reason in screen.file.getvalue()


def test_retrainings_and_phases(plain: Screen) -> None:
    plain.progress.enter_phase("retraining the best configuration")
    plain.journal.append(RetrainingFinished(trial=0, result=RetrainResult(1, 0.875, 75.0, [], {})))
    plain.journal.append(RetrainingFailed(trial=0, seed=2, reason="diverged: feature is not finite at step 2"))
    assert plain.lines == [
        "[0:00] retraining the best configuration",
        "[0:00] retrained with seed 1: test top-1 0.8750 in 1:15",
        "[0:00] retraining with seed 2 failed: diverged: feature is not finite at step 2",
    ]


def test_long_lines_stay_whole(plain: Screen) -> None:
    plain.progress.say("x" * 500)
    plain.progress.show(["y" * 500])
    assert len(plain.lines) == 2


def test_on_a_terminal_lines_end_between_words_and_commands_stay_whole(tmp_path: Path) -> None:
    screen = Screen(tmp_path, terminal=True)
    screen.progress.say("word " * 40)
    assert max(map(len, screen.lines)) <= 120
    assert screen.lines[1].startswith(" " * len("[0:00] ") + "word")
    whole = f"go on with: {command_line('search', '--resume', 'x' * 60, 'y' * 60)}"
    screen.progress.say(whole)
    assert screen.lines[-1] == f"[0:00] {whole}"


def test_a_trial_does_not_repeat_what_the_live_display_shows(tmp_path: Path) -> None:
    screen = Screen(tmp_path, terminal=True)
    lines: list[str] = []
    screen.progress.on_line = lines.append
    with screen.progress:
        add_trial(screen.journal, 0, [0.5, 0.75])
    assert lines == ["[0:00] trial-0000 val top-1 0.6250 (0.5000 0.7500)  gamma_fe=0.05 alpha=0.5"]


def test_no_escape_codes_away_from_a_terminal(plain: Screen) -> None:
    with plain.progress:
        add_trial(plain.journal, 0, [0.5, 0.5])
    assert "\x1b" not in plain.file.getvalue()


def test_a_terminal_has_a_live_display(tmp_path: Path) -> None:
    screen = Screen(tmp_path, terminal=True)
    with screen.progress as progress:
        progress.enter_phase("searching")
        add_trial(screen.journal, 0, [0.5, 0.75])
        add_trial(screen.journal, 1, [0.25], "running")
        assert progress._live is not None
        progress._live.refresh()
    shown = screen.file.getvalue()
    for words in ("searching", "1/4 trials", "1 running", "best 0.6250", "trial-0001", "fold 2/2", "left"):
        assert words in shown


def test_others_can_show_the_same(plain: Screen) -> None:
    lines: list[str] = []
    changes: list[str] = []
    plain.progress.on_line = lines.append
    plain.progress.on_change = lambda: changes.append(plain.progress.summary())
    plain.progress.enter_phase("searching")
    add_trial(plain.journal, 0, [0.5, 0.75])
    assert lines == plain.lines
    assert len(changes) == 5  # the phase, and four events
    assert changes[-1].startswith("1/4 trials, 0 running, best 0.6250")


class TestTimeLeft:
    def test_is_unknown_before_the_first_fold(self, plain: Screen) -> None:
        assert plain.progress.seconds_left() is None

    def test_is_the_mean_of_the_folds_over_what_runs_at_once(self, plain: Screen) -> None:
        plain.journal.append(TrialStarted(trial=0, params={}, source="sampler"))
        plain.journal.append(FoldFinished(trial=0, result=fold(1, 0.5, duration_s=10)))
        plain.journal.append(FoldFinished(trial=0, result=fold(2, 0.5, duration_s=20)))
        assert plain.progress.seconds_left() == pytest.approx(6 * 15 / 2)

    def test_does_not_wait_for_folds_of_trials_that_ended_early(self, plain: Screen) -> None:
        add_trial(plain.journal, 0, [0.5], "failed")
        assert plain.progress.seconds_left() == pytest.approx(6 * 1 / 2)

    def test_knows_that_racing_stops_some_early(self, plain: Screen) -> None:
        add_trial(plain.journal, 0, [0.5, 0.5])
        add_trial(plain.journal, 1, [0.5], "pruned")
        assert plain.progress.seconds_left() == pytest.approx(2 * 1.5 / 2)  # two trials of one and a half folds

    @pytest.mark.parametrize(("num_trials", "left"), [(None, "1:40"), (4, "0:03 of trials")])
    def test_is_at_most_the_rest_of_the_minutes(
        self, plain: Screen, monkeypatch: pytest.MonkeyPatch, num_trials: int | None, left: str
    ) -> None:
        monkeypatch.setattr("time.monotonic", lambda: 1000.0)
        plain.progress.num_trials = num_trials
        plain.progress.deadline_s = 1100.0
        add_trial(plain.journal, 0, [0.5, 0.75])
        assert plain.progress.summary().endswith(f"about {left} left")
        plain.progress.deadline_s = 1002.0
        of = left.partition(" ")[2]
        assert plain.progress.summary().endswith(f"about {f'0:02 {of}'.strip()} left")

    def test_without_a_limit_of_trials_the_bar_is_of_time(self, plain: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
        plain.progress.num_trials = None
        plain.progress.deadline_s = plain.progress._started_s + 200.0
        monkeypatch.setattr("time.monotonic", lambda: plain.progress._started_s + 50.0)
        add_trial(plain.journal, 0, [0.5, 0.75])
        assert "1 trials, 0 running" in plain.progress.summary()
        bar = plain.progress._bar()
        assert (bar.total, bar.completed) == pytest.approx((200.0, 50.0))

    def test_is_nothing_at_the_end(self, plain: Screen) -> None:
        for number in range(4):
            add_trial(plain.journal, number, [0.5, 0.5])
        assert plain.progress.seconds_left() is None


def test_the_last_line_of_the_live_display_has_room_for_an_echo(tmp_path: Path) -> None:
    screen = Screen(tmp_path, terminal=True)
    add_trial(screen.journal, 0, [0.5], "running")
    console = screen.progress.console
    *above, bar = console.render_lines(screen.progress.render(), pad=False)
    assert sum(segment.cell_length for segment in bar) == console.width - len("^C^C")
    assert above


def test_the_objective_is_said_and_top1_beside_it(tmp_path: Path) -> None:
    screen = Screen(tmp_path, search__objective="log_loss")
    for event in baseline_events("linear_probe", [0.5, 0.75]):
        screen.journal.append(with_loss(event) if isinstance(event, BaselineFoldFinished) else event)
    assert screen.lines[-2:] == [
        "[0:00] linear probe fold 1/2: 0.4000 in 0:01",
        "[0:00] linear probe: validation log loss 0.4000 (0.4000 0.4000), top-1 0.6250",
    ]
    screen.journal.append(TrialStarted(trial=0, params={"method.gamma_fe": 0.05}, source="sampler"))
    for k in (1, 2):
        screen.journal.append(with_loss(FoldFinished(trial=0, result=fold(k, 0.75)), 0.25))
    screen.journal.append(TrialEnded(trial=0, state="complete"))
    assert "trial-0000 fold 1/2: 0.2500 in 0:01" in screen.lines[-2]
    assert "trial-0000 val log loss 0.2500 (0.2500 0.2500), top-1 0.7500" in screen.lines[-1]
    assert "best 0.2500 (trial-0000), linear probe 0.4000, about" in screen.lines[-1]


def with_loss(event: Any, loss: float = 0.4) -> Any:
    return event.model_copy(update={"result": replace(event.result, metrics={"log_loss": loss})})


def test_the_steps_of_trainings_are_live(tmp_path: Path) -> None:
    screen = Screen(tmp_path / "run", terminal=True)
    screen.progress.live_steps = tmp_path / "steps"
    progress = StepProgress(step=30, num_steps=80, steps_per_epoch=10, loss=0.5, examples_per_s=210.0, left_s=7.0)
    StepFile(tmp_path / "steps", "trial-0000 fold 1").write(progress)
    screen.progress.console.print(screen.progress.render())
    said = " ".join(screen.file.getvalue().split())
    assert "trial-0000 fold 1" in said
    assert "step 30/80, epoch 3.0/8.0, loss 0.5000, 210 examples/s, 0:07 left" in said
