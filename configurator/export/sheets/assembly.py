"""The workbook put together from its sheets."""

from __future__ import annotations

import io

from configurator.export.facts import facts_of
from configurator.export.sheets.bill import write_bill
from configurator.export.sheets.book import Book, xlsxwriter
from configurator.export.sheets.cost import write_cost
from configurator.export.sheets.inputs import place_inputs
from configurator.export.sheets.lists import write_exclusions, write_sources
from configurator.export.sheets.memory import write_memory
from configurator.export.sheets.summary import write_summary
from configurator.recommend import Plan, Request
from configurator.words import say


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
    write(Book(book, facts))
    book.close()
    return out.getvalue()


def write(book: Book) -> None:
    """Write every sheet; those referred to first."""
    inputs = place_inputs(book)
    write_bill(book)
    write_cost(book, inputs)
    write_memory(book)
    write_sources(book)
    write_exclusions(book)
    write_summary(book)
    book.sheets["summary"].activate()
