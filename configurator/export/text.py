"""Words, numbers and dates of the papers, as a person of a language writes them."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_currency, format_decimal

from configurator.words import say

_LOCALES = {"en": "en_US", "zh": "zh_CN"}
NONE = "–"


def locale_of(language: str) -> Locale:
    """Return Babel's locale of a language; English where it is not known."""
    return Locale.parse(_LOCALES.get(language, _LOCALES["en"]))


def first_of(keys: tuple[str, ...], language: str, otherwise: str) -> str:
    """Return the first message that exists, else the text given."""
    for key in keys:
        try:
            return say(key, language)
        except KeyError:
            continue
    return otherwise


def option(field: str, value: Any, language: str) -> str:
    """Return what a value of a field is called; an unknown one is called by itself."""
    return first_of((f"app.option.{field}.{value}",), language, str(value))


def decimal(value: float | None, language: str, digits: int = 0) -> str:
    """Return a number with grouping and at most so many decimals."""
    if value is None or not math.isfinite(value):
        return NONE
    pattern = "#,##0" + ("." + "#" * digits if digits else "")
    return str(format_decimal(round(value, digits) + 0.0, pattern, locale=locale_of(language)))


def significant(value: float | None, language: str, digits: int = 3) -> str:
    """Return a number rounded to so many significant digits, in full."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return decimal(round(value, places), language, max(0, min(places, 8)))


def money(value: float | None, currency: str, language: str, cents: bool = False) -> str:
    """Return a sum in full: whole units, or with cents where sums must be seen to add up."""
    if value is None or not math.isfinite(value):
        return NONE
    pattern = "¤#,##0.00" if cents else "¤#,##0"
    negative = f"{pattern};-{pattern}"
    return str(
        format_currency(
            value + 0.0, currency, negative, locale=locale_of(language), currency_digits=False
        )
    )


def date(value: dt.date | str | None, language: str) -> str:
    """Return a day in the language's medium form; text that is no day as it stands."""
    day: dt.date | None
    if isinstance(value, str):
        try:
            day = dt.date.fromisoformat(value)
        except ValueError:
            return value
    else:
        day = value
    return NONE if day is None else str(format_date(day, "medium", locale=locale_of(language)))
