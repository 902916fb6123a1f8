"""The memory of the plan: its parts, and the formulas behind them."""

from __future__ import annotations

from configurator.export.facts import short_ids
from configurator.export.sheets.book import Book


def write_memory(book: Book) -> None:
    """Write the parts, the totals, and each formula with its figures."""
    sheet, facts = book.sheets["memory"], book.facts
    memory = facts.estimate.memory
    book.title(sheet, 0, book.say("memory_title"))
    book.heads(sheet, 1, [book.say("head.part"), "GiB"], "B")
    gib, bold = book.number("#,##0.00"), book.number("#,##0.00", bold=True)
    for at, part in enumerate(facts.memory, start=2):
        sheet.write_string(at, 0, part.label, book.wrap)
        sheet.write_number(at, 1, part.gib, gib)
    total = 2 + len(facts.memory)
    sheet.write_string(total, 0, book.say("memory.total"), book.style(bold=True, top=1))
    sheet.write_formula(total, 1, f"=SUM(B3:B{total})", bold, memory.total_gib)
    rows = (
        ("total_low", memory.total_low_gib), ("total_high", memory.total_high_gib),
        ("required", memory.required_gib), ("required_low", memory.required_low_gib),
        ("required_high", memory.required_high_gib), ("capacity", memory.capacity_gib),
        ("budget", memory.budget_gib),
    )  # fmt: skip
    at = total + 1
    for name, value in rows:
        sheet.write_string(at, 0, book.say(f"memory.{name}"), book.wrap)
        sheet.write_number(at, 1, value, gib)
        book.cells[f"memory_{name}"] = book.ref("memory", at, 1)
        at += 1
    book.cells["memory_total"] = book.ref("memory", total, 1)
    sheet.write_string(at, 0, book.say("memory.headroom"), book.style(bold=True, top=1))
    formula = f"={book.cells['memory_budget']}-{book.cells['memory_required']}"
    sheet.write_formula(at, 1, formula, bold, memory.headroom_gib)
    at += 2
    book.title(sheet, at, book.say("formulas_title"))
    titles = ("part", "formula", "figure", "value", "unit", "sources")
    book.heads(sheet, at + 1, [book.say(f"head.{key}") for key in titles], "D")
    at += 2
    texts = book.style(align="left", text_wrap=True)
    for term in facts.terms:
        sheet.write_string(at, 0, term.label, book.style(bold=True, text_wrap=True))
        sheet.write_string(at, 1, term.formula, book.wrap)
        book.fit(sheet, at, [(term.formula, 38)])
        sheet.write_string(at, 2, book.say("result"), book.style(bold=True))
        sheet.write_number(at, 3, term.value, book.number("#,##0.0000"))
        sheet.write_string(at, 4, term.unit, book.beside)
        at += 1
        for label, given, unit, sources in term.inputs:
            sheet.write_string(at, 2, label, book.wrap)
            if isinstance(given, str):
                sheet.write_string(at, 3, given, texts)
            else:
                pattern = "#,##0" if given.is_integer() else "#,##0.0000"
                sheet.write_number(at, 3, given, book.number(pattern))
            sheet.write_string(at, 4, unit, book.beside)
            sheet.write_string(at, 5, short_ids(sources), book.wrap)
            at += 1
    book.page("memory", (40, 40, 32, 20, 10, 18), (at, 5), 0)
