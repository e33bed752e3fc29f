"""A picture of a training batch as the network sees it: augmented, mixed as the method does, with its labels."""

from __future__ import annotations

import functools
import importlib.util
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data.batches import training_batch
from trainables.data.config import DataConfig
from trainables.data.images import LabelledImages, Pixels
from trainables.methods import METHODS
from trainables.methods.base import MethodConfig
from trainables.methods.cutmix import CutMixConfig
from trainables.methods.manifold_mixup import ManifoldMixupConfig, draw_layer
from trainables.methods.mixing import Cut, Mix, MixableConfig, draw_cut, draw_mix
from trainables.methods.mixup import MixupConfig
from trainables.methods.smile import SmileConfig
from trainables.seeding import seed_for
from trainables.trial import MODEL_SEED, reseeded
from trainables.types import Batch

CPU = torch.device("cpu")
COLUMNS = 6
MIN_TILE_PX, MAX_TILE_PX = 96, 160
"""Sides between which an image is scaled: up by a whole factor, down with antialiasing."""
PADDING_PX, LINE_PX, FONT_PX = 8, 16, 12
BACKGROUND, TEXT, FAINT = "#ffffff", "#222222", "#666666"


@dataclass(frozen=True, eq=False)
class Shown:
    """A training batch as the network sees it.

    `images` are uint8 N×S×S×3, `labels` N lines for each, and `mixing` says how inputs are mixed ("" if they are not).
    """

    images: Pixels
    labels: list[list[str]]
    mixing: str


def preview_png(
    config: TrialConfig,
    examples: LabelledImages,
    step: int = 1,
    num_images: int = 24,
    max_tile_px: int = MAX_TILE_PX,
) -> bytes:
    """A sheet of at most `num_images` images of the batch of optimiser step `step` (from 1), as a PNG.

    Images larger than `max_tile_px` are shown at that side.

    The batch is that of the retraining whose network becomes the model, on all of `examples`, the training images. It
    is computed on the CPU.

        Path("preview.png").write_bytes(preview_png(config, load_train(config.data)))
    """
    shown = training_inputs(config, examples, step)
    num_shown = f"{min(num_images, len(shown.images))} of {len(shown.images)}"
    heading = f"Training batch of step {step}: {num_shown} images of {config.data.size_px} px"
    lines = [heading, in_words(config.data), *filter(None, [shown.mixing])]
    sheet = _sheet(shown.images[:num_images], shown.labels[:num_images], lines, max_tile_px)
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def training_inputs(config: TrialConfig, examples: LabelledImages, step: int = 1) -> Shown:
    """The inputs of the student at optimiser step `step`, before normalisation; of two views, both, one after another.

    Inputs that are mixed after normalisation are mixed before it here, which is the same up to rounding to 256 levels.
    """
    seed = seed_for(reseeded(config, MODEL_SEED).seed, "full")
    num_views = METHODS[config.method.name].num_views
    batch = training_batch(examples, config.data, config.training.batch_size, seed, step, CPU, num_views)
    pixels, mix, words = mixed_pixels(config.method, batch, seed)
    images, labels = _as_images(pixels), _labels(batch.labels, mix, examples.class_names)
    if batch.second_inputs is not None:
        second = _as_images(batch.second_inputs)
        images = np.stack([images, second], axis=1).reshape(-1, *images.shape[1:])
        labels = [lines for label in labels for lines in (label, [*label, "second view"])]
    return Shown(images, labels, words)


def mixed_pixels(config: MethodConfig, batch: Batch, seed: int) -> tuple[Tensor, Mix, str]:
    """The pixels N×3×S×S that the method of `config` makes of those of `batch`, the mix of its labels, and a caption.

    `seed` is that of the training. A method that mixes no inputs leaves them as they are.
    """
    pixels = batch.inputs.float()
    drawn = _draw(config, pixels, batch, seed)
    match drawn:
        case Mix():
            return drawn.blend(pixels), drawn, f"{config.name}: mixup with λ = {drawn.weight:.2f}"
        case Cut():
            share = f"{1 - drawn.labels.weight:.0%} of the area"
            return drawn.paste(pixels), drawn.labels, f"{config.name}: CutMix of {share}"
    return pixels, Mix(1.0, torch.arange(len(pixels))), ""


def _draw(config: MethodConfig, pixels: Tensor, batch: Batch, seed: int) -> Mix | Cut | None:
    """The draw with which the method mixes the inputs of `batch`; None if it mixes none."""
    match config:
        case MixupConfig(alpha=alpha) | SmileConfig(alpha=alpha) | MixableConfig(mixing="mixup", mixing_alpha=alpha):
            return draw_mix(len(pixels), alpha, CPU, seed, batch.step)
        case ManifoldMixupConfig(alpha=alpha) if draw_layer(config.deepest_layer, seed, batch.step) == 0:
            return draw_mix(len(pixels), alpha, CPU, seed, batch.step)
        case CutMixConfig(alpha=alpha, probability=probability):
            return draw_cut(pixels, alpha, probability, seed, batch.step)
        case MixableConfig(mixing="cutmix", mixing_alpha=alpha, cutmix_probability=probability):
            return draw_cut(pixels, alpha, probability, seed, batch.step)
    return None


def in_words(data: DataConfig) -> str:
    """The augmentations of `data` in words.

    >>> in_words(DataConfig(dataset="digits", flip=False, erasing=0.25))
    'crop random, erasing 0.25'
    """
    words = [f"crop {data.crop}"]
    if data.crop == "random_resized":
        words = [f"crop random_resized (area from {data.crop_area:g}, aspect to {data.crop_aspect:.3g})"]
    words += ["flip"] if data.flip else []
    words += [f"color_jitter {data.color_jitter:g}"] if data.color_jitter else []
    if data.auto_augment != "none":
        magnitude = f" (magnitude {data.auto_augment_magnitude})" if data.auto_augment == "rand_augment" else ""
        words.append(f"{data.auto_augment}{magnitude}")
    return ", ".join([*words, *([f"erasing {data.erasing:g}"] if data.erasing else [])])


def _labels(labels_N: Tensor, mix: Mix, class_names: Sequence[str]) -> list[list[str]]:
    """The lines below each image: its class, or both classes with their shares, where the smaller is not 0 %."""
    of_all = []
    for label, other in zip(labels_N.tolist(), labels_N[mix.partner].tolist(), strict=True):
        own, partner = class_names[label], class_names[other]
        if mix.weight > 0.995 or label == other:
            of_all.append([own])
        else:
            of_all.append([f"{mix.weight:.0%} {own}", f"{1 - mix.weight:.0%} {partner}"])
    return of_all


def _as_images(pixels_NCHW: Tensor) -> Pixels:
    images: Pixels = pixels_NCHW.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return images


def _sheet(images: Pixels, labels: Sequence[Sequence[str]], heading: Sequence[str], max_tile_px: int) -> Image.Image:
    """Draws the images in rows of `COLUMNS`, each with its lines below, and the heading above."""
    tiles = [_tile(image, max_tile_px) for image in images]
    side, num_lines = tiles[0].width, max(map(len, labels))
    columns, rows = min(COLUMNS, len(tiles)), -(-len(tiles) // COLUMNS)
    step_x, step_y = side + PADDING_PX, side + PADDING_PX + num_lines * LINE_PX
    width = max(columns * step_x + PADDING_PX, *(round(_font().getlength(line)) + 2 * PADDING_PX for line in heading))
    top = len(heading) * LINE_PX + 2 * PADDING_PX
    sheet = Image.new("RGB", (width, top + rows * step_y), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _write(draw, heading, PADDING_PX, PADDING_PX, width, FAINT)
    for number, (tile, lines) in enumerate(zip(tiles, labels, strict=True)):
        row, column = divmod(number, COLUMNS)
        x, y = PADDING_PX + column * step_x, top + row * step_y
        sheet.paste(tile, (x, y))
        _write(draw, lines, x, y + side, side, TEXT)
    return sheet


def _tile(image: Pixels, max_px: int) -> Image.Image:
    """The image at a size between `MIN_TILE_PX` and `max_px`, as it is where it has one."""
    tile = Image.fromarray(image)
    if tile.width < MIN_TILE_PX:
        side = tile.width * -(-MIN_TILE_PX // tile.width)
        return tile.resize((side, side), Image.Resampling.NEAREST)
    side = min(tile.width, max_px)
    return tile.resize((side, side), Image.Resampling.LANCZOS) if side < tile.width else tile


def _write(draw: ImageDraw.ImageDraw, lines: Iterable[str], x: int, y: int, width: int, colour: str) -> None:
    for number, line in enumerate(lines):
        draw.text((x, y + number * LINE_PX), _shortened(line, width), fill=colour, font=_font())


def _shortened(line: str, width: int) -> str:
    """The line, or as much of it as is not wider than `width`, and an ellipsis."""
    if _font().getlength(line) <= width:
        return line
    while line and _font().getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which comes with matplotlib; else Pillow's own font, which has few letters beyond ASCII."""
    found = importlib.util.find_spec("matplotlib")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        file = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if file.is_file():
            return ImageFont.truetype(str(file), FONT_PX)
    return ImageFont.load_default(FONT_PX)
