"""The model card: what a registered model is, how good, how it was made, and what it was not tested on, as Markdown
(Mitchell et al., 2019, https://arxiv.org/abs/1810.03993)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trainables.calibration import FALSE_ALARM_RATE
from tuner.experiment.objective import LABELS
from tuner.messages.wording import counted, spell_params
from tuner.record.selection import mean_and_sd
from tuner.reports.search_result import SearchResult

if TYPE_CHECKING:
    from trainables.classifier import ClassifierDescription

NONE = "–"


def model_card(
    name: str, result: SearchResult, model: ClassifierDescription, model_seed: int, num_train: int, made_s: float
) -> str:
    """Writes the card of the model that a search ended with.

    Args:
        name: name of the registered model.
        result: the search.
        model: description of the model's classifier.
        model_seed: seed of the retraining whose network is the model, if it is not an ensemble.
        num_train: number of training examples.
        made_s: when it was made, a Unix time in seconds.
    """
    made = datetime.fromtimestamp(made_s, UTC).date()
    kind = "texts" if model.config.data.has_texts else "photographs"
    sections = {
        "Classes": _class_lines(model),
        "Scores": _score_lines(result, model_seed),
        "How it was made": _making_lines(result, model, num_train),
        "Input": _input_lines(model),
        "What it was not tested on": _limit_lines(model),
        "Licences": _licence_lines(model),
    }
    what = f"Classifies {kind} into {len(model.class_names)} classes."
    head = f"# {name}\n\n{what} Made by smile-tuner {model.versions.get('smile-tuner', '')} on {made}.\n"
    return head + "".join(f"\n## {title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections.items())


def _class_lines(model: ClassifierDescription) -> Iterator[str]:
    yield ", ".join(f"`{name}`" for name in model.class_names)


def _score_lines(result: SearchResult, model_seed: int) -> Iterator[str]:
    yield "Top-1, the share of examples whose most probable class is right:"
    yield ""
    yield "| | validation | test |"
    yield "|---|---|---|"
    tests = _winners_tests(result)
    if result.ensemble is not None:
        made = f"this model, the mean {result.ensemble.mean_of} of {result.ensemble.num_networks} networks"
        yield f"| **{made}** | {NONE} | **{result.ensemble.test_top1:.4f}** |"
    elif str(model_seed) in tests:
        yield f"| **this model, the network of seed {model_seed}** | {NONE} | **{tests[str(model_seed)]:.4f}** |"
    if result.best_trial is not None:
        label = f"{result.best_trial}, the best of the search{_marked(result, result.best_trial)}"
        yield _score_row(label, result.val_top1, result.fold_scores, result.test_scores)
    for key, baseline in result.baselines.items():
        label = f"{baseline.label}{_marked(result, key)}"
        yield _score_row(label, baseline.val_top1, baseline.fold_scores, baseline.test_scores)
    yield ""
    num_trials = sum(result.trial_counts.values())
    yield (
        f"Validation {LABELS[result.objective]} chose the configuration, among {counted(num_trials, 'trial')} and "
        f"{counted(len(result.baselines), 'baseline')}, and is optimistic for it. Test examples were read after the "
        "choice. ± is the standard deviation over the seeds of the training; that the test examples are a sample, too, "
        "is not in it."
    )


def _winners_tests(result: SearchResult) -> Mapping[str, float]:
    """Test scores of the configuration of the model, by seed."""
    if result.winner in result.baselines:
        return result.baselines[result.winner].test_scores
    return result.test_scores


def _marked(result: SearchResult, key: str) -> str:
    return " (the configuration of this model)" if result.winner == key else ""


def _score_row(label: str, validation: float | None, folds: Sequence[float], tests: Mapping[str, float]) -> str:
    spelled = NONE if validation is None else f"{validation:.4f} ({counted(len(folds), 'fold')})"
    return f"| {label} | {spelled} | {_spell_tests(tests)} |"


def _spell_tests(scores: Mapping[str, float]) -> str:
    if not scores:
        return NONE
    mean, sd = mean_and_sd(scores.values())
    return f"{mean:.4f}" + ("" if sd is None else f" ± {sd:.4f}") + f" ({counted(len(scores), 'seed')})"


def _making_lines(result: SearchResult, model: ClassifierDescription, num_train: int) -> Iterator[str]:
    config = model.config
    method, training = config.method.model_dump(mode="json"), config.training.model_dump(mode="json")
    data = config.data.model_dump(mode="json", exclude_defaults=True, exclude={"root"})
    of = result.baselines[result.winner].label if result.winner in result.baselines else result.winner
    yield f"- search: {result.name}; the configuration is that of its {of}"
    yield f"- method: {method.pop('name')} {_settings(method)}".rstrip()
    yield f"- training: {_settings(training)}"
    yield f"- pre-trained network: {config.backbone.name}"
    root = "" if config.data.root is None else f", folder `{config.data.root.name}`"
    yield f"- data: {data.pop('dataset')}{root}, {counted(num_train, 'training example')} {_settings(data)}".rstrip()
    yield f"- versions: {_settings(model.versions)}"
    yield "- all settings: `classifier.json` beside this file; as an experiment: `best.yaml` of the search"


def _settings(settings: Mapping[str, Any]) -> str:
    given = {key: value for key, value in settings.items() if value is not None}
    return f"`{spell_params(given)}`" if given else ""


def _input_lines(model: ClassifierDescription) -> Iterator[str]:
    data = model.config.data
    if data.has_texts:
        yield f"Strings, of which the first {data.max_tokens} tokens are read."
        return
    resized = "squashed to a square" if data.resize == "squash" else "resized by the short side and cut to a square"
    yield (
        f"RGB images of any size: turned upright, {resized} of {data.stored_px} px, of which the centre of "
        f"{data.size_px} px is read. The model does all of it."
    )


def _limit_lines(model: ClassifierDescription) -> Iterator[str]:
    what = "texts" if model.config.data.has_texts else "photographs"
    yield f"- {what.capitalize()} from elsewhere: the test split is of the same collection as the training split."
    if not model.config.data.has_texts:
        yield "- Other cameras, light, places, seasons, groups of people or things: scores of each were not measured."
    yield (
        f"- Series: where {what} of one object, scene or source are in both splits, the scores are optimistic; "
        "nothing here rules it out unless the search was told the groups."
    )
    if model.unlike_threshold is None:
        yield f"- {what.capitalize()} of none of its classes: it names one of its classes for anything."
    else:
        yield (
            f"- {what.capitalize()} of none of its classes: it says `unlike` where the similarity to known ones is "
            f"below {model.unlike_threshold:.4f}, which is also so for about {FALSE_ALARM_RATE:.0%} of what it knows. "
            "How many strange ones that finds was not measured."
        )
    calibrated = model.temperature != 1 or model.unlike_threshold is not None
    fitted = (
        f"were fitted on validation data (temperature {model.temperature:.3g})" if calibrated else "were not calibrated"
    )
    yield f"- Its probabilities {fitted}: how often it is right at a given one was not tested."


def _licence_lines(model: ClassifierDescription) -> Iterator[str]:
    yield (
        f"- The pre-trained weights of `{model.config.backbone.name}` have a licence of their own, which this program "
        "does not know: look it up before the model is passed on. That of the data they were trained on may count, too."
    )
    yield "- So have the examples that it was fine-tuned on."
    yield "- The code of smile-tuner: Apache License 2.0."
