"""The facts catalog: cards, links, servers, prices, running costs, models; nothing read at import.

Every figure comes back with its source, the date of that source and its basis.
"""

from configurator.catalog.files import parse_yaml
from configurator.catalog.loading import catalog_dir, load_catalog, match_gpu
from configurator.catalog.reading import Catalog
from configurator.catalog.records import (
    Basis,
    CatalogError,
    CloudPrice,
    Confidence,
    CostFactor,
    Figure,
    Gpu,
    PurchasePrice,
)

__all__ = [
    "Basis",
    "Catalog",
    "CatalogError",
    "CloudPrice",
    "Confidence",
    "CostFactor",
    "Figure",
    "Gpu",
    "PurchasePrice",
    "catalog_dir",
    "load_catalog",
    "match_gpu",
    "parse_yaml",
]
