from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_section import (
    IN_REHEARSAL,
    Section,
    card_bytes_in_use,
    drawn_images,
    driver_version,
    results_in,
    training,
)


def section(out: Path, device: str = "cpu", left_s: float = 100.0) -> Section:
    return Section("steps", torch.device(device), out, out, time.monotonic() + left_s)


def test_a_figure_is_a_line_at_once_and_one_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = section(tmp_path)
    ours.figure("busy", 0.5, 0.9, at_least=True)
    ours.value("step", 1.25, "ms")
    assert capsys.readouterr().out == "gpu_busy 0.500 0.9 short\n  step: 1.25 ms\n"
    first, second = results_in(tmp_path)
    assert (first["section"], first["name"], first["result"]) == ("steps", "gpu_busy", "short")
    assert (second["value"], second["unit"]) == (1.25, "ms")


def test_an_error_is_a_failed_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def breaks() -> None:
        raise RuntimeError("no kernel image\nis available")

    section(tmp_path).attempt("syncs", breaks)
    assert capsys.readouterr().out == "syncs failed: RuntimeError: no kernel image\ngpu_syncs - 0 failed\n"
    (line,) = results_in(tmp_path)
    assert (line["result"], line["reason"]) == ("failed", "RuntimeError: no kernel image")


def test_what_does_not_fit_into_the_time_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert section(tmp_path, "cuda", left_s=20).has_time_for("a network", 10)
    assert not section(tmp_path, "cuda", left_s=5).has_time_for("a network", 10)
    assert capsys.readouterr().out == "left out: a network, for which 5 s are left\n"
    assert section(tmp_path, "cpu", left_s=5).has_time_for("a network", 10), "a rehearsal is shorter"


def test_nothing_is_written_where_nothing_was_measured(tmp_path: Path) -> None:
    assert results_in(tmp_path) == []


def test_memory_of_the_card_is_asked_of_its_driver(tmp_path: Path) -> None:
    says = (sys.executable, "-c", "print(1024)")
    assert card_bytes_in_use(says) == 1 << 30
    assert card_bytes_in_use((sys.executable, "-c", "raise SystemExit(9)")) is None
    assert card_bytes_in_use((str(tmp_path / "nowhere"),)) is None


def test_the_driver_is_asked_for_its_version_or_its_file_read(tmp_path: Path) -> None:
    file = tmp_path / "version"
    nowhere = (str(tmp_path / "nowhere"),)
    assert driver_version((sys.executable, "-c", "print('580.95.05')"), file) == "580.95.05"
    assert driver_version(nowhere, file) == ""
    file.write_text("NVRM version: 580.95.05\nGCC version: 13\n")
    assert driver_version(nowhere, file) == "NVRM version: 580.95.05"


def test_trainings_of_a_process_have_the_same_drawn_images(tmp_path: Path) -> None:
    one, other = (training(section(tmp_path), IN_REHEARSAL["small"], "l2") for _ in range(2))
    assert torch.equal(one.batch_at(1).inputs, other.batch_at(1).inputs)
    assert drawn_images(8, 20) is drawn_images(8, 20)
    assert drawn_images(8, 20).pixels.shape == (20, 8, 8, 3)
    assert set(drawn_images(8, 20).labels.tolist()) == set(range(10))
