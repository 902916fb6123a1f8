"""Ways to need less memory are worked out on the scenario, and do what they say."""

from __future__ import annotations

import pytest

from configurator.app.form import form_of, scenario_of
from configurator.app.presets import presets
from configurator.app.savings import savings
from configurator.estimate import estimate
from configurator.scenario import Hardware, Scenario, parse_scenario
from configurator.techniques import techniques
from tests.app.conftest import healthy, query, start


def on(scenario: Scenario, gpu: str, count: int) -> Scenario:
    return scenario.model_copy(update={"hardware": Hardware(gpu=gpu, gpu_count=count)})


@pytest.mark.parametrize("preset", presets(), ids=lambda p: p.id)
def test_saves_what_it_says(preset) -> None:  # type: ignore[no-untyped-def]
    answer = estimate(on(preset.scenario, "h100-sxm", 4))
    found = savings(answer)
    assert found
    for saving in found:
        after = estimate(saving.scenario)
        less = answer.memory.required_gib - after.memory.required_gib
        assert less == pytest.approx(saving.saved_gib), saving.code
        assert saving.fits == (after.memory.fits is True)
        # The button does the same to the form.
        held = form_of(answer.scenario) | dict(saving.changes)
        assert estimate(scenario_of(held)).memory.required_gib == pytest.approx(
            after.memory.required_gib
        )


def test_fix_button_makes_it_fit() -> None:
    at = start(m="Qwen/Qwen3-8B", w="bf16", n="8", g="rtx-4060-ti-16gb", c="1", **{"in": "2048"})
    assert at.error
    fixes = [b for b in at.button if b.key.startswith("fix_") and "nearest" not in b.key]
    assert fixes
    fixes[0].click()
    healthy(at.run())
    assert at.success
    assert query(at)["g"] == "rtx-4060-ti-16gb"


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt_llm", "transformers", "llama_cpp"])
def test_offers_only_what_runs_there(engine: str) -> None:
    asked = {"model": "Qwen/Qwen3-8B", "precision": "fp16", "engine": engine}
    offered = []
    for gpu in ("t4", "rtx-3090", "l4", "b200-sxm", "mi210", "gaudi3", "ascend-910b"):
        answer = estimate(parse_scenario({**asked, "hardware": {"gpu": gpu, "gpu_count": 2}}))
        if answer.cannot_run is not None:
            continue
        offered += [saving.scenario for saving in savings(answer)]
        offered += [t.scenario for t in techniques(answer.scenario) if t.scenario is not None]
    assert len(offered) > 12
    assert not [s.precision for s in offered if estimate(s).cannot_run is not None]


@pytest.mark.parametrize("engine", ["transformers", "fsdp", "deepspeed", "megatron"])
def test_training_is_changed_only_into_what_runs_there(engine: str) -> None:
    asked = {"model": "Qwen/Qwen3-8B", "task": "fine_tuning", "engine": engine}
    offered = []
    for gpu in ("rtx-4090", "h100-sxm", "mi300x", "apple-m3-ultra"):
        answer = estimate(parse_scenario({**asked, "hardware": {"gpu": gpu, "gpu_count": 4}}))
        if answer.cannot_run is not None:
            continue
        found = [saving.scenario for saving in savings(answer)]
        found += [t.scenario for t in techniques(answer.scenario) if t.scenario is not None]
        assert not [s for s in found if estimate(s).cannot_run is not None]
        offered += found
    assert offered
    if engine == "megatron":
        assert not [s for s in offered if s.fitting.method != "full"]
    if engine == "fsdp":  # moves all or nothing
        assert not [s for s in offered if s.fitting.offload == "optimizer"]
