"""Which recipe wins: named configurations trained on the same draws of several samples, by validation alone.

    python -m benchmarks.recipe train --plan PLAN.yaml --scores SCORES.json
    python -m benchmarks.recipe show SCORES.json --against NAME

A plan names samples (a `data` section, and the number of images to train on), configurations (`method`, `training`, and
further keys of `data`), and the number of draws. Of the *training* split of a sample, a draw takes the images to train
on, stratified, and validates on all others, which are more than a fold would have: what costs time is the training.
With `data.group_by` whole groups are validated on. Every configuration has the same draws; a test split is never read.
A score that is in the file already is not computed again, so that a plan can grow.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches
from trainables.data.examples import Examples, as_inputs
from trainables.data.folds import Fold
from trainables.data.loading import load_train
from trainables.data.sampling import draw_images, hold_out
from trainables.errors import Diverged
from trainables.training.evaluation import predicted_probabilities
from trainables.trial import FoldTraining

Plan = Mapping[str, Any]
Score = dict[str, Any]
"""`sample`, `configuration`, `draw`, `top1` (None: diverged), `nll`, `steps` and `cpu_s` of one training."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what a plan names, or prints the scores of a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--plan", type=Path, required=True)
    training.add_argument("--scores", type=Path, required=True)
    showing = commands.add_parser("show")
    showing.add_argument("scores", type=Path, nargs="+")
    showing.add_argument("--against", required=True, help="the configuration to which differences are taken")
    arguments = parser.parse_args(argv)
    if arguments.command == "train":
        train(yaml.safe_load(arguments.plan.read_text()), arguments.scores)
    else:
        scores = [score for path in arguments.scores for score in json.loads(path.read_text())]
        print("\n".join(table(scores, arguments.against)))
    return 0


def train(plan: Plan, path: Path) -> None:
    """Trains what is missing in the file of scores, and adds it there."""
    torch.set_num_threads(1)
    scores: list[Score] = json.loads(path.read_text()) if path.exists() else []
    done = {_key(score) for score in scores}
    for sample, name, config, draw in trainings(plan):
        if (sample, name, draw) in done:
            continue
        score = {"sample": sample, "configuration": name, "draw": draw}
        scores.append(score | measured(config, plan["samples"][sample]["train"], draw))
        path.write_text(_as_json(scores))
        print(scores[-1], flush=True)


def trainings(plan: Plan) -> Iterator[tuple[str, str, TrialConfig, int]]:
    """Sample, name of the configuration, configuration and draw (from 0) of each training of a plan.

    A draw is finished for all samples before the next one is begun, so that an interrupted plan is of use.
    """
    for draw in range(plan["draws"]):
        for sample, described in plan["samples"].items():
            for name, sections in plan["configurations"].items():
                few, here = sections.get("draws", plan["draws"]), sections.get("samples", [sample])
                if draw < few and sample in here:
                    yield sample, name, trial_config(plan, described["data"], sections), draw


def trial_config(plan: Plan, data: Mapping[str, Any], sections: Mapping[str, Any]) -> TrialConfig:
    """The sections of a configuration over those common to a plan, on a sample."""
    return TrialConfig.model_validate(
        {
            "data": {**plan.get("data", {}), **data, **sections.get("data", {})},
            "backbone": {"name": "package/efficientnet_lite0"},
            "method": sections["method"],
            "training": {**plan.get("training", {}), **sections.get("training", {})},
        }
    )


def measured(config: TrialConfig, num_images: int, draw: int) -> Score:
    """Trains on `num_images` of the training split and scores the others. Draws depend on the number `draw` alone."""
    examples = load_train(config.data)
    fold = drawn(examples, num_images, draw)
    started = time.process_time()
    training = FoldTraining(config, examples, 1 + draw, fold, torch.device("cpu"))
    try:
        training.training.run()
    except Diverged:
        return {"top1": None, "nll": None, "steps": training.step, "cpu_s": round(time.process_time() - started, 1)}
    cpu_s = time.process_time() - started
    network = training.training.fit.method.student
    inputs = as_inputs(training.validation, config.data, network.backbone.tokenizer)
    batches = evaluation_batches(inputs, config.data, config.training.eval_batch_size, training.device)
    probabilities, labels = predicted_probabilities(network, batches, config.training, training.device)
    of_label = probabilities[torch.arange(len(labels)), labels]
    return {
        "top1": round(float((probabilities.argmax(dim=1) == labels).double().mean()), 4),
        "nll": round(float(-of_label.clamp_min(1e-12).log().mean()), 4),
        "steps": training.step,
        "cpu_s": round(cpu_s, 1),
    }


def drawn(examples: Examples, num_images: int, draw: int) -> Fold:
    """Draws the images to train on, and validates on all others; no group is divided."""
    if examples.groups is None:
        taken = draw_images(examples.labels, num_images, "stratified", draw, "recipe")
    else:
        taken, _ = hold_out(examples.labels, len(examples) - num_images, draw, examples.groups)
    return Fold(taken, np.setdiff1d(np.arange(len(examples)), taken))


def table(scores: Sequence[Score], against: str) -> list[str]:
    """Lines of a table for each sample: mean top-1, and the difference to `against`, paired over draws, ± its error.

    The standard error takes the draws for independent, which is too good where they overlap much.
    """
    lines = []
    for sample in dict.fromkeys(score["sample"] for score in scores):
        of_sample = [score for score in scores if score["sample"] == sample]
        base = {score["draw"]: score["top1"] or 0.0 for score in of_sample if score["configuration"] == against}
        lines.append(f"{sample}: {len(base)} draws of {against}")
        rows = [
            _row(name, [score for score in of_sample if score["configuration"] == name], base)
            for name in dict.fromkeys(score["configuration"] for score in of_sample)
        ]
        lines += [line for _, line in sorted(rows, reverse=True)]
    return lines


def _row(name: str, scores: Sequence[Score], base: Mapping[int, float]) -> tuple[float, str]:
    top1 = {score["draw"]: score["top1"] or 0.0 for score in scores}
    shared = [place for place in top1 if place in base]
    gaps = np.array([top1[place] - base[place] for place in shared])
    gap = gaps.mean() if len(gaps) else float("nan")
    error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("nan")
    mean, seconds = float(np.mean(list(top1.values()))), np.mean([score["cpu_s"] for score in scores])
    nll = np.mean([score["nll"] if score["nll"] is not None else np.nan for score in scores])
    failed = sum(score["top1"] is None for score in scores)
    line = f"  {name:28} {mean:.4f}  {gap:+.4f} ± {error:.4f}  nll {nll:.3f}  {seconds:5.1f} s  n={len(top1)}"
    return (gap if shared else -1.0), line + (f"  {failed} diverged" if failed else "")


def _key(score: Score) -> tuple[str, str, int]:
    return score["sample"], score["configuration"], score["draw"]


def _as_json(scores: Sequence[Score]) -> str:
    return "[\n" + ",\n".join(json.dumps(score) for score in scores) + "\n]\n"


if __name__ == "__main__":
    raise SystemExit(main())
