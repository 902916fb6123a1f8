"""Every sentence a person reads, by key and language; the engine itself only knows keys."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
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


def sentences(language: str, *texts: str) -> str:
    """Return sentences one after the other; Chinese has no blank between them."""
    return ("" if language == "zh" else " ").join(text.strip() for text in texts)


def listed(language: str, items: Iterable[str]) -> str:
    """Return items as a list within a sentence."""
    return ("、" if language == "zh" else ", ").join(items)


def phrases(language: str, *texts: str) -> str:
    """Return phrases of one sentence, parted by commas."""
    return ("，" if language == "zh" else ", ").join(texts)


def clauses(language: str, items: Iterable[str]) -> str:
    """Return phrases that have commas of their own as one sentence's parts."""
    return ("；" if language == "zh" else "; ").join(items)


def labelled(language: str, name: str, text: str) -> str:
    """Return a text after its name."""
    return f"{name}：{text}" if language == "zh" else f"{name}: {text}"


def bracketed(language: str, text: str, more: str) -> str:
    """Return a text with more in brackets after it."""
    return f"{text}（{more}）" if language == "zh" else f"{text} ({more})"


def stop(language: str) -> str:
    """Return what ends a sentence."""
    return "。" if language == "zh" else "."


def named(values: Mapping[str, Any], language: str) -> Mapping[str, Any]:
    """Return values of a sentence with an engine's id replaced by its name."""
    if "engine" not in values:
        return values
    return {**values, "engine": say(f"app.option.engine.{values['engine']}", language)}
