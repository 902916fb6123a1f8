import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configurator.errors import InputError
from configurator.scenario import parse_scenario

BASE = {"model": "deepseek-ai/DeepSeek-R1"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ([], "scenario"),
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"model": {"parameters_b": -3}}, "model.parameters_b"),
        ({"model": {"parameters_b": math.nan}}, "model.parameters_b"),
        ({"model": {"parameters_b": 3000}}, "model.parameters_b"),
        ({"model": {"config": []}}, "model.config"),
        ({"precision": "fp7"}, "precision"),
        ({"task": "guess"}, "task"),
        ({"engine": "vllm", "task": "training"}, "engine"),
        ({"inference": {"concurrency": 0}}, "inference.concurrency"),
        ({"inference": {"concurrency": -5}}, "inference.concurrency"),
        ({"inference": {"concurrency": math.nan}}, "inference.concurrency"),
        ({"inference": {"concurrency": "8"}}, "inference.concurrency"),
        ({"inference": {"concurrency": True}}, "inference.concurrency"),
        ({"inference": {"input_tokens": 1e30}}, "inference.input_tokens"),
        ({"inference": {"input_tokens": 0, "output_tokens": 0}}, "inference"),
        ({"inference": {"gpu_memory_utilization": 1.5}}, "inference.gpu_memory_utilization"),
        ({"hardware": {"gpu": "h100-sxm", "gpu_count": 1e12}}, "hardware.gpu_count"),
        ({"hardware": {"gpu": "h100-sxm", "gpu_count": math.inf}}, "hardware.gpu_count"),
        ({"hardware": {"gpu_count": 2}}, "hardware.gpu"),
        ({"hardware": {"gpu": {"name": "x"}}}, "hardware.gpu.memory_gib"),
        ({"version": 2}, "version"),
        ({"colour": "blue"}, "colour"),
        ({"training": {"lora_rank": 0}, "task": "fine_tuning"}, "training.lora_rank"),
    ],
)
def test_bad_input_names_the_field(change, field):
    data = change if isinstance(change, list) else {**BASE, **change}
    with pytest.raises(InputError) as caught:
        parse_scenario(data)
    assert caught.value.field == field
    assert caught.value.text()


def test_defaults_are_filled_by_task():
    assert parse_scenario(BASE).serving.concurrency == 1
    tuned = parse_scenario({**BASE, "task": "fine_tuning"})
    assert tuned.engine == "transformers"
    assert tuned.fitting.sequence_length == 2048


def test_scenario_is_frozen_and_round_trips():
    scenario = parse_scenario({**BASE, "hardware": {"gpu": "h200-sxm", "gpu_count": 8}})
    again = parse_scenario(json.loads(scenario.model_dump_json()))
    assert again == scenario
    with pytest.raises(ValueError, match="frozen"):
        scenario.precision = "fp8"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "version",
                "model",
                "task",
                "precision",
                "engine",
                "inference",
                "training",
                "hardware",
                "x",
            ]
        ),
        JSON,
    )
)
def test_any_json_gives_a_scenario_or_an_input_error(data):
    problem = None
    try:
        parse_scenario(data)
    except InputError as error:
        problem = error
    if problem is not None:
        assert problem.field
        json.dumps(problem.to_dict())
