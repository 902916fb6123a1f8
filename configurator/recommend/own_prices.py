"""A company's own prices from a CSV file, checked line by line."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from configurator.catalog import Catalog, load_catalog
from configurator.errors import InputError
from configurator.recommend.request import MAX_MONEY, Currency, OwnPrice

COLUMNS = ("gpu", "price", "currency", "date")
MAX_CHARACTERS = 2_000_000
MAX_LINES = 5_000
_CURRENCIES: dict[str, Currency] = {"USD": "USD", "CNY": "CNY"}


@dataclass(frozen=True)
class LineProblem:
    """A line that is not used, and why."""

    line: int
    error: InputError


def template(catalog: Catalog | None = None, gpus: Sequence[str] = ()) -> str:
    """Return a CSV to fill in: a line for each card, or for the cards named.

    Args:
        catalog: Facts; the built-in ones if None.
        gpus: Catalog ids; all if empty.
    """
    catalog = catalog or load_catalog()
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for gpu in gpus or catalog.gpus:
        writer.writerow((catalog.gpu(gpu).id, "", "USD", ""))
    return out.getvalue()


def read_own_prices(
    text: str, catalog: Catalog | None = None
) -> tuple[tuple[OwnPrice, ...], tuple[LineProblem, ...]]:
    """Read ``gpu, price, currency, date`` lines; lines without a price are passed over.

    The separator may be a comma, a semicolon or a tab. Text is taken as it is: nothing in a cell
    is ever run or shown as a formula.

    Args:
        text: The file's text.
        catalog: Facts; the built-in ones if None.

    Returns:
        Prices that can be used, and the lines that cannot.

    Raises:
        InputError: The file as a whole cannot be used.
    """
    catalog = catalog or load_catalog()
    if len(text) > MAX_CHARACTERS:
        raise InputError("prices", "characters", text[:80], most=MAX_CHARACTERS)
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=separator))
    except csv.Error:  # a cell beyond the reader's limit
        raise InputError("prices", "not_csv", first[:80]) from None
    if len(rows) > MAX_LINES:
        raise InputError("prices", "lines", len(rows), most=MAX_LINES)
    head = [name.strip().lower() for name in rows[0]] if rows else []
    lacking = [name for name in COLUMNS if name not in head]
    if lacking:
        raise InputError(
            "prices", "price_columns", first, columns=", ".join(COLUMNS), lacking=lacking[0]
        )
    prices: dict[str, OwnPrice] = {}
    problems: list[LineProblem] = []
    for number, row in enumerate(rows[1:], start=2):
        cells = {name: row[i].strip() if i < len(row) else "" for i, name in enumerate(head)}
        if not cells["price"]:
            continue
        try:
            price = _price(cells, catalog)
        except InputError as error:
            problems.append(LineProblem(number, error))
            continue
        if price.gpu in prices:
            problems.append(LineProblem(number, InputError("gpu", "price_twice", price.gpu)))
            continue
        prices[price.gpu] = price
    return tuple(prices.values()), tuple(problems)


def _price(cells: dict[str, str], catalog: Catalog) -> OwnPrice:
    try:
        gpu = catalog.gpu(cells["gpu"]).id
    except InputError as error:
        raise error.at("gpu") from None
    number = cells["price"]
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", number):
        number = number.replace(",", "")
    if not re.fullmatch(r"\d{1,14}(\.\d{1,6})?", number) or not 0 < float(number) <= MAX_MONEY:
        raise InputError("price", "price_number", cells["price"])
    currency = _CURRENCIES.get(cells["currency"].upper())
    if currency is None:
        raise InputError("currency", "one_of", cells["currency"], known=", ".join(_CURRENCIES))
    try:
        day = dt.date.fromisoformat(cells["date"])
    except ValueError:
        raise InputError("date", "price_date", cells["date"]) from None
    return OwnPrice(gpu=gpu, price=float(number), date=day, currency=currency)
