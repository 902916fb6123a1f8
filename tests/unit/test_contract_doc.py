"""docs/contract.md names every field of the question and of the recommendation."""

from pathlib import Path

import pytest

from configurator.recommend import Request, parse_request, recommend
from configurator.scenario import Hardware, Inference, Scenario, Training

TEXT = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("record", [Scenario, Inference, Training, Hardware, Request])
def test_every_field_is_named(record):
    blocks = {"inference", "training", "hardware", "scenario"}
    assert [name for name in record.model_fields if name not in TEXT and name not in blocks] == []


def test_every_key_of_a_recommendation_is_named():
    asked = {"model": "Qwen/Qwen3-8B"}
    answer = recommend(parse_request(asked)).to_dict()
    assert [key for key in answer if f'"{key}"' not in TEXT] == []
