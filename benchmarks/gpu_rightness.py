"""Section of `benchmarks.gpu`: what the card is, and whether it computes what the CPU does.

gpu_context_gib                       memory of a process outside of torch's allocator, after its first kernels
gpu_right_<method>                    relative difference of the gradient on the card and on the CPU, in float64
gpu_right_recorded_<method>           relative difference of losses, and of changes of weights, between a step as a CUDA
                                      graph and a computed one, from the same state
gpu_right_resumed                     tensors that differ after a resume from a checkpoint, by deterministic kernels
gpu_right_out_of_memory_unknown       errors of a process on a full card that are not recognised as out of memory
gpu_right_out_of_memory_by_libraries  errors that came from cuBLAS, cuDNN, cuSOLVER or the driver, and not from torch
gpu_right_folded_otherwise            networks of which the card folds other BatchNorms than the CPU
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu_section import Section, card_bytes_in_use, driver_version, taken_bytes, training
from trainables.backbones import build_network
from trainables.backbones.batchnorm_folding import FoldedNetwork
from trainables.backbones.config import BackboneConfig
from trainables.methods import METHODS
from trainables.methods.base import Method
from trainables.methods.teacher import frozen_copy
from trainables.training.checkpoint import Checkpoints
from trainables.training.graph import RecordedSteps
from trainables.training.loop import Fit
from trainables.training.optimizer import gradients_of
from tuner.resources.gpu_memory import is_gpu_out_of_memory

CPU = torch.device("cpu")
Block = TypeVar("Block")
ROOM_BYTES = 16 << 20
"""Memory in which libraries start, and have no room for a workspace."""
GRADIENT_LIMIT = 1e-5
"""A wrong term changes a gradient by a good part of it. Another order of sums (of the same batch, on a CPU) does so by
1e-13 in float64, and by 5e-3 in fp32, where right gradients are up to 8e-2 from the exact ones. The targets that some
methods mix are in fp32 all the same, with an error of 1e-7."""
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
        section.value("driver", driver_version(), "")
        section.value("cudnn", torch.backends.cudnn.version(), "")  # type: ignore[no-untyped-call]
        section.value("card_gib", torch.cuda.mem_get_info()[1] / 2**30, "GiB")
        context = taken_bytes(section.device) - torch.cuda.memory_reserved() - (before or 0)
        section.value("context_gib", context / 2**30, "GiB" if before is not None else "GiB, other processes included")
    section.value("torch", torch.__version__, "")
    section.value("cuda", torch.version.cuda or torch.version.hip or "none", "")
    section.value("cpus", os.cpu_count(), f"of {platform.machine()}")


def gradient_agrees(section: Section, method: str) -> None:
    """Of the first step of a method. What it has prepared before, in fp32, is that of the CPU on both."""
    workload = section.workload("small")._replace(batch_size=section.count(12, 4))
    on_cpu = training(section, workload, method, "fp32", CPU)
    ours = first_gradient(training(section, workload, method, "fp32", state=on_cpu.state_dict()))
    exact = first_gradient(on_cpu)
    section.figure(f"right_{method}", relative_difference(ours, exact), GRADIENT_LIMIT)


def relative_difference(ours: Tensor, exact: Tensor) -> float:
    """Norm of the difference, over that of the exact one."""
    return float((ours - exact).norm() / exact.norm())


def first_gradient(fit: Fit) -> Tensor:
    """The gradient of the first step of a training in float64, on the host."""
    if hasattr(fit.method.config, "teacher_precision"):
        fit.method.config = fit.method.config.model_copy(update={"teacher_precision": "fp32"})
    in_float64(fit.method)
    fit.method.student.train()
    terms = fit.method.loss(fit.batch_at(1))
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    return torch.cat([gradient.detach().cpu().flatten() for gradient in gradients_of(fit.optimizer)])


def in_float64(method: Method) -> None:
    """Converts all tensors of a method."""
    method.student.double()
    method.extra_modules().double()


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


def folds_as_on_the_cpu(section: Section) -> None:
    """Of networks with drawn weights."""
    otherwise = 0
    for name in FOLDED:
        counts = [num_folded(name, section.count(96, 64), device) for device in (section.device, CPU)]
        section.value(f"folded_{name.partition('/')[2]}", counts[0], f"of {counts[1]} BatchNorms")
        otherwise += counts[0] != counts[1] or not counts[0]
    section.figure("right_folded_otherwise", otherwise, 0)


def num_folded(name: str, size_px: int, device: torch.device) -> int:
    """Number of pairs that are folded on a device."""
    network = build_network(BackboneConfig(name=name, pretrained=False), 3, 0, keep_source_head=False)
    # A copy, as methods make one: of torchvision's DenseNet, what was never copied is not folded.
    folded = FoldedNetwork(frozen_copy(network.to(device).to(memory_format=torch.channels_last)))
    images = torch.arange(2 * 3 * size_px**2, device=device).remainder(251).to(torch.uint8)
    folded(images.reshape(2, 3, size_px, size_px))
    return len(folded._pairs)


def out_of_memory_is_recognised(section: Section) -> None:
    """Of a process on a card that is full, by several libraries; then with so little room that they start, and find no
    workspace. Not on a card that others use: their processes would find it full, too."""
    on_card = section.device.type == "cuda"
    ways = ways_to_run_out(section.device) if on_card else as_on_a_card()
    torch.cuda.empty_cache()
    room = torch.empty(ROOM_BYTES if on_card else 0, dtype=torch.uint8, device=section.device)
    taken = taken_blocks(section.device) if on_card else []
    errors = [error for way in ways if (error := error_of(way)) is not None]
    del room
    torch.cuda.empty_cache()
    errors += [error for way in ways if (error := error_of(way)) is not None]
    del taken
    judge_errors(section, errors)


def judge_errors(section: Section, errors: Sequence[RuntimeError]) -> None:
    """Figures of the errors of a process without memory. Those of torch's own allocator are known by their type."""
    by_libraries = [error for error in errors if not isinstance(error, torch.OutOfMemoryError)]
    for error in dict.fromkeys(f"{type(error).__name__}: {error}"[:300] for error in by_libraries):
        section.value("out_of_memory_said", error, "")
    section.figure("right_out_of_memory_seen", len(errors), 1, at_least=True)
    section.figure("right_out_of_memory_by_libraries", len(by_libraries), 1, at_least=True)
    section.figure("right_out_of_memory_unknown", sum(not is_gpu_out_of_memory(error) for error in errors), 0)


def error_of(way: Callable[[], object]) -> RuntimeError | None:
    """The error of a call that may run out of memory, in a thread of its own: cuBLAS, cuDNN and cuSOLVER take a handle
    for each."""
    with ThreadPoolExecutor(1) as thread:
        error = thread.submit(way).exception()
    if error is not None and not isinstance(error, RuntimeError):
        raise error
    return None if error is None else error.with_traceback(None)  # which keeps what the call has allocated


def taken_blocks(device: torch.device) -> list[Tensor]:
    """Blocks that take all memory of the card, to less than the smallest part that torch asks the driver for."""

    def block(size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, device=device)

    return as_many_as_fit(block, largest=1 << 36, smallest=1 << 20)


def as_many_as_fit(block: Callable[[int], Block], largest: int, smallest: int) -> list[Block]:
    """Blocks of halving sizes, of each as many as there is memory for.

    >>> left = [100]
    >>> def block(size):
    ...     if size > left[0]:
    ...         raise torch.OutOfMemoryError
    ...     left[0] -= size
    ...     return size
    >>> as_many_as_fit(block, largest=64, smallest=8)
    [64, 32]
    """
    blocks, size = [], largest
    while size >= smallest:
        try:
            blocks.append(block(size))
        except torch.OutOfMemoryError:
            size //= 2
    return blocks


def ways_to_run_out(device: torch.device) -> list[Callable[[], object]]:
    """Calls of which the first needs more memory than there is; the others write into tensors that are there, and need
    memory for the library's handle, code or workspace alone."""
    small = torch.rand(64, 64, device=device)
    small += small.T.clone()
    product, values = torch.empty_like(small), torch.empty(64, device=device)
    images, kernels = torch.ones(32, 64, 112, 112, device=device), torch.ones(64, 64, 5, 5, device=device)
    convolved = torch.empty(32, 64, 108, 108, device=device)
    no_padding, once = [0, 0], [1, 1]
    flags = (False, False, False)  # neither cuDNN's search, nor its deterministic algorithms, nor TF32
    convolution = torch.ops.aten.cudnn_convolution.out
    return [
        lambda: torch.empty(4 << 30, dtype=torch.uint8, device=device),
        lambda: torch.mm(small, small, out=product),
        lambda: convolution(images, kernels, no_padding, once, once, 1, *flags, out=convolved),
        lambda: torch.linalg.eigvalsh(small, out=values),
        lambda: product.erfinv_(),  # code that nothing else uses, so that it is loaded now
    ]


def as_on_a_card() -> list[Callable[[], object]]:
    """Calls that raise on a CPU what torch and cuDNN raise on a card."""

    def raises(error: RuntimeError) -> None:
        raise error

    return [
        partial(raises, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB.")),
        partial(raises, RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")),
    ]
