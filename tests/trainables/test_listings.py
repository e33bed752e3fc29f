"""What a user can choose is listed by name."""

from __future__ import annotations

import pytest
import timm

from trainables.backbones.registry import find_architecture, list_backbones
from trainables.data.datasets.registry import DATASETS, list_datasets
from trainables.methods import METHODS, list_methods
from trainables.summaries import first_sentence


@pytest.mark.parametrize(("listed", "registry"), [(list_methods(), METHODS), (list_datasets(), DATASETS)])
def test_every_entry_of_a_registry_has_a_summary_of_one_line(
    listed: dict[str, str], registry: dict[str, object]
) -> None:
    assert list(listed) == list(registry)
    for name, summary in listed.items():
        assert 20 < len(summary) <= 110, (name, summary)
        assert "\n" not in summary
    assert len(set(listed.values())) == len(listed)


def test_a_summary_needs_a_docstring() -> None:
    with pytest.raises(ValueError, match="a docstring, got none"):
        first_sentence(lambda: None)


def test_all_kinds_of_pretrained_backbones_are_listed() -> None:
    names = list_backbones()
    assert names[:2] == ["package/efficientnet_lite0", "package/minilm_l6"]
    assert {"torchvision/resnet50:IMAGENET1K_V2", "timm/resnet50.a1_in1k"} <= set(names)
    assert not any("squeezenet" in name for name in names if name.startswith("torchvision/"))
    assert len(set(names)) == len(names)


def test_a_pattern_is_compared_with_the_name_with_and_without_its_library() -> None:
    assert list_backbones("timm/resnet18.*") == [
        f"timm/{name}" for name in timm.list_models("resnet18.*", pretrained=True)
    ]
    assert "torchvision/resnet18:IMAGENET1K_V1" in list_backbones("resnet18*")
    assert list_backbones("no_such_model") == []


@pytest.mark.parametrize(
    "name", ["package/efficientnet_lite0", "torchvision/resnet18:IMAGENET1K_V1", "timm/resnet18.a1_in1k"]
)
def test_a_listed_name_is_one_that_the_backbone_section_takes(name: str) -> None:
    assert name in list_backbones()
    find_architecture(name)
