"""The head of a probe is scikit-learn's logistic regression, its C that of scikit-learn's own cross-validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

from tests.trainables.tiny import CPU, tiny_network
from tests.trainables.tiny_bert import tiny_bert
from trainables import probe
from trainables.config import TrialConfig
from trainables.data.batches import evaluation_batches
from trainables.data.examples import as_inputs
from trainables.data.folds import stratified_folds
from trainables.data.images import LabelledImages
from trainables.data.texts import LabelledTexts
from trainables.probe import GRID, PROBE_SEED, Probe, ProbeCache, fit_probe, pooled_features, probe_key
from trainables.seeding import rng_for, seed_for

Floats = NDArray[np.float32]


def features_of(labels: NDArray[np.int64], num_features: int, signal: float = 0.8) -> Floats:
    """Features of which a few tell the classes apart, in scales and with means that differ."""
    rng = rng_for(0, "features", num_features)
    features = rng.normal(size=(len(labels), num_features))
    features[:, :4] += signal * rng.normal(size=(3, 4))[labels]
    return (features * rng.uniform(0.1, 3, num_features) + rng.normal(size=num_features)).astype(np.float32)


def scikit_learn(c: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=100_000))


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    return torch.from_numpy(logits).double().softmax(dim=1).numpy()


LABELS = np.arange(60) % 3


class TestTheRegression:
    @pytest.mark.parametrize("num_features", [8, 90], ids=["more examples than features", "fewer"])
    def test_computes_the_logits_of_scikit_learn(self, num_features: int) -> None:
        features = features_of(LABELS, num_features)
        probe = fit_probe(features, LABELS, 3)
        expected = scikit_learn(probe.regularisation).fit(features.astype(np.float64), LABELS)
        unseen = features_of(LABELS, num_features)[::-1] + np.float32(0.3)
        for rows in (features, unseen):
            np.testing.assert_allclose(probe.logits(rows), expected.decision_function(rows), atol=1e-4)

    @pytest.mark.parametrize("num_features", [8, 90])
    @pytest.mark.parametrize("signal", [0, 0.5, 2])
    def test_chooses_the_c_of_scikit_learns_cross_validation(self, num_features: int, signal: float) -> None:
        features = features_of(LABELS, num_features, signal)
        folds = stratified_folds(LABELS, 3, seed_for(PROBE_SEED, "probe"))
        search = GridSearchCV(
            LogisticRegression(tol=1e-5, max_iter=100_000),
            {"C": [strength / num_features for strength in GRID[::-1]]},
            scoring="neg_log_loss",
            cv=[(fold.train, fold.validation) for fold in folds],
        ).fit(StandardScaler().fit_transform(features.astype(np.float64)), LABELS)
        assert fit_probe(features, LABELS, 3).regularisation == pytest.approx(search.best_params_["C"])

    def test_regularises_noise_more_than_signal(self) -> None:
        noise, signal = (fit_probe(features_of(LABELS, 90, strength), LABELS, 3) for strength in (0, 4))
        assert noise.regularisation == GRID[-1] / 90
        assert signal.regularisation > 10 * noise.regularisation

    @pytest.mark.parametrize("num_features", [8, 90])
    def test_weighs_classes_as_scikit_learn_does(self, num_features: int) -> None:
        labels = np.repeat(np.arange(3), (40, 15, 5))
        features = features_of(labels, num_features)
        probe = fit_probe(features, labels, 3, class_weights="balanced")
        expected = scikit_learn(probe.regularisation)
        expected[-1].class_weight = "balanced"
        expected.fit(features.astype(np.float64), labels)
        np.testing.assert_allclose(probe.logits(features), expected.decision_function(features), atol=1e-4)
        plain = fit_probe(features, labels, 3)
        assert (probe.logits(features).argmax(1) == 2).sum() >= (plain.logits(features).argmax(1) == 2).sum()
        assert not np.allclose(probe.weight, plain.weight, rtol=0.01)

    def test_of_two_classes_is_the_sigmoid(self) -> None:
        labels = np.arange(40) % 2
        features = features_of(labels, 12)
        probe = fit_probe(features, labels, 2)
        expected = scikit_learn(probe.regularisation).fit(features.astype(np.float64), labels)
        np.testing.assert_array_equal(probe.weight[0], -probe.weight[1])
        np.testing.assert_allclose(softmax(probe.logits(features)), expected.predict_proba(features), atol=1e-5)

    def test_gives_an_absent_class_the_probability_of_one_example(self) -> None:
        """The others are as without it."""
        features = features_of(LABELS, 12)
        probe = fit_probe(features, np.array([0, 2, 3])[LABELS], 4)
        without = fit_probe(features, LABELS, 3)
        np.testing.assert_allclose(probe.weight[[0, 2, 3]], without.weight, atol=1e-6)
        assert not probe.weight[1].any()
        assert np.exp(np.log(softmax(probe.logits(features))[:, 1]).mean()) == pytest.approx(1 / 60, rel=0.05)

    def test_of_two_classes_of_three(self) -> None:
        labels = 2 * (np.arange(40) % 2)
        probe = fit_probe(features_of(labels, 12, signal=4), labels, 3)
        assert (probe.logits(features_of(labels, 12, signal=4)).argmax(axis=1) == labels).all()

    @pytest.mark.parametrize("counts", [(10, 10, 1), (2, 1, 1), (1, 1, 1), (1, 1, 0), (1, 0, 0), (5, 0, 0)])
    def test_needs_no_number_of_examples(self, counts: tuple[int, ...]) -> None:
        labels = np.repeat(np.arange(3), counts)
        features = features_of(labels, 5, signal=4)
        probe = fit_probe(features, labels, 3)
        assert np.isfinite(probe.weight).all()
        assert np.isfinite(probe.bias).all()
        assert (probe.logits(features).argmax(axis=1) == labels).all() or probe.regularisation == GRID[-1] / 5

    def test_takes_features_that_are_constant(self) -> None:
        features = features_of(LABELS, 12)
        features[:, 7] = 0.25
        probe = fit_probe(features, LABELS, 3)
        assert not probe.weight[:, 7].any()
        assert np.isfinite(probe.logits(features)).all()

    def test_is_equal_to_the_last_bit_when_repeated(self) -> None:
        first, second = (fit_probe(features_of(LABELS, 90), LABELS, 3) for _ in range(2))
        np.testing.assert_array_equal(first.weight, second.weight)
        np.testing.assert_array_equal(first.bias, second.bias)
        assert first.regularisation == second.regularisation

    def test_uses_one_thread_of_blas_and_gives_them_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def threads() -> set[int]:
            return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

        def note_threads(features: Floats, *_: Any) -> tuple[Floats, Floats]:
            noted.append(threads())
            return features, np.eye(features.shape[1], dtype=np.float32)

        noted: list[set[int]] = []
        monkeypatch.setattr(probe, "_rotated", note_threads)
        labels = np.arange(30) % 3
        with threadpool_limits(2, user_api="blas"):
            fit_probe(features_of(labels, 5), labels, 3)
            assert (noted, threads()) == ([{1}], {2})

    def test_fills_a_head(self) -> None:
        features = features_of(LABELS, 90)
        probe = fit_probe(features, LABELS, 3)
        head = nn.Linear(90, 3)
        probe.write_to(head)
        expected = scikit_learn(probe.regularisation).fit(features.astype(np.float64), LABELS)
        logits = head(torch.from_numpy(features)).detach().numpy()
        np.testing.assert_allclose(logits, expected.decision_function(features), atol=1e-4)


def config_of(**sections: Any) -> TrialConfig:
    data = {"dataset": "digits", "size_px": 8, "resize_px": 10}
    return TrialConfig.model_validate(
        {
            "data": data | sections.pop("data", {}),
            "backbone": {"name": "tiny"} | sections.pop("backbone", {}),
            "method": {"name": "l2"},
            "training": {"eval_batch_size": 7} | sections.pop("training", {}),
            **sections,
        }
    )


class TestPooledFeatures:
    def test_are_those_of_the_evaluation_in_order(self, images: LabelledImages) -> None:
        network = tiny_network(dropout=0.5)
        features = pooled_features(network, images, config_of(), CPU)
        (batch,) = evaluation_batches(images, config_of().data, 30, CPU)
        expected = network.eval()(network.embed(batch.inputs)).pooled.detach().numpy()
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
        assert features.dtype == np.float32

    @pytest.mark.parametrize("training", [True, False])
    def test_leave_the_network_as_it_was(self, images: LabelledImages, training: bool) -> None:
        network = tiny_network().train(training)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        pooled_features(network, images, config_of(), CPU)
        assert network.training is training
        assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())

    def test_are_in_full_precision(self, images: LabelledImages) -> None:
        network = tiny_network()
        exact, in_bf16 = (
            pooled_features(network, images, config_of(training={"precision": precision}), CPU)
            for precision in ("fp32", "bf16")
        )
        np.testing.assert_array_equal(exact, in_bf16)

    def test_of_texts_make_a_probe_too(self, tmp_path: Path) -> None:
        texts = LabelledTexts.of(["a fine film", "not a film", "very very dull"] * 4, np.arange(12) % 3, "abc")
        network = tiny_bert(tmp_path)
        config = config_of(backbone={"name": "transformers/tiny"})
        inputs = as_inputs(texts, config.data, network.backbone.tokenizer)
        probe = fit_probe(pooled_features(network, inputs, config, CPU), texts.labels, 3)
        assert (probe.logits(pooled_features(network, inputs, config, CPU)).argmax(axis=1) == texts.labels).all()


class TestTheKey:
    def test_is_shared_by_methods_trainings_and_seeds(self, images: LabelledImages) -> None:
        shared = [
            config_of(),
            config_of(method={"name": "smile"}),
            config_of(training={"learning_rate": 0.3, "num_steps": 7, "batch_norm": "frozen"}),
            config_of(data={"flip": False, "crop": "none"}),
            config_of(
                data={"crop": "random_resized", "crop_area": 0.1, "auto_augment": "rand_augment", "erasing": 0.5}
            ),
            config_of(seed=3),
        ]
        assert len({probe_key(config, images) for config in shared}) == 1

    def test_tells_other_features_and_examples_apart(self, images: LabelledImages) -> None:
        keys = [
            probe_key(config_of(), images),
            probe_key(config_of(), images.take(range(20))),
            probe_key(config_of(), replace(images, labels=(images.labels + 1) % 3)),
            probe_key(config_of(), replace(images, class_names=("a", "b", "c"))),
            probe_key(config_of(data={"size_px": 9}), images),
            probe_key(config_of(data={"resize_px": 12}), images),
            probe_key(config_of(data={"sampling_seed": 1}), images),
            probe_key(config_of(backbone={"name": "other"}), images),
            probe_key(config_of(backbone={"checkpoint": "weights.pt"}), images),
            probe_key(config_of(backbone={"pretrained": False}), images),
            probe_key(config_of(backbone={"pretrained": False}, seed=1), images),
            probe_key(config_of(training={"class_weights": "balanced"}), images),
        ]
        assert len(set(keys)) == len(keys)


def probe_of(size: int) -> Probe:
    return Probe(np.zeros((2, size), dtype=np.float32), np.zeros(2, dtype=np.float32), 1.0)


class TestTheCache:
    @pytest.fixture
    def cache(self) -> ProbeCache:
        return ProbeCache(max_bytes=1000)

    def test_computes_a_probe_once(self, images: LabelledImages, cache: ProbeCache) -> None:
        first = cache.get(config_of(), images, tiny_network(), CPU)
        assert cache.get(config_of(method={"name": "smile"}), images, tiny_network(), CPU) is first
        assert (cache.hits, cache.misses) == (1, 1)
        cache.get(config_of(), images.take(range(20)), tiny_network(), CPU)
        assert (cache.hits, cache.misses) == (1, 2)

    def test_takes_probes_that_others_computed(self, images: LabelledImages, cache: ProbeCache) -> None:
        probe = probe_of(6)
        cache.add({probe_key(config_of(), images): probe})
        assert cache.get(config_of(), images, tiny_network(), CPU) is probe
        assert (cache.hits, cache.misses) == (1, 0)

    def test_gives_what_the_features_and_the_regression_give(self, images: LabelledImages, cache: ProbeCache) -> None:
        network = tiny_network()
        probe = cache.get(config_of(), images, network, CPU)
        expected = fit_probe(pooled_features(network, images, config_of(), CPU), images.labels, 3)
        np.testing.assert_array_equal(probe.weight, expected.weight)

    def test_weighs_classes_as_the_training_does(self, images: LabelledImages, cache: ProbeCache) -> None:
        network, some = tiny_network(), images.take([0, 1, 2, 3, 6, 9, 12, 15, 18])
        config = config_of(training={"class_weights": "balanced"})
        probe = cache.get(config, some, network, CPU)
        features = pooled_features(network, some, config, CPU)
        expected = fit_probe(features, some.labels, 3, class_weights="balanced")
        np.testing.assert_array_equal(probe.weight, expected.weight)

    def test_keeps_those_used_last(self, images: LabelledImages, cache: ProbeCache) -> None:
        kept = probe_of(50)  # 408 bytes
        cache.add({probe_key(config_of(), images): kept, "older": probe_of(50)})
        assert cache.get(config_of(), images, tiny_network(), CPU) is kept
        cache.add({"newer": probe_of(50)})
        assert cache.get(config_of(), images, tiny_network(), CPU) is kept
        cache.add({"large": probe_of(500)})
        cache.get(config_of(), images, tiny_network(), CPU)
        assert (cache.hits, cache.misses) == (2, 1)
