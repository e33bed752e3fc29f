"""How strong SMILE's terms are beside the cross-entropy, by size of batch and of feature map:
`python -m benchmarks.smile_scales`.

At step 0 of EfficientNet-Lite0, for each form of each term with a weight of 1: its value, and the norm of its gradient
in that of the cross-entropy, at the feature map, at all of the backbone's parameters, and in the median of its
parameters. A γ means the same strength at all sizes where these ratios do not depend on them. Medians over batches;
every size draws the same λ.

    python -m benchmarks.smile_scales --root FOLDER --sizes-px 64 96 128 160 224 --batch-norm frozen
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.backbones.config import BackboneConfig
from trainables.config import TrialConfig
from trainables.data.config import DataConfig
from trainables.data.examples import Examples
from trainables.data.loading import load_train
from trainables.methods.losses import frobenius_scale
from trainables.methods.smile import Form, SmileConfig
from trainables.training.config import TrainingConfig
from trainables.training.loop import Fit
from trainables.trial import default_device, start_fit
from trainables.types import Outputs

FORMS: tuple[Form, ...] = ("authors", "paper")
Strength = tuple[float, ...]
"""Value of a term, and the norms of its gradient in the cross-entropy's: at the map, at all parameters, in the median
parameter. Of the cross-entropy itself, the first two norms."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints a line for each size and term: `BatchNorm px N map term value at_map at_all in_median`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smile_scales")
    parser.add_argument("--root", help="folder of images with train/ below it; digits where none is given")
    parser.add_argument("--sizes-px", type=int, nargs="*", default=[128])
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[24])
    parser.add_argument("--batch-norm", choices=("train", "frozen"), default="train")
    parser.add_argument("--batches", type=int, default=3, help="number of batches that a median is over")
    arguments = parser.parse_args(argv)
    for size_px in arguments.sizes_px:
        given: dict[str, Any] = {"dataset": "digits", "flip": False}
        if arguments.root:
            given = {"dataset": "imagefolder", "root": arguments.root}
        data = DataConfig(**given, train_images=120, test_images=10, size_px=size_px)
        images = load_train(data)
        for batch_size in arguments.batch_sizes:
            terms: dict[str, list[Strength]] = defaultdict(list)
            for form in FORMS:
                fit = untrained(form, data, images, batch_size)
                for step in range(1, arguments.batches + 1):
                    for name, strength in strengths(fit, step, form, arguments.batch_norm).items():
                        terms[name].append(strength)
            features = map_of(fit)
            where = f"{arguments.batch_norm} {size_px} {batch_size} {features.shape[2]}×{features.shape[3]}"
            for name, rows in terms.items():
                numbers = (statistics.median(column) for column in zip(*rows, strict=True))
                print(where, name, *(f"{number:.4g}" for number in numbers), flush=True)
            print(where, "frobenius_scale", f"{frobenius_scale(features):.3f}", flush=True)
    return 0


def untrained(form: Form, data: DataConfig, images: Examples, batch_size: int) -> Fit:
    """SMILE at step 0, with both terms in one form and weights of 1."""
    config = TrialConfig(
        data=data,
        backbone=BackboneConfig(name="package/efficientnet_lite0"),
        method=SmileConfig(feature_loss=form, source_loss=form, gamma_fe=1, gamma_fc=1, teacher_precision="fp32"),
        training=TrainingConfig(batch_size=batch_size),
    )
    return start_fit(config, images, seed=0, device=default_device())


def map_of(fit: Fit) -> Tensor:
    """The feature map of the first batch."""
    student = fit.method.student
    with torch.no_grad():
        outputs: Outputs = student(student.embed(fit.batch_at(1).inputs))
    return outputs.features


def strengths(fit: Fit, step: int, form: Form, batch_norm: Literal["train", "frozen"]) -> dict[str, Strength]:
    """Strengths of the terms for the batch of `step`."""
    student = fit.method.student.train()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(batch_norm == "train")
    seen: list[Outputs] = []
    hook = student.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs))
    terms = fit.method.loss(fit.batch_at(step))
    hook.remove()
    (outputs,) = seen
    parameters = list(student.backbone.parameters())

    def norms(term: Tensor) -> tuple[float, Tensor]:
        at_map, *at_parameters = torch.autograd.grad(term, [outputs.features, *parameters], retain_graph=True)
        return float(at_map.norm()), torch.stack(torch._foreach_norm(at_parameters))

    at_map, at_parameters = norms(terms["target_label"])
    found: dict[str, Strength] = {"cross_entropy": (terms["target_label"].item(), at_map, at_parameters.norm().item())}
    for name in ("feature", "source_label"):
        here, there = norms(terms[name])
        in_all, in_median = there.norm() / at_parameters.norm(), (there / at_parameters).median()
        found[f"{name},{form}"] = (terms[name].item(), here / at_map, in_all.item(), in_median.item())
    return found


if __name__ == "__main__":
    raise SystemExit(main())
