"""GPU check: one worker on each kind of GPU trains a small step before the first trial.

Ray counts GPUs by their driver's list, also where PyTorch cannot use them: an older driver than CUDA needs, a GPU
without kernels in this build, a container without the runtime. A trial would be trained on the CPU there, or fail.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from trainables.errors import BadInput, Problem, first_line
from trainables.precision import ComputedPrecision, autocast_to, best_precision
from tuner.cluster.free_gpu import reserved
from tuner.cluster.tasks import WorkerFailed, as_completed
from tuner.experiment.precision import Precisions
from tuner.messages.wording import amount
from tuner.resources.gpu_facts import GpuFacts
from tuner.resources.share import Capacity, Share

CHECKED_PART = 0.05
"""Part of a GPU that the check takes of a share that is yet to be measured, so as not to wait for a whole one."""

DRIVER = Path("/proc/driver/nvidia/version")


def check_gpus(
    share: Share, nodes: Iterable[Capacity], experiment: Mapping[str, Any], say: Callable[[str], object]
) -> Share:
    """Has a worker with a trial's share of a GPU inspect one of each kind. Returns the share with what they are, and
    the precisions that all of them are made for.

    `experiment` is the whole of it, as plain data; `say` is told where the worker waits for other work. A share without
    GPUs is returned as it is.

    Raises:
        BadInput: with every kind of GPU on which no trial can be trained.
    """
    if not share.gpus:
        return share
    part = min(share.gpus, CHECKED_PART) if share.is_auto else share.gpus  # of one that others may use, too
    one, needs_bf16 = replace(share, concurrency=1, gpus=part), asks_for_bf16(experiment)
    problems: list[Problem] = []
    kinds: list[GpuFacts] = []
    with_gpus = [node for node in nodes if node.gpus]
    usable = {node.accelerator_type for node in with_gpus if share.fits_on(node)}
    for accelerator in sorted({node.accelerator_type for node in with_gpus} - usable):
        say(f"{accelerator or 'GPUs'} not used: no trial of {amount(share.cpus, 'CPU')} fits on their nodes")
    for accelerator in sorted(usable):
        try:
            with reserved(one, accelerator, say) as room:
                (facts,) = as_completed(inspect_gpu, [()], one, accelerator=accelerator, room=room)
        except WorkerFailed as error:
            name = accelerator or "its GPU"
            problems.append(Problem("resources.gpus", "a GPU on which a process starts", f"{name}: {error}"))
            continue
        if (problem := facts.problem(needs_bf16)) is not None:
            problems.append(problem)
        kinds.append(facts)
    if problems:
        raise BadInput(problems)
    devices = tuple(f"{facts}, PyTorch {facts.torch}" for facts in kinds)
    return replace(share, devices=devices, precisions=Precisions.common(facts.precisions for facts in kinds))


def inspect_gpu() -> GpuFacts:
    """Describes the GPU that this process was given, after a small training step on it."""
    failure, name, capability = "", "", None
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # says why it cannot start, which `is_available` does not
        name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        train_a_step(torch.device("cuda"), best_precision(None if torch.version.hip else capability))
    except (RuntimeError, AssertionError) as error:
        failure = first_line(error, length=300)
    return GpuFacts(
        node=platform.node(),
        torch=torch.__version__,
        cuda=torch.version.cuda or torch.version.hip or "",
        architectures=tuple(torch.cuda.get_arch_list()),
        driver=nvidia_driver(),
        name=name,
        capability=None if torch.version.hip else capability,
        failure=failure,
    )


def train_a_step(device: torch.device, precision: ComputedPrecision = "bf16") -> float:
    """Computes the loss and gradient of a convolution and a linear layer, in fp32 and in `precision`. Returns the
    loss."""
    images = torch.linspace(-1, 1, 2 * 3 * 8 * 8, device=device).reshape(2, 3, 8, 8)
    kernels = torch.full((4, 3, 3, 3), 0.1, device=device, requires_grad=True)
    weights = torch.full((2, 4), 0.1, device=device, requires_grad=True)
    labels = torch.tensor([0, 1], device=device)
    loss = torch.zeros((), device=device)
    computed: tuple[ComputedPrecision, ...] = ("fp32", precision)
    for each in computed:
        with autocast_to(each, device):
            logits = F.linear(F.relu(F.conv2d(images, kernels)).mean(dim=(2, 3)), weights)
        loss = loss + F.cross_entropy(logits.float(), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


def nvidia_driver(file: Path = DRIVER) -> str:
    """Reads the version of NVIDIA's kernel module; "" if there is none."""
    with suppress(OSError):
        found = re.search(r"\b\d{3,}\.\d+(?:\.\d+)*\b", file.read_text(encoding="utf-8", errors="replace"))
        return found[0] if found is not None else ""
    return ""


def asks_for_bf16(tree: Any) -> bool:
    """Whether any `precision` in an experiment may be bf16."""
    if isinstance(tree, Mapping):
        return any(
            (str(key).rpartition(".")[2] == "precision" and "bf16" in str(value)) or asks_for_bf16(value)
            for key, value in tree.items()
        )
    return isinstance(tree, list | tuple) and any(map(asks_for_bf16, tree))
