"""When prices held, as exactly as their sources say; a table's own day is none of its prices'."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from configurator import numbers
from configurator.catalog.records import Dated, Precision
from configurator.words import say

_MONTHS: dict[Precision, int] = {"day": 0, "month": 1, "quarter": 3, "half": 6, "year": 12}


@dataclass(frozen=True, slots=True)
class Period:
    """The day, month, quarter, half or year that begins at ``first``."""

    first: dt.date
    precision: Precision = "day"

    def holds(self, other: Period) -> bool:
        """Whether another period begins in this one."""
        months = _MONTHS[self.precision]
        if not months:
            return self.first == other.first
        here, there = (12 * p.first.year + p.first.month - 1 for p in (self, other))
        return here // months == there // months

    def text(self, language: str) -> str:
        """Return it in words."""
        return numbers.period(self.first, self.precision, language)


@dataclass(frozen=True, slots=True)
class When:
    """When the prices that an amount rests on held.

    Attributes:
        dated: The oldest and the newest that has a date; None where none has.
        table: The newest table whose prices have no date of their own; None where all have one.
    """

    dated: tuple[Period, Period] | None
    table: Period | None = None

    @classmethod
    def on(cls, first: dt.date, precision: Precision = "day") -> When:
        """Return when a single price held."""
        period = Period(first, precision)
        return cls((period, period))

    @classmethod
    def together(cls, parts: Iterable[When]) -> When:
        """Return when several held; at least one."""
        parts = tuple(parts)
        dated = [period for part in parts for period in part.dated or ()]
        tables = [part.table for part in parts if part.table is not None]
        # Of two that begin together, the less exact one says less.
        oldest = min(dated, key=lambda p: (p.first, -_MONTHS[p.precision]), default=None)
        newest = max(dated, key=lambda p: (p.first, _MONTHS[p.precision]), default=None)
        table = max(tables, key=lambda p: p.first, default=None)
        return cls((oldest, newest) if oldest and newest else None, table)

    @classmethod
    def of(cls, entries: Iterable[Dated]) -> When:
        """Return when entries of the catalog held."""
        parts = []
        for entry in entries:
            if entry.date is not None:
                period = Period(entry.date, entry.precision)
                undated = entry.date_kind == "file"
                parts.append(cls(None, period) if undated else cls((period, period)))
        return cls.together(parts)

    @property
    def oldest(self) -> Period:
        """The oldest date there is, that of the table where no price has one."""
        return self._ends[0]

    @property
    def newest(self) -> Period:
        """The newest date there is, that of the table where no price has one."""
        return self._ends[1]

    @property
    def _ends(self) -> tuple[Period, Period]:
        if self.dated is not None:
            return self.dated
        assert self.table is not None
        return self.table, self.table

    @property
    def day(self) -> dt.date | None:
        """The day, if it is a single one and known."""
        single = self.table is None and self.oldest == self.newest
        return self.oldest.first if single and self.oldest.precision == "day" else None

    def isoformat(self) -> str:
        """Return the first day of the oldest."""
        return self.oldest.first.isoformat()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that stand beside an amount."""
        undated = "none" if self.table is None else "some" if self.dated else "all"
        return {
            "price_date": self.isoformat(),
            # A table's own day would say more of its prices than is known.
            "price_date_precision": self.oldest.precision if self.dated else "month",
            "price_undated": undated,
        }  # fmt: skip

    def text(self, language: str) -> str:
        """Return it for a table: a date, the oldest to the newest, or that there is none."""
        if self.dated is None:
            return say("dates.undated", language, date=self._table(language))
        first, last = (period.text(language) for period in self.dated)
        shown = first if self._one else f"{first} – {last}"
        return say("dates.some_undated", language, dates=shown) if self.table else shown

    def phrase(self, language: str, undated: str = "some_undated") -> str:
        """Return it for a sentence: prices of a time, since then, or undated ones.

        Args:
            language: ``en`` or ``zh``.
            undated: Code of what is said where only some have no date.
        """
        if self.dated is None:
            return say("dates.prices_undated", language, date=self._table(language))
        key = "dates.prices_of" if self._one else "dates.prices_since"
        shown = say(key, language, date=self.oldest.text(language))
        return say(f"dates.{undated}", language, dates=shown) if self.table else shown

    @property
    def _one(self) -> bool:
        return self.oldest.holds(self.newest)

    def _table(self, language: str) -> str:
        """The table's month: its day would say more than is known."""
        return numbers.period(self.oldest.first, "month", language)
