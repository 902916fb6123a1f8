"""The inputs of the cost sheet: what a reader may change."""

from __future__ import annotations

from typing import Any

from configurator.cost import Range
from configurator.export.facts import short_ids
from configurator.export.sheets.book import ENDS, Book

MAX_YEARS = 5
# Inputs without a range.
_SINGLE = ("years", "utilisation", "idle", "card_w", "host_w", "exchange")
# Id, label, figure, unit, sources, number format.
Input = tuple[str, str, float | Range, str, str, str]


def _inputs(book: Book) -> list[Input]:
    """Return the input rows."""
    facts, rates = book.facts, book.facts.rates
    share, plain = "0.0%", "#,##0.####"
    formats = {
        "utilisation": share, "idle": share, "support": share, "staff": share,
        "resale": share, "tariff": "#,##0.0000", "hosting": book.money,
    }  # fmt: skip
    rows: list[Input] = []
    for rate in rates.values():
        figure = float(rate.amount.value) if rate.id in _SINGLE else rate.amount
        pattern = formats.get(rate.id, plain)
        rows.append((rate.id, rate.label, figure, rate.unit, rate.sources, pattern))
        if rate.id == "card_w":
            label = book.say("rate.cards")
            rows.insert(-1, ("cards", label, float(facts.installed), "", "", "#,##0"))
        if rate.id == "host_w":
            label = book.say("rate.hosts")
            rows.insert(-1, ("hosts", label, float(facts.plan.nodes), "", "", "#,##0"))
    rented = float(facts.rented)
    rows.append(("rented", book.say("rate.rented"), rented, "", "", "#,##0"))
    return rows


def place_inputs(book: Book) -> list[Input]:
    """Return the inputs, noting where each will stand, before anything refers to it."""
    inputs = _inputs(book)
    for at, (name, _, figure, *_rest) in enumerate(inputs, start=2):
        wide = isinstance(figure, Range)
        for place, end in enumerate(ENDS):
            book.cells[f"{name}_{end}"] = book.ref("cost", at, 1 + place if wide else 1)
        book.cells[name] = book.ref("cost", at, 1)
    return inputs


def write_inputs(book: Book, inputs: list[Input]) -> int:
    """Write the inputs; return the row after them."""
    sheet = book.sheets["cost"]
    labels = [
        book.say(f"head.{key}") for key in ("item", "value", "low", "high", "unit", "sources")
    ]
    book.title(sheet, 0, book.say("inputs_title"))
    book.heads(sheet, 1, labels, "BCD")
    for at, (name, label, figure, unit, sources, pattern) in enumerate(inputs, start=2):
        edit = book.number(pattern, edit=True)
        sheet.write_string(at, 0, label, book.wrap)
        figures = figure if isinstance(figure, Range) else Range.exact(figure)
        for place, end in enumerate(ENDS if isinstance(figure, Range) else ENDS[:1]):
            sheet.write_number(at, 1 + place, float(getattr(figures, end)), edit)
        sheet.write_string(at, 4, unit, book.beside)
        sheet.write_string(at, 5, short_ids(sources), book.wrap)
        _check(book, sheet, at, name)
    return len(inputs) + 2


def _check(book: Book, sheet: Any, row: int, name: str) -> None:
    """Let an input cell only take what has a meaning."""
    bounds = {
        "years": ("integer", 1, MAX_YEARS), "utilisation": ("decimal", 0, 1),
        "idle": ("decimal", 0, 1), "pue": ("decimal", 1, 5), "staff": ("decimal", 0, 0.95),
        "support": ("decimal", 0, 0.95), "resale": ("decimal", 0, 0.95),
        "tariff": ("decimal", 0, 100_000), "exchange": ("decimal", 0.000001, 1_000_000),
    }.get(name)  # fmt: skip
    if bounds is not None:
        kind, least, most = bounds
        sheet.data_validation(row, 1, row, 3, {
            "validate": kind, "criteria": "between", "minimum": least, "maximum": most,
            "error_title": book.say("title_short"),
            "error_message": book.say("between", least=least, most=most),
        })  # fmt: skip
