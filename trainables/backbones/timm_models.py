"""timm models: forward_features → map, forward_head(pre_logits) → pooled features, get_classifier → source head."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from trainables.backbones.architecture import Architecture, Parts, blank_on_meta, on_meta
from trainables.backbones.download import HubFile, downloading, one_at_a_time, torch_cached, touch
from trainables.backbones.network import ImageBackbone
from trainables.backbones.stages import ends_in_modules
from trainables.errors import BadInput, Problem, first_line

ANY_SIZE: dict[str, Any] = {"dynamic_img_size": True}
"""Option of the models whose positions are embedded on a grid of one image size: they resample it to that of each
batch. Their weights stay as they were published."""


class TimmArchitecture(Architecture):
    """A timm model by name: `resnet50.a1_in1k`, or `resnet50` for the default tag. Where timm can build it so, it takes
    images of any size.

    Raises BadInput for a tag that does not exist, and for a model that cannot be cut.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._require_tag()
        self._options = self._known_options()
        blank: Any = blank_on_meta(self)
        self.pretrained_cfg: dict[str, Any] = blank.pretrained_cfg
        self.classifier = _classifier_name(name, blank)
        self._require_usable()

    def blank(self, num_classes: int | None = None) -> nn.Module:
        kwargs: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
        model: nn.Module = timm.create_model(self.name, pretrained=False, **kwargs, **self._options)
        return model

    def _known_options(self) -> dict[str, Any]:
        try:
            on_meta(lambda: timm.create_model(self.name, pretrained=False, **ANY_SIZE))
        except TypeError:  # the option is unknown to a model that needs none, as a ResNet
            return {}
        return ANY_SIZE

    def published(self) -> nn.Module:
        self.require_published()
        awaited = self._weights.cached() or self._weights.cache / self.name
        with downloading(self._weights.cache), one_at_a_time(awaited):
            # timm gets the path of a cached hub file: it would ask the hub first, with minutes of retries.
            cached = self._weights.cached()
            overlay = {"file": str(cached)} if cached is not None and cached.suffix == ".safetensors" else None
            model: nn.Module = timm.create_model(
                self.name, pretrained=True, pretrained_cfg_overlay=overlay, **self._options
            )
        return model

    def require_published(self) -> None:
        if not timm.list_models(self.name, pretrained=True):
            expected = "a model with published weights (or backbone.checkpoint, or pretrained: false)"
            raise BadInput(Problem("name", expected, f"{self.name!r}, which has none in timm"))
        if self._weights.cached() is None:
            with downloading(self._weights.cache):
                self._weights.touch()

    def cut(self, model: nn.Module) -> Parts:
        parts = self._halves(model)
        parts.backbone.stages = tuple(f"model.{name}" for name in self._stages)
        return parts

    def _halves(self, model: nn.Module) -> Parts:
        if not self.classifier:
            return Parts(TimmBackbone(model, self.pretrained_cfg, _num_features(model)), None)
        head = _as_linear(model.get_submodule(self.classifier))
        # Not timm's reset_classifier, which may also reset the pooling.
        model.set_submodule(self.classifier, nn.Identity())
        return Parts(TimmBackbone(model, self.pretrained_cfg, head.in_features), head)

    @cached_property
    def _stages(self) -> tuple[str, ...]:
        """Runs the model on the meta device to find the modules that timm lists as its features."""
        model: Any = blank_on_meta(self).eval()
        probe = torch.empty(1, *self.pretrained_cfg["input_size"], device="meta")
        listed = [str(info["module"]) for info in getattr(model, "feature_info", None) or ()]
        return ends_in_modules(model, lambda: model.forward_features(probe), listed)

    @cached_property
    def _weights(self) -> HubFile | _UrlFile:
        cfg = self.pretrained_cfg
        if cfg.get("hf_hub_id"):
            return HubFile(cfg["hf_hub_id"], cfg.get("hf_hub_filename"))
        return _UrlFile(cfg["url"])

    def _require_tag(self) -> None:
        arch, _, tag = self.name.partition(".")
        tags = [name.partition(".")[2] for name in timm.list_models(arch, pretrained=True)]
        if tag and tag not in tags:
            known = ", ".join(sorted(tags)) or "none"
            raise BadInput(Problem("name", f"one of the tags that timm has for {arch} ({known})", repr(tag)))

    def _require_usable(self) -> None:
        """Runs the cut model on the meta device. Raises BadInput unless it returns a map and a vector."""
        backbone = self._halves(blank_on_meta(self)).backbone.eval()
        try:
            with torch.no_grad():
                features, pooled = backbone(torch.empty(1, *self.pretrained_cfg["input_size"], device="meta"))
        except Exception as error:  # other kinds of models fail with any error
            raise _unusable(self.name, f"features that cannot be pooled ({first_line(error)})") from error
        is_map = isinstance(features, Tensor) and features.ndim in (3, 4)
        if not is_map or not isinstance(pooled, Tensor) or pooled.shape != (1, backbone.num_features):
            raise _unusable(self.name, "features that are not a map N×C×H×W or tokens N×T×C, pooled to N×D")


class TimmBackbone(ImageBackbone):
    """A timm model without its classifier."""

    def __init__(self, model: nn.Module, pretrained_cfg: dict[str, Any], num_features: int) -> None:
        super().__init__(tuple(pretrained_cfg["mean"]), tuple(pretrained_cfg["std"]))
        self.model = model
        self.num_features = num_features
        self.head_dropout = _take_head_dropout(model)
        self.is_channels_last_map = getattr(model, "output_fmt", "NCHW") == "NHWC"

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.forward_features(embedded)  # type: ignore[operator]
        pooled = self.model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        if self.is_channels_last_map:
            features = features.permute(0, 3, 1, 2)
        return features, pooled.flatten(1)


class _UrlFile:
    """Weights with a URL of their own, cached by torch."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.file = torch_cached(url)
        self.cache = self.file.parent

    def cached(self) -> Path | None:
        return self.file if self.file.is_file() else None

    def touch(self) -> None:
        touch(self.url)


def _classifier_name(name: str, model: Any) -> str:
    """Module name of the classifier, "" if the model has none. Raises BadInput if it is not linear."""
    classifier = model.get_classifier()
    match classifier:
        case nn.Identity():
            return ""
        case nn.Linear() | nn.Conv2d(kernel_size=(1, 1), groups=1):
            return str(next(path for path, module in model.named_modules() if module is classifier))
        case _:
            raise _unusable(name, f"a {type(classifier).__name__} as classifier")


def _as_linear(classifier: nn.Module) -> nn.Linear:
    """The classifier as a linear layer; in a few models it is a 1×1 convolution on the pooled map."""
    if isinstance(classifier, nn.Linear):
        return classifier
    assert isinstance(classifier, nn.Conv2d)
    with torch.device("meta"):  # its random weights are not used
        linear = nn.Linear(classifier.in_channels, classifier.out_channels, bias=classifier.bias is not None)
    linear.weight = nn.Parameter(classifier.weight.detach().flatten(1))
    if classifier.bias is not None:
        linear.bias = nn.Parameter(classifier.bias.detach())
    return linear


def _num_features(model: Any) -> int:
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def _take_head_dropout(model: Any) -> float:
    """Switches off the dropout before the classifier, and returns its probability, for the heads."""
    probability = float(getattr(model, "drop_rate", None) or 0.0)
    if probability:
        model.drop_rate = 0.0
        for name, module in model.named_modules():
            if name in ("head.drop", "head_drop") and isinstance(module, nn.Dropout):
                module.p = 0.0
    return probability


def _unusable(name: str, got: str) -> BadInput:
    return BadInput(Problem("name", "a model with one feature map and one linear classifier", f"{name!r} with {got}"))
