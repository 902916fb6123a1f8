"""Vision and audio towers, counted as lumps: they are read whole, never layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from configurator.architecture.parts import Parts
from configurator.architecture.reader import Reader
from configurator.architecture.tables import Matrix

# Families whose tower no config block describes.
_HIDDEN_TOWERS = ("step3_vl", "step3p7", "phi4mm", "interns1")


@dataclass(frozen=True)
class Tower:
    """Parameters of a tower.

    Attributes:
        split: In linear layers, which engines split over tensor-parallel ranks as they split the
            decoder's (vLLM and SGLang do for the towers known here).
        whole: In embeddings, norms and projectors, which every rank holds.
    """

    split: int
    whole: int


def towers(p: Parts, outer: Reader, wrapper: str) -> list[Matrix]:
    """Return the lumps of a config's vision and audio towers.

    Args:
        p: The language model.
        outer: The whole config.
        wrapper: Family that the whole config names, where it is another than the text's.
    """
    out: list[Matrix] = []
    vision = outer.section("vision_config")
    if vision is not None and vision.config:
        names = (wrapper, p.name, vision.text("model_type"))
        build = next((_VISION[n] for n in names if n in _VISION), _vit)
        out += _lumps("vision_tower", build(p, vision))
    elif wrapper in _HIDDEN_TOWERS:
        p.assume("vision_tower_not_counted")
    audio = outer.section("audio_config")
    if audio is not None and audio.config:
        if audio.text("model_type").startswith("gemma4"):
            out += _lumps("audio_tower", _gemma4_audio(p, audio))
        else:
            p.assume("audio_tower_not_counted")
    return out


def _lumps(name: str, tower: Tower) -> list[Matrix]:
    lumps = [
        Matrix(f"{name}.linear", tower.split, 1, "vision", "column", linear=False),
        Matrix(f"{name}.other", tower.whole, 1, "vision", "replicated", linear=False),
    ]
    return [m for m in lumps if m.parameters]


def _blocks(
    layers: int, hidden: int, ffn: int, *, gated: bool = False, bias: bool = True,
    norm_bias: bool = True, qkv: int = 0,
) -> Tower:  # fmt: skip
    """Pre-norm transformer blocks: four attention matrices, two or three of an MLP, two norms."""
    inner = qkv or hidden
    linear = 4 * hidden * inner + (3 if gated else 2) * hidden * ffn
    if bias:
        linear += 3 * inner + hidden + (2 if gated else 1) * ffn + hidden
    return Tower(layers * linear, layers * 2 * hidden * (2 if norm_bias else 1))


def _size(v: Reader) -> tuple[int, int, int]:
    """Return layers, width and MLP width."""
    layers = v.raw("depth") if v.raw("depth") is not None else v.raw("num_hidden_layers")
    hidden = v.integer("hidden_size")
    return v.whole("depth", layers), hidden, v.integer("intermediate_size", 4 * hidden)


def _patch(v: Reader, default: int = 14) -> int:
    """Pixels that one patch embeds, over the channels."""
    edge = v.integer("patch_size", default, maximum=4096)
    channels = v.raw("in_channels") or v.raw("in_chans") or v.raw("num_channels") or 3
    return edge * edge * v.whole("num_channels", channels, maximum=64)


def _vit(p: Parts, v: Reader) -> Tower:
    """A tower of a family not known here: blocks, patches and a two-layer projector."""
    if v.raw("hidden_size") is None or (
        v.raw("depth") is None and v.raw("num_hidden_layers") is None
    ):
        p.assume("vision_tower_not_counted")
        return Tower(0, 0)
    layers, hidden, ffn = _size(v)
    t = _blocks(layers, hidden, ffn)
    p.assume("vision_tower_typical")
    return Tower(t.split, t.whole + _patch(v) * hidden + hidden * p.hidden + p.hidden * p.hidden)


def _qwen2(p: Parts, v: Reader) -> Tower:
    """Qwen2-VL: ``hidden_size`` is the language model's, the tower's own is ``embed_dim``."""
    hidden, side = v.integer("embed_dim", 1280), v.integer("spatial_merge_size", 2)
    ffn = int(hidden * v.number("mlp_ratio", 4.0))
    t = _blocks(v.integer("depth", 32), hidden, ffn)
    merged, out = hidden * side**2, v.integer("hidden_size", p.hidden)
    merger = merged * merged + merged + merged * out + out
    patches = _patch(v) * v.integer("temporal_patch_size", 2) * hidden
    return Tower(t.split + merger, t.whole + patches + 2 * hidden)


def _qwen2_5(p: Parts, v: Reader) -> Tower:
    layers, hidden, ffn = _size(v)
    t = _blocks(layers, hidden, ffn, gated=True, norm_bias=False)
    merged = hidden * v.integer("spatial_merge_size", 2) ** 2
    out = v.integer("out_hidden_size", p.hidden)
    merger = hidden + merged * merged + merged + merged * out + out
    patches = _patch(v) * v.integer("temporal_patch_size", 2) * hidden
    return Tower(t.split + merger - hidden, t.whole + patches + hidden)


def _qwen3(p: Parts, v: Reader) -> Tower:
    layers, hidden, ffn = _size(v)
    t = _blocks(layers, hidden, ffn)
    merged = hidden * v.integer("spatial_merge_size", 2) ** 2
    out = v.integer("out_hidden_size", p.hidden)
    merger = merged * merged + merged + merged * out + out
    deep = len(v.sequence("deepstack_visual_indexes"))
    patches = (_patch(v, 16) * v.integer("temporal_patch_size", 2) + 1) * hidden
    positions = v.integer("num_position_embeddings", 2304) * hidden
    norms = 2 * hidden + deep * 2 * merged
    return Tower(t.split + (1 + deep) * merger, t.whole + patches + positions + norms)


def _gemma3(p: Parts, v: Reader) -> Tower:
    layers, hidden, ffn = _size(v)
    t = _blocks(layers, hidden, ffn)
    edge = v.integer("image_size", 896) // v.integer("patch_size", 14)
    other = (_patch(v) + 1) * hidden + edge * edge * hidden + 2 * hidden
    return Tower(t.split, t.whole + other + hidden * p.hidden + hidden)


def _gemma4(p: Parts, v: Reader) -> Tower:
    layers, hidden, ffn = _size(v)
    t = _blocks(layers, hidden, ffn, gated=True, bias=False, norm_bias=False)
    head = v.integer("head_dim", hidden // v.integer("num_attention_heads", 16))
    norms = layers * (2 * hidden + 2 * head)
    tables = 2 * v.integer("position_embedding_size", 10240) * hidden + _patch(v, 16) * hidden
    return Tower(t.split, t.whole + norms + tables + hidden * p.hidden)


def _gemma4_audio(p: Parts, a: Reader) -> Tower:
    """Conformer blocks: two MLPs, attention and a gated convolution."""
    layers, hidden = a.integer("num_hidden_layers"), a.integer("hidden_size")
    kernel = a.integer("conv_kernel_size", 5)
    heads = a.integer("num_attention_heads", 8)
    channels = a.integers("subsampling_conv_channels", 1) or [128, 32]
    linear = layers * (16 + 5 + 3) * hidden * hidden
    small = layers * (kernel * hidden + 9 * hidden + hidden // heads)
    convolutions = channels[0] * 9 + channels[0] * channels[-1] * 9 + sum(channels)
    out = a.integer("output_proj_dims", 1536)
    ends = hidden * hidden + hidden * out + out + out * p.hidden
    return Tower(linear, small + convolutions + ends)


def _mllama(p: Parts, v: Reader) -> Tower:
    """Llama 3.2 Vision: local and gated global layers, tiles and aspect ratios."""
    hidden, ffn = v.integer("hidden_size"), v.integer("intermediate_size")
    local, world = v.integer("num_hidden_layers"), v.integer("num_global_layers", 8)
    attention, mlp = 4 * hidden * hidden, 2 * hidden * ffn + ffn + hidden
    layers = local + world
    small = layers * 4 * hidden + 2 * world
    edge = v.integer("image_size", 560) // v.integer("patch_size", 14)
    patches, tiles = edge * edge + 1, v.integer("max_num_tiles", 4)
    ratios = len(v.sequence("supported_aspect_ratios")) + 1
    tables = (
        patches * hidden + 1  # positions in a tile and their gate
        + ratios * tiles * patches * hidden  # positions of tiles
        + 2 * (ratios * tiles * hidden + 1)  # before and after the layers
        + hidden  # class
        + 4 * hidden  # norms before and after
        + _patch(v) * hidden
    )  # fmt: skip
    out = v.integer("vision_output_dim", 6 * hidden)
    projector = out * p.hidden + p.hidden
    return Tower(layers * (attention + mlp), small + tables + projector)


def _llama4(p: Parts, v: Reader) -> Tower:
    layers, hidden, ffn = _size(v)
    t = _blocks(layers, hidden, ffn)
    edge = v.integer("image_size", 336) // v.integer("patch_size", 14)
    adapted = v.integer("projector_input_dim", 4096)
    wide = v.integer("projector_output_dim", 4096)
    adapter = v.integer("intermediate_size", 5632) * adapted + adapted * wide
    tables = _patch(v) * hidden + (edge * edge + 1) * hidden + hidden + 4 * hidden
    out = v.integer("vision_output_dim", 4096)
    return Tower(t.split + adapter, t.whole + tables + out * p.hidden)


def _pixtral(p: Parts, v: Reader) -> Tower:
    """Mistral Small 3.1 and later: gated blocks without bias, a patch merger, two projections."""
    layers, hidden, ffn = _size(v)
    t = _blocks(layers, hidden, ffn, gated=True, bias=False, norm_bias=False)
    merge = p.r.integer("spatial_merge_size", 2) ** 2
    merger = hidden + merge * hidden * hidden
    projector = hidden * p.hidden + p.hidden * p.hidden
    return Tower(t.split, t.whole + hidden + _patch(v) * hidden + merger + projector)


def _moonvit(p: Parts, v: Reader) -> Tower:
    """Kimi's MoonViT; K3's has no biases and a wider attention."""
    layers = v.integer("vt_num_hidden_layers", 27)
    hidden, ffn = v.integer("vt_hidden_size", 1152), v.integer("vt_intermediate_size", 4304)
    bias = v.flag("attn_bias", True)
    rms = v.text("norm_type") == "rmsnorm"
    qkv = v.integer("qkv_hidden_size", hidden)
    t = _blocks(layers, hidden, ffn, bias=bias, norm_bias=not rms, qkv=qkv)
    merged = hidden
    for side in v.integers("merge_kernel_size", 1) or [2, 2]:
        merged *= side
    edge = v.integer("init_pos_emb_height", 64) * v.integer("init_pos_emb_width", 64)
    tables = (_patch(v) + 1 + edge + 4) * hidden
    projector = merged * merged + merged + merged * p.hidden + p.hidden
    return Tower(t.split, t.whole + tables + projector)


def _minimax(p: Parts, v: Reader) -> Tower:
    layers, hidden, ffn = _size(v)
    t = _blocks(layers, hidden, ffn)
    section = v.section("img_token_compression_config")
    side = section.integer("spatial_merge_size", 2) if section is not None else 2
    frames = section.integer("temporal_patch_size", 2) if section is not None else 2
    out = p.hidden
    projector = hidden * out + out + out * out + out
    merger = side * side * out * out + out + out * out + out
    return Tower(t.split, t.whole + _patch(v) * frames * hidden + 2 * hidden + projector + merger)


def _deepseek(p: Parts, v: Reader) -> Tower:
    """DeepSeek-V4.1: gated blocks; the projector takes the pixels of a downsampled square."""
    layers, hidden, ffn = _size(v)
    t = _blocks(layers, hidden, ffn, gated=True, bias=False, norm_bias=False)
    square = v.integer("downsample_ratio", 3) ** 2
    projector = hidden * square * p.hidden + p.hidden * p.hidden
    p.assume("vision_tower_typical")
    return Tower(t.split, t.whole + _patch(v) * hidden + projector)


_VISION: dict[str, Callable[[Parts, Reader], Tower]] = {
    "qwen2_vl": _qwen2,
    "qwen2_5_vl": _qwen2_5,
    "qwen3_vl": _qwen3,
    "qwen3_vl_moe": _qwen3,
    "qwen3_5": _qwen3,
    "qwen3_5_moe": _qwen3,
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "mllama": _mllama,
    "llama4": _llama4,
    "pixtral": _pixtral,
    "kimi_k25": _moonvit,
    "kimi_k3": _moonvit,
    "minimax_m3_vl": _minimax,
    "deepseek_v41": _deepseek,
}
