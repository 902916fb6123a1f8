"""Scenario ↔ address bar: readable, versioned, complete.

Every field is written, defaults too, under a short name that is never used for another meaning.
Values are those of the contract and ids of the catalog, never labels. A parameter that cannot be
used is reported and the rest is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args
from urllib.parse import urlencode

from configurator.architecture import read_architecture
from configurator.catalog import load_catalog
from configurator.errors import SHOWN_VALUE_LENGTH, InputError
from configurator.scenario import (
    ConfigModel,
    CustomGpu,
    InferenceEngine,
    Scenario,
    SizeModel,
    TrainingEngine,
    parse_scenario,
)
from configurator.words import say

VERSION = 1
MAX_CONFIG_CHARACTERS = 1500
NO_HARDWARE = "auto"
ANY_VENDOR = "any"
NO_PLANS = "none"
# Parameters that say nothing of the scenario; Streamlit's own among them.
NOT_SCENARIO = frozenset({
    "v", "lang", "cat", "cur", "by", "ttft", "tps", "embed", "embed_options",
    "yrs", "busy", "own", "cmp", "bud", "watt", "tight",
})  # fmt: skip
# Limits of speed: most seconds to the first token, least tokens a second for each user.
_LIMITS = ("ttft", "tps")
MAX_LIMIT = 1e6
MAX_YEARS = 5
MAX_OWNED_KINDS = 8
MAX_OWNED_CARDS = 1024
MAX_COMPARED = 4
MAX_SUM = 1e11
BUYERS = ("individual", "sme", "enterprise")
# What a missing field of version 1 means. Frozen: an old link keeps its meaning.
V1_DEFAULTS: Mapping[str, str] = {"m": "Qwen/Qwen3-8B", "t": "inference"}
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,63}")
_UPLOADED = "uploaded model"

_TARGET_SETS = ("all_linear", "attention")

Parser = Callable[[str], Any]


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII):
        raise ValueError("whole")
    return int(text)


def _number(text: str) -> float:
    if not re.fullmatch(r"\d{1,12}(\.\d{1,20})?(e[+-]?\d{1,3})?", text, re.ASCII | re.IGNORECASE):
        raise ValueError("number")
    return float(text)


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("flag")
    return text == "1"


def _targets(text: str) -> Any:
    if text.startswith("["):
        names = json.loads(text)
        if not isinstance(names, list):
            raise ValueError("list")
        return names
    return text if text in _TARGET_SETS else text.split(",")


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("object")
    return value


# Parameter → (path in the scenario, how its text is read). Never reuse a name.
_PLAIN: Mapping[str, tuple[str, Parser]] = {
    "t": ("task", str),
    "w": ("precision", str),
    "kv": ("kv_cache_precision", str),
    "e": ("engine", str),
    "ev": ("engine_version", str),
}
_INFERENCE: Mapping[str, tuple[str, Parser]] = {
    "n": ("inference.concurrency", _whole),
    "in": ("inference.input_tokens", _whole),
    "out": ("inference.output_tokens", _whole),
    "len": ("inference.max_model_len", _whole),
    "util": ("inference.gpu_memory_utilization", _number),
    "step": ("inference.max_num_batched_tokens", _whole),
    "seqs": ("inference.max_num_seqs", _whole),
    "pre": ("inference.prefix_cache_share", _number),
    "spec": ("inference.speculative_tokens", _whole),
    "acc": ("inference.acceptance_rate", _number),
}
_TRAINING: Mapping[str, tuple[str, Parser]] = {
    "how": ("training.method", str),
    "mix": ("training.mixed_precision", str),
    "mb": ("training.micro_batch_size", _whole),
    "seq": ("training.sequence_length", _whole),
    "ga": ("training.gradient_accumulation", _whole),
    "opt": ("training.optimizer", str),
    "ckpt": ("training.gradient_checkpointing", _flag),
    "r": ("training.lora_rank", _whole),
    "lora": ("training.lora_targets", _targets),
    "sh": ("training.sharding", str),
    "off": ("training.offload", str),
    "sl": ("training.sample_lengths", str),
}
_HARDWARE: Mapping[str, tuple[str, Parser]] = {
    "c": ("hardware.gpu_count", _whole),
    "tp": ("hardware.tensor_parallel", _whole),
    "pp": ("hardware.pipeline_parallel", _whole),
    "ep": ("hardware.expert_parallel", _whole),
    "dp": ("hardware.data_parallel", _whole),
    "host": ("hardware.allow_cpu_offload", _flag),
}
_FIELDS: Mapping[str, tuple[str, Parser]] = {**_PLAIN, **_INFERENCE, **_TRAINING, **_HARDWARE}
_MODEL = ("m", "b", "cfg", "name", "up")
_GPU = ("g", "gj")
PARAMETERS = frozenset({*_FIELDS, *_MODEL, *_GPU, *NOT_SCENARIO})
# Without these a link is not complete; the optional ones are absent where the field is.
_REQUIRED = ("t", "w", "kv", "e")
_REQUIRED_BY_TASK: Mapping[bool, tuple[str, ...]] = {
    False: ("n", "in", "out"),
    True: tuple(_TRAINING),
}


@dataclass(frozen=True)
class Buying:
    """What a link says of the purchase beside the scenario; what is empty is not said.

    Attributes:
        years: Of ownership.
        utilisation: Share of the time at this load.
        owned: Cards that are there already, catalog id → how many.
        compared: Plans laid side by side, each ``class of buyer:card``; None: not chosen.
        budgets: Most that the purchase may cost, class of buyer → sum in the link's currency.
        powers: Most watts that a plan may draw, class of buyer → W.
        accept_tight: Whether plans inside the memory estimate's error count.
    """

    years: int | None = None
    utilisation: float | None = None
    owned: Mapping[str, int] = field(default_factory=dict)
    compared: tuple[str, ...] | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)
    powers: Mapping[str, float] = field(default_factory=dict)
    accept_tight: bool = False


@dataclass(frozen=True)
class LinkProblem:
    """Something of a link that could not be used as it stands.

    Attributes:
        parameter: Name in the address bar.
        code: What is wrong; ``link.<code>`` is its sentence.
        value: What was given, shortened.
        values: Further figures of the sentence.
    """

    parameter: str
    code: str
    value: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    def text(self, language: str = "en") -> str:
        """Return the sentence in a language; its values are plain text, not markdown."""
        return say(
            f"link.{self.code}",
            language,
            parameter=self.parameter,
            value=self.value,
            **self.values,
        )


# --------------------------------------------------------------------------- writing


def _number_text(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e12 else repr(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return _number_text(value)
    if isinstance(value, tuple):
        plain = len(value) > 0 and all(re.fullmatch(r"[\w.]+", name, re.ASCII) for name in value)
        if plain and not (len(value) == 1 and value[0] in _TARGET_SETS):
            return ",".join(value)
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def _read(scenario: Scenario, path: str) -> Any:
    value: Any = scenario
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def essential_config(config: Mapping[str, Any], name: str = _UPLOADED) -> dict[str, Any]:
    """Return the fields of a config.json that its architecture depends on.

    Raises:
        InputError: The config cannot be read at all.
    """
    wanted = read_architecture(dict(config), name)
    kept = dict(config)
    for key in list(config):
        without = {k: v for k, v in kept.items() if k != key}
        try:
            if read_architecture(without, name) == wanted:
                kept = without
        except InputError:
            continue
    return kept


def _config_parameters(model: ConfigModel) -> dict[str, str]:
    name = model.name if _SAFE_NAME.fullmatch(model.name) else ""
    out = {"name": name} if name and name != _UPLOADED else {}
    try:
        text = json.dumps(essential_config(model.config), separators=(",", ":"), allow_nan=False)
        parameters = read_architecture(model.config).parameters
    except (InputError, ValueError):
        return {**out, "up": "1"}
    if len(text) <= MAX_CONFIG_CHARACTERS:
        return {"cfg": text, **out}
    return {"up": _number_text(round(parameters / 1e9, 3)), **out}


def encode(
    scenario: Scenario,
    *,
    catalog: str = "",
    currency: str = "",
    vendors: Iterable[str] | None = None,
    ttft_s: float | None = None,
    tokens_per_s: float | None = None,
    buying: Buying | None = None,
) -> dict[str, str]:
    """Return the parameters of the address bar.

    A model given by a config.json is carried by the fields its architecture depends on if these
    take at most ``MAX_CONFIG_CHARACTERS``; otherwise the link only says how large it was.

    Args:
        scenario: What is asked.
        catalog: Version of the catalog that the answer stands on, ``YYYYMMDD``.
        currency: ISO code of the prices shown.
        vendors: Makers that cards may come from; written if not None, ``any`` for all.
        ttft_s: Most seconds to the first token; absent where there is no limit.
        tokens_per_s: Least tokens a second for each user; absent where there is no limit.
        buying: Terms and limits of the purchase, own cards, plans compared.
    """
    out = {"v": str(VERSION)}
    model = scenario.model
    if isinstance(model, SizeModel):
        out["b"] = _number_text(model.parameters_b)
    elif isinstance(model, ConfigModel):
        out.update(_config_parameters(model))
    else:
        out["m"] = model
    hardware = scenario.hardware
    for parameter, (path, _) in _FIELDS.items():
        if parameter == "c":
            if hardware is None:
                out["g"] = NO_HARDWARE
            elif isinstance(hardware.gpu, CustomGpu):
                given = hardware.gpu.model_dump(exclude_none=True)
                out["gj"] = json.dumps(given, separators=(",", ":"), ensure_ascii=False)
            else:
                out["g"] = hardware.gpu
        value = _read(scenario, path)
        if value is not None:
            out[parameter] = _text(value)
    if vendors is not None:
        out["by"] = ",".join(vendors) or ANY_VENDOR
    for parameter, limit in zip(_LIMITS, (ttft_s, tokens_per_s)):
        if limit is not None:
            out[parameter] = _number_text(limit)
    if buying is not None:
        out.update(_buying_parameters(buying))
    if currency:
        out["cur"] = currency
    if catalog:
        out["cat"] = catalog
    return out


def _pairs(values: Mapping[str, float]) -> str:
    return ",".join(f"{name}:{_number_text(value)}" for name, value in values.items())


def _buying_parameters(buying: Buying) -> dict[str, str]:
    out: dict[str, str] = {}
    if buying.years is not None:
        out["yrs"] = str(buying.years)
    if buying.utilisation is not None:
        out["busy"] = _number_text(buying.utilisation)
    if buying.owned:
        out["own"] = _pairs(buying.owned)
    if buying.compared is not None:
        out["cmp"] = ",".join(buying.compared) or NO_PLANS
    if buying.budgets:
        out["bud"] = _pairs(buying.budgets)
    if buying.powers:
        out["watt"] = _pairs(buying.powers)
    if buying.accept_tight:
        out["tight"] = "1"
    return out


# --------------------------------------------------------------------------- reading


def _short(text: str) -> str:
    return text[:SHOWN_VALUE_LENGTH] + ("…" if len(text) > SHOWN_VALUE_LENGTH else "")


class _Reader:
    """One link being read: what is used so far, and what is wrong with the rest."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self.query = {k: v for k, v in query.items() if not k.startswith("utm_")}
        self.problems: list[LinkProblem] = []
        self.used: dict[str, Any] = {}

    def report(self, parameter: str, code: str, **values: str) -> None:
        """Note a problem of a parameter."""
        value = _short(self.query.get(parameter, ""))
        self.problems.append(LinkProblem(parameter, code, value, values))

    def version(self) -> None:
        """Check the version; a newer link is read as far as it is understood."""
        text = self.query.get("v", str(VERSION))
        if not text.isascii() or not text.isdigit() or int(text[:9]) < 1:
            self.report("v", "bad_version")
        elif int(text[:9]) > VERSION:
            self.report("v", "newer_version", known=str(VERSION))

    def model(self) -> Any:
        """Return the model, the default one if the link's cannot be used."""
        query = self.query
        fallback = V1_DEFAULTS["m"]
        if "cfg" in query:
            try:
                config = _object(query["cfg"])
                read_architecture(config)
            except (InputError, ValueError, RecursionError):
                self.report("cfg", "bad_config", default=fallback)
                return fallback
            name = query.get("name", _UPLOADED)
            return {"config": config, "name": name if _SAFE_NAME.fullmatch(name) else _UPLOADED}
        if "up" in query:
            return self._uploaded(query["up"])
        if "b" in query:
            try:
                size = _number(query["b"])
                return SizeModel(parameters_b=size).model_dump()
            except ValueError:
                self.report("b", "bad_size", default=fallback)
                return fallback
        if "m" not in query:
            return fallback
        try:
            return load_catalog().model(query["m"]).id
        except InputError:
            self.report("m", "unknown_model", default=fallback)
            return fallback

    def _uploaded(self, text: str) -> Any:
        """Return a typical model of the size that an uploaded file had."""
        try:
            size = SizeModel(parameters_b=_number(text)).parameters_b
        except ValueError:
            self.report("up", "upload_again", size=V1_DEFAULTS["m"])
            return V1_DEFAULTS["m"]
        self.report("up", "upload_again", size=f"{size:g} B")
        return {"parameters_b": size}

    def gpu(self) -> Any:
        """Return the card, or None where the link leaves it open."""
        query = self.query
        if "gj" in query:
            try:
                return CustomGpu.model_validate(_object(query["gj"])).model_dump(exclude_none=True)
            except (ValueError, RecursionError):
                self.report("gj", "bad_gpu")
                return None
        if query.get("g", NO_HARDWARE) == NO_HARDWARE:
            return None
        try:
            return load_catalog().gpu(query["g"]).id
        except InputError:
            self.report("g", "unknown_gpu")
            return None

    def fields(self, parameters: Iterable[str]) -> None:
        """Read the text of each parameter; what cannot be read is reported."""
        for parameter in parameters:
            if parameter in self.query:
                try:
                    self.used[parameter] = _FIELDS[parameter][1](self.query[parameter])
                except ValueError:
                    self.report(parameter, "bad_value")

    def limits(self) -> None:
        """Report limits of speed that cannot be used; :func:`limits_of` reads the others."""
        for parameter in _LIMITS:
            if parameter in self.query and limits_of(self.query)[_LIMITS.index(parameter)] is None:
                self.report(parameter, "bad_value")

    def buying(self) -> None:
        """Report what of the purchase cannot be used; :func:`buying_of` reads the rest."""
        for parameter in _BUYING:
            if parameter in self.query and _buying_value(self.query, parameter) is None:
                self.report(parameter, "bad_value")

    def drop(self, parameter: str) -> None:
        """Report a parameter whose value the scenario refuses and go on without it."""
        self.used.pop(parameter, None)
        self.report(parameter, "bad_value")

    def unknown(self) -> None:
        """Report names that no version has used."""
        for parameter in self.query:
            if parameter not in PARAMETERS:
                shown = _short(parameter)
                self.problems.append(LinkProblem(shown, "unknown_parameter", "", {}))

    def missing(self, training: bool) -> None:
        """Say in one line which fields the link leaves out."""
        if not set(self.query) - NOT_SCENARIO:
            return
        wanted = [*_REQUIRED, *_REQUIRED_BY_TASK[training]]
        absent = [name for name in wanted if name not in self.query]
        if not {"m", "b", "cfg", "up"} & set(self.query):
            absent.insert(0, "m")
        if absent:
            self.problems.append(LinkProblem(", ".join(absent), "missing"))


def _limit(text: str) -> float:
    value = _number(text)
    if not 0 < value <= MAX_LIMIT:
        raise ValueError("limit")
    return value


def _assemble(model: Any, gpu: Any, used: Mapping[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {"version": 1, "model": model}
    if gpu is not None:
        data["hardware"] = {"gpu": gpu}
    for parameter, value in used.items():
        path = _FIELDS[parameter][0].split(".")
        block = data
        for name in path[:-1]:
            block = block.setdefault(name, {})
        block[path[-1]] = value
    return data


def decode(query: Mapping[str, str]) -> tuple[Scenario, list[LinkProblem]]:
    """Return the scenario of a link, and what of the link could not be used.

    Never raises: a bad or unknown parameter is reported and replaced by its default.

    Args:
        query: Parameters of the address bar, the last one where a name is repeated.
    """
    reader = _Reader(query)
    reader.version()
    reader.unknown()
    model, gpu = reader.model(), reader.gpu()
    reader.fields(_PLAIN)
    task = reader.used.get("t", V1_DEFAULTS["t"])
    if task not in ("inference", "fine_tuning", "training"):
        reader.drop("t")
        task = V1_DEFAULTS["t"]
    training = task != "inference"
    engine = reader.used.get("e")
    if engine is not None and engine not in get_args(
        TrainingEngine if training else InferenceEngine
    ):
        reader.drop("e")
    reader.fields([*_INFERENCE, *_TRAINING])
    reader.limits()
    reader.buying()
    if gpu is not None:
        reader.fields(_HARDWARE)
    if reader.used.get("in") == 0 and reader.used.get("out", 1) == 0:
        reader.drop("in")
        reader.drop("out")
    by_path = {path: parameter for parameter, (path, _) in _FIELDS.items()}
    while True:
        try:
            scenario = parse_scenario(_assemble(model, gpu, reader.used))
            break
        except InputError as error:
            parameter = by_path.get(_known_path(error.field, by_path))
            if parameter is None or parameter not in reader.used:
                # Not a field of its own: start from the model and the task alone.
                reader.report("v", "unusable")
                scenario = parse_scenario({"model": V1_DEFAULTS["m"]})
                break
            reader.drop(parameter)
    reader.missing(training)
    return scenario, reader.problems


def _known_path(path: str, known: Iterable[str]) -> str:
    """Return the field that a complaint inside it is about (``training.lora_targets.0``)."""
    return next((name for name in known if path == name or path.startswith(f"{name}.")), path)


def limits_of(query: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Return a link's limits: most seconds to the first token, least tokens a second for each."""
    found: list[float | None] = []
    for parameter in _LIMITS:
        try:
            found.append(_limit(query[parameter]))
        except (KeyError, ValueError):
            found.append(None)
    return found[0], found[1]


def _years(text: str) -> int:
    value = _whole(text)
    if not 1 <= value <= MAX_YEARS:
        raise ValueError("years")
    return value


def _busy(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise ValueError("share")
    return value


def _split_pairs(text: str) -> dict[str, str]:
    """Read ``name:value,name:value``; each name once."""
    parts = [part.rsplit(":", 1) for part in text.split(",")]
    if any(len(part) != 2 for part in parts) or len({part[0] for part in parts}) < len(parts):
        raise ValueError("pairs")
    return {part[0]: part[1] for part in parts}


def _card(name: str) -> str:
    try:
        return load_catalog().gpu(name).id
    except InputError:
        raise ValueError("card") from None


def _owned(text: str) -> dict[str, int]:
    given = _split_pairs(text)
    cards = {_card(name): _whole(value) for name, value in given.items()}
    counts = cards.values()
    if len(cards) < len(given) or len(cards) > MAX_OWNED_KINDS:
        raise ValueError("cards")
    if min(counts) < 1 or sum(counts) > MAX_OWNED_CARDS:
        raise ValueError("count")
    return cards


def _compared(text: str) -> tuple[str, ...]:
    names: list[str] = []
    for name in text.split(",") if text != NO_PLANS else ():
        buyer, _, card = name.partition(":")
        if buyer not in BUYERS:
            raise ValueError("buyer")
        names.append(f"{buyer}:{_card(card)}")
    if len(names) > MAX_COMPARED or len(set(names)) < len(names):
        raise ValueError("plans")
    return tuple(names)


def _sums(text: str) -> dict[str, float]:
    sums = {name: _number(value) for name, value in _split_pairs(text).items()}
    if not set(sums) <= set(BUYERS) or not all(0 < value <= MAX_SUM for value in sums.values()):
        raise ValueError("sums")
    return sums


_BUYING: Mapping[str, tuple[str, Parser]] = {
    "yrs": ("years", _years),
    "busy": ("utilisation", _busy),
    "own": ("owned", _owned),
    "cmp": ("compared", _compared),
    "bud": ("budgets", _sums),
    "watt": ("powers", _sums),
    "tight": ("accept_tight", _flag),
}


def _buying_value(query: Mapping[str, str], parameter: str) -> Any:
    """Return a parameter of the purchase, None if it is absent or cannot be used."""
    try:
        return _BUYING[parameter][1](query[parameter])
    except (KeyError, ValueError):
        return None


def buying_of(query: Mapping[str, str]) -> Buying:
    """Return what a link says of the purchase; what cannot be used is as if it were not there."""
    found = {path: _buying_value(query, name) for name, (path, _) in _BUYING.items()}
    return Buying(**{path: value for path, value in found.items() if value is not None})


def share_url(base: str, parameters: Mapping[str, str]) -> str:
    """Return the link as text, readable where the characters allow it."""
    return f"{base.split('?', 1)[0]}?{urlencode(parameters, safe='/:,')}"


def field_of(parameter: str) -> str:
    """Return the contract's name of the field that a parameter carries; itself if none."""
    if parameter in _FIELDS:
        return _FIELDS[parameter][0].rsplit(".", 1)[-1]
    return {"m": "model", "b": "parameters_b", "cfg": "config", "g": "gpu", "gj": "gpu"}.get(
        parameter, parameter
    )


def catalog_of(query: Mapping[str, str]) -> str:
    """Return the catalog version that a link was made with; empty if it does not say."""
    text = query.get("cat", "")
    return text if re.fullmatch(r"20\d{6}", text, re.ASCII) else ""


def currency_of(query: Mapping[str, str], known: Iterable[str]) -> str:
    """Return the currency of a link if it is a known one, else nothing."""
    text = query.get("cur", "")
    return text if text in set(known) else ""


def vendors_of(query: Mapping[str, str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the makers of a link that are known; none stands for all."""
    given = query.get("by", "").split(",")
    return tuple(vendor for vendor in known if vendor in given)
