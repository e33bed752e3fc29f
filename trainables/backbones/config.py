"""The `backbone` section: which architecture, and where its weights come from."""

from __future__ import annotations

from pathlib import Path

from trainables.frozen import Frozen


class BackboneConfig(Frozen):
    """Architecture and weights.

    `name` is one of
      `package/efficientnet_lite0`            ImageNet weights that a Python package carries; no download
      `torchvision/resnet50:IMAGENET1K_V2`    a torchvision model and the name of its weights (without `:…` its default)
      `timm/resnet50.a1_in1k`                 a timm model; `timm/` may be left out
      `package/minilm_l6`                     a small BERT for sentences that a Python package carries; no download
      `transformers/bert-base-uncased`        a BERT of the Hugging Face hub, `owner/name` or a name without owner
    `checkpoint` is a file with weights for that architecture, read instead of the published ones; its classifier,
    whatever its number of classes, becomes the source head. `pretrained: false` starts from random weights, without a
    source head.
    """

    name: str
    checkpoint: Path | None = None
    pretrained: bool = True
