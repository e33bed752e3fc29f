"""Section of `benchmarks.gpu`: what the card is, and whether it computes what the CPU does.

gpu_context_gib                     memory of a process outside of torch's allocator, after its first kernels
gpu_right_<method>                  relative difference of the gradient on the card and on the CPU, in fp32 without TF32
gpu_right_recorded_<method>         relative difference of losses, and of changes of weights, between a step as a CUDA
                                    graph and a computed one, from the same state
gpu_right_resumed                   tensors that differ after a resume from a checkpoint, with deterministic algorithms
gpu_right_out_of_memory_unknown     errors of a process at its limit that are not recognised as out of memory
gpu_right_folded_otherwise          networks of which the card folds other BatchNorms than the CPU
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu_section import Section, card_bytes_in_use, taken_bytes, training
from trainables.backbones import build_network
from trainables.backbones.batchnorm_folding import FoldedNetwork, without_tf32
from trainables.backbones.config import BackboneConfig
from trainables.methods import METHODS
from trainables.training.checkpoint import Checkpoints
from trainables.training.graph import RecordedSteps
from trainables.training.loop import Fit
from trainables.training.optimizer import gradients_of
from tuner.resources.gpu_memory import is_gpu_out_of_memory

CPU = torch.device("cpu")
GRADIENT_LIMIT = 0.01
"""A wrong term changes a gradient by a good part of it; another order of sums by 1e-5 to 1e-3."""
RECORDED_LIMIT = 0.05
"""Another λ, dropout or learning rate changes far more. Of the small network a relative change of the weights by 1e-6
changes the gradient by 0.01; kernels of a recorded step and of a computed one are the same."""
RECORDED_FIRST = ("l2", "smile", "manifold_mixup", "bi_tuning")
FOLDED = (
    "package/efficientnet_lite0",
    "timm/resnet50",
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_large",
    "torchvision/densenet121",
)


def run(section: Section) -> None:
    """All figures; none keeps the others from being known."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when cuBLAS starts, for deterministic products
    section.attempt("facts", partial(facts, section))
    for method in METHODS:
        if section.has_time_for(f"right_{method}", 2):
            section.attempt(f"right_{method}", partial(gradient_agrees, section, method))
    section.attempt("right_resumed", partial(resumed_equals_undisturbed, section))
    section.attempt("right_folded_otherwise", partial(folds_as_on_the_cpu, section))
    recordable = [name for name, method in METHODS.items() if method.is_recordable]
    for method in sorted(recordable, key=lambda name: name not in RECORDED_FIRST):
        if section.has_time_for(f"right_recorded_{method}", 5):
            section.attempt(f"right_recorded_{method}", partial(recorded_equals_computed, section, method))
    # Last, as the process may allocate hardly anything afterwards.
    section.attempt("right_out_of_memory_unknown", partial(out_of_memory_is_recognised, section))


def facts(section: Section) -> None:
    """What it runs on, and what a process takes of the card before it has a tensor."""
    before = card_bytes_in_use()
    kernels = torch.ones(8, 3, 3, 3, device=section.device, requires_grad=True)
    images = torch.ones(2, 3, 16, 16, device=section.device)
    torch.autograd.backward(
        F.conv2d(images, kernels).flatten(1).matmul(torch.ones(1568, 4, device=section.device)).sum()
    )
    if section.device.type == "cuda":
        section.value("card", torch.cuda.get_device_name(), "")
        section.value("capability", ".".join(map(str, torch.cuda.get_device_capability())), "")
        section.value("cudnn", torch.backends.cudnn.version(), "")  # type: ignore[no-untyped-call]
        section.value("card_gib", torch.cuda.mem_get_info()[1] / 2**30, "GiB")
        context = taken_bytes(section.device) - torch.cuda.memory_reserved() - (before or 0)
        section.value("context_gib", context / 2**30, "GiB" if before is not None else "GiB, other processes included")
    section.value("torch", torch.__version__, "")
    section.value("cuda", torch.version.cuda or torch.version.hip or "none", "")
    section.value("cpus", os.cpu_count(), f"of {platform.machine()}")


def gradient_agrees(section: Section, method: str) -> None:
    """Of the first step of a method."""
    ours, exact = (first_gradient(section, method, device) for device in (section.device, CPU))
    section.figure(f"right_{method}", relative_difference(ours, exact), GRADIENT_LIMIT)


def first_gradient(section: Section, method: str, device: torch.device) -> Tensor:
    """The gradient of the first step, on the host."""
    workload = section.workload("small")._replace(batch_size=section.count(12, 4))
    with without_tf32():
        fit = training(section, workload, method, "fp32", device)
        if hasattr(fit.method.config, "teacher_precision"):
            fit.method.config = fit.method.config.model_copy(update={"teacher_precision": "fp32"})
        fit.method.student.train()
        terms = fit.method.loss(fit.batch_at(1))
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
    return torch.cat([gradient.detach().double().cpu().flatten() for gradient in gradients_of(fit.optimizer)])


def resumed_equals_undisturbed(section: Section) -> None:
    """Of SMILE, six steps in one go and by way of a file."""
    start = partial(training, section, section.workload("small"), "smile", "fp32", deterministic=True)
    checkpoints = Checkpoints(section.scratch / "resumed" / "fold.pt", period_s=0)
    whole, first = start(), start()
    whole.run(until=6)
    first.run(until=3)
    checkpoints.save("me", first.state_dict())
    second = start(state=checkpoints.load("me"))
    second.run(until=6)
    pairs = zip(whole.method.student.state_dict().values(), second.method.student.state_dict().values(), strict=True)
    section.figure("right_resumed", sum(not torch.equal(one, other) for one, other in pairs), 0)


def recorded_equals_computed(section: Section, method: str) -> None:
    """Of the last steps of a method as CUDA graphs, each against a computed one from the same state."""
    num_steps = section.count(24, 4)  # many enough for each kind of step to be recorded, of which some have several
    settings: dict[str, Any] = {"num_steps": num_steps, "learning_rate": 1e-3}
    start = partial(training, section, section.workload("small"), method, "fp32", **settings)
    recorded, computed = start(cuda_graphs=True), start()
    recorded.run(until=num_steps - 3)
    differences = []
    while recorded.step < num_steps:
        computed.load_state_dict(deepcopy(recorded.state_dict()))
        before = weights_of(recorded)
        for fit in (recorded, computed):
            fit.run(until=fit.step + 1)
        differences.append(relative_difference(latest_losses_of(recorded), latest_losses_of(computed)))
        differences.append(relative_difference(weights_of(recorded) - before, weights_of(computed) - before))
    if section.device.type == "cuda":
        num_recordings = recorded.runner.num_recordings if isinstance(recorded.runner, RecordedSteps) else 0
        if not num_recordings:
            raise RuntimeError("no step was recorded")
        section.value(f"recordings_{method}", num_recordings, "")
    section.figure(f"right_recorded_{method}", max(differences), RECORDED_LIMIT)


def latest_losses_of(fit: Fit) -> Tensor:
    """The loss terms of the latest step, where each step is an interval of the history."""
    return torch.tensor([values[-1] for values in fit.history.terms.values()], dtype=torch.float64)


def weights_of(fit: Fit) -> Tensor:
    """All parameters of the student and of the method's own modules, on the host."""
    parameters = (*fit.method.student.parameters(), *fit.method.extra_modules().parameters())
    return torch.cat([parameter.detach().double().cpu().flatten() for parameter in parameters])


def relative_difference(ours: Tensor, exact: Tensor) -> float:
    """Norm of the difference over the norm of what is exact."""
    return float((ours - exact).norm() / exact.norm())


def folds_as_on_the_cpu(section: Section) -> None:
    """Of networks with drawn weights."""
    otherwise = 0
    for name in FOLDED[: section.count(len(FOLDED), 1)]:
        counts = [num_folded(name, section.count(96, 64), device) for device in (section.device, CPU)]
        section.value(f"folded_{name.partition('/')[2]}", counts[0], f"of {counts[1]} BatchNorms")
        otherwise += counts[0] != counts[1] or not counts[0]
    section.figure("right_folded_otherwise", otherwise, 0)


def num_folded(name: str, size_px: int, device: torch.device) -> int:
    """Number of pairs that are folded on a device."""
    network = build_network(BackboneConfig(name=name, pretrained=False), 3, 0, keep_source_head=False).eval()
    folded = FoldedNetwork(network.to(device).to(memory_format=torch.channels_last))
    images = torch.arange(2 * 3 * size_px**2, device=device).remainder(251).to(torch.uint8)
    folded(images.reshape(2, 3, size_px, size_px))
    return len(folded._pairs)


def out_of_memory_is_recognised(section: Section) -> None:
    """Of a process that may allocate a little more than it has, by several libraries."""
    ways = ways_to_run_out(section.device)
    errors = [error for way in ways if (error := error_of(way)) is not None]
    for error in errors:
        if not is_gpu_out_of_memory(error):
            section.value("not recognised", f"{type(error).__name__}: {error}"[:300], "")
    section.figure("right_out_of_memory_seen", len(errors), 1, at_least=True)
    section.figure("right_out_of_memory_unknown", sum(not is_gpu_out_of_memory(error) for error in errors), 0)


def error_of(way: Callable[[], object]) -> RuntimeError | None:
    """The error of a call that may run out of memory."""
    try:
        way()
    except RuntimeError as error:
        return error
    return None


def ways_to_run_out(device: torch.device) -> list[Callable[[], object]]:
    """Calls that need more memory than this process may have. On a CPU: one that raises what torch would on a card."""
    if device.type != "cuda":

        def as_on_a_card() -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB.")

        return [as_on_a_card]
    torch.cuda.empty_cache()
    images = torch.ones(64, 64, 112, 112, device=device)
    kernels = torch.ones(64, 64, 3, 3, device=device)
    square = torch.eye(4096, device=device)
    spare = 16 << 20
    allowed = torch.cuda.memory_reserved() + spare
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info()[1])
    return [
        lambda: torch.empty(4 << 30, dtype=torch.uint8, device=device),
        lambda: F.conv2d(images, kernels),
        lambda: square @ square,
        lambda: torch.linalg.eigvalsh(square),
        lambda: torch.fft.fft(square),
        lambda: square.sort(),
    ]
