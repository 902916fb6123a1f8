"""Who looks at the page: what reads this machine is offered only to those who sit at it."""

from __future__ import annotations

import ipaddress
import os

import streamlit as st

# Set to "any" to offer it to viewers on other machines as well.
AUDIENCE_VARIABLE = "CONFIGURATOR_LIVE_VIEWERS"


def is_loopback(address: str | None) -> bool:
    """Whether a viewer's address is this machine's own; Streamlit gives none on loopback."""
    if not address:
        return True
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)  # a server that listens on IPv6 and IPv4 at once
    return (mapped or ip).is_loopback


def sits_here() -> bool:
    """Whether the viewer sits at this machine, or all count as such. Not a lock: a courtesy."""
    return os.environ.get(AUDIENCE_VARIABLE) == "any" or is_loopback(st.context.ip_address)
