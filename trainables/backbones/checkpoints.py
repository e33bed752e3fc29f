"""Reading checkpoints of other programs: without running their code, in any usual wrapping, with clear errors."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from trainables.backbones.architecture import Architecture, State, blank_on_meta
from trainables.errors import BadInput, Problem, first_line
from trainables.files import placeholder

CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "network",
    "net",
    "model_ema",
    "state_dict_ema",
    "ema",
)
"""Keys under which training scripts store the weights; the first one present is used."""

WRAPPERS = re.compile(r"(?:(?:module|model|backbone|encoder|_orig_mod)\.)+")
"""Prefixes that wrappers (data parallel, compile, self-supervised training) put before the names of a model."""

# Data, not code, that training scripts store beside the weights: their arguments, and NumPy numbers such as the best
# accuracy (under the module names of NumPy 1 and 2).
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_)),
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
]


def fitting_state(path: Path, architecture: Architecture) -> tuple[State, int | None]:
    """The weights in `path`, named as in the whole model, and the number of classes of its classifier (None if absent).

    Raises BadInput if the file cannot be read or does not fit `architecture`.
    """
    expected = blank_on_meta(architecture).state_dict().keys()
    state = unwrapped(read_checkpoint(path), expected, architecture.rename)
    num_classes = _num_classes(state, architecture.classifier)
    model = blank_on_meta(architecture, num_classes)
    optional = architecture.auxiliary
    if num_classes is None and architecture.classifier:
        optional = (*optional, f"{architecture.classifier}.")
    misfit = describe_misfit(state, model, optional)
    if misfit:
        raise _problem(path, "the weights of the architecture in backbone.name", f"with {misfit}")
    return state, num_classes


def read_checkpoint(path: Path) -> State:
    """All tensors of a `.safetensors` or PyTorch file by name. Never runs code of the file; raises BadInput."""
    if not os.path.isfile(path):
        raise _problem(path, "an existing file", "a folder" if os.path.isdir(path) else "which does not exist")
    if said := placeholder(path):
        raise _problem(path, "a file of weights", said)
    # A damaged file makes its reader fail in any way.
    try:
        content = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else _load_tensors_only(path)
    except pickle.UnpicklingError as error:
        expected = "a PyTorch file of tensors (one that loads with weights_only=True)"
        raise _problem(path, expected, _unsafe(error)) from error
    except Exception as error:
        raise _problem(path, "a readable PyTorch or .safetensors file", first_line(error)) from error
    state = _find_tensors(content)
    if not state:
        raise _problem(path, "a file with named tensors", f"an object of type {type(content).__name__} without any")
    return state


def unwrapped(state: State, expected: Set[str], rename: Callable[[State], State]) -> State:
    """Removes the wrapper prefix from `state` that gives the most `expected` names, after `rename`."""
    prefixes = sorted({""} | {part for name in state for part in _leading_wrappers(name)}, key=len)
    candidates = [rename({name.removeprefix(prefix): tensor for name, tensor in state.items()}) for prefix in prefixes]
    return max(candidates, key=lambda renamed: len(renamed.keys() & expected))


def describe_misfit(state: State, model: nn.Module, optional: tuple[str, ...] = ()) -> str:
    """Describes missing, unexpected and reshaped tensors of `state` for `model`; "" if it fits.

    Names that start with an `optional` prefix may be missing, and so may the batch counters, which old files lack.
    """
    wanted = model.state_dict()
    missing = [
        name for name in wanted.keys() - state.keys() if not name.startswith(optional) and not _is_batch_counter(name)
    ]
    unexpected = state.keys() - wanted.keys()
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted.keys() & state.keys()
        if state[name].shape != wanted[name].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of other shape": reshaped}
    return "; ".join(f"{len(names)} {kind}: {_a_few(sorted(names))}" for kind, names in kinds.items() if names)


def load_fitting(model: nn.Module, state: State) -> None:
    """Loads a state for which `describe_misfit` returns ""."""
    model.load_state_dict(state, strict=False)  # not strict: optional tensors may be missing


def _load_tensors_only(path: Path) -> Any:
    with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
        # A TorchScript archive warns before it fails; the failure says enough.
        warnings.filterwarnings("ignore", message=".*TorchScript archive", category=UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True)


def _find_tensors(content: Any) -> State:
    """The tensors in a state dict, or in the first known container in it."""
    if not isinstance(content, Mapping):
        return {}
    inner = (_find_tensors(content[name]) for name in CONTAINERS if isinstance(content.get(name), Mapping))
    contained = next((state for state in inner if state), None)
    return contained or {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _leading_wrappers(name: str) -> list[str]:
    """Prefixes of wrapper names: `module.` and `module.encoder.` for `module.encoder.conv1.weight`."""
    match = WRAPPERS.match(name)
    if match is None:
        return []
    words = match.group().rstrip(".").split(".")
    return [".".join(words[: count + 1]) + "." for count in range(len(words))]


def _num_classes(state: State, classifier: str) -> int | None:
    weight = state.get(f"{classifier}.weight")
    return weight.shape[0] if weight is not None and weight.ndim >= 2 else None


def _is_batch_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _a_few(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def _unsafe(error: pickle.UnpicklingError) -> str:
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"a pickle that asks for {wanted.group(1)}" if wanted else first_line(error, 120)


def _problem(path: Path, expected: str, got: str) -> BadInput:
    return BadInput(Problem("checkpoint", expected, f"{path}, {got}"))
