"""What a search does with its predictions: names of the examples, a table, mistakes, and the model's temperature."""

from __future__ import annotations

import logging

from trainables.calibration import fitted_temperature
from trainables.classifier import set_novelty, set_temperature
from trainables.data.config import DataConfig
from trainables.data.examples import Examples
from trainables.data.images import LabelledImages
from trainables.data.loading import example_names, load_test, source_key
from trainables.errors import BadInput
from trainables.novelty import fitted_detector
from tuner.cluster.trainable import ImagesByKey
from tuner.execution.observer import Observer
from tuner.experiment.search_experiment import SearchExperiment
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import one_line
from tuner.record.configs import config_of
from tuner.record.directory import RunDirectory
from tuner.record.examples import ExampleNames
from tuner.record.history import SearchHistory
from tuner.record.predictions import PredictionFiles
from tuner.record.selection import winner_of
from tuner.reports.batch_preview import write_batch_picture
from tuner.reports.evaluation import model_evaluation
from tuner.reports.mistakes import write_mistakes
from tuner.reports.predictions_table import write_predictions

logger = logging.getLogger(__name__)


def keep_example_names(space: SearchExperiment, images: ImagesByKey, directory: RunDirectory) -> None:
    """Writes the names of classes and examples into the run directory: predictions refer to their positions."""
    data = next(space.boundary_configs()).data
    train, test = example_names(data)
    ExampleNames(class_names=images[source_key(data)].class_names, train=tuple(train), test=tuple(test)).write(
        directory
    )


def evaluate_model(
    space: SearchExperiment, images: ImagesByKey, directory: RunDirectory, history: SearchHistory, observer: Observer
) -> None:
    """Writes the table of predictions and the mistakes, and gives the model the temperature that fits out of fold, and
    the features by which it says what is unlike anything seen.

    A search stands without them: the observer says where that fails.
    """
    winner = winner_of(history.trials.values(), history.baselines.values())
    evaluation = model_evaluation(directory, history)
    if winner is None or evaluation is None:
        return
    observer.enter_phase("evaluating the model")
    try:
        data = config_of(winner, space).data
        write_predictions(directory, history)
        test = None if evaluation.test is None else _test_of(data)
        write_mistakes(directory, evaluation, space.name, images[source_key(data)], test)
        if directory.model.is_dir():
            set_temperature(directory.model, fitted_temperature(evaluation.validation.predictions))
            features = PredictionFiles(directory).features(winner.key, space.search.folds)
            set_novelty(directory.model, fitted_detector(features, len(evaluation.names.class_names)))
    except Exception as error:
        logger.exception("the predictions were not evaluated")
        observer.say(f"the predictions are not evaluated: {without_credentials(one_line(error))}")


def keep_batch_picture(
    space: SearchExperiment, images: ImagesByKey, directory: RunDirectory, history: SearchHistory
) -> None:
    """Writes a picture of a training batch of the winner for the report, which is complete without it.

    Texts have no picture, nor has a training of no steps.
    """
    winner = winner_of(history.trials.values(), history.baselines.values())
    if winner is None:
        return
    try:
        config = config_of(winner, space)
        examples = images[source_key(config.data)]
        if isinstance(examples, LabelledImages) and config.training.num_steps != 0:
            write_batch_picture(directory, config, examples)
    except Exception:
        logger.exception("there is no picture of a training batch")


def _test_of(data: DataConfig) -> Examples | None:
    try:
        return load_test(data)
    except BadInput:  # moved away meanwhile: the mistakes are then those out of fold
        return None
