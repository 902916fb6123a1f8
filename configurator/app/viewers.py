"""Who looks at the page: what reads this machine is offered only to those who sit at it."""

from __future__ import annotations

import ipaddress
import os

import streamlit as st

# "any" offers it to viewers on other machines as well, "none" to nobody.
AUDIENCE_VARIABLE = "CONFIGURATOR_LIVE_VIEWERS"
# A proxy on this machine passes others' requests on from the loopback address.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip")


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
    audience = os.environ.get(AUDIENCE_VARIABLE)
    if audience in ("any", "none"):
        return audience == "any"
    if any(name in st.context.headers for name in _FORWARDED):
        return False
    return is_loopback(st.context.ip_address)
