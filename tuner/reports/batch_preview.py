"""Picture of a training batch in the report: what the network sees of the images, small in bytes."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from PIL import Image

from trainables.files import write_whole
from tuner.record.directory import RunDirectory

if TYPE_CHECKING:
    from trainables.config import TrialConfig
    from trainables.data.images import LabelledImages

NUM_IMAGES = 12
MAX_TILE_PX = 96
JPEG_QUALITY = 80


def write_batch_picture(directory: RunDirectory, config: TrialConfig, images: LabelledImages) -> None:
    """Writes the first images of the first batch of the model's training into the run directory. Raises OSError."""
    from trainables.preview import preview_png  # with torch, which a reader of the picture does without

    file = io.BytesIO()
    with Image.open(io.BytesIO(preview_png(config, images, num_images=NUM_IMAGES, max_tile_px=MAX_TILE_PX))) as sheet:
        sheet.convert("RGB").save(file, "JPEG", quality=JPEG_QUALITY)
    write_whole(directory.batch_picture, file.getvalue())


def batch_picture(directory: RunDirectory) -> str:
    """The picture as a `data:` URI; "" where there is none."""
    try:
        content = directory.batch_picture.read_bytes()
    except OSError:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
