"""SMILE in cross-validation, straightforwardly written on torchvision's ImageFolder and DataLoader.

The network comes from this project, so that it is the same one; the loss is the authors', term for term.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.peers.task import BACKBONE, MEAN, STD, Task
from trainables.backbones import TransferNetwork, build_network
from trainables.data.folds import stratified_folds

LOADER_WORKERS = 2
START = "fork"
"""As is usual on Linux; said, because joblib's processes have another default, with which a DataLoader cannot start."""
EMA_PERIOD_STEPS, EMA_REFERENCE_STEPS = 10, 9000


def fold_scores(task: Task, params: Mapping[str, float]) -> Iterator[float]:
    """Validation top-1 of each fold, as it ends."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    resize = transforms.Resize((task.stored_px, task.stored_px), transforms.InterpolationMode.BICUBIC)
    normalise = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    mirror = [transforms.RandomHorizontalFlip()] if task.mirrored else []
    augmented = ImageFolder(
        task.root / "train", transforms.Compose([resize, transforms.RandomCrop(task.size_px), *mirror, *normalise])
    )
    plain = ImageFolder(
        task.root / "train", transforms.Compose([resize, transforms.CenterCrop(task.size_px), *normalise])
    )
    for fold in stratified_folds(np.array(augmented.targets), task.folds, task.seed):
        train = DataLoader(
            Subset(augmented, fold.train.tolist()),
            batch_size=task.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=LOADER_WORKERS,
            persistent_workers=True,
            multiprocessing_context=START,
            pin_memory=device.type == "cuda",
        )
        validation = DataLoader(
            Subset(plain, fold.validation.tolist()),
            batch_size=128,
            num_workers=LOADER_WORKERS,
            multiprocessing_context=START,
        )
        network = build_network(BACKBONE, len(augmented.classes), task.seed, keep_source_head=True).to(device)
        fine_tune(network, train, task, params, device)
        yield accuracy(network, validation, device)


def fine_tune(
    network: TransferNetwork,
    batches: DataLoader[tuple[Tensor, Tensor]],
    task: Task,
    params: Mapping[str, float],
    device: torch.device,
) -> None:
    """`task.steps` steps of SMILE."""
    teacher = copy.deepcopy(network).eval().requires_grad_(False)
    decay = params["ema_decay"] ** (EMA_REFERENCE_STEPS / task.steps)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=task.learning_rate, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, max(1, round(task.steps * 2 / 3)))
    network.train()
    endless = itertools.chain.from_iterable(itertools.repeat(batches))
    for step, (images, labels) in enumerate(itertools.islice(endless, task.steps), start=1):
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        loss = smile_loss(network, teacher, images, labels, params)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % EMA_PERIOD_STEPS == 0:
            follow(teacher.backbone, network.backbone, decay)


def smile_loss(
    network: TransferNetwork, teacher: TransferNetwork, images: Tensor, labels: Tensor, params: Mapping[str, float]
) -> Tensor:
    """Mix the images; labels, features and source-class probabilities are to be mixed alike."""
    weight = float(np.random.beta(params["alpha"], params["alpha"]))
    partner = torch.randperm(len(images), device=images.device)
    seen = network(weight * images + (1 - weight) * images[partner])
    with torch.no_grad():
        taught = teacher(images)
    loss = weight * F.cross_entropy(seen.target_logits, labels)
    loss = loss + (1 - weight) * F.cross_entropy(seen.target_logits, labels[partner])
    features = weight * taught.features + (1 - weight) * taught.features[partner]
    root_mean_square = torch.norm(seen.features - features) / math.sqrt(len(images) * features[0, 0].numel())
    loss = loss + params["gamma_fe"] * root_mean_square * math.sqrt(48) / 7  # γ at the paper's batch and map
    probabilities = taught.source_logits.softmax(dim=1)
    probabilities = weight * probabilities + (1 - weight) * probabilities[partner]
    return torch.add(loss, F.cross_entropy(seen.source_logits, probabilities), alpha=params["gamma_fc"])


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """The moving average, parameter by parameter."""
    for kept, new in zip(teacher.parameters(), student.parameters(), strict=True):
        kept.mul_(decay).add_(new, alpha=1 - decay)


@torch.no_grad()
def accuracy(network: TransferNetwork, batches: DataLoader[tuple[Tensor, Tensor]], device: torch.device) -> float:
    """Top-1 in [0, 1]."""
    network.eval()
    correct = total = 0
    for images, labels in batches:
        predicted = network(images.to(device)).target_logits.argmax(dim=1).cpu()
        correct += int((predicted == labels).sum())
        total += len(labels)
    return correct / total
