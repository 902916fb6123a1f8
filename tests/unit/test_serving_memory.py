"""Serving memory: the exact parts exactly, the laws as properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator.architecture import read_architecture
from configurator.device import stack
from configurator.estimate import device_of, estimate
from configurator.memory.kv_cache import bytes_per_token, sequence_bytes
from configurator.memory.serving import serving_memory
from configurator.memory.sglang import static_share
from configurator.memory.weights import block_bytes, stored_bits, weight_table
from configurator.scenario import Inference, parse_scenario
from configurator.units import GIB, MIB
from tests.unit.test_parallelism import LLAMA_8B

DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "num_hidden_layers": 61, "first_k_dense_replace": 3,
    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_layer_freq": 1,
    "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
    "vocab_size": 129280, "num_nextn_predict_layers": 1, "tie_word_embeddings": False,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip
LLAMA_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
    "tie_word_embeddings": False,
}  # fmt: skip
ENGINES = ("vllm", "sglang", "tensorrt_llm", "transformers", "llama_cpp")
H100 = 81559 * MIB


def arch(config):
    return read_architecture(config, "test")


def test_mla_cache_lies_whole_on_every_rank():
    model = arch(DEEPSEEK_V3)
    assert bytes_per_token(model, 16) == 70_272
    assert float(sequence_bytes(model, 16, 4096, tensor=8)) * 32 / GIB == pytest.approx(
        8.578, abs=0.001
    )


def test_grouped_heads_are_copied_beyond_their_number():
    model = arch(LLAMA_8B)
    whole = float(sequence_bytes(model, 16, 1000))
    assert whole == 1000 * 131_072
    assert float(sequence_bytes(model, 16, 1000, tensor=8)) == whole / 8
    assert float(sequence_bytes(model, 16, 1000, tensor=16)) == whole / 8


def test_transformers_keeps_a_window_but_prefills_the_whole_prompt():
    model, whole = arch({**LLAMA_8B, "sliding_window": 512}), arch(LLAMA_8B)

    def held(model, **load):
        return serving_memory(model, "bf16", "bf16", "transformers", Inference(**load), H100)

    long = {"concurrency": 2, "input_tokens": 30_000, "output_tokens": 100}
    assert float(held(model, **long).kv_cache) == 2 * 512 * 131_072
    mask = 30_000**2  # booleans, one for both sequences
    assert float(held(model, **long).peak_allocated) - mask == pytest.approx(
        float(held(whole, **long).peak_allocated), rel=0.001
    )
    # Where the answer is long, what the window forgets is never held.
    short = {"input_tokens": 16, "output_tokens": 30_000}
    less = held(whole, **short).peak_allocated - held(model, **short).peak_allocated
    assert float(less) == pytest.approx((30_016 - 512) * 131_072, rel=0.02)


def test_gguf_weights_match_published_files():
    model = arch(LLAMA_7B)
    for precision, gib in (("q4_0", 3.4937), ("fp16", 12.30764)):
        assert float(weight_table(model, precision, "llama_cpp").per_gpu()) / GIB == pytest.approx(
            gib, abs=2e-4
        )


# Files as published on the Hub, GB; they hold up to 7 MB of vocabulary beside the tensors.
QWEN_05B = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
    "tie_word_embeddings": True,
}  # fmt: skip
PHI_4 = {
    "model_type": "phi3", "hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40,
    "num_attention_heads": 40, "num_key_value_heads": 10, "vocab_size": 100352,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
    "tie_word_embeddings": False,
}  # fmt: skip
GLM_4_9B = {
    "model_type": "chatglm", "hidden_size": 4096, "ffn_hidden_size": 13696, "num_layers": 40,
    "num_attention_heads": 32, "multi_query_attention": True, "multi_query_group_num": 2,
    "padded_vocab_size": 151552, "kv_channels": 128, "add_qkv_bias": True, "seq_length": 131072,
}  # fmt: skip
GEMMA_27B = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504,
        "num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 16,
        "head_dim": 128, "vocab_size": 262208, "sliding_window": 1024,
    },
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
        "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 896, "patch_size": 14,
    },
}  # fmt: skip
LLAMA_70B = {
    "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672,
    "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
    "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
PUBLISHED = {
    "llama-8b": (LLAMA_8B, {
        "q8_0": 8.540771, "q6_k": 6.596007, "q5_k_m": 5.732988, "q4_k_m": 4.920735,
        "q4_0": 4.661211, "q3_k_m": 4.018918, "q2_k": 3.179132,
    }),
    "llama-70b": (LLAMA_70B, {"q5_k_m": 49.95, "q4_k_m": 42.52, "q3_k_m": 34.27, "q2_k": 26.38}),
    "mixtral": (MIXTRAL, {"q4_k_m": 28.45, "q4_0": 26.44, "q3_k_m": 22.54}),
    "qwen-0.5b": (QWEN_05B, {
        "q8_0": 0.531, "q6_k": 0.506, "q5_k_m": 0.420, "q4_k_m": 0.398, "q4_0": 0.352,
        "q3_k_m": 0.355, "q2_k": 0.339,
    }),
    "glm-4-9b": (GLM_4_9B, {"q6_k": 8.26, "q5_k_m": 7.14, "q4_k_m": 6.25, "q3_k_m": 5.06}),
    "phi-4": (PHI_4, {"q5_k_m": 10.60, "q4_k_m": 9.05, "q3_k_m": 7.36, "q2_k": 5.55}),
    "gemma-27b": (GEMMA_27B, {"q8_0": 28.71, "q4_k_m": 16.55, "q3_k_m": 13.43}),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_gguf_mixes_match_published_files(name):
    config, files = PUBLISHED[name]
    for mix, size in files.items():
        table = weight_table(arch(config), mix, "llama_cpp")
        assert table.total + table.host == pytest.approx(size * 1e9, rel=0.003, abs=8e6), mix


def test_falcon_has_rules_of_its_own():
    # What the card holds of 4.98, 4.21 and 7.67 GB: all but the token embedding beside the head.
    model = arch({
        "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32,
        "num_attention_heads": 71, "vocab_size": 65024, "multi_query": True,
    })  # fmt: skip
    for mix, size, embedding in (("q4_k_m", 4.98, 5.5), ("q4_0", 4.21, 4.5), ("q8_0", 7.67, 8.5)):
        held = float(weight_table(model, mix, "llama_cpp").per_gpu())
        held += 65024 * 4544 * embedding / 8
        assert held == pytest.approx(size * 1e9, rel=0.003)


def test_llama_cpp_loads_the_language_model_alone():
    model = arch(GEMMA_27B)
    text = weight_table(arch(GEMMA_27B["text_config"]), "bf16", "llama_cpp")
    assert weight_table(model, "bf16", "llama_cpp").total == text.total
    assert weight_table(model, "bf16").total > text.total
    for engine, told in (("llama_cpp", True), ("vllm", False)):
        asked = {"model": {"config": GEMMA_27B}, "engine": engine, "hardware": {"gpu": "rtx-4090"}}
        answer = estimate(parse_scenario(asked))
        assert any(n.code == "text_model_alone" for n in answer.assumptions) is told


def test_mxfp4_experts_lie_beside_q8_0_unless_the_checkpoint_is_mxfp4():
    config = dict(MIXTRAL)
    made = weight_table(arch(config), "mxfp4", "llama_cpp").head
    kept = weight_table(
        arch({**config, "quantization_config": {"quant_method": "mxfp4"}}), "mxfp4", "llama_cpp"
    ).head
    assert (made, kept) == (32000 * 4096 * 8.5 / 8, 32000 * 4096 * 2)


@pytest.mark.parametrize(
    ("version", "cache", "length", "mib"),
    [
        # Start-up logs of Llama 3 8B without flash attention: 258.5, 560, 2,144 and 8,480 MiB.
        ("b4000", "fp16", 512, 258.5), ("b4000", "fp16", 8192, 552), ("b4000", "fp16", 32768, 2136),
        ("b4000", "fp16", 131072, 8472),
        # With it: a mask of 32 and of 16 bit; today of 16, and the logits of one token.
        ("b7000", "fp16", 512, 258.5), ("b7000", "fp16", 131072, 408), (None, "fp16", 512, 72.5),
        (None, "fp16", 131072, 200), (None, "q8_0", 131072, 664),
    ],
)  # fmt: skip
def test_compute_buffer_of_llama_cpp(version, cache, length, mib):
    load = Inference(input_tokens=length - 1, output_tokens=1, max_model_len=length)
    held = serving_memory(arch(LLAMA_8B), "q4_k_m", cache, "llama_cpp", load, H100, version=version)
    assert float(held.activations) / MIB == pytest.approx(mib, abs=0.5)


def test_compute_buffer_of_llama_cpp_is_near_logged_ones():
    def mib(layers, hidden, ffn, cache, version):
        model = arch({
            "model_type": "qwen3_5_text", "hidden_size": hidden, "intermediate_size": ffn,
            "num_hidden_layers": layers, "num_attention_heads": 16, "num_key_value_heads": 4,
            "head_dim": 256, "vocab_size": 248320, "linear_num_key_heads": 16,
            "linear_num_value_heads": 32, "linear_key_head_dim": 128,
            "linear_value_head_dim": 128, "full_attention_interval": 4,
        })  # fmt: skip
        load = Inference(input_tokens=262143, output_tokens=1)
        held = serving_memory(model, "q4_k_m", cache, "llama_cpp", load, H100, version=version)
        return float(held.activations) / MIB

    # Qwen3.5 9B before June 2026, 4B after it, with 262,144 tokens.
    assert mib(32, 4096, 12288, "fp16", "b8500") == pytest.approx(808, rel=0.03)
    assert mib(32, 2560, 9216, "fp16", None) / 1024 == pytest.approx(0.31, rel=0.06)
    assert mib(32, 2560, 9216, "q8_0", None) / 1024 == pytest.approx(1.30, rel=0.06)


def test_llama_cpp_keeps_a_micro_batch_beside_the_window():
    model = arch({**LLAMA_8B, "model_type": "mistral", "sliding_window": 4096})
    load = Inference(concurrency=2, input_tokens=15_000, output_tokens=1000)
    held = serving_memory(model, "q4_k_m", "fp16", "llama_cpp", load, H100)
    layer = (4096 + 512) * 2 * 8 * 128 * 2
    assert float(held.kv_cache) == 2 * 32 * layer


def test_allocator_blocks():
    assert block_bytes(86 * MIB) == 86 * MIB
    assert block_bytes(135 * MIB) == 136 * MIB
    assert block_bytes(134.5 * MIB) == 134.5 * MIB
    assert block_bytes(3 * MIB) == 3 * MIB


def test_fp8_blocks_cost_their_scales_and_embeddings_stay_wide():
    model = arch(DEEPSEEK_V3)
    bits = {
        m.name: stored_bits(m, "fp8", model, "vllm", g.layer)
        for g in model.groups
        for m in g.layer.matrices
    }
    assert bits["o_proj"] == 8 + 32 / 16384
    assert {
        stored_bits(m, "fp8", model, "vllm", g.layer)
        for g in model.groups
        for m in g.layer.matrices
        if m.role in ("router", "norm")
    } == {16}
    assert {stored_bits(m, "fp8", model, "vllm") for m in model.ends} == {16}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("config", [LLAMA_8B, DEEPSEEK_V3])
def test_parts_sum_to_the_total(engine, config):
    model = arch(config)
    held = serving_memory(model, "bf16", "bf16", engine, Inference(concurrency=4), H100, 8)
    parts = held.weights + held.kv_cache + held.activations + held.framework + held.spare_pool
    assert float(parts) == pytest.approx(float(held.total))
    assert (
        min(float(x) for x in (held.weights, held.kv_cache, held.activations, held.framework)) >= 0
    )


LOADS = st.tuples(st.integers(1, 512), st.integers(1, 30_000), st.integers(1, 4_000))


@settings(max_examples=60, deadline=None)
@given(LOADS, st.integers(0, 4000), st.integers(0, 64), st.sampled_from(ENGINES))
def test_more_tokens_or_users_never_need_less(load, more_tokens, more_users, engine):
    model = arch(LLAMA_8B)

    def required(users, tokens, out):
        load = Inference(concurrency=users, input_tokens=tokens, output_tokens=out)
        return float(serving_memory(model, "bf16", "bf16", engine, load, H100).required)

    users, tokens, out = load
    base = required(users, tokens, out)
    slack = 1e-9 * base
    assert required(users, tokens + more_tokens, out) >= base - slack
    assert required(users, tokens, out + more_tokens) >= base - slack
    assert required(users + more_users, tokens, out) >= base - slack


@settings(max_examples=60, deadline=None)
@given(LOADS, st.integers(1, 512), st.integers(1, 8), st.sampled_from(ENGINES))
def test_what_waits_for_a_slot_holds_no_cache(load, slots, data, engine):
    model = arch(LLAMA_8B)

    def held(users):
        asked = Inference(
            concurrency=users, input_tokens=load[1], output_tokens=load[2], max_num_seqs=slots
        )
        return serving_memory(model, "bf16", "bf16", engine, asked, H100, data=data)

    most = slots * data
    assert float(held(most + load[0]).required) == pytest.approx(float(held(most).required))
    assert float(held(most).sequences) == slots


def test_vllm_profiles_as_many_sequences_as_are_asked_for():
    model = arch(LLAMA_8B)

    def step(users, **more):
        load = Inference(concurrency=users, **more)
        small = serving_memory(model, "bf16", "bf16", "vllm", load, 24 * GIB)
        return int(small.detail["step_sequences"])

    assert (step(10), step(256), step(400), step(5000)) == (256, 256, 400, 2048)
    assert step(400, max_num_seqs=64) == 64


def test_vllm_gives_an_a100_the_defaults_of_a_small_card():
    model, load = arch(LLAMA_8B), Inference(max_model_len=8192)

    def step(memory, a100, version=None):
        held = serving_memory(
            model, "bf16", "bf16", "vllm", load, memory, a100=a100, version=version
        )
        return int(held.detail["step_tokens"]), int(held.detail["step_sequences"])

    a100, h100 = (device_of(gpu) for gpu in ("a100-sxm4-80", "h100-sxm"))
    assert step(a100.memory_bytes, a100.a100) == (2048, 256)
    assert step(h100.memory_bytes, h100.a100) == (8192, 1024)
    cards = stack([a100, h100])
    many = serving_memory(
        model, "bf16", "bf16", "vllm", load, cards.memory_bytes, np.array([1, 1]), a100=cards.a100
    )
    assert many.detail["step_tokens"].tolist() == [2048, 8192]
    # The first engine has one default for all cards and takes a prompt in one step.
    assert step(h100.memory_bytes, False, "0.7.3") == (8192, 256)


@pytest.mark.parametrize(
    ("gpu", "tensor", "version", "share"),
    [("rtx-4090", 1, None, 0.847), ("h100-sxm", 1, None, 0.835), ("h100-sxm", 8, "0.5.3", 0.818),
     ("h200-sxm", 1, None, 0.907), ("h100-sxm", 8, "SGLang 0.4.9", 0.831),
     ("h100-sxm", 8, "0.4.6.post5", 0.81), ("rtx-4090", 1, "0.4.6", 0.88)],
)  # fmt: skip
def test_sglang_keeps_back_what_its_steps_and_graphs_take(gpu, tensor, version, share):
    memory = device_of(gpu).memory_bytes
    assert static_share(Inference(), memory, tensor, 1, version) == pytest.approx(share)
    cards = np.array([memory, memory])
    assert static_share(Inference(), cards, np.array([tensor, tensor]), 1, version) == (
        pytest.approx([share, share])
    )
    assert static_share(Inference(gpu_memory_utilization=0.5), memory, tensor, 1, version) == 0.5


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["bf16", "fp8", "int8", "int4", "mxfp4", "nvfp4", "q4_k_m"]),
    st.sampled_from(ENGINES),
)
def test_arrays_answer_like_numbers(precision, engine):
    model = arch(DEEPSEEK_V3)
    load = Inference(concurrency=7, input_tokens=900, output_tokens=100)
    tensor, pipeline, data = np.array([1, 2, 8, 4]), np.array([1, 2, 1, 4]), np.array([1, 1, 2, 1])
    expert, memory = np.array([1, 1, 8, 16]), np.array([1.0, 2.0, 1.0, 3.0]) * H100
    many = serving_memory(
        model, precision, "bf16", engine, load, memory, tensor, pipeline, expert, data
    )
    for i in range(4):
        one = serving_memory(
            model, precision, "bf16", engine, load, memory[i], int(tensor[i]), int(pipeline[i]),
            int(expert[i]), int(data[i]),
        )  # fmt: skip
        for name in ("weights", "kv_cache", "activations", "framework", "total", "capacity_tokens"):
            value = np.broadcast_to(getattr(many, name), (4,))[i]
            assert float(value) == pytest.approx(float(getattr(one, name)), rel=1e-9), name


@given(st.integers(1, 64), st.integers(1, 61))
def test_splitting_never_adds_weights_to_a_gpu(tensor, pipeline):
    table = weight_table(arch(DEEPSEEK_V3), "fp8")
    assert float(table.per_gpu(tensor, pipeline)) <= float(table.per_gpu(1, 1)) * (1 + 1e-12)
    assert float(table.per_gpu(tensor, pipeline)) * tensor * pipeline >= table.total * (1 - 1e-9)


def _pool(version, **load):
    held = serving_memory(
        arch(LLAMA_8B), "bf16", "bf16", "vllm",
        Inference(gpu_memory_utilization=0.9, max_num_batched_tokens=8192, **load), H100,
        version=version,
    )  # fmt: skip
    return float(held.detail["pool_bytes"]) / GIB


def test_an_older_release_reserves_more_for_its_sampler():
    # Start-up log of vLLM 0.11 on an H100, defaults of the API server.
    assert _pool("vLLM 0.11.0 (V1)") == pytest.approx(51.38, abs=0.05)
    assert _pool("0.24.1") == _pool("nightly") == _pool(None) > _pool("0.11")
    assert _pool("0.9.2") < _pool("0.10.0") == _pool("0.15.9")


@settings(deadline=None, max_examples=20)
@given(version=st.text(max_size=30), rows=st.integers(1, 2048))
def test_any_text_is_a_version(version, rows):
    assert _pool(version, max_num_seqs=rows) >= _pool(version, max_num_seqs=2 * rows)


@settings(deadline=None, max_examples=60)
@given(
    engine=st.sampled_from(ENGINES), gib=st.floats(1, 90), users=st.integers(1, 64),
    margin=st.floats(0, 0.3),
)  # fmt: skip
def test_layers_that_do_not_fit_lie_in_host_memory(engine, gib, users, margin):
    precision = "q4_k_m" if engine == "llama_cpp" else "bf16"
    ask = (arch(LLAMA_8B), precision, "bf16", engine, Inference(concurrency=users), gib * GIB)
    all_here = serving_memory(*ask)
    held = serving_memory(*ask, offload_margin=margin)
    if engine == "tensorrt_llm" or all_here.required * (1 + margin) <= all_here.budget:
        assert float(held.host) == 0
        assert float(held.required) == float(all_here.required)
        return
    assert held.host_layers == round(float(held.host_layers))
    assert 0 < held.host_share <= 1
    moved = all_here.weights - held.weights
    if engine == "llama_cpp":
        moved = moved + all_here.kv_cache - held.kv_cache
    assert float(moved) == pytest.approx(float(held.host), rel=1e-6)
    assert float(held.required) == pytest.approx(
        float(held.weights + held.kv_cache + held.activations + held.framework)
    )
    assert held.host_share == 1 or held.required * (1 + margin) <= held.budget * (1 + 1e-9)


@settings(deadline=None, max_examples=80)
@given(
    engine=st.sampled_from(ENGINES), gib=st.floats(6, 140), tensor=st.sampled_from((1, 2, 4, 8)),
    share=st.sampled_from((None, 0.5, 0.92, 1.0)), users=st.integers(1, 64),
)  # fmt: skip
def test_an_engine_never_has_more_than_the_card(engine, gib, tensor, share, users):
    load = Inference(concurrency=users, gpu_memory_utilization=share)
    held = serving_memory(arch(LLAMA_8B), "bf16", "bf16", engine, load, gib * GIB, tensor)
    assert float(held.budget) <= gib * GIB * (1 + 1e-9)


def test_scores_that_are_written_out_grow_with_the_square_and_are_warned_of():
    def held(engine: str, prompt: int):
        return estimate(parse_scenario({
            "model": "openai/gpt-oss-20b", "engine": engine, "precision": "bf16",
            "inference": {"input_tokens": prompt, "output_tokens": 16},
            "hardware": {"gpu": "h200-sxm", "gpu_count": 1},
        }))  # fmt: skip

    one, two, four = (held("transformers", n).memory.activations_gib for n in (2048, 4096, 8192))
    assert 3.5 < (four - two) / (two - one) < 4.5
    warned = {notice.code for notice in held("transformers", 4096).warnings}
    assert "scores_written" in warned
    assert "scores_written" not in {notice.code for notice in held("vllm", 4096).warnings}
