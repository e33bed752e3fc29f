from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision import models

from trainables.backbones.config import BackboneConfig
from trainables.backbones.registry import BackboneSizes, build_network, check_backbone, describe
from trainables.errors import BadInput

from .helpers import images

LITE0 = BackboneConfig(name="package/efficientnet_lite0")
RANDOM = BackboneConfig(name="torchvision/resnet18", pretrained=False)


def _weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def places365(tmp_path: Path) -> Path:
    """A checkpoint as the Places365 authors publish them."""
    state = {f"module.{name}": tensor for name, tensor in models.resnet18(num_classes=365).state_dict().items()}
    torch.save(
        {"arch": "resnet18", "epoch": 90, "state_dict": state, "best_prec1": torch.tensor(54.0)}, tmp_path / "p.tar"
    )
    return tmp_path / "p.tar"


@pytest.mark.parametrize("source", ["package", "torchvision checkpoint"])
def test_weights_are_fresh_after_another_network_was_trained(source: str, places365: Path) -> None:
    config = LITE0 if source == "package" else BackboneConfig(name="torchvision/resnet18", checkpoint=places365)
    network = build_network(config, 3, seed=0, keep_source_head=True)
    before = _weights(network)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    outputs = network.train()(images())
    (outputs.target_logits.square().mean() + outputs.source_logits.square().mean()).backward()  # type: ignore[union-attr]
    optimiser.step()
    assert not _equal(before, _weights(network))
    assert _equal(before, _weights(build_network(config, 3, seed=0, keep_source_head=True)))


def test_weights_are_read_once(monkeypatch: pytest.MonkeyPatch, places365: Path) -> None:
    loads = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: loads.append(args) or load(*args, **kwargs))
    config = BackboneConfig(name="torchvision/resnet18", checkpoint=places365)
    for seed in range(3):
        build_network(config, 3, seed, keep_source_head=False)
    assert len(loads) == 1


def test_a_changed_checkpoint_is_read_again(places365: Path) -> None:
    config = BackboneConfig(name="torchvision/resnet18", checkpoint=places365)
    build_network(config, 3, seed=0, keep_source_head=True)
    torch.save(models.resnet18(num_classes=11).state_dict(), places365)
    assert build_network(config, 3, seed=0, keep_source_head=True).source_head.out_features == 11  # type: ignore[union-attr]


def test_building_does_not_touch_the_global_generator() -> None:
    for config in (LITE0, LITE0, RANDOM):  # not remembered, remembered, random
        before = torch.get_rng_state()
        build_network(config, 3, seed=0, keep_source_head=True)
        assert torch.equal(before, torch.get_rng_state())


def test_random_weights_depend_on_the_seed_only() -> None:
    first, again, other = (_weights(build_network(RANDOM, 3, seed, keep_source_head=True)) for seed in (0, 0, 1))
    assert _equal(first, again)
    assert not _equal(first, other)
    assert not any("source_head" in name for name in first)


def test_the_classifier_of_a_checkpoint_becomes_the_source_head(places365: Path) -> None:
    config = BackboneConfig(name="torchvision/resnet18", checkpoint=places365)
    check_backbone(config, needs_source_head=True)
    assert describe(config).num_source_classes == 365
    network = build_network(config, 3, seed=0, keep_source_head=True).eval()
    reference = models.resnet18(num_classes=365).eval()
    state = torch.load(places365, weights_only=True)["state_dict"]
    reference.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    with torch.no_grad():
        outputs = network(images())
        torch.testing.assert_close(outputs.source_logits, reference(images()), rtol=1e-5, atol=1e-5)
    assert build_network(config, 3, seed=0, keep_source_head=False).source_head is None


def test_a_checkpoint_without_classifier_gives_no_source_head(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in models.resnet18().state_dict().items() if not name.startswith("fc.")}
    torch.save(state, tmp_path / "w.pth")
    config = BackboneConfig(name="torchvision/resnet18", checkpoint=tmp_path / "w.pth")
    check_backbone(config)
    assert build_network(config, 3, seed=0, keep_source_head=True).source_head is None
    with pytest.raises(
        BadInput, match=r"backbone.checkpoint: expected a classifier in .*, got a file without fc.weight"
    ):
        _under_backbone(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RANDOM, "backbone.pretrained: expected true, as the method reads the pre-trained classifier, got false"),
        (
            BackboneConfig(name="resnt50"),
            "backbone.name: .*got 'resnt50' .*did you mean 'torchvision/resnet50' or 'timm/resnet50'",
        ),
        (BackboneConfig(name="package/resnet18"), "did you mean .*'torchvision/resnet18'"),
        (BackboneConfig(name="package/efficientnet_lite9"), "did you mean 'package/efficientnet_lite0'"),
        (BackboneConfig(name="torchvision/resnet50d"), "did you mean 'torchvision/resnet50' .*'timm/resnet50d'"),
        (BackboneConfig(name="hub/x/y"), "backbone.name: expected package/…, torchvision/…, timm/… or transformers/…"),
        (BackboneConfig(name="timm/resnet18.nothing"), "backbone.name: .*got 'nothing'"),
        (BackboneConfig(name="torchvision/resnet18:V9"), "backbone.name: .*IMAGENET1K_V1.*got 'V9'"),
        (
            BackboneConfig(name="timm/resnet18", checkpoint=Path("w.pth"), pretrained=False),
            "backbone.pretrained: expected true where backbone.checkpoint is given",
        ),
        (
            BackboneConfig(name="timm/resnet18", checkpoint=Path("w.pth")),
            "backbone.checkpoint: expected an existing file",
        ),
    ],
)
def test_mistakes_are_answered_before_any_trial(config: BackboneConfig, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _under_backbone(config)


def test_cached_torchvision_weights_need_no_network(caches: Path) -> None:
    published = models.resnet18()
    cache = caches / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(published.state_dict(), cache / Path(models.ResNet18_Weights.DEFAULT.url).name)
    config = BackboneConfig(name="torchvision/resnet18")
    check_backbone(config, needs_source_head=True)
    network = build_network(config, 3, seed=0, keep_source_head=True)
    torch.testing.assert_close(network.source_head.weight, published.fc.weight)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/test_resnet"])
def test_weights_out_of_reach_are_said_quickly(name: str, caches: Path, network: list[str]) -> None:
    for attempt in (
        lambda config: check_backbone(config),
        lambda config: build_network(config, 3, seed=0, keep_source_head=False),
    ):
        with pytest.raises(
            BadInput,
            match=f"weights that can be downloaded or lie in {caches}.* \\(or a file as backbone.checkpoint\\)",
        ):
            attempt(BackboneConfig(name=name))
    assert 0 < len(network) <= 4, "asked, and not again and again"
    network.clear()


def test_describe_needs_no_weights() -> None:
    assert describe(BackboneConfig(name="torchvision/resnet50")) == BackboneSizes(
        num_features=2048, num_source_classes=1000, num_parameters=23_508_032
    )
    assert describe(RANDOM).num_source_classes == 0
    assert describe(LITE0).num_features == 1280


def _under_backbone(config: BackboneConfig) -> None:
    try:
        check_backbone(config, needs_source_head=True)
    except BadInput as error:
        raise error.under("backbone") from error
