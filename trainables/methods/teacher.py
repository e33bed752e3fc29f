"""Teacher networks: a frozen copy, its moving average of the student, and the precision of its forward pass."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from trainables.backbones.kept_networks import KeptNetworks, Network
from trainables.precision import autocast_to

TeacherPrecision = Literal["auto", "bf16", "fp32"]
"""Precision of a teacher's forward pass; `auto` is bf16 on hardware that is faster in it, and fp32 elsewhere."""


def frozen_copy(network: Network, kept: KeptNetworks | None = None, name: str = "frozen") -> Network:
    """A copy of `network` in evaluation mode whose parameters require no gradient: what `kept` has by `name`."""
    return (kept or KeptNetworks()).copy_of(name, network).requires_grad_(False).eval()


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Updates the moving average in place: teacher ← decay·teacher + (1−decay)·student, for parameters.

    Buffers (the BatchNorm statistics) stay as they are.
    """
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - decay)


def scaled_decay(decay: float, reference_steps: int | None, num_steps: int) -> float:
    """The decay for a training of `num_steps` that has the effect of `decay` in one of `reference_steps`.

    That is decay^(reference_steps/num_steps): the same share of the initial weights is left at the end. With
    `reference_steps` None it is `decay` itself.

    >>> scaled_decay(0.9, reference_steps=200, num_steps=100)
    0.81
    """
    return decay if reference_steps is None else float(decay ** (reference_steps / num_steps))


def teacher_autocast(precision: TeacherPrecision, device: torch.device) -> torch.autocast:
    """Autocast context of the teacher's forward pass.

    fp32 products are computed in bf16 if `precision` asks for it; float64 products never are. An autocast around the
    block (`training.precision`) stays in force. A search replaces `auto` before its first trial, for all workers.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, dtype=torch.get_autocast_dtype(device.type))
    return autocast_to(
        "bf16" if precision == "bf16" or (precision == "auto" and has_fast_bf16(device)) else "fp32", device
    )


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 faster than fp32, by its instruction set.

    It is not timed, so that one machine always gives the same answer. A CPU needs instructions for bf16: an AMD EPYC is
    faster with those of AVX-512, an Intel Xeon takes half as long again with them as in fp32 and needs AMX
    (docs/decisions/0012).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    by_intel = "Intel" in str(features.get("cpu_name", ""))
    return bool(features.get("amx_bf16") or (features.get("avx512_bf16") and not by_intel))
