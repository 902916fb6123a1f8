"""Configs of published models, and the exact counts of their parameters.

The expected counts are the publishers' own, or what Hugging Face transformers 5.24 builds from the
same config (``sum(p.numel())`` on the meta device); for DeepSeek-V3 the router's correction bias is
counted as the checkpoint does.
"""

from __future__ import annotations

from typing import Any

from configurator.architecture import Architecture, Quantization, read_architecture


def dims(
    model_type: str,
    hidden: int,
    layers: int,
    heads: int,
    kv: int,
    ffn: int,
    vocab: int,
    **more: Any,
) -> dict[str, Any]:
    return {
        "model_type": model_type, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "intermediate_size": ffn,
        "vocab_size": vocab, "tie_word_embeddings": False, **more,
    }  # fmt: skip


def without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in names}


LLAMA_2_7B = dims("llama", 4096, 32, 32, 32, 11008, 32000)
LLAMA_3_8B = dims("llama", 4096, 32, 32, 8, 14336, 128256)
LLAMA_70B = dims("llama", 8192, 80, 64, 8, 28672, 128256)
QWEN2_5_7B = dims("qwen2", 3584, 28, 28, 4, 18944, 152064)
QWEN3_30B = dims(
    "qwen3_moe", 2048, 48, 32, 4, 6144, 151936, head_dim=128, num_experts=128,
    num_experts_per_tok=8, moe_intermediate_size=768, decoder_sparse_step=1, mlp_only_layers=[],
)  # fmt: skip
MIXTRAL = dims("mixtral", 4096, 32, 32, 8, 14336, 32000, num_local_experts=8, num_experts_per_tok=2)
MLA = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "kv_lora_rank": 512}
DEEPSEEK_V3 = dims(
    "deepseek_v3", 7168, 61, 128, 128, 18432, 129280, **MLA, q_lora_rank=1536,
    n_routed_experts=256, num_experts_per_tok=8, n_shared_experts=1, moe_intermediate_size=2048,
    first_k_dense_replace=3, moe_layer_freq=1, num_nextn_predict_layers=1,
)  # fmt: skip
DEEPSEEK_V32 = {
    **DEEPSEEK_V3, "model_type": "deepseek_v32", "index_head_dim": 128, "index_n_heads": 64,
}  # fmt: skip
DEEPSEEK_V2_LITE = dims(
    "deepseek_v2", 2048, 27, 16, 16, 10944, 102400, **MLA, n_routed_experts=64,
    num_experts_per_tok=6, n_shared_experts=2, moe_intermediate_size=1408,
    first_k_dense_replace=1,
)  # fmt: skip
DEEPSEEK_V4_FLASH = dims(
    "deepseek_v4", 4096, 43, 64, 1, 2048, 129280, head_dim=512, qk_rope_head_dim=64,
    q_lora_rank=1024, o_lora_rank=1024, o_groups=8, n_routed_experts=256, n_shared_experts=1,
    num_experts_per_tok=6, moe_intermediate_size=2048, sliding_window=128, index_n_heads=64,
    index_head_dim=128, hc_mult=4,
    compress_ratios=[0, 0, *(4 if i % 2 else 128 for i in range(1, 42)), 0],
)  # fmt: skip
GPT_OSS_20B = dims(
    "gpt_oss", 2880, 24, 64, 8, 2880, 201088, head_dim=64, attention_bias=True,
    num_local_experts=32, num_experts_per_tok=4, sliding_window=128,
    layer_types=["sliding_attention", "full_attention"] * 12,
)  # fmt: skip
GPT_OSS_120B = {
    **GPT_OSS_20B, "num_hidden_layers": 36, "num_local_experts": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
}  # fmt: skip
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
          "num_attention_heads": 16, "patch_size": 14, "image_size": 896}  # fmt: skip
GEMMA_3_27B = {
    "model_type": "gemma3",
    "text_config": without(
        dims("gemma3_text", 5376, 62, 32, 16, 21504, 262208, head_dim=128, sliding_window=1024),
        "tie_word_embeddings",
    ),
    "vision_config": SIGLIP,
}  # fmt: skip
QWEN2_5_VL_3B = {
    **dims("qwen2_5_vl", 2048, 36, 16, 2, 11008, 151936, tie_word_embeddings=True),
    "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420,
                      "out_hidden_size": 2048, "patch_size": 14, "spatial_merge_size": 2,
                      "temporal_patch_size": 2},
}  # fmt: skip
QWEN3_VL_4B = {
    "model_type": "qwen3_vl",
    "text_config": dims("qwen3_vl_text", 2560, 36, 32, 8, 9728, 151936, head_dim=128,
                        tie_word_embeddings=True),
    "vision_config": {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096,
                      "out_hidden_size": 2560, "patch_size": 16, "spatial_merge_size": 2,
                      "temporal_patch_size": 2, "num_position_embeddings": 2304,
                      "deepstack_visual_indexes": [5, 11, 17]},
}  # fmt: skip
LINEAR = {"linear_num_key_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
          "linear_conv_kernel_dim": 4, "full_attention_interval": 4}  # fmt: skip
QWEN3_NEXT = dims(
    "qwen3_next", 2048, 48, 16, 2, 5120, 151936, head_dim=256, **LINEAR, linear_num_value_heads=32,
    num_experts=512, num_experts_per_tok=10, moe_intermediate_size=512,
    shared_expert_intermediate_size=512,
)  # fmt: skip
QWEN3_5_27B = dims(
    "qwen3_5_text", 5120, 64, 24, 4, 17408, 248320, head_dim=256, **LINEAR,
    linear_num_value_heads=48, mamba_ssm_dtype="float32", mtp_num_hidden_layers=1,
)  # fmt: skip
KIMI_LINEAR = dims(
    "kimi_linear", 2304, 27, 32, 32, 9216, 163840, **MLA, num_experts=256,
    num_experts_per_token=8, num_shared_experts=1, moe_intermediate_size=1024,
    first_k_dense_replace=1,
    linear_attn_config={"num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4,
                        "kda_layers": [i for i in range(1, 28) if i % 4 and i != 27]},
)  # fmt: skip
NEMOTRON_NANO = dims(
    "nemotron_h", 2688, 52, 32, 2, 1856, 131072, head_dim=128, mamba_num_heads=64,
    mamba_head_dim=64, n_groups=8, ssm_state_size=128, conv_kernel=4, n_routed_experts=128,
    num_experts_per_tok=6, moe_intermediate_size=1856,
    moe_shared_expert_intermediate_size=3712, mamba_ssm_cache_dtype="float32",
    hybrid_override_pattern="MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
)  # fmt: skip
QWEN_7B = dims("qwen", 4096, 32, 32, 32, 22016, 151936, no_bias=True)
FALCON_7B = without(
    dims("falcon", 4544, 32, 71, 71, 18176, 65024, multi_query=True, parallel_attn=True,
         bias=False),
    "tie_word_embeddings", "num_key_value_heads", "intermediate_size",
)  # fmt: skip
FALCON_40B = without(
    dims("falcon", 8192, 60, 128, 8, 32768, 65024, new_decoder_architecture=True,
         parallel_attn=True, bias=False),
    "tie_word_embeddings", "intermediate_size",
)  # fmt: skip
NEOX_20B = dims("gpt_neox", 6144, 44, 64, 64, 24576, 50432)
OPT_30B = without(
    dims("opt", 7168, 48, 56, 56, 28672, 50272, max_position_embeddings=2048),
    "tie_word_embeddings",
)  # fmt: skip
PHI_2 = dims("phi", 2560, 32, 32, 32, 10240, 51200)
BAICHUAN_7B = without(dims("", 4096, 32, 32, 32, 11008, 64000), "model_type") | {
    "architectures": ["BaichuanForCausalLM"]
}

QWEN2_VL_7B = {
    **dims("qwen2_vl", 3584, 28, 28, 4, 18944, 152064),
    "vision_config": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16,
                      "in_chans": 3, "hidden_size": 3584, "patch_size": 14,
                      "spatial_merge_size": 2, "temporal_patch_size": 2},
}  # fmt: skip
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "Llama-2-7B": (LLAMA_2_7B, 6_738_415_616),
    "Llama-2-13B": (dims("llama", 5120, 40, 40, 40, 13824, 32000), 13_015_864_320),
    "Llama-2-70B": (dims("llama", 8192, 80, 64, 8, 28672, 32000), 68_976_648_192),
    "Llama-3.1-8B": (LLAMA_3_8B, 8_030_261_248),
    "Llama-3.2-1B": (
        dims("llama", 2048, 16, 32, 8, 8192, 128256, head_dim=64, tie_word_embeddings=True),
        1_235_814_400,
    ),
    "Llama-3.3-70B": (LLAMA_70B, 70_553_706_496),
    "Llama-3.1-405B": (dims("llama", 16384, 126, 128, 8, 53248, 128256), 405_853_388_800),
    "Mistral-7B": (dims("mistral", 4096, 32, 32, 8, 14336, 32000), 7_241_732_096),
    "Mixtral-8x7B": (MIXTRAL, 46_702_792_704),
    "Qwen2.5-7B": (QWEN2_5_7B, 7_615_616_512),
    "Qwen2.5-32B": (dims("qwen2", 5120, 64, 40, 8, 27648, 152064), 32_763_876_352),
    "Qwen3-8B": (dims("qwen3", 4096, 36, 32, 8, 12288, 151936, head_dim=128), 8_190_735_360),
    "Qwen3-30B-A3B": (QWEN3_30B, 30_532_122_624),
    "Qwen3-Next-80B": (QWEN3_NEXT, 79_674_391_296),
    "Qwen3.5-27B text": (QWEN3_5_27B, 26_895_998_464),
    "Qwen2.5-VL-3B": (QWEN2_5_VL_3B, 3_754_622_976),
    "Qwen3-VL-4B": (QWEN3_VL_4B, 4_437_815_808),
    "Qwen-7B": (QWEN_7B, 7_721_324_544),
    "DeepSeek-V3": (DEEPSEEK_V3, 671_026_419_200),
    "DeepSeek-V3.2": (DEEPSEEK_V32, 671_877_929_216 + 58 * 256),
    "DeepSeek-V2-Lite": (DEEPSEEK_V2_LITE, 15_706_484_224),
    "DeepSeek-V4-Flash": (DEEPSEEK_V4_FLASH, 284_332_230_231 + 43 * 256),
    "Kimi-Linear-48B": (KIMI_LINEAR, 49_122_675_072 + 26 * 256),
    "gpt-oss-20b": (GPT_OSS_20B, 20_914_757_184),
    "gpt-oss-120b": (GPT_OSS_120B, 116_829_156_672),
    "Gemma-2B": (
        without(dims("gemma", 2048, 18, 8, 1, 16384, 256000, head_dim=256), "tie_word_embeddings"),
        2_506_172_416,
    ),
    "Gemma-2-9B": (
        without(dims("gemma2", 3584, 42, 16, 8, 14336, 256000, head_dim=256,
                     sliding_window=4096), "tie_word_embeddings"),
        9_241_705_984,
    ),
    "Gemma-3-27B": (GEMMA_3_27B, 27_432_406_640),
    "Nemotron-3-Nano": (NEMOTRON_NANO, 31_577_937_344 + 23 * 128),
    "Phi-3-mini": (dims("phi3", 3072, 32, 32, 32, 8192, 32064), 3_821_079_552),
    "phi-2": (PHI_2, 2_779_683_840),
    "Falcon-7B": (FALCON_7B, 6_921_720_704),
    "OLMo-2-7B": (dims("olmo2", 4096, 32, 32, 32, 11008, 100352), 7_298_617_344),
    "GPT-NeoX-20B": (NEOX_20B, 20_554_567_680),
    "Baichuan-7B": (BAICHUAN_7B, 7_000_559_616),
    "AFM-4.5B": (dims("arcee", 2560, 36, 20, 4, 18432, 128004, head_dim=128), 4_619_184_640),
    # But for two scalars of the activation in each layer.
    "Apertus-8B": (dims("apertus", 4096, 32, 32, 8, 21504, 131072), 8_053_338_176 - 32 * 2),
    "Qwen2-VL-7B": (QWEN2_VL_7B, 8_291_375_616),
    "Bamba-9B": (
        dims("bamba", 4096, 32, 32, 8, 14336, 128256, attn_layer_indices=[9, 18, 27],
             mamba_n_heads=128, mamba_d_head="auto", mamba_d_state=128, mamba_n_groups=1),
        9_780_235_392,
    ),
    "Falcon-H1-7B": (
        dims("falcon_h1", 3072, 44, 12, 2, 12288, 130048, head_dim=128, mamba_n_heads=24,
             mamba_d_head=128, mamba_d_state=256, mamba_d_ssm=3072),
        7_585_513_568,
    ),
    "Jamba-v0.1": (
        dims("jamba", 4096, 32, 32, 8, 14336, 65536, num_experts=16, num_experts_per_tok=2,
             expert_layer_period=2, expert_layer_offset=1, attn_layer_period=8,
             attn_layer_offset=4, mamba_d_state=16, mamba_d_conv=4, mamba_dt_rank=256),
        51_570_323_328,
    ),
    "GPT-Neo-1.3B": (
        {"model_type": "gpt_neo", "hidden_size": 2048, "num_layers": 24, "num_heads": 16,
         "intermediate_size": None, "vocab_size": 50257, "max_position_embeddings": 2048},
        1_315_575_808 + 24 * 3 * 2048,  # counted with biases of query, key and value
    ),
    "CodeGen-6B": (
        {"model_type": "codegen", "n_embd": 4096, "n_layer": 28, "n_head": 16, "n_inner": None,
         "vocab_size": 50400, "n_positions": 2048, "tie_word_embeddings": False},
        6_050_882_784,
    ),
    "BLOOM": (
        {"model_type": "bloom", "n_embed": 14336, "n_layer": 70, "num_attention_heads": 112,
         "vocab_size": 250880},
        176_247_271_424,
    ),
}  # fmt: skip


CT_INT4 = {
    "quant_method": "compressed-tensors", "format": "pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
        "num_bits": 4, "type": "int", "group_size": 32, "symmetric": True}}},
}  # fmt: skip


def quantized(config: dict[str, Any], block: dict[str, Any]) -> tuple[Architecture, Quantization]:
    architecture = read_architecture({**config, "quantization_config": block})
    assert architecture.quantization is not None
    return architecture, architecture.quantization
