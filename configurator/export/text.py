"""Words, numbers and dates of the papers, as a person of a language writes them."""

from __future__ import annotations

import math
import re
from typing import Any

from babel.numbers import format_currency

from configurator.numbers import NONE, date, locale_of, trimmed
from configurator.words import say

__all__ = [
    "NONE", "date", "decimal", "first_of", "formula_text", "money", "option", "significant",
]  # fmt: skip


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
    return trimmed(value, language, digits)


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


def symbol_name(symbol: str, language: str) -> str:
    """Return what a figure of a formula is called."""
    keys = (f"app.symbol.{symbol}", f"export.symbol.{symbol}", f"app.field.{symbol}")
    return first_of(keys, language, symbol.replace("_", " ").replace(".", " "))


def formula_text(formula: str, language: str) -> str:
    """Return a formula with its figures called as in the table beside it."""

    def called(found: re.Match[str]) -> str:
        return found[0] if found[0] in ("min", "max") else symbol_name(found[0], language)

    return say("app.sum", language) if formula == "Σ" else re.sub(r"[a-z_]+", called, formula)
