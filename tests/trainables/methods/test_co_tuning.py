from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.contract import start, through_a_file
from tests.trainables.methods.parity import assert_parity, gradients
from tests.trainables.tiny import (
    CPU,
    NUM_CLASSES,
    NUM_SOURCE_CLASSES,
    tiny_batch,
    tiny_context,
    tiny_network,
    tiny_pass,
)
from trainables.methods import co_tuning
from trainables.methods.co_tuning import (
    CoTuning,
    CoTuningConfig,
    direct_relationship,
    fitted_scale,
    reverse_relationship,
    softmax_regression,
    source_probabilities,
    validation_part,
)
from trainables.methods.mixing import draw_mix
from trainables.seeding import rng_for

pytestmark = pytest.mark.usefixtures("float64")


def probabilities(*shape: int) -> Tensor:
    rng = rng_for(0, "co_tuning test", *shape)
    return torch.from_numpy(rng.dirichlet([0.3] * shape[-1], shape[:-1]))


def labelled(num: int = 60, num_classes: int = 3, num_source: int = 5) -> tuple[Tensor, Tensor]:
    """Source probabilities that depend on the label."""
    labels = torch.arange(num) % num_classes
    favourite = torch.eye(num_source)[labels]
    return 0.4 * favourite + 0.6 * probabilities(num, num_source), labels


def related(rows_KS: Tensor, config: CoTuningConfig) -> CoTuning:
    method = CoTuning(config, tiny_network().train(), tiny_context())
    method.relationship.rows_KS.copy_(rows_KS)
    return method


class TestTheLoss:
    @pytest.mark.parametrize("mixing", ["none", "mixup"])
    def test_loss_and_gradient_match_the_paper(self, mixing) -> None:
        config = CoTuningConfig(trade_off=0.7, mixing=mixing)
        rows_KS = probabilities(NUM_CLASSES, NUM_SOURCE_CLASSES)
        method = related(rows_KS, config)
        mix = draw_mix(6, config.mixing_alpha, CPU, seed=tiny_context().seed, step=1)
        lam, pi = (mix.weight, mix.partner) if mixing == "mixup" else (1.0, torch.arange(6))
        theirs = references.co_tuning(method.student, tiny_batch(), rows_KS, lam, pi)
        assert_parity(method.loss(tiny_batch()), theirs, method.student, source_label=0.7)

    def test_is_never_less_than_the_entropy_of_the_rows(self) -> None:
        method = related(probabilities(NUM_CLASSES, NUM_SOURCE_CLASSES), CoTuningConfig(trade_off=1))
        excess = method.loss(tiny_batch())["source_label"] - references.entropy(
            method.relationship.of(tiny_batch().labels)
        )
        assert excess > 0
        assert_close(method.diagnostics["source_label_excess"], excess)

    def test_is_that_entropy_where_the_source_head_says_the_row(self) -> None:
        """A head with zero weights has its bias as output for every image, all of one class."""
        rows_KS = probabilities(NUM_CLASSES, NUM_SOURCE_CLASSES)
        method = related(rows_KS, CoTuningConfig(trade_off=1))
        with torch.no_grad():
            method.student.source_head.weight.zero_()
            method.student.source_head.bias.copy_(rows_KS[1].log())
        term = method.loss(replace(tiny_batch(), labels=torch.ones(6, dtype=torch.long)))["source_label"]
        assert_close(term, references.entropy(rows_KS[1:2]))
        assert all(gradient.abs().max() < 1e-14 for gradient in gradients(term, method.student).values())

    def test_trains_the_source_head(self) -> None:
        fit = start(CoTuningConfig())
        before = fit.method.student.source_head.weight.clone()
        fit.run(until=1)
        assert not torch.equal(fit.method.student.source_head.weight, before)


def test_probabilities_are_computed_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    brought: list[Tensor] = []

    def on_host(x: Tensor) -> Tensor:
        brought.append(x)
        return x.cpu()

    monkeypatch.setattr(co_tuning, "on_host", on_host)
    p, y = source_probabilities(tiny_network(), lambda: iter([tiny_batch()]), 1.0)
    assert [tuple(x.shape) for x in brought] == [(6, NUM_SOURCE_CLASSES), (6,)]
    assert (p.dtype, len(y)) == (torch.float64, 6)


class TestTheRelationship:
    @pytest.mark.parametrize("relationship", ["direct", "reverse"])
    @pytest.mark.parametrize("num_classes", [2, 3, 4])  # of four, one has no image
    def test_has_a_distribution_for_every_class(self, relationship: str, num_classes: int) -> None:
        p, y = labelled(num_classes=min(num_classes, 3))
        if relationship == "direct":
            rows = direct_relationship(p, y, num_classes)
        else:
            rows = reverse_relationship(p, y, validation_part(y, 0.2, seed=0), num_classes)
        assert rows.shape == (num_classes, 5)
        assert (rows >= 0).all()
        assert_close(rows.sum(dim=1), torch.ones(num_classes))
        if num_classes == 4:
            assert_close(rows[3], p.mean(dim=0))
        assert rows[:3, :3].argmax(dim=1).tolist() == list(range(min(num_classes, 3)))

    def test_directly_is_the_mean_over_a_classs_images(self) -> None:
        p, y = labelled(20)
        for k, row in enumerate(direct_relationship(p, y, 3)):
            assert_close(row, sum(p[i] for i in range(20) if y[i] == k) / sum(y == k))

    def test_directly_of_sure_predictions_is_the_contingency_table(self) -> None:
        source_label, y = torch.tensor([0, 0, 1, 4, 4, 4]), torch.tensor([0, 0, 0, 1, 1, 2])
        rows = direct_relationship(torch.eye(5)[source_label], y, 3)
        assert_close(rows, torch.tensor([[2 / 3, 1 / 3, 0, 0, 0], [0, 0, 0, 0, 1.0], [0, 0, 0, 0, 1.0]]))

    def test_in_reverse_is_bayes_rule(self, monkeypatch: pytest.MonkeyPatch) -> None:
        p, y = labelled()
        weights = torch.from_numpy(rng_for(0, "weights").normal(size=(5, 3)))
        monkeypatch.setattr(co_tuning, "softmax_regression", lambda *_: weights)
        monkeypatch.setattr(co_tuning, "fitted_scale", lambda *_: 1.3)
        rows = reverse_relationship(p, y, validation_part(y, 0.2, seed=0), 3)
        for k in range(3):
            joint = [references.softmax(1.3 * weights[s])[k] * p[:, s].mean() for s in range(5)]
            assert_close(rows[k], torch.stack(joint) / sum(joint))

    def test_takes_the_weakest_regularisation_of_the_most_correct(self, monkeypatch: pytest.MonkeyPatch) -> None:
        p, y = labelled()
        sure = torch.eye(5)[:, :3]
        right = {1.0, 10.0, 100.0}
        tried, scaled = [], []
        monkeypatch.setattr(
            co_tuning,
            "softmax_regression",
            lambda x, y, strength, start: (
                tried.append(strength) or (strength if strength in right else -strength) * sure
            ),
        )
        monkeypatch.setattr(co_tuning, "fitted_scale", lambda logits, _: scaled.append(logits) or 1.0)
        held_out = validation_part(y, 0.2, seed=0)
        reverse_relationship(p, y, held_out, 3)
        assert tried == pytest.approx([10 ** (k / 2) for k in range(-8, 9)])
        assert_close(scaled, [100 * p[held_out] @ sure])

    def test_is_measured_by_the_initial_network_in_evaluation_mode(self) -> None:
        student = tiny_network(dropout=0.3).train()
        before = copy.deepcopy(student.state_dict())
        p, y = source_probabilities(student, tiny_pass, logit_scale=0.88)
        assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
        assert all(module.training for module in student.modules())
        inputs = torch.cat([batch.inputs for batch in tiny_pass()])
        student.eval()
        z = student(student.embed(inputs)).source_logits
        assert_close(p, torch.stack([references.softmax(0.88 * row) for row in z]))
        assert y.tolist() == [int(label) for batch in tiny_pass() for label in batch.labels]

    @pytest.mark.parametrize("relationship", ["direct", "reverse"])
    def test_is_what_prepare_puts_into_the_state(self, relationship) -> None:
        config = CoTuningConfig(relationship=relationship)
        method = CoTuning(config, tiny_network(), tiny_context())
        assert not method.relationship.rows_KS.any()
        method.prepare(tiny_pass)
        p, y = source_probabilities(method.student, tiny_pass, 1.0)
        expected = (
            direct_relationship(p, y, NUM_CLASSES)
            if relationship == "direct"
            else reverse_relationship(p, y, validation_part(y, 0.2, tiny_context().seed), NUM_CLASSES)
        )
        assert_close(method.relationship.rows_KS, expected)
        other = CoTuning(config, tiny_network(), tiny_context())
        other.load_state_dict(through_a_file(method.state_dict()))
        assert torch.equal(other.relationship.rows_KS, method.relationship.rows_KS)


class TestTheRegression:
    @pytest.mark.parametrize("strength", [0.01, 1.0, 30.0])
    def test_is_scikit_learns(self, strength: float) -> None:
        p, y = labelled()
        ours = softmax_regression(p, y, strength, torch.zeros(5, 3))
        theirs = LogisticRegression(C=strength, fit_intercept=False, tol=1e-8, max_iter=1000).fit(p.numpy(), y.numpy())
        assert_close(ours.T, torch.from_numpy(theirs.coef_), rtol=0.01, atol=1e-3)

    def test_of_two_classes_has_two_columns(self) -> None:
        """Which together are regularised half as much as scikit-learn's one."""
        p, y = labelled(num_classes=2)
        ours = softmax_regression(p, y, 1.0, torch.zeros(5, 2))
        theirs = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-8, max_iter=1000).fit(p.numpy(), y.numpy())
        assert theirs.coef_.shape == (1, 5)
        assert_close((p @ ours).softmax(dim=1), torch.from_numpy(theirs.predict_proba(p.numpy())), rtol=1e-3, atol=1e-4)
        assert_close(ours[:, 0], -ours[:, 1], rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("true_scale", [0.3, 1.0, 4.0])
    def test_scale_is_the_calibrating_one(self, true_scale: float) -> None:
        rng = rng_for(1, "scale")
        logits = torch.from_numpy(rng.normal(size=(4000, 3)))
        drawn = [rng.choice(3, p=row) for row in (true_scale * logits).softmax(dim=1).numpy()]
        assert fitted_scale(logits, torch.tensor(drawn)) == pytest.approx(true_scale, rel=0.1)

    def test_scale_of_a_perfect_classifier_stays_finite(self) -> None:
        labels = torch.arange(30) % 3
        assert 1 < fitted_scale(torch.eye(3)[labels], labels) < float("inf")


class TestTheValidationPart:
    def test_takes_its_share_of_every_class_but_never_all_of_it(self) -> None:
        labels = torch.tensor([0] * 20 + [1] * 5 + [2] + [4] * 2)
        held_out = validation_part(labels, 0.2, seed=3)
        assert torch.bincount(labels[held_out], minlength=5).tolist() == [4, 1, 0, 0, 0]
        assert torch.bincount(labels[validation_part(labels, 0.9, seed=3)], minlength=5).tolist() == [18, 4, 0, 0, 1]

    def test_is_that_of_its_seed(self) -> None:
        labels = torch.arange(60) % 3
        assert torch.equal(validation_part(labels, 0.3, 1), validation_part(labels, 0.3, 1))
        assert not torch.equal(validation_part(labels, 0.3, 1), validation_part(labels, 0.3, 2))

    def test_may_be_empty(self) -> None:
        p, y = labelled(3)
        assert not validation_part(y, 0.2, 0).any()
        assert reverse_relationship(p, y, validation_part(y, 0.2, 0), 3).isfinite().all()
