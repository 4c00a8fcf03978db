"""The demo catalogue as pictures: products from two sides, and new arrivals that may or may not be among them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from products.demo import boxes, soft_goods, tableware
from products.demo.artwork import EMBLEMS, PALETTES, PATTERNS
from products.demo.design import Design
from products.demo.photograph import Photo, photograph, snapshot, studio
from products.demo.shading import View

SEED = 7
EACH = 6  # products of a category
KNOWN_ARRIVALS, UNKNOWN_ARRIVALS = 14, 6
BRANDS = ("Halden", "Norra", "Fjord & Co", "Lumina", "Oak Lane", "Brisk")
RANGES = ("Morning", "Harbour", "Meadow", "Summit", "Evening", "Orchard", "Winter")


@dataclass(frozen=True, slots=True)
class Category:
    """``made_of`` describes its products; ``draw`` gives a product cut out as seen from a view."""

    name: str
    noun: str
    made_of: str
    draw: Callable[[Design, View], Image.Image]


CATEGORIES = (
    Category("Mugs", "Mug", "stoneware, dishwasher safe", tableware.mug),
    Category("Bottles", "Bottle", "glass, with a screw cap", tableware.bottle),
    Category("Cans", "Can", "aluminium, 33 or 44 cl", tableware.can),
    Category("Tea tins", "Tea tin", "tinplate, with a tight lid", tableware.tea_tin),
    Category("Lamps", "Lamp", "turned foot, cotton shade", tableware.lamp),
    Category("Vases", "Vase", "glazed earthenware", tableware.vase),
    Category("Books", "Notebook", "hardback, ruled, 192 pages", boxes.book),
    Category("Cartons", "Cereal", "whole grain, in a carton", boxes.carton),
    Category("Sneakers", "Sneaker", "canvas, with a rubber sole", soft_goods.sneaker),
    Category("Backpacks", "Backpack", "recycled polyester, 18 litres", soft_goods.backpack),
    Category("Plush toys", "Plush toy", "soft fleece, washable", soft_goods.plush_toy),
)


@dataclass(frozen=True, slots=True)
class DemoPicture:
    """One photograph with what the catalogue says of its product. ``side``: 0 front, 1 back."""

    sku: str
    name: str
    category: str
    description: str
    attributes: dict[str, str]
    is_historical: bool
    side: int
    image: Image.Image


@dataclass(frozen=True, slots=True)
class Item:
    """A product to be photographed. ``shows``: the SKU of the historical product that an arrival is, if it is one."""

    sku: str
    category: Category
    design: Design
    photos: tuple[Photo, ...]
    shows: str | None = None

    @property
    def is_historical(self) -> bool:
        return self.sku.startswith("DEMO-")


def draw_catalogue(seed: int = SEED, skip: Container[str] = ()) -> Iterator[DemoPicture]:
    """Every picture of the demo, one at a time, the same for the same ``seed``; not those of the SKUs in ``skip``."""
    for item in plan(seed):
        if item.sku in skip:
            continue
        design, category = item.design, item.category
        if item.is_historical:
            name = f"{design.name} {category.noun.lower()}"
            description = f"{category.noun} of the {design.name} range by {design.brand}: {category.made_of}."
            attributes = {"brand": design.brand, "pattern": design.pattern}
        else:
            # What somebody knows who has only unpacked it.
            name = f"{category.noun} from delivery {item.sku[-3:]}"
            description = "Photographed on arrival, not yet compared with the catalogue."
            attributes = {"delivery": item.sku[-3:]}
        for side, photo in enumerate(item.photos):
            image = photograph(category.draw(design, photo.view), photo)
            yield DemoPicture(item.sku, name, category.name, description, attributes, item.is_historical, side, image)


def plan(seed: int = SEED) -> list[Item]:
    """What will be drawn, without drawing it: the catalogue first, then the arrivals in an order of their own."""
    random = np.random.default_rng(seed)
    catalogue, unknown = [], []
    for category in CATEGORIES:
        for number, design in enumerate(_designs(random)):
            sku = f"DEMO-{category.noun[:3].upper()}-{number + 1:02}"
            if number < EACH:
                catalogue.append(Item(sku, category, design, (studio(0, random), studio(1, random))))
            else:
                unknown.append((category, design, None))
    known = [(item.category, item.design, item.sku) for item in catalogue]
    arrivals = [known[index] for index in random.choice(len(known), KNOWN_ARRIVALS, replace=False)]
    arrivals += [unknown[index] for index in random.choice(len(unknown), UNKNOWN_ARRIVALS, replace=False)]
    for number, index in enumerate(random.permutation(len(arrivals)), start=1):
        category, design, shows = arrivals[index]
        catalogue.append(Item(f"NEW-{number:03}", category, design, (snapshot(random),), shows))
    return catalogue


def _designs(random: np.random.Generator) -> list[Design]:
    """The designs of one category, and one more that the catalogue does not have.

    The last ones come in the colours of earlier ones, as ranges do, so that colour alone does not tell them apart.
    """
    palettes = random.permutation(len(PALETTES))[: EACH - 1]
    patterns, ranges = random.permutation(list(PATTERNS)), random.permutation(RANGES)
    return [
        Design(
            name=str(ranges[number]),
            brand=BRANDS[int(random.integers(len(BRANDS)))],
            palette=PALETTES[int(palettes[number % len(palettes)])],
            pattern=str(patterns[number]),
            emblem=EMBLEMS[int(random.integers(len(EMBLEMS)))],
            model=number,
            seed=int(random.integers(2**31)),
        )
        for number in range(EACH + 1)
    ]
