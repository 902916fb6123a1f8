"""One YAML file of the catalog: its sources, its records, how a bare number finds its source."""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configurator.catalog.records import CatalogError, Source

_BARE_FIGURES = ("value", "source", "basis")

_Default = tuple[str, tuple[str, ...], dt.date, str] | None


class Invalid(ValueError):
    """A record that cannot be shaped; the reader adds the file and the line."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(f"{field}: {message}")


class File:
    """A file of the catalog, decoded."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self._path = directory / name
        try:
            head = parse_yaml(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CatalogError(name, "file", f"cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise CatalogError(name, "file", f"is not YAML: {error}") from None
        if not isinstance(head, dict):
            raise CatalogError(name, "file", "is not a mapping")
        self.head: dict[str, Any] = head
        self._joined: dict[tuple[str, ...], tuple[str, tuple[str, ...], dt.date]] = {}

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Sources by id."""
        found = {}
        for source_id, raw in (self.head.get("sources") or {}).items():
            try:
                found[source_id] = Source.model_validate({"id": source_id, **raw})
            except (ValidationError, TypeError) as error:
                text = (
                    error.errors(include_url=False)[0]["msg"]
                    if isinstance(error, ValidationError)
                    else "is not a mapping"
                )
                raise CatalogError(self.name, f"sources.{source_id}", text) from None
        return found

    def records(self, section: str) -> list[dict[str, Any]]:
        """Return a section's records as they stand."""
        raws = self.head.get(section)
        if not isinstance(raws, list) or not all(isinstance(raw, dict) for raw in raws):
            raise CatalogError(self.name, section, "is not a list of mappings")
        return raws

    def source(self, ids: Any, field: str) -> tuple[str, tuple[str, ...], dt.date]:
        """Return the text, the ids and the newest date of one source or several."""
        if ids is None or ids == []:
            raise Invalid(field, "has no source")
        key = tuple(ids) if isinstance(ids, list) else (ids,)
        if key not in self._joined:
            unknown = [source_id for source_id in key if source_id not in self.sources]
            if unknown:
                raise Invalid(field, f"the source {unknown[0]!r} is not in the file's sources")
            found = [self.sources[source_id] for source_id in key]
            text = "; ".join(source.text for source in found)
            self._joined[key] = (text, key, max(source.date for source in found))
        return self._joined[key]

    def default(self, raw: dict[str, Any], outer: _Default = None) -> _Default:
        """Take ``source`` and ``basis`` off a block; they hold for its bare numbers."""
        ids, basis = raw.pop("source", None), raw.pop("basis", None)
        if ids is None:
            return outer if outer is None or basis is None else (*outer[:3], basis)
        return (*self.source(ids, "source"), basis or "stated")

    def expand(self, raw: dict[str, Any], field: str, default: _Default) -> None:
        """Replace a bare number or a short mapping by a full figure, in place."""
        value = raw.get(field)
        if value is None:
            return
        basis = None
        origin = default
        if isinstance(value, dict):
            extra = set(value) - set(_BARE_FIGURES)
            if extra:
                raise Invalid(field, f"unknown key {min(extra)!r}")
            basis = value.get("basis")
            if "source" in value:
                origin = (*self.source(value["source"], field), "stated")
            value = value.get("value")
        if origin is None:
            raise Invalid(field, "has no source")
        text, ids, day, inherited = origin
        raw[field] = {
            "value": value,
            "source": text,
            "source_ids": ids,
            "date": day,
            "basis": basis or inherited,
        }

    def line(self, section: str, index: int, field: str | None) -> int | None:
        """Return the line of a record, or of its field; parses again, so only for errors."""
        import yaml

        root = yaml.compose(self._path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        for key, node in getattr(root, "value", ()):
            if key.value == section:
                record = node.value[index]
                for name, _ in getattr(record, "value", ()):
                    if name.value == field:
                        return int(name.start_mark.line) + 1
                return int(record.start_mark.line) + 1
        return None


def parse_yaml(text: str) -> Any:
    """Return a decoded YAML file; only plain values, by the C reader where there is one.

    Raises:
        ValueError: The text is not YAML.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace("\n", " ")) from None
