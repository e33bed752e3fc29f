"""Precision of a teacher's forward pass."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.methods.contract import start
from tests.trainables.methods.parity import gradients
from tests.trainables.tiny import tiny_batch, tiny_context, tiny_network
from trainables.methods import teacher
from trainables.methods.smile import Smile, SmileConfig
from trainables.methods.teacher import TeacherPrecision, has_fast_bf16, teacher_autocast
from trainables.types import LossTerms

CPU = torch.device("cpu")
RATIO = 0.05
"""What rounding to 8 bits, layer after layer, may change; measured on a real network: 0.04 of the features."""


def losses(precision: TeacherPrecision) -> tuple[LossTerms, dict[str, torch.Tensor]]:
    method = Smile(SmileConfig(teacher_precision=precision), tiny_network().train(), tiny_context())
    terms = method.loss(tiny_batch())
    return terms, gradients(torch.stack(list(terms.values())).sum(), method.student)


def test_bf16_is_near_to_fp32_in_value_and_gradient() -> None:
    (exact, exact_at), (rounded, rounded_at) = losses("fp32"), losses("bf16")
    assert rounded["target_label"] == exact["target_label"]  # what the student alone says is not touched
    for name in exact:
        torch.testing.assert_close(rounded[name], exact[name], rtol=RATIO, atol=0)
    for name, gradient in exact_at.items():
        assert (rounded_at[name] - gradient).norm() <= RATIO * gradient.norm(), name


def test_bf16_is_not_fp32() -> None:
    assert losses("bf16")[0]["feature"] != losses("fp32")[0]["feature"]


@pytest.mark.usefixtures("float64")
def test_float64_is_never_rounded() -> None:
    assert losses("bf16")[0] == losses("fp32")[0]


@pytest.mark.parametrize("has_it", [True, False])
def test_auto_is_what_the_hardware_multiplies(monkeypatch: pytest.MonkeyPatch, has_it: bool) -> None:
    monkeypatch.setattr(teacher, "has_fast_bf16", lambda device: has_it)
    with teacher_autocast("auto", CPU):
        assert torch.is_autocast_enabled("cpu") == has_it
    assert not torch.is_autocast_enabled("cpu")


def test_the_precision_of_the_training_stays_in_force() -> None:
    with torch.autocast("cpu", dtype=torch.float16), teacher_autocast("bf16", CPU):
        assert torch.get_autocast_dtype("cpu") == torch.float16


@pytest.mark.parametrize(
    ("features", "faster"),
    [
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC 9B14"}, True),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, True),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel Xeon"}, False),
        ({"amx_bf16": True}, True),
        ({"avx2": True}, False),
    ],
)
def test_a_cpu_multiplies_it_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, object], faster: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert has_fast_bf16(CPU) is faster


def test_fp32_leaves_the_precision_of_the_training_alone() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), teacher_autocast("fp32", CPU):
        assert torch.is_autocast_enabled("cpu")


def test_the_teachers_weights_stay_in_fp32() -> None:
    fit = start(SmileConfig(teacher_precision="bf16"))
    fit.run()
    assert {p.dtype for p in fit.method.teacher.parameters()} == {torch.float32}
