"""A company's own prices from a CSV or an Excel file; the template to fill in."""

from __future__ import annotations

import csv
import datetime as dt
import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from configurator.catalog import Catalog, load_catalog
from configurator.errors import InputError
from configurator.export.sheets import xlsxwriter
from configurator.recommend import own_prices
from configurator.recommend.own_prices import LineProblem
from configurator.recommend.request import OwnPrice
from configurator.words import say

MAX_BYTES = 5_000_000
# An Excel file is a zip: what it unpacks to is limited as well.
MAX_UNPACKED_BYTES = 8_000_000
MAX_COLUMNS = 50
MAX_CELL_CHARACTERS = 1_000
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_DATE_FORMAT = "yyyy-mm-dd"


def read_prices(
    name: str, data: bytes, catalog: Catalog | None = None
) -> tuple[tuple[OwnPrice, ...], tuple[LineProblem, ...]]:
    """Read a price list, by the file's content: CSV in UTF-8, UTF-16 or GB 18030, or XLSX.

    Of an Excel file the first sheet is read, and of a formula the value that Excel saved with it.

    Args:
        name: The file's name, for messages.
        data: The file.
        catalog: Facts; the built-in ones if None.

    Returns:
        Prices that can be used, and the lines that cannot, each with what is wrong.

    Raises:
        InputError: The file as a whole cannot be used.
    """
    if len(data) > MAX_BYTES:
        raise InputError("prices", "megabytes", name, most=MAX_BYTES // 1_000_000)
    if data.startswith(b"PK"):
        return own_prices.read_own_prices(_csv_of(name, data), catalog)
    if b"\0" in data and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError("prices", "prices_kind", name)
    return own_prices.read_own_prices(_decoded(name, data), catalog)


def _decoded(name: str, data: bytes) -> str:
    codecs = (
        ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "gb18030")
    )
    for codec in codecs:
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    raise InputError("prices", "prices_text", name)


def _csv_of(name: str, data: bytes) -> str:
    """The first sheet of a workbook as CSV, row by row, so that line numbers stay."""
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise InputError("prices", "xlsx_package", name) from None  # fmt: skip
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise InputError("prices", "prices_unpacked", name)
        saved = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        written = load_workbook(io.BytesIO(data), read_only=True)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        rows = zip(_rows(saved), _rows(written))
        for number, (values, formulas) in enumerate(rows, start=1):
            if number > own_prices.MAX_LINES:
                raise InputError("prices", "lines", name, most=own_prices.MAX_LINES)
            cells = [_cell(value, formula) for value, formula in zip(values, formulas)]
            writer.writerow(cells or [""])
        return out.getvalue()
    except InputError:
        raise
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, OSError, SyntaxError,
            TypeError, AttributeError, IndexError) as error:  # fmt: skip
        raise InputError("prices", "workbook", name, reason=type(error).__name__) from None


def _rows(book: Any) -> Iterator[tuple[Any, ...]]:
    sheet = book.worksheets[0]
    # What the file says of its own size may be wrong, and empty rows must keep their number.
    sheet.reset_dimensions()
    rows: Iterator[tuple[Any, ...]] = sheet.iter_rows(values_only=True, max_col=MAX_COLUMNS)
    return rows


def _cell(value: Any, formula: Any) -> str:
    """A cell as CSV text: numbers plain, days as YYYY-MM-DD, a formula without value as it is."""
    if value is None:
        return "" if formula is None else str(formula)[:MAX_CELL_CHARACTERS]
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, dt.datetime):
        return value.date().isoformat()
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return str(value)[:MAX_CELL_CHARACTERS]


def prices_template(
    language: str = "en", catalog: Catalog | None = None, gpus: Sequence[str] = ()
) -> bytes:
    """Return an Excel file to fill in: a line for each card, or for the cards named.

    Args:
        language: Of the explanations; the column names stay, they are what is read.
        catalog: Facts; the built-in ones if None.
        gpus: Catalog ids; all if empty.

    Raises:
        InputError: XlsxWriter is not installed.
    """
    catalog = catalog or load_catalog()
    out = io.BytesIO()
    book = xlsxwriter().Workbook(out, {"in_memory": True, "strings_to_formulas": False})
    sheet = book.add_worksheet("prices")
    head = book.add_format({"bold": True, "bg_color": "#E8EEF7", "bottom": 1})
    input_ = {
        "bg_color": "#FFF9E0",
        "font_color": "#1F3FBF",
        "border": 1,
        "border_color": "#D9D9D9",
    }
    number = book.add_format({**input_, "num_format": "#,##0.00"})
    day = book.add_format({**input_, "num_format": _DATE_FORMAT})
    plain = book.add_format(input_)
    for column, title in enumerate((*own_prices.COLUMNS, "name")):
        sheet.write_string(0, column, title, head)
    ids = [catalog.gpu(gpu).id for gpu in gpus or catalog.gpus]
    for row, gpu in enumerate(ids, start=1):
        sheet.write_string(row, 0, gpu)
        sheet.write_blank(row, 1, None, number)
        sheet.write_string(row, 2, "USD", plain)
        sheet.write_blank(row, 3, None, day)
        sheet.write_string(row, 4, catalog.gpus[gpu].name)
    last = len(ids)
    error = {"error_title": "GPU Configurator", "ignore_blank": True}
    sheet.data_validation(1, 1, last, 1, {
        "validate": "decimal", "criteria": ">", "value": 0,
        "error_message": say("export.template.price", language), **error,
    })  # fmt: skip
    sheet.data_validation(1, 2, last, 2, {
        "validate": "list", "source": ["USD", "CNY"],
        "error_message": say("export.template.currency", language), **error,
    })  # fmt: skip
    sheet.data_validation(1, 3, last, 3, {
        "validate": "date", "criteria": ">=", "value": dt.date(2000, 1, 1),
        "error_message": say("export.template.date", language), **error,
    })  # fmt: skip
    for column, width in enumerate((24, 14, 10, 14, 40)):
        sheet.set_column(column, column, width)
    sheet.freeze_panes(1, 1)
    help_ = book.add_worksheet(say("export.template.sheet", language))
    help_.set_column(0, 0, 100, book.add_format({"text_wrap": True}))
    for row, key in enumerate(("intro", "price", "currency", "date", "formula")):
        help_.write_string(row, 0, say(f"export.template.{key}", language))
    book.close()
    return out.getvalue()
