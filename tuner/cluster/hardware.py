"""Hardware of a command: what its workers train on, and the precisions that all of it is made for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from trainables.device import processor_name
from trainables.frozen import Frozen
from trainables.methods.teacher import has_fast_bf16
from tuner.cluster.connection import alive_nodes
from tuner.cluster.gpu_check import check_gpus
from tuner.cluster.tasks import WorkerFailed, on_each_node
from tuner.cluster.trainable import num_threads
from tuner.experiment.precision import Precisions
from tuner.messages.wording import counted
from tuner.resources.share import Capacity, Share

logger = logging.getLogger(__name__)


class ProcessorFacts(Frozen):
    """Processor as a process on it found it, and PyTorch's build."""

    name: str
    torch: str
    has_fast_bf16: bool

    @property
    def precisions(self) -> Precisions:
        """What `auto` means where all workers have such a processor."""
        return Precisions(training="fp32", teacher="bf16" if self.has_fast_bf16 else "fp32")


def inspect_hardware(
    share: Share,
    nodes: Iterable[Capacity],
    experiment: Mapping[str, Any],
    is_local: bool,
    say: Callable[[str], object] = logger.info,
) -> Share:
    """Finds out what trials with this share train on. Returns the share with that, and with what `auto` means there.

    GPUs are checked as by `check_gpus`. Processors are those of this machine if `is_local`, else of all nodes with
    CPUs; where one does not answer, the precisions are fp32.

    Raises:
        BadInput: with every kind of GPU on which no trial can be trained.
    """
    if share.gpus:
        return check_gpus(share, nodes, experiment, say)
    try:
        found = [inspect_processor()] if is_local else on_each_node(inspect_processor, _nodes_with_cpus())
    except WorkerFailed as error:
        logger.warning("the processors are not known, and precisions are fp32: %s", error)
        return share
    threads = counted(num_threads(share), "thread")
    devices = tuple(dict.fromkeys(f"{each.name}, {threads} a trial, PyTorch {each.torch}" for each in found))
    return replace(share, devices=devices, precisions=Precisions.common(each.precisions for each in found))


def inspect_processor() -> ProcessorFacts:
    """Describes the processor that this process runs on."""
    return ProcessorFacts(
        name=processor_name(), torch=torch.__version__, has_fast_bf16=has_fast_bf16(torch.device("cpu"))
    )


def _nodes_with_cpus() -> list[str]:
    return [node["NodeID"] for node in alive_nodes() if node["Resources"].get("CPU")]
