"""`python -m tuner.try`: a page on this machine. gradio is played by a stand-in that records how it is called."""

from __future__ import annotations

import importlib
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.tuner.prediction.tiny import CLASSES, detector, load, save_model
from trainables.classifier import set_novelty

command = importlib.import_module("tuner.try")


class StandIn:
    """What the command uses of gradio: components and an interface, which keep their arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def component(**arguments: Any) -> Any:
            self.calls.append((name, arguments))
            return SimpleNamespace(launch=self.launch, block_thread=lambda: None, close=lambda: None)

        return component

    def launch(self, **arguments: Any) -> None:
        self.calls.append(("launch", arguments))

    def arguments_of(self, name: str) -> dict[str, Any]:
        (arguments,) = (arguments for called, arguments in self.calls if called == name)
        return arguments


@pytest.fixture
def gradio(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "gradio", stand_in)
    monkeypatch.setattr(command, "check_port", lambda port: None)
    return stand_in


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(save_model(tmp_path / "model"))


def test_the_page_is_served_to_this_machine_alone(
    gradio: StandIn, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--model", model, "--port", "7999"]) == 0
    launched = gradio.arguments_of("launch")
    assert (launched["server_name"], launched["server_port"], launched["share"]) == ("127.0.0.1", 7999, False)
    assert gradio.arguments_of("Image")["type"] == "numpy"
    assert capsys.readouterr().out == "http://127.0.0.1:7999  (Ctrl-C ends it)\n"


def test_a_dropped_photo_has_its_classes(gradio: StandIn, model: str) -> None:
    command.main(["--model", model])
    answer = gradio.arguments_of("Interface")["fn"]
    photo = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    expected = load(Path(model)).predict_proba(photo)[0]
    shares, remark = answer(photo)
    assert shares == pytest.approx(dict(zip(CLASSES, map(float, expected), strict=True)))
    assert remark == ""
    assert answer(None) == ({}, "no photo yet")


@pytest.mark.parametrize(("threshold", "remark"), [(1.0, "unlike anything seen"), (-1.0, "")])
def test_a_calibrated_model_says_what_is_unlike(gradio: StandIn, model: str, threshold: float, remark: str) -> None:
    set_novelty(Path(model), detector(threshold))
    command.main(["--model", model])
    answer = gradio.arguments_of("Interface")["fn"]
    assert answer(np.zeros((60, 50, 3), dtype=np.uint8))[1] == remark


def test_a_taken_port_is_bad_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", StandIn())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert command.main(["--model", "nowhere", "--port", str(port)]) == 2
    assert f"error: --port: expected a free port, as --port {port + 1}, got {port}: " in capsys.readouterr().err
    assert command.main(["--model", "nowhere", "--port", "65536"]) == 2
    assert capsys.readouterr().err == "error: --port: expected a port from 1 to 65535, got 65536\n"


def test_without_gradio_its_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert command.main(["--model", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: expected the package gradio (pip install 'smile-tuner[try]'), got none\n"
