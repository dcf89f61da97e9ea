"""What is checked of a TLS server: its certificate, whether it is to be trusted, and which protocols it speaks."""

from __future__ import annotations

import asyncio
import ssl
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ..models.result import AssessmentSeverity, IssueType
from .checks import Checks, Facts, Look, Rule
from .common import RESPONSE_TIME
from .scope import Aspect
from .targets import Target

_HTTPS_PORT = 443
_OLD = {"TLSv1": ssl.TLSVersion.TLSv1, "TLSv1.1": ssl.TLSVersion.TLSv1_1}
_HOSTNAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH of x509_vfy.h
_ADDRESS_MISMATCH = 64
_EXPIRED = 10
# How long a key is has a rule of its own: OpenSSL is not to refuse a short one as if it was not trusted.
_ANY_KEY = "DEFAULT:@SECLEVEL=0"


async def _handshake(target: Target) -> Facts:
    start = time.perf_counter()
    async with _connection(target, _undemanding()):
        taken = time.perf_counter() - start
    return {"responseTime": round(taken * 1000, 3), **await certificate(target)}


async def certificate(target: Target) -> Facts:
    """What a server presents, and by which protocol."""
    async with _connection(target, _undemanding()) as connection:
        presented = x509.load_der_x509_certificate(_presented(connection))
        return {"protocol": connection.version(), **certificate_facts(presented)}


def certificate_facts(presented: x509.Certificate) -> Facts:
    """What a certificate says of itself."""
    key, digest = presented.public_key(), presented.signature_hash_algorithm
    left = presented.not_valid_after_utc - datetime.now(UTC)
    facts = {
        "subject": presented.subject.rfc4514_string(),
        "validFrom": presented.not_valid_before_utc.isoformat(),
        "validUntil": presented.not_valid_after_utc.isoformat(),
        "daysLeft": round(left.total_seconds() / 86_400, 2),
        "selfSigned": presented.issuer == presented.subject,
        "signature": digest.name if digest else None,
    }
    match key:
        case rsa.RSAPublicKey():
            facts["rsaBits"] = key.key_size
        case ec.EllipticCurvePublicKey():
            facts["curveBits"] = key.key_size
    return facts


async def _trust(target: Target) -> Facts:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.set_ciphers(_ANY_KEY)
    try:
        async with _connection(target, context):
            trusted = {"trusted": True}
    except ssl.SSLCertVerificationError as error:
        # OpenSSL looks at dates after the chain: where they are wrong, the chain is good.
        trusted = {"trusted": error.verify_code == _EXPIRED}
    return trusted | {"hostMatches": await _host_matches(target)}


async def _host_matches(target: Target) -> bool:
    """Let OpenSSL compare the names, with the certificate itself as what is trusted, so that no chain is in the way."""
    async with _connection(target, _undemanding()) as connection:
        presented = _presented(connection)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=presented)
    context.set_ciphers(_ANY_KEY)
    try:
        async with _connection(target, context):
            return True
    except ssl.SSLCertVerificationError as error:
        return error.verify_code not in {_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH}


async def _old_protocols(target: Target) -> Facts:
    return {"oldProtocols": [name for name, version in _OLD.items() if await _speaks(target, version)]}


async def _speaks(target: Target, version: ssl.TLSVersion) -> bool:
    context = _undemanding()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that they are deprecated is what this is about
        context.minimum_version = context.maximum_version = version
    try:
        async with _connection(target, context):
            return True
    except (ssl.SSLError, ConnectionError):
        return False


def _undemanding() -> ssl.SSLContext:
    """A context that takes whatever is presented: it is to be looked at, and nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _presented(connection: ssl.SSLObject) -> bytes:
    presented = connection.getpeercert(binary_form=True)
    if presented is None:
        raise ssl.SSLError("it presented no certificate")
    return presented


@asynccontextmanager
async def _connection(target: Target, context: ssl.SSLContext) -> AsyncIterator[ssl.SSLObject]:
    port = target.port or _HTTPS_PORT
    _, writer = await asyncio.open_connection(target.host, port, ssl=context, server_hostname=target.host)
    try:
        yield writer.get_extra_info("ssl_object")
    finally:
        writer.transport.abort()  # nothing was said, so that there is nothing to say goodbye to


_CRITICAL, _HIGH = AssessmentSeverity.CRITICAL, AssessmentSeverity.HIGH
_MEDIUM, _LOW = AssessmentSeverity.MEDIUM, AssessmentSeverity.LOW
_SOON = "The certificate ends in {0:.0f} days."
_RENEW = "Renew the certificate, and let a program do so from now on."


def _ending(days: float, severity: AssessmentSeverity, words: str) -> Rule:
    return Rule(
        name="expiry",
        category="certificate",
        aspect=Aspect.STATUS,
        type=IssueType.INVALID_CONFIG,
        severity=severity,
        facts=("daysLeft", "validUntil"),
        broken=lambda left, _: left < days,
        words=words,
        advice=_RENEW,
    )


def _short_key(fact: str, least: int) -> Rule:
    return Rule(
        name="key_size",
        category="certificate",
        aspect=Aspect.SECURITY,
        type=IssueType.SECURITY_ISSUE,
        severity=_HIGH,
        facts=(fact,),
        broken=lambda bits: bits < least,
        words="The key has {0} bits only.",
        advice=f"Make a key of at least {least} bits (NIST SP 800-57), and have it certified.",
    )


TLS = Checks(
    looks=(
        Look(words="handshake and certificate", ask=_handshake),
        Look(words="trust", aspects=frozenset({Aspect.SECURITY}), ask=_trust),
        Look(words="old protocols", aspects=frozenset({Aspect.SECURITY}), deep=True, ask=_old_protocols),
    ),
    rules=(
        *RESPONSE_TIME,
        _ending(0, _CRITICAL, "The certificate ended at {1}."),
        _ending(14, _HIGH, _SOON),
        _ending(30, _MEDIUM, _SOON),
        _short_key("rsaBits", 2048),
        _short_key("curveBits", 224),
        Rule(
            name="signature",
            category="certificate",
            aspect=Aspect.SECURITY,
            type=IssueType.SECURITY_ISSUE,
            severity=_HIGH,
            facts=("signature",),
            broken=lambda digest: digest in {"md5", "sha1"},
            words="The certificate is signed with {0}, for which collisions are known.",
            advice="Have it signed with SHA-256 or better.",
        ),
        Rule(
            name="trust",
            category="certificate",
            aspect=Aspect.SECURITY,
            type=IssueType.SECURITY_ISSUE,
            severity=_HIGH,
            locally=_MEDIUM,
            facts=("trusted", "selfSigned"),
            broken=lambda trusted, self_signed: not trusted and self_signed,
            words="The certificate is signed by itself: nobody can tell it from that of somebody in between.",
            advice="Have it signed by an authority that the clients trust.",
        ),
        Rule(
            name="trust",
            category="certificate",
            aspect=Aspect.SECURITY,
            type=IssueType.SECURITY_ISSUE,
            severity=_HIGH,
            locally=_MEDIUM,
            facts=("trusted",),
            broken=lambda trusted: not trusted,
            words="The certificate leads to no authority that is trusted here.",
            advice="Send the certificates between as well, or let the clients (SSL_CERT_FILE here) know the authority.",
        ),
        Rule(
            name="host_name",
            category="certificate",
            aspect=Aspect.SECURITY,
            type=IssueType.INVALID_CONFIG,
            severity=_HIGH,
            facts=("hostMatches",),
            broken=lambda matches: not matches,
            words="The certificate is for other names than the one that the server is called by.",
            advice="Have a certificate made with this name among its subject alternative names (RFC 9525).",
        ),
        Rule(
            name="old_protocols",
            category="encryption",
            aspect=Aspect.SECURITY,
            type=IssueType.SECURITY_ISSUE,
            severity=_HIGH,
            facts=("oldProtocols",),
            broken=bool,
            words="It still speaks {0}, which must not be used any more (RFC 8996).",
            advice="Set TLS 1.2 as the oldest version.",
        ),
    ),
)
