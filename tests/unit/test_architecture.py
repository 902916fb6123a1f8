"""Architectures: exact counts, active parameters, every catalog config, and typical sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configurator.architecture import read_architecture, typical_architecture
from configurator.catalog import load_catalog
from configurator.errors import InputError
from configurator.estimate import estimate
from configurator.scenario import parse_scenario
from tests.unit.model_configs import (
    DEEPSEEK_V2_LITE,
    DEEPSEEK_V3,
    GPT_OSS_120B,
    LLAMA_2_7B,
    MIXTRAL,
    PUBLISHED,
    QWEN3_30B,
)

CONFIGS = Path(__file__).parents[2] / "catalog" / "models" / "configs"


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_exact(name: str) -> None:
    config, expected = PUBLISHED[name]
    architecture = read_architecture(config, name)
    assert architecture.parameters == expected
    assert not [a for a in architecture.assumptions if a[0] == "unknown_model_type"]


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        (MIXTRAL, 12.88),
        (DEEPSEEK_V3, 37.5),
        (QWEN3_30B, 3.35),
        (GPT_OSS_120B, 5.7),
        (DEEPSEEK_V2_LITE, 2.66),
    ],
)
def test_active_parameters(config: dict[str, Any], billions: float) -> None:
    active = read_architecture(config).active_parameters / 1e9
    assert active == pytest.approx(billions, rel=0.1)


def test_draft_layer_leaves_out_what_it_shares() -> None:
    architecture = read_architecture(DEEPSEEK_V3)
    # 14 B stated for the module with its copies of embedding and head, 0.93 B each.
    copies = 2 * 129280 * 7168
    assert (architecture.mtp_parameters + copies) / 1e9 == pytest.approx(13.5, rel=0.02)
    assert architecture.num_layers == 61


def test_language_part_of_a_llava_states_differences_alone() -> None:
    text = {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096}
    sparse = read_architecture({"model_type": "llava", "text_config": text})
    whole = {**LLAMA_2_7B, "vocab_size": 32064}
    assert sparse.parameters == read_architecture(whole).parameters
    with pytest.raises(InputError, match="hidden_size"):  # a config of its own must say it
        read_architecture(text)


@pytest.mark.parametrize("name", ["ibm-granite__granite-4.0", "nvidia__NVIDIA-Nemotron-3-Nano"])
def test_mamba_is_known_by_its_later_name(name: str) -> None:
    file = next(CONFIGS.glob(f"{name}*.json"))
    config = json.loads(file.read_text())
    later = {"mamba": "linear_attention", "attention": "full_attention"}
    signs = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
    pattern = config.pop("hybrid_override_pattern", None)
    kinds = config.get("layer_types") or config.get("layers_block_type")
    listed = [signs[s] for s in pattern] if pattern else [later.get(k, k) for k in kinds]
    key = "layers_block_type" if pattern else "layer_types"
    before = read_architecture(json.loads(file.read_text()))
    assert read_architecture({**config, key: listed}).groups == before.groups


def test_every_catalog_config_parses() -> None:
    files = sorted(CONFIGS.glob("*.json")) if CONFIGS.is_dir() else []
    for file in files:
        architecture = read_architecture(json.loads(file.read_text()), file.stem)
        assert 5e7 < architecture.parameters < 3e12, file.name
        assert architecture.num_layers > 0, file.name
        codes = [code for code, _ in architecture.assumptions]
        assert "unknown_model_type" not in codes, file.name


@pytest.mark.parametrize("size", [0.1, 0.5, 1, 7, 13, 34, 70, 180, 671, 2000])
def test_typical_sizes(size: float) -> None:
    architecture = typical_architecture(size)
    assert architecture.parameters == pytest.approx(size * 1e9, rel=0.15 if size < 0.5 else 0.01)
    assert architecture.assumptions[0][0] == "typical_architecture"


@pytest.mark.parametrize("size", [0.1, 1, 7, 8, 13, 20, 34, 65, 70, 123, 235, 405, 1000])
def test_typical_sizes_can_be_split(size: float) -> None:
    config = dict(typical_architecture(size).assumptions[0][1])
    assert config["num_attention_heads"] % 8 == config["num_key_value_heads"] % 8 == 0
    assert config["num_hidden_layers"] % 4 == 0


@pytest.mark.parametrize(
    ("size", "model"),
    [(8, "meta-llama/Llama-3.1-8B"), (14, "Qwen/Qwen3-14B"), (32, "Qwen/Qwen3-32B"),
     (70, "meta-llama/Llama-3.3-70B-Instruct"), (405, "meta-llama/Llama-3.1-405B")],
)  # fmt: skip
def test_typical_sizes_keep_a_cache_like_published_models(size: float, model: str) -> None:
    def cache(of: Any) -> float:
        asked = {"model": of, "precision": "bf16", "engine": "vllm",
                 "hardware": {"gpu": "h200-sxm", "gpu_count": 8}}  # fmt: skip
        answer = estimate(parse_scenario(asked))
        assert answer.kv is not None
        return answer.kv.bytes_per_token

    assert cache({"parameters_b": size}) == pytest.approx(cache(model), rel=0.25)


@pytest.mark.parametrize("size", [0, -1, 1e9, float("nan"), "7", None, True])
def test_impossible_sizes(size: Any) -> None:
    with pytest.raises(InputError):
        typical_architecture(size)


def test_a_text_model_that_states_its_width_gets_no_window_by_default() -> None:
    """Mistral's configuration class has one of 4,096; its newer checkpoints have none."""
    text = {"model_type": "mistral", "hidden_size": 5120, "intermediate_size": 32768,
            "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
            "head_dim": 128, "vocab_size": 131072}  # fmt: skip
    nested = read_architecture({"model_type": "mistral3", "text_config": text}, "small")
    assert {group.layer.window for group in nested.groups} == {None}
    bare = read_architecture({"model_type": "llava", "text_config": {"model_type": "mistral"}}, "b")
    assert {group.layer.window for group in bare.groups} == {4096}


def test_litgpts_own_configs_have_grouped_heads() -> None:
    config = {"n_layer": 4, "n_head": 40, "n_embd": 5120, "n_query_groups": 8, "vocab_size": 32000,
              "intermediate_size": 27648}  # fmt: skip
    assert {g.layer.kv_heads for g in read_architecture(config, "litgpt").groups} == {8}


def test_transformers_4_loads_a_tied_head_of_fp8_again() -> None:
    config = {
        **load_catalog().model_config("Qwen/Qwen3-0.6B"),
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }

    def weights(version: str | None) -> float:
        asked = {"model": {"config": config, "name": "small"}, "engine": "transformers",
                 "engine_version": version, "hardware": {"gpu": "h20", "gpu_count": 1}}  # fmt: skip
        return estimate(parse_scenario(asked)).memory.weights_gib

    head = 151_936 * 1024 * 2 / 2**30
    assert weights("4.51.3") - weights(None) == pytest.approx(head, rel=0.01)
