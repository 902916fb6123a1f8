"""The sidebar: what is asked. Each widget shows a field of the form and writes it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, get_args

import streamlit as st

from configurator import link, numbers
from configurator.app import own_model
from configurator.app.form import AUTO, CUSTOM, SPLITS, Form
from configurator.app.market_inputs import market
from configurator.app.presets import ladder, ladder_sizes, nearest_step
from configurator.app.state import (
    CURRENCIES,
    VENDORS,
    around,
    bound_words,
    buy,
    buying,
    chosen_vendors,
    currency,
    form,
    language,
    seed,
    speed_limits,
    take,
    words,
)
from configurator.catalog import load_catalog
from configurator.memory.serving import OFFLOADING
from configurator.recommend.request import RUN
from configurator.scenario import (
    MAX_GPUS,
    MAX_SEQUENCES,
    MAX_TOKENS,
    InferenceEngine,
    KvPrecision,
    Method,
    MixedPrecision,
    Offload,
    Optimizer,
    Precision,
    SampleLengths,
    Sharding,
    Task,
    TrainingEngine,
)
from configurator.words import say

CONCURRENCY_STEPS = (
    1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 160, 200, 256, 320,
    400, 512, 640, 800, 1024, 1500, 2048, 3000, 4096,
)  # fmt: skip
TOKEN_STEPS = (
    64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768,
    49152, 65536, 98304, 131072, 196608, 262144, 524288, 1048576,
)  # fmt: skip
BATCH_STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
ACCUMULATION_STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GPU_STEPS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
RANK_STEPS = (4, 8, 16, 32, 64, 128, 256)
QLORA_PRECISIONS = ("nf4", "int4", "int8", "mxfp4")
TRAINING_PRECISIONS = ("auto", "fp32", "fp16", "bf16", "fp8", "int8", "int4", "nf4")


# --------------------------------------------------------------------------- one widget each
MAX_DRAFT = 16


def _choice(
    field: str,
    options: Sequence[Any],
    text: Callable[[Any], str],
    *,
    after: Callable[[Form], None] | None = None,
    label: str | None = None,
    help_key: str | None = None,
) -> None:
    """Show a list to choose from; a value that is not in it is shown as well."""
    value = form()[field]
    offered = list(options) if value in options else [*options, value]
    seed(field, value)
    st.selectbox(
        label or words(f"field.{field}"),
        offered,
        format_func=text,
        key=field,
        on_change=take(field, field, after),
        help=words(f"help.{help_key}") if help_key else None,
    )


def _steps(
    field: str,
    steps: Sequence[int],
    text: Callable[[int], str],
    *,
    help_key: str | None = None,
    after: Callable[[Form], None] | None = None,
) -> None:
    """Show a slider over steps about evenly spaced on a logarithmic scale, and the value itself."""
    value = form()[field]
    options = sorted({*steps, value})
    seed(field, value)
    st.select_slider(
        words(f"field.{field}"),
        options,
        format_func=text,
        key=field,
        on_change=take(field, field, after),
        help=words(f"help.{help_key}") if help_key else None,
    )


def _exact(field: str, low: int, high: int) -> None:
    """Show the number itself, for values between the slider's steps."""
    key = f"{field}_exact"
    seed(key, form()[field])
    st.number_input(
        words(f"field.{field}"),
        min_value=low,
        max_value=high,
        step=1,
        key=key,
        on_change=_take_number(field, key),
    )


def _take_number(field: str, key: str) -> Callable[[], None]:
    def moved() -> None:
        if st.session_state[key] is not None:
            form()[field] = st.session_state[key]

    return moved


def _optional(field: str, high: int) -> None:
    """Show a number that may be left to the engine."""
    seed(field, form()[field])
    st.number_input(
        words(f"field.{field}"),
        min_value=1,
        max_value=high,
        value=None,
        step=1,
        key=field,
        placeholder=words("auto"),
        on_change=take(field, field, empty=True),
    )


def _share(field: str, low: float, high: float) -> None:
    """Show a share that may be left to the engine."""
    seed(field, form()[field])
    st.number_input(
        words(f"field.{field}"),
        min_value=low,
        max_value=high,
        value=None,
        step=0.01,
        key=field,
        placeholder=words("auto"),
        on_change=take(field, field, empty=True),
    )


def _toggle(field: str, *, help_key: str | None = None) -> None:
    seed(field, bool(form()[field]))
    st.toggle(
        words(f"field.{field}"),
        key=field,
        on_change=take(field, field),
        help=words(f"help.{help_key}") if help_key else None,
    )


# --------------------------------------------------------------------------- what things are called


@lru_cache(maxsize=4)
def model_labels(tongue: str) -> dict[str, str]:
    """Return what the model picker shows and searches: name, size, context, licence, family."""
    labels = {}
    for model_id, record in load_catalog().models.items():
        parts = [record.name]
        if record.total_params_b is not None:
            parts.append(numbers.billions(record.total_params_b.value, tongue))
        if record.context_length:
            parts.append(numbers.tokens(record.context_length))
        parts.append(record.license or record.family)
        parts.append(model_id.split("/", maxsplit=1)[0])
        labels[model_id] = " · ".join(parts)
    return labels


@lru_cache(maxsize=4)
def model_order() -> tuple[str, ...]:
    """Return the ids of the picker, the family's newest first."""
    records = load_catalog().models.values()
    return tuple(
        r.id for r in sorted(records, key=lambda r: (r.release_date or "0", r.id), reverse=True)
    )


@lru_cache(maxsize=256)
def model_facts(model_id: str, tongue: str) -> str:
    """Return what a buyer asks of a model: size, active part, context, licence, age."""
    record = load_catalog().models.get(model_id)
    if record is None:
        return ""
    facts = [record.family]
    total, active = record.total_params_b, record.active_params_b
    if total is not None:
        facts.append(numbers.billions(total.value, tongue))
    if active is not None and total is not None and active.value < 0.9 * total.value:
        size = numbers.billions(active.value, tongue)
        facts.append(say("app.model_active", tongue, size=size))
    if record.context_length:
        length = numbers.tokens(record.context_length)
        facts.append(say("app.model_context", tongue, length=length))
    facts.append(record.license or say("app.model_license_unknown", tongue))
    if record.release_date:
        facts.append(numbers.date(record.release_date, tongue))
    return " · ".join(numbers.plain(fact) for fact in facts)


@lru_cache(maxsize=2)
def gpu_order() -> tuple[str, ...]:
    """Return the ids of the card picker: by vendor, then memory, then name."""

    def rank(gpu: Any) -> tuple[Any, ...]:
        vendor = VENDORS.index(gpu.vendor) if gpu.vendor in VENDORS else 9
        return vendor, gpu.segment == "datacenter", gpu.memory_gb.value, gpu.name

    return tuple(gpu.id for gpu in sorted(load_catalog().gpus.values(), key=rank))


@lru_cache(maxsize=512)
def gpu_label(gpu_id: str) -> str:
    """Return a card's name and memory."""
    gpu = load_catalog().gpus.get(gpu_id)
    if gpu is None:
        return gpu_id
    memory = f"{gpu.memory_gb.value:g} GB"
    return (
        gpu.name
        if memory.replace(" ", "") in gpu.name.replace(" ", "")
        else (f"{gpu.name} · {memory}")
    )


def _gpu_text() -> Callable[[str], str]:
    special = {AUTO: words("gpu_auto"), CUSTOM: words("gpu_custom")}
    return lambda gpu_id: special.get(gpu_id) or gpu_label(gpu_id)


def option(field: str) -> Callable[[Any], str]:
    """Return what shows a value of a field; unknown values show themselves."""
    say_it = bound_words()

    def text(value: Any) -> str:
        try:
            return say_it(f"option.{field}.{value}")
        except KeyError:
            return str(value)

    return text


# --------------------------------------------------------------------------- the sidebar


def inputs() -> None:
    """Show every input of the planner, in the order that people are asked in."""
    _task()
    _model()
    _precision()
    if form()["task"] == "inference":
        _serving()
    else:
        _training()
    _hardware()
    _limits()


def _more(name: str, draw: Callable[[], None]) -> None:
    """Show inputs that few need; they are drawn once their box is opened."""
    box = st.expander(words(name), key=name, on_change="rerun")
    if box.open:
        with box:
            draw()


def _task_chosen() -> None:
    held = form()
    if st.session_state["task"] is None:
        return
    held["task"] = st.session_state["task"]
    if held["task"] == "training" and held["method"] != "full":
        held["method"] = "full"
        _method_chosen(held)


def _task() -> None:
    seed("task", form()["task"])
    st.segmented_control(
        words("field.task"),
        list(get_args(Task)),
        format_func=option("task"),
        key="task",
        required=True,
        on_change=_task_chosen,
        width="stretch",
    )


def _model() -> None:
    held = form()
    seed("model_by", held["model_by"])
    st.segmented_control(
        words("field.model"),
        ["catalog", "size", "config"],
        format_func=option("model_by"),
        key="model_by",
        required=True,
        on_change=take("model_by", "model_by"),
        width="stretch",
    )
    if held["model_by"] == "catalog":
        labels = model_labels(language())
        seed("model", held["model"])
        st.selectbox(
            words("field.model"),
            model_order(),
            format_func=lambda model_id: labels.get(model_id, str(model_id)),
            key="model",
            on_change=take("model", "model"),
            label_visibility="collapsed",
            help=words("help.model"),
        )
        st.caption(model_facts(held["model"], language()))
        _ladder(held)
    elif held["model_by"] == "size":
        seed("parameters_b", float(held["parameters_b"]))
        st.number_input(
            words("field.parameters_b"),
            min_value=0.1,
            max_value=2000.0,
            step=1.0,
            format="%g",
            key="parameters_b",
            on_change=_take_number("parameters_b", "parameters_b"),
            help=words("help.parameters_b"),
        )
    else:
        own_model.section(held)


def _ladder(held: Form) -> None:
    figure = None
    record = load_catalog().models.get(held["model"])
    if record is not None:
        figure = record.total_params_b
    step = held["model"] if held["model"] in ladder() else None
    if step is None:
        step = nearest_step(figure.value if figure else 8.0)
    seed("size", step)
    sizes = {m: numbers.billions(b, language()) for m, b in zip(ladder(), ladder_sizes())}
    st.select_slider(
        words("field.size"),
        ladder(),
        format_func=lambda m: sizes.get(m, str(m)),
        key="size",
        on_change=take("model", "size"),
        help=words("help.size"),
    )


def _precision() -> None:
    held = form()
    training = held["task"] != "inference"
    if training and held["method"] == "full":
        return
    precisions: Sequence[str] = get_args(Precision)
    if training:
        precisions = QLORA_PRECISIONS if held["method"] == "qlora" else TRAINING_PRECISIONS
    _choice("precision", precisions, option("precision"), help_key="precision")
    if not training:
        _choice("kv_cache_precision", get_args(KvPrecision), option("kv_cache_precision"),
                help_key="kv_cache_precision")  # fmt: skip


def _serving() -> None:
    count = partial(numbers.count, language=language())
    _steps("concurrency", CONCURRENCY_STEPS, count, help_key="concurrency")
    _steps("input_tokens", (0, *TOKEN_STEPS), numbers.tokens, help_key="input_tokens")
    _steps("output_tokens", (0, *TOKEN_STEPS), numbers.tokens, help_key="output_tokens")
    _speed_limits()
    _more("more_serving", _more_serving)


def _more_serving() -> None:
    _exact("concurrency", 1, MAX_SEQUENCES)
    _exact("input_tokens", 0, MAX_TOKENS)
    _exact("output_tokens", 0, MAX_TOKENS)
    _choice("inference_engine", get_args(InferenceEngine), option("engine"),
            label=words("field.engine"))  # fmt: skip
    _optional("max_model_len", MAX_TOKENS)
    _optional("max_num_batched_tokens", MAX_TOKENS)
    _optional("max_num_seqs", MAX_SEQUENCES)
    _share("gpu_memory_utilization", 0.05, 1.0)
    _share("prefix_cache_share", 0.0, 0.95)
    _optional("speculative_tokens", MAX_DRAFT)
    _share("acceptance_rate", 0.0, 1.0)


LEAST_LIMIT = 0.001


def _speed_limits() -> None:
    """Show what speed is wanted at least; nothing is asked of it at first."""
    for place, (column, key, step) in enumerate(
        zip(st.columns(2, gap="small", vertical_alignment="bottom"), ("ttft", "tps"), (0.5, 5.0))
    ):
        held = speed_limits()[place]
        low, high = around(LEAST_LIMIT, link.MAX_LIMIT, held)
        seed(f"{key}_limit", held)
        column.number_input(
            words(f"field.{key}_limit"),
            min_value=low,
            max_value=high,
            value=None,
            step=step,
            format="%g",
            key=f"{key}_limit",
            placeholder=words("no_limit"),
            on_change=_speed_limits_chosen,
            help=words(f"help.{key}_limit"),
        )


def _speed_limits_chosen() -> None:
    state = st.session_state
    state["_speed_limits"] = (state["ttft_limit"], state["tps_limit"])


def _method_chosen(held: Form) -> None:
    """Keep precision and method together: QLoRA means 4-bit weights, the others do not."""
    if held["method"] == "qlora":
        if held["precision"] not in QLORA_PRECISIONS:
            held["precision"] = "nf4"
    elif held["precision"] in QLORA_PRECISIONS:
        held["precision"] = "bf16"


def _training() -> None:
    held = form()
    if held["task"] == "fine_tuning":
        _choice("method", get_args(Method), option("method"), after=_method_chosen,
                help_key="method")  # fmt: skip
    _steps("micro_batch_size", BATCH_STEPS, str, help_key="micro_batch_size")
    _steps("sequence_length", TOKEN_STEPS, numbers.tokens, help_key="sequence_length")
    _toggle("gradient_checkpointing", help_key="gradient_checkpointing")
    if held["method"] != "full":
        _steps("lora_rank", RANK_STEPS, str, help_key="lora_rank")
    _run()
    _more("more_training", _more_training)


def _run() -> None:
    """Show how much there is to train on, and by when; nothing is asked of it at first."""
    places = st.columns(2, gap="small", vertical_alignment="bottom")
    for column, name in zip(places, RUN):
        held = getattr(buying(), name)
        low, high = around(LEAST_LIMIT, link.MAX_SUM, held)
        seed(f"buy_{name}", held)
        column.number_input(
            words(f"field.{name}"),
            min_value=low,
            max_value=high,
            value=None,
            step=1.0,
            format="%g",
            key=f"buy_{name}",
            placeholder=words("no_limit"),
            on_change=_run_chosen,
            help=words(f"help.{name}"),
        )


def _run_chosen() -> None:
    buy(**{name: st.session_state[f"buy_{name}"] for name in RUN})


def _more_training() -> None:
    _choice("optimizer", get_args(Optimizer), option("optimizer"))
    _choice("sharding", get_args(Sharding), option("sharding"), help_key="sharding")
    _choice("mixed_precision", get_args(MixedPrecision), option("mixed_precision"))
    _choice("offload", get_args(Offload), option("offload"))
    _choice("sample_lengths", get_args(SampleLengths), option("sample_lengths"))
    _choice("training_engine", get_args(TrainingEngine), option("engine"),
            label=words("field.engine"))  # fmt: skip
    _steps("gradient_accumulation", ACCUMULATION_STEPS, str)
    if form()["method"] != "full":
        _choice("lora_targets", ("all_linear", "attention"), option("lora_targets"))


def _hardware_chosen(held: Form) -> None:
    """A split belongs to its cards: let the engine choose again."""
    held.update(dict.fromkeys(SPLITS))


def _hardware() -> None:
    held = form()
    options = [AUTO, *gpu_order()]
    if held["custom_gpu"] is not None:
        options.append(CUSTOM)
    _choice("gpu", options, _gpu_text(), after=_hardware_chosen, help_key="gpu")
    if held["gpu"] == AUTO:
        return
    _steps("gpu_count", GPU_STEPS, str, after=_hardware_chosen)
    if held["task"] == "inference" and held["inference_engine"] in OFFLOADING:
        _toggle("allow_cpu_offload", help_key="allow_cpu_offload")
    _more("more_hardware", _more_hardware)


def _more_hardware() -> None:
    for name in SPLITS:
        _optional(name, MAX_GPUS)


def _limits() -> None:
    seed("vendors", list(chosen_vendors()))
    st.pills(
        words("field.vendors"),
        list(VENDORS),
        selection_mode="multi",
        key="vendors",
        on_change=_vendors_chosen,
        help=words("help.vendors"),
    )
    seed("currency", currency())
    st.segmented_control(
        words("field.currency"),
        list(CURRENCIES),
        key="currency",
        required=True,
        on_change=_currency_chosen,
    )
    if language() == "zh" and buying().region == "any":
        # Who reads this likely buys where cards are sold that nobody else gets.
        st.button(
            words("in_china"), key="in_china", type="tertiary", icon=":material/location_on:",
            on_click=buy, kwargs={"region": "China"}, help=words("help.in_china"),
        )  # fmt: skip
    _more("more_market", lambda: market([st.container()]))


def _vendors_chosen() -> None:
    picked = st.session_state["vendors"] or ()
    st.session_state["_vendors"] = tuple(v for v in VENDORS if v in picked)


def _currency_chosen() -> None:
    if st.session_state["currency"] in CURRENCIES:
        st.session_state["_currency"] = st.session_state["currency"]
