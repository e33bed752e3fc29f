"""A cell of a comparison: one training, of a row in a column with a seed. The worker's side, without Ray."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from trainables.backbones.network import TransferNetwork
from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.examples import Examples
from trainables.data.images import LabelledImages
from trainables.measures import MEASURES
from trainables.results import RetrainFailed, RetrainResult
from trainables.trial import default_device, reseeded, train_and_test
from tuner.cluster.trainable import prepare_process
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import cell_name, one_line
from tuner.record.events import CellFailed, CellFinished
from tuner.resources.gpu_memory import is_gpu_out_of_memory
from tuner.resources.share import Share

logger = logging.getLogger(__name__)


class CellKey(NamedTuple):
    """Row, column and seed: the name of a training in the journal, on the screen and in MLflow."""

    row: str
    column: str
    seed: int

    def __str__(self) -> str:
        return cell_name(*self)


@dataclass(frozen=True)
class CellScored:
    """A training with its test accuracy, and what else was measured: `<name>_train` on the column's training images,
    `<name>_test` on the test split."""

    key: CellKey
    result: RetrainResult
    measures: dict[str, float]

    def event(self, config: dict[str, Any]) -> CellFinished:
        """What the journal keeps; `config` is the training's configuration by dotted path."""
        return CellFinished(**self.key._asdict(), config=config, result=self.result, measures=self.measures)


@dataclass(frozen=True)
class CellUnscored:
    """A training without a score. One that diverged always will; anything else may be tried again."""

    key: CellKey
    reason: str
    diverged: bool

    def event(self, config: dict[str, Any]) -> CellFailed:
        """What the journal keeps; `config` is the training's configuration by dotted path."""
        return CellFailed(**self.key._asdict(), config=config, reason=self.reason, diverged=self.diverged)


@dataclass(frozen=True)
class MeasureSettings:
    """Measures to take of a trained network besides its accuracy, and how its images are made into batches."""

    names: Sequence[str]
    data: DataConfig
    batch_size: int


def train_cell(
    key: CellKey,
    config: TrialConfig,
    measuring: MeasureSettings,
    train: Examples,
    column_train: Examples,
    test: Examples,
    share: Share,
) -> CellScored | CellUnscored:
    """Trains `config` with the key's seed on `train`, scores it on `test`, measures it on `column_train` and `test`.

    An error of the training ends this cell, not the comparison.

    Raises:
        RuntimeError: where the share of a card is too little, and can be made larger.
    """
    prepare_process(share)
    try:
        ended = train_and_test(reseeded(config, key.seed), key.seed, train, test)
        if isinstance(ended, RetrainFailed):
            return CellUnscored(key, ended.reason, diverged=True)
        trained, network = ended
        return CellScored(key, trained, measure(network, measuring, column_train, test))
    except Exception as error:
        if share.is_auto and share.gpus < 1 and is_gpu_out_of_memory(error):
            raise  # to be tried again with more of a card
        logger.exception("%s failed", key)
        return CellUnscored(key, without_credentials(one_line(error)), diverged=False)


def measure(
    network: TransferNetwork, measuring: MeasureSettings, column_train: Examples, test: Examples
) -> dict[str, float]:
    """Every measure on both splits, where it is defined."""
    values: dict[str, float] = {}
    for split, images in (("train", column_train), ("test", test)):
        for name in measuring.names:
            assert isinstance(images, LabelledImages)  # as was checked
            found = MEASURES[name](network, images, measuring.data, measuring.batch_size, default_device())
            values |= {f"{metric}_{split}": value for metric, value in found.items() if math.isfinite(value)}
    return values
