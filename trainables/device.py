"""Device of a training: which it is, and its name."""

from __future__ import annotations

import platform

import torch


def default_device() -> torch.device:
    """The GPU visible to this process, or the CPU.

    Apple's GPUs (`mps`) are not used: some methods compute in float64, which those lack, and nothing here was tried on
    one.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The model of a GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def processor_name() -> str:
    """The model of this machine's processor, or at least its architecture."""
    name = str(torch.cpu.get_capabilities().get("cpu_name", ""))
    return name or platform.processor() or platform.machine()
