"""Compiled trainings equal those that are not compiled, also after other compilations in the process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.trainables.methods.contract import TRAINING, start, total_losses
from tests.trainables.methods.settings import SETTINGS
from tests.trainables.tiny import tiny_batch
from tests.trainables.training.compilations import count_graphs
from trainables.methods import METHODS
from trainables.training.config import TrainingConfig
from trainables.training.loop import compiled
from trainables.types import CompileMode

COMPILABLE = {name: config for name, config in SETTINGS.items() if not METHODS[config.name].uses_forward_hooks}


pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


def in_mode(mode: CompileMode) -> TrainingConfig:
    return TRAINING.model_copy(update={"compile": mode})


@pytest.mark.usefixtures("traced_only")
def test_every_method_after_every_other_in_one_process() -> None:
    """As in a worker that goes from trial to trial."""
    for name, config in COMPILABLE.items():
        plain, fit = (start(config, in_mode(mode), dropout=0) for mode in ("none", "default"))
        for each in (plain, fit):
            each.run()
        assert total_losses(fit) == pytest.approx(total_losses(plain), rel=1e-4), name
        for ours, theirs in zip(fit.method.student.parameters(), plain.method.student.parameters(), strict=True):
            torch.testing.assert_close(
                ours, theirs, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.usefixtures("traced_only")
def test_frozen_batch_norm_says_the_same() -> None:
    """Compiled, where it is not folded, as not compiled, where it is."""
    plain, fit = (
        start(SETTINGS["smile"], in_mode(mode).model_copy(update={"batch_norm": "frozen"}), dropout=0)
        for mode in ("none", "default")
    )
    plain.run()
    fit.run()
    assert total_losses(fit) == pytest.approx(total_losses(plain), rel=1e-4)
    for ours, theirs in zip(fit.method.student.buffers(), plain.method.student.buffers(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", METHODS)
def test_who_hooks_into_the_student_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = start(SETTINGS[name])
    hooked: list[nn.Module] = []
    real = nn.Module.register_forward_hook

    def seen(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        hooked.append(self)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "register_forward_hook", seen)
    fit.run()
    of_student = set(fit.method.student.modules())
    assert any(module in of_student for module in hooked) == METHODS[name].uses_forward_hooks


def check_smile_is_compiled_once(mode: CompileMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Student and teacher are one graph each; a second training, and batches as before, need no more."""
    graphs = count_graphs(monkeypatch)
    plain = start(SETTINGS["smile"], dropout=0)
    plain.run()
    for _ in range(2):
        fit = start(SETTINGS["smile"], in_mode(mode), dropout=0)
        fit.run()
        assert total_losses(fit) == pytest.approx(total_losses(plain), rel=1e-4)
        assert len(graphs) == 2


@pytest.mark.usefixtures("traced_only")
def test_smile_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    check_smile_is_compiled_once("default", monkeypatch)


@pytest.mark.nightly
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_smile_in_machine_code(mode: CompileMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """By day: `test_smile_is_compiled_once`; of the 21 s that this takes of a processor, 15 are the C++ compiler's."""
    check_smile_is_compiled_once(mode, monkeypatch)


@pytest.mark.usefixtures("traced_only")
def test_outside_of_training_the_network_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of other sizes, as in evaluation, and other states compile nothing."""
    fit = start(SETTINGS["l2"], in_mode("default"))
    fit.run()
    graphs = count_graphs(monkeypatch)
    network = fit.method.student.eval()
    with torch.inference_mode():
        for count in (1, 2, 5):
            network(network.embed(tiny_batch(count=count).inputs))
    assert not graphs


def test_nothing_is_compiled_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = count_graphs(monkeypatch)
    start(SETTINGS["smile"]).run()
    with compiled(nn.Linear(2, 2), "none"):
        pass
    assert not graphs
