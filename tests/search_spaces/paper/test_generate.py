"""The paper's experiments: all are there, say what the paper says, and would run if data and weights were there."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch

from search_spaces.paper.generate import FOLDER, PARTS, Cell, cells, written
from tests.loops import check_each
from tests.trainables.data.layouts import LAYOUTS
from trainables.methods.losses import frobenius_scale
from tuner.experiment import checks as experiment
from tuner.experiment.checks import check_experiment
from tuner.experiment.extends import layers
from tuner.experiment.search_experiment import SearchExperiment, load_experiment

REPOSITORY = Path(__file__).parents[3]
CELLS = list(cells())
COMMAND = "# python -m tuner.search --space "


def named(cell: Cell) -> str:
    return cell.path.removesuffix(".yaml")


@cache
def loaded(path: str) -> SearchExperiment:
    return load_experiment(FOLDER / path)


def test_every_cell_has_a_file_and_every_file_a_cell() -> None:
    assert Counter(cell.table.folder for cell in CELLS) == {
        "table2": 3 * 4 * 9,
        "table3": 2 * 3 * 6,
        "table4": 5,
        "table5": 2 * 3,
        "table6": 4,
        "figure3": 2 * 3,
    }
    assert written() == {cell.path for cell in CELLS}
    assert len(written()) == 165


def test_a_file_is_what_the_tables_make_of_it() -> None:
    def check(cell: Cell) -> None:
        text = (FOLDER / cell.path).read_text(encoding="utf-8")
        assert text == cell.text, "run python -m search_spaces.paper.generate"

    check_each(CELLS, check, named)


def test_a_header_has_the_command_and_the_papers_number() -> None:
    def check(cell: Cell) -> None:
        command, _, what, says, *_ = (FOLDER / cell.path).read_text(encoding="utf-8").splitlines()
        assert REPOSITORY / command.removeprefix(COMMAND) == FOLDER / cell.path
        assert what.startswith(f"# {cell.table.title}, ")
        printed = [] if cell.number == "?" else re.findall(r"[\d.]+", cell.number)
        assert re.findall(r"\d+\.\d+", says) == printed

    check_each(CELLS, check, named)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("table2/cub_200_2011/c25_n400/l2.yaml", "55.59 ± 1.02 %"),
        ("table2/stanford_cars/c25_n800/delta.yaml", "82.1 ± 0.44 %"),
        ("table2/fgvc_aircraft/n100/smile.yaml", "90.16 ± 0.15 %"),
        ("table3/mit_indoor_67/n30/l2.yaml", "78.68 ± 0.20 %"),
        ("table3/food_101/n100/smile.yaml", "88.20 ± 0.10 %"),
        ("table4/sst5/n100/smile.yaml", "54.6 %"),
        ("table5/cub_200_2011/n30/smile_without_fe.yaml", "68.15 ± 0.27 %"),
        ("table6/cub_200_2011/n30/mixup.yaml", "labels 1.65/2.00, features 1.98/2.02"),
    ],
)
def test_corners_of_the_tables(path: str, number: str) -> None:
    assert number in (FOLDER / path).read_text(encoding="utf-8").splitlines()[3]


def test_on_images_it_follows_the_papers_protocol() -> None:
    def check(cell: Cell) -> None:
        space = loaded(cell.path)
        data, training = space.fixed["data"], space.fixed["training"]
        assert data["dataset"] == cell.dataset
        assert (data["sampling"], data["resize_px"], data["size_px"]) == ("uniform", 256, 224)
        assert (data["resize"] == "short_side") == (cell.dataset == "cub_200_2011")
        assert (training["optimizer"], training["momentum"], training["nesterov"]) == ("sgd", 0.9, True)
        assert (training["batch_size"], training["weight_decay"], training["head_lr_multiplier"]) == (48, 1e-4, 1.0)
        assert (training["schedule"], training["step_drop_at"], training["step_drop_factor"]) == ("step", 2 / 3, 0.1)
        assert training["num_steps"] == (15_000 if cell.dataset == "food_101" else 9000)
        assert training["learning_rate"] == (0.001 if cell.dataset == "mit_indoor_67" else 0.01)

    check_each((cell for cell in CELLS if cell.dataset != "sst5"), check, named)


def test_on_texts_too() -> None:
    def check(cell: Cell) -> None:
        training = loaded(cell.path).fixed["training"]
        assert training["num_steps"] == 3 * (8544 // 24)
        assert (training["optimizer"], training["batch_size"], training["learning_rate"]) == ("adamw", 24, 2e-5)
        assert training["weight_decay"] == 0

    check_each((cell for cell in CELLS if cell.dataset == "sst5"), check, named)


def test_it_draws_the_subset_that_it_is_named_by() -> None:
    def check(cell: Cell) -> None:
        data = loaded(cell.path).fixed["data"]
        of_classes, of_images = {
            "c25_n400": (0.25, 400),
            "c25_n800": (0.25, 800),
            "n15": (1.0, 0.15),
            "n30": (1.0, 0.3),
            "n50": (1.0, 0.5),
            "n100": (1.0, 1.0),
        }[cell.subset]
        assert data["class_fraction"] == of_classes
        assert of_images == (data["train_images"] or data["train_fraction"])

    check_each(CELLS, check, named)


def test_only_smile_is_searched() -> None:
    def check(cell: Cell) -> None:
        searched = {
            "smile": ["method.gamma_fe", "method.gamma_fc"],
            "smile_without_fc": ["method.gamma_fe"],
            "smile_without_fe": ["method.gamma_fc"],
        }
        space = loaded(cell.path)
        if cell.dataset == "sst5":
            searched["smile"] = searched["smile_without_fc"]
        assert list(space.dimensions) == searched.get(cell.method, [])
        if cell.dataset != "sst5":
            assert all(dimension.bounds() == (0.01, 0.1) for dimension in space.dimensions.values())
        assert (space.search.folds, space.retrain.seeds) == (3, 5)
        method, _, mixed = cell.method.partition("_on_")
        assert space.fixed["method"]["name"] == ("smile" if method.startswith("smile_") else method)
        assert space.fixed["method"].get("mixing", "none") == (mixed or "none")

    check_each(CELLS, check, named)


def test_smile_on_texts_is_searched_where_the_literal_distance_is() -> None:
    """Literally, γ_FE from 0.0001 to 0.1, and 0.002 first."""
    space = loaded("table4/sst5/n100/smile.yaml")
    scale = frobenius_scale(torch.empty(space.fixed["training"]["batch_size"], 768))
    gammas = (*space.dimensions["method.gamma_fe"].bounds(), space.search.first_points[0]["method.gamma_fe"])
    assert [scale * gamma for gamma in gammas] == pytest.approx([1e-4, 0.1, 0.002], rel=1e-3)


def test_backbones_are_the_papers() -> None:
    backbones = {cell.dataset: loaded(cell.path).fixed["backbone"] for cell in CELLS}
    assert {dataset: backbone["name"] for dataset, backbone in backbones.items()} == {
        "cub_200_2011": "torchvision/resnet50:IMAGENET1K_V1",
        "stanford_cars": "torchvision/resnet50:IMAGENET1K_V1",
        "fgvc_aircraft": "torchvision/resnet50:IMAGENET1K_V1",
        "mit_indoor_67": "torchvision/resnet50",
        "food_101": "torchvision/efficientnet_b4:IMAGENET1K_V1",
        "sst5": "transformers/bert-base-uncased",
    }
    assert [dataset for dataset, backbone in backbones.items() if backbone["checkpoint"]] == ["mit_indoor_67"]


def test_names_differ() -> None:
    """They are experiments of MLflow, registered models, and folders."""
    assert len({loaded(cell.path).name for cell in CELLS}) == len(CELLS)


def test_every_part_is_part_of_something() -> None:
    used = {layer.file.resolve() for cell in CELLS for layer in layers(FOLDER / cell.path)}
    parts = set(PARTS.rglob("*.yaml"))
    assert parts
    assert parts <= used


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_with_data_it_would_run(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--dry-run` of every method on a small copy; weights are taken to be there."""
    monkeypatch.setattr(experiment, "check_backbone", lambda backbone, needs_source_head: None)
    monkeypatch.setattr(experiment, "describe", lambda backbone: {})
    LAYOUTS[dataset](tmp_path)
    whole = [cell for cell in CELLS if cell.dataset == dataset and cell.subset == "n100"]
    assert {cell.method.partition("_on_")[0] for cell in whole} >= {"l2", "mixup", "delta", "bss", "rifle", "smile"}
    for cell in whole:
        space = load_experiment(FOLDER / cell.path, {"data.root": str(tmp_path), "data.check_counts": False})
        plan = check_experiment(space)
        assert (plan.data.num_train, plan.data.num_test) == (12, 6)
        assert plan.num_trials == (20 if cell.method.startswith("smile") else 1)
