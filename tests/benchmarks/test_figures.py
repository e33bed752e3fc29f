from __future__ import annotations

from itertools import cycle

import pytest

from benchmarks.figures import Figure, lines_in, paired_ratio, report


@pytest.mark.parametrize(
    ("figure", "line"),
    [
        (Figure("cost", 1.0, 1.15), "cost 1.000 1.15 ok"),
        (Figure("cost", 1.1501, 1.15), "cost 1.150 1.15 short"),
        (Figure("gain", 3.0, 3.0, at_least=True), "gain 3.000 3 ok"),
        (Figure("gain", 2.9, 3.0, at_least=True), "gain 2.900 3 short"),
        (Figure("nothing", float("nan"), 1.0), "nothing nan 1 short"),
        (Figure.failed("step"), "step - 0 failed"),
    ],
)
def test_a_line_a_figure(figure: Figure, line: str) -> None:
    assert str(figure) == line
    assert lines_in(f"something else\n{line}\nat last 1 2 ok then\n") == [line]


def test_the_exit_code_says_whether_all_are_met(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Figure("a", 1.0, 2.0), Figure("b", 3.0, 2.0)
    assert (report([good]), report([good, bad]), report([])) == (0, 1, 0)
    assert lines_in(capsys.readouterr().out) == [str(good), str(good), str(bad)]


def test_a_ratio_is_taken_pair_by_pair_and_in_turns() -> None:
    order = []

    def costing(name: str, *costs: float) -> float:
        order.append(name)
        return next(values[name])

    values = {"this": cycle([2.0, 30.0, 200.0]), "other": cycle([1.0, 10.0, 100.0])}
    # the machine slows down by ten each time, and slows both: the ratios are 2, 3, 2
    assert paired_ratio(lambda: costing("this"), lambda: costing("other"), pairs=3) == 2.0
    assert order == ["this", "other", "other", "this", "this", "other"]
