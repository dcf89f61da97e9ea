"""What is checked of an HTTP endpoint; one by https is a TLS server, too."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Mapping

import aiohttp

from ..models.base import JsonObject
from ..models.result import AssessmentSeverity, IssueType
from .checks import Checks, Facts, Look, Rule
from .common import ENCRYPTION, RESPONSE_TIME
from .scope import Aspect
from .targets import Target
from .tls import TLS, certificate

_WANTED = ("content-security-policy", "x-content-type-options", "referrer-policy")
_TELLING = ("server", "x-powered-by", "x-aspnet-version")
_VERSION = re.compile(r"\d+\.\d+")


async def _answer(target: Target) -> Facts:
    """Ask once, and follow nowhere: a redirect may lead to a server that is not to be looked at."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # what it presents is looked at by itself
    connector = aiohttp.TCPConnector(ssl=context)
    start = time.perf_counter()
    async with (
        aiohttp.ClientSession(connector=connector, trust_env=False) as session,
        session.get(target.url, allow_redirects=False) as response,
    ):
        taken = time.perf_counter() - start
        headers = {name.lower(): value for name, value in response.headers.items()}
        cookies = response.headers.getall("Set-Cookie", [])
    encrypted = target.url.startswith("https:")
    return {
        "responseTime": round(taken * 1000, 3),
        "status": response.status,
        "tls": encrypted,
        **header_facts(headers, cookies, encrypted),
    }


def header_facts(headers: Mapping[str, str], cookies: list[str], encrypted: bool) -> JsonObject:
    """What the headers of an answer, by their names in lower case, say of its safety."""
    wanted = (*_WANTED, "strict-transport-security") if encrypted else _WANTED
    return {
        "missingHeaders": [name for name in wanted if name not in headers],
        "toldVersions": [headers[name] for name in _TELLING if _VERSION.search(headers.get(name, ""))],
        "looseCookies": [cookie.partition("=")[0] for cookie in cookies if _is_loose(cookie, encrypted)],
    }


def _is_loose(cookie: str, encrypted: bool) -> bool:
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    return "httponly" not in attributes or (encrypted and "secure" not in attributes)


_HIGH, _MEDIUM, _LOW = AssessmentSeverity.HIGH, AssessmentSeverity.MEDIUM, AssessmentSeverity.LOW


def _refused(least: int, severity: AssessmentSeverity, advice: str) -> Rule:
    return Rule(
        name="status",
        category="availability",
        aspect=Aspect.STATUS,
        type=IssueType.INVALID_CONFIG,
        severity=severity,
        facts=("status",),
        broken=lambda status: status >= least,
        words="It answers with status {0}.",
        advice=advice,
    )


def _headers(name: str, fact: str, severity: AssessmentSeverity, *, words: str, advice: str) -> Rule:
    return Rule(
        name=name,
        category="headers",
        aspect=Aspect.SECURITY,
        type=IssueType.SECURITY_ISSUE,
        severity=severity,
        locally=_LOW,
        facts=(fact,),
        broken=bool,
        words=words,
        advice=advice,
    )


HTTP = Checks(
    looks=(Look(words="answer", ask=_answer),),
    rules=(
        *RESPONSE_TIME,
        _refused(500, _HIGH, "Read the server's log."),
        _refused(400, _MEDIUM, "Give an address that answers whoever asks, like that of its health."),
        ENCRYPTION,
        _headers(
            "security_headers",
            "missingHeaders",
            _MEDIUM,
            words="Headers are missing that keep browsers from harm: {0}.",
            advice="Send them with every answer (OWASP Secure Headers).",
        ),
        _headers(
            "told_versions",
            "toldVersions",
            _LOW,
            words="The headers tell which program it is, and of which version: {0}.",
            advice="Leave the version out of them: it tells which holes to try.",
        ),
        _headers(
            "loose_cookies",
            "looseCookies",
            _MEDIUM,
            words="Cookies are open to scripts, or to who listens: {0}.",
            advice="Set HttpOnly and Secure.",
        ),
    ),
)
HTTPS = Checks(
    looks=(*HTTP.looks, Look(words="certificate", ask=certificate), *TLS.looks[1:]),
    rules=(*HTTP.rules, *TLS.rules),
)
