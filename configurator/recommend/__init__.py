"""What to buy: every card × count × split × precision, ranked in three tiers."""

from configurator.recommend.answer import cost_of, recommend
from configurator.recommend.fixes import changed, tried
from configurator.recommend.mixed import Upgrade, Way, own_models, upgrades, ways
from configurator.recommend.own_prices import LineProblem, read_own_prices, template
from configurator.recommend.plans import Alternative, Change, Fix, Plan, Reason, Recommendation
from configurator.recommend.request import OwnPrice, Request, TierEdit, parse_request
from configurator.recommend.sensitivity import (
    Step,
    Swing,
    break_points,
    cheaper_than_rent_at,
    tornado,
)
from configurator.recommend.tiers import Tier, load_tiers

__all__ = [
    "Alternative", "Change", "Fix", "LineProblem", "OwnPrice", "Plan", "Reason", "Recommendation",
    "Request", "Step", "Swing", "Tier", "TierEdit", "Upgrade", "Way", "break_points",
    "changed", "cheaper_than_rent_at", "cost_of", "load_tiers", "own_models", "parse_request",
    "read_own_prices", "recommend", "template", "tornado", "tried", "upgrades", "ways",
]  # fmt: skip
