"""A plan as an Excel workbook: live formulas over input cells, sources, exclusions."""

from __future__ import annotations

import datetime as dt
import io
import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from configurator.cost import Range, formulas
from configurator.errors import InputError
from configurator.export import text
from configurator.export.facts import BillRow, Facts, facts_of, short_ids
from configurator.recommend import Plan, Request
from configurator.units import HOURS_PER_YEAR
from configurator.words import say

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FONT = "Arial"
FONT_ZH = "Microsoft YaHei"
RUNNING = ("power", "hosting", "support", "staff", "resale")
MAX_YEARS = 5
_MONEY = {
    "USD": "[$$-409]#,##0.00", "CNY": "[$¥-804]#,##0.00", "EUR": "[$€-2] #,##0.00",
    "GBP": "[$£-809]#,##0.00",
}  # fmt: skip
_ENDS = ("value", "low", "high")
# Columns of the bill: unit price, amount, unit price in US dollars.
_BILL = {"value": (2, 3, 14), "low": (12, 4, 15), "high": (13, 5, 16)}
# Inputs without a range.
_SINGLE = ("years", "utilisation", "idle", "card_w", "host_w", "exchange")
_SHEETS = ("summary", "bill", "cost", "memory", "sources", "exclusions")
_HEAD: dict[str, Any] = {
    "bold": True, "bg_color": "#1F3864", "font_color": "#FFFFFF", "text_wrap": True,
    "valign": "vcenter",
}  # fmt: skip
_SECTION = {"bold": True, "font_size": 12, "font_color": "#1F3864"}
# Moves a sum that lies on half a cent to the side that the engine rounds it to.
_NUDGE = 1e-10


def xlsxwriter() -> Any:
    """Return the module.

    Raises:
        InputError: It is not installed; names the extra.
    """
    try:
        import xlsxwriter as module
    except ImportError:
        raise InputError(
            "export", "Excel files need XlsxWriter: pip install 'gpu-configurator[export]'"
        ) from None
    return module


def workbook(plan: Plan, request: Request, language: str = "en", address: str = "") -> bytes:
    """Return a plan as an XLSX file.

    Sums are formulas; what they start from are input cells (marked yellow). Every formula carries
    the engine's own value, for viewers that do not calculate.

    Args:
        plan: The plan.
        request: What was asked.
        language: ``en`` or ``zh``.
        address: Of the page, put before the link's parameters.

    Raises:
        InputError: XlsxWriter is not installed.
    """
    out = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    book = xlsxwriter().Workbook(out, options)
    facts = facts_of(plan, request, language, address)
    book.set_properties({"title": facts.title, "comments": say("export.not_a_quotation", language)})
    book.set_calc_mode("auto")
    _Book(book, facts).write()
    book.close()
    return out.getvalue()


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


def _column(number: int) -> str:
    return chr(ord("A") + number)


def _width(words: str) -> int:
    """Characters as wide as Latin ones; a Chinese one takes two."""
    return sum(2 if ord(character) > 0x2E80 else 1 for character in words)


class _Book:
    """The sheets of one workbook; notes the cells that other sheets refer to."""

    def __init__(self, book: Any, facts: Facts) -> None:
        self.book, self.facts = book, facts
        self.cost, self.currency = facts.cost, facts.plan.terms.currency
        self.money = _MONEY.get(self.currency, "#,##0.00")
        self.font = FONT_ZH if facts.language == "zh" else FONT
        self._formats: dict[tuple[tuple[str, Any], ...], Any] = {}
        self.names = {name: self.say(f"sheet.{name}") for name in _SHEETS}
        self.sheets = {name: book.add_worksheet(self.names[name]) for name in _SHEETS}
        self.cells: dict[str, str] = {}

    def say(self, key: str, **values: Any) -> str:
        return say(f"export.{key}", self.facts.language, **values)

    def style(self, **settings: Any) -> Any:
        base = {"font_name": self.font, "font_size": 10, "valign": "top", **settings}
        key = tuple(sorted(base.items()))
        if key not in self._formats:
            self._formats[key] = self.book.add_format(base)
        return self._formats[key]

    @property
    def wrap(self) -> Any:
        return self.style(text_wrap=True)

    @property
    def beside(self) -> Any:
        """Text right of numbers."""
        return self.style(text_wrap=True, align="left", indent=1)

    def title(self, sheet: Any, row: int, words: str) -> None:
        sheet.write_string(row, 0, words, self.style(**_SECTION))
        sheet.set_row(row, 18)

    def number(self, pattern: str, *, bold: bool = False, edit: bool = False) -> Any:
        settings: dict[str, Any] = {"num_format": pattern}
        if bold:
            settings |= {"bold": True, "top": 1}
        if edit:
            settings |= {"bg_color": "#FFF9E0", "font_color": "#1F3FBF", "border": 1,
                         "border_color": "#D9C98A"}  # fmt: skip
        return self.style(**settings)

    def ref(self, sheet: str, row: int, column: int) -> str:
        """An absolute reference to a cell, with its sheet."""
        return f"'{self.names[sheet]}'!${_column(column)}${row + 1}"

    def heads(self, sheet: Any, row: int, titles: Sequence[str], right: str = "") -> None:
        """Write heads; ``right`` names the columns, by letter, that hold numbers."""
        for column, title in enumerate(titles):
            settings = dict(_HEAD)
            if _column(column) in right:
                settings["align"] = "right"
            elif column and _column(column - 1) in right:
                settings |= {"align": "left", "indent": 1}
            sheet.write_string(row, column, title, self.style(**settings))

    def fit(self, sheet: Any, row: int, cells: Sequence[tuple[str, float]]) -> None:
        """Make a row as high as its texts need in columns of these widths."""
        lines = max(math.ceil(_width(words) / wide) for words, wide in cells)
        if lines > 1:
            sheet.set_row(row, 13.5 * lines)

    def page(
        self, name: str, widths: Sequence[float], area: tuple[int, int], frozen: int,
        *, portrait: bool = False,
    ) -> None:  # fmt: skip
        """Set widths, the print area, A4 in one page's width, repeated heads."""
        sheet = self.sheets[name]
        for column, width in enumerate(widths):
            sheet.set_column(column, column, width)
        if not portrait:
            sheet.set_landscape()
        sheet.set_paper(9)
        sheet.set_margins(left=0.5, right=0.5, top=0.6, bottom=0.7)
        sheet.fit_to_pages(1, 0)
        sheet.print_area(0, 0, area[0], area[1])
        sheet.hide_gridlines(2)
        if frozen:
            sheet.freeze_panes(frozen, 0)
            sheet.repeat_rows(0, frozen - 1)
        notice = self.say("not_a_quotation").replace("&", "&&")
        sheet.set_footer(f"&L&8{notice}&R&8{self.names[name]}  &P / &N")

    def write(self) -> None:
        """Write every sheet; those referred to first."""
        self._inputs_cells()
        self._bill()
        self._cost()
        self._memory()
        self._sources()
        self._exclusions()
        self._summary()
        self.sheets["summary"].activate()

    # -- bill of materials

    def _bill(self) -> None:
        """Lines × unit prices; unit prices of the range and in US dollars right of what prints."""
        sheet, money, rate = self.sheets["bill"], self.currency, self.rate_cell
        heads = [
            self.say("head.item"), self.say("head.quantity"),
            self.say("head.unit_price", currency=money), self.say("head.amount", currency=money),
            self.say("head.amount_low"), self.say("head.amount_high"), self.say("head.currency"),
            self.say("head.date"), self.say("head.sources"), self.say("head.source"),
            self.say("head.notes"), "", self.say("head.unit_low"), self.say("head.unit_high"),
            *(self.say(f"head.usd_{end}") for end in _ENDS),
        ]  # fmt: skip
        self.heads(sheet, 0, heads, "BCDEFMNOPQ")
        sheet.set_row(0, 30)
        shown, edit = self.number(self.money), self.number(self.money, edit=True)
        pattern = _MONEY["USD"].replace(".00", ".00####")
        usd, usd_shown = self.number(pattern, edit=True), self.number(pattern)
        day = self.style(num_format="yyyy-mm-dd", align="left", indent=1)
        texts = {row.id: row.text for row in self.facts.sources}
        lines = [row for row in self.facts.bill if row.line.group == "purchase"]
        for at, row in enumerate(lines, start=1):
            line, source = row.line, texts.get(row.sources, "")
            sheet.write_string(at, 0, row.label, self.wrap)
            sheet.write_number(at, 1, line.quantity, self.number("#,##0", edit=True))
            for end in _ENDS:
                unit_at, sum_at, usd_at = _BILL[end]
                unit, amount = getattr(line.unit, end), getattr(line.amount, end)
                unit_cell, usd_cell = f"{_column(unit_at)}{at + 1}", f"{_column(usd_at)}{at + 1}"
                if row.usd is None or row.own:
                    in_usd = unit / self.facts.plan.terms.rate
                    sheet.write_number(at, unit_at, unit, edit)
                    sheet.write_formula(at, usd_at, f"={unit_cell}/{rate}", usd_shown, in_usd)
                else:
                    base = _base(getattr(row.usd, end), self.facts.plan.terms.rate, unit)
                    sheet.write_number(at, usd_at, base, usd)
                    sheet.write_formula(at, unit_at, f"=ROUND({usd_cell}*{rate},2)", shown, unit)
                formula = f"=ROUND($B{at + 1}*{unit_cell},2)"
                sheet.write_formula(at, sum_at, formula, shown, amount)
            sheet.write_string(at, 6, money, self.beside)
            if line.date is not None:
                sheet.write_datetime(at, 7, dt.datetime.combine(line.date, dt.time()), day)
            for place, words in ((8, row.sources), (9, source), (10, row.notes)):
                sheet.write_string(at, place, words, self.wrap)
            self.fit(sheet, at, [(row.label, 28), (source, 34), (row.notes, 22)])
        last, total = len(lines) + 1, len(lines) + 1
        bold = self.number(self.money, bold=True)
        for place in range(11):
            sheet.write_blank(total, place, None, bold)
        sheet.write_string(total, 0, self.say("total_purchase"), self.style(bold=True, top=1))
        sheet.write_string(total, 6, money, self.style(bold=True, top=1, align="left", indent=1))
        for end in _ENDS:
            _, sum_at, usd_at = _BILL[end]
            column, in_usd = _column(sum_at), _column(usd_at)
            formula = f"=SUM({column}2:{column}{last})" if lines else "=0"
            sheet.write_formula(total, sum_at, formula, bold, getattr(self.cost.purchase, end))
            self.cells[f"purchase_{end}"] = self.ref("bill", total, sum_at)
            raw = f"=SUMPRODUCT($B2:$B{last},{in_usd}2:{in_usd}{last})" if lines else "=0"
            value = sum(row.line.quantity * self._usd(row, end) for row in lines)
            sheet.write_formula(total, usd_at, raw, usd_shown, value)
            self.cells[f"purchase_usd_{end}"] = self.ref("bill", total, usd_at)
        note = self.style(italic=True, font_color="#555555")
        for at, key in enumerate(("bill_note", "usd_note"), start=total + 2):
            sheet.write_string(at, 0, self.say(key), note)
        widths = (30, 9, 15, 16, 16, 16, 9, 11, 9, 36, 24, 3, 15, 15, 16, 16, 16)
        self.page("bill", widths, (total + 3, 10), 1)

    def _usd(self, row: BillRow, end: str) -> float:
        if row.usd is None or row.own:
            return float(getattr(row.line.unit, end)) / self.facts.plan.terms.rate
        return float(getattr(row.usd, end))

    # -- cost over the years

    @property
    def rate_cell(self) -> str:
        """What turns US dollars into the currency shown."""
        return "1" if self.currency == "USD" else self.cells["exchange"]

    def _inputs(self) -> list[tuple[str, str, float | Range, str, str, str]]:
        """The input rows: id, label, figure, unit, sources, number format."""
        facts, rates = self.facts, self.facts.rates
        share, plain = "0.0%", "#,##0.####"
        formats = {
            "utilisation": share, "idle": share, "support": share, "staff": share,
            "resale": share, "tariff": "#,##0.0000", "hosting": self.money,
        }  # fmt: skip
        rows: list[tuple[str, str, float | Range, str, str, str]] = []
        for rate in rates.values():
            figure = float(rate.amount.value) if rate.id in _SINGLE else rate.amount
            pattern = formats.get(rate.id, plain)
            rows.append((rate.id, rate.label, figure, rate.unit, rate.sources, pattern))
            if rate.id == "card_w":
                label = self.say("rate.cards")
                rows.insert(-1, ("cards", label, float(facts.installed), "", "", "#,##0"))
            if rate.id == "host_w":
                label = self.say("rate.hosts")
                rows.insert(-1, ("hosts", label, float(facts.plan.nodes), "", "", "#,##0"))
        rented = float(facts.rented)
        rows.append(("rented", self.say("rate.rented"), rented, "", "", "#,##0"))
        return rows

    def _inputs_cells(self) -> None:
        """Note where each input will stand, before anything refers to it."""
        self.inputs = self._inputs()
        for at, (name, _, figure, *_rest) in enumerate(self.inputs, start=2):
            wide = isinstance(figure, Range)
            for place, end in enumerate(_ENDS):
                self.cells[f"{name}_{end}"] = self.ref("cost", at, 1 + place if wide else 1)
            self.cells[name] = self.ref("cost", at, 1)

    def _cost(self) -> None:
        sheet = self.sheets["cost"]
        labels = [
            self.say(f"head.{key}") for key in ("item", "value", "low", "high", "unit", "sources")
        ]
        self.title(sheet, 0, self.say("inputs_title"))
        self.heads(sheet, 1, labels, "BCD")
        for at, (name, label, figure, unit, sources, pattern) in enumerate(self.inputs, start=2):
            edit = self.number(pattern, edit=True)
            sheet.write_string(at, 0, label, self.wrap)
            figures = figure if isinstance(figure, Range) else Range.exact(figure)
            for place, end in enumerate(_ENDS if isinstance(figure, Range) else _ENDS[:1]):
                sheet.write_number(at, 1 + place, float(getattr(figures, end)), edit)
            sheet.write_string(at, 4, unit, self.beside)
            sheet.write_string(at, 5, short_ids(sources), self.wrap)
            self._check(sheet, at, name)
        row = self._power(sheet, len(self.inputs) + 3)
        row = self._sums(sheet, row + 1)
        row = self._cloud(sheet, row + 1)
        row = self._by_year(sheet, row + 1)
        self.page("cost", (46, 18, 18, 18, 16, 14, 14), (row, 6), 0)
        sheet.freeze_panes(2, 1)

    def _check(self, sheet: Any, row: int, name: str) -> None:
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
                "error_title": self.say("title_short"),
                "error_message": self.say("between", least=least, most=most),
            })  # fmt: skip

    def _power(self, sheet: Any, row: int) -> int:
        cells, cost = self.cells, self.cost
        self.title(sheet, row, self.say("power_title"))
        busy, idle = cells["utilisation"], cells["idle"]
        shown = self.number("#,##0.0")

        def step(at: int, name: str, formula: str, value: float, unit: str) -> str:
            sheet.write_string(at, 0, self.say(f"field.{name}"), self.wrap)
            sheet.write_formula(at, 1, formula, shown, value)
            sheet.write_string(at, 4, unit, self.beside)
            cells[name] = self.ref("cost", at, 1)
            return cells[name]

        formula = f"={cells['cards']}*{cells['card_w']}+{cells['hosts']}*{cells['host_w']}"
        peak = step(row + 1, "peak_power", formula, cost.peak_power_w, "W")
        formula = f"={peak}*({idle}+(1-{idle})*{busy})"
        mean = step(row + 2, "average_power", formula, cost.average_power_w, "W")
        formula = f"={mean}/1000*{cells['pue']}*{HOURS_PER_YEAR}"
        step(row + 3, "kwh_per_year", formula, cost.kwh_per_year, "kWh")
        return row + 4

    def _yearly(self, name: str, end: str) -> str:
        """The formula of a running cost a year, before rounding."""
        cells = self.cells
        raw = f"{cells[f'purchase_usd_{end}']}*{self.rate_cell}"
        energy = (
            f"{cells['average_power']}/1000*{HOURS_PER_YEAR}*{cells[f'pue_{end}']}"
            f"*{cells[f'tariff_{end}']}"
        )
        hosting = f"{cells['peak_power']}/1000*{formulas.MONTHS_PER_YEAR}*{cells[f'hosting_{end}']}"
        support = f"{raw}*{cells[f'support_{end}']}"
        staff = cells[f"staff_{end}"]
        years = cells["years"]
        other = f"({raw}+({energy}+{hosting}+{support})*{years})"
        return {
            "power": energy, "hosting": hosting, "support": support,
            "staff": f"{other}*{staff}/(1-{staff})/{years}",
        }[name]  # fmt: skip

    def _sums(self, sheet: Any, row: int) -> int:
        cells, cost = self.cells, self.cost
        money, years = self.currency, cells["years"]
        self.title(sheet, row, self.say("cost_title", currency=money))
        titles = [
            self.say("head.item"),
            *(f"{self.say('head.all_years')}{self.say(f'head.paren_{end}')}" for end in _ENDS),
            *(f"{self.say('head.a_year')}{self.say(f'head.paren_{end}')}" for end in _ENDS),
        ]  # fmt: skip
        self.heads(sheet, row + 1, titles, "BCDEFG")
        shown = self.number(self.money)
        first = row + 2
        sheet.write_string(first, 0, self.say("total_purchase"), self.wrap)
        for place, end in enumerate(_ENDS):
            value = getattr(cost.purchase, end)
            sheet.write_formula(first, 1 + place, f"={cells[f'purchase_{end}']}", shown, value)
        lines = {row_.line.id: row_ for row_ in self.facts.bill if row_.line.group == "running"}
        for at, name in enumerate(RUNNING, start=first + 1):
            found = lines.get(name)
            unit = found.line.unit if found else Range.exact(0.0)
            amount = found.line.amount if found else Range.exact(0.0)
            sheet.write_string(at, 0, say(f"cost.line.{name}", self.facts.language), self.wrap)
            for place, end in enumerate(_ENDS):
                value = getattr(amount, end)
                if name == "resale":
                    # As cost it is negative: the low total takes the high resale.
                    other = {"value": "value", "low": "high", "high": "low"}[end]
                    back = f"{cells[f'purchase_usd_{other}']}*{self.rate_cell}"
                    formula = f"=-ROUND({back}*{cells[f'resale_{other}']},2)"
                    sheet.write_formula(at, 1 + place, formula, shown, value)
                    continue
                yearly = f"=ROUND({self._yearly(name, end)},2)"
                sheet.write_formula(at, 4 + place, yearly, shown, getattr(unit, end))
                cell = f"{_column(4 + place)}{at + 1}"
                sheet.write_formula(at, 1 + place, f"=ROUND({cell}*{years},2)", shown, value)
                cells[f"yearly_{name}_{end}"] = self.ref("cost", at, 4 + place)
        total = first + len(RUNNING) + 1
        bold = self.number(self.money, bold=True)
        sheet.write_string(total, 0, self.say("total_cost"), self.style(bold=True, top=1))
        for place, end in enumerate(_ENDS):
            letter = _column(1 + place)
            formula = f"=SUM({letter}{first + 1}:{letter}{total})"
            sheet.write_formula(total, 1 + place, formula, bold, getattr(cost.total, end))
            cells[f"total_{end}"] = self.ref("cost", total, 1 + place)
            letter = _column(4 + place)
            formula = f"=SUM({letter}{first + 2}:{letter}{total})"
            value = sum(getattr(lines[n].line.unit, end) for n in RUNNING[:-1] if n in lines)
            sheet.write_formula(total, 4 + place, formula, bold, value)
            cells[f"yearly_{end}"] = self.ref("cost", total, 4 + place)
        row = self._other_money(sheet, total + 1)
        return self._per_token(sheet, row)

    def _other_money(self, sheet: Any, row: int) -> int:
        """The totals in the other of the two currencies."""
        rate, exchange = self.cells["exchange"], float(self.facts.rates["exchange"].amount.value)
        other, sign = ("CNY", "*") if self.currency == "USD" else ("USD", "/")
        factor = exchange if self.currency == "USD" else 1 / exchange
        shown = self.number(_MONEY[other])
        sheet.write_string(row, 0, self.say("total_in", currency=other), self.wrap)
        for place, end in enumerate(_ENDS):
            value = getattr(self.cost.total, end) * factor
            formula = f"={self.cells[f'total_{end}']}{sign}{rate}"
            sheet.write_formula(row, 1 + place, formula, shown, value)
        return row + 1

    def _per_token(self, sheet: Any, row: int) -> int:
        speed = self.facts.estimate.performance
        per_s = speed.output_tokens_per_s or speed.train_tokens_per_s
        per_token = self.cost.per_million_tokens
        if not per_s or per_token is None:
            return row
        cells = self.cells
        sheet.write_string(row, 0, self.say("tokens_per_s"), self.wrap)
        sheet.write_number(row, 1, float(per_s), self.number("#,##0.0", edit=True))
        rate = self.ref("cost", row, 1)
        seconds = HOURS_PER_YEAR * 3600
        sheet.write_string(row + 1, 0, self.facts.per_token_label, self.wrap)
        made = f"({rate}*{cells['utilisation']}*{cells['years']}*{seconds}/1000000)"
        formula = f"={cells['total_value']}/{made}"
        shown = self.number(self.money)
        sheet.write_formula(row + 1, 1, formula, shown, float(per_token.value))
        return row + 2

    def _cloud(self, sheet: Any, row: int) -> int:
        facts, cells, cost = self.facts, self.cells, self.cost
        self.title(sheet, row, self.say("cloud_title", currency=self.currency))
        if not cost.rents:
            sheet.write_string(row + 1, 0, self.say("no_cloud"), self.wrap)
            return row + 2
        titles = [
            self.say("head.item"), self.say("head.value"), self.say("head.low"),
            self.say("head.high"), self.say("head.date"), self.say("head.sources"),
        ]  # fmt: skip
        self.heads(sheet, row + 1, titles, "BCD")
        row += 2
        money, edit = self.number(self.money), self.number(_MONEY["USD"], edit=True)
        day = self.style(num_format="yyyy-mm-dd", align="left", indent=1)
        years, busy, rented = cells["years"], cells["utilisation"], cells["rented"]
        staff = cells["staff_value"]
        for rent in cost.rents:
            name = self.say(f"rental.{rent.rental}")
            by_hour = rent.rental != "reserved"
            used = f"*{busy}" if by_hour else ""
            hours = f"{rented}*{years}*{HOURS_PER_YEAR}"
            sheet.write_string(row, 0, self.say("rent.price", rental=name), self.wrap)
            sheet.write_string(row + 1, 0, self.say("rent.total", rental=name), self.wrap)
            for place, end in enumerate(_ENDS):
                price = float(getattr(rent.price.amount, end))
                sheet.write_number(row, 1 + place, price, edit)
                cell = self.ref("cost", row, 1 + place)
                formula = f"=ROUND({hours}{used}*{cell}*{self.rate_cell},2)"
                sheet.write_formula(row + 1, 1 + place, formula, money, getattr(rent.total, end))
            day_of = dt.datetime.combine(rent.price.date, dt.time())
            sheet.write_datetime(row, 4, day_of, day)
            sheet.write_string(row, 5, short_ids(facts.rent_sources[rent.rental]), self.wrap)
            total, price_cell = self.ref("cost", row + 1, 1), self.ref("cost", row, 1)
            cells[f"rent_{rent.rental}"] = total
            months = f"({years}*{formulas.MONTHS_PER_YEAR})"
            bought, own = cells["purchase_value"], cells["total_value"]
            saved = f"(({total}-({own}-{bought}))/{months})"
            never = self.say("never").replace('"', '""')
            figure = self.style(num_format="0.0", align="right")
            self._result(
                sheet,
                row + 2,
                self.say("rent.month", rental=name),
                f'=IF({saved}>0,{bought}/{saved},"{never}")',
                figure,
                rent.break_even_month,
                never,
            )
            share = self.style(num_format="0.0%", align="right")
            if by_hour:
                always = f"({hours}*{price_cell}*{self.rate_cell})"
                energy = (
                    f"({cells['peak_power']}*(1-{cells['idle']})/1000*{HOURS_PER_YEAR}"
                    f"*{cells['pue_value']}*{cells['tariff_value']}*{years}/(1-{staff}))"
                )
                formula = (
                    f'=IF({always}>{energy},({own}-{energy}*{busy})/({always}-{energy}),"{never}")'
                )
                self._result(
                    sheet,
                    row + 3,
                    self.say("rent.use", rental=name),
                    formula,
                    share,
                    rent.break_even_utilisation,
                    never,
                )
                row += 1
            self._result(
                sheet,
                row + 3,
                self.say("rent.share", rental=name),
                f"={own}/{total}",
                share,
                rent.own_share,
                never,
            )
            row += 4
        return row

    def _result(
        self, sheet: Any, row: int, label: str, formula: str, style: Any, value: float, never: str
    ) -> None:
        sheet.write_string(row, 0, label, self.wrap)
        sheet.write_formula(row, 1, formula, style, value if math.isfinite(value) else never)

    def _by_year(self, sheet: Any, row: int) -> int:
        """What has been paid by the end of each year, owning and renting, as table and chart."""
        cells, cost = self.cells, self.cost
        self.title(sheet, row, self.say("by_year_title", currency=self.currency))
        names = [self.say("own"), *(self.say(f"rental.{rent.rental}") for rent in cost.rents)]
        self.heads(sheet, row + 1, [self.say("head.after_years"), *names], "BCDE")
        shown, first = self.number(self.money), row + 2
        running = [
            r.line.unit.value for r in self.facts.bill
            if r.line.group == "running" and r.line.id != "resale"
        ]  # fmt: skip
        for year in range(MAX_YEARS + 1):
            at = first + year
            sheet.write_number(at, 0, year, self.style(num_format="0", align="left"))
            formula = f"={cells['purchase_value']}+$A{at + 1}*{cells['yearly_value']}"
            value = cost.purchase.value + year * sum(running)
            sheet.write_formula(at, 1, formula, shown, value)
            for place, rent in enumerate(cost.rents, start=2):
                formula = f"={cells[f'rent_{rent.rental}']}/{cells['years']}*$A{at + 1}"
                value = rent.total.value / cost.terms.years * year
                sheet.write_formula(at, place, formula, shown, value)
        last = first + MAX_YEARS
        chart = self.book.add_chart({"type": "line"})
        colours = ("#1F3864", "#D9822B", "#2E8B57", "#8E44AD")
        for place, name in enumerate(names, start=1):
            chart.add_series({
                "name": name, "categories": [self.names["cost"], first, 0, last, 0],
                "values": [self.names["cost"], first, place, last, place],
                "line": {"color": colours[place - 1], "width": 2},
                "marker": {"type": "circle", "size": 4, "fill": {"color": colours[place - 1]},
                           "border": {"color": colours[place - 1]}},
            })  # fmt: skip
        font = {"name": self.font, "size": 9}
        chart.set_title({"name": self.say("by_year_title", currency=self.currency),
                         "name_font": {**font, "size": 11}})  # fmt: skip
        chart.set_x_axis({"name": self.say("head.after_years"), "name_font": font,
                          "num_font": font})  # fmt: skip
        whole = self.money.replace(".00", "")
        lines = {"visible": True, "line": {"color": "#E0E0E0"}}
        chart.set_y_axis({"num_format": whole, "num_font": font, "major_gridlines": lines})
        chart.set_legend({"position": "bottom", "font": font})
        chart.set_size({"width": 900, "height": 320})
        sheet.insert_chart(last + 2, 0, chart)
        sheet.write_string(last + 1, 0, self.say("by_year_note"),
                           self.style(italic=True, font_color="#555555"))  # fmt: skip
        return last + 19

    # -- memory, sources, exclusions

    def _memory(self) -> None:
        sheet, facts = self.sheets["memory"], self.facts
        memory = facts.estimate.memory
        self.title(sheet, 0, self.say("memory_title"))
        self.heads(sheet, 1, [self.say("head.part"), "GiB"], "B")
        gib, bold = self.number("#,##0.00"), self.number("#,##0.00", bold=True)
        for at, part in enumerate(facts.memory, start=2):
            sheet.write_string(at, 0, part.label, self.wrap)
            sheet.write_number(at, 1, part.gib, gib)
        total = 2 + len(facts.memory)
        sheet.write_string(total, 0, self.say("memory.total"), self.style(bold=True, top=1))
        sheet.write_formula(total, 1, f"=SUM(B3:B{total})", bold, memory.total_gib)
        rows = (
            ("total_low", memory.total_low_gib), ("total_high", memory.total_high_gib),
            ("required", memory.required_gib), ("required_low", memory.required_low_gib),
            ("required_high", memory.required_high_gib), ("capacity", memory.capacity_gib),
            ("budget", memory.budget_gib),
        )  # fmt: skip
        at = total + 1
        for name, value in rows:
            sheet.write_string(at, 0, self.say(f"memory.{name}"), self.wrap)
            sheet.write_number(at, 1, value, gib)
            self.cells[f"memory_{name}"] = self.ref("memory", at, 1)
            at += 1
        self.cells["memory_total"] = self.ref("memory", total, 1)
        sheet.write_string(at, 0, self.say("memory.headroom"), self.style(bold=True, top=1))
        formula = f"={self.cells['memory_budget']}-{self.cells['memory_required']}"
        sheet.write_formula(at, 1, formula, bold, memory.headroom_gib)
        at += 2
        self.title(sheet, at, self.say("formulas_title"))
        titles = ("part", "formula", "figure", "value", "unit", "sources")
        self.heads(sheet, at + 1, [self.say(f"head.{key}") for key in titles], "D")
        at += 2
        texts = self.style(align="left", text_wrap=True)
        for term in facts.terms:
            sheet.write_string(at, 0, term.label, self.style(bold=True, text_wrap=True))
            sheet.write_string(at, 1, term.formula, self.wrap)
            self.fit(sheet, at, [(term.formula, 38)])
            sheet.write_string(at, 2, self.say("result"), self.style(bold=True))
            sheet.write_number(at, 3, term.value, self.number("#,##0.0000"))
            sheet.write_string(at, 4, term.unit, self.beside)
            at += 1
            for label, given, unit, sources in term.inputs:
                sheet.write_string(at, 2, label, self.wrap)
                if isinstance(given, str):
                    sheet.write_string(at, 3, given, texts)
                else:
                    pattern = "#,##0" if given.is_integer() else "#,##0.0000"
                    sheet.write_number(at, 3, given, self.number(pattern))
                sheet.write_string(at, 4, unit, self.beside)
                sheet.write_string(at, 5, short_ids(sources), self.wrap)
                at += 1
        self.page("memory", (40, 40, 32, 20, 10, 18), (at, 5), 0)

    def _sources(self) -> None:
        sheet = self.sheets["sources"]
        self.heads(sheet, 0, [self.say(f"head.{key}") for key in ("id", "of", "source", "date")])
        for at, row in enumerate(self.facts.sources, start=1):
            for column, value in enumerate((row.id, row.of, row.text, row.date)):
                sheet.write_string(at, column, value, self.wrap)
            self.fit(sheet, at, [(row.of, 42), (row.text, 92)])
        self.page("sources", (7, 44, 90, 12), (len(self.facts.sources), 3), 1)

    def _exclusions(self) -> None:
        sheet = self.sheets["exclusions"]
        self.heads(sheet, 0, [self.say("head.not_included")])
        for at, name in enumerate(self.facts.exclusions, start=1):
            sheet.write_string(at, 0, name, self.wrap)
        self.page("exclusions", (80,), (len(self.facts.exclusions), 0), 1)

    # -- the first sheet

    def _summary(self) -> None:
        sheet, facts, cells = self.sheets["summary"], self.facts, self.cells
        label, value = self.style(font_color="#555555", text_wrap=True), self.wrap
        sheet.set_column(0, 3, 10)
        sheet.write_string(0, 0, facts.title, self.style(bold=True, font_size=15))
        sheet.set_row(0, 24)
        note = self.style(bold=True, font_color="#B03A2E")
        sheet.write_string(1, 0, self.say("not_a_quotation_long"), note)
        colour = {"yes": "#1E7B34", "tight": "#B9770E", "no": "#B03A2E"}[facts.fits]
        sheet.write_string(2, 0, facts.verdict, self.style(bold=True, font_color=colour))
        row = 4
        money = self.number(self.money)
        self.heads(sheet, row, [self.say("head.money", currency=self.currency),
                                *(self.say(f"head.{end}") for end in _ENDS)], "BCD")  # fmt: skip
        sums = (
            ("total_purchase", "purchase", self.cost.purchase),
            ("total_cost", "total", self.cost.total),
        )
        for title, cell, amount in sums:
            row += 1
            sheet.write_string(row, 0, self.say(title), label)
            for place, end in enumerate(_ENDS):
                sheet.write_formula(row, 1 + place, f"={cells[f'{cell}_{end}']}", money,
                                    getattr(amount, end))  # fmt: skip
        row += 1
        sheet.write_string(row, 0, self.say("rate.years"), label)
        years = self.style(num_format="0", align="right")
        sheet.write_formula(row, 1, f"={cells['years']}", years, self.cost.terms.years)
        row += 2
        gib = self.number("#,##0.0")
        self.heads(sheet, row, [self.say("head.memory"),
                                *(self.say(f"head.{end}") for end in _ENDS)], "BCD")  # fmt: skip
        for name in ("required", "total"):
            row += 1
            sheet.write_string(row, 0, self.say(f"memory.{name}"), label)
            for place, end in enumerate(("", "_low", "_high")):
                number = getattr(facts.estimate.memory, f"{name}{end}_gib")
                formula = f"={cells[f'memory_{name}{end}']}"
                sheet.write_formula(row, 1 + place, formula, gib, number)
        for part in facts.memory:
            row += 1
            sheet.write_string(row, 0, part.label, self.style(indent=1, font_color="#555555"))
            sheet.write_number(row, 1, part.gib, gib)
        row += 1
        sheet.write_string(row, 0, self.say("memory.budget"), label)
        sheet.write_formula(
            row, 1, f"={cells['memory_budget']}", gib, facts.estimate.memory.budget_gib
        )
        row += 2
        self.heads(sheet, row, [self.say("head.speed"),
                                *(self.say(f"head.{end}") for end in _ENDS)], "BCD")  # fmt: skip
        for speed in facts.speed:
            row += 1
            sheet.write_string(row, 0, f"{speed.label} [{speed.unit}]", label)
            style = self.number("#,##0.000" if speed.value < 10 else "#,##0")
            for place, number in enumerate((speed.value, speed.low, speed.high)):
                if number is not None:
                    sheet.write_number(row, 1 + place, number, style)
        blocks = (
            ("head.scenario", facts.scenario), ("head.plan", facts.plan_rows),
            ("head.asked", facts.limits),
        )  # fmt: skip
        for title, pairs in blocks:
            row += 2
            self.heads(sheet, row, [self.say(title), "", "", ""])
            for name, words in pairs:
                row += 1
                sheet.write_string(row, 0, name, label)
                sheet.merge_range(row, 1, row, 3, "", value)
                sheet.write_string(row, 1, words, value)
        for title, sentences in (("head.why", facts.why), ("head.know", facts.notes)):
            if not sentences:
                continue
            row += 2
            self.heads(sheet, row, [self.say(title), "", "", ""])
            for words in sentences:
                row = self._paragraph(sheet, row + 1, words)
        row += 2
        self.heads(sheet, row, [self.say("head.link"), "", "", ""])
        row = self._paragraph(sheet, row + 1, facts.link)
        row += 1
        sheet.write_string(row, 0, self.say("catalog_date"), label)
        sheet.write_string(row, 1, text.date(facts.catalog_date, facts.language), value)
        self.page("summary", (46, 22, 22, 22), (row, 3), 0, portrait=True)

    def _paragraph(self, sheet: Any, row: int, words: str) -> int:
        """Text over the sheet's width, as high as it needs."""
        sheet.merge_range(row, 0, row, 3, "", self.wrap)
        sheet.write_string(row, 0, words, self.wrap)
        self.fit(sheet, row, [(words, 105)])
        return row
