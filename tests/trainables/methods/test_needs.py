"""What a method needs of a backbone, and how it is refused where that is missing."""

from __future__ import annotations

import pytest

from tests.trainables.tiny import TinyConv, TinyTokens
from trainables.backbones import BackboneFacts, facts_about
from trainables.errors import BadInput
from trainables.methods import METHODS, MethodConfig, check_method
from trainables.methods.cutmix import CutMixConfig
from trainables.methods.l2 import L2Config
from trainables.methods.manifold_mixup import ManifoldMixupConfig

IMAGES = BackboneFacts.of(TinyConv(), "timm/tiny")
TOKENS = BackboneFacts.of(TinyTokens(), "text/tiny")


def test_facts_are_read_off_the_backbone() -> None:
    assert BackboneFacts(name="timm/tiny", takes_images=True, num_stages=2, has_batch_norm=True) == IMAGES
    assert BackboneFacts(name="text/tiny", takes_images=False, num_stages=2, has_batch_norm=False) == TOKENS
    assert str(IMAGES) == "'timm/tiny' (of images, 2 stages, BatchNorm)"
    assert str(TOKENS) == "'text/tiny' (of tokens, 2 stages, no BatchNorm)"


def test_facts_of_a_named_backbone_need_no_weights() -> None:
    facts = facts_about("timm/tf_efficientnet_lite0")
    assert facts.takes_images
    assert facts.has_batch_norm
    assert facts.num_stages >= 3


@pytest.mark.parametrize(
    ("config", "backbone", "message"),
    [
        (
            CutMixConfig(),
            TOKENS,
            f"name: expected a method for backbone {TOKENS}, got cutmix, which needs "
            "a backbone of images, to cut boxes from",
        ),
        (
            L2Config(mixing="cutmix"),
            TOKENS,
            f"name: expected a method for backbone {TOKENS}, got l2, which needs "
            "a backbone of images, to cut boxes from "
            "(`mixing: cutmix`)",
        ),
        (
            ManifoldMixupConfig(deepest_layer=3),
            IMAGES,
            f"name: expected a method for backbone {IMAGES}, got manifold_mixup, which needs a backbone of at least 3 "
            "stages (`deepest_layer: 3`)",
        ),
    ],
)
def test_what_is_missing_is_said(config: MethodConfig, backbone: BackboneFacts, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_method(config, backbone)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", METHODS)
def test_a_backbone_that_has_it_all_is_refused_to_no_method(name: str) -> None:
    check_method(METHODS[name].Config(), IMAGES)
    check_method(ManifoldMixupConfig(deepest_layer=0), TOKENS)
    check_method(L2Config(mixing="mixup"), TOKENS)
