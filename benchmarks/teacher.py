"""What SMILE's teacher costs folded and in each precision, and how far it is then from fp32 as it is:
`python -m benchmarks.teacher`.

A forward pass of EfficientNet-Lite0 on a batch of digits, in turn with a training step of the same network; medians.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Sequence

import torch
from torch import nn

from benchmarks.figures import seconds_of
from trainables.backbones import build_network
from trainables.backbones.batchnorm_folding import FoldedNetwork
from trainables.backbones.config import BackboneConfig
from trainables.backbones.network import TransferNetwork
from trainables.data.config import DataConfig
from trainables.data.images import LabelledImages
from trainables.data.loading import load_train
from trainables.methods.teacher import frozen_copy, teacher_autocast

CPU = torch.device("cpu")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints `how share_of_a_step relative_difference_of_features`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.teacher")
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args(argv)
    data = DataConfig(dataset="digits", train_images=100, test_images=10, size_px=arguments.size_px, flip=False)
    images = load_train(data)
    assert isinstance(images, LabelledImages)
    pixels = torch.from_numpy(images.pixels[images.index[: arguments.batch_size]].copy()).permute(0, 3, 1, 2).float()
    student = build_network(BackboneConfig(name="package/efficientnet_lite0"), 10, 0, True).train()
    student = student.to(memory_format=torch.channels_last)
    squares = pixels[..., : arguments.size_px, : arguments.size_px]
    inputs = student.embed(squares).contiguous(memory_format=torch.channels_last)
    teacher = frozen_copy(student)
    folded = FoldedNetwork(teacher)
    converted = copy.deepcopy(teacher)
    for module in converted.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.bfloat16()

    def in_bf16(way: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        def speak() -> torch.Tensor:
            with teacher_autocast("bf16", CPU):
                return way()

        return speak

    def as_it_is() -> torch.Tensor:
        return features(teacher, inputs)

    def without_norms() -> torch.Tensor:
        return folded(squares).features

    ways: dict[str, Callable[[], torch.Tensor]] = {
        "fp32": as_it_is,
        "folded": without_norms,
        "autocast": in_bf16(as_it_is),
        "folded_autocast": in_bf16(without_norms),
        "weights": lambda: features(converted, inputs.bfloat16()),
    }
    with torch.no_grad():
        exact = ways["fp32"]()
        off = {name: float((way().float() - exact).norm() / exact.norm()) for name, way in ways.items()}
    shares: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        step_s = seconds_of(lambda: student(inputs).target_logits.sum().backward())
        for name, way in ways.items():
            with torch.no_grad():
                shares[name].append(seconds_of(way) / step_s)
    for name, values in shares.items():
        print(f"{name} {statistics.median(values):.3f} {off[name]:.1e}")
    return 0


def features(network: TransferNetwork, inputs: torch.Tensor) -> torch.Tensor:
    """The feature map of what is embedded already."""
    seen: torch.Tensor = network.backbone(inputs)[0]
    return seen


if __name__ == "__main__":
    raise SystemExit(main())
