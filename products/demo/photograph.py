"""How the demo's products are photographed: on what, in which light, and with what a camera adds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from products.demo.artwork import Color, mixed
from products.demo.shading import Floats, View

SIDE = 640
Ground = Literal["paper", "wood", "stone", "linen"]

PAPERS: tuple[Color, ...] = (
    (236, 234, 229), (226, 232, 236), (240, 229, 220), (224, 234, 224),
    (233, 226, 238), (245, 238, 218), (214, 220, 226),
)  # fmt: skip
WALLS: tuple[Color, ...] = (
    (201, 190, 176),
    (150, 164, 168),
    (186, 170, 158),
    (118, 128, 122),
    (205, 205, 200),
    (96, 104, 118),
)
WOODS: tuple[Color, ...] = ((166, 118, 74), (112, 78, 52), (205, 170, 128))


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph. ``zoom`` and ``shift`` are shares of the picture's side, ``roll`` is in degrees.

    ``warmth``: the light from blue (-1) to yellow (1). ``blur`` in pixels, ``noise`` in levels of 255.
    """

    view: View
    ground: Ground
    tone: int
    seed: int
    zoom: float = 0.7
    shift: tuple[float, float] = (0.0, 0.0)
    roll: float = 0.0
    warmth: float = 0.0
    exposure: float = 1.0
    blur: float = 0.0
    noise: float = 2.0


def studio(side: int, random: np.random.Generator) -> Photo:
    """The catalogue's own photographs: paper behind, even light, the front (side 0) or the back (side 1)."""
    turned = random.uniform(-0.4, 0.4) + (0 if side == 0 else math.pi)
    return Photo(
        view=View(turned, random.uniform(0.2, 0.34), random.choice([-0.7, 0.7])),
        ground="paper",
        tone=int(random.integers(len(PAPERS))),
        seed=int(random.integers(2**31)),
        zoom=random.uniform(0.68, 0.76),
        warmth=random.uniform(-0.15, 0.15),
        exposure=random.uniform(0.96, 1.04),
    )


def snapshot(random: np.random.Generator) -> Photo:
    """A photograph of a delivery: wherever it was put down, in whatever light, from about the front."""
    grounds: tuple[Ground, ...] = ("wood", "stone", "linen", "paper")
    return Photo(
        view=View(
            random.uniform(0.25, 0.65) * random.choice([-1, 1]), random.uniform(0.14, 0.5), random.uniform(-1, 1)
        ),
        ground=grounds[int(random.integers(4))],
        tone=int(random.integers(60)),
        seed=int(random.integers(2**31)),
        zoom=random.uniform(0.62, 0.92),
        shift=(random.uniform(-0.06, 0.06), random.uniform(-0.03, 0.05)),
        roll=random.uniform(-7, 7),
        warmth=random.uniform(-0.6, 0.9),
        exposure=random.uniform(0.9, 1.2),
        blur=random.uniform(0.3, 1.1),
        noise=random.uniform(4, 9),
    )


def photograph(product: Image.Image, photo: Photo) -> Image.Image:
    """``product`` (RGBA, cut out, its foot on the lower edge) as taken by ``photo``, RGB of SIDE x SIDE pixels."""
    random = np.random.default_rng(photo.seed)
    scene = _ground(photo, random).convert("RGBA")
    scale = SIDE * photo.zoom / max(product.size)
    product = product.resize((round(product.width * scale), round(product.height * scale)), Image.Resampling.LANCZOS)
    left = round((SIDE - product.width) / 2 + photo.shift[0] * SIDE)
    foot = round(SIDE * 0.5 + product.height * 0.5 + (0.05 + photo.shift[1]) * SIDE)
    foot = min(foot, round(SIDE * 0.95))
    _cast_shadow(scene, product, left, foot, photo.view.light)
    scene.alpha_composite(product, (max(left, 0), max(foot - product.height, 0)))
    taken = scene.convert("RGB")
    if photo.roll:
        # Cropped inside the turned picture, so that no corner stays empty.
        keep = 1 / (math.cos(math.radians(photo.roll)) + math.sin(math.radians(abs(photo.roll))))
        margin = SIDE * (1 - keep) / 2
        turned = taken.rotate(photo.roll, Image.Resampling.BICUBIC)
        box = (margin, margin, SIDE - margin, SIDE - margin)
        taken = turned.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    if photo.blur:
        taken = taken.filter(ImageFilter.GaussianBlur(photo.blur))
    return _developed(taken, photo, random)


def _developed(taken: Image.Image, photo: Photo, random: np.random.Generator) -> Image.Image:
    """Tinted by the light, darker towards the corners, with the sensor's noise."""
    across = np.linspace(-1, 1, SIDE, dtype=np.float32)
    vignette = 1 - (0.05 if photo.ground == "paper" else 0.12) * (across[:, None] ** 2 + across**2)
    light = vignette * (1 + 0.06 * photo.view.light * across) * np.float32(photo.exposure)
    grain = random.standard_normal((SIDE, SIDE), np.float32) * np.float32(photo.noise)
    tint = (1 + 0.1 * photo.warmth, 1.0, 1 - 0.14 * photo.warmth)
    channels = [
        np.clip(np.asarray(channel) * (light * np.float32(gain)) + grain, 0, 255).astype(np.uint8)
        for channel, gain in zip(taken.split(), tint, strict=True)
    ]
    return Image.merge("RGB", [Image.fromarray(channel) for channel in channels])


def _cast_shadow(scene: Image.Image, product: Image.Image, left: int, foot: int, light: float) -> None:
    """A long soft shadow away from the light and a dark narrow one where the product stands."""
    alpha = product.getchannel("A")
    width, height = product.size
    flat = alpha.resize((width, max(8, round(height * 0.22))), Image.Resampling.BILINEAR)
    long_one = Image.new("L", scene.size)
    lean = -light * 0.9
    sheared = flat.transform(
        (width + height, flat.height), Image.Transform.AFFINE, (1, lean, -height / 2 - lean * flat.height, 0, 1, 0)
    )
    long_one.paste(
        sheared.point(lambda level: level * 0.5), (left - height // 2, foot - flat.height + round(height * 0.015))
    )
    long_one = long_one.filter(ImageFilter.BoxBlur(22))
    contact = Image.new("L", scene.size)
    base = alpha.crop((0, round(height * 0.9), width, height)).getbbox() or (0, 0, width, 1)
    box = (left + base[0], foot - 0.07 * (base[2] - base[0]), left + base[2], foot + 0.035 * (base[2] - base[0]))
    ImageDraw.Draw(contact).ellipse(box, fill=170)
    contact = contact.filter(ImageFilter.BoxBlur(9))
    for shadow in (long_one, contact):
        dark = Image.new("RGBA", scene.size, (24, 18, 22, 0))
        dark.putalpha(shadow)
        scene.alpha_composite(dark)


def _ground(photo: Photo, random: np.random.Generator) -> Image.Image:
    """What the product stands on and what is behind it."""
    if photo.ground == "paper":
        paper = PAPERS[photo.tone % len(PAPERS)]
        level = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None, None]
        shade = 1.05 - 0.07 * np.exp(-(((level - 0.66) / 0.14) ** 2)) - 0.04 * level
        return _as_image(np.broadcast_to(np.array(paper, np.float32) * shade, (SIDE, SIDE, 3)))
    wall = np.array(WALLS[photo.tone % len(WALLS)], np.float32)
    horizon = round(SIDE * random.uniform(0.34, 0.5))
    scene = np.empty((SIDE, SIDE, 3), np.float32)
    scene[:] = wall * (0.86 + 0.2 * _clouds(random, 5))[..., None]
    scene[horizon:] = SURFACES[photo.ground](photo, random)[: SIDE - horizon]
    picture = _as_image(scene)
    # The far edge of the table and the wall behind it are out of focus.
    far = picture.crop((0, 0, SIDE, horizon + 90)).filter(ImageFilter.BoxBlur(7))
    sharpness = np.clip((np.arange(far.height) - horizon) / 70, 0, 1)[:, None] * np.ones((1, SIDE))
    picture.paste(far, (0, 0), Image.fromarray(255 - (sharpness * 255).astype(np.uint8)))
    return picture


def _wood(photo: Photo, random: np.random.Generator) -> Floats:
    wood = WOODS[photo.tone % len(WOODS)]
    planks = int(random.integers(3, 6))
    streaks = _stretched(random, (6, 110)) * 0.6 + _stretched(random, (14, 320)) * 0.4
    shade = 0.72 + 0.5 * streaks
    for plank in range(1, planks):
        row = SIDE * plank // planks
        shade[row - 2 : row + 1] *= 0.55
        shade[row:] *= random.uniform(0.93, 1.07)
    return np.array(wood, np.float32) * shade[..., None]


def _stone(photo: Photo, random: np.random.Generator) -> Floats:
    pale = np.array(mixed(WALLS[(photo.tone + 2) % len(WALLS)], (232, 230, 226), 0.6), np.float32)
    veins = 1 - 0.14 * np.exp(-((np.abs(_clouds(random, 7) - 0.5) / 0.03) ** 2))
    specks = 1 + 0.025 * random.standard_normal((SIDE, SIDE), np.float32)
    return np.asarray(pale * (veins * specks * (0.9 + 0.15 * _clouds(random, 4)))[..., None])


def _linen(photo: Photo, random: np.random.Generator) -> Floats:
    cloth = np.array(mixed(PAPERS[photo.tone % len(PAPERS)], WALLS[photo.tone % len(WALLS)], 0.35), np.float32)
    warp = random.normal(1, 0.05, SIDE).astype(np.float32)
    weft = random.normal(1, 0.05, SIDE).astype(np.float32)
    thread = np.arange(SIDE) % 4 < 2
    woven = np.where(thread[:, None] ^ thread, warp[None, :], weft[:, None])
    return np.asarray(cloth * (woven * (0.84 + 0.22 * _clouds(random, 6)))[..., None])


SURFACES = {"wood": _wood, "stone": _stone, "linen": _linen}


def _clouds(random: np.random.Generator, cells: int) -> Floats:
    """Smooth noise of 0 to 1 with about ``cells`` blobs a side."""
    return _stretched(random, (cells, cells))


def _stretched(random: np.random.Generator, cells: tuple[int, int]) -> Floats:
    """Noise of (columns, rows) cells stretched over the picture."""
    noise = Image.fromarray(random.integers(0, 256, (cells[1], cells[0]), dtype=np.uint8))
    stretched = np.asarray(noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    return np.asarray(stretched / 255)


def _as_image(pixels: Floats) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
