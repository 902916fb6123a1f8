"""Every sentence a person reads, by key and language; the engine itself only knows keys."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

LANGUAGES = ("en", "zh")
DEFAULT_LANGUAGE = "en"


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{name}."))
        else:
            flat[name] = str(value)
    return flat


@lru_cache(maxsize=4)
def messages(language: str) -> Mapping[str, str]:
    """Return all messages of a language by dotted key, from ``i18n/<language>[-topic].toml``."""
    flat: dict[str, str] = {}
    for path in (resources.files("configurator") / "i18n").iterdir():
        name = path.name.removesuffix(".toml")
        if name == language or name.startswith(f"{language}-"):
            flat |= _flatten(tomllib.loads(path.read_text(encoding="utf-8")))
    return flat


def say(key: str, language: str = DEFAULT_LANGUAGE, /, **values: Any) -> str:
    """Return the message with its values filled in.

    Raises:
        KeyError: The key is in no language.
    """
    table = messages(language if language in LANGUAGES else DEFAULT_LANGUAGE)
    template = table.get(key)
    if template is None:
        template = messages(DEFAULT_LANGUAGE)[key]
    return template.format(**values) if values else template


def named(values: Mapping[str, Any], language: str) -> Mapping[str, Any]:
    """Return values of a sentence with an engine's id replaced by its name."""
    if "engine" not in values:
        return values
    return {**values, "engine": say(f"app.option.engine.{values['engine']}", language)}
