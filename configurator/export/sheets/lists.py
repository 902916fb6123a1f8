"""The sources of the figures, and what the sums leave out."""

from __future__ import annotations

from configurator.export.sheets.book import Book


def write_sources(book: Book) -> None:
    """Write each source with what it is the source of."""
    sheet = book.sheets["sources"]
    book.heads(sheet, 0, [book.say(f"head.{key}") for key in ("id", "of", "source", "date")])
    for at, row in enumerate(book.facts.sources, start=1):
        for column, value in enumerate((row.id, row.of, row.text, row.shown)):
            sheet.write_string(at, column, value, book.wrap)
        book.fit(sheet, at, [(row.of, 42), (row.text, 92)])
    book.page("sources", (7, 44, 90, 12), (len(book.facts.sources), 3), 1)


def write_exclusions(book: Book) -> None:
    """Write what the sums leave out."""
    sheet = book.sheets["exclusions"]
    book.heads(sheet, 0, [book.say("head.not_included")])
    for at, name in enumerate(book.facts.exclusions, start=1):
        sheet.write_string(at, 0, name, book.wrap)
    book.page("exclusions", (80,), (len(book.facts.exclusions), 0), 1)
