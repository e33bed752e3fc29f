from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.parity import assert_parity
from tests.trainables.tiny import CPU, tiny_batch, tiny_context, tiny_network
from trainables.methods import cutmix
from trainables.methods.cutmix import CutMix, CutMixConfig
from trainables.methods.mixing import Cut, Mix, draw_cut, draw_mix
from trainables.seeding import rng_for

PARTNER = torch.tensor([2, 0, 3, 1, 4, 5])

pytestmark = pytest.mark.usefixtures("float64")


def cut_of(rows: slice, columns: slice, size: int = 8) -> Cut:
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Cut(rows, columns, Mix(1 - area / size**2, PARTNER))


def cuts(images: Tensor, alpha: float = 1.0, probability: float = 1.0, count: int = 200) -> list[Cut]:
    return [draw_cut(images, alpha, probability, seed=0, step=step) for step in range(count)]


@pytest.mark.parametrize(("rows", "columns"), [((2, 5), (0, 7)), ((0, 8), (0, 8)), ((3, 3), (1, 4))])
def test_loss_and_gradient_match_the_paper(monkeypatch: pytest.MonkeyPatch, rows, columns) -> None:
    cut = cut_of(slice(*rows), slice(*columns))
    monkeypatch.setattr(cutmix, "draw_cut", lambda *_: cut)
    student = tiny_network(source_head=False)
    ours = CutMix(CutMixConfig(), student, tiny_context()).loss(tiny_batch())
    assert_parity(ours, references.cutmix(student, tiny_batch(), rows, columns, PARTNER), student)


def test_the_draw_is_that_of_its_seed_step_and_settings() -> None:
    student, batch = tiny_network(source_head=False), tiny_batch(step=4)
    ours = CutMix(CutMixConfig(alpha=0.9, probability=1), student, tiny_context(seed=3)).loss(batch)
    cut = draw_cut(student.embed(batch.inputs), 0.9, 1, seed=3, step=4)
    box = ((part.start, part.stop) for part in (cut.rows, cut.columns))
    assert_parity(ours, references.cutmix(student, batch, *box, cut.labels.partner), student)


def test_an_empty_box_is_plain_fine_tuning() -> None:
    images = torch.randn(6, 3, 8, 8)
    cut = cut_of(slice(3, 3), slice(2, 6))
    assert torch.equal(cut.paste(images), images)
    student = tiny_network(source_head=False)
    ours = CutMix(CutMixConfig(probability=1e-12), student, tiny_context()).loss(tiny_batch())
    assert_parity(ours, references.l2(student, tiny_batch()), student)


def test_the_label_weight_is_what_the_box_leaves() -> None:
    """For zeros with a partner of ones, the mean of the pasted images is the share of the box, to the pixel."""
    images = torch.stack([torch.zeros(3, 10, 7), torch.ones(3, 10, 7)])
    for cut in cuts(images):
        if cut.labels.partner.tolist() == [1, 0]:
            pasted = cut.paste(images)[0]
            assert_close(1 - pasted.mean(), torch.tensor(cut.labels.weight), rtol=1e-14, atol=0)
            assert pasted.sum() == 3 * (cut.rows.stop - cut.rows.start) * (cut.columns.stop - cut.columns.start)


def test_the_box_lies_in_the_image_around_its_centre_and_an_odd_side_loses_a_pixel() -> None:
    images = torch.zeros(4, 3, 9, 7)
    seen_odd = False
    for step in range(200):
        rng = rng_for(0, "mix", step)
        share = (1 - rng.beta(1.0, 1.0)) ** 0.5
        rng.permutation(4)
        row, column = rng.integers(9), rng.integers(7)
        cut = draw_cut(images, 1.0, 1.0, seed=0, step=step)
        for part, centre, size in ((cut.rows, row, 9), (cut.columns, column, 7)):
            half = int(size * share) // 2
            seen_odd |= int(size * share) % 2 == 1 and part.stop - part.start == 2 * half
            assert (part.start, part.stop) == (max(0, centre - half), min(size, centre + half))
    assert seen_odd


def test_the_images_given_stay_as_they_are() -> None:
    images = torch.randn(6, 3, 8, 8)
    before = images.clone()
    pasted = cut_of(slice(1, 5), slice(2, 6)).paste(images)
    assert torch.equal(images, before)
    assert not torch.equal(pasted, before)


def test_as_many_batches_are_cut_as_the_probability_says() -> None:
    images = torch.zeros(2, 3, 32, 32)
    share = sum(cut.labels.weight < 1 for cut in cuts(images, probability=0.5, count=1000)) / 1000
    certain = sum(cut.labels.weight < 1 for cut in cuts(images, count=1000)) / 1000
    assert certain > 0.98
    assert share == pytest.approx(0.5, abs=0.05)


def test_its_partners_are_mixups() -> None:
    images = torch.zeros(6, 3, 8, 8)
    for step in range(10):
        assert torch.equal(draw_cut(images, 0.4, 0.5, 3, step).labels.partner, draw_mix(6, 0.4, CPU, 3, step).partner)
