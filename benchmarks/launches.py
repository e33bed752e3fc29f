"""Operations that a training step gives to a device: `python -m benchmarks.launches`.

On a GPU each is a kernel (an operation on a list of tensors is a few), and where kernels are short, or several trials
share a card with one core each, the host that launches them is the limit. Counted by a dispatch mode on the CPU: views
and allocations are left out, operations on lists count as one.

ResNet-50 has random weights here, and so neither source head nor L_FC.

launches_smile_over_plain_<backbone>_<precision>    SMILE's over plain fine-tuning's, over a period of the teacher
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.figures import Figure, report
from trainables.config import TrialConfig
from trainables.data.loading import load_train
from trainables.seeding import seed_for
from trainables.trial import start_fit

PERIOD = 10
"""Steps between updates of SMILE's teacher."""
LIMIT = 1.4
NO_WORK = (
    "aten::empty",
    "aten::detach",
    "aten::_local_scalar",
    "aten::new_empty",
    "aten::lift_fresh",
    "prim::",
    "profiler::",
)
BACKBONES = {"efficientnet_lite0": "package/efficientnet_lite0", "resnet50": "torchvision/resnet50"}


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that compute something, by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, returned = func._schema.name, func._schema.returns
        is_view = any(each.alias_info is not None and not each.alias_info.is_write for each in returned)
        if not is_view and not name.startswith(NO_WORK):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def main(argv: Sequence[str] | None = None) -> int:
    """Counts and prints; exit code 1 where a figure is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.launches")
    parser.add_argument("--backbones", nargs="*", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--precisions", nargs="*", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--most", type=int, default=0, metavar="N", help="also print the N most frequent operations")
    arguments = parser.parse_args(argv)
    figures = []
    for backbone in arguments.backbones:
        for precision in arguments.precisions:
            counts = {method: launches_of(method, BACKBONES[backbone], precision) for method in ("l2", "smile")}
            totals = {method: sum(each.values()) / PERIOD for method, each in counts.items()}
            print(f"{backbone} {precision}: plain {totals['l2']:.0f}, SMILE {totals['smile']:.0f} a step", flush=True)
            for name, count in counts["smile"].most_common(arguments.most):
                print(f"  {name} {count / PERIOD:.1f}, plain {counts['l2'][name] / PERIOD:.1f}", flush=True)
            name = f"launches_smile_over_plain_{backbone}_{precision}"
            figures.append(Figure(name, totals["smile"] / totals["l2"], LIMIT))
    return report(figures)


def launches_of(method: str, backbone: str, precision: str) -> Counter[str]:
    """Operations of a period of steps, after one that is not counted: a first step finds what can be folded."""
    has_weights = backbone.startswith("package/")  # others would be downloaded
    without_source = {"gamma_fc": 0.0} if method == "smile" and not has_weights else {}
    config = TrialConfig.model_validate(
        {
            "data": {"dataset": "digits", "size_px": 32, "train_images": 64, "test_images": 10, "flip": False},
            "backbone": {"name": backbone, "pretrained": has_weights},
            "method": {"name": method} | without_source,
            "training": {"num_steps": 10 * PERIOD, "batch_size": 4, "precision": precision},
        }
    )
    fit = start_fit(config, load_train(config.data), seed_for(0, "launches"), torch.device("cpu"))
    with without_onednn():
        fit.run(until=PERIOD)
        launches = Launches()
        with launches:
            fit.run(until=2 * PERIOD)
    return launches.counts


@contextmanager
def without_onednn() -> Iterator[None]:
    """Has PyTorch compute without oneDNN inside the block, whose operations are others than those of a GPU."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")  # which `flags` sets, too
        with torch.backends.mkldnn.flags(enabled=False):
            yield


if __name__ == "__main__":
    raise SystemExit(main())
