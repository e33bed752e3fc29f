from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.contract import start, through_a_file
from tests.trainables.methods.parity import assert_parity
from tests.trainables.tiny import CPU, TinyTokens, tiny_batch, tiny_context, tiny_network, tiny_pass
from trainables.backbones.network import Backbone, ImageBackbone, TransferNetwork
from trainables.backbones.registry import find_architecture
from trainables.errors import BadInput
from trainables.methods import channel_attention, delta
from trainables.methods.channel_attention import attention, last_layers, loss_increases, train_head
from trainables.methods.delta import FEATURE_MAP, Delta, DeltaConfig
from trainables.methods.mixing import draw_mix
from trainables.seeding import rng_for, torch_seeded

STEM, STAGE = "stem.0", "stage.0"
UNIFORM = {"attention": "uniform", "alpha": 1.0}
in_double = pytest.mark.usefixtures("float64")


def delta_between(student: TransferNetwork, source: TransferNetwork, config: DeltaConfig) -> Delta:
    """DELTA of a student that has moved away from its source, with channels that weigh differently."""
    method = Delta(config, student.train(), tiny_context())
    assert method.source is not None
    method.source.load_state_dict(source.state_dict())
    widths = {STEM: 4, STAGE: 6} if config.form == "official" else {FEATURE_MAP: 6}
    method.attention = {name: torch.linspace(0, 1, n + 1).diff().cumsum(0).softmax(0) for name, n in widths.items()}
    return method


def prepared(config: DeltaConfig, student: TransferNetwork) -> Delta:
    method = Delta(config, student, tiny_context())
    method.prepare(tiny_pass)
    return method


@in_double
class TestTheLoss:
    @pytest.mark.parametrize("form", ["official", "authors"])
    @pytest.mark.parametrize("mixing", ["none", "mixup"])
    def test_loss_and_gradient_match_the_papers_form_and_the_authors(self, form, mixing) -> None:
        student, source = tiny_network(seed=1, source_head=False), tiny_network(seed=2, source_head=False).eval()
        config = DeltaConfig(form=form, alpha=0.3, mixing=mixing)
        method = delta_between(student, source, config)
        mix = draw_mix(6, config.mixing_alpha, CPU, seed=tiny_context().seed, step=1)
        lam, pi = (mix.weight, mix.partner) if mixing == "mixup" else (1.0, torch.arange(6))
        theirs = references.delta(student, source, tiny_batch(), list(method.attention.values()), form, lam, pi)
        assert_parity(method.loss(tiny_batch()), theirs, student, feature=0.3, head_decay=0.01)

    def test_is_zero_while_the_student_is_its_source_in_evaluation_mode(self) -> None:
        for form in ("official", "authors"):
            method = prepared(DeltaConfig(form=form), tiny_network(source_head=False).eval())
            assert method.loss(tiny_batch())["feature"] == 0
            method.student.train()  # the batch's statistics alone part them
            assert method.loss(tiny_batch())["feature"] > 1e-4

    def test_of_equal_channels_is_half_the_squared_distance_per_position(self) -> None:
        student = tiny_network(source_head=False)
        method = prepared(DeltaConfig(num_layers=1, **UNIFORM), student)
        with torch.no_grad():
            student.backbone.stage[0].weight.mul_(1.5)
        student.eval()
        before = student.backbone.stem(student.embed(tiny_batch().inputs))
        moved = student.backbone.stage[0](before) - method.source.backbone.stage[0](before)
        assert_close(method.loss(tiny_batch())["feature"], moved.square().sum() / (2 * 16))

    @pytest.mark.parametrize("form", ["official", "authors"])
    def test_doubles_with_a_doubled_batch(self, form) -> None:
        method = delta_between(tiny_network(1), tiny_network(2), DeltaConfig(form=form))
        once, batch = method.loss(tiny_batch()), tiny_batch()
        twice = method.loss(replace(batch, inputs=batch.inputs.repeat(2, 1, 1, 1), labels=batch.labels.repeat(2)))
        assert_close(twice["feature"], 2 * once["feature"])
        assert_close(twice["target_label"], once["target_label"])

    def test_sees_what_a_layer_gives_before_it_is_changed_in_place(self) -> None:
        student = tiny_network(source_head=False)
        method = delta_between(student, tiny_network(2, source_head=False), DeltaConfig())
        plain = method.loss(tiny_batch())
        for network in (student, method.source):
            for part in (network.backbone.stem, network.backbone.stage):
                part[1] = InPlace(part[1])
        changed = method.loss(tiny_batch())
        assert_close(changed, plain)

    def test_compares_as_many_of_the_last_layers_as_are_asked_for(self) -> None:
        assert list(prepared(DeltaConfig(**UNIFORM), tiny_network()).attention) == [STEM, STAGE]
        assert list(prepared(DeltaConfig(num_layers=1, **UNIFORM), tiny_network()).attention) == [STAGE]
        assert list(prepared(DeltaConfig(form="authors", **UNIFORM), tiny_network()).attention) == [FEATURE_MAP]


class InPlace(nn.Module):
    """A normalisation that overwrites what it was given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x.clone())
        with torch.no_grad():
            x.zero_()
        return y


def brute_force(backbone: Backbone, head: nn.Linear, layer: str, x: Tensor, y: Tensor, filters: list[int]) -> Tensor:
    """The authors' recipe: zero a filter's weights, run everything, put them back."""
    weight = backbone.get_submodule(layer).weight
    base = F.cross_entropy(head(backbone(x)[1]), y)
    rises = []
    with torch.no_grad():
        for j in filters:
            kept = weight[j].clone()
            weight[j] = 0
            rises.append(F.cross_entropy(head(backbone(x)[1]), y) - base)
            weight[j] = kept
    return torch.stack(rises)


class TinyDense(ImageBackbone):
    """Two stages, each of which puts new channels in front of those that it was given."""

    num_features = 9
    stages = ("first", "second")

    def __init__(self) -> None:
        super().__init__(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
        self.first, self.second = InFront(3, 2), InFront(5, 4)

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        features = self.second(self.first(embedded))
        return features, features.mean(dim=(2, 3))


class InFront(nn.Module):
    def __init__(self, num_inputs: int, num_new: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_inputs, num_new, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(x).relu(), x], dim=1)


def pretrained(name: str, size: int) -> tuple[Backbone, nn.Linear, Tensor, Tensor]:
    """A random backbone in which everything has an effect, a head, and labelled inputs."""
    with torch_seeded(0, "delta test"):
        architecture = find_architecture(name) if name != "dense" else None
        backbone = (architecture.cut(architecture.blank()).backbone if architecture else TinyDense()).double()
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        for parameter in backbone.parameters():
            if parameter.ndim == 1:  # some normalisations and layer scales start at or near zero
                nn.init.uniform_(parameter, 0.5, 1.5)
        head = nn.Linear(backbone.num_features, 5).double()
        x = torch.randn(3, 3, size, size, dtype=torch.float64)
        backbone.train()(x)
    return backbone.eval().requires_grad_(False), head.requires_grad_(False), x, torch.tensor([0, 1, 4])


class TestTheRiseOfTheLoss:
    @pytest.mark.parametrize(
        ("name", "size"),
        [
            ("timm/test_resnet", 64),  # closed form for the last stage, stage by stage for the others
            ("timm/test_efficientnet", 64),
            ("timm/test_convnext", 64),  # linear layers, channels last inside
            ("timm/test_vit", 160),  # LayerNorm mixes channels: from the end of the stage before
            ("dense", 8),  # concatenation moves channels
        ],
    )
    @in_double
    def test_is_that_of_removing_filter_after_filter(self, name: str, size: int) -> None:
        backbone, head, x, y = pretrained(name, size)
        layers = last_layers(backbone, x)
        assert len(layers) == len(backbone.stages)
        for layer in layers:
            filters = list(range(0, layer.num_filters, 17))
            expected = brute_force(backbone, head, layer.name, x, y, filters)
            assert_close(loss_increases(backbone, head, layer, x, y)[filters], expected, rtol=1e-7, atol=1e-12)
            assert expected.abs().max() > 0

    @pytest.mark.parametrize(("name", "closed"), [("timm/test_resnet", True), ("timm/test_vit", False)])
    @in_double
    def test_of_the_last_layer_has_a_closed_form_where_channels_stay_apart(self, monkeypatch, name, closed) -> None:
        backbone, head, x, y = pretrained(name, 160)
        asked = []
        monkeypatch.setattr(channel_attention, "_without_filters", lambda *_: asked.append("passes") or torch.zeros(1))
        loss_increases(backbone, head, last_layers(backbone, x)[-1], x, y)
        assert bool(asked) != closed

    @in_double
    def test_does_not_depend_on_how_filters_share_passes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        backbone, head, x, y = pretrained("timm/test_resnet", 64)
        layer = last_layers(backbone, x)[0]
        together = loss_increases(backbone, head, layer, x, y)
        monkeypatch.setattr(channel_attention, "ROWS_PER_PASS", 7)
        assert_close(loss_increases(backbone, head, layer, x, y), together)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("torchvision/resnet50", ["layer1.2.conv3", "layer2.3.conv3", "layer3.5.conv3", "layer4.2.conv3"]),
            ("timm/resnet50", ["layer1.2.conv3", "layer2.3.conv3", "layer3.5.conv3", "layer4.2.conv3"]),
            ("torchvision/resnet18", ["layer1.1.conv2", "layer2.1.conv2", "layer3.1.conv2", "layer4.1.conv2"]),
            ("timm/test_resnet", ["layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv3", "layer4.0.conv2"]),  # shortcuts
            ("timm/seresnet50", ["layer1.2.conv3", "layer2.3.conv3", "layer3.5.conv3", "layer4.2.conv3"]),
            (
                "timm/tf_efficientnet_lite0",
                ["blocks.1.1.conv_pwl", "blocks.2.1.conv_pwl", "blocks.4.2.conv_pwl", "conv_head"],
            ),
        ],
    )
    def test_is_that_of_each_stages_last_layer(self, name: str, expected: list[str]) -> None:
        architecture = find_architecture(name)
        backbone = architecture.cut(architecture.blank()).backbone.eval()
        layers = last_layers(backbone, torch.zeros(1, 3, 64, 64))[-4:]
        assert [layer.name for layer in layers] == [f"model.{name}" for name in expected]


class TestTheAttention:
    @in_double
    @pytest.mark.parametrize("form", ["official", "authors"])
    def test_is_the_recipe(self, form) -> None:
        """Train the head, measure on the drawn images, z-score, softmax(z/5)."""
        config = DeltaConfig(form=form, attention_images=10, attention_head_steps=30)
        student = tiny_network(source_head=False)
        method = prepared(config, student)

        source = copy.deepcopy(student).eval().requires_grad_(False)
        inputs = source.embed(torch.cat([batch.inputs for batch in tiny_pass()]))
        labels = torch.cat([batch.labels for batch in tiny_pass()])
        head = source.target_head.requires_grad_(True)
        train_head(head, source.backbone(inputs)[1], labels, 30, seed=7)
        chosen = torch.from_numpy(rng_for(7, "delta", "images").permutation(24)[:10]).sort().values
        for name, weights in method.attention.items():
            layer = STAGE if name == FEATURE_MAP else name
            width = len(source.backbone.get_submodule(layer).weight)
            rises = brute_force(source.backbone, head, layer, inputs[chosen], labels[chosen], list(range(width)))
            z = (rises - rises.mean()) / ((rises - rises.mean()) ** 2).mean().sqrt()
            expected = [float((score / 5).exp() / (z / 5).exp().sum()) for score in z]
            assert_close(weights, torch.tensor(expected), rtol=1e-8, atol=1e-10)

    def test_sums_to_one_and_favours_what_is_missed_most(self) -> None:
        weights = attention(torch.tensor([0.0, 3.0, -1.0, 0.5]))
        assert_close(weights.sum(), torch.tensor(1.0))
        assert weights.argsort().tolist() == [2, 0, 3, 1]
        assert_close(attention(torch.full((4,), 0.3)), torch.full((4,), 0.25))

    @in_double
    def test_measuring_it_leaves_the_student_as_it_was(self) -> None:
        student = tiny_network(source_head=False).train()
        before = copy.deepcopy(student.state_dict())
        prepared(DeltaConfig(attention_images=5, attention_head_steps=5), student)
        assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in student.parameters())
        assert all(module.training for module in student.modules())

    def test_training_the_head_lowers_its_loss(self) -> None:
        with torch_seeded(0, "head"):
            x, head = torch.randn(200, 6), nn.Linear(6, 3)
        y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
        before = F.cross_entropy(head(x), y)
        train_head(head, x, y, num_steps=300, seed=0)
        assert F.cross_entropy(head(x), y) < 0.8 * before

    def test_is_state_that_is_not_measured_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        config = DeltaConfig(attention_images=12, attention_head_steps=10)
        stopped = start(config)
        stopped.run(until=2)
        state = through_a_file(stopped.state_dict())
        monkeypatch.setattr(delta, "measure_attention", lambda *_: {})
        resumed = start(config)
        resumed.load_state_dict(state)
        for fit in (stopped, resumed):
            fit.run(until=4)
        assert resumed.history == stopped.history
        assert resumed.method.attention.keys() == {STEM, STAGE}

    def test_takes_more_images_than_there_are(self) -> None:
        method = prepared(DeltaConfig(attention_images=1000, attention_head_steps=3), tiny_network())
        assert {len(weights) for weights in method.attention.values()} == {4, 6}

    def test_of_tokens_is_that_of_linear_layers(self) -> None:
        method = start(DeltaConfig(attention_images=6, attention_head_steps=3), tokens=True).method
        assert isinstance(method.student.backbone, TinyTokens)
        assert list(method.attention) == ["layer.0"]


def test_the_authors_form_is_refused_where_channels_are_no_filters() -> None:
    class Doubling(type(tiny_network().backbone)):
        def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
            features, _ = super().forward(embedded)
            features = torch.cat([features, features], dim=1)
            return features, features[:, :6].mean(dim=(2, 3))

    with pytest.raises(BadInput, match=r"method\.form: expected official where .*, got 12 channels, 6 filters"):
        prepared(DeltaConfig(form="authors"), tiny_network(kind=Doubling))


def test_the_forms_have_their_own_head_decay() -> None:
    assert DeltaConfig().head_decay == 0.01
    assert DeltaConfig(form="authors").head_decay == 0
    assert DeltaConfig(form="authors", beta=0.3).head_decay == 0.3
