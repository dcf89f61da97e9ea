"""Where webhooks may go: public addresses over https, and what the operator allows besides.

An address is judged where a connection to it is made, and not its name: whatever a name resolves to the next time, and
wherever a redirect leads, nothing but the judged address is spoken to (OWASP, server-side request forgery).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_LENGTH = 2000

_SCHEMES = ("https", "http")

# IPv4 within IPv6 behind a prefix of 96 bits: the well-known one of NAT64 (RFC 6052), and the local one (RFC 8215).
_TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


class ForbiddenTargetError(ValueError):
    """A webhook may not go there; the message says why."""


class Targets:
    """What is allowed."""

    def __init__(self, allowed: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def check_url(self, url: str) -> None:
        """See that a URL may be registered; a name is not looked up, since it may mean something else tomorrow.

        Raises:
            ForbiddenTargetError: it may not.
        """
        parts = _parsed(url)
        if parts.scheme == "http" and not self._allowed:
            raise ForbiddenTargetError("the URL has to begin with https://")
        try:
            address = ip_address(parts.hostname or "")
        except ValueError:
            return
        self.check_address(address, parts.scheme)

    def check_address(self, address: Address, scheme: str) -> None:
        """See that an address may be connected to.

        Raises:
            ForbiddenTargetError: it may not.
        """
        meant = list(_meant(address))
        if any(one in network for one in meant for network in self._allowed):
            return
        if scheme != "https":
            raise ForbiddenTargetError(f"{address} is reached by https only")
        if not all(_is_public(one) for one in meant):
            raise ForbiddenTargetError(f"{address} is no public address")


def scheme_of(url: str) -> str:
    """The scheme of a URL that was checked."""
    return urlsplit(url).scheme.lower()


def _parsed(url: str) -> SplitResult:
    if len(url) > MAX_URL_LENGTH:
        raise ForbiddenTargetError(f"the URL has {len(url)} characters; the limit is {MAX_URL_LENGTH}")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ForbiddenTargetError("the URL has characters that have to be percent-encoded")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ForbiddenTargetError(f"it is no URL: {error}") from error
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ForbiddenTargetError("it is no URL like https://example.com/hook")
    if parts.username is not None or parts.password is not None:
        raise ForbiddenTargetError("the URL has a user or a password: it would be shown to whoever lists webhooks")
    return parts


def _meant(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 address that it stands for, if it does."""
    yield address
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield address.teredo[1]
        if any(address in network for network in _TRANSLATED):
            yield IPv4Address(int(address) & 0xFFFFFFFF)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return True  # judged by what it stands for
    if isinstance(address, IPv6Address) and address in _TRANSLATED[0]:
        return True
    special = (
        address.is_private,
        address.is_loopback,
        address.is_link_local,
        address.is_multicast,
        address.is_reserved,
        address.is_unspecified,
        isinstance(address, IPv6Address) and address.is_site_local,
    )
    return address.is_global and not any(special)
