"""Scenario ↔ address bar: readable, versioned, complete.

Every field is written, defaults too, under a short name that is never used for another meaning.
Values are those of the contract and ids of the catalog, never labels. A parameter that cannot be
used is reported and the rest is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, urlencode

from configurator.architecture import read_architecture
from configurator.catalog import load_catalog
from configurator.errors import SHOWN_VALUE_LENGTH, InputError
from configurator.link.buying import BUYING, Buying, buying_parameters, buying_value
from configurator.link.fields import (
    FIELDS,
    HARDWARE,
    INFERENCE,
    NOT_SCENARIO,
    PARAMETERS,
    PLAIN,
    TARGET_SETS,
    TRAINING,
    number_text,
    read_number,
    read_object,
)
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
MAX_ALSO_CHARACTERS = 8000
NO_HARDWARE = "auto"
ANY_VENDOR = "any"
# Limits of speed: most seconds to the first token, least tokens a second for each user.
_LIMITS = ("ttft", "tps")
MAX_LIMIT = 1e6
# What a missing field of version 1 means. Frozen: an old link keeps its meaning.
V1_DEFAULTS: Mapping[str, str] = {"m": "Qwen/Qwen3-8B", "t": "inference"}
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,63}")
_UPLOADED = "uploaded model"
# Without these a link is not complete; the optional ones are absent where the field is.
_REQUIRED = ("t", "w", "kv", "e")
_REQUIRED_BY_TASK: Mapping[bool, tuple[str, ...]] = {
    False: ("n", "in", "out"),
    True: tuple(TRAINING),
}

# Those that prices are shown in.
CURRENCIES: tuple[Literal["CNY"], Literal["USD"]] = ("CNY", "USD")


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


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, tuple):
        plain = len(value) > 0 and all(re.fullmatch(r"[\w.]+", name, re.ASCII) for name in value)
        if plain and not (len(value) == 1 and value[0] in TARGET_SETS):
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

    def drop(keys: Sequence[str]) -> None:
        """Leave out all of these keys if none matters, else try each half."""
        nonlocal kept
        without = {k: v for k, v in kept.items() if k not in keys}
        try:
            if read_architecture(without, name) == wanted:
                kept = without
                return
        except InputError:
            pass
        if len(keys) > 1:
            half = len(keys) // 2
            drop(keys[:half])
            drop(keys[half:])

    if kept:
        drop(tuple(kept))
    return kept


def _config_parameters(model: ConfigModel) -> dict[str, str]:
    name = model.name if _SAFE_NAME.fullmatch(model.name) else ""
    out = {"name": name} if name and name != _UPLOADED else {}
    try:
        return {**_essential(json.dumps(model.config, allow_nan=False)), **out}
    except (InputError, ValueError):
        return {**out, "up": "1"}


@lru_cache(maxsize=64)
def _essential(config_json: str) -> dict[str, str]:
    """Return the parameter that carries a config, or its size where a link has no room for it."""
    config = json.loads(config_json)
    text = json.dumps(essential_config(config), separators=(",", ":"))
    if len(text) <= MAX_CONFIG_CHARACTERS:
        return {"cfg": text}
    return {"up": number_text(round(read_architecture(config).parameters / 1e9, 3))}


def encode(
    scenario: Scenario,
    *,
    catalog: str = "",
    currency: str = "",
    vendors: Iterable[str] | None = None,
    ttft_s: float | None = None,
    tokens_per_s: float | None = None,
    buying: Buying | None = None,
    also: Scenario | None = None,
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
        also: A second load on the same kind of card, carried as a link within the link.
    """
    out = {"v": str(VERSION)}
    model = scenario.model
    if isinstance(model, SizeModel):
        out["b"] = number_text(model.parameters_b)
    elif isinstance(model, ConfigModel):
        out.update(_config_parameters(model))
    else:
        out["m"] = model
    hardware = scenario.hardware
    for parameter, (path, _) in FIELDS.items():
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
            out[parameter] = number_text(limit)
    if buying is not None:
        out.update(buying_parameters(buying))
    if also is not None:
        inner = encode(also.model_copy(update={"hardware": None}))
        out["also"] = urlencode(inner, safe="/:,")
    if currency:
        out["cur"] = currency
    if catalog:
        out["cat"] = catalog
    return out


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
                config = read_object(query["cfg"])
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
                size = read_number(query["b"])
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
            size = SizeModel(parameters_b=read_number(text)).parameters_b
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
                return CustomGpu.model_validate(read_object(query["gj"])).model_dump(
                    exclude_none=True
                )
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
                    self.used[parameter] = FIELDS[parameter][1](self.query[parameter])
                except ValueError:
                    self.report(parameter, "bad_value")

    def limits(self) -> None:
        """Report limits of speed that cannot be used; :func:`limits_of` reads the others."""
        for parameter in _LIMITS:
            given = limits_of(self.query)[_LIMITS.index(parameter)]
            if parameter in self.query and given is None:
                self.report(parameter, "bad_value")

    def currency(self) -> None:
        """Report a currency that no price is shown in."""
        if self.query.get("cur", CURRENCIES[0]) not in CURRENCIES:
            self.report("cur", "bad_value")

    def also(self) -> None:
        """Report a second load that cannot be used; :func:`also_of` reads the others."""
        if "also" in self.query and also_of(self.query) is None:
            self.report("also", "bad_value")

    def buying(self) -> None:
        """Report what of the purchase cannot be used; :func:`buying_of` reads the rest."""
        for parameter in BUYING:
            if parameter in self.query and buying_value(self.query, parameter) is None:
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
    value = read_number(text)
    if not 0 < value <= MAX_LIMIT:
        raise ValueError("limit")
    return value


def _assemble(model: Any, gpu: Any, used: Mapping[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {"version": 1, "model": model}
    if gpu is not None:
        data["hardware"] = {"gpu": gpu}
    for parameter, value in used.items():
        path = FIELDS[parameter][0].split(".")
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
    reader.fields(PLAIN)
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
    reader.fields([*INFERENCE, *TRAINING])
    reader.limits()
    reader.currency()
    reader.buying()
    reader.also()
    if gpu is not None:
        reader.fields(HARDWARE)
    if reader.used.get("in") == 0 and reader.used.get("out", 1) == 0:
        reader.drop("in")
        reader.drop("out")
    by_path = {path: parameter for parameter, (path, _) in FIELDS.items()}
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


def also_of(query: Mapping[str, str]) -> Scenario | None:
    """Return a link's second load, None if there is none or any of it cannot be used."""
    text = query.get("also", "")
    if not text or len(text) > MAX_ALSO_CHARACTERS:
        return None
    scenario, problems = decode({k: v for k, v in parse_qsl(text) if k != "also"})
    return None if problems else scenario.model_copy(update={"hardware": None})


def limits_of(query: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Return a link's limits: most seconds to the first token, least tokens a second for each."""
    found: list[float | None] = []
    for parameter in _LIMITS:
        try:
            found.append(_limit(query[parameter]))
        except (KeyError, ValueError):
            found.append(None)
    return found[0], found[1]


def share_url(base: str, parameters: Mapping[str, str]) -> str:
    """Return the link as text, readable where the characters allow it."""
    return f"{base.split('?', 1)[0]}?{urlencode(parameters, safe='/:,')}"


def catalog_of(query: Mapping[str, str]) -> str:
    """Return the catalog version that a link was made with; empty if it does not say."""
    text = query.get("cat", "")
    return text if re.fullmatch(r"20\d{6}", text, re.ASCII) else ""


def currency_of(query: Mapping[str, str]) -> str:
    """Return the currency of a link if it is a known one, else nothing."""
    text = query.get("cur", "")
    return text if text in CURRENCIES else ""


def vendors_of(query: Mapping[str, str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the makers of a link that are known; none stands for all."""
    given = query.get("by", "").split(",")
    return tuple(vendor for vendor in known if vendor in given)
