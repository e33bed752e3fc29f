from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trainables.backbones.architecture import State
from trainables.backbones.checkpoints import fitting_state, read_checkpoint
from trainables.backbones.packaged import PackagedArchitecture
from trainables.backbones.timm_models import TimmArchitecture
from trainables.backbones.torchvision_models import TorchvisionArchitecture
from trainables.errors import BadInput

ARCHITECTURE = TimmArchitecture("test_resnet")  # 0.5 M parameters


@pytest.fixture
def state() -> State:
    model = ARCHITECTURE.blank(5)
    return dict(model.state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {
            "arch": "r",
            "epoch": 3,
            "state_dict": _under("module.", state),
            "best_prec1": torch.tensor(5.0),
        },
        lambda state: {"model": _under("_orig_mod.module.", state), "args": argparse.Namespace(lr=1), "epoch": 1},
        lambda state: {"model_state_dict": _under("model.backbone.", state), "best": np.float64(0.5)},
        lambda state: {"model": {"state_dict": _under("encoder.", state)}, "optimizer": {"state": {}}},
        lambda state: {"model_ema": state, "epoch": 1},
    ],
)
def test_wrapped_weights_are_found(tmp_path: Path, state: State, wrap: Any) -> None:
    torch.save(wrap(state), tmp_path / "weights.pth.tar")
    got, num_classes = fitting_state(tmp_path / "weights.pth.tar", ARCHITECTURE)
    assert num_classes == 5
    assert got.keys() == state.keys()
    assert all(torch.equal(got[name], state[name]) for name in state)


def test_safetensors(tmp_path: Path, state: State) -> None:
    save_file(state, tmp_path / "weights.safetensors")
    assert fitting_state(tmp_path / "weights.safetensors", ARCHITECTURE)[1] == 5


def test_a_legacy_file_without_batch_counters(tmp_path: Path, state: State) -> None:
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert fitting_state(tmp_path / "old.pth", ARCHITECTURE)[1] == 5


def test_a_file_without_classifier_has_no_classes(tmp_path: Path, state: State) -> None:
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("fc.")}, tmp_path / "w.pth")
    assert fitting_state(tmp_path / "w.pth", ARCHITECTURE)[1] is None


def test_old_names_of_densenets_and_packaged_models(tmp_path: Path) -> None:
    densenet = TorchvisionArchitecture("densenet121")
    old = {name.replace(".norm1.", ".norm.1."): tensor for name, tensor in densenet.blank(365).state_dict().items()}
    torch.save({"state_dict": _under("module.", old)}, tmp_path / "densenet.pth")
    assert fitting_state(tmp_path / "densenet.pth", densenet)[1] == 365

    lite0 = PackagedArchitecture("efficientnet_lite0")
    torch.save({"state_dict": _under("module.", read_checkpoint(lite0._file()))}, tmp_path / "lite0.pth")
    assert fitting_state(tmp_path / "lite0.pth", lite0)[1] == 1000


def test_auxiliary_classifiers_may_be_left_out(tmp_path: Path) -> None:
    googlenet = TorchvisionArchitecture("googlenet")
    state = googlenet.blank(9).state_dict()
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("aux")}, tmp_path / "w.pth")
    assert fitting_state(tmp_path / "w.pth", googlenet)[1] == 9


def test_a_misfit_names_file_and_tensors(tmp_path: Path, state: State) -> None:
    state["extra.weight"] = torch.zeros(1)
    state["conv1.0.weight"] = torch.zeros(2, 2)
    del state["bn1.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(BadInput) as caught:
        fitting_state(tmp_path / "w.pth", ARCHITECTURE)
    (problem,) = caught.value.problems
    assert problem.where == "checkpoint"
    assert problem.got.startswith(
        f"{tmp_path / 'w.pth'}, with "
        "1 missing: bn1.weight; 1 unexpected: extra.weight; 1 of other shape: conv1.0.weight (2, 2)"
    )


class _Harmful:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('code from a file was run')",)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": _Harmful()}, tmp_path / "w.pth")
    with pytest.raises(
        BadInput, match=r"checkpoint: expected a PyTorch file of tensors .*, got .*w.pth, .* asks for .*exec"
    ):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 cut off", b"\x80\x02}q\x00"])
def test_a_corrupt_file_is_the_users_problem(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"checkpoint: expected .*, got .*{name}, "):
        read_checkpoint(tmp_path / name)


def test_a_cut_off_file_is_the_users_problem(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"expected a readable PyTorch or \.safetensors file"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_pointer_of_git_lfs_is_named_as_such(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(BadInput, match=r"expected a file of weights, got .*, a pointer of Git LFS .*: `git lfs pull`"):
        read_checkpoint(tmp_path / name)


def test_missing_file_folder_and_file_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"expected an existing file, got .*, which does not exist"):
        read_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(BadInput, match=r"expected an existing file, got .*, a folder"):
        read_checkpoint(tmp_path)
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(BadInput, match="expected a file with named tensors"):
        read_checkpoint(tmp_path / "w.pth")


def _under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}
