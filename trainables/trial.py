"""Trainings of a trial: of single folds in a search, and on all training examples in the retraining."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from trainables.backbones import build_network, weights_key
from trainables.backbones.kept_networks import KeptNetworks
from trainables.backbones.network import Predictor, TransferNetwork
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches, steps_per_epoch, training_batch
from trainables.data.examples import Examples, as_inputs, selection_key
from trainables.data.folds import Fold
from trainables.device import default_device as default_device
from trainables.errors import Collapsed, TrainingFailed
from trainables.methods import MethodContext, build_method, uses_source_head
from trainables.novelty import directions, sampled_rows
from trainables.predictions import Predictions
from trainables.probe import PROBES
from trainables.results import FoldResult, RetrainFailed, RetrainResult
from trainables.seeding import seed_for
from trainables.training.checkpoint import Checkpoints
from trainables.training.curve import CurveScorer, ScoreOf
from trainables.training.evaluation import Evaluated, evaluated, is_constant
from trainables.training.facts import facts_of
from trainables.training.loop import Fit
from trainables.training.progress import ProgressMeter
from trainables.training.target_loss import target_loss_of
from trainables.types import Batch


def train_full(
    config: TrialConfig,
    examples: Examples,
    device: torch.device | None = None,
    checkpoints: Checkpoints | None = None,
    share: float = 1.0,
) -> tuple[TransferNetwork, Fit]:
    """Trains `config` on all of `examples`, resuming from `checkpoints`. Returns the network and its finished fit.

    It ends after `share` of its steps, at the learning rates of a whole training. Raises Diverged.
    """
    training = Training(config, examples, seed_for(config.seed, "full"), device or default_device(), checkpoints)
    training.run(None if share == 1 else max(1, round(share * training.fit.num_steps)))
    return training.fit.method.student, training.fit


class Training:
    """A training of `config` on `examples`, at step 0 or at the step of its checkpoint, `taken_up_at`.

    `seed` is the root of the addresses of its draws. A checkpoint keeps what `more_state` returns, too, which a resumed
    training has as `kept_state`. The tensors of `kept` are reused: a training that had them before must have ended.
    """

    def __init__(
        self,
        config: TrialConfig,
        examples: Examples,
        seed: int,
        device: torch.device,
        checkpoints: Checkpoints | None = None,
        kept: KeptNetworks | None = None,
    ) -> None:
        self.checkpoints = checkpoints
        self.identity = identity_of(config, examples, seed) if checkpoints is not None else ""
        saved = checkpoints.load(self.identity) if checkpoints is not None else None
        self._started_s = time.monotonic() - (saved["duration_s"] if saved is not None else 0.0)
        self.fit = start_fit(config, examples, seed, device, saved["fit"] if saved is not None else None, kept)
        self.taken_up_at = self.fit.step
        self._meter = ProgressMeter(self.fit)
        self.more_state: Callable[[], dict[str, Any]] = dict
        self.kept_state: dict[str, Any] = saved["more"] if saved is not None else {}

    @property
    def duration_s(self) -> float:
        """Duration in seconds, with that before the checkpoint from which it resumed."""
        return time.monotonic() - self._started_s

    def run(self, until: int | None = None) -> None:
        """Trains up to step `until` (None: `num_steps`), with checkpoints. Raises Diverged."""
        self.fit.run(until, self._after_step)
        if self.checkpoints is not None:
            self.checkpoints.wait()  # the caller may remove them

    def _after_step(self) -> None:
        self._meter()
        if self.checkpoints is not None:
            self._keep()

    def _keep(self) -> None:
        assert self.checkpoints is not None
        if self.checkpoints.due() and self.checkpoints.pays(self.duration_s / self.fit.step * self.fit.num_steps):
            self.fit.finite.raise_if_found()  # a state that is not finite is no use to anybody
            state = {"fit": self.fit.state_dict(), "duration_s": self.duration_s, "more": self.more_state()}
            self.checkpoints.save(self.identity, state)


class FoldTraining:
    """Training of one fold, which may be scored at any step without an effect on it; `number` counts from 1.

    On its way it scores the points of its learning curve. The result is of the last weights, or with `best_by` of those
    at the best point of the curve, of equals the earliest: it maps the metrics of a point to a score, the larger the
    better. `kept` is as of a Training.

    >>> from trainables.data.folds import stratified_folds
    >>> from trainables.data.loading import load_train
    >>> config = TrialConfig.model_validate({
    ...     "data": {"dataset": "digits", "size_px": 32, "train_images": 40},
    ...     "backbone": {"name": "package/efficientnet_lite0", "pretrained": False},
    ...     "method": {"name": "l2"},
    ...     "training": {"num_steps": 1, "batch_size": 8},
    ... })
    >>> images = load_train(config.data)
    >>> fold = stratified_folds(images.labels, num_folds=2, seed=config.seed)[0]
    >>> result = FoldTraining(config, images, number=1, fold=fold, device=torch.device("cpu")).result()
    >>> result.fold, 0 <= result.val_top1 <= 1, result.loss_steps
    (1, True, [1])
    """

    def __init__(
        self,
        config: TrialConfig,
        examples: Examples,
        number: int,
        fold: Fold,
        device: torch.device | None = None,
        checkpoints: Checkpoints | None = None,
        best_by: ScoreOf | None = None,
        kept: KeptNetworks | None = None,
    ) -> None:
        self.config = config
        self.number = number
        self.device = device or default_device()
        self.validation = examples.take(fold.validation)
        self.predictions: Predictions | None = None
        """Of the validation part, after `result`."""
        seed = seed_for(config.seed, "fold", number)
        self.training = Training(config, examples.take(fold.train), seed, self.device, checkpoints, kept)
        self._scorer = CurveScorer(
            self.training.fit,
            run=self.training.run,
            predict=lambda: self._predict(0),  # a collapse is judged at rungs and at the end alone
            batch_size=config.training.batch_size,
            num_scored=len(self.validation),
            best_by=best_by,
        )
        self.training.more_state = self._scorer.state_dict
        if self.training.kept_state:
            self._scorer.load_state_dict(self.training.kept_state)

    @property
    def step(self) -> int:
        """Number of optimiser steps done."""
        return self.training.fit.step

    def score_at(self, step: int) -> float:
        """Trains up to `step` and returns the top-1 accuracy in [0, 1] on the validation part.

        Raises TrainingFailed: Diverged or Collapsed.
        """
        return self.metrics_at(step)["top1"]

    def metrics_at(self, step: int) -> dict[str, float]:
        """Trains up to `step` and returns every metric on the validation part. Raises as `score_at`."""
        self._scorer.train_to(step)
        predictions = self._predict(self.step)
        self._scorer.add(predictions)
        return predictions.metrics

    def result(self) -> FoldResult:
        """Trains to the end and scores the validation part. Raises TrainingFailed, as `score_at`."""
        self._scorer.train_to(self.training.fit.num_steps)
        kept_share, predictions = self._scorer.end(self._predict(self.step))
        self.predictions, history, curve = predictions, self.training.fit.history, self._scorer.curve
        return FoldResult(
            fold=self.number,
            val_top1=predictions.top1,
            duration_s=self.training.duration_s,
            loss_steps=history.steps,
            loss_terms=history.terms,
            taken_up_at=self.training.taken_up_at,
            metrics=predictions.metrics,
            curve_steps=curve.steps,
            curve_metrics=curve.metrics,
            kept_share=kept_share,
            facts=facts_of(self.training.fit),
        )

    def _predict(self, judged_after: int) -> Predictions:
        student = self.training.fit.method.student
        return predictions_on(student, self.validation, self.config, self.device, judged_after)


def identity_of(config: TrialConfig, examples: Examples, seed: int) -> str:
    """Hash of a training: equal for trainings with the same result, to the bit where kernels are deterministic, of the
    same examples in the same order.

    Like `source_key`, it does not depend on the pixels of the images.
    """
    fields = [config.model_dump(mode="json"), seed, selection_key(examples), torch.__version__]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def start_fit(
    config: TrialConfig,
    examples: Examples,
    seed: int,
    device: torch.device,
    state: dict[str, Any] | None = None,
    kept: KeptNetworks | None = None,
) -> Fit:
    """Builds the training of `config` on `examples` at step 0, after `Method.prepare`, or at `state`.

    `seed` is the root of the addresses of its draws. With `head_init: probe` the target head is that of `PROBES` before
    the method is built, so that copies of the student have it, too. With `kept`, the networks of an earlier training of
    the same structure are filled with initial values instead of being built.
    """
    kept = kept if kept is not None else KeptNetworks()
    num_batches = steps_per_epoch(len(examples), config.training.batch_size)
    training = config.training.resolved(num_batches)
    network = _student(config, examples.num_classes, seed, device, kept)
    if state is None and training.head_init == "probe":
        PROBES.get(config, examples, network, device).write_to(network.target_head)
    context = MethodContext(
        seed=seed,
        num_steps=max(1, training.resolved_num_steps),  # methods divide by it
        steps_per_epoch=num_batches,
        num_classes=examples.num_classes,
        num_examples=len(examples),
        compile=training.compile,
        target_loss=target_loss_of(training, examples.labels, examples.num_classes, device),
        kept=kept,
    )
    method = build_method(config.method, network, context)
    inputs = as_inputs(examples, config.data, network.backbone.tokenizer)
    if state is None and training.num_steps != 0:
        method.prepare(lambda: evaluation_batches(inputs, config.data, training.eval_batch_size, device))

    def batch_at(step: int) -> Batch:
        return training_batch(inputs, config.data, training.batch_size, seed, step, device, method.num_views)

    fit = Fit(method, batch_at, training, device)
    if state is not None:
        fit.load_state_dict(state)
    return fit


def _student(
    config: TrialConfig, num_classes: int, seed: int, device: torch.device, kept: KeptNetworks
) -> TransferNetwork:
    """The network of a training at step 0: that of `kept`, if it is of the same structure, or a new one."""
    has_source_head, channels_last = uses_source_head(config.method), config.training.channels_last
    layout = (has_source_head, channels_last, config.training.compile, device, torch.get_default_dtype())
    kept.begin((config.backbone, weights_key(config.backbone), num_classes, config.method.name, *layout))
    before: TransferNetwork | None = kept.find("student")
    network = build_network(config.backbone, num_classes, seed, has_source_head, before).to(device)
    return kept.get("student", lambda: network.to(memory_format=torch.channels_last) if channels_last else network)


def predictions_on(
    network: Predictor,
    examples: Examples,
    config: TrialConfig,
    device: torch.device,
    num_steps: int = 0,
) -> Predictions:
    """Predictions of `network`, trained for `num_steps`, of `examples`, images as centre crops; with the directions of
    the pooled features of some of them.

    Raises Collapsed if the network predicts the same for all of them, and with its initial weights did not. After
    fewer than `MIN_STEPS_TO_COLLAPSE` it is not judged.
    """
    found = _evaluated(network, examples, config, device)
    if num_steps >= MIN_STEPS_TO_COLLAPSE and is_constant(found.probabilities):
        initial = build_network(config.backbone, examples.num_classes, config.seed, False).to(device)
        if not is_constant(_evaluated(initial, examples, config, device).probabilities):
            raise Collapsed(len(examples))
    features = directions(found.pooled).half().numpy()
    return Predictions(examples.index, found.labels.numpy(), found.probabilities.numpy(), features)


def accuracy_on(
    network: Predictor, examples: Examples, config: TrialConfig, device: torch.device, num_steps: int = 0
) -> float:
    """Top-1 accuracy in [0, 1] of `predictions_on`, with its errors."""
    return predictions_on(network, examples, config, device, num_steps).top1


MIN_STEPS_TO_COLLAPSE = 20
"""Steps after which a constant prediction is a collapse: before, BatchNorm's running statistics, of which 0.9^steps are
still the pre-trained ones, may not fit weights that are right for the statistics of a batch."""


def _evaluated(network: Predictor, examples: Examples, config: TrialConfig, device: torch.device) -> Evaluated:
    inputs = as_inputs(examples, config.data, network.backbone.tokenizer)
    batches = evaluation_batches(inputs, config.data, config.training.eval_batch_size, device)
    return evaluated(network, batches, config.training, device, rows=sampled_rows(len(examples)))


MODEL_SEED = 0
"""Number of the retraining whose network becomes the model: the first, so that no test score selects it."""


def reseeded(config: TrialConfig, seed: int) -> TrialConfig:
    """`config` for retraining number `seed`, with draws other than those of the search and of other retrainings."""
    return config.model_copy(update={"seed": seed_for(config.seed, "retrain", seed)})


@dataclass(frozen=True, eq=False)
class Retrained:
    """A training on all training examples: its result, its network, and the predictions of the test split."""

    result: RetrainResult
    network: TransferNetwork
    test: Predictions


def train_and_test(
    config: TrialConfig,
    seed: int,
    train: Examples,
    test: Examples,
    checkpoints: Checkpoints | None = None,
    share: float = 1.0,
) -> Retrained | RetrainFailed:
    """Trains `share` of the steps on all of `train` in this process, and scores the network on `test`.

    `config` is that of `reseeded(…, seed)`. A training that diverges or collapses is returned as RetrainFailed, not
    raised.
    """
    device = default_device()
    started = time.monotonic()
    try:
        network, fit = train_full(config, train, device, checkpoints, share)
        predictions = predictions_on(network, test, config, device, fit.step)
    except TrainingFailed as failed:
        return RetrainFailed(seed, str(failed))
    seconds, history = time.monotonic() - started, fit.history
    measured = (predictions.top1, seconds, history.steps, history.terms, predictions.metrics)
    result = RetrainResult(seed, *measured, facts=facts_of(fit))
    return Retrained(result, network, predictions)
