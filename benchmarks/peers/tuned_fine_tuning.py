"""Plain fine-tuning tuned by Ray Tune with OptunaSearch, ASHA and MLflowLoggerCallback, wired as their guides teach it.

A fifth of the training photographs validates, the best setting is trained anew on all of them, and both together take
the minutes. Two trials run at once, on a core each, as on this project's side.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray
import torch
from optuna.samplers import TPESampler
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

from benchmarks.peers.arguments import from_arguments
from benchmarks.peers.loading import augmented_view, batches_of, default_device, plain_view
from benchmarks.peers.photographs import Clock, PhotoTask, Split, hand_in, splits_of
from trainables.backbones import TransferNetwork, build_network

MAX_EPOCHS = 10
"""Of a trial, as in PyTorch's and Ray's tutorials; fewer where the retraining would take more than its share."""
RETRAINING_SHARE = 0.25
SPACE = {
    "lr": tune.loguniform(1e-4, 1e-1),
    "weight_decay": tune.loguniform(1e-6, 1e-2),
    "batch_size": tune.choice([16, 32, 64]),
}
UNTUNED = {"lr": 1e-3, "weight_decay": 1e-4, "batch_size": 32}
"""What is trained where no trial has ended an epoch in time."""
SHUTDOWN_S = 5.0


def main() -> None:
    """Runs the task."""
    task = from_arguments(PhotoTask)
    clock = Clock(task)
    train, test = splits_of(task.root)
    (epoch_s,) = clock.known("tuned-epoch", lambda: [seconds_of_epoch(task, train)])
    epochs = min(MAX_EPOCHS, max(1, int(RETRAINING_SHARE * 60 * task.minutes / epoch_s)))
    results = search(task, train, epochs, clock.left_s - epochs * epoch_s - SHUTDOWN_S)
    trials = [trial for trial in map(results.__getitem__, range(len(results))) if "val_top1" in (trial.metrics or {})]
    best = results.get_best_result() if trials else None
    *_, network = trained(task, train, UNTUNED if best is None else dict(best.config or {}), epochs)
    seconds = clock.seconds
    said = f"{len(trials)} trials of up to {epochs} epochs"
    classes = [test.class_names[label] for label in predicted(network, test, task)]
    hand_in(task, seconds, said, test.files, classes)


def search(task: PhotoTask, photographs: Split, epochs: int, seconds: float) -> tune.ResultGrid:
    """Trials until `seconds` are over."""
    os.environ["RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS"] = "0"
    ray.init(include_dashboard=False, num_cpus=os.cpu_count(), log_to_driver=False)
    with TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(train_and_report, task=task, photographs=photographs, epochs=epochs),
                {"cpu": 1, "gpu": 0.25 if torch.cuda.is_available() else 0},
            ),
            param_space=SPACE,
            tune_config=tune.TuneConfig(
                metric="val_top1",
                mode="max",
                search_alg=OptunaSearch(sampler=TPESampler(seed=task.seed)),
                scheduler=ASHAScheduler(max_t=epochs, grace_period=1, reduction_factor=2),
                num_samples=-1,
                time_budget_s=max(1.0, seconds),
                max_concurrent_trials=os.cpu_count(),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="peer",
                storage_path=folder,
                callbacks=[MLflowLoggerCallback(f"sqlite:///{Path(folder) / 'mlflow.db'}", experiment_name="peer")],
                verbose=0,
            ),
        )
        results = tuner.fit()
    ray.shutdown()
    return results


def train_and_report(config: dict[str, Any], task: PhotoTask, photographs: Split, epochs: int) -> None:
    """One trial: four fifths train, one fifth validates after each epoch."""
    training, validation = parted(photographs, task.seed)
    for network in trained(task, training, config, epochs):
        correct = predicted(network, validation, task) == np.array(validation.labels)
        tune.report({"val_top1": float(correct.mean())})


def parted(photographs: Split, seed: int) -> tuple[Split, Split]:
    """Four fifths and one fifth, by class where every class has two images or more."""
    labels = np.array(photographs.labels)
    stratify = labels if np.bincount(labels).min() > 1 else None
    parts = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=seed, stratify=stratify)
    training, validation = (
        Split(
            tuple(photographs.files[number] for number in part),
            tuple(labels[part].tolist()),
            photographs.class_names,
        )
        for part in parts
    )
    return training, validation


def trained(
    task: PhotoTask, photographs: Split, config: dict[str, Any], epochs: int, max_batches: int | None = None
) -> Iterator[TransferNetwork]:
    """Plain fine-tuning by SGD with a cosine schedule. Yields the network after each epoch."""
    torch.manual_seed(task.seed)
    device = default_device()
    network = build_network(task.backbone_config, len(photographs.class_names), task.seed, keep_source_head=False)
    network = network.to(device)
    batches = batches_of(
        photographs,
        augmented_view(network, task),
        config["batch_size"],
        shuffle=True,
        drop_last=len(photographs.files) >= config["batch_size"],
    )
    optimizer = torch.optim.SGD(
        network.parameters(), lr=config["lr"], momentum=0.9, weight_decay=config["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    for _ in range(epochs):
        network.train()
        for number, (images, labels) in enumerate(batches):
            if number == max_batches:
                break
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images.to(device)).target_logits, labels.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        yield network


@torch.no_grad()
def predicted(network: TransferNetwork, photographs: Split, task: PhotoTask) -> np.ndarray:
    """Label of each image."""
    network.eval()
    batches = batches_of(photographs, plain_view(network, task), batch_size=128)
    parts = [network(images.to(default_device())).target_logits.argmax(dim=1).cpu() for images, _ in batches]
    return torch.cat(parts).numpy()


def seconds_of_epoch(task: PhotoTask, photographs: Split) -> float:
    """An epoch over all training photographs with all cores, as the retraining is: from a few batches of it."""
    whole = len(photographs.files) // UNTUNED["batch_size"]
    timed = int(min(10, max(1, whole)))
    started_s = time.perf_counter()
    list(trained(task, photographs, UNTUNED, 1, max_batches=timed))
    return (time.perf_counter() - started_s) * max(1.0, whole / timed)


if __name__ == "__main__":
    main()
