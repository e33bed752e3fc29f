"""Time and memory of what a search computes besides its trainings, as shares of a search that has ended:

    python -m benchmarks.evaluation_cost --run experiments/NAME/RUN

Every part is computed again from the record in a process of its own, on the CPU, as often as the search does; the total
is to be at most 3 % of the duration of the search. The memory is the peak of what Python and NumPy allocate meanwhile.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from trainables.backbones import build_network
from trainables.calibration import fitted_temperature
from trainables.classifier import Classifier
from trainables.config import TrialConfig
from trainables.data.examples import Examples, as_inputs
from trainables.data.folds import fold_at, stratified_folds
from trainables.data.loading import load_test, load_train
from trainables.metrics import all_metrics, metrics_with_intervals
from trainables.near_twins import count_near_twins
from trainables.novelty import fitted_detector
from trainables.probe import pooled_features
from trainables.trial import predictions_on
from tuner.record.baselines import BaselineRecord
from tuner.record.configs import config_of
from tuner.record.directory import RunDirectory
from tuner.record.history import TrialRecord
from tuner.record.predictions import PredictionFiles
from tuner.reports.evaluation import calibration_of, evaluations_of, model_evaluation
from tuner.reports.mistakes import write_mistakes
from tuner.reports.predictions_table import write_predictions
from tuner.reports.search_run import SearchRun, read_run

LIMIT = 0.03
NUM_RESULTS = 2
"""How often a search makes its result with intervals: for the model card, and at its end."""


@dataclass(frozen=True)
class Part:
    """Something that a search computes `count` times."""

    name: str
    count: int
    compute: Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """Seconds of a part, all times together, and its peak memory in MiB."""

    name: str
    duration_s: float
    peak_mib: float


def cost_of(part: Part) -> Cost:
    """Computes a part once to warm up and once timed, and a third time to count its memory."""
    part.compute()
    started_s = time.perf_counter()
    part.compute()
    duration_s = time.perf_counter() - started_s
    tracemalloc.start()
    part.compute()
    peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return Cost(part.name, part.count * duration_s, peak_mib)


def parts_of(run: SearchRun, scratch: RunDirectory) -> Iterator[Part]:
    """Yields the parts of a search; files are written to `scratch`, which has a copy of its predictions."""
    winner, evaluation = run.winner, model_evaluation(run.directory, run.history)
    if winner is None or evaluation is None:
        raise SystemExit(f"{run.directory} has no predictions of a winner")
    config = config_of(winner, run.space)
    train, test = load_train(config.data), load_test(config.data)
    kept = evaluation.validation.predictions
    classifier, folds = Classifier.load(run.directory.model, torch.device("cpu")), run.space.search.folds
    records: list[TrialRecord | BaselineRecord] = [*run.history.trials.values(), *run.history.baselines.values()]
    results = [result for record in records for result in record.folds]
    num_points = sum(max(0, len(result.curve_steps) - 1) for result in results)  # the last is the score itself
    validation = train.take(fold_at(train, 1, folds, config.seed).validation)
    evaluations = [each for each in evaluations_of(run.directory, run.history) if each.network in ("", "seed 0")]
    yield Part(
        "learning curves",
        num_points,
        lambda: predictions_on(classifier.network, validation, config, torch.device("cpu")),
    )
    yield Part("metrics of folds", len(results), lambda: all_metrics(kept.probabilities, kept.labels))
    yield Part("near twins", 1, _near_twins(config, train, folds))
    yield Part("files of predictions", len(results), kept.as_bytes)
    yield Part("table of predictions", 1, lambda: write_predictions(scratch, run.history))
    yield Part("label errors", 1, evaluation.validation.label_issues)
    yield Part("mistakes with pictures", 1, lambda: write_mistakes(scratch, evaluation, run.space.name, train, test))
    yield Part("temperature", 1, lambda: fitted_temperature(kept))
    features = PredictionFiles(run.directory).features(winner.key, folds)
    yield Part("unlike anything seen", 1, lambda: fitted_detector(features, train.num_classes))
    for each in evaluations:
        intervals = partial(metrics_with_intervals, each.predictions.probabilities, each.predictions.labels)
        yield Part(f"intervals: {each.model}, {each.split}", NUM_RESULTS, intervals)
    yield Part("calibration with intervals", 1, lambda: calibration_of(evaluation.validation))


def _near_twins(config: TrialConfig, train: Examples, num_folds: int) -> Callable[[], object]:
    """Counts near twins of features that are there already, those of the probes."""
    network = build_network(config.backbone, train.num_classes, 0, False)
    features = pooled_features(network, as_inputs(train, config.data, None), config, torch.device("cpu"))
    folds = stratified_folds(train.labels, num_folds, config.seed, 0, train.groups)
    return lambda: count_near_twins(features, folds)


def lines_of(costs: Sequence[Cost], duration_s: float) -> Iterator[str]:
    """A line for each part and one for all together."""
    for cost in costs:
        yield f"{cost.name:<40} {cost.duration_s:8.3f} s  {cost.duration_s / duration_s:7.3%}  {cost.peak_mib:7.1f} MiB"
    total_s = sum(cost.duration_s for cost in costs)
    verdict = "ok" if total_s <= LIMIT * duration_s else "over"
    share = f"{total_s / duration_s:7.3%}  of {duration_s:.0f} s; limit {LIMIT:.0%}: {verdict}"
    yield f"{'together':<40} {total_s:8.3f} s  {share}"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--run", type=Path, required=True, help="directory of a search that has ended")
    run = read_run(RunDirectory(parser.parse_args(argv).run))
    with tempfile.TemporaryDirectory() as folder:
        scratch = RunDirectory(Path(folder))
        shutil.copytree(run.directory.predictions, scratch.predictions)
        costs = [cost_of(part) for part in parts_of(run, scratch)]
    for line in lines_of(costs, run.duration_s):
        print(line)


if __name__ == "__main__":
    main()
