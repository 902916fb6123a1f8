"""The planner: the answer follows the inputs, the address bar follows both."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from configurator import link, numbers
from configurator.app import views
from configurator.app.market import TIERS, recommended
from configurator.app.presets import presets
from configurator.catalog import load_catalog
from configurator.estimate import estimate
from configurator.recommend import Request
from configurator.scenario import parse_scenario
from configurator.words import LANGUAGES, say
from tests.app.conftest import healthy, query, said, scenario, start, verdict


def unfold(at: AppTest, box: str) -> None:
    """Open a box of inputs, which are drawn only then."""
    at.session_state[box] = True
    at.run()


def charts(at: AppTest) -> list[Any]:
    return list(at.get("plotly_chart"))


def test_never_starts_empty(language: str) -> None:
    at = start(language)
    assert "Qwen3-8B" in verdict(at)
    assert len([b for b in at.button if b.key.startswith("use_")]) == 3
    assert [c.key for c in charts(at)] == ["meter", "curve"]
    assert at.query_params
    assert scenario(at) == presets()[0].scenario


@pytest.mark.parametrize("preset", [p.id for p in presets()])
def test_every_preset_is_answered(preset: str, language: str) -> None:
    at = start(language)
    at.selectbox(key="start_from").set_value(preset)
    healthy(at.run())
    wanted = next(p for p in presets() if p.id == preset)
    assert scenario(at) == wanted.scenario
    assert verdict(at)


def test_changed_fields_are_marked_and_undone() -> None:
    at = start()
    assert "back_to_preset" not in [b.key for b in at.button]
    at.select_slider(key="concurrency").set_value(64)
    healthy(at.run())
    button = at.button(key="back_to_preset")
    assert "1" in button.label
    button.click()
    healthy(at.run())
    assert at.select_slider(key="concurrency").value == 10
    assert scenario(at) == presets()[0].scenario


@pytest.mark.parametrize(
    ("key", "value", "parameter", "text"),
    [
        ("concurrency", 40, "n", "40"),
        ("input_tokens", 8192, "in", "8192"),
        ("output_tokens", 1024, "out", "1024"),
    ],
)
def test_sliders_move_the_answer(key: str, value: int, parameter: str, text: str) -> None:
    at = start(g="rtx-4090", c="1", m="Qwen/Qwen3-8B", w="bf16")
    before = verdict(at)
    at.select_slider(key=key).set_value(value)
    healthy(at.run())
    assert query(at)[parameter] == text
    assert verdict(at) != before


def test_model_precision_card_and_count() -> None:
    at = start()
    at.selectbox(key="model").set_value("deepseek-ai/DeepSeek-R1")
    healthy(at.run())
    assert query(at)["m"] == "deepseek-ai/DeepSeek-R1"
    assert at.select_slider(key="size").value == "deepseek-ai/DeepSeek-R1"
    at.select_slider(key="size").set_value("Qwen/Qwen3-32B")
    healthy(at.run())
    assert at.selectbox(key="model").value == "Qwen/Qwen3-32B"
    at.selectbox(key="precision").set_value("int4")
    at.selectbox(key="gpu").set_value("rtx-4090")
    healthy(at.run())
    at.select_slider(key="gpu_count").set_value(2)
    healthy(at.run())
    got = query(at)
    assert (got["m"], got["w"], got["g"], got["c"]) == ("Qwen/Qwen3-32B", "int4", "rtx-4090", "2")
    assert "2 × GeForce RTX 4090" in verdict(at)


def test_size_alone() -> None:
    at = start()
    at.segmented_control(key="model_by").set_value("size")
    healthy(at.run())
    at.number_input(key="parameters_b").set_value(13.0)
    healthy(at.run())
    assert query(at)["b"] == "13"
    assert "13B" in verdict(at)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_fine_tuning(method: str, language: str) -> None:
    at = start(language)
    at.segmented_control(key="task").set_value("fine_tuning")
    healthy(at.run())
    at.selectbox(key="method").set_value(method)
    healthy(at.run())
    at.toggle(key="gradient_checkpointing").set_value(True)
    at.select_slider(key="sequence_length").set_value(4096)
    healthy(at.run())
    got = query(at)
    assert (got["t"], got["how"], got["ckpt"], got["seq"]) == ("fine_tuning", method, "1", "4096")
    assert (got["w"] in ("nf4", "int4", "int8", "mxfp4")) == (method == "qlora")


def test_switching_the_task_keeps_both_sides() -> None:
    at = start()
    at.select_slider(key="concurrency").set_value(64)
    healthy(at.run())
    at.segmented_control(key="task").set_value("training")
    healthy(at.run())
    assert "n" not in query(at)
    at.segmented_control(key="task").set_value("inference")
    healthy(at.run())
    assert at.select_slider(key="concurrency").value == 64


def test_a_tier_card_becomes_the_question() -> None:
    at = start()
    at.button(key="use_sme").click()
    healthy(at.run())
    got = query(at)
    assert got["g"] in load_catalog().gpus
    assert {"c", "tp", "pp", "dp"} <= got.keys()
    assert at.button(key="use_sme").disabled
    # Another card, another split: the old one's is let go.
    at.selectbox(key="gpu").set_value("h100-sxm")
    healthy(at.run())
    assert "tp" not in query(at)


def test_link_restores_the_answer() -> None:
    first = start()
    first.selectbox(key="model").set_value("Qwen/Qwen3-14B")
    first.select_slider(key="concurrency").set_value(25)
    first.selectbox(key="gpu").set_value("l40s")
    healthy(first.run())
    second = start(**query(first))
    assert query(second) == query(first)
    assert verdict(second) == verdict(first)
    assert not [w for w in second.warning if "link" in w.value.lower()]


def test_values_between_the_steps_are_kept() -> None:
    at = start(n="37", **{"in": "1000"}, out="333", g="rtx-4090", c="7")
    got = query(at)
    assert (got["n"], got["in"], got["out"], got["c"]) == ("37", "1000", "333", "7")
    unfold(at, "more_serving")
    assert at.number_input(key="concurrency_exact").value == 37


@pytest.mark.parametrize(
    "bad",
    [
        {"n": "-4"}, {"n": "nan"}, {"m": "nobody/none"}, {"g": "rtx-9999"}, {"c": "1000000000000"},
        {"v": "7"}, {"cfg": "[1]"}, {"zzz": "1"}, {"t": "dance"}, {"w": "fp13"},
    ],
)  # fmt: skip
def test_bad_parameter_is_said_and_the_rest_kept(bad: dict[str, str], language: str) -> None:
    good = {**link.encode(presets()[0].scenario), "g": "l40s", "c": "1"}
    at = start(language, **{**good, "n": "16", **bad})
    assert at.warning
    assert verdict(at)
    if "n" not in bad and "t" not in bad:
        assert query(at)["n"] == "16"


def test_text_from_a_link_is_not_markdown() -> None:
    at = start(m="[Pay](https://evil.example)![x](https://evil.example/t.png)")
    shown = [box.value for box in (*at.warning, *at.success, *at.error)]
    assert any("evil" in text for text in shown)
    assert not any("](" in text.replace("\\]\\(", "") for text in shown)


def test_impossible_split_is_explained() -> None:
    at = start(m="Qwen/Qwen3-8B", g="rtx-4090", c="2", tp="7")
    assert at.error
    assert "Tensor parallel: 32 attention heads" in said(at)
    # The page is alive: another value answers.
    unfold(at, "more_hardware")
    at.number_input(key="tensor_parallel").set_value(2)
    healthy(at.run())
    assert not at.error


def test_language_keeps_every_choice() -> None:
    at = start()
    at.segmented_control(key="task").set_value("fine_tuning")
    at.run()
    unfold(at, "more_training")
    at.selectbox(key="method").set_value("lora")
    at.selectbox(key="optimizer").set_value("adamw_8bit")
    at.selectbox(key="gpu").set_value("l40s")
    healthy(at.run())
    at.select_slider(key="lora_rank").set_value(64)
    healthy(at.run())
    before = query(at)
    for tongue in ("zh", "en", "zh", "en"):
        at.segmented_control(key="lang").set_value(tongue)
        healthy(at.run())
        healthy(at.run())
        after = {k: v for k, v in query(at).items() if k != "lang"}
        assert after == before
        assert at.selectbox(key="method").value == "lora"
    assert "L40S" in verdict(at)


def test_chosen_language_is_in_the_link_only_if_not_the_browsers() -> None:
    at = start()
    assert "lang" not in query(at)
    assert "放得下" in verdict(start(lang="zh"))


def test_vendors_and_currency_travel() -> None:
    at = start()
    at.pills(key="vendors").set_value(["NVIDIA"])
    at.segmented_control(key="currency").set_value("CNY")
    healthy(at.run())
    got = query(at)
    assert (got["by"], got["cur"]) == ("NVIDIA", "CNY")
    again = start(**got)
    assert query(again) == got
    assert "¥" in said(again)


def test_prices_show_their_day(language: str) -> None:
    at = start(language)
    plans = [m.value for m in at.markdown if "\n\n##### " in m.value]
    assert len(plans) == 3
    found = recommended(Request(scenario=scenario(at))).tiers
    for tier, shown in zip(TIERS, plans, strict=True):
        assert numbers.plain(found[tier][0].cost.dates_text(language)) in shown
    assert not any(re.search(r"Jan 1, |1月1日", text) for text in [*plans, verdict(at)])


def test_a_tier_card_says_what_its_machine_costs(language: str) -> None:
    at = start(language, cur="USD")
    plans = recommended(Request(scenario=scenario(at))).tiers
    for tier in TIERS:
        plan = plans[tier][0]
        assert plan.cost.machines.value > 0
        amount = numbers.money(plan.cost.machines.value, "USD", language)
        assert say("app.card.machines", language, amount=amount) in said(at)


def test_load_curve_by_pace_and_by_first_token(language: str) -> None:
    at = start(language, tps="20", ttft="3")
    at.segmented_control(key="picture").set_value("speed")
    healthy(at.run())
    drawn = json.loads(charts(at)[-1].proto.spec)
    assert drawn["layout"]["shapes"][0]["x0"] == 20
    at.segmented_control(key="load_by").set_value("ttft")
    healthy(at.run())
    drawn = json.loads(charts(at)[-1].proto.spec)
    assert drawn["layout"]["shapes"][0]["x0"] == 3
    assert drawn["layout"]["xaxis"]["type"] == "log"


def test_one_picture_at_a_time_and_each_can_be_chosen(language: str) -> None:
    at = start(language, g="l40s", c="1")
    seen = [charts(at)[-1].proto.spec]
    at.toggle(key="rule").set_value(True)
    healthy(at.run())
    for which in ("context", "speed", "users"):
        at.segmented_control(key="picture").set_value(which)
        healthy(at.run())
        assert len(charts(at)) == 2
        seen.append(charts(at)[-1].proto.spec)
    assert len(set(seen)) == 4
    assert at.toggle(key="rule").value  # kept while the speed was looked at
    at.segmented_control(key="picture").set_value("context")
    healthy(at.run())
    at.segmented_control(key="task").set_value("training")  # has other pictures: its first one
    healthy(at.run())
    assert at.segmented_control(key="picture").value == "batch"


def test_why_of_the_speed(language: str) -> None:
    answer = estimate(scenario(start(g="l40s", c="1")))
    reasons = [views.reason(term, language) for term in answer.terms]
    speed = [r for t, r in zip(answer.terms, reasons) if t.path.startswith("performance.")]
    assert len(speed) == 2
    for reason in speed:
        shown = {name for name, _, _ in reason.inputs}
        assert not any("_" in name for name in shown)
        assert any("GB/s" in value for _, value, _ in reason.inputs)


@pytest.mark.parametrize(
    ("query_", "english", "chinese"),
    [
        ({"c": "2", "tp": "7"}, "32 attention heads", "32 个注意力头"),
        ({"c": "2", "tp": "2", "dp": "4"}, "more GPUs than given", "多于给出的 GPU 数"),
        ({"c": "64", "pp": "60"}, "model's 36 layers", "模型的 36 层"),
        ({"c": "2", "ep": "2"}, "no experts", "没有专家"),
    ],
)
def test_what_is_wrong_is_said_in_words(
    query_: dict[str, str], english: str, chinese: str, language: str
) -> None:
    at = start(language, m="Qwen/Qwen3-8B", g="rtx-4090", **query_)
    assert at.error
    text = " ".join(t.value for t in at.text)
    assert (english if language == "en" else chinese) in text
    assert "hardware." not in said(at)


def test_the_tour_steps_and_is_remembered(language: str) -> None:
    at = start(language)
    assert tour_label(at) == say("app.tour.first", language)
    at.session_state["tour"] = True
    healthy(at.run())
    shown = []
    for _ in range(4):
        shown.append(next(m.value for m in at.markdown if m.value in steps(language)))
        if not at.button(key="tour_next").disabled:
            at.button(key="tour_next").click()
            at.session_state["tour"] = True
            healthy(at.run())
    assert shown == steps(language)
    assert at.button(key="tour_next").disabled
    at.session_state["tour"] = False
    healthy(at.run())
    assert tour_label(at) == say("app.tour.title", language)


def steps(language: str) -> list[str]:
    return [say(f"app.tour.{step}", language) for step in ("one", "two", "three", "four")]


def tour_label(at: AppTest) -> str:
    labels = {say(f"app.tour.{key}", tongue) for key in ("first", "title") for tongue in LANGUAGES}
    found = (p.proto.popover.label for p in at.get("popover"))
    return next(label for label in found if label in labels)


def test_a_hasty_click_does_not_lose_the_question() -> None:
    # What a browser has not drawn when the next run overtakes must be told its value again.
    at = start(n="25", g="l40s")
    for _ in range(3):
        assert at.select_slider(key="concurrency").proto.set_value
        at.session_state["tour"] = True
        healthy(at.run())
    for _ in range(3):
        healthy(at.run())
    assert not at.select_slider(key="concurrency").proto.set_value


def test_old_prices_are_said() -> None:
    at = start(**{**link.encode(presets()[0].scenario), "cat": "20200101"})
    assert any("2020" in info.value for info in at.info)
    assert query(at)["cat"] == load_catalog().version


def test_warnings_have_code_and_severity() -> None:
    at = start(m="Qwen/Qwen3-32B", w="bf16", g="rtx-4090", c="1")
    assert "does_not_fit" in said(at)
    assert at.error


def test_charts_have_words_and_fixed_heights(language: str) -> None:
    at = start(language)
    for chart in at.get("plotly_chart"):
        assert len(chart.proto.alt) > 20
        assert json.loads(chart.proto.spec)["layout"]["height"] > 100


def test_uploaded_config(language: str) -> None:
    at = start(language)
    at.segmented_control(key="model_by").set_value("config")
    healthy(at.run())
    config = load_catalog().model_config("Qwen/Qwen3-4B")
    at.file_uploader(key="upload").set_value(
        ("mine.json", json.dumps(config).encode(), "application/json")
    )
    healthy(at.run())
    assert "mine.json" in verdict(at)
    got = query(at)
    assert "cfg" in got
    again = start(language, **got)
    assert "mine.json" in verdict(again)


@pytest.mark.parametrize(
    "content",
    [b"[1, 2]", b"not json", b"", b"{}", b'{"model_type": "llama"}', b"\xff\xfe\x00", b"[" * 10000,
     b'{"hidden_size": -5, "num_hidden_layers": 1e99, "model_type": "llama"}'],
)  # fmt: skip
def test_bad_upload_is_said(content: bytes, language: str) -> None:
    at = start(language)
    at.segmented_control(key="model_by").set_value("config")
    at.run()
    at.file_uploader(key="upload").set_value(("bad.json", content, "application/json"))
    healthy(at.run())
    assert at.error
    assert verdict(at)


def test_the_verdict_says_what_lies_in_main_memory(language: str) -> None:
    asked = {"m": "Qwen/Qwen3-32B", "w": "q4_k_m", "e": "llama_cpp", "g": "rtx-4060-ti-16gb"}
    at = start(language, n="1", **{"in": "1024"}, out="512", c="1", host="1", **asked)
    notice = next(n for n in estimate(scenario(at)).assumptions if n.code == "layers_on_host")
    assert notice.text(language) in verdict(at)


def test_chinese_sentences_follow_one_another_without_a_blank() -> None:
    verdict = start("zh").success[0].value
    assert "最便宜" in verdict
    assert "。 " not in verdict


def test_chinese_break_points_have_chinese_punctuation() -> None:
    texts = [c.value for c in start("zh").caption if "张卡" in c.value]
    assert texts
    for text in texts:
        assert not re.search("[:;,]", text)
        assert "；" in text


def test_back_brings_the_language_back_too() -> None:
    at = start("en")
    at.select_slider(key="concurrency").set_value(12)
    healthy(at.run())
    before = query(at)
    at.segmented_control(key="lang").set_value("zh")
    healthy(at.run())
    assert query(at)["lang"] == "zh"
    at.query_params.clear()
    for name, value in before.items():
        at.query_params[name] = value
    healthy(at.run())
    assert at.segmented_control(key="lang").value == "en"
    assert "fit" in verdict(at)


def test_what_the_engine_does_not_run_is_said_and_has_no_speed(language: str) -> None:
    asked = parse_scenario({
        "model": "Qwen/Qwen3-8B", "precision": "fp8", "engine": "tensorrt_llm",
        "hardware": {"gpu": "mi300x"},
    })  # fmt: skip
    at = start(language, **link.encode(asked))
    assert "Instinct MI300X" in at.error[0].value
    assert say("app.speed.cannot", language) in "\n".join(item.value for item in at.markdown)
