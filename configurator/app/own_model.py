"""The user's own model: an uploaded header, a file on this machine, or a Hub id."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from configurator import numbers
from configurator.app import views
from configurator.app.form import Form
from configurator.app.state import form, language, put, words
from configurator.app.viewers import sits_here
from configurator.errors import InputError
from configurator.importers import Imported, import_file, import_header_bytes, import_hub
from configurator.words import say

UPLOAD_MB = 64  # headers of GGUF files with a large vocabulary take 1-20 MB
KINDS = ("json", "gguf", "safetensors")


def section(held: Form) -> None:
    """Show the ways in and what came of the last one.

    Args:
        held: The form.
    """
    st.file_uploader(
        words("field.upload"),
        type=list(KINDS),
        key="upload",
        max_upload_size=UPLOAD_MB,
        help=words("help.upload", limit=UPLOAD_MB),
        on_change=_uploaded,
    )
    if sits_here():
        st.text_input(
            words("field.model_source"),
            key="model_source",
            placeholder=words("model_source_example"),
            help=words("help.model_source"),
            on_change=_named,
        )
        st.toggle(words("field.ask_hub"), key="ask_hub", help=words("help.ask_hub"))
    else:
        st.caption(words("model_source_elsewhere"))
    problem = st.session_state.get("_import_problem")
    if problem:
        st.error(problem, icon=":material/error:")
    elif held.get("config") is None:
        st.caption(words("upload_first"))
    else:
        st.text(words("uploaded", name=held["config_name"]))
        for text in st.session_state.get("_import_notes", {}).get(held["config_name"], ()):
            st.caption(numbers.plain(text))


def _uploaded() -> None:
    file = st.session_state.get("upload")
    st.session_state["_import_problem"] = None
    if file is None:
        return
    try:
        found = import_header_bytes(file.name, file.getvalue())
    except InputError as error:
        _refuse(error)
    else:
        _take(found, file.name)


def _named() -> None:
    source = st.session_state["model_source"].strip().strip("\"'")
    st.session_state["_import_problem"] = None
    if not source:
        return
    try:
        if not _like_an_id(source) or Path(source).exists():
            found = import_file(Path(source))
        else:
            found = import_hub(source, offline=not st.session_state.get("ask_hub", False))
    except InputError as error:
        _refuse(error)
    else:
        _take(found, Path(source).name)


MAX_ID = 192  # characters of owner and name, 96 each on the Hub


def _like_an_id(source: str) -> bool:
    """Whether a text reads as ``owner/name`` rather than as a path."""
    if len(source) > MAX_ID or source.startswith((".", "/", "~")):
        return False
    return source.count("/") == 1 and "\\" not in source


def _refuse(error: InputError) -> None:
    st.session_state["_import_problem"] = words(
        "upload_bad", reason=numbers.plain(views.wrong(error, language()))
    )


def _take(found: Imported, name: str) -> None:
    """Ask about the model that was read, stored as it is stored."""
    cleaned = clean_name(name)
    values: Form = {"config": found.model.config, "config_name": cleaned}
    if form()["task"] == "inference":
        values["precision"] = found.precision if found.tensors else "auto"
    if name.lower().endswith(".gguf"):
        values["inference_engine"] = "llama_cpp"
    put(values)
    tongue = language()
    notes = [say(f"import.{code}", tongue, **facts) for code, facts in found.notes]
    if found.weights_bytes:
        size = numbers.gib(found.weights_bytes / 2**30, tongue)
        notes.insert(0, words("weights_read", size=size, count=found.tensors))
    st.session_state["_import_notes"] = {cleaned: tuple(notes)}


def clean_name(name: str) -> str:
    """Return a file's name without what a link or a sentence would trip over."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in " ._-") else "_" for c in name)
    return kept.strip(" ._-")[:64] or "config.json"
