"""What is wrong with an input is said in both languages, by code."""

import ast
from pathlib import Path

import pytest

import configurator
from configurator.errors import InputError
from configurator.words import messages

SOURCE = Path(configurator.__file__).parent


def codes_raised() -> set[str]:
    """Codes that the source names where it builds an :class:`InputError`."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError":
                code = node.args[1]
                if isinstance(code, ast.Constant):
                    found.add(code.value)
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_code_has_its_sentence(language):
    said = {key.removeprefix("error.") for key in messages(language) if key.startswith("error.")}
    assert codes_raised() - said == set()


def test_no_chinese_sentence_is_english():
    english, chinese = messages("en"), messages("zh")
    same = {k for k in english if k.startswith("error.") and chinese[k] == english[k]}
    assert same == set()


def test_an_error_says_itself_in_a_language():
    error = InputError("hardware.gpu_count", "at_least", 0, least=1)
    assert str(error) == "hardware.gpu_count: must be at least 1"
    assert error.to_dict("zh") == {
        "field": "hardware.gpu_count", "message": "至少为 1", "value": "0",
    }  # fmt: skip
    other = error.at("gpu")
    assert (other.field, other.text(), other.value) == ("gpu", error.text(), 0)
