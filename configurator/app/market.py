"""What the market offers for a question: worked out once for all sessions that ask the same."""

from __future__ import annotations

from functools import lru_cache

from configurator.recommend import Plan, Recommendation, Request, recommend

TIERS = ("individual", "sme", "enterprise")


def recommended(request: Request) -> Recommendation:
    """Return the recommendation for a request."""
    return _recommended(request.model_dump_json(exclude_none=True))


@lru_cache(maxsize=128)
def _recommended(request_json: str) -> Recommendation:
    return recommend(Request.model_validate_json(request_json))


def best_plan(found: Recommendation) -> Plan | None:
    """Return the first plan of the smallest class of buyer that has one."""
    return next((plans[0] for tier in TIERS if (plans := found.tiers.get(tier))), None)
