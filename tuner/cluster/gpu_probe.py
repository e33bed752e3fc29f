"""GPU probe: measures the GPU memory of a trial if `resources.gpus` is auto, and enlarges a share that was too
small."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace

import torch
from ray._private.thirdparty import pynvml  # the one with which Ray counts GPUs

from trainables.config import TrialConfig
from trainables.data.folds import Fold, fold_at
from trainables.data.loading import source_key
from trainables.device import default_device
from trainables.errors import TrainingFailed
from trainables.trial import FoldTraining
from tuner.cluster.tasks import GpuOutOfMemory, WorkerFailed, as_completed, put_shared
from tuner.cluster.trainable import ImagesByKey, prepare_process
from tuner.experiment.search_experiment import SearchExperiment
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import counted
from tuner.record.events import ShareGrown, ShareMeasured
from tuner.record.journal import ComparisonJournal, SearchJournal
from tuner.resources.gpu_memory import GpuMemoryNeed, is_gpu_out_of_memory, largest_configs, next_larger_share
from tuner.resources.share import Share

PROBED_STEPS = 2
"""Number of steps of a probe: from the second on, the optimiser's state is in memory beside the activations."""

AUTO = "resources.gpus auto"


def resolve_share(
    share: Share,
    spaces: Iterable[SearchExperiment],
    images: ImagesByKey,
    num_folds: int,
    journal: SearchJournal | ComparisonJournal,
) -> Share:
    """Resolves `resources.gpus: auto` to the share of each trial of `spaces`; any other share is returned as it is.

    It is measured once: a resumed search takes the measurement from its journal. If nothing can be measured, each trial
    gets a whole GPU, and the share's note says why.
    """
    if not share.is_auto:
        return share
    known, source = journal.history.share_measured, "as measured before"
    if known is None:
        try:
            need = _measured(share, largest_configs(spaces), images, num_folds)
        except (WorkerFailed, MemoryError) as error:
            return replace(share, note=f"{AUTO}: a whole GPU for each trial, as none could be measured: {error}")
        known = ShareMeasured(gpus=need.gpus, context=need.context, **asdict(need))
        journal.append(known)
        source = f"{need}{_measured_on(share)}"
    others = known.others_bytes / known.card_bytes
    share = replace(share.sized_for(journal.history.gpus or known.gpus), context=known.context, others=others)
    trials = counted(round(1 / share.gpus), "trial")
    return replace(share, note=f"{AUTO}: {source}; {share.gpus:.3g}, {trials} on each GPU")


def retry_with_larger_share(
    share: Share,
    journal: SearchJournal | ComparisonJournal,
    run: Callable[[Share], None],
    trial: int | None = None,
) -> None:
    """Calls `run(share)`, and again with a larger share as often as an auto share was too small.

    `trial` is the one that `run` trains, for the journal.

    Raises:
        GpuOutOfMemory: if a whole GPU was too small, or the share is not auto.
    """
    while True:
        share = share.at_least(journal.history.gpus)
        try:
            return run(share)
        except GpuOutOfMemory as full:
            larger = next_larger_share(share.gpus)
            if not share.is_auto or larger is None:
                raise
            journal.append(ShareGrown(gpus=larger, reason=without_credentials(str(full)), trial=trial))


def _measured(share: Share, configs: list[TrialConfig], images: ImagesByKey, num_folds: int) -> GpuMemoryNeed:
    """Probes one GPU per accelerator type and returns the largest requirement. All unknown types count as one."""
    images_ref = put_shared(dict(images))
    one = replace(share, concurrency=1)  # of a whole GPU, until it is measured
    needs: list[GpuMemoryNeed] = []
    for accelerator in sorted({node.accelerator_type for node in share.nodes if node.gpus}):
        needs += as_completed(probe_gpu_memory, [(configs, images_ref, num_folds, one)], one, accelerator=accelerator)
    return max(needs, key=lambda need: need.gpus)


def _measured_on(share: Share) -> str:
    num_unknown = sum(1 for node in share.nodes if node.gpus and not node.accelerator_type)
    return f" (measured on one of {num_unknown} nodes)" if num_unknown > 1 else ""


def probe_gpu_memory(
    configs: Sequence[TrialConfig], images: ImagesByKey, num_folds: int, share: Share
) -> GpuMemoryNeed:
    """Measures the largest GPU memory that `PROBED_STEPS` steps and an evaluation of any of `configs` take.

    It runs in a process of its own, and on a GPU without other trials. What processes of others hold there, as a
    desktop, is told apart where NVML can say it; else it counts as CUDA's context, which makes the share larger.

    Raises:
        RuntimeError: if this process has no GPU.
    """
    in_use = bytes_in_use()  # before this process has a context there
    prepare_process(share)
    device = default_device()
    if device.type != "cuda":
        raise RuntimeError("the worker has no GPU")
    others = in_use.get(f"GPU-{torch.cuda.get_device_properties(device).uuid}", 0)
    peaks = []
    for config in configs:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        fits = _fits(config, images, num_folds, device)
        peak = torch.cuda.max_memory_reserved()
        gc.collect()
        pixels = torch.cuda.memory_allocated()  # the training's tensors are freed
        free, total = torch.cuda.mem_get_info()
        context = max(0, total - free - torch.cuda.memory_reserved() - others)
        peaks.append(GpuMemoryNeed(peak - pixels if fits else total, pixels, context, total, others))
    return max(peaks, key=lambda need: need.gpus)


def bytes_in_use() -> dict[str, int]:
    """Returns the memory in use of each NVIDIA GPU of this node, by its UUID, without making a CUDA context."""
    found: dict[str, int] = {}
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            found[pynvml.nvmlDeviceGetUUID(handle)] = pynvml.nvmlDeviceGetMemoryInfo(handle).used
    except pynvml.NVMLError:  # no driver, or one that does not say it
        return {}
    return found


def _fits(config: TrialConfig, images: ImagesByKey, num_folds: int, device: torch.device) -> bool:
    """Trains a few steps of the first fold and scores one batch. Returns whether the GPU's memory was enough."""
    examples = images[source_key(config.data)]
    whole = fold_at(examples, 1, num_folds, config.seed)
    fold = Fold(whole.train, whole.validation[: config.training.eval_batch_size])
    try:
        with contextlib.suppress(TrainingFailed):  # as it may at the largest learning rate
            FoldTraining(config, examples, 1, fold, device).score_at(PROBED_STEPS)
    except RuntimeError as error:
        if not is_gpu_out_of_memory(error):
            raise
        return False
    return True
