"""The two kinds of examples, images and texts, and their inputs for a network."""

from __future__ import annotations

import hashlib

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


def selection_key(examples: Examples) -> str:
    """Hash of which examples of a sample these are, in which order, and of their labels; not of their contents."""
    selection = hashlib.sha256(examples.index.tobytes() + examples.labels.tobytes())
    selection.update("\n".join(examples.class_names).encode())
    return selection.hexdigest()
