"""Kernels that a GPU computes with: the fastest, or those that give the same result every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainables.training.config import TrainingConfig

CUBLAS_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Environment in which cuBLAS is deterministic; it is read when a process first multiplies on a GPU."""


@contextmanager
def kernels(config: TrainingConfig, device: torch.device, shapes_are_constant: bool = False) -> Iterator[None]:
    """Chooses the kernels of a GPU for the block; on the CPU, whose results are always the same, nothing.

    Products of fp32 matrices are computed in TF32 where the GPU has it, as convolutions are by default. Where shapes
    are constant cuDNN times its algorithms once and takes the fastest. With `config.deterministic` only deterministic
    kernels run, of cuDNN and of PyTorch, which raises RuntimeError where it has none.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    flags = cudnn.benchmark, cudnn.deterministic
    mode, products = torch.get_deterministic_debug_mode(), torch.get_float32_matmul_precision()
    cudnn.benchmark = shapes_are_constant and not config.deterministic
    cudnn.deterministic = config.deterministic
    torch.set_deterministic_debug_mode("error" if config.deterministic else "default")
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = flags
        torch.set_deterministic_debug_mode(mode)
        torch.set_float32_matmul_precision(products)
