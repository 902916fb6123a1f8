"""What a plan costs: prices from the catalog, the bill of materials, running cost, renting."""

from configurator.cost.plan import Cost, Line, Rent, own_price, plan_cost
from configurator.cost.prices import Price, card_price, rental_price
from configurator.cost.ranges import Range
from configurator.cost.terms import Terms, make_terms

__all__ = [
    "Cost", "Line", "Price", "Range", "Rent", "Terms", "card_price", "make_terms", "own_price",
    "plan_cost", "rental_price",
]  # fmt: skip
