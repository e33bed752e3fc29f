from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from benchmarks import bench
from benchmarks.bench import BENCHMARKS, Benchmark, command_of, main


def saying(*lines: str, code: int = 0) -> list[str]:
    return [sys.executable, "-c", f"print({chr(10).join(lines)!r}); raise SystemExit({code})"]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Benchmark → what is run in its place."""
    commands: dict[str, list[str]] = {}
    monkeypatch.setattr(bench, "command_of", lambda benchmark, *_: commands[benchmark.module])
    monkeypatch.setattr(bench, "BENCHMARKS", [Benchmark(name) for name in ("one", "two", "three")])
    return commands


def test_all_figures_stand_at_the_end(commands: dict[str, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    commands["one"] = saying("chatter", "a 1.000 2 ok", "b 3.000 2 short", code=1)
    commands["two"] = saying("c 1.000 2 ok", "Traceback", code=3)
    commands["three"] = saying("skipped: no GPU")
    assert main([]) == 1
    _, _, end = capsys.readouterr().out.partition("All figures:\n")
    assert end.splitlines() == ["a 1.000 2 ok", "b 3.000 2 short", "c 1.000 2 ok", "two - 0 failed"]


def test_a_benchmark_that_raises_has_failed(commands: dict[str, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    commands |= {"one": saying(code=1), "two": saying("c 1.000 2 ok"), "three": saying()}
    assert main([]) == 1
    assert capsys.readouterr().out.endswith("\none - 0 failed\nc 1.000 2 ok\n")


def test_all_is_well(commands: dict[str, list[str]]) -> None:
    commands |= dict.fromkeys(("one", "two", "three"), saying("c 1.000 2 ok"))
    assert main([]) == 0


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.module)
@pytest.mark.parametrize("quick", [False, True])
def test_every_command_is_one_that_its_benchmark_takes(
    benchmark: Benchmark, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"benchmarks.{benchmark.module}")
    started = []
    monkeypatch.setattr(module, "report", lambda _: 0, raising=False)
    stand_in = "measure" if hasattr(module, "measure") else "space_of"
    monkeypatch.setattr(module, stand_in, lambda *_: started.append(benchmark) or sys.exit(0))
    with pytest.raises(SystemExit) as ended:
        module.main(command_of(benchmark, quick, Path("photos"))[5:])
    assert ended.value.code == 0
    assert started == [benchmark]


def test_what_takes_too_long_is_left_out_of_a_quick_run(
    commands: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "BENCHMARKS", [Benchmark("one"), Benchmark("two", quick=None)])
    commands |= {"one": saying("a 1.000 2 ok"), "two": saying("b 1.000 2 ok")}
    assert main(["--quick"]) == 0
    assert capsys.readouterr().out.endswith("All figures:\na 1.000 2 ok\n")
