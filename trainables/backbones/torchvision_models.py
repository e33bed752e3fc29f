"""torchvision's classification models, cut before their last linear layer by symbolic tracing."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from trainables.backbones.architecture import Architecture, Parts, State, on_meta
from trainables.backbones.download import downloading, one_at_a_time, torch_cache, torch_cached, touch
from trainables.backbones.network import ImageBackbone
from trainables.backbones.stages import ends_in_graph
from trainables.errors import BadInput, Problem

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_PROBE_SIZE = 128
"""Image side for the search of the map, large enough for a last map above 1×1; models may require more."""

_DENSENET_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


_WITHOUT_LINEAR_CLASSIFIER = frozenset({"squeezenet1_0", "squeezenet1_1"})
"""Architectures whose classifier is a convolution before the pooling: they cannot be cut."""


def classification_models() -> list[str]:
    """Names of torchvision's classification architectures, those that cannot be cut included."""
    return list(models.list_models(module=models))


def pretrained_models() -> list[str]:
    """`architecture:weights` for every table of published weights whose architecture can be cut."""
    return [
        f"{arch}:{weights.name}"
        for arch in classification_models()
        if arch not in _WITHOUT_LINEAR_CLASSIFIER
        for weights in models.get_model_weights(arch)
    ]


class TorchvisionArchitecture(Architecture):
    """A torchvision model by name: `resnet50:IMAGENET1K_V2`, or `resnet50` for the default weights.

    Raises BadInput for weights that do not exist, and for a model that cannot be cut.
    """

    auxiliary = ("aux1.", "aux2.", "AuxLogits.")

    def __init__(self, name: str) -> None:
        self.arch, _, weights = name.partition(":")
        self.weights = _weights(self.arch, weights or "DEFAULT")
        self._place = _find_cut(self.arch, self.weights)
        self.classifier = self._place.classifier

    def blank(self, num_classes: int | None = None) -> nn.Module:
        return _blank(self.arch, self.weights, num_classes)

    def published(self) -> nn.Module:
        with downloading(torch_cache()), one_at_a_time(torch_cached(self.weights.url)):
            self.require_published()
            model: nn.Module = models.get_model(self.arch, weights=self.weights, progress=False)
        return model

    def require_published(self) -> None:
        if not torch_cached(self.weights.url).is_file():
            with downloading(torch_cache()):
                touch(self.weights.url)

    def cut(self, model: nn.Module) -> Parts:
        place = self._place
        head = model.get_submodule(place.classifier)
        assert isinstance(head, nn.Linear)
        for name in place.dropouts:
            model.set_submodule(name, nn.Identity())
        preset = self.weights.transforms()
        mean = tuple(getattr(preset, "mean", IMAGENET_MEAN))
        std = tuple(getattr(preset, "std", IMAGENET_STD))
        return Parts(TorchvisionBackbone(model, place, head.in_features, mean, std), head)

    def rename(self, state: State) -> State:
        """DenseNets were published with names such as `denselayer1.norm.1`, now `denselayer1.norm1`."""
        return {_DENSENET_OLD_NAME.sub(r"\1\2", name): tensor for name, tensor in state.items()}


class TorchvisionBackbone(ImageBackbone):
    """The traced part of a torchvision model up to its pooled features; parameters keep their names.

    The map needs no copy: an operation that changed it in place would itself be the last to have a map's shape.
    """

    def __init__(
        self, model: nn.Module, place: CutPlace, num_features: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__(mean, std)
        # Graphs of the two modes differ in what only serves pre-training, which is not returned.
        returned = {name: name for name in place.ends} | {place.features: "features", place.pooled: "pooled"}
        self.model = create_feature_extractor(model, returned, suppress_diff_warning=True)
        self._stage_of = _tap_stages(self.model, [returned[name] for name in place.ends])
        self.stages = tuple(f"model.stage_ends.{number}" for number in range(1, len(place.ends)))
        self.num_features = num_features
        self.head_dropout = place.head_dropout

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model(embedded)
        return outputs["features"], outputs["pooled"]

    def stage_index(self, parameter: str) -> int:
        return self._stage_of[parameter.removeprefix("model.")]


class CutPlace(NamedTuple):
    """Names of the operations at which a model is cut, as torchvision's tracer gives them.

    `ends` are the ends of the stem and of each stage, the last of which is `features`; empty if they are unknown.
    `dropouts` are the dropout layers directly before the classifier (with at most a reshaping between); they are
    removed from the backbone and applied before the heads, with the probability `head_dropout`.
    """

    classifier: str
    features: str
    pooled: str
    ends: tuple[str, ...]
    dropouts: tuple[str, ...]
    head_dropout: float


def _weights(arch: str, name: str) -> Any:
    enum = models.get_model_weights(arch)
    if name not in enum.__members__:
        known = ", ".join([member.name for member in enum] + ["DEFAULT"])
        raise BadInput(Problem("name", f"one of the weights that torchvision has for {arch} ({known})", repr(name)))
    return enum[name]


def _blank(arch: str, weights: Any, num_classes: int | None) -> nn.Module:
    kwargs: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if arch.startswith("vit_"):
        kwargs["image_size"] = weights.meta["min_size"][0]
    if arch in ("googlenet", "inception_v3"):
        # As for their published weights; explicit, as torchvision warns of a change of init_weights' default.
        kwargs |= {"init_weights": True, "transform_input": True}
    model: nn.Module = models.get_model(arch, weights=None, **kwargs)
    return model


@lru_cache(maxsize=32)
def _find_cut(arch: str, weights: Any) -> CutPlace:
    """Runs the model on the meta device to find the last map and the input of the classifier."""
    model = on_meta(lambda: _blank(arch, weights, None)).eval()
    names = get_graph_node_names(model, suppress_diff_warning=True)[1]
    classifier = names[-1]
    modules = dict(model.named_modules())
    if not isinstance(modules.get(classifier), nn.Linear):
        expected = "a model that ends in a linear classifier"
        raise BadInput(Problem("name", expected, f"torchvision/{arch}, which ends in {classifier!r}"))
    dropouts = _dropouts_before_classifier(names, modules)
    head_dropout = sum(modules[name].p for name in dropouts)
    for name in dropouts:
        model.set_submodule(name, nn.Identity())

    features, pooled, ends = _places(model, names, max(_PROBE_SIZE, *weights.meta["min_size"]))
    return CutPlace(classifier, features, pooled, ends, dropouts, float(head_dropout))


def _places(model: nn.Module, names: list[str], size: int) -> tuple[str, str, tuple[str, ...]]:
    """Operations of `names` that return the last map, the classifier's input, and the ends of the stages.

    The last of `names` is the classifier.
    """
    given: list[Tensor] = []
    model.get_submodule(names[-1]).register_forward_pre_hook(lambda _, args: given.append(args[0]))
    names = names[1:]  # without the images themselves
    extractor = create_feature_extractor(model, {name: name for name in names}, suppress_diff_warning=True)
    with torch.no_grad():
        outputs = extractor(torch.empty(1, 3, size, size, device="meta"))
    # An operation in place returns its input tensor: of several operations with one tensor the last is meant.
    pooled = [name for name in names if outputs[name] is given[0]][-1]
    features = [name for name in names if _is_map(outputs[name])][-1]
    of_backbone = {name: outputs[name] for name in names[: names.index(features) + 1]}
    return features, pooled, ends_in_graph(extractor.eval_graph, extractor, of_backbone, size)


def _tap_stages(model: Any, ends: list[str]) -> dict[str, int]:
    """Inserts an identity `stage_ends.k` after the last operation of stage k, in both graphs.

    `ends` are names of returned values at the ends of the stem and the stages, of which only the map stays returned.
    Returns the stage of each parameter.
    """
    model.stage_ends = nn.ModuleDict({str(number): nn.Identity() for number in range(1, len(ends))})
    stage_of: dict[str, int] = {}
    for graph in (model.train_graph, model.eval_graph):
        output = next(node for node in graph.nodes if node.op == "output")
        stages = [output.args[0][name] for name in ends]
        stage = 0
        for node in list(graph.nodes):
            stage_of |= {name: min(stage, max(len(ends) - 1, 0)) for name in _parameters_of(node, model)}
            if node in stages:
                stage += 1
                if node is not stages[0]:  # the stem's
                    _tap(node, f"stage_ends.{stage - 1}")
        output.args = ({name: output.args[0][name] for name in ("features", "pooled")},)
    model.recompile()
    return stage_of


def _tap(node: fx.Node, module: str) -> None:
    with node.graph.inserting_after(node):
        tap = node.graph.create_node("call_module", module, (node,))
    node.replace_all_uses_with(tap, delete_user_cb=lambda user: user is not tap)


def _parameters_of(node: fx.Node, model: nn.Module) -> list[str]:
    match node.op:
        case "call_module":
            return [f"{node.target}.{name}" for name, _ in model.get_submodule(str(node.target)).named_parameters()]
        case "get_attr":
            return [str(node.target)]
        case _:
            return []


def _dropouts_before_classifier(names: list[str], modules: dict[str, nn.Module]) -> tuple[str, ...]:
    found = []
    for name in reversed(names[:-1]):
        if isinstance(modules.get(name), nn.Dropout):
            found.append(name)
        elif not _only_reshapes(name, modules):
            break
    return tuple(found)


def _only_reshapes(name: str, modules: dict[str, nn.Module]) -> bool:
    is_function = re.search(r"(^|\.)(flatten|squeeze|reshape|view)(_\d+)?$", name) is not None
    return is_function or isinstance(modules.get(name), nn.Flatten | nn.Identity)


def _is_map(output: object) -> bool:
    """Whether it is N×C×H×W of a square image, or tokens N×T×C; not N×1×1×C, nor N×H×W×C inside a block."""
    if not isinstance(output, Tensor):
        return False
    match output.shape:
        case (_, _, height, width):
            return height == width > 1
        case (_, tokens, _):
            return tokens > 1
        case _:
            return False
