"""GPU probe: measures the GPU memory of a trial if `resources.gpus` is auto, and enlarges a share that was too
small."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import torch
from ray._private.thirdparty import pynvml  # the one with which Ray counts GPUs

from trainables.config import TrialConfig
from trainables.data.folds import Fold, fold_at
from trainables.data.loading import source_key
from trainables.device import default_device
from trainables.errors import TrainingFailed
from trainables.training.graph import WARM_UP_STEPS
from trainables.trial import FoldTraining
from tuner.cluster.free_gpu import NoGpuFree, free_part
from tuner.cluster.tasks import GpuOutOfMemory, WorkerFailed, as_completed, put_shared
from tuner.cluster.trainable import ASSUMED_CONTEXT_BYTES, COMPILE_THREADS, ImagesByKey, prepare_process
from tuner.experiment.search_experiment import SearchExperiment
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import counted
from tuner.record.events import ShareGrown, ShareMeasured
from tuner.record.history import ComparisonHistory, SearchHistory
from tuner.record.journal import ComparisonJournal, SearchJournal
from tuner.resources.gpu_memory import GpuMemoryNeed, is_gpu_out_of_memory, largest_configs, next_larger_share
from tuner.resources.share import KindNeed, Share

PROBED_STEPS = 2
"""Number of steps of a probe: from the second on, the optimiser's state is in memory beside the activations. Where
steps are recorded, those before the recording and two of it are needed."""

PROBE_WAIT_S = 60.0
"""How long a probe waits for a GPU that nobody else uses. Then it takes the largest part of one that is free."""

PART_IF_BUSY = 0.25
"""Share of a trial where no part of a GPU becomes free to measure it. It grows where trials run out of memory."""

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
    gets a whole GPU, or `PART_IF_BUSY` of one where none became free, and the share's note says why.
    """
    if not share.is_auto:
        return share
    history, source = journal.history, "as measured before"
    if not history.shares_measured:
        try:
            probes = _measured(share, largest_configs(spaces), images, num_folds)
        except NoGpuFree as busy:
            share = share.sized_for(PART_IF_BUSY)
            trials = counted(round(1 / share.gpus), "trial")
            return replace(share, note=f"{AUTO}: {share.gpus:.3g}, {trials} on each GPU, not measured: {busy}")
        except (WorkerFailed, MemoryError) as error:
            return replace(share, note=f"{AUTO}: a whole GPU for each trial, as none could be measured: {error}")
        for each in probes:
            kind = each.accelerator if len(probes) > 1 else ""
            need = each.need
            journal.append(ShareMeasured(gpus=need.gpus, context=need.context, accelerator=kind, **asdict(need)))
        largest = max(probes, key=lambda each: each.need.gpus)
        source = f"{largest.need}{_measured_on(share)}{largest.where}"
    share = known_share(share, history)
    return replace(share, note=f"{AUTO}: {source}; {'; '.join(map(_spell_share, share.by_kind()))}")


def known_share(share: Share, history: SearchHistory | ComparisonHistory) -> Share:
    """Returns an auto share as it was measured before this command; any other as it is."""
    return share.with_kinds(_kinds(history)) if share.is_auto and history.shares_measured else share


def _kinds(history: SearchHistory | ComparisonHistory) -> list[KindNeed]:
    """What trials need on each kind of GPU, as measured and grown; the largest alone, if the kind of any is unknown."""
    measured = history.shares_measured
    if "" in measured:
        largest = max(measured.values(), key=lambda each: each.gpus)
        return [_kind_need("", history.gpus, largest)]
    return [_kind_need(kind, history.gpus_on(kind), each) for kind, each in measured.items()]


def _kind_need(kind: str, grown: float | None, measured: ShareMeasured) -> KindNeed:
    others = measured.others_bytes / measured.card_bytes
    return KindNeed(kind, grown or measured.gpus, measured.context, others)


def _spell_share(share: Share) -> str:
    trials = counted(round(1 / share.gpus), "trial")
    return f"{share.gpus:.3g}, {trials} on each {share.accelerator or 'GPU'}"


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
            larger = next_larger_share(max(share.gpus, full.gpus))  # which may be spread over few jobs
            if not share.is_auto or larger is None:
                raise
            journal.append(ShareGrown(gpus=larger, reason=without_credentials(str(full)), trial=trial))


class _Probe(NamedTuple):
    """Measurement on a GPU of one kind, in the part of it that was free."""

    accelerator: str
    need: GpuMemoryNeed
    part: float

    @property
    def where(self) -> str:
        """Says the part, if it was not the whole."""
        return "" if self.part == 1 else f" (measured in {self.part:g} of one, as none was free)"


def _measured(share: Share, configs: list[TrialConfig], images: ImagesByKey, num_folds: int) -> list[_Probe]:
    """Probes one GPU per accelerator type. All unknown types count as one.

    Raises NoGpuFree if other work has all GPUs of a type for longer than `PROBE_WAIT_S`.
    """
    images_ref = put_shared(dict(images))
    probes: list[_Probe] = []
    for accelerator in sorted({node.accelerator_type for node in share.nodes if share.fits_on(node)}):
        with free_part(share, accelerator, PROBE_WAIT_S) as (part, room):
            one = replace(share, concurrency=1, gpus=part)
            job = (configs, images_ref, num_folds, one)
            (need,) = as_completed(probe_gpu_memory, [job], one, accelerator=accelerator, room=room)
            probes.append(_Probe(accelerator, need, part))
    return probes


def _measured_on(share: Share) -> str:
    num_unknown = sum(1 for node in share.nodes if node.gpus and not node.accelerator_type)
    return f" (measured on one of {num_unknown} nodes)" if num_unknown > 1 else ""


def probe_gpu_memory(
    configs: Sequence[TrialConfig], images: ImagesByKey, num_folds: int, share: Share
) -> GpuMemoryNeed:
    """Measures the largest GPU memory that `PROBED_STEPS` steps and an evaluation of any of `configs` take.

    It runs in a process of its own, and on a GPU without other trials. What processes of others hold there, as a
    desktop, is told apart where NVML can say it; else it counts as CUDA's context, which makes the share larger. In a
    part of a GPU, where other trials are expected, the context is an assumed one, and what does not fit is taken to
    need twice the part.

    Raises:
        RuntimeError: if this process has no GPU.
    """
    in_use = bytes_in_use()  # before this process has a context there
    all_cores = str(os.cpu_count() or 1)  # while nothing trains; what is compiled here, trials find on the disk
    os.environ.setdefault(COMPILE_THREADS, all_cores)
    prepare_process(share)
    device = default_device()
    if device.type != "cuda":
        raise RuntimeError("the worker has no GPU")
    is_alone = share.gpus == 1  # else other trials, which Ray counts, are part of what is in use
    others = in_use.get(f"GPU-{torch.cuda.get_device_properties(device).uuid}", 0) if is_alone else 0
    peaks = []
    for config in configs:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        fits = _fits(config, images, num_folds, device)
        peak = torch.cuda.max_memory_reserved()
        gc.collect()
        pixels = torch.cuda.memory_allocated()  # the training's tensors are freed
        free, total = torch.cuda.mem_get_info()
        taken = total - free - torch.cuda.memory_reserved() - others
        context = max(0, taken) if is_alone else ASSUMED_CONTEXT_BYTES
        too_much = int(total * min(1.0, 2 * share.gpus))
        peaks.append(GpuMemoryNeed(peak - pixels if fits else too_much, pixels, context, total, others))
    return max(peaks, key=lambda need: need.gpus)


def bytes_in_use() -> dict[str, int]:
    """Returns the memory in use of each NVIDIA GPU of this node, by its UUID, without making a CUDA context."""
    nvml: Any = pynvml  # without types
    found: dict[str, int] = {}
    try:
        nvml.nvmlInit()
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            found[nvml.nvmlDeviceGetUUID(handle)] = nvml.nvmlDeviceGetMemoryInfo(handle).used
    except nvml.NVMLError:  # no driver, or one that does not say it
        return {}
    return found


def _fits(config: TrialConfig, images: ImagesByKey, num_folds: int, device: torch.device) -> bool:
    """Trains a few steps of the first fold and scores one batch. Returns whether the GPU's memory was enough."""
    examples = images[source_key(config.data)]
    whole = fold_at(examples, 1, num_folds, config.seed)
    fold = Fold(whole.train, whole.validation[: config.training.eval_batch_size])
    try:
        with contextlib.suppress(TrainingFailed):  # as it may at the largest learning rate
            num_steps = PROBED_STEPS + (WARM_UP_STEPS if config.training.cuda_graphs else 0)
            FoldTraining(config, examples, 1, fold, device).score_at(num_steps)
    except RuntimeError as error:
        if not is_gpu_out_of_memory(error):
            raise
        return False
    return True
