"""What a config.json says of its own quantisation, and which matrices it leaves at 16 bit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from configurator.architecture.reader import Reader
from configurator.architecture.tables import LayerGroup, Matrix
from configurator.errors import InputError

MAX_PATTERN_LENGTH = 300
MAX_ALTERNATIVES = 32
MAX_PATTERNS = 1_000
_UNQUANTISED_ROLES = ("embedding", "head", "norm", "router", "vision")


@dataclass(frozen=True)
class Quantization:
    """What config.json says of its own quantisation.

    Attributes:
        method: ``fp8 awq gptq bitsandbytes mxfp4 nvfp4 compressed-tensors modelopt exl3``.
        precision: The contract's name for it.
        group_size: Weights that share a scale; 0 = one scale an output channel.
        excluded: Patterns of modules left at 16 bit.
        kv_precision: Cache precision that the checkpoint asks for, if any.
        double_quant: bitsandbytes' nested scales.
        expert_precision: Precision of the routed experts where it differs.
        expert_group_size: Their group.
        zero_point: Whether groups store a zero point beside the scale (AWQ and GPTQ files always
            hold one, symmetric or not).
        bits: Bits a weight where the precision's name does not say them (EXL3).
        rules: Patterns with a precision and a group of their own (mixed-precision checkpoints).
        shares: For each matrix that ``excluded`` touches, by role and module name: the share of
            the layers in which it is quantised all the same.
        schemes: For each matrix that ``rules`` touch: its precision and group.
    """

    method: str
    precision: str
    group_size: int = 0
    excluded: tuple[str, ...] = ()
    kv_precision: str | None = None
    double_quant: bool = False
    expert_precision: str | None = None
    expert_group_size: int | None = None
    zero_point: bool = False
    bits: float | None = None
    rules: tuple[tuple[str, str, int], ...] = ()
    shares: tuple[tuple[str, float], ...] = ()
    schemes: tuple[tuple[str, str, int], ...] = ()

    def quantized_share(self, matrix: Matrix) -> float:
        """Return the share of the layers, 0 to 1, in which the matrix is quantised."""
        if self._scheme(matrix) is None and (
            not matrix.linear or matrix.role in _UNQUANTISED_ROLES
        ):
            return 0.0
        return dict(self.shares).get(_key(matrix), 1.0)

    def quantizes(self, matrix: Matrix) -> bool:
        """Whether the matrix is quantised in most layers."""
        return self.quantized_share(matrix) >= 0.5

    def precision_of(self, matrix: Matrix) -> str | None:
        """Return the precision that the matrix is stored in; None = the model's own 16 bit."""
        if not self.quantizes(matrix):
            return None
        scheme = self._scheme(matrix)
        if scheme is not None:
            return scheme[0]
        if matrix.role == "expert" and self.expert_precision:
            return self.expert_precision
        return self.precision

    def group_size_of(self, matrix: Matrix) -> int:
        """Return the weights of the matrix that share a scale; 0 = an output channel."""
        scheme = self._scheme(matrix)
        if scheme is not None:
            return scheme[1]
        if matrix.role == "expert" and self.expert_group_size is not None:
            return self.expert_group_size
        return self.group_size

    def _scheme(self, matrix: Matrix) -> tuple[str, int] | None:
        key = _key(matrix)
        return next(((p, g) for k, p, g in self.schemes if k == key), None)


# --------------------------------------------------------------------------- excluded modules

# Parts of module paths that mean the same in different families.
_SYNONYMS = {
    "block_sparse_moe": "mlp",
    "feed_forward": "mlp",
    "ffn": "mlp",
    "attn": "self_attn",
    "attention": "self_attn",
    "self_attention": "self_attn",
    "linear_attn": "self_attn",
    "mamba": "self_attn",
    "shared_expert": "shared_experts",
    "shared_mlp": "shared_experts",
    "w1": "gate_proj",
    "w2": "down_proj",
    "w3": "up_proj",
    "head": "lm_head",
    "output": "lm_head",
}
_PREFIXES = {"model", "language_model", "backbone", "transformer", "base_model", "text_model"}


# Patterns that list experts one by one are judged by the first.
_NOT_FIRST_EXPERT = re.compile(r"experts\.[1-9]")


def _key(matrix: Matrix) -> str:
    return f"{matrix.role}:{matrix.module_name}"


def _paths(matrix: Matrix) -> tuple[str, ...]:
    """Return the canonical paths, below the layer, that a pattern may name the matrix by."""
    names = {matrix.name, matrix.module_name.removeprefix("attn.").removeprefix("mlp.")}
    parts = ["self_attn", "mixer"] if matrix.role == "attention" else ["mlp", "mixer", ""]
    if matrix.role == "expert":
        names = {n.replace("experts.", "experts.0.") for n in names}
        if matrix.module:  # experts that do not stand below the layer's MLP (Gemma 4)
            return (matrix.module.replace("experts.", "experts.0."), *names)
    return tuple(f"{part}.{name}".lstrip(".") for part in parts for name in names)


def _globs(pattern: str) -> list[str]:
    """Turn a pattern, a glob or a simple ``re:`` expression, into globs.

    Expressions come from files that nobody vouches for, so they are never run as expressions:
    ``.*``, escapes, anchors and plain alternatives are understood, anything else is left out.
    """
    if not pattern.startswith("re:"):
        return [pattern]
    text = pattern[3:].removeprefix("^").removesuffix("$").replace("\\.", "\0")
    text = re.sub(r"\[0-9\]\+|\\d\+", "*", text).replace(".*", "*").replace(".+", "*")
    out = [text]
    while any("(" in t for t in out):
        grown: list[str] = []
        for t in out:
            match = re.search(r"\((?:\?:)?([^()]*)\)\??", t)
            if match is None:
                return []
            options = match[1].split("|") + ([""] if match[0].endswith("?") else [])
            grown += [t[: match.start()] + option + t[match.end() :] for option in options]
        if len(grown) > MAX_ALTERNATIVES:
            return []
        out = grown
    out = [t.replace("\0", ".") for t in out]
    return [] if any(set(t) & set("\\+?()|^$[]{}") for t in out) else out


def _canonical(glob: str) -> tuple[str, int | None]:
    """Return a glob below the layer and the one layer that it is about, if it is."""
    parts = [p for p in glob.split(".") if p]
    while parts and (parts[0] in _PREFIXES or (parts[0] == "*" and len(parts) > 1)):
        parts.pop(0)
    layer: int | None = None
    for at, part in enumerate(parts):
        if part in ("layers", "h", "blocks") and at + 1 < len(parts):
            if parts[at + 1].isascii() and parts[at + 1].isdigit():
                layer = int(parts[at + 1][:9])
            parts = parts[at + 2 :]
            break
    renamed = []
    for part in parts:
        stem = part.strip("*")
        if stem == "router":  # a star after it must not make it a gate projection
            part = "gate"
        elif stem in _SYNONYMS:
            part = part.replace(stem, _SYNONYMS[stem])
        renamed.append(part)
    return ".".join(renamed), layer


def _matches(glob: str, paths: Sequence[str]) -> bool:
    """Whether a glob names a path, or a module above it."""
    for path in paths:
        steps = path.split(".")
        for end in range(1, len(steps) + 1):
            whole = ".".join(steps[:end])
            if fnmatchcase(whole, glob):
                return True
            if not glob.startswith("*") and any(
                fnmatchcase(".".join(steps[start:end]), glob) for start in range(1, end)
            ):
                return True
    return False


def resolve(
    quantization: Quantization, groups: Iterable[LayerGroup], ends: Iterable[Matrix]
) -> Quantization:
    """Return the quantisation with its patterns worked out for the matrices of a model.

    Args:
        quantization: As read from the config.
        groups: The model's layers, with their indices.
        ends: Its matrices outside the layers.

    Raises:
        InputError: The config holds more patterns than any real one does.
    """
    layers: dict[str, set[int]] = {}
    examples: dict[str, Matrix] = {}
    weights: dict[str, int] = {}
    for group in groups:
        for m in group.layer.matrices:
            if m.linear and m.role not in _UNQUANTISED_ROLES:
                key = _key(m)
                layers.setdefault(key, set()).update(group.indices)
                examples.setdefault(key, m)
                weights[key] = weights.get(key, 0) + m.parameters * group.count
    shares = _quantized_shares(quantization.excluded, layers, examples)
    if not quantization.rules:
        return replace(quantization, shares=tuple(shares.items()))
    examples |= {_key(m): m for m in ends if m.role == "head" and m.linear}
    schemes: list[tuple[str, str, int]] = []
    for key, matrix in examples.items():
        paths = ("lm_head",) if matrix.role == "head" else _paths(matrix)
        rule = next((r for r in quantization.rules if _matches(r[0], paths)), None)
        if rule is not None:
            schemes.append((key, rule[1], rule[2]))
        elif quantization.method != "fp8":  # what no rule names stays wide
            shares[key] = 0.0
    out = replace(quantization, shares=tuple(shares.items()), schemes=tuple(schemes))
    return _with_main_precision(out, examples, weights)


def _with_main_precision(
    quantization: Quantization, examples: Mapping[str, Matrix], weights: Mapping[str, int]
) -> Quantization:
    """Set ``precision`` to what most weights outside the experts have."""
    tally: dict[tuple[str, int], int] = {}
    routed: tuple[str, int] | None = None
    for key, precision, group in quantization.schemes:
        if examples[key].role == "expert":
            routed = (precision, group)
        else:
            tally[precision, group] = tally.get((precision, group), 0) + weights.get(key, 0)
    rest = (quantization.precision, quantization.group_size)
    if tally and quantization.method != "fp8":
        rest = max(tally, key=lambda scheme: tally[scheme])
    differs = routed is not None and routed[0] != rest[0]
    return replace(
        quantization,
        precision=rest[0],
        group_size=rest[1],
        expert_precision=routed[0] if routed and differs else None,
        expert_group_size=routed[1] if routed and differs else None,
    )


def _quantized_shares(
    excluded: Iterable[str], layers: Mapping[str, set[int]], examples: Mapping[str, Matrix]
) -> dict[str, float]:
    """Return, for each matrix that a pattern names, the share of layers that still quantise it.

    A pattern with a layer's number is about that layer, one without is about all.
    """
    everywhere: set[str] = set()
    by_layer: dict[str, set[int]] = {}
    for pattern in excluded:
        for glob in _globs(pattern):
            rest, layer = _canonical(glob)
            if rest in ("", "lm_head", "embed_tokens") or _NOT_FIRST_EXPERT.search(rest):
                continue
            if layer is None:
                everywhere.add(rest)
            else:
                by_layer.setdefault(rest, set()).add(layer)
    _refuse_many(len(everywhere) + len(by_layer))
    shares: dict[str, float] = {}
    for key, matrix in examples.items() if everywhere or by_layer else ():
        paths = _paths(matrix)
        if any(_matches(glob, paths) for glob in everywhere):
            shares[key] = 0.0
            continue
        left_out: set[int] = set()
        for glob, indices in by_layer.items():
            if _matches(glob, paths):
                left_out |= indices
        left_out &= layers[key]
        if left_out:
            shares[key] = 1.0 - len(left_out) / len(layers[key])
    return shares


def _refuse_many(patterns: int) -> None:
    if patterns > MAX_PATTERNS:
        raise InputError("model.config.quantization_config", "too_many_patterns", most=MAX_PATTERNS)


# --------------------------------------------------------------------------- reading


def read_quantization(raw: Any, expert_dtype: str = "") -> Quantization | None:
    """Read ``quantization_config`` (Hugging Face, compressed-tensors and ModelOpt forms).

    Args:
        raw: The block, or the content of ``hf_quant_config.json``.
        expert_dtype: The config's own ``expert_dtype`` (DeepSeek-V4).

    Raises:
        InputError: The block names a scheme that the engine does not know.
    """
    if not isinstance(raw, Mapping):
        return None
    if isinstance(raw.get("quantization"), Mapping):  # hf_quant_config.json
        raw = {"quant_method": "modelopt", **raw["quantization"]}
    r = Reader(raw, path="model.config.quantization_config")
    algorithm = r.text("quant_algo").upper()
    method = (r.text("quant_method") or ("modelopt" if algorithm else "")).lower()
    weights = _first_weights(r)
    bits = _bits(weights) or _bits(r)
    kind = weights.text("type") if weights else ""
    group = _group_size(weights) or _group_size(r)
    excluded = _excluded(r)
    common: dict[str, Any] = {"excluded": excluded, "kv_precision": _kv_precision(r)}
    expert_dtype = (r.text("expert_dtype") or expert_dtype).lower()

    if method == "exl3":
        return _exl3(r, bits, common)
    if method == "bitsandbytes":
        four = r.flag("load_in_4bit")
        double = r.flag("bnb_4bit_use_double_quant")
        return Quantization(
            method, "nf4" if four else "int8", 64 if four else 0, double_quant=double, **common
        )
    if algorithm == "MIXED_PRECISION":
        return _mixed(r, method, weights, common)
    if method in ("awq", "gptq", "auto-round", "auto_round", "gptqmodel"):
        if bits not in (None, 2, 3, 4, 8):
            raise InputError(f"{r.path}.bits", "bits", bits)
        odd = float(bits) if bits in (2, 3) else None
        precision = "int8" if bits == 8 else "int4"
        size = 128 if group is None else group
        return Quantization(method, precision, size, zero_point=True, bits=odd, **common)
    if method == "mxfp4" or "MXFP4" in algorithm or "mxfp4" in r.text("format"):
        return Quantization(method or "mxfp4", "mxfp4", 32, **common)
    if "NVFP4" in algorithm or (kind == "float" and bits == 4):
        mx = group == 32
        return Quantization(method, "mxfp4" if mx else "nvfp4", group or 16, **common)
    if (
        "FP8" in algorithm
        or method in ("fp8", "fbgemm_fp8", "deepseek_v4_fp8", "finegrained_fp8")
        or (kind == "float" and bits == 8)
    ):
        expert = {"fp4": "mxfp4", "nvfp4": "nvfp4"}.get(expert_dtype)
        return Quantization(
            method, "fp8", _block(r), expert_precision=expert,
            expert_group_size={"mxfp4": 32, "nvfp4": 16}.get(expert or ""), **common,
        )  # fmt: skip
    if bits in (4, 8) and (kind == "int" or "INT" in algorithm or not kind):
        zero = weights is not None and weights.raw("symmetric") is False
        return Quantization(
            method, "int8" if bits == 8 else "int4", group or 0, zero_point=zero, **common
        )
    if "W4A16" in algorithm or "AWQ" in algorithm:
        return Quantization(method, "int4", group or 128, **common)
    if "INT8" in algorithm or "W8A8" in algorithm:
        return Quantization(method, "int8", 0, **common)
    if not method and not algorithm:
        return None
    raise InputError(
        "model.config.quantization_config", "unknown_quantization", method or algorithm
    )


def _bits(r: Reader | None) -> float | None:
    if r is None:
        return None
    for name in ("num_bits", "bits", "w_bit"):
        if r.raw(name) is not None:
            return r.number(name, 0.0)
    return None


def _group_size(r: Reader | None) -> int | None:
    """Return the group; 0 where the config says -1 (an output channel), None where it is silent."""
    if r is None or r.raw("group_size") is None:
        return None
    return max(0, r.whole("group_size", r.raw("group_size"), minimum=-1))


def _first_weights(r: Reader) -> Reader | None:
    groups = r.section("config_groups")
    if groups is None:
        return None
    for name, value in groups.config.items():
        if isinstance(value, Mapping) and isinstance(value.get("weights"), Mapping):
            return Reader(value["weights"], path=f"{groups.path}.{str(name)[:40]}.weights")
    return None


def _block(r: Reader) -> int:
    block = r.integers("weight_block_size", minimum=1)
    return block[0] * block[1] if len(block) == 2 else 0


def _excluded(r: Reader) -> tuple[str, ...]:
    out: list[str] = []
    for name in ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules"):
        out += [p for p in r.sequence(name) if isinstance(p, str) and len(p) <= MAX_PATTERN_LENGTH]
    return tuple(dict.fromkeys(out))


def _kv_precision(r: Reader) -> str | None:
    scheme = r.raw("kv_cache_scheme")
    if isinstance(scheme, Mapping):
        bits = _bits(Reader(scheme, path=f"{r.path}.kv_cache_scheme"))
        return "fp8" if bits == 8 else None
    for name in ("kv_cache_quant_algo", "kv_cache_scheme"):
        if isinstance(r.raw(name), str) and r.raw(name).upper().startswith("FP8"):
            return "fp8"
    return None


_ALGORITHMS = {
    "NVFP4": ("nvfp4", 16), "W4A16_NVFP4": ("nvfp4", 16), "MXFP4": ("mxfp4", 32),
    "FP8": ("fp8", 0), "MXFP8": ("fp8", 32), "FP8_PB_WO": ("fp8", 128 * 128),
    "W4A16_AWQ": ("int4", 128), "INT4_AWQ": ("int4", 128), "W4A8_AWQ": ("int4", 128),
    "INT8": ("int8", 0),
}  # fmt: skip


def _mixed(
    r: Reader, method: str, weights: Reader | None, common: Mapping[str, Any]
) -> Quantization:
    """ModelOpt's MIXED_PRECISION: a scheme for each module; `resolve` finds whose."""
    rules: dict[str, tuple[str, int]] = {}
    layers = r.section("quantized_layers")
    for name, value in layers.config.items() if layers else ():
        if not isinstance(value, Mapping) or len(str(name)) > MAX_PATTERN_LENGTH:
            continue
        entry = Reader(value, path=f"{r.path}.quantized_layers")
        scheme = _ALGORITHMS.get(entry.text("quant_algo").upper())
        canonical, _ = _canonical(str(name))
        if scheme is not None and canonical and not _NOT_FIRST_EXPERT.search(canonical):
            rules.setdefault(canonical, (scheme[0], _group_size(entry) or scheme[1]))
    routed = _ALGORITHMS.get(r.text("moe_quant_algo").upper())
    if routed and not rules:
        rules["experts"] = routed
    _refuse_many(len(rules))
    four = weights is not None and _bits(weights) == 4 and method != "fp8"
    settings = dict(common)
    if method == "fp8":
        # The rest keeps the original's block FP8: the list only keeps it from a further step.
        settings["excluded"] = ()
    return Quantization(
        method,
        "nvfp4" if four else "fp8",
        16 if four else _block(r),
        rules=tuple((name, *scheme) for name, scheme in rules.items()),
        **settings,
    )


def _exl3(r: Reader, bits: float | None, common: Mapping[str, Any]) -> Quantization:
    """EXL3: any number of bits; the contract's nearest name and the bits beside it."""
    width = 4.0 if bits is None else float(bits)
    names = ((2.6, "q2_k"), (3.6, "q3_k_m"), (4.6, "int4"), (6.6, "q6_k"))
    name = next((n for limit, n in names if width <= limit), "int8")
    inner = r.section("non_routed_quantization")
    if inner is None or inner.text("quant_method").lower() == "exl3":
        return Quantization("exl3", name, 0, bits=width, **common)
    rest = read_quantization(inner.config)
    if rest is None:
        return Quantization("exl3", name, 0, bits=width, **common)
    return Quantization(
        "exl3", rest.precision, rest.group_size, expert_precision=name, expert_group_size=0,
        bits=width, **common,
    )  # fmt: skip
