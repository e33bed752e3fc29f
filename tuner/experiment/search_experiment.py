"""One YAML file → SearchExperiment: the whole experiment, checked before anything runs.

Any leaf of data, backbone, method and training may be a value or a dimension. The configurations at the bounds of every
dimension are validated here, so that a range with invalid trials is refused at once and not after an hour.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import ValidationError

from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.errors import BadInput, Problem
from trainables.frozen import Frozen
from tuner.experiment.alternatives import NO_BRANCHES, Branches, override_leaf
from tuner.experiment.comparable import incomparable_dimensions
from tuner.experiment.defaults import clashing_labels, dependent_defaults, sections_of, with_defaults
from tuner.experiment.dimensions import Dimension, spell
from tuner.experiment.extends import locate_problems, read_extended
from tuner.experiment.first_points import by_path, first_point_problems
from tuner.experiment.points import boundary_points, config_at
from tuner.experiment.precision import Precisions, undecided_choices
from tuner.experiment.sections import section_problems
from tuner.experiment.settings import ResourceSettings, RetrainSettings, SearchSettings, TrackingSettings
from tuner.experiment.splitting import SplitSections, split_sections
from tuner.experiment.tree import flatten, plain, set_leaf, short_names
from tuner.experiment.validation_split import fold_problems, has_validation_split
from tuner.messages.redaction import without_credentials
from tuner.messages.validation import problems_from_pydantic
from tuner.messages.wording import shown

SEARCHABLE = ("data", "backbone", "method", "training")
SETTINGS: dict[str, type[Frozen]] = {
    "search": SearchSettings,
    "resources": ResourceSettings,
    "tracking": TrackingSettings,
    "retrain": RetrainSettings,
}
SECTIONS = ("name", *SEARCHABLE, *SETTINGS)
REQUIRED = ("data", "backbone", "method")

# The name of a folder, an MLflow experiment and a registered model: it must be valid, and the same, for all of them.
MAX_NAME_CHARACTERS = 100
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_CHARACTERS - 1}}}")


class Experiment(Protocol):
    """Protocol of every kind of experiment, a search or a comparison."""

    @property
    def file(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def search(self) -> SearchSettings: ...
    @property
    def resources(self) -> ResourceSettings: ...
    @property
    def tracking(self) -> TrackingSettings: ...

    def as_tree(self) -> dict[str, Any]:
        """Returns the experiment as plain data, without credentials; it reads back to the same."""
        ...

    def samples(self) -> Iterator[DataConfig]:
        """Yields the data of its trainings, in an order of its own; the same sample may come several times."""
        ...

    def read_record(self, file: Path) -> Experiment:
        """Reads an experiment of this kind from its record `file`."""
        ...


@dataclass(frozen=True)
class SearchExperiment:
    """A search that has been checked.

    `fixed` is the nested tree of TrialConfig's sections without its searched leaves; `dimensions` holds those by
    dotted path (`method.gamma_fe`), which is the key of a dimension everywhere but in what is displayed. `branches` has
    what depends on the alternative that a trial chooses of a section, and what the keys of dimensions there mean.
    """

    file: str
    name: str
    fixed: dict[str, Any]
    dimensions: dict[str, Dimension]
    search: SearchSettings
    resources: ResourceSettings
    tracking: TrackingSettings
    retrain: RetrainSettings
    branches: Branches = field(default_factory=Branches)

    @property
    def short_names(self) -> dict[str, str]:
        """Dotted path of each dimension → the name that is displayed."""
        return short_names(self.dimensions)

    @property
    def dimension_words(self) -> dict[str, str]:
        """Key of each dimension → its range as a person would write it, `log_uniform [0.01, 0.1]`, and where it has a
        condition that: `log_uniform [0.01, 0.1] if method = smile`."""
        conditions = {key: self.branches.labels_of(key) for key in self.dimensions}
        return {
            key: spell(dimension) + (f" if {conditions[key]}" if conditions[key] else "")
            for key, dimension in self.dimensions.items()
        }

    @property
    def model_name(self) -> str:
        """Name under which the retrained model is registered."""
        return self.tracking.registered_model or self.name

    def trial_config(self, params: Mapping[str, Any]) -> TrialConfig:
        """Builds the TrialConfig at one point, `params` by key, without which no dimension may be that exists there.
        Raises pydantic's ValidationError.

        >>> experiment = load_experiment(Path("search_spaces/smile.yaml"))
        >>> experiment.trial_config(next(boundary_points(experiment.dimensions))).method.name
        'smile'
        """
        point = {key: params[key] for key in self.branches.active(self.dimensions, params)}
        return config_at(self.fixed, point, self.search.seed, self.branches)

    def boundary_configs(self) -> Iterator[TrialConfig]:
        """Yields the configuration at every boundary value of every dimension; see `boundary_points`."""
        return map(self.trial_config, self.boundary_points())

    def boundary_points(self) -> Iterator[dict[str, Any]]:
        """Yields the points at which the space can be invalid."""
        return boundary_points(self.dimensions, self.branches)

    def samples(self) -> Iterator[DataConfig]:
        """Yields the data of a trial: no dimension changes the sample."""
        yield next(self.boundary_configs()).data

    def at_alternatives(self, chosen: Mapping[str, str]) -> SearchExperiment:
        """Returns the space of the trials that choose these labels of all alternatives, without alternatives."""
        fixed: dict[str, Any] = {}
        for path, value in self.branches.all_leaves(self.fixed, chosen).items():
            set_leaf(fixed, path, value)
        active = [key for key in self.branches.active(self.dimensions, chosen) if key not in chosen]
        return replace(
            self,
            fixed=fixed,
            dimensions={self.branches.path_of(key): self.dimensions[key] for key in active},
            branches=NO_BRANCHES,
            search=self.search.model_copy(update={"first_points": ()}),
        )

    def locate(self, where: str, chosen: Mapping[str, str]) -> str:
        """Where in the file the key is that trials with the labels `chosen` have at the dotted path `where`."""
        searched = (key for key in self.dimensions if not self.branches.required(key))
        common = [
            *self.branches.all_leaves(self.fixed, {}),
            *(k for k in searched if k not in self.branches.alternatives),
        ]
        return self.branches.locate(where, chosen, common)

    def valid_configs(self, points: Iterable[Mapping[str, Any]]) -> Iterator[TrialConfig]:
        """Yields the configurations at `points`, without those that no trial can have."""
        for point in points:
            with contextlib.suppress(ValidationError):
                yield self.trial_config(point)

    def as_tree(self) -> dict[str, Any]:
        """Returns the experiment as plain data, the content of its record `space.yaml`; it reads back to this.

        First points are by dotted path. Credentials in the tracking URI are left out.
        """
        tree: dict[str, Any] = {"name": self.name, **sections_of(self.fixed, self.dimensions, self.branches)}
        for section in SETTINGS:
            tree[section] = plain(getattr(self, section).model_dump(mode="json"))
        if self.tracking.uri is not None:
            tree["tracking"]["uri"] = without_credentials(self.tracking.uri)
        return tree

    def read_record(self, file: Path) -> SearchExperiment:
        """Reads a search from its record `file`."""
        return load_experiment(file)


def with_leaves(space: SearchExperiment, changed: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> SearchExperiment:
    """Returns `space` with other values of some fixed leaves, beside alternatives and within them: `changed` is given
    leaves by dotted path, and returns those that are to be replaced."""
    fixed = copy.deepcopy(space.fixed)
    for path, value in changed(flatten(fixed)).items():
        set_leaf(fixed, path, value)
    alternatives = {
        key: replace(each, fixed={label: {**leaves, **changed(leaves)} for label, leaves in each.fixed.items()})
        for key, each in space.branches.alternatives.items()
    }
    return replace(space, fixed=fixed, branches=replace(space.branches, alternatives=alternatives))


def with_precisions(space: SearchExperiment, precisions: Precisions) -> SearchExperiment:
    """Returns `space` with the precisions in place of `auto`."""
    return with_leaves(space, precisions.in_place_of_auto)


def load_experiment(
    file: Path, overrides: Mapping[str, Any] | None = None, flags: Mapping[str, str] | None = None
) -> SearchExperiment:
    """Reads and checks an experiment file.

    Args:
        overrides: Leaves by dotted path that replace the file's.
        flags: Dotted path → the flag that gave the override, for messages, where that is not `--set`.

    Raises:
        BadInput: with every problem found, each with its key and its file and line, or the flag.

    >>> load_experiment(Path("search_spaces/smile.yaml"), {"search.trials": 5}).search.trials
    5
    """
    with locate_problems(file, overrides or {}, flags):
        return parse_experiment(read_tree(file, overrides), str(file))


def read_tree(file: Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the sections of the file and of those that it extends as plain data, with `overrides` in place.

    Raises:
        BadInput: where one of the files is no YAML mapping, and as `override_leaf`.
    """
    tree = read_extended(file)
    try:
        for path, value in (overrides or {}).items():
            override_leaf(tree, path, value)
    except BadInput as bad:
        raise bad.in_file(str(file)) from None
    return tree


def parse_experiment(tree: Mapping[str, Any], file: str = "") -> SearchExperiment:
    """Builds the checked experiment that `tree` describes. Raises BadInput with every problem found."""
    problems = dict.fromkeys([*section_problems(tree, SECTIONS, REQUIRED), *_name_problems(tree.get("name"))])
    split = split_sections(tree, SEARCHABLE)
    problems |= dict.fromkeys([*split.problems, *incomparable_dimensions(split.dimensions, split.branches)])
    problems |= dict.fromkeys(undecided_choices(split.dimensions, split.branches))
    settings: dict[str, Any] = {}
    for section, model in SETTINGS.items():
        try:
            settings[section] = model.model_validate(tree.get(section) or {})
        except ValidationError as error:
            problems |= dict.fromkeys(problems_from_pydantic(error, model, prefix=section))
    problems |= dict.fromkeys(fold_problems(split, tree.get("search")))
    known = {p.where for p in problems}
    dependent = list(dependent_defaults(split.fixed, split.dimensions, split.branches))
    if split.is_whole:  # else what is in which alternative is not known
        refused = {p.where.partition(".")[0] for p in dependent}
        found = (p for p in _trial_problems(split) if p.where.partition(".")[0] not in refused)
        problems |= {p: None for p in (*dependent, *found) if p.where not in known}
        points = _first_points(tree)
        problems |= dict.fromkeys(first_point_problems(points, split.dimensions, split.invalid, split.branches))
    if problems:
        raise BadInput(problems).in_file(file)
    fixed, branches = with_defaults(split.fixed, split.dimensions, split.branches)
    if clashing := list(clashing_labels(fixed, split.dimensions, branches)):
        raise BadInput(clashing).in_file(file)
    first_points = tuple(by_path(p, split.dimensions, branches) for p in settings["search"].first_points)
    one_fold = {"folds": 1, "repeats": 1} if has_validation_split(split) else {}
    settings["search"] = settings["search"].model_copy(update={"first_points": first_points, **one_fold})
    return SearchExperiment(
        file=file, name=tree["name"], fixed=fixed, dimensions=split.dimensions, branches=branches, **settings
    )


def _name_problems(name: Any) -> Iterator[Problem]:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        expected = "a name of letters, digits, '.', '_' and '-' that starts with a letter or digit, "
        yield Problem("name", f"{expected}at most {MAX_NAME_CHARACTERS} long", shown(name))


def _first_points(tree: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The first points as they are in the file, an empty one in place of what is no mapping."""
    search = tree.get("search")
    points = search.get("first_points") if isinstance(search, Mapping) else None
    return [
        point if isinstance(point, Mapping) else {} for point in (points if isinstance(points, list | tuple) else ())
    ]


def _trial_problems(split: SplitSections) -> list[Problem]:
    found: dict[Problem, None] = {}
    for point in boundary_points(split.dimensions, split.branches):
        try:
            config_at(split.fixed, point, branches=split.branches)
        except ValidationError as error:
            for problem in problems_from_pydantic(error, TrialConfig):
                found[replace(problem, where=split.branches.locate(problem.where, point, split.common))] = None
    return list(found)


def dump_experiment(space: Experiment) -> str:
    """Writes the experiment as YAML, defaults included."""
    return yaml_text(space.as_tree())


def yaml_text(tree: Mapping[str, Any]) -> str:
    """Writes the tree of an experiment as YAML, in the order of its keys."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
