"""A GPU as a worker found it, and why nothing can be trained on it, in words. Without Ray and without a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterable

from trainables.errors import Problem
from trainables.frozen import Frozen
from trainables.precision import NATIVE_BF16, Capability, best_precision
from tuner.experiment.precision import Precisions

LEAST_DRIVERS = {11: 450, 12: 525, 13: 580}
"""Oldest NVIDIA driver for Linux, by CUDA's major version (CUDA's release notes, "minor version compatibility")."""


class NoGpu(Exception):
    """Error for a process that was given a share of a GPU on which it cannot train."""


class GpuFacts(Frozen):
    """What a process that was given a GPU found: the GPU, its driver, and PyTorch's build.

    `failure` is why a small training step failed there, "" if it did not; `cuda` is the version that PyTorch is built
    for, "" if for none. Where CUDA does not start, the GPU's name and compute capability are unknown.
    """

    node: str
    torch: str
    cuda: str = ""
    architectures: tuple[str, ...] = ()
    """Those for which this PyTorch has kernels, as `sm_90`; `compute_90` is compiled for later ones when it is used."""
    driver: str = ""
    name: str = ""
    capability: Capability | None = None
    failure: str = ""

    def __str__(self) -> str:
        capability = "" if self.capability is None else "compute capability {}.{}".format(*self.capability)
        tf32 = "TF32" if self.capability is not None and self.multiplies_bf16 else ""  # of the same tensor cores
        details = ", ".join(filter(None, (capability, tf32, f"driver {self.driver}" if self.driver else "")))
        return f"{self.name or 'the GPU'}{f' ({details})' if details else ''}"

    @property
    def multiplies_bf16(self) -> bool:
        """Whether bf16 is native; of GPUs that are not NVIDIA's, nothing else is known."""
        return self.capability is None or self.capability >= NATIVE_BF16

    @property
    def precisions(self) -> Precisions:
        """What `auto` means where all workers have such a GPU."""
        return Precisions(training=best_precision(self.capability), teacher="bf16" if self.multiplies_bf16 else "fp32")

    @property
    def requirement(self) -> str:
        """What this PyTorch takes: `PyTorch 2.9.0+cu130, which takes driver 580 or newer and …`."""
        major = self.cuda.partition(".")[0]
        least = LEAST_DRIVERS.get(int(major)) if major.isdigit() else None
        oldest = min(_capabilities(self.architectures), default=None)
        takes = [
            *([f"NVIDIA driver {least} or newer"] if least is not None else []),
            *(["compute capability {}.{} or newer".format(*oldest)] if oldest is not None else []),
        ]
        return f"PyTorch {self.torch}" + (f" (it takes {' and '.join(takes)})" if takes else "")

    def problem(self, needs_bf16: bool = False) -> Problem | None:
        """Describes why no trial can be trained on the GPU; None if it can."""
        cause = self.failure
        if not self.cuda:
            cause = "this PyTorch is built for the CPU alone"
        elif self.capability is not None and not has_kernels(self.capability, self.architectures):
            cause = "this PyTorch has no kernels for it"
        if cause:
            expected = f"a GPU on which {self.requirement} trains, or gpus: 0"
            return Problem("resources.gpus", expected, f"{self} on {self.node}: {cause}")
        if needs_bf16 and not self.multiplies_bf16:
            expected = "auto, fp16 or fp32 on a GPU that only emulates bf16"
            return Problem("training.precision", expected, f"bf16 on {self}")
        return None


def has_kernels(capability: Capability, architectures: Iterable[str]) -> bool:
    """Whether code for any of the architectures runs on a GPU: machine code of the same major version and a minor one
    that is no newer, or intermediate code of any that is no newer. True if none of them is NVIDIA's.

    >>> has_kernels((8, 9), ["sm_80", "sm_90"]), has_kernels((7, 0), ["sm_75", "sm_80"])
    (True, False)
    """
    listed = [*architectures]
    machine, intermediate = _capabilities(listed), _capabilities(listed, "compute")
    if not machine and not intermediate:
        return True
    same_major = any(major == capability[0] and minor <= capability[1] for major, minor in machine)
    return same_major or any(each <= capability for each in intermediate)


def _capabilities(architectures: Iterable[str], kind: str = "sm") -> list[Capability]:
    found = (re.fullmatch(rf"{kind}_(\d+)(\d)[a-z]?", each) for each in architectures)
    return [(int(match[1]), int(match[2])) for match in found if match is not None]
