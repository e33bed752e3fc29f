"""Linear probes: logistic regression on the pooled features of the pre-trained network, as the initial target head.

Linear probing, then fine-tuning: Kumar et al., ICLR 2022 (https://arxiv.org/abs/2202.10054). Features that the random
head of a new task would distort at first are then changed by what the task itself asks for alone.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.backbones.network import TransferNetwork
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches
from trainables.data.config import AUGMENTATION
from trainables.data.examples import Examples, Inputs, as_inputs, selection_key
from trainables.data.folds import stratified_folds
from trainables.data.images import Ints
from trainables.data.loading import VIEW_FIELDS, source_key
from trainables.seeding import seed_for

Floats = NDArray[np.floating]

GRID = tuple(float(strength) for strength in 10.0 ** np.arange(1, -1.51, -0.5))
"""The values of D·C that are tried, from weak regularisation to strong: C is scikit-learn's, and D·C the factor of the
loss where the features are scaled to a mean squared length of 1 instead of D. Weaker regularisation than the first one
gains no accuracy, and its long weights make fine-tuning collapse; see docs/decisions/0030.
"""
NUM_INNER_FOLDS = 3
"""Number of folds of the cross-validation that chooses D·C."""
PROBE_SEED = 0
"""Root of the addresses of all probes. It is no setting: trials, and retrainings with several seeds, share probes."""
ClassWeights = Literal["none", "balanced"]
SCIKIT_LEARN: dict[ClassWeights, Literal["balanced"] | None] = {"none": None, "balanced": "balanced"}
"""What scikit-learn calls `training.class_weights`."""


@dataclass(frozen=True, eq=False)
class Probe:
    """Logistic regression from pooled features N×D to K classes: logits are features · `weight`ᵀ + `bias`.

    `weight` is float32 K×D, `bias` float32 K. The standardisation of the features is part of both.
    `regularisation` is scikit-learn's C, which was chosen.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    regularisation: float

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.weight.nbytes + self.bias.nbytes

    def logits(self, features_ND: Floats) -> Floats:
        """Logits N×K of pooled features."""
        logits: Floats = features_ND @ self.weight.T + self.bias
        return logits

    @torch.no_grad()
    def write_to(self, head: nn.Linear) -> None:
        """Replaces the weights of `head`, which then computes the logits of this probe."""
        head.weight.copy_(torch.from_numpy(self.weight))
        head.bias.copy_(torch.from_numpy(self.bias))


@torch.inference_mode()
def pooled_features(
    network: TransferNetwork, inputs: Inputs, config: TrialConfig, device: torch.device
) -> NDArray[np.float32]:
    """Pooled features N×D of `inputs` in their order: evaluation view, network in evaluation mode, fp32.

    The network is on `device`; it is left in the mode in which it was.
    """
    was_training = network.training
    network.eval()
    batches = evaluation_batches(inputs, config.data, config.training.eval_batch_size, device)
    parts = [network.backbone(network.embed(batch.inputs))[1].float().cpu() for batch in batches]
    network.train(was_training)
    return torch.cat(parts).numpy()


def fit_probe(
    features_ND: Floats,
    labels_N: Ints,
    num_classes: int,
    seed: int = PROBE_SEED,
    groups_N: Ints | None = None,
    class_weights: ClassWeights = "none",
) -> Probe:
    """Fits logistic regression with L2 regularisation to standardised features, by scikit-learn.

    C is chosen from `GRID` by the log loss of a stratified cross-validation inside these examples, whose folds are
    drawn at (seed, "probe") and split none of their groups N, if there are any. Standardisation is by all of them.
    `class_weights` are those of `training`, in both the regression and the log loss that chooses. A class without an
    example gets zero weights, and a bias with which its probability is about that of one example in N.

    >>> rng = np.random.default_rng(0)
    >>> features, labels = rng.normal(size=(60, 5)), np.arange(60) % 2
    >>> features[:, 0] += 9 * labels
    >>> probe = fit_probe(features, labels, num_classes=2)
    >>> float((probe.logits(features).argmax(axis=1) == labels).mean())
    1.0
    """
    from sklearn.preprocessing import StandardScaler  # takes a second, and few processes fit a probe
    from threadpoolctl import threadpool_limits

    scaler = StandardScaler()
    with threadpool_limits(1, user_api="blas"):  # L-BFGS's vectors are short: two threads take up to ten times as long
        rotated_NR, axes_DR = _rotated(scaler.fit_transform(features_ND.astype(np.float64)))
        grid = [strength / features_ND.shape[1] for strength in GRID]
        c = _chosen_c(grid, rotated_NR, labels_N, seed, groups_N, class_weights)
        weight_KR, bias_K = _Regression(num_classes, 1e-6, class_weights).fit(rotated_NR, labels_N, c)
    weight_KD = weight_KR @ axes_DR.T / scaler.scale_
    return Probe(weight_KD.astype(np.float32), (bias_K - weight_KD @ scaler.mean_).astype(np.float32), c)


def _rotated(centred_ND: Floats) -> tuple[Floats, Floats]:
    """Coordinates N×R of the rows in their span, and its orthonormal axes D×R; R ≤ D, and is N where N < D.

    The penalty is the same in both coordinates and optimal weights lie in the span (representer theorem), so nothing
    changes but the number of columns.
    """
    num_examples, num_features = centred_ND.shape
    if num_examples >= num_features:
        return centred_ND, np.eye(num_features)
    axes_DR, coordinates_RN = np.linalg.qr(centred_ND.T)
    return np.ascontiguousarray(coordinates_RN.T), axes_DR


def _chosen_c(
    grid: list[float],
    features_ND: Floats,
    labels_N: Ints,
    seed: int,
    groups_N: Ints | None,
    class_weights: ClassWeights,
) -> float:
    """The C of `grid` (from large to small) after which the log loss, summed over the validation parts, increases.

    The log loss has one minimum in practice, and stronger regularisation than that is not fitted. Of equal ones the
    strongest is taken.
    """
    from sklearn.utils.class_weight import compute_sample_weight

    num_folds = min(NUM_INNER_FOLDS, len(labels_N if groups_N is None else np.unique(groups_N)))
    if num_folds < 2:
        return grid[-1]
    present, labels_N = np.unique(labels_N, return_inverse=True)  # classes without an example have no say
    weights_N = compute_sample_weight(SCIKIT_LEARN[class_weights], labels_N)
    parts = [
        (_Regression(len(present), 1e-4, class_weights), features_ND[fold.train], features_ND[fold.validation], fold)
        for fold in stratified_folds(labels_N, num_folds, seed_for(seed, "probe"), groups=groups_N)
    ]
    best_c, least = grid[0], np.inf
    for c in grid:
        loss = 0.0
        for regression, train, validation, fold in parts:
            weight_KD, bias_K = regression.fit(train, labels_N[fold.train], c)
            logits_MK = validation @ weight_KD.T + bias_K
            loss += _log_loss(logits_MK, labels_N[fold.validation], weights_N[fold.validation])
        if loss > least:
            break
        best_c, least = c, loss
    return best_c


class _Regression:
    """Logistic regression over `num_classes`, each fit of which starts from the previous one."""

    def __init__(self, num_classes: int, tolerance: float, class_weights: ClassWeights) -> None:
        from sklearn.linear_model import LogisticRegression

        self.num_classes = num_classes
        weight = SCIKIT_LEARN[class_weights]
        self.model = LogisticRegression(tol=tolerance, max_iter=1000, warm_start=True, class_weight=weight)

    def fit(self, features_ND: Floats, labels_N: Ints, c: float) -> tuple[Floats, Floats]:
        """Fits weights K×D and biases K.

        scikit-learn gives one row for two classes: they get a half of it each, with opposite signs, so that softmax is
        the sigmoid. Classes without an example have no optimum (their probability tends to zero): they get zero
        weights, and a bias with which their probability is about that of one example in N.
        """
        present = np.unique(labels_N)
        weight_KD, bias_K = np.zeros((self.num_classes, features_ND.shape[1])), np.zeros(self.num_classes)
        if len(present) > 1:
            weight_KD[present], bias_K[present] = self._fit_present(features_ND, labels_N, c)
        logits = features_ND @ weight_KD[present].T + bias_K[present]
        absent = np.setdiff1d(np.arange(self.num_classes), present)
        bias_K[absent] = _log_sum_exp(logits).mean() - np.log(len(labels_N))
        return weight_KD, bias_K

    def _fit_present(self, features_ND: Floats, labels_N: Ints, c: float) -> tuple[Floats, Floats]:
        from sklearn.exceptions import ConvergenceWarning

        self.model.C = c
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # nearly converged is good enough for an initial head
            self.model.fit(features_ND, labels_N)
        weights, biases = self.model.coef_, self.model.intercept_
        if len(weights) == 1:
            return np.concatenate([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
        return weights, biases


def _log_sum_exp(logits_NK: Floats) -> Floats:
    top_N1 = logits_NK.max(axis=1, keepdims=True)
    sums: Floats = np.log(np.exp(logits_NK - top_N1).sum(axis=1)) + top_N1[:, 0]
    return sums


def _log_loss(logits_NK: Floats, labels_N: Ints, weights_N: Floats) -> float:
    """Weighted sum of −log p(label) over the examples."""
    losses_N = _log_sum_exp(logits_NK) - logits_NK[np.arange(len(labels_N)), labels_N]
    return float((weights_N * losses_N).sum())


def probe_key(config: TrialConfig, examples: Examples) -> str:
    """Hash that is equal for trainings with the same probe: of the same examples, evaluation view and backbone.

    Of the training settings `class_weights` alone are part of it; the seed is one of random weights alone
    (`pretrained: false`).
    """
    view = config.data.model_dump(mode="json", include=VIEW_FIELDS - {*AUGMENTATION})
    backbone = config.backbone.model_dump(mode="json")
    weights_seed = None if config.backbone.pretrained else config.seed
    weights = config.training.class_weights
    fields = [source_key(config.data), view, backbone, weights_seed, selection_key(examples), weights]
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()


class ProbeCache:
    """The probes of a process by `probe_key`, at most `max_bytes` of them: those used last.

    `hits` and `misses` count the calls of `get`; a miss computes features and regression.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._probes: OrderedDict[str, Probe] = OrderedDict()

    def get(self, config: TrialConfig, examples: Examples, network: TransferNetwork, device: torch.device) -> Probe:
        """The probe of `examples` on the features of `network`, which has its initial weights and is on `device`."""
        key = probe_key(config, examples)
        kept = self._probes.get(key)
        if kept is not None:
            self.hits += 1
            self._probes.move_to_end(key)
            return kept
        self.misses += 1
        inputs = as_inputs(examples, config.data, network.backbone.tokenizer)
        features_ND = pooled_features(network, inputs, config, device)
        weights = config.training.class_weights
        probe = fit_probe(
            features_ND, examples.labels, examples.num_classes, groups_N=examples.groups, class_weights=weights
        )
        self.add({key: probe})
        return probe

    def add(self, probes: Mapping[str, Probe]) -> None:
        """Adds probes that were computed elsewhere, and drops those that were used longest ago where they are too many.

        The last one stays, whatever its size.
        """
        self._probes.update(probes)
        while len(self._probes) > 1 and sum(probe.nbytes for probe in self._probes.values()) > self.max_bytes:
            self._probes.popitem(last=False)

    def clear(self) -> None:
        """Forgets all probes and counts."""
        self._probes.clear()
        self.hits = self.misses = 0


PROBES = ProbeCache(max_bytes=256 * 2**20)
"""The probes of this process."""
