"""The two kinds of examples, images and texts, and their inputs for a network."""

from __future__ import annotations

from trainables.data.config import DataConfig
from trainables.data.images import LabelledImages
from trainables.data.texts import LabelledTexts, TokenisedTexts
from trainables.types import Tokenize

Examples = LabelledImages | LabelledTexts
"""Labelled examples of a dataset. Both kinds have `labels`, `class_names`, `num_classes` and `take`."""

Inputs = LabelledImages | TokenisedTexts
"""Examples from which batches are made."""


def as_inputs(examples: Examples, config: DataConfig, tokenize: Tokenize | None) -> Inputs:
    """Converts texts to token ids by the `tokenize` of a backbone; images are returned as they are."""
    if isinstance(examples, LabelledImages):
        return examples
    assert tokenize is not None, "texts need a backbone with a tokenizer"  # checked with the experiment
    return examples.tokenised(tokenize, config.max_tokens)
