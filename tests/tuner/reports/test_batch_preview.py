"""The picture of a training batch: small, and the page's own."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from tests.tuner.reports.evaluated import images
from tests.tuner.tiny import space_of
from trainables.preview import preview_png
from tuner.record.directory import RunDirectory
from tuner.reports.batch_preview import MAX_TILE_PX, NUM_IMAGES, batch_picture, write_batch_picture

PREFIX = "data:image/jpeg;base64,"


def test_it_is_the_preview_as_a_jpeg_of_few_bytes(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert batch_picture(directory) == ""
    config, examples = next(space_of().boundary_configs()), images(30, side_px=40)
    write_batch_picture(directory, config, examples)
    uri = batch_picture(directory)
    assert uri.startswith(PREFIX)
    shown = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(PREFIX))))
    png = preview_png(config, examples, num_images=NUM_IMAGES, max_tile_px=MAX_TILE_PX)
    assert (shown.format, shown.size) == ("JPEG", Image.open(io.BytesIO(png)).size)
    assert directory.batch_picture.stat().st_size < 100_000
