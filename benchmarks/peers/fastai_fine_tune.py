"""fastai's `fine_tune` with its documented defaults, and as many epochs as the minutes hold.

Its vision_learner, head, learning rates, optimiser and aug_transforms are as its documentation has them; it trains on
all training photographs, as it chooses nothing by validation.
"""

from __future__ import annotations

import time
from typing import Any

from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    FuncSplitter,
    ImageBlock,
    Normalize,
    Resize,
    aug_transforms,
    set_seed,
    vision_learner,
)
from torch import Tensor, nn

from benchmarks.peers.arguments import from_arguments
from benchmarks.peers.loading import mean_and_std_of
from benchmarks.peers.photographs import Clock, PhotoTask, Split, hand_in, splits_of
from trainables.backbones import Backbone, build_network

PRESIZED = 460 / 224
"""Side of the images before augmentation, relative to the network's input, as in fastai's tutorials."""


def main() -> None:
    """Runs the task."""
    task = from_arguments(PhotoTask)
    clock = Clock(task)
    train, test = splits_of(task.root)
    frozen_s, epoch_s = clock.known("fastai-epochs", lambda: seconds_of_epochs(learner_of(task, train)))
    learner = learner_of(task, train)
    epochs = max(1, int((clock.left_s - frozen_s) / epoch_s))
    learner.fine_tune(epochs)
    seconds = clock.seconds
    loader = learner.dls.test_dl([str(file) for file in test.files])
    probabilities, _ = learner.get_preds(dl=loader)
    classes = [str(learner.dls.vocab[label]) for label in probabilities.argmax(dim=1).tolist()]
    hand_in(task, seconds, f"1 + {epochs} epochs", test.files, classes)


class Body(nn.Module):
    """The network up to its feature map, as a module that fastai can put its head on."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        features, _ = self.backbone(images)
        return features  # type: ignore[no-any-return]


def learner_of(task: PhotoTask, train: Split) -> Any:
    """A learner with fresh weights and the order of batches of `task.seed`."""
    set_seed(task.seed)
    class_of = {str(file): train.class_names[label] for file, label in zip(train.files, train.labels, strict=True)}
    network = build_network(task.backbone_config, len(train.class_names), task.seed, keep_source_head=False)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=list(train.class_names))),
        get_items=list,
        get_y=lambda file: class_of[file],
        splitter=FuncSplitter(lambda _: False),
        item_tfms=Resize(round(task.size_px * PRESIZED)),
        batch_tfms=[*aug_transforms(size=task.size_px), Normalize.from_stats(*mean_and_std_of(network))],
    )
    learner = vision_learner(
        block.dataloaders(list(class_of)),
        lambda pretrained: nn.Sequential(Body(network.backbone), nn.AdaptiveAvgPool2d(1)),
    )
    return learner.remove_cbs([each for each in learner.cbs if type(each).__name__ == "ProgressCallback"])


def seconds_of_epochs(learner: Any) -> list[float]:
    """An epoch with all but the head frozen, and one with nothing frozen, each with the start of its workers."""
    seconds = []
    for prepare in (learner.freeze, learner.unfreeze):
        prepare()
        started_s = time.perf_counter()
        learner.fit_one_cycle(1)
        seconds.append(time.perf_counter() - started_s)
    return seconds


if __name__ == "__main__":
    main()
