"""The frozen copy of the pre-trained network that SMILE and others learn from, and how it follows the student."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from trainables.backbones.copying import copied
from trainables.backbones.network import TransferNetwork

TeacherPrecision = Literal["auto", "bf16", "fp32"]
"""In what precision a teacher computes; `auto` is bf16 where the hardware multiplies it, and fp32 elsewhere."""


def frozen_copy(network: TransferNetwork) -> TransferNetwork:
    """A copy in evaluation mode whose parameters take no gradient."""
    return copied(network).requires_grad_(False).eval()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """teacher ← decay·teacher + (1−decay)·student over parameters; buffers (BatchNorm statistics) stay as they are."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - decay)


def teaching(precision: TeacherPrecision, device: torch.device) -> torch.autocast:
    """The block in which a teacher speaks. Its products of fp32 numbers are taken in bf16, if at all; those of float64
    never are, and what surrounds the block (a `training.precision` of bf16) stays in force."""
    chosen = precision == "bf16" or (precision == "auto" and multiplies_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=chosen or torch.is_autocast_enabled(device.type))


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 faster than fp32. By what it is and not by a stopwatch, so that one machine
    always computes the same.

    Without instructions for it, no CPU does. An AMD EPYC does with AVX-512's; an Intel Xeon with the same ones takes
    half as long again for a 1×1 convolution as in fp32, and has AMX for it (docs/decisions/0012).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    by_intel = "Intel" in str(features.get("cpu_name", ""))
    return bool(features.get("amx_bf16") or (features.get("avx512_bf16") and not by_intel))
