"""A plan as an Excel workbook: live formulas over input cells, sources, exclusions."""

from configurator.export.sheets.assembly import workbook
from configurator.export.sheets.book import xlsxwriter

__all__ = ["workbook", "xlsxwriter"]
