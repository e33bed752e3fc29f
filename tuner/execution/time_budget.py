"""Scope of a search with `search.minutes`: timed on the machines where it will run, before its first event."""

from __future__ import annotations

import time

from trainables.errors import BadInput, Problem
from tuner.cluster.gpu_probe import known_share
from tuner.cluster.tasks import WorkerFailed
from tuner.cluster.time_probe import probe_step_times
from tuner.cluster.trainable import ImagesByKey
from tuner.execution.observer import Observer
from tuner.execution.run_context import RunContext
from tuner.experiment.checks import Plan
from tuner.record.history import SearchHistory
from tuner.scheduling.minutes import TimeBudget
from tuner.scheduling.scope import TRAINING_LENGTHS, Scope, scope_of


def timed_scope(
    context: RunContext[SearchHistory], plan: Plan, images: ImagesByKey, observer: Observer, started_s: float
) -> Scope | None:
    """Times a few steps, fits the plan into `search.minutes`, counted from `started_s`, and says what is done in them.

    Returns None without minutes. A resumed search has all of them again; its trainings stay as long as they were.

    Raises:
        BadInput: if a search without a complete trial has too few minutes for anything, or no step can be timed.
    """
    if plan.space.search.minutes is None:
        return None
    observer.enter_phase("timing a training")
    config = next(plan.space.boundary_configs())
    asked_s = time.monotonic()
    history = context.journal.history
    share, is_measured = known_share(context.share, history), bool(history.shares_measured)
    try:
        times, waited_s = probe_step_times(config, images, plan.num_folds, share, is_measured, observer.say)
    except WorkerFailed as failed:
        problem = Problem("search.minutes", "a training of which some steps can be timed", str(failed))
        raise BadInput(problem).in_file(plan.space.file) from failed
    startup_s = max(0.0, time.monotonic() - asked_s - waited_s - times.timed_s)

    def budget_of(plan: Plan) -> TimeBudget:
        return TimeBudget.of(plan, times, share.concurrency, started_s, startup_s)

    lengths = TRAINING_LENGTHS if context.journal.history.started is None else ()
    scope = scope_of(plan, budget_of, time.monotonic() - started_s, lengths)
    observer.deadline_s = started_s + scope.budget.limit_s
    if not context.journal.history.count("complete"):
        try:
            scope.forecast.check()
        except BadInput as bad:
            raise bad.in_file(plan.space.file) from None
    observer.say(str(scope))
    return scope
