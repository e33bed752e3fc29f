"""The `backbone` section of an experiment: architecture and source of its weights."""

from __future__ import annotations

from trainables.frozen import Frozen
from trainables.paths import PossiblePath


class BackboneConfig(Frozen):
    """Architecture and weights of the backbone.

    `name` is one of
      `package/efficientnet_lite0`            ImageNet weights in a Python package; no download
      `torchvision/resnet50:IMAGENET1K_V2`    a torchvision model and the name of its weights (without `:…` its default)
      `timm/resnet50.a1_in1k`                 a timm model; `timm/` may be left out
      `package/minilm_l6`                     a small BERT for sentences in a Python package; no download
      `transformers/bert-base-uncased`        a BERT of the Hugging Face hub, `owner/name` or a name without owner
    `checkpoint` is a file with weights for that architecture, used instead of the published ones; its classifier, with
    any number of classes, becomes the source head. `pretrained: false` starts from random weights, without a source
    head. `list_backbones` lists names.
    """

    name: str
    """Architecture and source of its weights: `package/efficientnet_lite0`, `torchvision/resnet50:IMAGENET1K_V2`,
    `timm/resnet50.a1_in1k`, `transformers/bert-base-uncased`."""
    checkpoint: PossiblePath | None = None
    """File with weights for that architecture, used instead of the published ones."""
    pretrained: bool = True
    """Whether it starts from pre-trained weights; random ones have no source head."""
