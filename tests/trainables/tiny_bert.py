"""A BERT of two layers with random weights, and the files that a published one consists of."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import BertConfig, BertModel

from tests.trainables.tiny import NUM_CLASSES
from trainables.backbones.bert import CONFIG, TOKENIZER, BertArchitecture, ModelFolder, Pooling
from trainables.backbones.network import TransferNetwork
from trainables.seeding import rng_for, torch_seeded
from trainables.types import NO_TOKEN, Batch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dull", "fine", "film", "not", "very"]


class LocalFolder(ModelFolder):
    """Files in a folder, as a package or the hub's cache has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str) -> Path:
        return self.folder / name

    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    def require_weights(self) -> None:
        assert self.weights().is_file()


def write_tiny_bert(folder: Path, dropout: float = 0.0) -> Path:
    """Writes configuration, tokenizer and weights; these under the names that the first BERTs have."""
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config.to_dict()), encoding="utf-8")
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=30)  # published ones pad and cut, which is the batches' business here
    tokenizer.save(str(folder / TOKENIZER))
    with torch_seeded(1, "tiny bert"):
        state = {name: 5 * weight for name, weight in BertModel(config).state_dict().items()}
    published = {f"bert.{_older(name)}": weight.contiguous() for name, weight in state.items()}
    published |= {"cls.seq_relationship.weight": torch.zeros(2, 8), "bert.embeddings.position_ids": torch.arange(40)}
    safetensors.torch.save_file(published, folder / "model.safetensors")
    return folder


def _older(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def tiny_architecture(folder: Path, pooling: Pooling = "first", dropout: float = 0.0) -> BertArchitecture:
    return BertArchitecture("transformers/tiny", LocalFolder(write_tiny_bert(folder, dropout)), pooling)


def tiny_bert(folder: Path, pooling: Pooling = "first", dropout: float = 0.0) -> TransferNetwork:
    """A network for three classes, in training mode."""
    architecture = tiny_architecture(folder, pooling, dropout)
    backbone = architecture.cut(architecture.published()).backbone
    return TransferNetwork(backbone, None, NUM_CLASSES, seed=1).to(torch.get_default_dtype()).train()


def token_ids(lengths: list[int], width: int, seed: int = 0) -> Tensor:
    """Random texts of these lengths, filled up to `width`; a wider call has the same texts."""
    ids = torch.full((len(lengths), width), NO_TOKEN)
    for i, length in enumerate(lengths):
        words = rng_for(seed, "words", i).integers(4, len(WORDS), length - 2)
        ids[i, :length] = torch.tensor([2, *words.tolist(), 3])
    return ids


def text_batch(step: int = 1, width: int = 8) -> Batch:
    """Six texts of 3 to 8 tokens."""
    labels = torch.arange(6) % NUM_CLASSES
    return Batch(token_ids([5, 3, 8, 4, 7, 6], width, seed=step), labels, torch.arange(6), step)
