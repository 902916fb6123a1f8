"""Scenario ↔ address bar: readable, versioned, complete."""

from configurator.link.buying import BUYERS, MAX_OWNED_KINDS, MAX_SUM, Buying, buying_of
from configurator.link.codec import (
    MAX_CONFIG_CHARACTERS,
    MAX_LIMIT,
    LinkProblem,
    catalog_of,
    currency_of,
    decode,
    encode,
    limits_of,
    share_url,
    vendors_of,
)
from configurator.link.fields import NOT_SCENARIO, PARAMETERS, field_of

__all__ = [
    "BUYERS", "MAX_CONFIG_CHARACTERS", "MAX_LIMIT", "MAX_OWNED_KINDS", "MAX_SUM", "NOT_SCENARIO",
    "PARAMETERS", "Buying", "LinkProblem", "buying_of", "catalog_of", "currency_of", "decode",
    "encode", "field_of", "limits_of", "share_url", "vendors_of",
]  # fmt: skip
