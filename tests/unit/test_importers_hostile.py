"""Headers that lie, end early or are no header: an `InputError` or a model, soon, never a crash."""

import contextlib
import importlib
import json
import struct
import time
import tracemalloc

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from configurator.errors import InputError
from configurator.importers import import_file, import_header_bytes
from configurator.importers.gguf_header import Gguf
from configurator.importers.gguf_keys import MODEL_TYPES
from configurator.importers.gguf_model import from_gguf
from configurator.importers.shared import Tensor
from tests.unit.tiny_models import architecture, base, hf_tensors, llama, llama_file


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    path = llama_file(folder / "m.gguf", vocab=20)
    st_path = folder / "m.safetensors"
    save_file(hf_tensors(dim=32, qk_norm=True), str(st_path))
    (length,) = struct.unpack_from("<Q", st_path.read_bytes())
    return (
        path.read_bytes()[: gguf.GGUFReader(str(path)).data_offset],
        st_path.read_bytes()[: 8 + length],
    )


def survives(name, data):
    try:
        got = import_header_bytes(name, data)
    except InputError:
        return
    architecture(got)


def gguf_bytes(keys=b"", *, tensors=0, count=1, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + keys


def key(name, kind, value=b""):
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


HUGE = 1 << 60
HOSTILE = {
    "empty": b"",
    "magic only": b"GGUF",
    "wrong magic": b"GGML" + bytes(60),
    "version 1": gguf_bytes(version=1),
    "big-endian": gguf_bytes(version=3 << 24),
    "huge tensor count": gguf_bytes(tensors=HUGE, count=0),
    "huge key count": gguf_bytes(count=HUGE),
    "huge key": gguf_bytes(struct.pack("<Q", HUGE)),
    "huge string": gguf_bytes(key(b"a", 8, struct.pack("<Q", HUGE))),
    "string of all ones": gguf_bytes(key(b"a", 8, struct.pack("<Q", 2**64 - 1))),
    "huge list of strings": gguf_bytes(key(b"a", 9, struct.pack("<IQ", 8, HUGE))),
    "huge list of bytes": gguf_bytes(key(b"a", 9, struct.pack("<IQ", 0, HUGE))),
    "list of lists": gguf_bytes(key(b"a", 9, struct.pack("<IQ", 9, HUGE))),
    "unknown type": gguf_bytes(key(b"a", 99)),
    "list of empty strings": gguf_bytes(key(b"a", 9, struct.pack("<IQ", 8, 5_000_001)) + bytes(80)),
    "no keys": gguf_bytes(count=0),
    "dimensions": gguf_bytes(
        struct.pack("<Q", 1) + b"t" + struct.pack("<I", 1 << 31), tensors=1, count=0
    ),
    "elements": gguf_bytes(
        struct.pack("<Q", 1) + b"t" + struct.pack("<IQQQQIQ", 4, *[2**63] * 4, 0, 0),
        tensors=1, count=0,
    ),
    "tensor type": gguf_bytes(
        struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 32, 9999, 0), tensors=1, count=0
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_gguf(data, tmp_path):
    importlib.import_module("gguf")
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(InputError):
        import_header_bytes("m.gguf", data)
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(InputError):
        import_file(path)
    assert time.monotonic() - start < 5
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def st_bytes(header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


ENTRY = {"dtype": "F16", "shape": [4], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 8, struct.pack("<Q", HUGE) + b"{}", struct.pack("<Q", 100) + b"{}",
        st_bytes([]), st_bytes({}), st_bytes(b"{" * 100), st_bytes(b"[" * 1_000_000),
        st_bytes(b'{"a":' * 100_000), st_bytes(b"\xff\xfe{}"), st_bytes({"a": 1}),
        st_bytes({"a": ENTRY | {"shape": [-4]}}), st_bytes({"a": ENTRY | {"shape": [10**30]}}),
        st_bytes({"a": ENTRY | {"shape": [True]}}), st_bytes({"a": ENTRY | {"shape": [4.0]}}),
        st_bytes({"a": ENTRY | {"data_offsets": [8, 0]}}),
        st_bytes({"a": ENTRY | {"data_offsets": [0, 9]}}), st_bytes({"a": ENTRY | {"dtype": 3}}),
        st_bytes({"a": ENTRY | {"shape": [10**9] * 16}}), st_bytes({"a": ENTRY}),
        st_bytes(b'{"a":' + b"9" * 10_000 + b"}"), st_bytes(b'{"a":[' + b"0," * 2_000_001 + b"0]}"),
    ],
)  # fmt: skip
def test_hostile_safetensors(data):
    with pytest.raises(InputError):
        import_header_bytes("m.safetensors", data)


@settings(max_examples=150)
@given(st.data())
def test_damaged_headers_never_crash(good, data):
    name, header = data.draw(
        st.sampled_from([("m.gguf", good[0]), ("m.safetensors", good[1])])
    )  # fmt: skip
    header = bytearray(header)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(header) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=9))
        header[at : at + len(patch)] = patch
    end = data.draw(st.one_of(st.none(), st.integers(0, len(header))))
    survives(name, bytes(header[:end]))


@settings(max_examples=100)
@given(st.text(max_size=20), st.binary(max_size=400))
def test_any_bytes_never_crash(name, data):
    for prefix in (b"", b"GGUF\3\0\0\0", b"{"):
        survives(name, prefix + data)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-4, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=80)
@given(st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), _JSON))
def test_any_entry_never_crashes(entry):
    survives("m.safetensors", st_bytes({"model.embed_tokens.weight": entry}))


KEYS = ["block_count", "embedding_length", "attention.head_count", "attention.head_count_kv",
        "attention.key_length", "feed_forward_length", "expert_count", "expert_used_count",
        "nextn_predict_layers", "attention.kv_lora_rank", "rope.dimension_count",
        "attention.sliding_window", "attention.sliding_window_pattern", "ssm.conv_kernel",
        "ssm.inner_size", "ssm.time_step_rank", "ssm.group_count", "ssm.state_size",
        "embedding_length_per_layer_input", "attention.shared_kv_layers",
        "shortconv.l_cache", "kda.head_dim"]  # fmt: skip


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(MODEL_TYPES)),
    st.dictionaries(
        st.sampled_from(KEYS),
        st.integers(0, 8) | st.integers(-1, 2**64) | st.lists(st.integers(0, 9), max_size=4)
        | st.text(max_size=3) | st.floats(),
    ),
)  # fmt: skip
def test_any_values_never_crash(arch, values):
    meta = {f"{arch}.{k}": v for k, v in base(attention__head_count_kv=2).items()}
    meta |= {f"{arch}.{k}": v for k, v in values.items()}
    tensors = {n: Tensor("F16", t.shape, t.nbytes) for n, t in llama().items()}
    file = Gguf({"general.architecture": arch, **meta}, tensors)
    with contextlib.suppress(InputError):
        architecture(from_gguf(file, "m"))
