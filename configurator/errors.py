"""The one error that a person's input can cause."""

from __future__ import annotations

from typing import Any

from configurator.words import DEFAULT_LANGUAGE, say

SHOWN_VALUE_LENGTH = 80


class InputError(ValueError):
    """A field of a scenario, a file or a link that cannot be used.

    Args:
        field: Dotted path of the field, as the contract names it (``hardware.gpu_count``).
        code: What is wrong; ``error.<code>`` is its sentence, with the way out.
        value: The value that was given; shortened when shown.
        facts: Figures and names of the sentence.
    """

    def __init__(self, field: str, code: str, value: Any = None, **facts: Any) -> None:
        self.field = field
        self.code = code
        self.value = value
        self.facts = facts
        super().__init__(f"{field}: {self.text()}")

    def text(self, language: str = DEFAULT_LANGUAGE) -> str:
        """Return what is wrong and the way out: a sentence that follows the field's name."""
        return say(f"error.{self.code}", language, **self.facts)

    def at(self, field: str, value: Any = None) -> InputError:
        """Return the same complaint about another field, as the asker calls it."""
        given = self.value if value is None else value
        return InputError(field, self.code, given, **self.facts)

    def shown_value(self) -> str | None:
        """Return the value given as short text, if there is any."""
        if self.value is None:
            return None
        try:
            text = self.value if isinstance(self.value, str) else repr(self.value)
        except (ValueError, RecursionError):  # an integer of thousands of digits, deep nesting
            text = f"({type(self.value).__name__})"
        return text[:SHOWN_VALUE_LENGTH] + ("…" if len(text) > SHOWN_VALUE_LENGTH else "")

    def to_dict(self, language: str = DEFAULT_LANGUAGE) -> dict[str, Any]:
        """Return ``{"field", "message", "value"}`` with the value as short text."""
        out = {"field": self.field, "message": self.text(language)}
        value = self.shown_value()
        return out if value is None else {**out, "value": value}
