"""Demo products that a lathe or a potter's wheel makes: mugs, bottles, cans, tea tins, lamps and vases."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw

from products.demo.artwork import Color, emblem, mixed, printed, readable_on, small_print, write
from products.demo.design import Design
from products.demo.shading import Turned, View, padded, render_turned

SHEET = (1200, 640)
SCALE = 560
STEEL: Color = (196, 200, 206)


def mug(design: Design, view: View) -> Image.Image:
    outlines: tuple[tuple[Sequence[float], Sequence[float]], ...] = (
        ((0, 0.02, 0.06, 0.76, 0.8), (0.27, 0.31, 0.33, 0.33, 0.335)),
        ((0, 0.03, 0.3, 0.78), (0.2, 0.24, 0.29, 0.37)),
        ((0, 0.04, 0.16, 0.34, 0.52, 0.7), (0.22, 0.3, 0.38, 0.39, 0.34, 0.33)),
    )
    heights, radii = outlines[design.model % 3]
    sheet = _both_sides(design, printed(SHEET, design.palette, design.pattern, design.seed), 0.5, 0.25)
    inside = mixed(design.palette.base, (255, 252, 245), 0.75)
    body = render_turned(Turned(heights, radii, sheet, inside, is_open=True, gloss=0.6), view, SCALE)

    # The handle stands to the right of the print and goes around with it.
    angle = math.pi / 2 - view.yaw
    out, width, height = math.sin(angle), max(radii) * SCALE, heights[-1] * SCALE * 0.56
    reach = abs(out) * width * 0.62 + 18
    canvas = Image.new("RGBA", (round(body.width + 2 * width * 0.7), body.height))
    centre = canvas.width / 2 + out * width * 0.92
    mask = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(mask)
    thick = 0.085 * SCALE
    top = body.height * 0.5 - height / 2
    draw.rounded_rectangle((centre - reach, top, centre + reach, top + height), min(reach, height / 2), fill=255)
    if reach > thick:
        inner = (centre - reach + thick, top + thick, centre + reach - thick, top + height - thick)
        draw.rounded_rectangle(inner, min(reach - thick, height / 2 - thick), fill=0)
    handle = padded(mask, Image.new("RGB", canvas.size, design.palette.base), view, thick / 2.6, 0.4)
    left = (canvas.width - body.width) // 2
    if math.cos(angle) < 0.15:
        canvas.alpha_composite(handle)
        canvas.alpha_composite(body, (left, 0))
    else:
        canvas.alpha_composite(body, (left, 0))
        canvas.alpha_composite(handle)
    return canvas.crop(canvas.getbbox())


def bottle(design: Design, view: View) -> Image.Image:
    outlines: tuple[tuple[Sequence[float], Sequence[float]], ...] = (
        ((0, 0.02, 0.05, 0.6, 0.72, 0.8, 0.97, 0.98, 1.06), (0.15, 0.17, 0.175, 0.175, 0.13, 0.06, 0.055, 0.07, 0.07)),
        ((0, 0.03, 0.5, 0.62, 0.78, 0.86, 0.87, 0.95), (0.19, 0.21, 0.21, 0.2, 0.1, 0.09, 0.105, 0.105)),
        ((0, 0.03, 0.3, 0.5, 0.66, 0.74, 0.75, 0.98), (0.17, 0.19, 0.16, 0.19, 0.18, 0.14, 0.16, 0.15)),
    )
    heights, radii = outlines[design.model % 3]
    palette = design.palette
    glass = (
        mixed(palette.accent, (30, 36, 32), 0.35) if design.model % 3 == 0 else mixed(palette.second, palette.base, 0.3)
    )
    sheet = Image.new("RGB", SHEET, glass)
    total = heights[-1]
    cap = round(SHEET[1] * (1 - heights[-2] / total))
    sheet.paste(palette.accent, (0, 0, SHEET[0], cap))
    top, bottom = round(SHEET[1] * (1 - 0.54 / total)), round(SHEET[1] * (1 - 0.1 / total))
    label = printed((SHEET[0], bottom - top), palette, design.pattern, design.seed)
    sheet.paste(_both_sides(design, label, 0.5, 0.21), (0, top))
    return render_turned(Turned(heights, radii, sheet, palette.accent, gloss=0.8), view, SCALE)


def can(design: Design, view: View) -> Image.Image:
    stout = design.model % 2
    height, radius = ((0.82, 0.25), (0.62, 0.29))[stout]
    heights = (0, 0.03, 0.05, height - 0.07, height - 0.015, height)
    radii = (radius * 0.82, radius * 0.9, radius, radius, radius * 0.88, radius * 0.88)
    sheet = _both_sides(design, printed(SHEET, design.palette, design.pattern, design.seed), 0.52, 0.3)
    for band in ((0, 0, SHEET[0], 14), (0, SHEET[1] - 30, SHEET[0], SHEET[1])):
        sheet.paste(STEEL, band)
    drawn = render_turned(Turned(heights, radii, sheet, STEEL, gloss=0.95), view, SCALE)
    if not stout:
        _pull_tab(drawn, radii[-1] * SCALE, view)
    return drawn


def tea_tin(design: Design, view: View) -> Image.Image:
    height, radius = ((0.66, 0.27), (0.48, 0.33), (0.82, 0.24))[design.model % 3]
    lid = height * 0.76
    heights = (0, 0.015, lid - 0.004, lid, height - 0.02, height)
    radii = (radius * 0.97, radius, radius, radius * 1.035, radius * 1.035, radius)
    sheet = Image.new("RGB", SHEET, design.palette.second)
    edge = round(SHEET[1] * (1 - lid / height))
    sheet.paste(
        _both_sides(
            design, printed((SHEET[0], SHEET[1] - edge), design.palette, design.pattern, design.seed), 0.5, 0.3
        ),
        (0, edge),
    )
    sheet.paste(design.palette.accent, (0, edge - 10, SHEET[0], edge))
    return render_turned(
        Turned(heights, radii, sheet, mixed(design.palette.second, (255, 255, 255), 0.1), gloss=0.45), view, SCALE
    )


def lamp(design: Design, view: View) -> Image.Image:
    feet: tuple[tuple[Sequence[float], Sequence[float]], ...] = (
        ((0, 0.03, 0.05, 0.5), (0.2, 0.2, 0.03, 0.025)),
        ((0, 0.03, 0.14, 0.26, 0.38, 0.44, 0.5), (0.13, 0.15, 0.22, 0.2, 0.09, 0.05, 0.03)),
        ((0, 0.04, 0.12, 0.16, 0.28, 0.32, 0.42, 0.5), (0.17, 0.17, 0.06, 0.13, 0.13, 0.06, 0.05, 0.03)),
    )
    heights, radii = feet[design.model % 3]
    palette = design.palette
    foot = Image.new("RGB", (SHEET[0], 64), palette.accent)
    shade = printed(SHEET, palette, design.pattern, design.seed)
    # Lit from within: paler, and warmest in the middle.
    glow = Image.new("RGB", SHEET, (255, 236, 190))
    shade = Image.blend(shade, glow, 0.28)
    wide, narrow = ((0.34, 0.2), (0.3, 0.26), (0.36, 0.12))[design.seed % 3]
    below = render_turned(Turned(heights, radii, foot, palette.accent, gloss=0.7, softness=0.03), view, SCALE)
    above = render_turned(
        Turned((0, 0.4), (wide, narrow), shade, (255, 244, 214), is_open=True, gloss=0.05), view, SCALE
    )
    canvas = Image.new("RGBA", (max(below.width, above.width), below.height + round(0.38 * SCALE)))
    canvas.alpha_composite(below, ((canvas.width - below.width) // 2, canvas.height - below.height))
    canvas.alpha_composite(above, ((canvas.width - above.width) // 2, 0))
    return canvas.crop(canvas.getbbox())


def vase(design: Design, view: View) -> Image.Image:
    outlines: tuple[tuple[Sequence[float], Sequence[float]], ...] = (
        ((0, 0.08, 0.25, 0.42, 0.6, 0.72, 0.84, 0.9), (0.14, 0.2, 0.31, 0.33, 0.22, 0.12, 0.1, 0.14)),
        ((0, 0.1, 0.3, 0.55, 0.72, 0.8), (0.17, 0.21, 0.24, 0.3, 0.26, 0.2)),
        ((0, 0.12, 0.2, 0.36, 0.56, 0.8, 0.94), (0.2, 0.16, 0.13, 0.2, 0.24, 0.16, 0.19)),
    )
    heights, radii = outlines[design.model % 3]
    sheet = printed(SHEET, design.palette, design.pattern, design.seed)
    sheet.paste(design.palette.accent, (0, SHEET[1] - 70, SHEET[0], SHEET[1]))
    inside = mixed(design.palette.base, (20, 16, 14), 0.45)
    return render_turned(Turned(heights, radii, sheet, inside, is_open=True, gloss=0.55, softness=0.07), view, SCALE)


def _both_sides(design: Design, sheet: Image.Image, middle: float, size: float) -> Image.Image:
    """The emblem and the brand in front, the name and small print on the back of a sheet that goes around."""
    width, height = sheet.size
    palette = design.palette
    radius = min(size * height, width * 0.11)
    emblem(sheet, design.emblem, (width / 2, height * middle - radius * 0.25), radius, palette.accent, palette.base)
    panel = (
        width / 2 - radius * 1.25,
        height * middle + radius * 0.72,
        width / 2 + radius * 1.25,
        height * middle + radius * 1.3,
    )
    ImageDraw.Draw(sheet).rounded_rectangle(panel, radius * 0.12, fill=palette.accent)
    write(
        sheet,
        design.brand,
        (width / 2, (panel[1] + panel[3]) / 2),
        (radius * 2.2, radius * 0.52),
        readable_on(palette.accent),
    )

    back = ImageChops.offset(sheet, width // 2, 0)
    wide = round(width * 0.1)
    box = (width // 2 - wide, round(height * 0.24), width // 2 + wide, round(height * 0.84))
    ImageDraw.Draw(back).rounded_rectangle((box[0] - 14, box[1] - 14, box[2] + 14, box[3] + 14), 12, fill=palette.base)
    write(
        back,
        design.name.upper(),
        (width / 2, box[1] + height * 0.04),
        (1.8 * wide, height * 0.1),
        readable_on(palette.base),
    )
    small_print(back, (box[0], box[1] + round(height * 0.12), *box[2:]), readable_on(palette.base), design.seed)
    return ImageChops.offset(back, width // 2, 0)


def _pull_tab(drawn: Image.Image, radius: float, view: View) -> None:
    """The ring on the lid of a drinks can."""
    flat = math.sin(view.pitch)
    x, y = drawn.width / 2, radius * flat
    draw = ImageDraw.Draw(drawn)
    draw.ellipse(
        (x - radius * 0.7, y - radius * 0.7 * flat, x + radius * 0.7, y + radius * 0.7 * flat),
        outline=(150, 154, 160),
        width=4,
    )
    draw.ellipse(
        (x - radius * 0.3, y - radius * 0.1 * flat, x + radius * 0.3, y + radius * 0.55 * flat),
        outline=(120, 124, 130),
        width=7,
    )
