"""Trainings that reuse the networks of those before: equal to the bit, and without growing memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.methods.settings import SETTINGS
from tests.trainables.tiny import CPU
from tests.trainables.tiny_trials import AtStep, coloured_images, trial_of, without_time
from tests.trainables.training.compilations import count_graphs
from trainables.backbones.kept_networks import KeptNetworks, tensors_of
from trainables.backbones.registry import find_architecture
from trainables.config import TrialConfig
from trainables.data.folds import stratified_folds
from trainables.data.images import LabelledImages
from trainables.methods import MethodConfig
from trainables.predictions import Predictions
from trainables.results import FoldResult
from trainables.trial import FoldTraining

every_setting = pytest.mark.parametrize("method", SETTINGS.values(), ids=SETTINGS.keys())


def fold(
    config: TrialConfig, images: LabelledImages, number: int, kept: KeptNetworks | None = None, **more: Any
) -> FoldTraining:
    part = stratified_folds(images.labels, 3, config.seed)[number - 1]
    return FoldTraining(config, images, number, part, CPU, kept=kept, **more)


def trained(training: FoldTraining) -> tuple[FoldResult, list[list[float]], dict[str, torch.Tensor]]:
    """Everything that a fold results in: losses, predictions and weights."""
    (result,) = without_time([training.result()])
    predictions = training.predictions
    assert isinstance(predictions, Predictions)
    student = training.training.fit.method.student
    weights = {name: tensor.detach().clone() for name, tensor in tensors_of(student).items()}
    return result, predictions.probabilities.tolist(), weights


def assert_equal(got: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    assert got[:2] == expected[:2]
    assert got[2].keys() == expected[2].keys()
    assert all(torch.equal(got[2][name], expected[2][name]) for name in expected[2])


@pytest.mark.usefixtures("built")
class TestKeptNetworks:
    @every_setting
    def test_change_no_fold_of_any_method(self, method: MethodConfig, images: LabelledImages) -> None:
        """Two folds of a trial, and one of another trial, after each other in one process."""
        config = trial_of("l2", num_steps=6).model_copy(update={"method": method})
        other = config.model_copy(
            update={"seed": 3, "training": config.training.model_copy(update={"learning_rate": 0.03})}
        )
        kept = KeptNetworks()
        for each, number in [(config, 1), (config, 2), (other, 1), (config, 1)]:
            assert_equal(trained(fold(each, images, number, kept)), trained(fold(each, images, number)))

    def test_change_no_fold_after_another_method(self, images: LabelledImages) -> None:
        kept = KeptNetworks()
        for name in ("stoch_norm", "l2", "feature_extraction", "smile", "smile"):
            config = trial_of(name)
            assert_equal(trained(fold(config, images, 1, kept)), trained(fold(config, images, 1)))

    @pytest.mark.parametrize("settings", [{"optimizer": "adamw"}, {"batch_norm": "frozen"}, {"channels_last": False}])
    def test_change_no_fold_with_other_settings(self, settings: dict[str, Any], images: LabelledImages) -> None:
        kept, config = KeptNetworks(), trial_of("smile", **settings)
        for number in (1, 2):
            assert_equal(trained(fold(config, images, number, kept)), trained(fold(config, images, number)))

    @pytest.mark.usefixtures("nothing_compiled_before", "traced_only")
    def test_are_compiled_once(self, images: LabelledImages, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither a second fold nor another trial compiles anything."""
        kept, config, graphs = KeptNetworks(), trial_of("smile", compile="default"), count_graphs(monkeypatch)
        fold(config, images, 1, kept).result()
        assert len(graphs) == 2  # student and teacher
        other = config.model_copy(update={"seed": 3, "method": config.method.model_copy(update={"gamma_fe": 0.5})})
        for each, number in [(config, 2), (other, 1)]:
            fold(each, images, number, kept).result()
        assert len(graphs) == 2

    @pytest.mark.parametrize("name", ["smile", "bi_tuning"])
    def test_resume_to_the_bit(self, name: str, images: LabelledImages, tmp_path: Path) -> None:
        kept, config = KeptNetworks(), trial_of(name)
        expected = trained(fold(config, images, 1))
        trained(fold(config, images, 2, kept))
        with pytest.raises(KeyboardInterrupt):
            fold(config, images, 1, kept, checkpoints=AtStep(tmp_path / "state", 5, 8)).result()
        resumed = trained(fold(config, images, 1, kept, checkpoints=AtStep(tmp_path / "state", 0)))
        assert resumed[0].taken_up_at == 5
        assert_equal((replace(resumed[0], taken_up_at=0), *resumed[1:]), expected)

    def test_stay_where_they_are(self, images: LabelledImages) -> None:
        """Student, teacher and folded teacher, so that compiled code and its CUDA graphs stay valid."""
        kept, places = KeptNetworks(), []
        for number in (1, 2):
            training = fold(trial_of("smile"), images, number, kept)
            training.result()
            fit = training.training.fit
            teacher = fit.method._folded_teacher._folded  # type: ignore[attr-defined]
            tensors = [*tensors_of(fit.method.student).values(), *tensors_of(teacher).values()]
            tensors += [value for state in fit.optimizer.state.values() for value in state.values()]
            places.append([tensor.data_ptr() for tensor in tensors])
        assert places[0] == places[1]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only what nobody refers to is freed: what is in a cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def tensor_bytes() -> int:
    """Bytes of all tensors that Python knows, but for those without numbers that `torch.compile` keeps for good."""
    tensors = [each for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter)]
    tensors = [each for each in tensors if each.layout == torch.strided]  # without kernels in the layout of oneDNN
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


@pytest.mark.slow
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("name", ["package/efficientnet_lite0", "timm/resnet18", "torchvision/resnet18"])
def test_memory_is_that_of_one_fold(name: str, tmp_path: Path) -> None:
    """Without the collector, whose time nobody knows; of each library."""
    torch.save(find_architecture(name).blank(5).state_dict(), tmp_path / "weights.pt")
    config = TrialConfig.model_validate(
        {
            "data": {"dataset": "digits", "size_px": 32, "resize_px": 32},
            "backbone": {"name": name, "checkpoint": tmp_path / "weights.pt"},
            "method": {"name": "smile"},
            "training": {"num_steps": 2, "batch_size": 4},
        }
    )
    pixels = torch.randint(0, 256, (30, 32, 32, 3), dtype=torch.uint8).numpy()
    images = LabelledImages.of(pixels, coloured_images().labels, ("a", "b", "c"))
    kept, sizes = KeptNetworks(), []
    for number in (1, 2, 3, 1, 2):
        fold(config, images, number, kept).result()
        sizes.append(tensor_bytes())
    assert max(sizes) - sizes[0] < 0.02 * sizes[0], sizes
