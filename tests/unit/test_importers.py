"""Models read from the headers of real (tiny) files, made by the gguf and safetensors writers."""

import json
import struct

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from configurator.errors import InputError
from configurator.importers import import_file, import_header_bytes
from tests.unit.tiny_models import (
    CONFIG,
    F32,
    architecture,
    attention,
    base,
    ends,
    experts,
    hf_tensors,
    llama,
    llama_file,
    mlp,
    model_folder,
    norms,
    size,
    write_gguf,
    zeros,
)


def test_llama_header_gives_the_config_and_exact_bytes(tmp_path):
    path = llama_file(tmp_path / "tiny-F16.gguf", vocab=100, name="Tiny")
    got = import_file(path)
    config = got.model.config
    assert got.model.name == "Tiny"
    assert got.precision == "fp16"
    assert config["model_type"] == "llama"
    assert config["num_key_value_heads"] == 2
    assert config["max_position_embeddings"] == 2048
    assert config["tie_word_embeddings"] is False
    reader = gguf.GGUFReader(str(path))
    assert got.weights_bytes == sum(int(t.n_bytes) for t in reader.tensors)
    assert got.tensors == len(reader.tensors)
    arch = architecture(got)
    assert arch.parameters == sum(int(t.n_elements) for t in reader.tensors)
    assert arch.vocab_size == 100
    assert got.notes == ()


def test_upload_needs_only_the_header(tmp_path):
    path = llama_file(tmp_path / "tiny.gguf", vocab=100)
    data = path.read_bytes()
    header = gguf.GGUFReader(str(path)).data_offset
    assert import_header_bytes("tiny.gguf", data[:header]) == import_file(path)
    with pytest.raises(InputError, match=r"at least [\d,]+ bytes") as caught:
        import_header_bytes("tiny.gguf", data[: header // 2])
    assert caught.value.field == "model.file"


def test_no_output_tensor_is_a_tied_head(tmp_path):
    path = write_gguf(
        tmp_path / "a.gguf", "llama", base(attention__head_count_kv=2), llama(tied=True)
    )
    got = import_file(path)
    assert got.model.config["tie_word_embeddings"] is True
    assert got.notes == ()


@pytest.mark.parametrize(
    ("arch", "keys", "layer", "kwargs", "expected"),
    [
        (
            "qwen2", {"attention.head_count_kv": 2},
            lambda i: attention(i, 4, 2, 16, bias=True) | mlp(i, 160), {}, {"model_type": "qwen2"},
        ),
        (
            "qwen3", {"attention.head_count_kv": 2, "attention.key_length": 32,
                      "attention.value_length": 32},
            lambda i: attention(i, 4, 2, 32, qk_norm=True) | mlp(i, 160), {"tied": True},
            {"model_type": "qwen3", "head_dim": 32},
        ),
        (
            "qwen3moe",
            {"attention.head_count_kv": 2, "attention.key_length": 32,
             "attention.value_length": 32, "expert_count": 8, "expert_used_count": 2,
             "expert_feed_forward_length": 32},
            lambda i: attention(i, 4, 2, 32, qk_norm=True) | experts(i, 8, 32), {},
            {"model_type": "qwen3_moe", "num_experts": 8, "moe_intermediate_size": 32},
        ),
        (
            "qwen2moe",
            {"attention.head_count_kv": 4, "expert_count": 8, "expert_used_count": 2,
             "expert_feed_forward_length": 32, "expert_shared_feed_forward_length": 96},
            lambda i: attention(i, 4, 4, 16, bias=True) | experts(i, 8, 32)
            | mlp(i, 96, tail="_shexp") | {f"blk.{i}.ffn_gate_inp_shexp.weight": zeros(64)},
            {}, {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 96},
        ),
        (
            "llama", {"attention.head_count_kv": 2, "expert_count": 8, "expert_used_count": 2},
            lambda i: attention(i, 4, 2, 16) | experts(i, 8, 160), {}, {"model_type": "mixtral"},
        ),
        (
            "gpt-oss",
            {"attention.head_count_kv": 2, "attention.key_length": 32, "expert_count": 4,
             "attention.value_length": 32, "expert_used_count": 2,
             "expert_feed_forward_length": 64, "attention.sliding_window": 128},
            lambda i: attention(i, 4, 2, 32, bias=True, out_bias=True) | experts(i, 4, 64)
            | {f"blk.{i}.ffn_{n}_exps.bias": zeros(4, 64, dtype=F32)
               for n in ("gate", "up", "down")}
            | {f"blk.{i}.ffn_gate_inp.bias": zeros(4, dtype=F32),
               f"blk.{i}.attn_sinks.weight": zeros(4, dtype=F32)},
            {}, {"model_type": "gpt_oss", "sliding_window": 128},
        ),
        (
            "gemma3", {"attention.head_count_kv": 2, "attention.key_length": 32,
                       "attention.value_length": 32, "attention.sliding_window": 512},
            lambda i: attention(i, 4, 2, 32, qk_norm=True) | mlp(i, 160)
            | norms(i, "post_attention_norm", "post_ffw_norm"),
            {"tied": True}, {"model_type": "gemma3_text", "sliding_window": 512},
        ),
        (
            "phi3", {"attention.head_count_kv": 2, "attention.sliding_window": 2047},
            lambda i: {f"blk.{i}.attn_qkv.weight": zeros(8 * 16, 64),
                       f"blk.{i}.attn_output.weight": zeros(64, 64),
                       f"blk.{i}.ffn_up.weight": zeros(320, 64),
                       f"blk.{i}.ffn_down.weight": zeros(64, 160)},
            {}, {"model_type": "phi3"},
        ),
        (
            "glm4", {"attention.head_count_kv": 2},
            lambda i: attention(i, 4, 2, 16) | mlp(i, 160)
            | norms(i, "post_attention_norm", "post_ffw_norm"),
            {}, {"model_type": "glm4"},
        ),
        (
            "minimax-m2",
            {"attention.head_count_kv": 2, "expert_count": 8, "expert_used_count": 2,
             "expert_feed_forward_length": 160},
            lambda i: attention(i, 4, 2, 16) | experts(i, 8, 160)
            | {f"blk.{i}.attn_q_norm.weight": zeros(64, dtype=F32),
               f"blk.{i}.attn_k_norm.weight": zeros(32, dtype=F32),
               f"blk.{i}.exp_probs_b.bias": zeros(8, dtype=F32)},
            {}, {"model_type": "minimax_m2"},
        ),
        (
            "lfm2", {"attention.head_count_kv": [0, 2], "shortconv.l_cache": 3},
            lambda i: mlp(i, 160) | (
                attention(i, 4, 2, 16, qk_norm=True) if i else
                {"blk.0.shortconv.in_proj.weight": zeros(192, 64),
                 "blk.0.shortconv.out_proj.weight": zeros(64, 64),
                 "blk.0.shortconv.conv.weight": zeros(64, 3, dtype=F32)}),
            {"tied": True}, {"layer_types": ["conv", "full_attention"]},
        ),
        (
            "qwen3next",
            {"attention.head_count_kv": 2, "attention.key_length": 32,
             "attention.value_length": 32, "expert_count": 8, "expert_used_count": 2,
             "expert_feed_forward_length": 32, "expert_shared_feed_forward_length": 32,
             "ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.group_count": 2,
             "ssm.time_step_rank": 4, "ssm.inner_size": 64},
            lambda i: experts(i, 8, 32) | mlp(i, 32, tail="_shexp")
            | {f"blk.{i}.ffn_gate_inp_shexp.weight": zeros(64)} | (
                attention(i, 4, 2, 32, qk_norm=True)
                | {f"blk.{i}.attn_q.weight": zeros(256, 64)} if i else
                {"blk.0.attn_qkv.weight": zeros(128, 64), "blk.0.attn_gate.weight": zeros(64, 64),
                 "blk.0.ssm_ba.weight": zeros(8, 64), "blk.0.ssm_out.weight": zeros(64, 64),
                 "blk.0.ssm_conv1d.weight": zeros(128, 4, dtype=F32),
                 "blk.0.ssm_a": zeros(4, dtype=F32), "blk.0.ssm_dt.bias": zeros(4, dtype=F32),
                 "blk.0.ssm_norm.weight": zeros(16, dtype=F32)}),
            {}, {"layer_types": ["linear_attention", "full_attention"]},
        ),
    ],
)  # fmt: skip
def test_architectures_match_their_tensors(tmp_path, arch, keys, layer, kwargs, expected):
    tensors = ends(**kwargs)
    for i in range(2):
        tensors |= norms(i, "attn_norm", "ffn_norm") | layer(i)
    got = import_file(write_gguf(tmp_path / "m.gguf", arch, base() | keys, tensors))
    assert {k: got.model.config.get(k) for k in expected} == expected
    held = sum(v.size for v in tensors.values())
    # What remains are vectors such as correction biases that one side leaves out.
    assert architecture(got).parameters == pytest.approx(held, rel=0.002)
    assert not {code for code, _ in got.notes} - {"sliding_window_unused"}


def mla_file(path, *, old=False):
    heads, nope, rope, v, rank = 4, 16, 8, 16, 32
    keys = base(layers=2, attention__q_lora_rank=24, attention__kv_lora_rank=rank,
                rope__dimension_count=rope, leading_dense_block_count=1, expert_count=8,
                expert_used_count=2, expert_shared_count=1,
                expert_feed_forward_length=32)  # fmt: skip
    if old:
        keys |= {"attention.head_count_kv": heads, "attention.key_length": nope + rope,
                 "attention.value_length": v}  # fmt: skip
    else:
        keys |= {"attention.head_count_kv": 1, "attention.key_length": rank + rope,
                 "attention.value_length": rank, "attention.key_length_mla": nope + rope,
                 "attention.value_length_mla": v}  # fmt: skip
    tensors = ends()
    for i in range(2):
        tensors |= norms(i, "attn_norm", "ffn_norm")
        tensors |= {
            f"blk.{i}.attn_q_a.weight": zeros(24, 64),
            f"blk.{i}.attn_q_a_norm.weight": zeros(24, dtype=F32),
            f"blk.{i}.attn_q_b.weight": zeros(heads * (nope + rope), 24),
            f"blk.{i}.attn_kv_a_mqa.weight": zeros(rank + rope, 64),
            f"blk.{i}.attn_kv_a_norm.weight": zeros(rank, dtype=F32),
            f"blk.{i}.attn_output.weight": zeros(64, heads * v),
        }
        if old:
            tensors[f"blk.{i}.attn_kv_b.weight"] = zeros(heads * (nope + v), rank)
        else:
            tensors[f"blk.{i}.attn_k_b.weight"] = zeros(heads, rank, nope)
            tensors[f"blk.{i}.attn_v_b.weight"] = zeros(heads, v, rank)
    tensors |= mlp(0, 160) | experts(1, 8, 32) | mlp(1, 32, tail="_shexp")
    tensors["blk.1.exp_probs_b.bias"] = zeros(8, dtype=F32)
    write_gguf(path, "deepseek2", keys, tensors)
    return sum(v.size for v in tensors.values())


def test_deepseek_latent_attention(tmp_path):
    held = mla_file(tmp_path / "v3.gguf")
    got = import_file(tmp_path / "v3.gguf")
    arch = architecture(got)
    assert got.model.config["model_type"] == "deepseek_v3"
    assert arch.parameters == held
    assert arch.kv_elements_per_token() == 2 * (32 + 8)
    assert [g.layer.experts for g in arch.groups] == [0, 8]
    assert got.notes == ()


def test_deepseek_files_without_latent_keys_say_that_full_heads_are_cached(tmp_path):
    held = mla_file(tmp_path / "old.gguf", old=True)
    got = import_file(tmp_path / "old.gguf")
    assert architecture(got).parameters == held
    assert got.notes == (("mla_keys_missing", {"cache_elements_per_token": 2 * 4 * (24 + 16)}),)


def test_draft_layers_are_not_decoder_layers(tmp_path):
    keys = base(layers=3, attention__head_count_kv=2, nextn_predict_layers=1)
    tensors = llama(3) | {"blk.2.nextn.eh_proj.weight": zeros(64, 128)}
    tensors |= norms(2, "nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm")
    config = import_file(write_gguf(tmp_path / "m.gguf", "glm4moe", keys, tensors)).model.config
    assert (config["num_hidden_layers"], config["num_nextn_predict_layers"]) == (2, 1)


def quantised(kind, hidden=256):
    keys = base() | {"embedding_length": hidden, "feed_forward_length": 512}
    keys["attention.head_count_kv"] = 2
    tensors = {"output_norm.weight": zeros(hidden, dtype=F32)}
    for name in ("token_embd.weight", "output.weight"):
        tensors[name] = (zeros(512, hidden, dtype=F32), kind)
    for i in range(2):
        tensors |= norms(i, "attn_norm", "ffn_norm", hidden=hidden)
        parts = attention(i, 4, 2, 64, hidden) | mlp(i, 512, hidden)
        tensors |= {k: (v.astype(F32), kind) for k, v in parts.items()}
    return keys, tensors


@pytest.mark.parametrize(
    ("kind", "file_type", "precision"),
    [
        ("Q8_0", 7, "q8_0"), ("Q4_0", 2, "q4_0"), ("Q4_0", 1024, "q4_0"), ("BF16", 32, "bf16"),
        ("Q5_0", 8, "q5_k_m"),
    ],
)  # fmt: skip
def test_precision_of_a_gguf(tmp_path, kind, file_type, precision):
    kind = gguf.GGMLQuantizationType[kind]
    path = write_gguf(tmp_path / "m.gguf", "llama", *quantised(kind), file_type=file_type)
    got = import_file(path)
    assert got.precision == precision
    assert got.weights_bytes == sum(int(t.n_bytes) for t in gguf.GGUFReader(str(path)).tensors)
    nearest = [v for code, v in got.notes if code == "nearest_precision"]
    if kind.name.lower().startswith(precision[:4]):
        assert not nearest
    else:
        assert nearest == [{"stored": kind.name.lower(), "precision": precision}]


def test_the_name_of_a_mix_comes_from_the_file_type(tmp_path):
    kind = gguf.GGMLQuantizationType.Q8_0
    got = import_file(write_gguf(tmp_path / "m.gguf", "llama", *quantised(kind), file_type=15))
    assert got.precision == "q4_k_m"
    assert "stored_size_differs" in dict(got.notes)  # the name says Q4_K_M, the bytes do not


def test_a_mismatch_between_header_and_tensors_is_told(tmp_path):
    keys = base(attention__head_count_kv=2, feed_forward_length=320)
    got = import_file(write_gguf(tmp_path / "m.gguf", "llama", keys, llama()))
    assert "parameters_differ" in dict(got.notes)


def test_unknown_architecture_is_an_error_that_names_the_key(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", "flux", base(), llama())
    with pytest.raises(InputError, match="catalog id") as caught:
        import_file(path)
    assert caught.value.field == "model.file.general.architecture"
    assert caught.value.value == "flux"


def test_layers_that_differ_are_not_averaged(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", "llama", base(attention__head_count_kv=[2, 4]), llama())
    with pytest.raises(InputError, match="differs from layer to layer"):
        import_file(path)


def test_equal_values_a_layer_are_one_value(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", "llama", base(attention__head_count_kv=[2, 2]), llama())
    assert import_file(path).model.config["num_key_value_heads"] == 2


def test_missing_key_is_named(tmp_path):
    keys = base(attention__head_count_kv=2)
    del keys["block_count"]
    with pytest.raises(InputError) as caught:
        import_file(write_gguf(tmp_path / "m.gguf", "llama", keys, llama()))
    assert caught.value.field == "model.file.llama.block_count"


def test_split_gguf_is_read_whole(tmp_path):
    whole = import_file(llama_file(tmp_path / "whole.gguf"))
    names = list(llama())
    for part, chosen in ((1, names[:5]), (2, names[5:])):
        tensors = {k: v for k, v in llama().items() if k in chosen}
        path = tmp_path / f"m-0000{part}-of-00002.gguf"
        write_gguf(path, "llama", base(attention__head_count_kv=2), tensors)
    got = import_file(tmp_path / "m-00002-of-00002.gguf")
    assert (got.weights_bytes, got.tensors) == (whole.weights_bytes, whole.tensors)
    (tmp_path / "m-00001-of-00002.gguf").unlink()
    with pytest.raises(InputError, match=r"m-00001-of-00002\.gguf is not beside it"):
        import_file(tmp_path / "m-00002-of-00002.gguf")


# --------------------------------------------------------------------------- safetensors


def test_folder_is_config_and_exact_bytes(tmp_path):
    folder = model_folder(tmp_path / "tiny")
    got = import_file(folder)
    assert got.model.name == "tiny"
    assert got.model.config == CONFIG
    assert (got.precision, got.weights_bytes) == ("fp16", size(hf_tensors()))
    assert got.tensors == len(hf_tensors())
    assert got.notes == ()
    assert import_file(folder / "model-00002-of-00002.safetensors") == got


def test_folder_without_its_weights_says_so(tmp_path):
    folder = model_folder(tmp_path / "tiny")
    (folder / "model-00002-of-00002.safetensors").unlink()
    got = import_file(folder)
    assert (got.weights_bytes, got.tensors) == (0, 0)
    assert got.notes == (("weight_files_missing", {"count": 1, "of": 2}),)


def test_config_alone(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**CONFIG, "quantization_config": {"quant_method": "fp8"}}))
    got = import_file(path)
    assert (got.precision, got.weights_bytes) == ("fp8", 0)
    assert got.notes == (("no_tensors_read", {}),)
    assert import_header_bytes("config.json", path.read_bytes()).model.config == got.model.config


def test_modelopt_scheme_beside_the_config(tmp_path):
    folder = model_folder(tmp_path / "tiny")
    quantization = {"quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    (folder / "hf_quant_config.json").write_text(json.dumps(quantization))
    assert import_file(folder).precision == "nvfp4"


def test_index_cannot_point_outside_the_folder(tmp_path):
    folder = model_folder(tmp_path / "tiny")
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="weight_map"):
        import_file(folder)


def test_safetensors_alone_does_not_say_the_heads(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(hf_tensors(), str(path))
    with pytest.raises(InputError, match=r"config\.json"):
        import_file(path)


def test_query_norms_reveal_the_heads(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = hf_tensors(dim=32, qk_norm=True)
    save_file(tensors, str(path))
    got = import_file(path)
    config = got.model.config
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
    assert (config["head_dim"], config["model_type"]) == (32, "qwen3")
    assert architecture(got).parameters == sum(t.size for t in tensors.values())
    assert got.weights_bytes == size(tensors)
    assert [code for code, _ in got.notes] == ["config_inferred"]
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    assert import_header_bytes("model.safetensors", data[: 8 + length]) == got
    with pytest.raises(InputError, match=f"at least {8 + length:,} bytes"):
        import_header_bytes("model.safetensors", data[: 7 + length])


def test_incomplete_safetensors_file(tmp_path):
    folder = model_folder(tmp_path / "tiny", shards=1)
    path = folder / "model-00001-of-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="incomplete or damaged"):
        import_file(folder)


def test_packed_types_need_a_scheme(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {k: v.astype(np.uint8) for k, v in hf_tensors(dim=32, qk_norm=True).items()}
    save_file(tensors, str(path))
    with pytest.raises(InputError, match="quantization_config"):
        import_file(path)


@pytest.mark.parametrize("name", ["notes.txt", "model.bin"])
def test_other_kinds_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"hello world, hello")
    with pytest.raises(InputError, match=r"\.gguf or \.safetensors"):
        import_file(tmp_path / name)
    with pytest.raises(InputError, match="check the path"):
        import_file(tmp_path / "absent.gguf")
    with pytest.raises(InputError, match="holds no config"):
        import_file(tmp_path)
