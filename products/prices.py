"""Read prices as people and tools write them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

# Signs that stand for one currency alone. "$", "¥" and "kr" stand for several.
_SIGNS = {"€": "EUR", "£": "GBP", "zł": "PLN", "₹": "INR", "₺": "TRY", "₴": "UAH", "₪": "ILS", "R$": "BRL", "Kč": "CZK"}
_UNCERTAIN_SIGNS = ("$", "¥", "kr")
_AMOUNT = re.compile(r"\d+(?:[.,'’ \u00a0\u202f]\d+)*")
_CODE = re.compile(r"[A-Za-z]{3}")
MAX_LENGTH = 40  # characters of a price with its currency


class Price(NamedTuple):
    """``currency``: a code of three letters, or "" if the text names none."""

    amount: Decimal
    currency: str


def parse_price(text: str) -> Price:
    """Return the price that ``text`` writes, such as "1.299,00 €", "USD 5" or "19.99". Raises ValidationError.

    A single separator before exactly three digits can mean two amounts ("1.299"), so that is an error.
    """
    found = list(_AMOUNT.finditer(text)) if len(text) <= MAX_LENGTH else []
    if len(found) != 1:
        raise _unreadable(text)
    rest = (text[: found[0].start()] + text[found[0].end() :]).strip(" \u00a0\u202f")
    return Price(_parse_amount(found[0][0], text), _parse_currency(rest, text))


def _parse_amount(digits: str, text: str) -> Decimal:
    digits = re.sub(r"['’ \u00a0\u202f]", "", digits)
    last = max(digits.rfind("."), digits.rfind(","))
    if last < 0:
        return Decimal(digits)
    whole, mark, fraction = digits[:last], digits[last], digits[last + 1 :]
    if mark in whole:  # 1,299,000: it separates thousands
        if {".", ","} <= set(digits) or any(len(group) != 3 for group in digits.split(mark)[1:]):
            raise _unreadable(text)
        return Decimal(digits.replace(mark, ""))
    if len(fraction) == 3 and not ({".", ","} & set(whole)) and 0 < len(whole) <= 3 and whole != "0":
        raise ValidationError(
            _("The price %(text)s can be %(thousands)s or %(decimal)s. Write it with two or four decimals."),
            code="invalid",
            params={"text": text, "thousands": whole + fraction, "decimal": f"{whole}.{fraction}"},
        )
    return Decimal(f"{re.sub('[.,]', '', whole)}.{fraction}")


def _parse_currency(rest: str, text: str) -> str:
    if rest in _SIGNS:
        return _SIGNS[rest]
    if not rest or rest in _UNCERTAIN_SIGNS:
        return ""
    if _CODE.fullmatch(rest):
        return rest.upper()
    raise _unreadable(text)


def _unreadable(text: str) -> ValidationError:
    message = _("%(text)s is no price. Write an amount, if you like with its currency: 19.99 or 19.99 EUR.")
    return ValidationError(message, code="invalid", params={"text": text[:MAX_LENGTH]})


def format_price(price: Decimal | None) -> str:
    """Return the amount with two or four decimals, so that ``parse_price`` reads the same amount."""
    if price is None:
        return ""
    places = 2 if price == round(price, 2) else 4
    return f"{price:.{places}f}"
