"""A number with its low and high; scalars and arrays alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Range:
    """A value and the range it lies in; each a number or an array of one shape."""

    value: Any
    low: Any
    high: Any

    @classmethod
    def exact(cls, value: Any) -> Range:
        """Return a range without width."""
        return cls(value, value, value)

    def __add__(self, other: Range) -> Range:
        return Range(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, factor: Any) -> Range:
        """Multiply by a number that is not negative, or by another such range."""
        if isinstance(factor, Range):
            return Range(self.value * factor.value, self.low * factor.low, self.high * factor.high)
        return Range(self.value * factor, self.low * factor, self.high * factor)

    def less(self, other: Range) -> Range:
        """Subtract: the low end meets the other's high end."""
        return Range(self.value - other.value, self.low - other.high, self.high - other.low)

    def over(self, divisor: Any) -> Range:
        """Divide by a number; what is divided by nothing is not a number."""
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = np.where(np.asarray(divisor) > 0, divisor, np.nan)
            return Range(self.value / whole, self.low / whole, self.high / whole)

    def scalar(self) -> Range:
        """Return plain Python numbers."""
        return Range(float(self.value), float(self.low), float(self.high))


ZERO = Range.exact(0.0)
