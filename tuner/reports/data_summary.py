"""Summary of the data of a search for its report: classes, numbers of images, and how unequal the classes are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trainables.errors import BadInput
from tuner.experiment.balance import are_unequal, balance_advice
from tuner.experiment.settings import SearchSettings
from tuner.messages.wording import counted
from tuner.record.data_record import read_inventories
from tuner.record.directory import RunDirectory
from tuner.record.examples import ExampleNames
from tuner.reports.search_run import SearchRun


@dataclass(frozen=True)
class DataSummary:
    """Numbers of classes and examples of the sample; `counts` are the training and test examples of each class, the
    largest first, empty where the record does not say the classes of all examples."""

    num_classes: int
    num_train: int
    num_test: int
    counts: Mapping[str, tuple[int, int]]

    @property
    def train_counts(self) -> list[int]:
        """Numbers of training examples of the classes."""
        return [train for train, _ in self.counts.values()]


def data_summary(directory: RunDirectory) -> DataSummary | None:
    """Summarises the sample of a run by its record; None where that does not name the examples."""
    names = ExampleNames.read(directory)
    if names is None:
        return None
    try:
        inventories = read_inventories(directory) or []
    except BadInput:  # a damaged record, of which whoever goes on with the run is told
        inventories = []
    labels = {entry.name: entry.label for each in inventories for entry in each}
    counts: dict[str, tuple[int, int]] = {}
    if labels.keys() >= {*names.train, *names.test}:
        train, test = (Counter(labels[name] for name in part) for part in (names.train, names.test))
        largest_first = sorted(names.class_names, key=lambda name: -train[name])
        counts = {name: (train[name], test[name]) for name in largest_first}
    return DataSummary(len(names.class_names), len(names.train), len(names.test), counts)


def data_facts(run: SearchRun, summary: DataSummary | None) -> Iterator[tuple[str, str]]:
    """Yields titles and values of what a person wants to know about the data of a search."""
    fixed, search = run.space.fixed["data"], run.space.search
    noun = "text" if next(run.space.boundary_configs()).data.has_texts else "image"
    yield "data set", " ".join(str(fixed[key]) for key in ("dataset", "root", "file", "name") if fixed.get(key))
    if summary is not None:
        yield "classes", str(summary.num_classes)
        yield "training", f"{counted(summary.num_train, noun)} in {_folds(search)}"
        yield "test", counted(summary.num_test, noun)
        if summary.counts:
            classes = list(summary.counts.items())
            (largest, (most, _)), (smallest, (least, _)) = classes[0], classes[-1]
            sizes = f"{most} of each" if most == least else f"from {least} ({smallest}) to {most} ({largest})"
            yield f"training {noun}s a class", sizes


def data_warnings(run: SearchRun, summary: DataSummary | None) -> list[str]:
    """Lists what about the data a person should know before the scores are believed."""
    findings = run.history.data_findings
    warnings = [] if findings is None else [_sentence(note) for note in findings.notes]
    if summary is not None and are_unequal(summary.train_counts):
        advice = balance_advice(run.space)
        warnings.append(_sentence(f"the classes are very unequal{f': {advice}' if advice else ''}"))
    return warnings


def _folds(search: SearchSettings) -> str:
    repeats = search.num_trial_folds // search.folds
    return counted(search.folds, "fold") + (f", dealt {repeats} times" if repeats > 1 else "")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
