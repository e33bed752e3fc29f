"""Labelled texts, and their token ids for an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainables.data.images import Ints, Mask
from trainables.types import NO_TOKEN, Tokenize

PAD_TO_MULTIPLE_OF = 8
"""Batches are as wide as their longest text, rounded up to a multiple, so that there are few widths to allocate."""


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """A selection of N texts out of M, as `LabelledImages` is one of images.

    `texts` M are raw and shared by all selections; the backbone tokenizes them. `labels` N, `index` N (positions in
    `texts`), `groups` N (numbers of what belongs together, if anything does) and `validated` N (which are of the
    dataset's own validation split, if that is used) belong to the selection.
    """

    texts: tuple[str, ...]
    labels: Ints
    index: Ints
    class_names: tuple[str, ...]
    groups: Ints | None = None
    validated: Mask | None = None

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        labels: Ints,
        class_names: Sequence[str],
        groups: Ints | None = None,
        validated: Mask | None = None,
    ) -> LabelledTexts:
        """All of `texts`, in their order; `labels`, and `groups` and `validated` if there are any, have one entry for
        each."""
        assert len(texts) == len(labels), f"{len(texts)} texts but {len(labels)} labels"
        index = np.arange(len(labels))
        return cls(tuple(texts), labels.astype(np.int64), index, tuple(class_names), groups, validated)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Classes of the problem, whether or not each has a text in this selection."""
        return len(self.class_names)

    def take(self, positions: Ints | Sequence[int]) -> LabelledTexts:
        """The texts at `positions` of this selection, in that order."""
        chosen = np.asarray(positions, dtype=np.int64)
        groups = None if self.groups is None else self.groups[chosen]
        validated = None if self.validated is None else self.validated[chosen]
        labels, index = self.labels[chosen], self.index[chosen]
        return replace(self, labels=labels, index=index, groups=groups, validated=validated)

    def sample(self, count: int) -> list[str]:
        """The first `count` of all texts, as an example input of a classifier."""
        return list(self.texts[:count])

    def tokenised(self, tokenize: Tokenize, max_tokens: int) -> TokenisedTexts:
        """Tokenizes the selection, truncated to `max_tokens`.

        Texts are tokenized one by one, so that a worker keeps to its share of the cores: the 8,544 training sentences
        of SST-5 take less than half a second.
        """
        sentences = [tokenize(self.texts[i], max_tokens) for i in self.index]
        lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int64)
        ids = np.full((len(sentences), padded(int(lengths.max(initial=0)))), NO_TOKEN, dtype=np.int64)
        for row, sentence in zip(ids, sentences, strict=True):
            row[: len(sentence)] = sentence
        return TokenisedTexts(ids, lengths, self.labels)


@dataclass(frozen=True, eq=False)
class TokenisedTexts:
    """N texts as rows of `ids` N×T, padded with `NO_TOKEN`; `lengths` N are the numbers of tokens."""

    ids: Ints
    lengths: Ints
    labels: Ints

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, positions: Ints) -> Ints:
        """The ids n×T at `positions`, with T the padded length of the longest of them."""
        return self.ids[positions, : padded(int(self.lengths[positions].max()))]


def padded(length: int) -> int:
    """Rounds `length` up to a width of batches."""
    return -(-length // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
