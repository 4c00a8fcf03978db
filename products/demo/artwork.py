"""What is printed on the demo's products: palettes, patterns, emblems and lettering."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

Color = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Palette:
    """Three colours that go together: most of the product, its pattern, and what should catch the eye."""

    base: Color
    second: Color
    accent: Color


def _palette(base: str, second: str, accent: str) -> Palette:
    first, then, last = (ImageColor.getcolor(f"#{each}", "RGB") for each in (base, second, accent))
    return Palette(first, then, last)  # type: ignore[arg-type]  # "RGB" gives three numbers


PALETTES = (
    _palette("1f4e5f", "79a8a9", "f4b942"),
    _palette("f2e8cf", "a7c957", "bc4749"),
    _palette("e07a5f", "f4f1de", "3d405b"),
    _palette("264653", "2a9d8f", "e9c46a"),
    _palette("f6bd60", "f7ede2", "84513b"),
    _palette("6d597a", "b56576", "eaac8b"),
    _palette("d8e2dc", "ffcad4", "9d4edd"),
    _palette("0b3954", "bfd7ea", "ff6663"),
    _palette("606c38", "dda15e", "fefae0"),
    _palette("c1121f", "fdf0d5", "003049"),
    _palette("3a5a40", "a3b18a", "f2cc8f"),
    _palette("ffafcc", "bde0fe", "5a4fcf"),
    _palette("2b2d42", "8d99ae", "ef233c"),
    _palette("fb8500", "ffd166", "023047"),
    _palette("4cc9f0", "f1faee", "f72585"),
    _palette("7f4f24", "d4a373", "e9edc9"),
    _palette("9a031e", "e36414", "fb8b24"),
    _palette("eeeeea", "3c6e71", "d9594c"),
)


def mixed(one: Color, other: Color, share: float) -> Color:
    """``one`` with ``share`` (0 to 1) of ``other``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def readable_on(color: Color) -> Color:
    """Near-black or near-white lettering, whichever stands out from ``color``."""
    red, green, blue = color
    return (38, 34, 34) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (250, 246, 238)


def printed(size: tuple[int, int], palette: Palette, pattern: str, seed: int) -> Image.Image:
    """A sheet (width, height) of ``palette.base`` with one of PATTERNS in the other two colours."""
    sheet = Image.new("RGB", size, palette.base)
    PATTERNS[pattern](ImageDraw.Draw(sheet), size, palette, np.random.default_rng(seed))
    return sheet


def write(sheet: Image.Image, text: str, centre: Point, room: Point, color: Color) -> None:
    """Letter ``text`` in one line around ``centre``, as large as ``room`` (width, height) in pixels allows."""
    draw = ImageDraw.Draw(sheet)
    probe = ImageFont.load_default(size=40)
    size = max(8.0, min(40 * room[0] / draw.textlength(text, font=probe), room[1]))
    draw.text(centre, text, fill=color, font=ImageFont.load_default(size=size), anchor="mm", stroke_width=size / 40)


def small_print(sheet: Image.Image, box: tuple[int, int, int, int], color: Color, seed: int) -> None:
    """Lines that read as small print from afar, with a bar code below, in ``box`` (left, top, right, bottom)."""
    draw = ImageDraw.Draw(sheet)
    random = np.random.default_rng(seed)
    left, top, right, bottom = box
    line = max(2, (bottom - top) // 22)
    for y in range(top, bottom - 5 * line, 2 * line):
        draw.rectangle((left, y, left + (right - left) * random.uniform(0.6, 1.0), y + line * 0.6), fill=color)
    draw.rectangle((left, bottom - 5 * line, right, bottom), fill=(248, 248, 246))
    x = left + line
    while x < right - line:
        bar = int(random.integers(1, max(2, line // 2) + 1))
        draw.rectangle((x, bottom - 4.5 * line, x + bar - 1, bottom - line * 0.6), fill=(25, 25, 25))
        x += bar + int(random.integers(1, max(2, line // 2) + 2))


def emblem(sheet: Image.Image, shape: str, centre: Point, radius: float, ink: Color, ground: Color) -> None:
    """One of EMBLEMS in ``ink`` on a round ``ground``."""
    draw = ImageDraw.Draw(sheet)
    x, y = centre
    draw.circle((x, y), radius, fill=ground)
    draw.circle((x, y), radius * 0.9, outline=ink, width=max(1, round(radius * 0.05)))
    inner = radius * 0.62
    if shape == "sun":
        for ray in range(12):
            a = ray * math.pi / 6
            draw.line((x, y, x + inner * 1.15 * math.cos(a), y + inner * 1.15 * math.sin(a)), ink, round(radius / 9))
        draw.circle((x, y), inner * 0.62, fill=ink, outline=ground, width=round(radius / 14))
    elif shape == "leaf":
        edge = [(inner * 0.62 * math.sin(math.pi * part / 12), inner * (part / 6 - 1)) for part in range(13)]
        draw.polygon(
            [(x + out, y + down) for out, down in edge] + [(x - out, y + down) for out, down in reversed(edge)], ink
        )
        draw.line((x, y - inner * 0.9, x, y + inner * 1.1), ground, round(radius / 12))
    elif shape == "peak":
        draw.polygon(
            [(x - inner, y + inner * 0.6), (x - inner * 0.1, y - inner * 0.8), (x + inner, y + inner * 0.6)], ink
        )
        draw.polygon(
            [
                (x - inner * 0.38, y - inner * 0.36),
                (x - inner * 0.1, y - inner * 0.8),
                (x + inner * 0.26, y - inner * 0.34),
            ],
            ground,
        )
    elif shape == "star":
        reach = [inner * (1.1 if tip % 2 else 0.5) for tip in range(10)]
        turns = [math.pi * (tip + 1) / 5 for tip in range(10)]
        draw.polygon([(x + r * math.sin(a), y - r * math.cos(a)) for r, a in zip(reach, turns, strict=True)], ink)
    elif shape == "flower":
        for petal in range(6):
            a = petal * math.pi / 3
            draw.circle((x + inner * 0.6 * math.cos(a), y + inner * 0.6 * math.sin(a)), inner * 0.42, fill=ink)
        draw.circle((x, y), inner * 0.34, fill=ground)
    else:
        draw.polygon([(x, y - inner), (x + inner * 0.75, y), (x, y + inner), (x - inner * 0.75, y)], ink)


EMBLEMS = ("sun", "leaf", "peak", "star", "flower", "diamond")


Pattern = Callable[[ImageDraw.ImageDraw, tuple[int, int], Palette, np.random.Generator], None]


def _plain(_draw: ImageDraw.ImageDraw, _size: tuple[int, int], _palette: Palette, _random: np.random.Generator) -> None:
    """The base colour is all."""


def _bands(draw: ImageDraw.ImageDraw, size: tuple[int, int], palette: Palette, random: np.random.Generator) -> None:
    width, height = size
    y = height * random.uniform(0.05, 0.15)
    while y < height:
        thick = height * random.uniform(0.04, 0.12)
        draw.rectangle((0, y, width, y + thick), palette.second)
        draw.rectangle((0, y + thick * 1.2, width, y + thick * 1.45), palette.accent)
        y += thick + height * random.uniform(0.12, 0.22)


def _stripes(draw: ImageDraw.ImageDraw, size: tuple[int, int], palette: Palette, random: np.random.Generator) -> None:
    width, height = size
    step, slant = width / int(random.integers(10, 18)), height * random.choice([0.0, 0.35, -0.35])
    for index in range(-12, 32):
        x = index * step
        draw.polygon(
            [(x, 0), (x + step * 0.45, 0), (x + step * 0.45 + slant, height), (x + slant, height)], palette.second
        )


def _dots(draw: ImageDraw.ImageDraw, size: tuple[int, int], palette: Palette, random: np.random.Generator) -> None:
    width, height = size
    step = width / int(random.integers(12, 20))
    radius = step * random.uniform(0.2, 0.34)
    for row in range(int(height / step) + 2):
        for column in range(int(width / step) + 2):
            ink = palette.accent if (row * 3 + column) % 7 == 0 else palette.second
            draw.circle(((column + row % 2 / 2) * step, row * step), radius, fill=ink)


def _waves(draw: ImageDraw.ImageDraw, size: tuple[int, int], palette: Palette, random: np.random.Generator) -> None:
    width, height = size
    lines = int(random.integers(5, 9))
    turns = int(random.integers(5, 9))
    for line in range(lines):
        base, swing = height * (line + 0.5) / lines, height * 0.25 / lines
        points = [(x, base + swing * math.sin(2 * math.pi * turns * x / width)) for x in range(0, width + 6, 6)]
        draw.line(
            points, palette.accent if line % 3 == 2 else palette.second, round(height * 0.3 / lines), joint="curve"
        )


def _hills(draw: ImageDraw.ImageDraw, size: tuple[int, int], palette: Palette, random: np.random.Generator) -> None:
    width, height = size
    for sun in range(4):
        draw.circle((width * (sun + random.uniform(0.3, 0.7)) / 4, height * 0.3), height * 0.11, fill=palette.accent)
    for depth, level in enumerate((0.45, 0.6, 0.75)):
        ink = mixed(palette.second, palette.base, 0.55 - 0.27 * depth)
        phase, turns = random.uniform(0, 6), 4 + depth
        points = [
            (x, height * (level + 0.1 * math.sin(phase + 2 * math.pi * turns * x / width)))
            for x in range(0, width + 6, 6)
        ]
        draw.polygon([(0, height), *points, (width, height)], ink)


def _checks(draw: ImageDraw.ImageDraw, size: tuple[int, int], palette: Palette, random: np.random.Generator) -> None:
    width, height = size
    step = width / (2 * int(random.integers(6, 10)))
    for row in range(int(height / step) + 1):
        for column in range(int(width / step) + 1):
            if (row + column) % 2:
                draw.rectangle(
                    (column * step, row * step, (column + 1) * step - 1, (row + 1) * step - 1), palette.second
                )


def _leaves(draw: ImageDraw.ImageDraw, size: tuple[int, int], palette: Palette, random: np.random.Generator) -> None:
    width, height = size
    for _ in range(70):
        x, y, a = random.uniform(0, width), random.uniform(0, height), random.uniform(0, math.pi)
        long, wide = width * 0.035, width * 0.012
        tip, side = (long * math.cos(a), long * math.sin(a)), (-wide * math.sin(a), wide * math.cos(a))
        ink = palette.accent if random.random() < 0.2 else palette.second
        draw.polygon(
            [
                (x + tip[0], y + tip[1]),
                (x + side[0], y + side[1]),
                (x - tip[0], y - tip[1]),
                (x - side[0], y - side[1]),
            ],
            ink,
        )


PATTERNS: dict[str, Pattern] = {
    "plain": _plain,
    "bands": _bands,
    "stripes": _stripes,
    "dots": _dots,
    "waves": _waves,
    "hills": _hills,
    "checks": _checks,
    "leaves": _leaves,
}
