"""Numbers, money and dates as a person of a language writes them."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal
from functools import lru_cache

from babel import Locale
from babel.dates import format_date, format_skeleton
from babel.numbers import format_compact_currency, format_compact_decimal, format_currency
from babel.numbers import format_decimal as babel_decimal

from configurator.words import say

LOCALES = {"en": "en_US", "zh": "zh_CN"}
COMPACT_FROM = {"en": 1_000_000, "zh": 10_000}
CURRENCY = {"en": "USD", "zh": "CNY"}
NONE = "–"
_TIME_UNITS = {"en": ("ms", "s", "min", "h"), "zh": ("毫秒", "秒", "分钟", "小时")}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>$~:@&])")
# Addresses that the browser's markdown makes links of although every sign in them is escaped.
_ADDRESS = re.compile(r"(?<=:)(?=\\?/\\?/)|(?<=www)(?=\\?\.)|(?<=@)", re.IGNORECASE)
_JOINER = "\u2060"  # has no width


@lru_cache(maxsize=4)
def locale_of(language: str) -> Locale:
    """Return Babel's locale of a language of the page."""
    return Locale.parse(LOCALES.get(language, LOCALES["en"]))


def plain(text: str) -> str:
    """Return a person's text such that markdown shows it as it stands and makes no link of it."""
    return _ADDRESS.sub(_JOINER, _MARKDOWN.sub(r"\\\1", " ".join(text.split())))


@lru_cache(maxsize=4)
def _groups_as_python(language: str) -> bool:
    """Whether a language groups digits as Python does; a page has hundreds of numbers."""
    return babel_decimal(1234567.5, "#,##0.0", locale=locale_of(language)) == f"{1234567.5:,.1f}"


def decimal(value: float, language: str, digits: int = 0) -> str:
    """Return a number with grouping and ``digits`` decimals."""
    rounded = round(value, digits) + 0.0
    if _groups_as_python(language):
        return f"{Decimal(str(rounded)):,.{digits}f}"
    pattern = "#,##0" + ("." + "0" * digits if digits else "")
    return str(babel_decimal(rounded, pattern, locale=locale_of(language)))


def trimmed(value: float, language: str, digits: int) -> str:
    """Return a number with grouping and at most ``digits`` decimals."""
    text = decimal(value, language, digits)
    return text.rstrip("0").rstrip(".,") if digits else text


def significant(value: float, language: str, digits: int = 3) -> str:
    """Return a number rounded to so many significant digits; nothing is said that is not known."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else NONE
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    if abs(rounded) >= COMPACT_FROM.get(language, 1_000_000):
        return str(format_compact_decimal(rounded, locale=locale_of(language), fraction_digits=2))
    return trimmed(rounded, language, max(0, min(places, 6)))


def count(value: float | None, language: str) -> str:
    """Return a count: in full where short, as 万/亿 or M where long."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) >= COMPACT_FROM.get(language, 1_000_000):
        return str(format_compact_decimal(value, locale=locale_of(language), fraction_digits=2))
    return decimal(value, language)


def tokens(value: float) -> str:
    """Return a token count as engineers write it: 8K is 8,192."""
    for size, unit in ((1 << 20, "M"), (1 << 10, "K")):
        if value >= size and value % size == 0:
            return f"{int(value // size)}{unit}"
    return f"{int(value):,}"


def tokens_about(value: float) -> str:
    """Return a token count rounded down to whole K from 4K on."""
    return tokens(value - value % 1024 if value >= 4 * 1024 else value)


def gib(value: float, language: str = "en") -> str:
    """Return a size; two decimals below 10, one below 100, none above."""
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{decimal(value, language, digits)} GiB"


def seconds(value: float | None, language: str) -> str:
    """Return a time in ms, s, min or h, whichever reads best."""
    if value is None or not math.isfinite(value):
        return NONE
    ms, s, minutes, hours = _TIME_UNITS.get(language, _TIME_UNITS["en"])
    if value < 1:
        return f"{significant(value * 1000, language, 2)} {ms}"
    if value < 100:
        return f"{significant(value, language, 2)} {s}"
    if value < 7200:
        return f"{significant(value / 60, language, 2)} {minutes}"
    return f"{significant(value / 3600, language, 2)} {hours}"


def percent(value: float | None, language: str, digits: int = 0) -> str:
    """Return a share as a percentage."""
    if value is None or not math.isfinite(value):
        return NONE
    return decimal(100 * value, language, digits) + ("%" if language == "zh" else " %")


def rate(value: float | None, language: str) -> str:
    """Return a rate with two or three significant digits."""
    return NONE if value is None else significant(value, language, 3 if value >= 1000 else 2)


def money(value: float | None, currency: str, language: str) -> str:
    """Return a sum without cents; 万 in Chinese, K and M never: a budget is read in full."""
    if value is None or not math.isfinite(value):
        return NONE
    locale = locale_of(language)
    if abs(value) < 10:
        return str(format_currency(value, currency, locale=locale))
    if language == "zh" and abs(value) >= COMPACT_FROM["zh"]:
        return str(format_compact_currency(value, currency, locale=locale, fraction_digits=2))
    pattern = "¤#,##0"
    return str(
        format_currency(
            value, currency, pattern, locale=locale, currency_digits=False,
            decimal_quantization=True,
        )
    )  # fmt: skip


def date(value: dt.date | str | None, language: str) -> str:
    """Return a day in the language's medium form; text that is no day as it stands."""
    if isinstance(value, str):
        try:
            return date(dt.date.fromisoformat(value), language)
        except ValueError:
            return value
    return NONE if value is None else str(format_date(value, "medium", locale=locale_of(language)))


_SKELETONS = {"month": "yMMM", "quarter": "yQQQ", "year": "y"}


def period(first: dt.date, precision: str, language: str) -> str:
    """Return the day, month, quarter, half or year that begins at a day."""
    if precision == "day":
        return date(first, language)
    if precision == "half":
        return say(f"dates.half_{1 if first.month <= 6 else 2}", language, year=first.year)
    return str(format_skeleton(_SKELETONS[precision], first, locale=locale_of(language)))


def billions(value: float, language: str = "en") -> str:
    """Return a parameter count: 0.6B, 8.2B, 671B, 1.03T."""
    if value >= 1000:
        return f"{significant(value / 1000, language)}T"
    return f"{significant(value, language, 2 if value < 10 else 3)}B"
