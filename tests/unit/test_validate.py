"""Measured cases as they are read."""

from __future__ import annotations

import pytest

from configurator.errors import InputError
from configurator.validate import read_cases


def test_of_one_case_in_two_folders_the_first_counts(tmp_path):
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        lines = f'{{"id": "x", "value": {value}}}\n{{"value": {value}}}\n'
        (tmp_path / folder / "cases.jsonl").write_text(lines)
    found = read_cases(tmp_path / "a", tmp_path / "b")
    assert [case["value"] for case in found] == [1, 1, 2]  # those without an id all stay


def test_a_line_that_is_no_object_is_named(tmp_path):
    (tmp_path / "cases.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match="is not a JSON case"):
        read_cases(tmp_path)
