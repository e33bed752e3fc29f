"""The two kinds of examples, images and texts, and what a network is fed of them."""

from __future__ import annotations

from trainables.data.config import DataConfig
from trainables.data.images import LabelledImages
from trainables.data.texts import LabelledTexts, TokenisedTexts
from trainables.types import Tokenize

Examples = LabelledImages | LabelledTexts
"""What a dataset holds, whatever network reads it. Both have `labels`, `class_names`, `num_classes` and `take`."""

Inputs = LabelledImages | TokenisedTexts
"""What batches are cut from."""


def as_inputs(examples: Examples, config: DataConfig, tokenize: Tokenize | None) -> Inputs:
    """Texts as tokens of the network that has this tokenizer; images as they are."""
    if isinstance(examples, LabelledImages):
        return examples
    assert tokenize is not None, "texts need a backbone with a tokenizer"  # the experiment was checked for it
    return examples.tokenised(tokenize, config.max_tokens)
