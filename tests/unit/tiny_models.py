"""Tiny models, written by the gguf and safetensors writers."""

import json

import gguf
import numpy as np
from safetensors.numpy import save_file

from configurator.architecture import read_architecture

F16, F32 = np.float16, np.float32


def zeros(*shape, dtype=F16):
    return np.zeros(shape, dtype)


def write_gguf(path, arch, keys, tensors, *, file_type=1, vocab=None, **general):
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_file_type(file_type)
    for key, value in general.items():
        writer.add_string(f"general.{key}", value)
    for key, value in keys.items():
        name = f"{arch}.{key}"
        if isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_uint32(name, value)
    if vocab:
        writer.add_token_list([f"t{i}" for i in range(vocab)])
    for name, value in tensors.items():
        if isinstance(value, tuple):  # (array to quantise, GGUF type)
            array, kind = value
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def ends(hidden=64, vocab=100, tied=False):
    out = {
        "token_embd.weight": zeros(vocab, hidden),
        "output_norm.weight": zeros(hidden, dtype=F32),
    }
    if not tied:
        out["output.weight"] = zeros(vocab, hidden)
    return out


def norms(i, *names, hidden=64):
    return {f"blk.{i}.{n}.weight": zeros(hidden, dtype=F32) for n in names}


def attention(i, heads, kv, dim, hidden=64, *, bias=False, qk_norm=False, out_bias=False):
    out = {
        f"blk.{i}.attn_q.weight": zeros(heads * dim, hidden),
        f"blk.{i}.attn_k.weight": zeros(kv * dim, hidden),
        f"blk.{i}.attn_v.weight": zeros(kv * dim, hidden),
        f"blk.{i}.attn_output.weight": zeros(hidden, heads * dim),
    }
    if bias:
        out |= {f"blk.{i}.attn_{n}.bias": zeros(w * dim, dtype=F32)
                for n, w in (("q", heads), ("k", kv), ("v", kv))}  # fmt: skip
    if out_bias:
        out[f"blk.{i}.attn_output.bias"] = zeros(hidden, dtype=F32)
    if qk_norm:
        out |= {f"blk.{i}.attn_{n}_norm.weight": zeros(dim, dtype=F32) for n in "qk"}
    return out


def mlp(i, width, hidden=64, tail=""):
    return {
        f"blk.{i}.ffn_gate{tail}.weight": zeros(width, hidden),
        f"blk.{i}.ffn_up{tail}.weight": zeros(width, hidden),
        f"blk.{i}.ffn_down{tail}.weight": zeros(hidden, width),
    }


def experts(i, count, width, hidden=64):
    return {
        f"blk.{i}.ffn_gate_inp.weight": zeros(count, hidden, dtype=F32),
        f"blk.{i}.ffn_gate_exps.weight": zeros(count, width, hidden),
        f"blk.{i}.ffn_up_exps.weight": zeros(count, width, hidden),
        f"blk.{i}.ffn_down_exps.weight": zeros(count, hidden, width),
    }


def base(layers=2, **more):
    return {
        "block_count": layers, "embedding_length": 64, "context_length": 2048,
        "attention.head_count": 4, "feed_forward_length": 160,
        **{k.replace("__", "."): v for k, v in more.items()},
    }  # fmt: skip


def llama(layers=2, **kwargs):
    out = ends(**kwargs)
    for i in range(layers):
        out |= attention(i, 4, 2, 16) | mlp(i, 160) | norms(i, "attn_norm", "ffn_norm")
    return out


def llama_file(path, **kwargs):
    return write_gguf(path, "llama", base(attention__head_count_kv=2), llama(), **kwargs)


def architecture(imported):
    return read_architecture(imported.model.config, imported.model.name)


CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 160, "vocab_size": 100,
    "tie_word_embeddings": False, "torch_dtype": "float16",
}  # fmt: skip


def hf_tensors(dim=16, *, qk_norm=False):
    out = {"model.embed_tokens.weight": zeros(100, 64), "model.norm.weight": zeros(64),
           "lm_head.weight": zeros(100, 64)}  # fmt: skip
    for i in range(2):
        at = f"model.layers.{i}."
        shapes = {
            "self_attn.q_proj": (4 * dim, 64), "self_attn.k_proj": (2 * dim, 64),
            "self_attn.v_proj": (2 * dim, 64), "self_attn.o_proj": (64, 4 * dim),
            "mlp.gate_proj": (160, 64), "mlp.up_proj": (160, 64), "mlp.down_proj": (64, 160),
            "input_layernorm": (64,), "post_attention_layernorm": (64,),
        }  # fmt: skip
        if qk_norm:
            shapes |= {"self_attn.q_norm": (dim,), "self_attn.k_norm": (dim,)}
        out |= {f"{at}{name}.weight": zeros(*shape) for name, shape in shapes.items()}
    return out


def size(tensors):
    return sum(t.nbytes for t in tensors.values())


def model_folder(folder, *, shards=2, config=CONFIG):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    tensors = hf_tensors()
    names = sorted(tensors)
    places = {}
    for part in range(shards):
        file = f"model-{part + 1:05}-of-{shards:05}.safetensors"
        chosen = names[part::shards]
        save_file({n: tensors[n] for n in chosen}, str(folder / file))
        places |= dict.fromkeys(chosen, file)
    index = {"metadata": {"total_size": size(tensors)}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
