"""Where the catalog lies, and one object for each folder that holds one."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from configurator.catalog.reading import Catalog
from configurator.catalog.records import Gpu

ENVIRONMENT_VARIABLE = "CONFIGURATOR_CATALOG"


def catalog_dir() -> Path:
    """Return the catalog's folder.

    The environment variable ``CONFIGURATOR_CATALOG`` wins, then the copy inside an installed
    package, then the folder of the source checkout.

    Raises:
        FileNotFoundError: If none of them holds a catalog.
    """
    given = os.environ.get(ENVIRONMENT_VARIABLE)
    package = Path(__file__).resolve().parents[1]
    places = [Path(given)] if given else [package / "_catalog", package.parent / "catalog"]
    for place in places:
        if (place / "gpus").is_dir():
            return place
    raise FileNotFoundError(f"no catalog in {' or '.join(str(place) for place in places)}")


@cache
def _catalog(directory: Path) -> Catalog:
    return Catalog(directory)


@cache
def _found(path: Path | None, given: str | None) -> Catalog:
    return _catalog((path or catalog_dir()).resolve())


def load_catalog(path: Path | None = None) -> Catalog:
    """Return the catalog, one object a folder; its sections are read on first use.

    Args:
        path: The catalog's folder; by default :func:`catalog_dir`.
    """
    return _found(path, os.environ.get(ENVIRONMENT_VARIABLE))


def match_gpu(name: str, memory_mib: int | None = None) -> Gpu | None:
    """Return the catalog card of a device name; see :meth:`Catalog.match_gpu`."""
    return load_catalog().match_gpu(name, memory_mib)
