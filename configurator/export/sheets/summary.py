"""The first sheet: the plan on one page, its sums taken from the other sheets."""

from __future__ import annotations

from typing import Any

from configurator.export import text
from configurator.export.sheets.book import ENDS, Book


def write_summary(book: Book) -> None:
    """Write the sums of the other sheets, the speed, the plan in words."""
    sheet, facts, cells = book.sheets["summary"], book.facts, book.cells
    label, value = book.style(font_color="#555555", text_wrap=True), book.wrap
    sheet.set_column(0, 3, 10)
    sheet.write_string(0, 0, facts.title, book.style(bold=True, font_size=15))
    sheet.set_row(0, 24)
    note = book.style(bold=True, font_color="#B03A2E")
    sheet.write_string(1, 0, book.say("not_a_quotation_long"), note)
    colour = {"yes": "#1E7B34", "tight": "#B9770E", "no": "#B03A2E"}[facts.fits]
    sheet.write_string(2, 0, facts.verdict, book.style(bold=True, font_color=colour))
    row = 4
    money = book.number(book.money)
    book.heads(sheet, row, [book.say("head.money", currency=book.currency),
                            *(book.say(f"head.{end}") for end in ENDS)], "BCD")  # fmt: skip
    sums = (
        ("total_purchase", "purchase", book.cost.purchase),
        ("total_cost", "total", book.cost.total),
    )
    for title, cell, amount in sums:
        row += 1
        sheet.write_string(row, 0, book.say(title), label)
        for place, end in enumerate(ENDS):
            sheet.write_formula(row, 1 + place, f"={cells[f'{cell}_{end}']}", money,
                                getattr(amount, end))  # fmt: skip
    row += 1
    sheet.write_string(row, 0, book.say("rate.years"), label)
    years = book.style(num_format="0", align="right")
    sheet.write_formula(row, 1, f"={cells['years']}", years, book.cost.terms.years)
    row += 2
    gib = book.number("#,##0.0")
    book.heads(sheet, row, [book.say("head.memory"),
                            *(book.say(f"head.{end}") for end in ENDS)], "BCD")  # fmt: skip
    for name in ("required", "total"):
        row += 1
        sheet.write_string(row, 0, book.say(f"memory.{name}"), label)
        for place, end in enumerate(("", "_low", "_high")):
            number = getattr(facts.estimate.memory, f"{name}{end}_gib")
            formula = f"={cells[f'memory_{name}{end}']}"
            sheet.write_formula(row, 1 + place, formula, gib, number)
    for part in facts.memory:
        row += 1
        sheet.write_string(row, 0, part.label, book.style(indent=1, font_color="#555555"))
        sheet.write_number(row, 1, part.gib, gib)
    row += 1
    sheet.write_string(row, 0, book.say("memory.budget"), label)
    sheet.write_formula(row, 1, f"={cells['memory_budget']}", gib, facts.estimate.memory.budget_gib)
    row += 2
    book.heads(sheet, row, [book.say("head.speed"),
                            *(book.say(f"head.{end}") for end in ENDS)], "BCD")  # fmt: skip
    for speed in facts.speed:
        row += 1
        sheet.write_string(row, 0, f"{speed.label} [{speed.unit}]", label)
        style = book.number("#,##0.000" if speed.value < 10 else "#,##0")
        for place, number in enumerate((speed.value, speed.low, speed.high)):
            if number is not None:
                sheet.write_number(row, 1 + place, number, style)
    blocks = (
        ("head.scenario", facts.scenario), ("head.plan", facts.plan_rows),
        ("head.asked", facts.limits),
    )  # fmt: skip
    for title, pairs in blocks:
        row += 2
        book.heads(sheet, row, [book.say(title), "", "", ""])
        for name, words in pairs:
            row += 1
            sheet.write_string(row, 0, name, label)
            sheet.merge_range(row, 1, row, 3, "", value)
            sheet.write_string(row, 1, words, value)
    for title, sentences in (("head.why", facts.why), ("head.know", facts.notes)):
        if not sentences:
            continue
        row += 2
        book.heads(sheet, row, [book.say(title), "", "", ""])
        for words in sentences:
            row = _paragraph(book, sheet, row + 1, words)
    row += 2
    book.heads(sheet, row, [book.say("head.link"), "", "", ""])
    row = _paragraph(book, sheet, row + 1, facts.link)
    row += 1
    sheet.write_string(row, 0, book.say("catalog_date"), label)
    sheet.write_string(row, 1, text.date(facts.catalog_date, facts.language), value)
    row += 1
    sheet.write_string(row, 0, book.say("price_dates"), label)
    sheet.merge_range(row, 1, row, 3, "", value)
    sheet.write_string(row, 1, facts.cost.dates_text(facts.language), value)
    book.page("summary", (46, 22, 22, 22), (row, 3), 0, portrait=True)


def _paragraph(book: Book, sheet: Any, row: int, words: str) -> int:
    """Text over the sheet's width, as high as it needs."""
    sheet.merge_range(row, 0, row, 3, "", book.wrap)
    sheet.write_string(row, 0, words, book.wrap)
    book.fit(sheet, row, [(words, 105)])
    return row
