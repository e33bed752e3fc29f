"""Precision of forward passes: which one a GPU is made for, and its autocast. Importing this does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

ComputedPrecision = Literal["fp32", "bf16", "fp16"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

Capability = tuple[int, int]
"""NVIDIA's compute capability, major and minor."""

NATIVE_FP16: Capability = (7, 0)
"""First compute capability with tensor cores, which multiply fp16."""
NATIVE_BF16: Capability = (8, 0)
"""First compute capability whose tensor cores multiply bf16, and fp32 as TF32; below, PyTorch emulates bf16, slower
than fp32."""


def best_precision(capability: Capability | None) -> ComputedPrecision:
    """The precision that a GPU multiplies fastest with fp32 weights; None is a GPU that is not NVIDIA's.

    >>> best_precision((8, 9)), best_precision((7, 5)), best_precision((6, 1))
    ('bf16', 'fp16', 'fp32')
    """
    if capability is None or capability >= NATIVE_BF16:
        return "bf16"
    return "fp16" if capability >= NATIVE_FP16 else "fp32"


def precision_on(asked: Precision, device: torch.device) -> ComputedPrecision:
    """The precision in which forward passes are computed on `device`: what was asked for; `auto` is `best_precision` of
    a GPU, and fp32 on the CPU.

    A search replaces `auto` before its first trial, by the GPUs of all workers.
    """
    if asked != "auto":
        return asked
    if device.type != "cuda":
        return "fp32"
    import torch  # only here, as the import takes seconds

    return best_precision(None if torch.version.hip else torch.cuda.get_device_capability(device))


def autocast_to(precision: ComputedPrecision, device: torch.device) -> torch.autocast:
    """Autocast context in which products are computed in `precision`."""
    import torch

    half = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=half, enabled=precision != "fp32")
