"""The cost over the years: power, running costs, totals, the price of a token."""

from __future__ import annotations

from typing import Any

from configurator.cost import Range, formulas
from configurator.export.sheets.book import ENDS, MONEY, Book, column_letter
from configurator.export.sheets.inputs import Input, write_inputs
from configurator.export.sheets.renting import write_rents, write_years
from configurator.units import HOURS_PER_YEAR
from configurator.words import say

RUNNING = ("power", "hosting", "support", "staff", "resale")


def write_cost(book: Book, inputs: list[Input]) -> None:
    """Write the inputs, what follows from them, renting beside owning."""
    sheet = book.sheets["cost"]
    row = write_inputs(book, inputs)
    row = _power(book, sheet, row + 1)
    row = _sums(book, sheet, row + 1)
    row = write_rents(book, sheet, row + 1)
    row = write_years(book, sheet, row + 1)
    book.page("cost", (46, 18, 18, 18, 16, 14, 14), (row, 6), 0)
    sheet.freeze_panes(2, 1)


def _power(book: Book, sheet: Any, row: int) -> int:
    cells, cost = book.cells, book.cost
    book.title(sheet, row, book.say("power_title"))
    busy, idle = cells["utilisation"], cells["idle"]
    shown = book.number("#,##0.0")

    def step(at: int, name: str, formula: str, value: float, unit: str) -> str:
        sheet.write_string(at, 0, book.say(f"field.{name}"), book.wrap)
        sheet.write_formula(at, 1, formula, shown, value)
        sheet.write_string(at, 4, unit, book.beside)
        cells[name] = book.ref("cost", at, 1)
        return cells[name]

    formula = f"={cells['cards']}*{cells['card_w']}+{cells['hosts']}*{cells['host_w']}"
    peak = step(row + 1, "peak_power", formula, cost.peak_power_w, "W")
    formula = f"={peak}*({idle}+(1-{idle})*{busy})"
    mean = step(row + 2, "average_power", formula, cost.average_power_w, "W")
    formula = f"={mean}/1000*{cells['pue']}*{HOURS_PER_YEAR}"
    step(row + 3, "kwh_per_year", formula, cost.kwh_per_year, "kWh")
    return row + 4


def _yearly(book: Book, name: str, end: str) -> str:
    """The formula of a running cost a year, before rounding."""
    cells = book.cells
    raw = f"{cells[f'purchase_usd_{end}']}*{book.rate_cell}"
    energy = (
        f"{cells['average_power']}/1000*{HOURS_PER_YEAR}*{cells[f'pue_{end}']}"
        f"*{cells[f'tariff_{end}']}"
    )
    hosting = f"{cells['peak_power']}/1000*{formulas.MONTHS_PER_YEAR}*{cells[f'hosting_{end}']}"
    support = f"{raw}*{cells[f'support_{end}']}"
    staff = cells[f"staff_{end}"]
    other = f"({raw}/{formulas.WRITE_OFF_YEARS}+{energy}+{hosting}+{support})"
    return {
        "power": energy, "hosting": hosting, "support": support,
        "staff": f"{other}*{staff}/(1-{staff})",
    }[name]  # fmt: skip


def _sums(book: Book, sheet: Any, row: int) -> int:
    cells, cost = book.cells, book.cost
    money, years = book.currency, cells["years"]
    book.title(sheet, row, book.say("cost_title", currency=money))
    titles = [
        book.say("head.item"),
        *(f"{book.say('head.all_years')}{book.say(f'head.paren_{end}')}" for end in ENDS),
        *(f"{book.say('head.a_year')}{book.say(f'head.paren_{end}')}" for end in ENDS),
    ]  # fmt: skip
    book.heads(sheet, row + 1, titles, "BCDEFG")
    shown = book.number(book.money)
    first = row + 2
    sheet.write_string(first, 0, book.say("total_purchase"), book.wrap)
    for place, end in enumerate(ENDS):
        value = getattr(cost.purchase, end)
        sheet.write_formula(first, 1 + place, f"={cells[f'purchase_{end}']}", shown, value)
    lines = {row_.line.id: row_ for row_ in book.facts.bill if row_.line.group == "running"}
    for at, name in enumerate(RUNNING, start=first + 1):
        found = lines.get(name)
        unit = found.line.unit if found else Range.exact(0.0)
        amount = found.line.amount if found else Range.exact(0.0)
        sheet.write_string(at, 0, say(f"cost.line.{name}", book.facts.language), book.wrap)
        for place, end in enumerate(ENDS):
            value = getattr(amount, end)
            if name == "resale":
                # As cost it is negative: the low total takes the high resale.
                other = {"value": "value", "low": "high", "high": "low"}[end]
                back = f"{cells[f'purchase_usd_{other}']}*{book.rate_cell}"
                formula = f"=-ROUND({back}*{cells[f'resale_{other}']},2)"
                sheet.write_formula(at, 1 + place, formula, shown, value)
                continue
            yearly = f"=ROUND({_yearly(book, name, end)},2)"
            sheet.write_formula(at, 4 + place, yearly, shown, getattr(unit, end))
            cell = f"{column_letter(4 + place)}{at + 1}"
            sheet.write_formula(at, 1 + place, f"=ROUND({cell}*{years},2)", shown, value)
            cells[f"yearly_{name}_{end}"] = book.ref("cost", at, 4 + place)
    total = first + len(RUNNING) + 1
    bold = book.number(book.money, bold=True)
    sheet.write_string(total, 0, book.say("total_cost"), book.style(bold=True, top=1))
    for place, end in enumerate(ENDS):
        letter = column_letter(1 + place)
        formula = f"=SUM({letter}{first + 1}:{letter}{total})"
        sheet.write_formula(total, 1 + place, formula, bold, getattr(cost.total, end))
        cells[f"total_{end}"] = book.ref("cost", total, 1 + place)
        letter = column_letter(4 + place)
        formula = f"=SUM({letter}{first + 2}:{letter}{total})"
        value = sum(getattr(lines[n].line.unit, end) for n in RUNNING[:-1] if n in lines)
        sheet.write_formula(total, 4 + place, formula, bold, value)
        cells[f"yearly_{end}"] = book.ref("cost", total, 4 + place)
    row = _other_money(book, sheet, total + 1)
    return _per_token(book, sheet, row)


def _other_money(book: Book, sheet: Any, row: int) -> int:
    """The totals in the other of the two currencies."""
    rate, exchange = book.cells["exchange"], float(book.facts.rates["exchange"].amount.value)
    other, sign = ("CNY", "*") if book.currency == "USD" else ("USD", "/")
    factor = exchange if book.currency == "USD" else 1 / exchange
    shown = book.number(MONEY[other])
    sheet.write_string(row, 0, book.say("total_in", currency=other), book.wrap)
    for place, end in enumerate(ENDS):
        value = getattr(book.cost.total, end) * factor
        formula = f"={book.cells[f'total_{end}']}{sign}{rate}"
        sheet.write_formula(row, 1 + place, formula, shown, value)
    return row + 1


def _per_token(book: Book, sheet: Any, row: int) -> int:
    speed = book.facts.estimate.performance
    per_s = speed.output_tokens_per_s or speed.train_tokens_per_s
    per_token = book.cost.per_million_tokens
    if not per_s or per_token is None:
        return row
    cells = book.cells
    sheet.write_string(row, 0, book.say("tokens_per_s"), book.wrap)
    sheet.write_number(row, 1, float(per_s), book.number("#,##0.0", edit=True))
    rate = book.ref("cost", row, 1)
    seconds = HOURS_PER_YEAR * 3600
    sheet.write_string(row + 1, 0, book.facts.per_token_label, book.wrap)
    made = f"({rate}*{cells['utilisation']}*{cells['years']}*{seconds}/1000000)"
    formula = f"={cells['total_value']}/{made}"
    shown = book.number(book.money)
    sheet.write_formula(row + 1, 1, formula, shown, float(per_token.value))
    return row + 2
