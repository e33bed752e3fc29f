from __future__ import annotations

import pickle

import numpy as np

from trainables.data.images import LabelledImages


def test_selections_compose_and_share_the_pixels(images: LabelledImages) -> None:
    chosen = images.take(np.array([5, 3, 20, 7])).take([3, 1])
    assert chosen.index.tolist() == [7, 3]
    assert chosen.labels.tolist() == [1, 0]
    assert np.shares_memory(chosen.pixels, images.pixels)
    assert len(chosen) == 2


def test_num_classes_does_not_depend_on_the_selection(images: LabelledImages) -> None:
    assert images.take([0]).num_classes == 3


def test_the_pixels_travel_out_of_band(images: LabelledImages) -> None:
    buffers: list[pickle.PickleBuffer] = []
    message = pickle.dumps(images, protocol=5, buffer_callback=buffers.append)
    back = pickle.loads(message, buffers=buffers)
    assert len(message) < 2000
    assert np.shares_memory(back.pixels, images.pixels)
    assert not back.pixels.flags.writeable
    np.testing.assert_array_equal(back.labels, images.labels)
