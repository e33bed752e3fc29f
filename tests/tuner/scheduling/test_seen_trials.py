from __future__ import annotations

from trainables.seeding import rng_for
from tuner.scheduling.seen_trials import Limits, SeenTrials

LIMITS = Limits(best=3, latest=5, running=2)


def seen_after(order: list[int], scores: dict[int, float | None]) -> SeenTrials:
    seen = SeenTrials(LIMITS)
    for number in scores:
        seen.start(number)
    for number in order:
        seen.end(number, scores[number])
    return seen


def test_few_trials_are_all_seen() -> None:
    seen = seen_after([0, 1, 2], {0: 0.5, 1: None, 2: 0.7, 3: None})
    assert seen.are_all
    assert seen.numbers == [0, 1, 2, 3]


def test_of_many_the_best_the_latest_and_the_latest_that_run() -> None:
    seen = seen_after(list(range(10)), {0: 0.1, 1: 0.9, 2: 0.8, 3: 0.9} | dict.fromkeys(range(4, 14), 0.2))
    assert not seen.are_all
    assert seen.numbers == [1, 2, 3, 5, 6, 7, 8, 9, 12, 13]


def test_one_that_was_stopped_early_is_never_among_the_best() -> None:
    seen = seen_after(list(range(9)), dict.fromkeys(range(9)))
    assert seen.numbers == [4, 5, 6, 7, 8]


def test_one_that_failed_is_not_seen() -> None:
    seen = seen_after([0], {0: 0.5, 1: 0.5})
    seen.leave_out(1)
    assert seen.numbers == [0]


def test_the_order_in_which_they_ended_makes_no_difference() -> None:
    rng = rng_for(0, "order")
    scores = {number: float(round(score, 1)) for number, score in enumerate(rng.random(40))}
    orders = [[int(number) for number in rng.permutation(40)] for _ in range(5)]
    assert {tuple(seen_after(order, scores).numbers) for order in orders} == {
        tuple(seen_after(list(range(40)), scores).numbers)
    }
