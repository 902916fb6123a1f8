"""The one error that a person's input can cause."""

from __future__ import annotations

from typing import Any

SHOWN_VALUE_LENGTH = 80


class InputError(ValueError):
    """A field of a scenario, a file or a link that cannot be used.

    Args:
        field: Dotted path of the field, as the contract names it (``hardware.gpu_count``).
        message: What is wrong and the way out, one sentence.
        value: The value that was given; shortened when shown.
    """

    def __init__(self, field: str, message: str, value: Any = None) -> None:
        self.field = field
        self.message = message
        self.value = value
        super().__init__(f"{field}: {message}")

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"field", "message", "value"}`` with the value as short text."""
        out: dict[str, Any] = {"field": self.field, "message": self.message}
        if self.value is not None:
            try:
                text = self.value if isinstance(self.value, str) else repr(self.value)
            except (ValueError, RecursionError):  # an integer of thousands of digits, deep nesting
                text = f"({type(self.value).__name__})"
            cut = text[:SHOWN_VALUE_LENGTH]
            out["value"] = cut + ("…" if len(text) > SHOWN_VALUE_LENGTH else "")
        return out
