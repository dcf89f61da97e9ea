"""Who is at the other end: the caller's address and scheme, told by proxies that are trusted, and by nobody else."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from aiohttp import web

from ..models.commands import MAX_USER_AGENT_LENGTH
from ..models.envelope import is_ip_address
from ..settings import networks

Address: TypeAlias = IPv4Address | IPv6Address


class Proxies:
    """The networks whose `X-Forwarded-*` headers are believed."""

    def __init__(self, trusted: str = "") -> None:
        self._trusted = networks(trusted)

    def remote(self, request: web.BaseRequest) -> str:
        """The address of the caller: the right-most one that no trusted proxy has.

        What stands further left was written by the caller himself, who may write what he likes.
        """
        seen = request.remote or ""
        hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        while self._trusts(seen) and hops:
            hop = _address(hops.pop())
            if hop is None:
                break
            seen = str(hop)
        return seen

    def is_https(self, request: web.BaseRequest) -> bool:
        """Whether the caller came by https, to us or to a proxy that is trusted."""
        if not self._trusts(request.remote or ""):
            return request.scheme == "https"
        return request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower() == "https"

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)


PROXIES = web.AppKey("proxies", Proxies)


def remote_address(request: web.BaseRequest) -> str:
    """The caller's address, as far as the application trusts anybody about it."""
    app = getattr(request, "app", None)
    proxies = None if app is None else app.get(PROXIES)
    return (proxies or Proxies()).remote(request)


def client_address(request: web.BaseRequest) -> str | None:
    """The caller's address as a command tells it; nothing where he did not come over IP."""
    address = str(_address(remote_address(request)))
    return address if is_ip_address(address) else None


def user_agent(request: web.BaseRequest) -> str | None:
    """What the caller says that he uses."""
    told = request.headers.get("User-Agent", "")
    return safe_text(told, MAX_USER_AGENT_LENGTH) or None


def safe_text(text: str, longest: int) -> str:
    """What Postgres can store of a text that anybody may have sent."""
    return text[:longest].replace("\x00", "").encode(errors="replace").decode()


def _address(text: str) -> Address | None:
    """An IP address, also with a port or in brackets as some proxies write it."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
