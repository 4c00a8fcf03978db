"""Demo products that are sewn: sneakers, backpacks and plush toys, built from padded parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from products.demo.artwork import Color, emblem, mixed, printed, write
from products.demo.design import Design
from products.demo.shading import Point, View, drop_shadow, padded

SIDE = 480
UNIT = SIDE / 100  # shapes are drawn on a square of 100 x 100, downwards
DARK: Color = (34, 32, 38)
CREAM: Color = (244, 239, 228)


class Padding:
    """A product as it grows: each part lies on those before it and shades them."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.picture = Image.new("RGBA", (SIDE, SIDE))

    def lay(self, outline: Image.Image, surface: Image.Image | Color, roundness: float, gloss: float = 0.1) -> None:
        sheet = surface if isinstance(surface, Image.Image) else Image.new("RGB", (SIDE, SIDE), surface)
        self.picture = drop_shadow(self.picture, outline, 5, (round(-5 * self.view.light), 6))
        self.picture.alpha_composite(padded(outline, sheet, self.view, roundness * UNIT, gloss))

    def finished(self) -> Image.Image:
        """Turned a little: a product that is seen at an angle looks narrower."""
        seen = self.picture.crop(self.picture.getbbox())
        return seen.resize(
            (max(1, round(seen.width * abs(math.cos(self.view.yaw)))), seen.height), Image.Resampling.BICUBIC
        )


def sneaker(design: Design, view: View) -> Image.Image:
    palette, high = design.palette, design.model % 2
    ankle = 8 if high else 22
    shoe = Padding(view)
    upper = [
        (9, 62),
        (8, 48),
        (10, ankle + 4),
        (16, ankle),
        (32, ankle + 4),
        (40, 36),
        (52, 44),
        (68, 51),
        (84, 55),
        (95, 62),
        (94, 67),
        (50, 68),
        (10, 68),
    ]
    opening = [(11, ankle + 3), (18, ankle - 1), (31, ankle + 3), (33, ankle + 7), (20, ankle + 8)]
    shoe.lay(curve(opening), mixed(palette.accent, DARK, 0.5), 2)
    shoe.lay(curve(upper), printed((SIDE, SIDE), palette, design.pattern, design.seed), 5, 0.12)
    shoe.lay(curve([(74, 53), (85, 54), (95, 60), (96, 67), (80, 68), (72, 66)]), palette.second, 3)
    shoe.lay(
        curve([(8, 66), (8, 50), (9, ankle + 8), (15, ankle + 9), (18, 48), (21, 60), (21, 68)]), palette.accent, 2.5
    )
    shoe.lay(
        curve([(34, ankle + 10), (41, 34), (58, 45), (68, 50), (60, 54), (46, 47), (36, 40)]),
        mixed(palette.base, CREAM, 0.35),
        1.5,
    )
    for lace in range(5):
        x, y = 39 + 5.2 * lace, 35.5 + 3.4 * lace
        shoe.lay(stroke([(x - 3, y + 4.5), (x + 4, y - 0.5)], 2.1), CREAM, 0.7)
    if math.cos(view.yaw) > 0:
        for stripe in range(3):
            x = 42 + 6 * stripe
            shoe.lay(stroke([(x - 6, 65), (x + 1, 53)], 2.8), palette.accent, 0.8)
    else:
        shoe.lay(stroke([(26, 62), (38, 65), (50, 60), (62, 58)], 3.2), palette.second, 0.9)
    shoe.lay(
        curve([(5, 66), (14, 65), (50, 67), (92, 64), (98, 67), (96, 74), (86, 77), (12, 77), (5, 74)]), CREAM, 2.5
    )
    shoe.lay(stroke([(8, 73.5), (50, 74.5), (94, 72.5)], 1.6), palette.accent, 0.5)
    shoe.lay(stroke([(9, 77), (50, 78), (90, 77)], 2.2), mixed(palette.base, DARK, 0.5), 0.8)
    return shoe.finished() if math.cos(view.yaw) > 0 else ImageOps.mirror(shoe.finished())


def backpack(design: Design, view: View) -> Image.Image:
    palette = design.palette
    bag = Padding(view)
    dark = mixed(palette.base, DARK, 0.55)
    round_top = (30, 16, 8)[design.model % 3]
    cloth = printed((SIDE, SIDE), palette, design.pattern, design.seed)
    bag.lay(stroke([(40, 14), (42, 5), (58, 5), (60, 14)], 3.5), dark, 1.2)
    bag.lay(rounded((14, 52, 32, 88), 7), mixed(palette.base, DARK, 0.25), 4)
    bag.lay(rounded((68, 52, 86, 88), 7), mixed(palette.base, DARK, 0.25), 4)
    bag.lay(rounded((20, 10, 80, 95), round_top), cloth, 8)
    if math.cos(view.yaw) > 0:
        bag.lay(stroke([(26, 34), (30, 24), (50, 20), (70, 24), (74, 34)], 1.4), dark, 0.5)
        bag.lay(rounded((27, 55, 73, 90), 9), mixed(palette.second, palette.base, 0.15), 5)
        bag.lay(stroke([(31, 62), (69, 62)], 1.4), dark, 0.5)
        bag.lay(stroke([(64, 62), (66, 70)], 1.8), palette.accent, 0.7)
        patch = Image.new("RGB", (SIDE, SIDE), palette.accent)
        emblem(patch, design.emblem, (50 * UNIT, 39 * UNIT), 8 * UNIT, palette.accent, palette.base)
        bag.lay(rounded((40, 29, 60, 49), 10), patch, 1)
        tag = Image.new("RGB", (SIDE, SIDE), CREAM)
        write(tag, design.brand, (50 * UNIT, 77 * UNIT), (16 * UNIT, 5 * UNIT), DARK)
        bag.lay(rounded((40, 73.5, 60, 80.5), 1), tag, 0.6)
    else:
        bag.lay(rounded((27, 22, 73, 90), 12), mixed(palette.base, DARK, 0.4), 4)
        for x in (35, 65):
            bag.lay(stroke([(x, 14), (x - 2, 40), (x + (x - 50) * 0.5, 86)], 8), palette.second, 3)
            bag.lay(stroke([(x - 1.5, 36), (x + 1.5, 36)], 5), palette.accent, 1)
        bag.lay(stroke([(33, 44), (67, 44)], 2.4), dark, 0.8)
    return bag.finished()


def plush_toy(design: Design, view: View) -> Image.Image:
    palette, animal = design.palette, design.model % 3
    fur = _fur(palette.base, design.seed)
    pale = _fur(mixed(palette.base, CREAM, 0.6), design.seed)
    inner = mixed(palette.accent, CREAM, 0.35)
    toy, front = Padding(view), math.cos(view.yaw) > 0
    if animal == 0:  # a bear
        ears = [(oval(31, 14, 9, 9), oval(31, 15, 5, 5)), (oval(69, 14, 9, 9), oval(69, 15, 5, 5))]
    elif animal == 1:  # a rabbit
        ears = [(oval(38, 10, 6, 17), oval(38, 11, 3, 12)), (oval(62, 10, 6, 17), oval(62, 11, 3, 12))]
    else:  # a cat
        ears = [
            (curve([(26, 24), (28, 3), (46, 13)]), curve([(30, 19), (31, 9), (40, 14)])),
            (curve([(74, 24), (72, 3), (54, 13)]), curve([(70, 19), (69, 9), (60, 14)])),
        ]
    for outer, middle in ears:
        toy.lay(outer, fur, 3)
        if front:
            toy.lay(middle, inner, 2)
    for x in (25, 75):
        toy.lay(oval(x, 60, 9, 15), fur, 5)
    for x in (35, 65):
        toy.lay(oval(x, 87, 13, 10), fur, 5)
    toy.lay(oval(50, 68, 24, 25), fur, 9)
    if front:
        toy.lay(oval(50, 70, 15, 17), pale, 6)
        for x in (35, 65):
            toy.lay(oval(x, 89, 6, 5), inner, 2)
    else:
        toy.lay(oval(50, 82, 6, 6) if animal < 2 else stroke([(50, 84), (66, 88), (74, 76)], 5), pale, 3)
    toy.lay(oval(50, 30, 27, 23), fur, 9)
    if front:
        toy.lay(oval(50, 38, 12, 9), pale, 4)
        for x in (39, 61):
            toy.lay(oval(x, 28, 3, 3.4), DARK, 1.2, 0.9)
        toy.lay(oval(50, 34, 4, 2.8), DARK, 1.2, 0.7)
        toy.lay(stroke([(45, 41), (50, 43.5), (55, 41)], 1.1), DARK, 0.4)
    scarf = printed((SIDE, SIDE), palette, design.pattern, design.seed)
    scarf = Image.blend(scarf, Image.new("RGB", scarf.size, palette.second), 0.55)
    toy.lay(stroke([(30, 48), (50, 54), (70, 48)], 7), scarf, 2.5)
    if front:
        toy.lay(stroke([(60, 53), (66, 68)], 7), scarf, 2.5)
    return toy.finished()


def curve(points: Sequence[Point]) -> Image.Image:
    """The outline (L) of a closed Catmull-Rom curve through ``points``."""
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    p = np.array(points, dtype=float)
    before, after, last = np.roll(p, 1, axis=0), np.roll(p, -1, axis=0), np.roll(p, -2, axis=0)
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(before, p, after, last, strict=True)
    ]
    return _outline(lambda draw, unit: draw.polygon([(x * unit, y * unit) for x, y in np.concatenate(parts)], fill=255))


def stroke(points: Sequence[Point], width: float) -> Image.Image:
    """The outline (L) of a band along ``points`` with round ends."""

    def paint(draw: ImageDraw.ImageDraw, unit: float) -> None:
        along = [(x * unit, y * unit) for x, y in points]
        draw.line(along, fill=255, width=round(width * unit), joint="curve")
        for end in (along[0], along[-1]):
            draw.circle(end, width * unit / 2, fill=255)

    return _outline(paint)


def oval(x: float, y: float, across: float, down: float) -> Image.Image:
    return _outline(
        lambda draw, unit: draw.ellipse(
            tuple(each * unit for each in (x - across, y - down, x + across, y + down)), fill=255
        )
    )


def rounded(box: tuple[float, float, float, float], radius: float) -> Image.Image:
    return _outline(
        lambda draw, unit: draw.rounded_rectangle(tuple(each * unit for each in box), radius * unit, fill=255)
    )


def _outline(paint: Callable[[ImageDraw.ImageDraw, float], None]) -> Image.Image:
    """Painted at twice the size and reduced, so that edges are smooth."""
    large = Image.new("L", (2 * SIDE, 2 * SIDE))
    paint(ImageDraw.Draw(large), 2 * UNIT)
    return large.reduce(2)


def _fur(color: Color, seed: int) -> Image.Image:
    """Short fur: grain of several sizes in ``color``."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(90, 166, (SIDE // 5, SIDE // 5), dtype=np.uint8)).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )
    fine = random.integers(108, 149, (SIDE, SIDE))
    grain = (np.asarray(coarse, np.float32) + fine) / 256
    return Image.fromarray(np.clip(np.array(color) * grain[..., None], 0, 255).astype(np.uint8))
