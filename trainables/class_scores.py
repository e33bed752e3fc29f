"""Scores of predictions for labelled examples: top-1 with an interval, accuracy of each class, confused pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainables.data.images import Ints
from trainables.frozen import Frozen
from trainables.metrics import wilson_interval


class ShareRight(Frozen):
    """Number of examples that are classified correctly, of `num` in all."""

    num_right: int
    num: int

    @property
    def share(self) -> float:
        """Accuracy in [0, 1]; NaN of no examples."""
        return self.num_right / self.num if self.num else float("nan")

    def interval(self) -> tuple[float, float]:
        """Returns Wilson's 95 % confidence interval of the accuracy: what other examples of the same kind would give.

        >>> low, high = ShareRight(num_right=8, num=10).interval()
        >>> round(low, 2), round(high, 2)
        (0.49, 0.94)
        """
        return wilson_interval(self.share, self.num)


class Confusion(Frozen):
    """Number of examples of the class `label` that are taken for the class `predicted`."""

    label: str
    predicted: str
    num: int


class ClassScores(Frozen):
    """Scores on labelled examples. `classes` are those that have examples, by name, the least accurate first;
    `confusions` the pairs of classes that are confused, the most frequent first."""

    top1: ShareRight
    classes: dict[str, ShareRight]
    confusions: tuple[Confusion, ...]


def class_scores(predicted: Ints, labels: Ints, class_names: Sequence[str]) -> ClassScores:
    """Scores predicted class numbers N against `labels` N.

    >>> scores = class_scores(np.array([0, 1, 1]), np.array([0, 0, 1]), ["apple", "pear"])
    >>> scores.top1.num_right, list(scores.classes), scores.confusions[0].predicted
    (2, ['apple', 'pear'], 'pear')
    """
    right = np.asarray(predicted == labels)
    classes = {class_names[k]: _share(right[labels == k]) for k in np.unique(labels)}
    wrong = zip(labels[~right].tolist(), predicted[~right].tolist(), strict=True)
    pairs = sorted(Counter(wrong).items(), key=lambda pair: (-pair[1], pair[0]))
    return ClassScores(
        top1=_share(right),
        classes=dict(sorted(classes.items(), key=lambda item: item[1].share)),
        confusions=tuple(
            Confusion(label=class_names[label], predicted=class_names[other], num=num) for (label, other), num in pairs
        ),
    )


def _share(right: NDArray[np.bool_]) -> ShareRight:
    return ShareRight(num_right=int(right.sum()), num=len(right))
