"""Cell of a comparison: one training, of a row in a column with a seed.

It runs in a worker, and does not import Ray.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from trainables.backbones.network import TransferNetwork
from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.examples import Examples
from trainables.data.images import LabelledImages
from trainables.device import default_device
from trainables.measures import MEASURES
from trainables.results import RetrainFailed, RetrainResult
from trainables.trial import reseeded, train_and_test
from tuner.cluster.trainable import prepare_process
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import cell_name, one_line
from tuner.record.events import CellFailed, CellFinished
from tuner.resources.gpu_memory import is_gpu_out_of_memory
from tuner.resources.share import Share

logger = logging.getLogger(__name__)


class CellKey(NamedTuple):
    """Row, column and seed: the key of a training in the journal, and its name in MLflow and messages."""

    row: str
    column: str
    seed: int

    def __str__(self) -> str:
        return cell_name(*self)


@dataclass(frozen=True)
class CellScored:
    """Training with its test accuracy and its other measures: `<name>_train` on the column's training images,
    `<name>_test` on the test split."""

    key: CellKey
    result: RetrainResult
    measures: dict[str, float]

    def event(self, config: dict[str, Any]) -> CellFinished:
        """Makes the event for the journal; `config` is the training's configuration by dotted path."""
        return CellFinished(**self.key._asdict(), config=config, result=self.result, measures=self.measures)


@dataclass(frozen=True)
class CellUnscored:
    """Training without a score. If it diverged, it would again; after any other error it may be repeated."""

    key: CellKey
    reason: str
    diverged: bool

    def event(self, config: dict[str, Any]) -> CellFailed:
        """Makes the event for the journal; `config` is the training's configuration by dotted path."""
        return CellFailed(**self.key._asdict(), config=config, reason=self.reason, diverged=self.diverged)


@dataclass(frozen=True)
class MeasureSettings:
    """Names of the measures of a trained network besides its accuracy, and how their images are batched."""

    names: Sequence[str]
    data: DataConfig
    batch_size: int


def train_cell(
    key: CellKey,
    config: TrialConfig,
    measures: MeasureSettings,
    train: Examples,
    column_train: Examples,
    test: Examples,
    share: Share,
) -> CellScored | CellUnscored:
    """Trains `config` with the key's seed on `train`, scores it on `test`, measures it on `column_train` and `test`.

    An error of the training is returned, so that the comparison continues.

    Raises:
        RuntimeError: if the share of a GPU is too small and can be larger, or the process's CUDA context is broken, in
            which each further training would fail.
    """
    prepare_process(share)
    try:
        ended = train_and_test(reseeded(config, key.seed), key.seed, train, test)
        if isinstance(ended, RetrainFailed):
            return CellUnscored(key, ended.reason, diverged=True)
        return CellScored(key, ended.result, measure(ended.network, measures, column_train, test))
    except Exception as error:
        if share.is_auto and share.gpus < 1 and is_gpu_out_of_memory(error):
            raise  # the driver tries it again with a larger share
        if isinstance(error, torch.AcceleratorError) and not is_gpu_out_of_memory(error):
            raise  # the driver tries it again in another process
        logger.exception("%s failed", key)
        return CellUnscored(key, without_credentials(one_line(error)), diverged=False)


def measure(
    network: TransferNetwork, settings: MeasureSettings, column_train: Examples, test: Examples
) -> dict[str, float]:
    """Takes every measure on both splits. Values that are not finite are left out."""
    values: dict[str, float] = {}
    for split, images in (("train", column_train), ("test", test)):
        for name in settings.names:
            assert isinstance(images, LabelledImages)  # as was checked
            found = MEASURES[name](network, images, settings.data, settings.batch_size, default_device())
            values |= {f"{metric}_{split}": value for metric, value in found.items() if math.isfinite(value)}
    return values
