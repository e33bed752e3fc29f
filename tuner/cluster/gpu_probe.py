"""What a trial needs of a card, where `resources.gpus` is auto: measured before the trials, and more where it was too
little."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace

import torch

from trainables.config import TrialConfig
from trainables.data.folds import Fold, stratified_folds
from trainables.data.loading import source_key
from trainables.errors import Diverged
from trainables.trial import FoldTraining, default_device
from tuner.cluster.tasks import GpuOutOfMemory, WorkerFailed, as_completed, put_shared
from tuner.cluster.trainable import ImagesByKey, prepare_process
from tuner.experiment.search_experiment import SearchExperiment
from tuner.messages.redaction import without_credentials
from tuner.record.events import ShareGrown, ShareMeasured
from tuner.record.journal import ComparisonJournal, SearchJournal
from tuner.resources.gpu_memory import GpuMemoryNeed, is_gpu_out_of_memory, largest_configs, next_larger_share
from tuner.resources.share import Share

PROBED_STEPS = 2
"""The first makes the optimiser's state, which is there beside the activations from the second on."""

AUTO = "resources.gpus auto"


def resolve_share(
    share: Share,
    spaces: Iterable[SearchExperiment],
    images: ImagesByKey,
    num_folds: int,
    journal: SearchJournal | ComparisonJournal,
) -> Share:
    """Resolves `resources.gpus: auto` to what each trial of `spaces` gets; any other share is returned as it is.

    A GPU is measured once: a search that is resumed takes what its journal says. Where nothing can be measured, a trial
    gets a whole card, and the share's note says why.
    """
    if not share.is_auto:
        return share
    known, how = journal.history.share_measured, "as found before"
    if known is None:
        try:
            need = _measured(share, largest_configs(spaces), images, num_folds)
        except (WorkerFailed, MemoryError) as error:
            return replace(share, note=f"{AUTO}: a whole card a trial, for none could be measured: {error}")
        known = ShareMeasured(gpus=need.gpus, context=need.context, **asdict(need))
        journal.append(known)
        how = f"{need}{_where(share)}"
    share = replace(share.dividing_cards_by(journal.history.gpus or known.gpus), context=known.context)
    at_once = round(1 / share.gpus)
    return replace(share, note=f"{AUTO}: {how}; {share.gpus:.3g}, {at_once} trial{'s' * (at_once > 1)} a card")


def retry_with_larger_share(
    share: Share,
    journal: SearchJournal | ComparisonJournal,
    run: Callable[[Share], None],
    trial: int | None = None,
) -> None:
    """Calls `run(share)`, and again with a larger share for each process as often as an auto share was too little.

    Raises:
        GpuOutOfMemory: where a whole GPU was too little.
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
    """The greatest need on a card of each kind; one that tells no kind stands for all that tell none."""
    images_ref = put_shared(dict(images))
    one = replace(share, concurrency=1)  # of a whole card, as long as it is not measured
    needs: list[GpuMemoryNeed] = []
    for kind in sorted({node.card for node in share.nodes if node.gpus}):
        needs += as_completed(probe_gpu_memory, [(configs, images_ref, num_folds, one)], one, accelerator=kind)
    return max(needs, key=lambda need: need.gpus)


def _where(share: Share) -> str:
    untold = sum(1 for node in share.nodes if node.gpus and not node.card)
    return f" (measured on one of {untold} nodes)" if untold > 1 else ""


def probe_gpu_memory(
    configs: Sequence[TrialConfig], images: ImagesByKey, num_folds: int, share: Share
) -> GpuMemoryNeed:
    """The most that two steps and an evaluation of any of `configs` take; in a process and on a card of their own.

    What others have on the card counts as the process's own, which makes the share larger.

    Raises:
        RuntimeError: where this process sees no card.
    """
    prepare_process(share)
    device = default_device()
    if device.type != "cuda":
        raise RuntimeError("the worker sees no card")
    peaks = []
    for config in configs:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        fits = _fits(config, images, num_folds, device)
        peak = torch.cuda.max_memory_reserved()
        gc.collect()
        pixels = torch.cuda.memory_allocated()  # all else was the training's
        free, card = torch.cuda.mem_get_info()
        context = max(0, card - free - torch.cuda.memory_reserved())
        peaks.append(GpuMemoryNeed(peak - pixels if fits else card, pixels, context, card))
    return max(peaks, key=lambda need: need.gpus)


def _fits(config: TrialConfig, images: ImagesByKey, num_folds: int, device: torch.device) -> bool:
    """Trains and scores a little of the first fold; whether the card was large enough for it."""
    examples = images[source_key(config.data)]
    whole = stratified_folds(examples.labels, num_folds, config.seed)[0]
    fold = Fold(whole.train, whole.validation[: config.training.eval_batch_size])
    try:
        with contextlib.suppress(Diverged):  # at the greatest learning rate it may
            FoldTraining(config, examples, 1, fold, device).score_at(PROBED_STEPS)
    except RuntimeError as error:
        if not is_gpu_out_of_memory(error):
            raise
        return False
    return True
