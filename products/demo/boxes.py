"""Demo products with corners: books and cartons."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from products.demo.artwork import emblem, mixed, printed, readable_on, small_print, write
from products.demo.design import Design
from products.demo.shading import View, render_box

PIXELS = 560


def book(design: Design, view: View) -> Image.Image:
    width, height, depth = ((0.62, 0.9, 0.12), (0.7, 0.8, 0.08), (0.56, 0.86, 0.2))[design.model % 3]
    palette = design.palette
    spine_color = mixed(palette.base, palette.second, 0.35)
    spine = Image.new("RGB", (round(height * PIXELS), max(40, round(depth * PIXELS))), spine_color)
    write(
        spine,
        design.name,
        (spine.width * 0.45, spine.height / 2),
        (spine.width * 0.5, spine.height * 0.7),
        readable_on(spine_color),
    )
    pages = _pages((max(20, round(depth * PIXELS)), round(height * PIXELS)))
    front, back = _front(design, width, height), _back(design, width, height)
    faces = {
        "front": front,
        "back": back,
        "left": spine.transpose(Image.Transpose.ROTATE_270),
        "right": pages,
        "top": _pages((round(width * PIXELS), max(20, round(depth * PIXELS)))).transpose(Image.Transpose.ROTATE_180),
    }
    return render_box((width, height, depth), faces, view, PIXELS)


def carton(design: Design, view: View) -> Image.Image:
    width, height, depth = ((0.6, 0.86, 0.2), (0.5, 0.7, 0.34), (0.72, 0.52, 0.3))[design.model % 3]
    palette = design.palette
    side = printed((round(depth * PIXELS), round(height * PIXELS)), palette, "plain", design.seed)
    margin = side.width // 8
    small_print(
        side,
        (margin, side.height // 5, side.width - margin, side.height * 4 // 5),
        readable_on(palette.base),
        design.seed,
    )
    top = Image.new("RGB", (round(width * PIXELS), round(depth * PIXELS)), mixed(palette.base, palette.second, 0.25))
    ImageDraw.Draw(top).line((0, top.height / 2, top.width, top.height / 2), mixed(palette.base, (0, 0, 0), 0.35), 4)
    faces = {
        "front": _front(design, width, height),
        "back": _back(design, width, height),
        "left": side,
        "right": side,
        "top": top,
    }
    return render_box((width, height, depth), faces, view, PIXELS)


def _front(design: Design, width: float, height: float) -> Image.Image:
    palette = design.palette
    sheet = printed((round(width * PIXELS), round(height * PIXELS)), palette, design.pattern, design.seed)
    middle, radius = sheet.width / 2, min(sheet.size) * 0.26
    emblem(sheet, design.emblem, (middle, sheet.height * 0.58), radius, palette.accent, palette.base)
    title = (sheet.width * 0.07, sheet.height * 0.07, sheet.width * 0.93, sheet.height * 0.24)
    ImageDraw.Draw(sheet).rectangle(title, fill=palette.accent)
    write(
        sheet,
        design.name.upper(),
        (middle, sheet.height * 0.155),
        (sheet.width * 0.74, sheet.height * 0.13),
        readable_on(palette.accent),
    )
    write(
        sheet,
        design.brand,
        (middle, sheet.height * 0.92),
        (sheet.width * 0.34, sheet.height * 0.08),
        readable_on(palette.base),
    )
    return sheet


def _back(design: Design, width: float, height: float) -> Image.Image:
    palette = design.palette
    sheet = printed((round(width * PIXELS), round(height * PIXELS)), palette, design.pattern, design.seed + 1)
    box = (sheet.width // 8, sheet.height // 7, sheet.width * 7 // 8, sheet.height * 6 // 7)
    ImageDraw.Draw(sheet).rectangle((box[0] - 16, box[1] - 16, box[2] + 16, box[3] + 16), fill=palette.base)
    small_print(sheet, box, readable_on(palette.base), design.seed)
    return sheet


def _pages(size: tuple[int, int]) -> Image.Image:
    """The cut edges of paper, as upright lines."""
    lines = np.random.default_rng(size[0]).integers(205, 245, size[0])
    tint = np.array([1.0, 0.975, 0.92])
    return Image.fromarray(np.broadcast_to((lines[None, :, None] * tint), (size[1], size[0], 3)).astype(np.uint8))
