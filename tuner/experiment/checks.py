"""An experiment before it runs: found to be possible, or refused with everything that stands in its way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from trainables.backbones import BackboneFacts, BackboneSizes, check_backbone, describe, facts_about
from trainables.backbones.config import BackboneConfig
from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.examples import Examples
from trainables.data.loading import DataSummary, check_data, check_decodes, load_train, source_key, test_key
from trainables.errors import BadInput, Problem
from trainables.methods import check_method, uses_source_head
from tuner.experiment.dimensions import Choice, spell
from tuner.experiment.search_experiment import SearchExperiment, boundary_points, fixed_section
from tuner.experiment.settings import SearchSettings, tracking_uri
from tuner.experiment.tree import set_leaf
from tuner.tracking.store import check_store

Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Plan:
    """What an experiment amounts to, for `--dry-run` and for the record."""

    data: DataSummary
    backbone: BackboneSizes
    num_trials: int
    num_folds: int
    num_steps: int
    batch_size: int

    def __str__(self) -> str:
        budget = f"{self.num_trials} trials × {self.num_folds} folds × {self.num_steps} steps of {self.batch_size}"
        return f"{budget} examples"

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole search, without the retraining."""
        return self.num_trials * self.num_folds * self.num_steps


def check_experiment(space: SearchExperiment, with_folds: bool = True) -> Plan:
    """Checks data, folds, weights and the method's needs for every end of every dimension, decoding no image.

    Raises:
        BadInput: with all problems of all sections.
    """
    problems: dict[Problem, None] = {}
    summaries: list[DataSummary] = []
    configs = list(boundary_configs(space))
    for data in _distinct(config.data for config in configs):
        summaries += _collect("data", partial(check_data, data, space.search.folds if with_folds else None), problems)
    for backbone, head in _distinct((c.backbone, uses_source_head(c.method)) for c in configs):
        _collect("backbone", partial(check_backbone, backbone, head), problems)
    for method, name in _distinct((c.method, c.backbone.name) for c in configs):
        for facts in _collect("backbone", partial(facts_about, name), problems):
            _collect("method", partial(check_method, method, facts), problems)
    for data, name in _distinct((c.data, c.backbone.name) for c in configs):
        for facts in _collect("backbone", partial(facts_about, name), problems):
            _collect("backbone", partial(check_reads, facts, data), problems)
    problems |= dict.fromkeys(_undecodable_dimensions(space))
    _collect("", partial(check_store, tracking_uri(space.tracking.uri)), problems)
    if problems:
        raise BadInput(problems).in_file(space.file)
    config = configs[0]
    training = config.training
    trials = space.search.trials if space.dimensions else 1
    return Plan(
        summaries[0], describe(config.backbone), trials, space.search.folds, training.num_steps, training.batch_size
    )


def check_reads(backbone: BackboneFacts, data: DataConfig) -> None:
    """Raises BadInput unless `backbone` reads what the dataset consists of, images or texts."""
    if backbone.takes_images == data.has_texts:
        kind = "texts" if data.has_texts else "images"
        expected = f"must be a backbone of {kind}, as dataset {data.dataset} is"
        raise BadInput(Problem("name", expected, str(backbone)))


def problems_of_sections(tree: Mapping[str, Any], with_folds: bool = True) -> list[Problem]:
    """What is wrong with data and backbone of an experiment that other problems keep from being parsed as a whole."""
    problems: dict[Problem, None] = {}
    try:
        data = DataConfig.model_validate(fixed_section(tree, "data"))
        _collect("data", partial(check_data, data, SearchSettings().folds if with_folds else None), problems)
    except (ValidationError, AttributeError):
        pass  # said already
    try:
        backbone = BackboneConfig.model_validate(fixed_section(tree, "backbone"))
        _collect("backbone", partial(check_backbone, backbone), problems)
    except (ValidationError, AttributeError):
        pass
    return list(problems)


def load_images(space: SearchExperiment) -> dict[str, Examples]:
    """The training images of every variant of the data that a trial of `space` can ask for; see `load_training`."""
    return load_training(_data_variants(space), space.file)


def load_training(variants: Iterable[DataConfig], file: str) -> dict[str, Examples]:
    """Decodes the training images of every variant, by `source_key`, and checks that the test images decode.

    Raises:
        BadInput: naming every file that does not decode.
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
            # Nothing is kept of the test images: a file that is broken shall not end the search after its last trial.
            _collect("data", partial(check_decodes, data, "test"), problems)
            checked.add(key)
    if problems:
        raise BadInput(problems).in_file(file)
    return images


def boundary_configs(space: SearchExperiment) -> Iterator[TrialConfig]:
    """The configuration at every end of every dimension."""
    names = space.short_names
    for corner in boundary_points(space.dimensions):
        yield space.trial_config({names[path]: value for path, value in corner.items()})


def _collect(section: str, check: Callable[[], Result], problems: dict[Problem, None]) -> Iterator[Result]:
    """The check's result, or nothing and its problems."""
    try:
        return iter([check()])
    except BadInput as bad:
        problems |= dict.fromkeys((bad.under(section) if section else bad).problems)
        return iter(())


def _distinct(items: Iterator[Item]) -> list[Item]:
    kept: list[Item] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept


def _undecodable_dimensions(space: SearchExperiment) -> Iterator[Problem]:
    """A range over what is decoded has no end of variants, and each would have to be held in memory."""
    names = space.short_names
    first = next(boundary_points(space.dimensions))
    for path, dimension in space.dimensions.items():
        if path.startswith("data.") and not isinstance(dimension, Choice):
            ends = [
                space.trial_config({names[p]: v for p, v in (first | {path: end}).items()}).data
                for end in dimension.bounds()
            ]
            if source_key(ends[0]) != source_key(ends[1]):
                expected = "a choice of a few values, since this leaf changes which images are decoded"
                yield Problem(path, expected, spell(dimension))


def _data_variants(space: SearchExperiment) -> list[DataConfig]:
    """The data configuration for every combination of the choices that the data section is searched over."""
    searched = {path: d for path, d in space.dimensions.items() if path.startswith("data.")}
    variants = []
    for values in itertools.product(*(dimension.bounds() for dimension in searched.values())):
        tree: dict[str, Any] = {"data": dict(space.fixed["data"])}
        for path, value in zip(searched, values, strict=True):
            set_leaf(tree, path, value)
        variants.append(DataConfig.model_validate(tree["data"]))
    return variants
