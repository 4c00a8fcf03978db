"""How light falls on the demo's products: turned bodies, boxes, and anything padded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageFilter

Floats = npt.NDArray[np.floating[Any]]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class View:
    """From where a product is seen, angles in radians, and where the light comes from (left -1 to right 1)."""

    yaw: float
    pitch: float
    light: float

    @property
    def towards_light(self) -> tuple[float, float, float]:
        """Unit vector right, up and towards the viewer."""
        x, y, z = 0.75 * self.light, 0.6, 0.75
        length = math.sqrt(x * x + y * y + z * z)
        return x / length, y / length, z / length


@dataclass(frozen=True, slots=True)
class Turned:
    """A body of revolution: radii over its height, what is wrapped around it (the middle in front), how it is closed.

    ``heights`` rise from 0; ``radii`` are in the same unit. ``top`` is the colour of the lid, or of the inside
    of an open vessel. ``gloss``: 0 matt to 1 polished. ``softness``: how far corners are rounded.
    """

    heights: Sequence[float]
    radii: Sequence[float]
    wrap: Image.Image
    top: tuple[int, int, int]
    is_open: bool = False
    gloss: float = 0.4
    softness: float = 0.02


def render_turned(body: Turned, view: View, scale: float) -> Image.Image:
    """The body as seen, RGBA, ``scale`` pixels a unit; the middle of its foot is in the middle of the lower edge.

    Parallel projection: for each pixel the height on the front of the body is found by a few rounds of
    fixed-point iteration, then the wrap is looked up there and lit.
    """
    height, widest = body.heights[-1], max(body.radii)
    sin, cos = math.sin(view.pitch), math.cos(view.pitch)
    columns = math.ceil(2 * widest * scale)
    above, below = (height * cos + body.radii[-1] * sin) * scale, widest * sin * scale
    rows = math.ceil(above + below)
    x = ((np.arange(columns, dtype=np.float32) + 0.5) / columns * 2 - 1) * np.float32(widest)
    up = ((above - np.arange(rows, dtype=np.float32) - 0.5) / np.float32(scale))[:, None]

    window = max(1, round(1024 * body.softness))
    corners = np.interp(np.linspace(0, height, 1024), body.heights, body.radii)
    ends = np.pad(corners, (window, window), "edge")
    radius_at = np.convolve(ends, np.ones(2 * window + 1) / (2 * window + 1), "valid").astype(np.float32)
    slope_at = np.gradient(radius_at, height / 1023).astype(np.float32)
    y = np.broadcast_to(up / cos, (rows, columns))
    for _ in range(5):
        level = np.clip(y * (1023 / height), 0, 1023).astype(np.int32)
        radius = radius_at[level]
        depth = np.sqrt(np.maximum(radius * radius - x * x, 0))
        y = (up + depth * np.float32(sin)) / np.float32(cos)
    on_side = (np.abs(x) <= radius) & (y >= 0) & (y <= height)

    across, towards = x / np.maximum(radius, 1e-6), depth / np.maximum(radius, 1e-6)
    slope = np.clip(slope_at[level], -3, 3)
    length = np.sqrt(1 + slope * slope)
    light = view.towards_light
    lit = (across * light[0] - slope * light[1] + towards * light[2]) / length
    shade = 0.42 + 0.62 * np.maximum(lit, 0) - 0.12 * np.exp(-y / (0.06 * height))
    # The reflections of a window at the light's side and of a card on the other.
    strip = np.exp(-(((across - 0.55 * view.light) / 0.09) ** 2)) + 0.35 * np.exp(
        -(((across + 0.8 * view.light) / 0.05) ** 2)
    )
    glare = body.gloss * 0.55 * strip * (towards > 0.15)

    wrap = np.asarray(body.wrap)
    turn = (np.arctan2(across, towards) + view.yaw) / (2 * math.pi) + 0.5
    texel = wrap[
        np.clip(((1 - y / height) * wrap.shape[0]).astype(np.int32), 0, wrap.shape[0] - 1),
        (turn * wrap.shape[1]).astype(np.int32) % wrap.shape[1],
    ]
    picture = np.zeros((rows, columns, 4), np.uint8)
    color = texel * shade[..., None] + 255 * glare[..., None]
    picture[..., :3] = np.clip(color, 0, 255)
    picture[..., 3] = on_side * 255
    _close_top(picture, body, view, x, (up - height * cos) / max(sin, 1e-6))
    return Image.fromarray(picture)


def _close_top(picture: npt.NDArray[np.uint8], body: Turned, view: View, x: Floats, back: Floats) -> None:
    """Paint the disc at the top where the side does not cover it; ``back``: how far a pixel lies behind the axis."""
    radius = body.radii[-1]
    reach = np.hypot(x, back) / radius
    disc = (reach <= 1) & (picture[..., 3] == 0)
    top = np.asarray(body.top, np.float32)
    if body.is_open:
        # The far wall inside, darker towards the bottom, under a bright rim.
        shade = np.where(
            reach > 0.93, 1.15, 0.55 + 0.3 * np.clip(back / radius, -1, 1) - 0.12 * view.light * x / radius
        )
    else:
        shade = np.where(reach > 0.9, 0.85, 1.02 + 0.1 * view.light * x / radius)
    picture[disc, :3] = np.clip(top * np.broadcast_to(shade, disc.shape)[disc][:, None], 0, 255)
    picture[disc, 3] = 255


def render_box(
    size: tuple[float, float, float], faces: dict[str, Image.Image], view: View, scale: float
) -> Image.Image:
    """A box of (width, height, depth) standing on its foot, RGBA, in perspective, ``scale`` pixels a unit.

    ``faces``: pictures of ``front``, ``back``, ``left``, ``right`` and ``top``. Those turned to the viewer are
    drawn, each as bright as its turn to the light makes it.
    """
    width, height, depth = (each / 2 for each in size)
    corners = {
        "front": [(-width, height, depth), (width, height, depth), (width, -height, depth), (-width, -height, depth)],
        "back": [
            (width, height, -depth),
            (-width, height, -depth),
            (-width, -height, -depth),
            (width, -height, -depth),
        ],
        "right": [(width, height, depth), (width, height, -depth), (width, -height, -depth), (width, -height, depth)],
        "left": [
            (-width, height, -depth),
            (-width, height, depth),
            (-width, -height, depth),
            (-width, -height, -depth),
        ],
        "top": [(-width, height, -depth), (width, height, -depth), (width, height, depth), (-width, height, depth)],
    }
    turn = np.array(
        [[math.cos(view.yaw), 0, math.sin(view.yaw)], [0, 1, 0], [-math.sin(view.yaw), 0, math.cos(view.yaw)]]
    )
    tilt = np.array(
        [[1, 0, 0], [0, math.cos(view.pitch), -math.sin(view.pitch)], [0, math.sin(view.pitch), math.cos(view.pitch)]]
    )
    placed = {name: np.array(points) @ turn.T @ tilt.T for name, points in corners.items()}
    flat = {name: points[:, :2] * [1, -1] * (5 / (5 - points[:, 2:])) * scale for name, points in placed.items()}
    low = np.floor(np.min([points.min(axis=0) for points in flat.values()], axis=0)) - 1
    high = np.ceil(np.max([points.max(axis=0) for points in flat.values()], axis=0)) + 1
    canvas = Image.new("RGBA", (int(high[0] - low[0]), int(high[1] - low[1])))
    for name, points in placed.items():
        quad = flat[name] - low
        edge, other = quad[1] - quad[0], quad[3] - quad[0]
        if edge[0] * other[1] - edge[1] * other[0] <= 1:
            continue  # turned away
        normal = np.cross(points[3] - points[0], points[1] - points[0])
        lit = float(normal @ view.towards_light) / float(np.linalg.norm(normal))
        _lay(canvas, faces[name], quad, 0.55 + 0.5 * max(lit, 0.0))
    return canvas


def _lay(canvas: Image.Image, face: Image.Image, quad: npt.NDArray[np.float64], brightness: float) -> None:
    """Paste ``face`` onto the four points (upper left, clockwise), darkened a little towards its lower edge."""
    width, height = face.size
    source = [(0, 0), (width, 0), (width, height), (0, height)]
    rows, values = [], []
    for (x, y), (u, v) in zip(quad, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    coefficients = tuple(np.linalg.solve(np.array(rows), np.array(values)))
    ramp = np.linspace(1.04, 0.9, height)[:, None, None] * brightness
    lit = Image.fromarray(np.clip(np.asarray(face) * ramp, 0, 255).astype(np.uint8)).convert("RGBA")
    laid = lit.transform(canvas.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    canvas.alpha_composite(laid)


def padded(mask: Image.Image, surface: Image.Image, view: View, roundness: float, gloss: float = 0.15) -> Image.Image:
    """``surface`` in the outline ``mask`` (L), swollen as if it were padded, RGBA of the same size.

    The blurred outline serves as height; ``roundness`` is the blur's radius in pixels.
    """
    picture = surface.convert("RGBA")
    picture.putalpha(mask)
    box = mask.getbbox()
    if box is None:
        return picture
    swollen = np.sqrt(np.asarray(mask.crop(box).filter(ImageFilter.GaussianBlur(roundness)), np.float32) / 255)
    down, right = np.gradient(swollen * np.float32(roundness * 1.6))
    length = np.sqrt(1 + down * down + right * right)
    light = view.towards_light
    lit = (light[2] - right * light[0] + down * light[1]) / length
    shade = 0.45 + 0.66 * np.maximum(lit, 0)
    glare = gloss * np.maximum(lit, 0) ** 24
    color = np.asarray(surface.convert("RGB").crop(box)) * shade[..., None] + 255 * glare[..., None]
    relit = Image.fromarray(np.clip(color, 0, 255).astype(np.uint8))
    picture.paste(relit, box[:2])
    picture.putalpha(mask)
    return picture


def drop_shadow(onto: Image.Image, mask: Image.Image, blur: float, offset: tuple[int, int]) -> Image.Image:
    """``onto`` (RGBA) with the soft shadow, within its own outline, of a part ``mask`` that will lie on it."""
    fallen = ImageChops.offset(mask, *offset).filter(ImageFilter.BoxBlur(blur)).point(lambda level: level * 0.45)
    dark = Image.new("RGBA", onto.size, (10, 8, 12, 0))
    dark.putalpha(ImageChops.multiply(fallen, onto.getchannel("A")))
    return Image.alpha_composite(onto, dark)
