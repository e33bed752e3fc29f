"""Sections of `benchmarks.gpu`: a whole fold as a worker trains it, and three folds as one model.

gpu_outside_of_steps_<network>   share of a fold's time that is not its steps: start, evaluation, checkpoints, end
gpu_checkpoints_share            share of a training's time that a checkpoint a period costs, at the default period
gpu_kept_mb_<network>            memory of the card after the last fold, beside that after the first
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from functools import partial

import torch

from benchmarks import fused_folds
from benchmarks.figures import seconds_of
from benchmarks.gpu_section import (
    Section,
    Workload,
    backbone_config,
    data_config,
    drawn_images,
    step_s,
    taken_bytes,
    training,
)
from trainables.backbones.config import BackboneConfig
from trainables.backbones.kept_networks import KeptNetworks
from trainables.config import TrialConfig
from trainables.data.folds import stratified_folds
from trainables.methods.smile import Smile
from trainables.training.checkpoint import Checkpoints
from trainables.training.config import TrainingConfig
from trainables.training.loop import Fit
from trainables.trial import FoldTraining

TORCHVISION = Workload("torchvision_resnet18", "torchvision/resnet18", 64, 24)
NUM_WHOLE = 3
"""Folds of which the time is measured; the first one starts what the others find started."""
PERIOD_S = 30.0
"""`search.checkpoint_period_s`, as it is where nothing is said."""


def run(section: Section) -> None:
    """The figures, a network at a time, then of checkpoints."""
    small = section.workload("small")
    for workload in (small, TORCHVISION._replace(size_px=small.size_px, batch_size=small.batch_size)):
        if section.has_time_for(workload.label, 12):
            section.attempt(f"folds_{workload.label}", partial(measure_folds, section, workload))
    if section.has_time_for("checkpoints", 12):
        section.attempt("checkpoints_share", partial(measure_checkpoints, section))


def measure_folds(section: Section, workload: Workload) -> None:
    """Ten folds in one process, as of a worker that is reused. The first three are whole ones; what the card keeps of
    the others does not depend on their steps."""
    examples = drawn_images(data_config(workload).stored_px, section.count(1200, 40))
    fold = stratified_folds(examples.labels, num_folds=3, seed=0)[0]
    kept = KeptNetworks()
    gc.collect()  # what is there of the network before would be frozen, too
    gc.freeze()  # as a worker does: a collection after a fold has little to look at
    taken, shares = [], []
    for number in range(1, section.count(10, 4) + 1):
        if number > 2 and not section.has_time_for(f"fold {number} of {workload.label}", 4):
            break
        is_whole = number <= NUM_WHOLE
        config = fold_config(section, workload, section.count(300 if is_whole else 20, 2))
        started_s = time.perf_counter()
        checkpoints = Checkpoints(section.scratch / f"fold-{number}.pt", PERIOD_S)
        fold_training = FoldTraining(config, examples, number, fold, section.device, checkpoints, kept=kept)
        steps_s = seconds_of(partial(fold_training.training.run, config.training.num_steps))
        fold_training.result()
        checkpoints.discard()
        del fold_training, checkpoints
        gc.collect()
        if is_whole:
            shares.append(1 - steps_s / (time.perf_counter() - started_s))
        if section.device.type == "cuda":
            torch.cuda.empty_cache()
        taken.append(taken_bytes(section.device))
        if number in (1, 5, 10):
            section.value(f"card_after_fold_{number}_{workload.label}", taken[-1] / 2**20, "MiB")
    section.figure(f"outside_of_steps_{workload.label}", min(shares[1:]), 0.05)
    section.figure(f"kept_mb_{workload.label}", (taken[-1] - taken[0]) / 1e6, 5)


def fold_config(section: Section, workload: Workload, num_steps: int) -> TrialConfig:
    """SMILE in bf16; without its source head on torchvision's network, whose weights would be downloaded."""
    from_torchvision = workload.backbone.startswith("torchvision/")
    blank = BackboneConfig(name=workload.backbone, pretrained=False)
    return TrialConfig(
        data=data_config(workload),
        backbone=blank if from_torchvision else backbone_config(section, workload),
        method=Smile.Config(gamma_fc=0.0 if from_torchvision else 0.1),
        training=TrainingConfig(
            num_steps=num_steps, batch_size=workload.batch_size, learning_rate=1e-4, precision="bf16"
        ),
    )


def measure_checkpoints(section: Section) -> None:
    """What a checkpoint of SMILE adds to the steps during which it is written, over the time to the next one."""
    fit = training(section, section.workload("large"), "smile")
    file = section.scratch / "kept" / "fold.pt"
    step_s(fit, section.count(10, 1))
    checkpoints = Checkpoints(file, PERIOD_S)
    extra_s: list[float] = []
    for number in range(1, section.count(3) + 1):
        if extra_s and not section.has_time_for(f"checkpoint {number}", 5):
            break
        extra_s.append(added_by_a_checkpoint_s(fit, checkpoints, section.count(5, 1)))
    added_s = statistics.median(extra_s)
    section.value("checkpoint_size", file.stat().st_size / 1e6, "MB")
    section.value("checkpoint_adds", 1e3 * added_s, "ms")
    section.value("checkpoint_period", checkpoints.next_after_s, "s")
    section.figure("checkpoints_share", added_s / checkpoints.next_after_s, 0.01)


def added_by_a_checkpoint_s(fit: Fit, checkpoints: Checkpoints, num_steps: int) -> float:
    """Seconds that the steps up to the end of its writing take, some at a time, over those of as many without."""
    before = fit.step

    def save_and_run() -> None:
        checkpoints.save("me", fit.state_dict())
        writer = checkpoints._writer
        while writer is not None and writer.is_alive():
            fit.run(fit.step + num_steps)

    with_one_s = seconds_of(save_and_run)
    taken = fit.step - before
    return with_one_s - taken * step_s(fit, max(taken, num_steps))


def run_fused(section: Section) -> None:
    """Three folds in one pass, over one after the other."""
    given = {"size_px": section.count(64, 32), "batch_size": section.count(24, 2), "folds": section.count(3, 2)}
    arguments = argparse.Namespace(**given, pairs=section.count(8, 1), threads=torch.get_num_threads())

    def measure() -> None:
        (figure,) = fused_folds.measure(arguments)
        assert figure.value is not None
        section.figure(figure.name, figure.value, figure.limit)

    section.attempt("fused_over_one_by_one", measure)
