"""Comparison experiment: one YAML file → rows (methods) × columns (data), each arm an experiment of its own.

A comparison file is an experiment file whose methods are in the rows of its `compare` section. The arm of row i in
column j is the experiment of the base, overlaid with the column and then the row. It is checked as any experiment, and
each problem is located at the key that has the value.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.data.config import DataConfig
from trainables.errors import BadInput, Problem
from tuner.comparison.settings import BASE, SAMPLE_SIZE, ColumnSettings, CompareSettings, RowSettings, Tree
from tuner.experiment.alternatives import override_leaf, without_leaf
from tuner.experiment.checks import Plan, check_experiment, problems_of_sections
from tuner.experiment.extends import deep_merge, locate_problems
from tuner.experiment.objective import TOP1, Objective
from tuner.experiment.search_experiment import SearchExperiment, parse_experiment, read_tree
from tuner.experiment.sections import section_problems
from tuner.experiment.settings import ResourceSettings, SearchSettings, TrackingSettings
from tuner.experiment.smoke import data_summary, smoke_overrides
from tuner.experiment.tree import absolute_path, plain
from tuner.messages.validation import problems_from_pydantic

NO_BASELINES: Tree = {"baselines": []}
"""Part of `search` in a comparison: its rows are what is compared."""
SECTIONS = ("name", *BASE, "search", "resources", "tracking", "compare")

SMOKE_SEEDS = 2
SMOKE_SEARCH = {"trials": 2, "folds": 2, "repeats": 1}


@dataclass(frozen=True)
class Arm:
    """Row in a column: an experiment of its own, trained once for each seed. `column_data` is the column's sample; a
    row may have a larger one."""

    row: str
    column: str
    space: SearchExperiment
    column_data: DataConfig

    @property
    def is_searched(self) -> bool:
        """Whether it has dimensions, to be searched before its trainings."""
        return bool(self.space.dimensions)

    def __str__(self) -> str:
        return f"{self.row} | {self.column}"


@dataclass(frozen=True)
class ComparisonExperiment:
    """Checked comparison. `base` has the sections data, backbone and training, which columns and rows overlay; `arms`
    are ordered by column, then row."""

    file: str
    name: str
    base: Tree
    compare: CompareSettings
    search: SearchSettings
    resources: ResourceSettings
    tracking: TrackingSettings
    arms: tuple[Arm, ...]

    @property
    def reference(self) -> str:
        """Label of the row against which the others are tested."""
        assert self.compare.reference_label is not None  # as its validator says
        return self.compare.reference_label

    @property
    def rows(self) -> tuple[str, ...]:
        """Labels of the rows."""
        return tuple(row.label for row in self.compare.rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """Labels of the columns."""
        return tuple(column.label for column in self.compare.columns)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Metrics by which the file and the rows' searches choose, each once, and top-1 as the last."""
        names = [self.search.objective, *(arm.space.search.objective for arm in self.arms if arm.is_searched)]
        others = (Objective(name) for name in dict.fromkeys(names) if name != TOP1.name)
        return (*others, TOP1)

    @property
    def num_cells(self) -> int:
        """Number of trainings, without the rows' own searches."""
        return len(self.arms) * self.compare.seeds

    def as_tree(self) -> Tree:
        """Returns the comparison as plain data for `parse_comparison`, with defaults and without credentials."""
        tree: Tree = {"name": self.name, **copy.deepcopy(self.base)}
        for section in ("search", "resources", "tracking", "compare"):
            tree[section] = plain(getattr(self, section).model_dump(mode="json"))
        tree["tracking"]["uri"] = self.arms[0].space.as_tree()["tracking"]["uri"]
        for part in (*tree["compare"]["columns"], *tree["compare"]["rows"]):
            part |= {section: absolute_path(section, part[section]) for section in BASE}
        for row in tree["compare"]["rows"]:
            arm = next(arm for arm in self.arms if arm.row == row["label"])
            row["method"] = arm.space.as_tree()["method"]
        return tree

    def samples(self) -> Iterator[DataConfig]:
        """Yields the data of every arm."""
        for arm in self.arms:
            yield from arm.space.samples()

    def read_record(self, file: Path) -> ComparisonExperiment:
        """Reads a comparison that was recorded in `file`. Raises BadInput."""
        return load_comparison(file)


def load_comparison(
    file: Path,
    overrides: Mapping[str, Any] | None = None,
    smoke: bool = False,
    flags: Mapping[str, str] | None = None,
) -> ComparisonExperiment:
    """Reads and parses a comparison file; `smoke` makes it tiny. See `load_experiment` for the other arguments.

        load_comparison(Path("search_spaces/compare/digits.yaml"), {"compare.seeds": 2}).columns

    Raises:
        BadInput: with every problem found, each with its key and its file and line, or the flag.
    """
    with locate_problems(file, overrides or {}, flags):
        tree = read_tree(file, overrides)
        comparison = parse_comparison(tree, str(file))
        return parse_comparison(_made_tiny(tree, comparison), str(file)) if smoke else comparison


def parse_comparison(tree: Mapping[str, Any], file: str = "") -> ComparisonExperiment:
    """Parses a comparison. Raises BadInput with every problem found."""
    problems = dict.fromkeys(_section_problems(tree))
    compare = None
    try:
        compare = CompareSettings.model_validate(tree.get("compare") or {})
    except ValidationError as error:
        problems |= dict.fromkeys(problems_from_pydantic(error, CompareSettings, prefix="compare"))
    base = _base(tree)
    arms = [] if compare is None else list(_arms(base, tree, compare, file, problems))
    if compare is None or problems:
        raise BadInput(problems | dict.fromkeys(problems_of_sections(tree, with_folds=False))).in_file(file)
    first = arms[0].space
    try:
        search = _search(tree)
    except ValidationError as error:  # where the rows replace as a whole what is no section of settings
        raise BadInput(problems_from_pydantic(error, SearchSettings, prefix="search")).in_file(file) from None
    return ComparisonExperiment(file, first.name, base, compare, search, first.resources, first.tracking, tuple(arms))


def check_comparison(comparison: ComparisonExperiment) -> list[Plan]:
    """Checks every arm as an experiment, and returns their plans in order. Raises BadInput with all problems."""
    problems: dict[Problem, None] = {}
    plans = []
    for arm in comparison.arms:
        try:
            plan = check_experiment(arm.space, with_folds=arm.is_searched)
        except BadInput as bad:
            problems |= dict.fromkeys(_located(bad, comparison.compare, arm.row, arm.column).problems)
        else:
            plans.append(plan)
            problems |= dict.fromkeys(_measure_problems(comparison.compare, arm, plan))
            minutes = _located(BadInput(_budget_problems(arm)), comparison.compare, arm.row, arm.column)
            problems |= dict.fromkeys(minutes.problems)
    if problems:
        raise BadInput(problems).in_file(comparison.file)
    return plans


def resolved_comparison(comparison: ComparisonExperiment, plans: Iterable[Plan]) -> ComparisonExperiment:
    """Returns the comparison with the experiments of `plans` in its arms, whose `search.repeats` are numbers."""
    arms = zip(comparison.arms, plans, strict=True)
    return replace(comparison, arms=tuple(replace(arm, space=plan.space) for arm, plan in arms))


def _section_problems(tree: Mapping[str, Any]) -> Iterator[Problem]:
    yield from section_problems({key: value for key, value in tree.items() if key != "method"}, SECTIONS, ("compare",))
    if "method" in tree:
        yield Problem("method", "a comparison's methods in compare.rows", "a section `method`")


def _base(tree: Mapping[str, Any]) -> Tree:
    """Returns data, backbone and training: with their defaults if they are valid without a column, else as they are."""
    base = {}
    for section, model in BASE.items():
        given = tree.get(section)
        settings = absolute_path(section, given if isinstance(given, Mapping) else {})
        try:
            base[section] = model.model_validate(settings).model_dump(mode="json")
        except ValidationError:
            base[section] = settings
    return base


def _search(tree: Mapping[str, Any]) -> SearchSettings:
    return SearchSettings.model_validate({**(tree.get("search") or {}), **NO_BASELINES})


def _arms(
    base: Tree, tree: Mapping[str, Any], compare: CompareSettings, file: str, problems: dict[Problem, None]
) -> Iterator[Arm]:
    for column in compare.columns:
        for row in compare.rows:
            try:
                yield _arm(base, tree, column, row, file)
            except BadInput as bad:
                problems |= dict.fromkeys(_located(bad, compare, row.label, column.label).problems)


def _arm(base: Tree, tree: Mapping[str, Any], column: ColumnSettings, row: RowSettings, file: str) -> Arm:
    others = {key: tree.get(key) for key in ("name", "search", "resources", "tracking") if tree.get(key) is not None}
    of_column = deep_merge({**others, **base}, column.overlay)
    space = parse_experiment(deep_merge(deep_merge(of_column, row.overlay), {"search": NO_BASELINES}))
    if found := list(_row_problems(row, space)):
        raise BadInput(found)
    column_data = DataConfig.model_validate(absolute_path("data", of_column["data"]))
    return Arm(row.label, column.label, replace(space, file=file), column_data)


def _row_problems(row: RowSettings, space: SearchExperiment) -> Iterator[Problem]:
    for key in row.data:
        if key not in SAMPLE_SIZE:
            expected = f"only {' or '.join(SAMPLE_SIZE)} of a row's own (other data is another column)"
            yield Problem(f"data.{key}", expected, repr(row.data[key]))
    for path in map(space.branches.place_of, space.dimensions):
        section, _, key = path.partition(".")
        if row.search is None:
            yield Problem(path, "a value, as only a row with a `search` has dimensions", "a dimension")
        elif section not in ("method", "training") or re.split(r"[.\[]", key)[0] not in getattr(row, section):
            yield Problem(path, "a value, as only a row's `method` and `training` have dimensions", "a dimension")
    if "seed" in (row.search or {}):
        yield Problem(
            "search.seed", "no seed of a row's own (rows are paired by seed: the file's `search` has it)", "a seed"
        )
    if row.search is not None and not space.dimensions:
        yield Problem("search", "something to search: a dimension in the row's `method` or `training`", "none")


def _located(bad: BadInput, compare: CompareSettings, row: str, column: str) -> BadInput:
    """Locates the problems of an arm at the row or column that has the value."""
    i = next(i for i, settings in enumerate(compare.rows) if settings.label == row)
    j = next(j for j, settings in enumerate(compare.columns) if settings.label == column)
    overlays = ((f"compare.rows[{i}]", compare.rows[i].overlay), (f"compare.columns[{j}]", compare.columns[j].overlay))
    return BadInput(_placed(problem, overlays) for problem in bad.problems)


def _placed(problem: Problem, overlays: Iterable[tuple[str, Tree]]) -> Problem:
    section, _, path = problem.where.partition(".")
    key = re.split(r"[.\[]", path)[0]
    for place, overlay in overlays:
        if section in overlay and (section == "method" or not key or key in overlay[section]):
            return replace(problem, where=f"{place}.{problem.where}")
    return problem


def _measure_problems(compare: CompareSettings, arm: Arm, plan: Plan) -> Iterator[Problem]:
    if compare.measures and arm.column_data.has_texts:
        yield Problem(
            "compare.measures", "no measures for texts (they are of images)", f"dataset {arm.column_data.dataset}"
        )
    if compare.measures and min(plan.data.num_train, plan.data.num_test) < 2:
        yield Problem("compare.measures", "at least 2 training and 2 test images", f"{plan.data.num_test} test images")


def _budget_problems(arm: Arm) -> Iterator[Problem]:
    if arm.space.search.minutes is not None:
        expected = "no minutes in a comparison, whose searches are to have equally many trials (search.trials)"
        yield Problem("search.minutes", expected, f"{arm.space.search.minutes:g}")


def _made_tiny(tree: Mapping[str, Any], comparison: ComparisonExperiment) -> Tree:
    """Returns the comparison with little data and few steps: every row, at most two columns."""
    tiny = copy.deepcopy(dict(tree))
    first = comparison.arms[0]
    num_train = data_summary(first.column_data, None, comparison.file).num_train
    size = {"data.train_images": num_train, "data.train_fraction": 1.0}
    for path, value in (size | smoke_overrides(first.space)).items():
        if path.partition(".")[0] in BASE or path == "name":
            override_leaf(tiny, path, value)
    one_fold = {"folds": 1} if first.column_data.validation == "folder" else {}
    compare = plain(comparison.compare.model_dump(mode="json"))
    compare |= {"seeds": SMOKE_SEEDS, "columns": compare["columns"][:2]}
    for part in (*compare["rows"], *compare["columns"]):
        part["training"] = _without(part["training"], ("num_steps", "num_epochs", "batch_size"))
        part["data"] = _without(part["data"], SAMPLE_SIZE)
    for row in compare["rows"]:
        row["search"] = row["search"] and {**row["search"], **SMOKE_SEARCH, **one_fold}
    return {**tiny, "compare": compare}


def _without(section: Mapping[str, Any], keys: Iterable[str]) -> Tree:
    """Returns a section without leaves that the tiny base has, also in its alternatives."""
    tree = dict(section)
    for key in keys:
        tree = without_leaf({k: value for k, value in tree.items() if k != key}, key)
    return tree
