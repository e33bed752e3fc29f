"""Batches of texts: addressed by step, a part of the epoch each, of about one length, and no wider than needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.tiny_bert import write_tiny_bert
from trainables.backbones.bert import BertTokenizer
from trainables.data.batches import evaluation_batches, training_batch
from trainables.data.config import DataConfig
from trainables.data.examples import as_inputs
from trainables.data.texts import LabelledTexts, TokenisedTexts
from trainables.seeding import rng_for
from trainables.types import NO_TOKEN, Batch

CPU = torch.device("cpu")
CONFIG = DataConfig(dataset="sst5", max_tokens=30)


@pytest.fixture
def texts() -> LabelledTexts:
    """A hundred texts of one to twenty-eight words."""
    words = rng_for(0, "texts").integers(1, 29, 100)
    return LabelledTexts.of([" ".join(["film"] * count) for count in words], np.arange(100) % 3, ("a", "b", "c"))


@pytest.fixture
def tokens(texts: LabelledTexts, tmp_path: Path) -> TokenisedTexts:
    inputs = as_inputs(texts, CONFIG, BertTokenizer(write_tiny_bert(tmp_path) / "tokenizer.json"))
    assert isinstance(inputs, TokenisedTexts)
    return inputs


def batch_at(tokens: TokenisedTexts, step: int, seed: int = 0) -> Batch:
    return training_batch(tokens, CONFIG, 6, seed, step, CPU)


def test_selections_compose_and_share_the_texts(texts: LabelledTexts) -> None:
    chosen = texts.take([9, 5, 7]).take([2, 0])
    assert chosen.index.tolist() == [7, 9]
    assert chosen.labels.tolist() == [7 % 3, 9 % 3]
    assert chosen.texts is texts.texts
    assert chosen.num_classes == 3
    assert texts.sample(2) == list(texts.texts[:2])


def test_a_selection_is_tokenised_in_its_order(texts: LabelledTexts, tmp_path: Path) -> None:
    tokenize = BertTokenizer(write_tiny_bert(tmp_path) / "tokenizer.json")
    tokens = texts.take([4, 2]).tokenised(tokenize, 10)
    for row, length, text in zip(tokens.ids, tokens.lengths, (texts.texts[4], texts.texts[2]), strict=True):
        assert row[:length].tolist() == tokenize(text, 10)
        assert (row[length:] == NO_TOKEN).all()


def test_an_epoch_sees_each_text_once_at_most_and_those_that_images_would_be(tokens: TokenisedTexts) -> None:
    for epoch in range(3):
        steps = range(1 + 16 * epoch, 17 + 16 * epoch)
        seen = torch.cat([batch_at(tokens, step).index for step in steps]).tolist()
        assert sorted(seen) == sorted(rng_for(0, "order", epoch).permutation(100)[:96].tolist())


def test_batches_do_not_depend_on_the_order_of_calls(tokens: TokenisedTexts, texts: LabelledTexts) -> None:
    forwards = [batch_at(tokens, step).index.tolist() for step in range(1, 40)]
    backwards = [batch_at(tokens, step).index.tolist() for step in reversed(range(1, 40))]
    assert forwards == backwards[::-1]
    assert forwards != [batch_at(tokens, step, seed=1).index.tolist() for step in range(1, 40)]


def test_a_batch_is_of_about_one_length_and_no_wider_than_it_needs(tokens: TokenisedTexts) -> None:
    batches = [batch_at(tokens, step) for step in range(1, 17)]
    for batch in batches:
        lengths = tokens.lengths[batch.index]
        assert batch.inputs.shape == (6, -(-lengths.max() // 8) * 8)
        assert ((batch.inputs != NO_TOKEN).sum(dim=1).numpy() == lengths).all()
        assert (batch.labels.numpy() == batch.index.numpy() % 3).all()
        assert np.ptp(lengths) <= 6
    longest = [int(tokens.lengths[batch.index].max()) for batch in batches]
    assert longest != sorted(longest)  # short ones do not come first


def test_fewer_texts_than_a_batch_are_one_batch(texts: LabelledTexts, tmp_path: Path) -> None:
    tokenize = BertTokenizer(write_tiny_bert(tmp_path) / "tokenizer.json")
    batch = batch_at(texts.take([0, 1, 2]).tokenised(tokenize, 30), step=5)
    assert sorted(batch.index.tolist()) == [0, 1, 2]


def test_evaluation_sees_every_text_in_order(tokens: TokenisedTexts) -> None:
    batches = list(evaluation_batches(tokens, CONFIG, 32, CPU))
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(100))
    assert [len(batch.labels) for batch in batches] == [32, 32, 32, 4]
