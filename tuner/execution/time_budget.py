"""Time budget of a search with `search.minutes`: timed on the machines where it will run, before its first event."""

from __future__ import annotations

import time

from trainables.errors import BadInput
from tuner.cluster.time_probe import probe_step_times
from tuner.cluster.trainable import ImagesByKey
from tuner.execution.observer import Observer
from tuner.execution.run_context import RunContext
from tuner.experiment.checks import Plan
from tuner.record.history import SearchHistory
from tuner.scheduling.minutes import TimeBudget


def timed_budget(
    context: RunContext[SearchHistory], plan: Plan, images: ImagesByKey, observer: Observer, started_s: float
) -> TimeBudget | None:
    """Times a few steps and says what fits into `search.minutes`, counted from `started_s`. Returns None without them.

    A resumed search has all of its minutes again.

    Raises:
        BadInput: if a search without a complete trial has too few minutes for one.
    """
    if plan.space.search.minutes is None:
        return None
    observer.enter_phase("timing a training")
    config = next(plan.space.boundary_configs())
    asked_s = time.monotonic()
    times = probe_step_times(config, images, plan.num_folds, context.share)
    startup_s = max(0.0, time.monotonic() - asked_s - times.timed_s)
    budget = TimeBudget.of(plan, times, context.share.concurrency, started_s, startup_s)
    observer.deadline_s = started_s + budget.limit_s
    forecast = budget.forecast(time.monotonic() - started_s)
    if not context.journal.history.count("complete"):
        try:
            forecast.check()
        except BadInput as bad:
            raise bad.in_file(plan.space.file) from None
    observer.say(str(forecast))
    return budget
