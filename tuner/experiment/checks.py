"""Checks of an experiment before it runs: data, folds, weights, the method's needs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from trainables.backbones import BackboneFacts, BackboneSizes, check_backbone, describe, facts_about
from trainables.backbones.config import BackboneConfig
from trainables.backbones.image_size import check_image_size
from trainables.config import TrialConfig
from trainables.data.batches import steps_per_epoch
from trainables.data.config import AUGMENTATION, DataConfig
from trainables.data.examples import Examples
from trainables.data.loading import DataSummary, check_data, check_decodes, load_train, source_key, test_key
from trainables.errors import BadInput, Problem
from trainables.methods import check_method, uses_source_head
from trainables.training.config import TrainingConfig, num_steps_of
from tuner.experiment.dimensions import Choice, Dimension, spell
from tuner.experiment.points import MAX_COMBINATIONS
from tuner.experiment.repeats import repeats_note, with_repeats
from tuner.experiment.search_experiment import SearchExperiment
from tuner.experiment.settings import SearchSettings
from tuner.experiment.splitting import section_at_first
from tuner.experiment.training_length import share_of_steps, with_training_length
from tuner.experiment.tree import is_within

Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Plan:
    """Size of a checked experiment: its data, its backbone, and how many trials, folds and steps it trains.

    `space` is the experiment with every `auto` that the data decide: `search.repeats` is a number. Steps are those of
    the first configuration, `num_steps` of a fold and `num_retrain_steps` on the full training split.
    """

    space: SearchExperiment
    data: DataSummary
    backbone: BackboneSizes
    num_steps: int
    num_retrain_steps: int
    batch_size: int
    repeats_note: str = ""
    """Why there are as many repeats, where the file does not say it."""
    training_length: float = 1.0
    """Share of the steps of the file that each training has."""

    def __str__(self) -> str:
        steps = f"{self.num_steps} steps ({self.fold_epochs:.3g} epochs) of {self.batch_size} examples"
        return f"{self.folds_in_words} × {steps}{self.repeats_note}"

    def shortened(self, share: float) -> Plan:
        """The plan of trainings that have this share of the file's steps; the same where their length is searched."""
        space = with_training_length(self.space, share)
        if share == 1 or space == self.space:
            return self
        num_steps, num_retrain_steps = (share_of_steps(n, share) for n in (self.num_steps, self.num_retrain_steps))
        return replace(
            self, space=space, num_steps=num_steps, num_retrain_steps=num_retrain_steps, training_length=share
        )

    @property
    def fold_epochs(self) -> float:
        """Passes of a fold over its training part."""
        return self.num_steps / steps_per_epoch(self.data.num_train - self.num_validated, self.batch_size)

    @property
    def retrain_epochs(self) -> float:
        """Passes of a retraining over the full training split."""
        return self.num_retrain_steps / steps_per_epoch(self.data.num_train, self.batch_size)

    @property
    def greeting(self) -> str:
        """The plan, its data and what of them is not read, as the first lines of a search."""
        return "\n  ".join((str(self), f"data: {self.data}", *self.data.notes))

    @property
    def folds_in_words(self) -> str:
        """Number of trials and of their folds: `20 trials × 3 folds × 2 repeats`."""
        trials = "trials" if self.num_trials is None else f"{self.num_trials} trials"
        return f"{trials} × {self.num_folds} folds" + (f" × {self.num_repeats} repeats" if self.num_repeats > 1 else "")

    @property
    def num_trials(self) -> int | None:
        """Number of trials; None where time alone limits them."""
        return self.space.search.trials if self.space.dimensions else 1

    @property
    def num_folds(self) -> int:
        """Number of folds into which the examples are dealt."""
        return self.space.search.folds

    @property
    def num_validated(self) -> int:
        """Largest number of examples on which a fold is scored."""
        return self.data.num_validation or math.ceil(self.data.num_train / self.num_folds)

    @property
    def num_repeats(self) -> int:
        """Number of deals."""
        return self.num_trial_folds // self.num_folds

    @property
    def num_trial_folds(self) -> int:
        """Number of folds of a complete trial."""
        return self.space.search.num_trial_folds

    @property
    def total_steps(self) -> int | None:
        """Optimiser steps of the whole search, without the retraining; None where time alone limits them."""
        return None if self.num_trials is None else self.num_trials * self.num_trial_folds * self.num_steps


def check_experiment(space: SearchExperiment, with_folds: bool = True) -> Plan:
    """Checks data, folds, weights and the method's needs at the bounds of every dimension, without decoding images.

    Raises:
        BadInput: with all problems of all sections.
    """
    if too_many := list(_too_many_variants(space)):
        raise BadInput(too_many).in_file(space.file)
    problems: dict[Problem, None] = {}
    summaries: list[DataSummary] = []
    configs = list(space.boundary_configs())
    for data in _distinct(config.data for config in configs):
        summaries += _collect("data", partial(check_data, data, space.search.folds if with_folds else None), problems)
    _check_networks(configs, problems)
    problems |= dict.fromkeys(_undecodable_dimensions(space))
    if problems:
        raise BadInput(_in_alternatives(problems, space, with_folds)).in_file(space.file)
    config, num_train = configs[0], min(summary.num_train for summary in summaries)
    num_dealt = min(summary.num_dealt for summary in summaries)
    try:
        resolved = with_repeats(space, num_train)
    except BadInput as bad:
        raise bad.in_file(space.file) from None
    return Plan(
        space=resolved,
        data=summaries[0],
        backbone=describe(config.backbone),
        num_steps=num_fold_steps(config.training, num_dealt, space.search.folds),
        num_retrain_steps=num_steps_of(config.training, num_train),
        batch_size=config.training.batch_size,
        repeats_note=repeats_note(space.search, num_train),
    )


def _check_networks(configs: Iterable[TrialConfig], problems: dict[Problem, None]) -> None:
    """Checks weights, the needs of methods, and that backbones read what the data consist of, at its size."""
    for backbone, head in _distinct((c.backbone, uses_source_head(c.method)) for c in configs):
        _collect("backbone", partial(check_backbone, backbone, head), problems)
    for method, name in _distinct((c.method, c.backbone.name) for c in configs):
        for facts in _collect("backbone", partial(facts_about, name), problems):
            _collect("method", partial(check_method, method, facts), problems)
    for data, name in _distinct((c.data, c.backbone.name) for c in configs):
        for facts in _collect("backbone", partial(facts_about, name), problems):
            _collect("backbone", partial(check_reads, facts, data), problems)
            if facts.takes_images and not data.has_texts:
                _collect("data", partial(check_image_size, name, data.size_px), problems)


def num_fold_steps(training: TrainingConfig, num_dealt: int, num_folds: int) -> int:
    """Returns the number of optimiser steps of fold 1, whose training part is the smallest of folds of `num_dealt`
    examples; a validation split of its own, of which there is one fold, is not among these."""
    return num_steps_of(training, num_dealt - (math.ceil(num_dealt / num_folds) if num_folds > 1 else 0))


def _in_alternatives(problems: Iterable[Problem], space: SearchExperiment, with_folds: bool) -> Iterable[Problem]:
    """Locates problems in the alternatives that have them, by checking each by itself."""
    if not space.branches.alternatives:
        return problems
    found: dict[Problem, None] = {}
    combinations = space.branches.grid({key: each.fixed for key, each in space.branches.alternatives.items()})
    for chosen in itertools.islice(combinations, MAX_COMBINATIONS):
        try:
            check_experiment(space.at_alternatives(chosen), with_folds)
        except BadInput as bad:
            found |= {replace(problem, where=space.locate(problem.where, chosen)): None for problem in bad.problems}
    return found or problems


def check_reads(backbone: BackboneFacts, data: DataConfig) -> None:
    """Raises BadInput unless `backbone` reads what the dataset consists of, images or texts."""
    if backbone.takes_images == data.has_texts:
        kind = "texts" if data.has_texts else "images"
        raise BadInput(Problem("name", f"a backbone of {kind} for dataset {data.dataset}", str(backbone)))


def problems_of_sections(tree: Mapping[str, Any], with_folds: bool = True) -> list[Problem]:
    """Returns the problems of data and backbone where problems elsewhere keep the experiment from being parsed.

    Invalid values in these two sections are left out: parsing has reported them.
    """
    problems: dict[Problem, None] = {}
    with suppress(ValidationError):
        data = DataConfig.model_validate(section_at_first(tree, "data"))
        _collect("data", partial(check_data, data, SearchSettings().folds if with_folds else None), problems)
    with suppress(ValidationError):
        backbone = BackboneConfig.model_validate(section_at_first(tree, "backbone"))
        _collect("backbone", partial(check_backbone, backbone), problems)
    return list(problems)


def load_images(space: SearchExperiment) -> dict[str, Examples]:
    """Decodes the training images of every variant of the data that a trial can have; see `load_training`."""
    return load_training(_data_variants(space), space.file)


def load_training(variants: Iterable[DataConfig], file: str) -> dict[str, Examples]:
    """Decodes the training images of every variant once and checks that the test images decode.

    Returns:
        The examples by `source_key`.

    Raises:
        BadInput: with every file that does not decode.
    """
    images: dict[str, Examples] = {}
    checked: set[str] = set()
    problems: dict[Problem, None] = {}
    for data in variants:
        key = source_key(data)
        if key not in images:
            for loaded in _collect("data", partial(load_train, data), problems):
                images[key] = loaded
        if (key := test_key(data)) not in checked:
            # Checked now, so that a broken test image does not end the search after its last trial.
            _collect("data", partial(check_decodes, data, "test"), problems)
            checked.add(key)
    if problems:
        raise BadInput(problems).in_file(file)
    return images


def _collect(section: str, check: Callable[[], Result], problems: dict[Problem, None]) -> Iterator[Result]:
    """Yields the check's result; nothing where it fails, whose problems go to `problems`."""
    try:
        return iter([check()])
    except BadInput as bad:
        problems |= dict.fromkeys(bad.under(section).problems)
        return iter(())


def _distinct(items: Iterator[Item]) -> list[Item]:
    kept: list[Item] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept


def _undecodable_dimensions(space: SearchExperiment) -> Iterator[Problem]:
    """A range over what is decoded has infinitely many variants, and each would have to be held in memory."""
    branches = space.branches
    for key, dimension in space.dimensions.items():
        if branches.path_of(key).startswith("data.") and not isinstance(dimension, Choice):
            points = (
                branches.completed(space.dimensions, {**branches.required(key), key: value})
                for value in dimension.bounds()
            )
            low, high = (space.trial_config(point).data for point in points)
            if source_key(low) != source_key(high):
                expected = "a choice of a few values, since this leaf changes which images are decoded"
                yield Problem(branches.place_of(key), expected, spell(dimension))


def _too_many_variants(space: SearchExperiment) -> Iterator[Problem]:
    choices = [each for each in _decoding_dimensions(space).values() if isinstance(each, Choice)]
    num_variants = math.prod(len(each.choice) for each in choices)
    if num_variants > MAX_COMBINATIONS:
        expected = f"at most {MAX_COMBINATIONS} combinations of choices, as each is checked and may be decoded"
        yield Problem("data", expected, str(num_variants))


def _data_variants(space: SearchExperiment) -> list[DataConfig]:
    """The data configuration of every combination of the values that may change what is decoded."""
    branches = space.branches
    searched = {key: dimension.bounds() for key, dimension in _decoding_dimensions(space).items()}
    points = (branches.completed(space.dimensions, point) for point in branches.grid(searched))
    return [config.data for config in space.valid_configs(points)]


def _decoding_dimensions(space: SearchExperiment) -> dict[str, Dimension]:
    """The dimensions of the data section but augmentations, which change decoded images."""
    paths = {key: space.branches.path_of(key) for key in space.dimensions}
    augmentations = {f"data.{key}" for key in AUGMENTATION}
    return {
        key: dimension
        for key, dimension in space.dimensions.items()
        if is_within(paths[key], "data") and paths[key] not in augmentations
    }
