"""Renting beside owning: totals, break-even, what has been paid by the end of each year."""

from __future__ import annotations

import math
from typing import Any

from configurator.cost import formulas
from configurator.export.facts import short_ids
from configurator.export.sheets.book import ENDS, MONEY, Book
from configurator.export.sheets.inputs import MAX_YEARS
from configurator.units import HOURS_PER_YEAR


def write_rents(book: Book, sheet: Any, row: int) -> int:
    """Write what renting the same cards costs, and from when on owning is cheaper."""
    facts, cells, cost = book.facts, book.cells, book.cost
    book.title(sheet, row, book.say("cloud_title", currency=book.currency))
    if not cost.rents:
        sheet.write_string(row + 1, 0, book.say("no_cloud"), book.wrap)
        return row + 2
    titles = [
        book.say("head.item"), book.say("head.value"), book.say("head.low"),
        book.say("head.high"), book.say("head.date"), book.say("head.sources"),
    ]  # fmt: skip
    book.heads(sheet, row + 1, titles, "BCD")
    row += 2
    money, edit = book.number(book.money), book.number(MONEY["USD"], edit=True)
    years, busy, rented = cells["years"], cells["utilisation"], cells["rented"]
    staff = cells["staff_value"]
    for rent in cost.rents:
        name = book.say(f"rental.{rent.rental}")
        by_hour = rent.rental != "reserved"
        used = f"*{busy}" if by_hour else ""
        hours = f"{rented}*{years}*{HOURS_PER_YEAR}"
        sheet.write_string(row, 0, book.say("rent.price", rental=name), book.wrap)
        sheet.write_string(row + 1, 0, book.say("rent.total", rental=name), book.wrap)
        for place, end in enumerate(ENDS):
            price = float(getattr(rent.price.amount, end))
            sheet.write_number(row, 1 + place, price, edit)
            cell = book.ref("cost", row, 1 + place)
            formula = f"=ROUND({hours}{used}*{cell}*{book.rate_cell},2)"
            sheet.write_formula(row + 1, 1 + place, formula, money, getattr(rent.total, end))
        book.when(sheet, row, 4, rent.price.date)
        sheet.write_string(row, 5, short_ids(facts.rent_sources[rent.rental]), book.wrap)
        total, price_cell = book.ref("cost", row + 1, 1), book.ref("cost", row, 1)
        cells[f"rent_{rent.rental}"] = total
        months = f"({years}*{formulas.MONTHS_PER_YEAR})"
        bought, own = cells["purchase_value"], cells["total_value"]
        saved = f"(({total}-({own}-{bought}))/{months})"
        never, at_none = (book.say(key).replace('"', '""') for key in ("never", "never_use"))
        figure = book.style(num_format="0.0", align="right")
        _result(
            book,
            sheet,
            row + 2,
            book.say("rent.month", rental=name),
            f'=IF(AND({saved}>0,{saved}*{months}>={bought}),{bought}/{saved},"{never}")',
            figure,
            rent.break_even_month,
            never,
        )
        share = book.style(num_format="0.0%", align="right")
        if by_hour:
            always = f"({hours}*{price_cell}*{book.rate_cell})"
            energy = (
                f"({cells['peak_power']}*(1-{cells['idle']})/1000*{HOURS_PER_YEAR}"
                f"*{cells['pue_value']}*{cells['tariff_value']}*{years}/(1-{staff}))"
            )
            formula = (
                f"=IF(AND({always}>{energy},{always}-{energy}>={own}-{energy}*{busy}),"
                f'({own}-{energy}*{busy})/({always}-{energy}),"{at_none}")'
            )
            _result(
                book,
                sheet,
                row + 3,
                book.say("rent.use", rental=name),
                formula,
                share,
                rent.break_even_utilisation,
                at_none,
            )
            row += 1
        _result(
            book,
            sheet,
            row + 3,
            book.say("rent.share", rental=name),
            f"={own}/{total}",
            share,
            rent.own_share,
            never,
        )
        row += 4
        if rent.run is not None:
            days = facts.plan.train_days
            formula = f"=ROUND({rented}*{days!r}*24*{price_cell}*{book.rate_cell},2)"
            sheet.write_string(row, 0, book.say("rent.run", rental=name), book.wrap)
            sheet.write_formula(row, 1, formula, money, float(rent.run.value))
            row += 1
    return row


def _result(
    book: Book, sheet: Any, row: int, label: str, formula: str, style: Any, value: float, never: str
) -> None:
    sheet.write_string(row, 0, label, book.wrap)
    sheet.write_formula(row, 1, formula, style, value if math.isfinite(value) else never)


def write_years(book: Book, sheet: Any, row: int) -> int:
    """What has been paid by the end of each year, owning and renting, as table and chart."""
    cells, cost = book.cells, book.cost
    book.title(sheet, row, book.say("by_year_title", currency=book.currency))
    names = [book.say("own"), *(book.say(f"rental.{rent.rental}") for rent in cost.rents)]
    book.heads(sheet, row + 1, [book.say("head.after_years"), *names], "BCDE")
    shown, first = book.number(book.money), row + 2
    running = [
        r.line.unit.value for r in book.facts.bill
        if r.line.group == "running" and r.line.id != "resale"
    ]  # fmt: skip
    for year in range(MAX_YEARS + 1):
        at = first + year
        sheet.write_number(at, 0, year, book.style(num_format="0", align="left"))
        formula = f"={cells['purchase_value']}+$A{at + 1}*{cells['yearly_value']}"
        value = cost.purchase.value + year * sum(running)
        sheet.write_formula(at, 1, formula, shown, value)
        for place, rent in enumerate(cost.rents, start=2):
            formula = f"={cells[f'rent_{rent.rental}']}/{cells['years']}*$A{at + 1}"
            value = rent.total.value / cost.terms.years * year
            sheet.write_formula(at, place, formula, shown, value)
    last = first + MAX_YEARS
    chart = book.file.add_chart({"type": "line"})
    colours = ("#1F3864", "#D9822B", "#2E8B57", "#8E44AD")
    for place, name in enumerate(names, start=1):
        chart.add_series({
            "name": name, "categories": [book.names["cost"], first, 0, last, 0],
            "values": [book.names["cost"], first, place, last, place],
            "line": {"color": colours[place - 1], "width": 2},
            "marker": {"type": "circle", "size": 4, "fill": {"color": colours[place - 1]},
                       "border": {"color": colours[place - 1]}},
        })  # fmt: skip
    font = {"name": book.font, "size": 9}
    chart.set_title({"name": book.say("by_year_title", currency=book.currency),
                     "name_font": {**font, "size": 11}})  # fmt: skip
    chart.set_x_axis({"name": book.say("head.after_years"), "name_font": font,
                      "num_font": font})  # fmt: skip
    whole = book.money.replace(".00", "")
    lines = {"visible": True, "line": {"color": "#E0E0E0"}}
    chart.set_y_axis({"num_format": whole, "num_font": font, "major_gridlines": lines})
    chart.set_legend({"position": "bottom", "font": font})
    chart.set_size({"width": 900, "height": 320})
    sheet.insert_chart(last + 2, 0, chart)
    sheet.write_string(last + 1, 0, book.say("by_year_note"),
                       book.style(italic=True, font_color="#555555"))  # fmt: skip
    return last + 19
