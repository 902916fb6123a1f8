"""What every sheet of the workbook shares: formats, heads, pages, cells that others refer to."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

from configurator.cost.dates import When
from configurator.errors import InputError
from configurator.export.facts import Facts
from configurator.words import say

FONT = "Arial"
FONT_ZH = "Microsoft YaHei"
MONEY = {
    "USD": "[$$-409]#,##0.00", "CNY": "[$¥-804]#,##0.00", "EUR": "[$€-2] #,##0.00",
    "GBP": "[$£-809]#,##0.00",
}  # fmt: skip
ENDS = ("value", "low", "high")
SHEETS = ("summary", "bill", "cost", "memory", "sources", "exclusions")
_HEAD: dict[str, Any] = {
    "bold": True, "bg_color": "#1F3864", "font_color": "#FFFFFF", "text_wrap": True,
    "valign": "vcenter",
}  # fmt: skip
_SECTION = {"bold": True, "font_size": 12, "font_color": "#1F3864"}


def xlsxwriter() -> Any:
    """Return the module.

    Raises:
        InputError: It is not installed; names the extra.
    """
    try:
        import xlsxwriter as module
    except ImportError:
        raise InputError("export", "excel_package") from None
    return module


def column_letter(number: int) -> str:
    """Return the letter of a column counted from nought."""
    return chr(ord("A") + number)


def _width(words: str) -> int:
    """Characters as wide as Latin ones; a Chinese one takes two."""
    return sum(2 if ord(character) > 0x2E80 else 1 for character in words)


class Book:
    """The sheets of one workbook; notes the cells that other sheets refer to."""

    def __init__(self, file: Any, facts: Facts) -> None:
        self.file, self.facts = file, facts
        self.cost, self.currency = facts.cost, facts.plan.terms.currency
        self.money = MONEY.get(self.currency, "#,##0.00")
        self.font = FONT_ZH if facts.language == "zh" else FONT
        self._formats: dict[tuple[tuple[str, Any], ...], Any] = {}
        self.names = {name: self.say(f"sheet.{name}") for name in SHEETS}
        self.sheets = {name: file.add_worksheet(self.names[name]) for name in SHEETS}
        self.cells: dict[str, str] = {}

    def say(self, key: str, **values: Any) -> str:
        """Return a phrase of the papers."""
        return say(f"export.{key}", self.facts.language, **values)

    def style(self, **settings: Any) -> Any:
        """Return a format; one object for the same settings."""
        base = {"font_name": self.font, "font_size": 10, "valign": "top", **settings}
        key = tuple(sorted(base.items()))
        if key not in self._formats:
            self._formats[key] = self.file.add_format(base)
        return self._formats[key]

    @property
    def wrap(self) -> Any:
        """Text in as many lines as it needs."""
        return self.style(text_wrap=True)

    @property
    def beside(self) -> Any:
        """Text right of numbers."""
        return self.style(text_wrap=True, align="left", indent=1)

    def title(self, sheet: Any, row: int, words: str) -> None:
        """Write the heading of a block."""
        sheet.write_string(row, 0, words, self.style(**_SECTION))
        sheet.set_row(row, 18)

    def number(self, pattern: str, *, bold: bool = False, edit: bool = False) -> Any:
        """Return the format of a number; ``edit`` marks an input cell."""
        settings: dict[str, Any] = {"num_format": pattern}
        if bold:
            settings |= {"bold": True, "top": 1}
        if edit:
            settings |= {"bg_color": "#FFF9E0", "font_color": "#1F3FBF", "border": 1,
                         "border_color": "#D9C98A"}  # fmt: skip
        return self.style(**settings)

    def when(self, sheet: Any, row: int, column: int, when: When) -> None:
        """Write when a price held: a date where that is one day, else words."""
        if when.day is None:
            sheet.write_string(row, column, when.text(self.facts.language), self.beside)
        else:
            style = self.style(num_format="yyyy-mm-dd", align="left", indent=1)
            sheet.write_datetime(row, column, dt.datetime.combine(when.day, dt.time()), style)

    def ref(self, sheet: str, row: int, column: int) -> str:
        """An absolute reference to a cell, with its sheet."""
        return f"'{self.names[sheet]}'!${column_letter(column)}${row + 1}"

    def heads(self, sheet: Any, row: int, titles: Sequence[str], right: str = "") -> None:
        """Write heads; ``right`` names the columns, by letter, that hold numbers."""
        for column, title in enumerate(titles):
            settings = dict(_HEAD)
            if column_letter(column) in right:
                settings["align"] = "right"
            elif column and column_letter(column - 1) in right:
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

    @property
    def rate_cell(self) -> str:
        """What turns US dollars into the currency shown."""
        return "1" if self.currency == "USD" else self.cells["exchange"]
