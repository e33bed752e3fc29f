"""Texts go the way that images go: checked, loaded, saved, predicted, registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.tuner.tiny import space_of
from trainables.backbones import build_network
from trainables.classifier import Classifier, save_classifier
from trainables.config import TrialConfig
from trainables.data.loading import load_train
from trainables.data.texts import LabelledTexts
from trainables.errors import BadInput
from trainables.trial import accuracy_on
from tuner import predict
from tuner.experiment.checks import check_experiment, load_images
from tuner.experiment.search_experiment import SearchExperiment, load_experiment
from tuner.experiment.smoke import smoke_overrides

SHIPPED = Path(__file__).parents[2] / "search_spaces" / "sst5.yaml"
CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sst5").mkdir()
    for split, count in (("train", 4), ("test", 2)):
        rows = [f"a film of {label} stars , {'really ' * i}\t{label}\n" for i in range(count) for label in range(5)]
        (tmp_path / "sst5" / f"{split}.tsv").write_text("sentence\tlabel\n" + "".join(rows), encoding="utf-8")
    return tmp_path


def data_of(root: Path) -> dict[str, Any]:
    return {"dataset": "sst5", "root": str(root), "check_counts": False}


def texts(root: Path, **changes: Any) -> SearchExperiment:
    backbone = {"backbone__name": "package/minilm_l6", "method__gamma_fc": 0}
    return space_of(data=data_of(root), **{**backbone, **changes})


def said_of(space: SearchExperiment) -> str:
    with pytest.raises(BadInput) as bad:
        check_experiment(space)
    return str(bad.value)


class TestExperiments:
    def test_one_of_texts_is_checked_and_loaded(self, root: Path) -> None:
        plan = check_experiment(texts(root))
        assert (plan.data.num_train, plan.data.num_test, plan.backbone.num_features) == (20, 10, 384)
        (loaded,) = load_images(texts(root, data__max_tokens={"choice": [16, 32]})).values()
        assert isinstance(loaded, LabelledTexts)

    def test_data_and_backbone_must_be_of_one_kind(self, root: Path) -> None:
        said = said_of(texts(root, backbone__name="package/efficientnet_lite0"))
        assert "backbone.name: expected a backbone of texts for dataset sst5, got 'package/effic" in said
        said = said_of(space_of(backbone__name="package/minilm_l6", method__gamma_fc=0))
        assert "backbone.name: expected a backbone of images for dataset digits, got 'package/minilm_l6'" in said

    def test_what_needs_images_or_a_source_head_is_refused(self, root: Path) -> None:
        assert "(smile does not with method.gamma_fc: 0)" in said_of(texts(root, method__gamma_fc=0.1))
        assert "cutmix, which needs a backbone of images" in said_of(texts(root, method={"name": "cutmix"}))
        assert "needs a backbone of at least" in said_of(texts(root, method={"name": "manifold_mixup"}))

    def test_the_shipped_one_is_valid_and_can_be_tried(self, root: Path) -> None:
        space = load_experiment(SHIPPED, {f"data.{key}": value for key, value in data_of(root).items()})
        overrides = {"data.train_images": None, "data.test_images": None}
        small = load_experiment(SHIPPED, {f"data.{key}": value for key, value in data_of(root).items()} | overrides)
        assert check_experiment(small).num_folds == 3
        assert smoke_overrides(small)["data.train_images"] == 15
        assert (space.fixed["data"]["train_images"], space.fixed["method"]["gamma_fc"]) == (600, 0)


class TestClassifiers:
    @pytest.fixture
    def config(self, root: Path) -> TrialConfig:
        backbone = {"name": "package/minilm_l6", "pretrained": False}
        return TrialConfig.model_validate({"data": data_of(root), "backbone": backbone, "method": {"name": "l2"}})

    @pytest.fixture
    def model(self, config: TrialConfig, tmp_path: Path) -> Path:
        save_classifier(tmp_path / "model", build_network(config.backbone, 5, 3, False), config, tuple("abcde"))
        return tmp_path / "model"

    def test_it_says_of_strings_what_the_network_said(
        self, model: Path, config: TrialConfig, capsys: pytest.CaptureFixture[str]
    ) -> None:
        classifier, train = Classifier.load(model, CPU), load_train(config.data)
        assert isinstance(train, LabelledTexts)
        probabilities = classifier.predict_proba(list(train.texts))
        right = (probabilities.argmax(axis=1) == train.labels).mean()
        assert right == pytest.approx(accuracy_on(build_network(config.backbone, 5, 3, False), train, config, CPU))
        for form in (train.texts[0], pd.Series(train.texts[:1]), pd.DataFrame({"sentence": train.texts[:1]})):
            np.testing.assert_allclose(classifier.predict_proba(form), probabilities[:1], atol=1e-6)
        assert predict.main(["--model", str(model), "--top", "1", "a fine film"]) == 0
        assert capsys.readouterr().out.startswith("a fine film\t")

    def test_what_is_no_text_is_named(self, model: Path) -> None:
        message = "text 1: expected a string, got float\ntext 2: expected a string, got NoneType"
        with pytest.raises(BadInput, match=f"^{message}$"):
            Classifier.load(model, CPU).predict_proba(["fine", 3.0, None])
