"""The bill of materials: lines × unit prices, in US dollars and in the currency shown."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from configurator.export.facts import BillRow
from configurator.export.sheets.book import ENDS, MONEY, Book, column_letter

# Columns of the bill: unit price, amount, unit price in US dollars.
_BILL = {"value": (2, 3, 14), "low": (12, 4, 15), "high": (13, 5, 16)}
# Moves a sum that lies on half a cent to the side that the engine rounds it to.
_NUDGE = 1e-10


def write_bill(book: Book) -> None:
    """Lines × unit prices; unit prices of the range and in US dollars right of what prints."""
    sheet, money, rate = book.sheets["bill"], book.currency, book.rate_cell
    heads = [
        book.say("head.item"), book.say("head.quantity"),
        book.say("head.unit_price", currency=money), book.say("head.amount", currency=money),
        book.say("head.amount_low"), book.say("head.amount_high"), book.say("head.currency"),
        book.say("head.date"), book.say("head.sources"), book.say("head.source"),
        book.say("head.notes"), "", book.say("head.unit_low"), book.say("head.unit_high"),
        *(book.say(f"head.usd_{end}") for end in ENDS),
    ]  # fmt: skip
    book.heads(sheet, 0, heads, "BCDEFMNOPQ")
    sheet.set_row(0, 30)
    shown, edit = book.number(book.money), book.number(book.money, edit=True)
    pattern = MONEY["USD"].replace(".00", ".00####")
    usd, usd_shown = book.number(pattern, edit=True), book.number(pattern)
    texts = {row.id: row.text for row in book.facts.sources}
    lines = [row for row in book.facts.bill if row.line.group == "purchase"]
    for at, row in enumerate(lines, start=1):
        line, source = row.line, texts.get(row.sources, "")
        sheet.write_string(at, 0, row.label, book.wrap)
        sheet.write_number(at, 1, line.quantity, book.number("#,##0", edit=True))
        for end in ENDS:
            unit_at, sum_at, usd_at = _BILL[end]
            unit, amount = getattr(line.unit, end), getattr(line.amount, end)
            unit_cell, usd_cell = (
                f"{column_letter(unit_at)}{at + 1}",
                f"{column_letter(usd_at)}{at + 1}",
            )
            if row.usd is None or row.own:
                in_usd = unit / book.facts.plan.terms.rate
                sheet.write_number(at, unit_at, unit, edit)
                sheet.write_formula(at, usd_at, f"={unit_cell}/{rate}", usd_shown, in_usd)
            else:
                base = _base(getattr(row.usd, end), book.facts.plan.terms.rate, unit)
                sheet.write_number(at, usd_at, base, usd)
                sheet.write_formula(at, unit_at, f"=ROUND({usd_cell}*{rate},2)", shown, unit)
            formula = f"=ROUND($B{at + 1}*{unit_cell},2)"
            sheet.write_formula(at, sum_at, formula, shown, amount)
        sheet.write_string(at, 6, money, book.beside)
        held = line.date.text(book.facts.language) if line.date else ""
        if line.date is not None:
            book.when(sheet, at, 7, line.date)
        for place, words in ((8, row.sources), (9, source), (10, row.notes)):
            sheet.write_string(at, place, words, book.wrap)
        book.fit(sheet, at, [(row.label, 28), (held, 14), (source, 34), (row.notes, 22)])
    last, total = len(lines) + 1, len(lines) + 1
    bold = book.number(book.money, bold=True)
    for place in range(11):
        sheet.write_blank(total, place, None, bold)
    sheet.write_string(total, 0, book.say("total_purchase"), book.style(bold=True, top=1))
    sheet.write_string(total, 6, money, book.style(bold=True, top=1, align="left", indent=1))
    for end in ENDS:
        _, sum_at, usd_at = _BILL[end]
        column, in_usd = column_letter(sum_at), column_letter(usd_at)
        formula = f"=SUM({column}2:{column}{last})" if lines else "=0"
        sheet.write_formula(total, sum_at, formula, bold, getattr(book.cost.purchase, end))
        book.cells[f"purchase_{end}"] = book.ref("bill", total, sum_at)
        raw = f"=SUMPRODUCT($B2:$B{last},{in_usd}2:{in_usd}{last})" if lines else "=0"
        value = sum(row.line.quantity * _usd(book, row, end) for row in lines)
        sheet.write_formula(total, usd_at, raw, usd_shown, value)
        book.cells[f"purchase_usd_{end}"] = book.ref("bill", total, usd_at)
    note = book.style(italic=True, font_color="#555555")
    for at, key in enumerate(("bill_note", "usd_note"), start=total + 2):
        sheet.write_string(at, 0, book.say(key), note)
    widths = (30, 9, 15, 16, 16, 16, 9, 16, 9, 36, 24, 3, 15, 15, 16, 16, 16)
    book.page("bill", widths, (total + 3, 10), 1)


def _usd(book: Book, row: BillRow, end: str) -> float:
    if row.usd is None or row.own:
        return float(getattr(row.line.unit, end)) / book.facts.plan.terms.rate
    return float(getattr(row.usd, end))


def _excel_cents(value: float) -> float:
    """Round as spreadsheets do: half a cent of the shown decimals goes up."""
    shown = Decimal(f"{value:.15g}")
    return float(shown.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP))


def _base(amount: float, rate: float, cents: float) -> float:
    """Return an unrounded unit price such that a spreadsheet rounds it to the engine's cents."""
    for factor in (1.0, 1 - _NUDGE, 1 + _NUDGE):
        if _excel_cents(amount * factor * rate) == cents:
            return amount * factor
    return cents / rate
