"""Models from the Hugging Face Hub: config.json and headers, never the weights."""

from __future__ import annotations

import importlib
import re
import threading
from pathlib import Path
from typing import Any

from configurator.architecture.tables import Assumption
from configurator.errors import InputError
from configurator.importers.config import from_config
from configurator.importers.safetensors_header import safetensors_entry
from configurator.importers.shared import REPOSITORY, Imported, Tensor, extra, read_json

# Of one request, and of an import as a whole: it ends even if a server never stops sending.
REQUEST_TIMEOUT_S = 5.0
HUB_DEADLINE_S = 20.0
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


def import_hub(repo_id: str, *, offline: bool) -> Imported:
    """Read a model's config.json and safetensors headers from the Hugging Face Hub.

    Args:
        repo_id: Such as ``Qwen/Qwen3-8B``.
        offline: Whether the network may not be used.

    Returns:
        The model; where the repository has no safetensors files, without weights.

    Raises:
        InputError: Offline, no network, no such repository, or no leave to read it. Never takes
            longer than `HUB_DEADLINE_S`.
    """
    if not isinstance(repo_id, str) or not _REPOSITORY.fullmatch(repo_id) or ".." in repo_id:
        raise InputError(REPOSITORY, "hub_name", repo_id)
    if offline:
        raise InputError(REPOSITORY, "hub_offline", repo_id)
    hub = extra("huggingface_hub")
    done: list[tuple[dict[str, Any], dict[str, Tensor], list[Assumption]]] = []
    failed: list[Exception] = []

    def fetch() -> None:
        try:
            done.append(_fetch(hub, repo_id))
        except Exception as error:  # whatever the client raises becomes the message below
            failed.append(error)

    worker = threading.Thread(target=fetch, name="hub-import", daemon=True)
    worker.start()
    worker.join(HUB_DEADLINE_S)
    if failed:
        raise _hub_error(failed[0], repo_id) from None
    if not done:
        raise InputError(REPOSITORY, "hub_timeout", repo_id, seconds=HUB_DEADLINE_S)
    config, tensors, notes = done[0]
    return from_config(config, repo_id, tensors, notes)


def _fetch(hub: Any, repo_id: str) -> tuple[dict[str, Any], dict[str, Tensor], list[Assumption]]:
    # Asked first because it is never tried again: without a network the answer comes at once.
    revision = hub.HfApi().model_info(repo_id, timeout=REQUEST_TIMEOUT_S).sha
    path = hub.hf_hub_download(
        repo_id, "config.json", revision=revision, etag_timeout=REQUEST_TIMEOUT_S
    )
    config = read_json(Path(path))
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        found = hub.get_safetensors_metadata(repo_id, revision=revision, timeout=REQUEST_TIMEOUT_S)
    except errors.NotASafetensorsRepoError:
        return config, {}, [("no_tensors_read", {})]
    tensors = {
        name: safetensors_entry(
            name,
            {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": list(t.data_offsets)},
        )
        for file in found.files_metadata.values()
        for name, t in file.tensors.items()
    }
    return config, tensors, []


def _hub_error(error: Exception, repo_id: str) -> InputError:
    if isinstance(error, InputError):
        return error
    kind = type(error).__name__
    codes = {
        "GatedRepoError": "hub_gated",
        "RepositoryNotFoundError": "hub_absent",
        "EntryNotFoundError": "hub_no_config",
        "RemoteEntryNotFoundError": "hub_no_config",
        "HFValidationError": "hub_name",
    }
    return InputError(REPOSITORY, codes.get(kind, "hub_unreachable"), repo_id, reason=kind)
