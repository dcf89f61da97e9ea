"""What is checked of a Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from ..models.result import AssessmentSeverity, IssueType
from .checks import Checks, Facts, Look, Rule, machine, median_of, some
from .common import AUTHENTICATION, ENCRYPTION, RESOURCES, RESPONSE_TIME, out_of_support
from .scope import Aspect
from .targets import Target

_SETTINGS = (
    *("password_encryption", "fsync", "full_page_writes", "synchronous_commit", "autovacuum"),
    *("log_connections", "log_min_duration_statement", "log_statement"),
)
_LOAD = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
       / current_setting('max_connections')::float AS connections,
       (SELECT max(age(datfrozenxid)) FROM pg_database) AS xid_age
"""
_TRUSTING = """
SELECT format('line %s: %s %s %s', line_number, array_to_string(database, ','), array_to_string(user_name, ','),
              coalesce(address, type))
FROM pg_hba_file_rules WHERE auth_method = 'trust'
"""


async def _version(target: Target) -> Facts:
    async with _connection(target) as connection:
        times = await median_of(lambda: connection.execute("SELECT 1"))
        encrypted = await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return {**times, "version": await connection.fetchval("SHOW server_version"), "tls": bool(encrypted)}


async def _load(target: Target) -> Facts:
    async with _connection(target) as connection:
        load = await connection.fetchrow(_LOAD)
        try:
            folder = await connection.fetchval("SHOW data_directory")
        except asyncpg.InsufficientPrivilegeError:
            folder = None
    used, age = load or (None, None)
    return {"connectionsUsed": used, "xidAge": age, **machine(target, folder)}


async def _settings(target: Target) -> Facts:
    query = "SELECT name, setting FROM pg_settings WHERE name = ANY($1)"
    async with _connection(target) as connection:
        return {row["name"]: row["setting"] for row in await connection.fetch(query, list(_SETTINGS))}


async def _access(target: Target) -> Facts:
    async with _connection(target) as connection:
        superuser = await connection.fetchval("SELECT current_setting('is_superuser') = 'on'")
    try:
        async with _connection(target, password=uuid4().hex):
            asks = False  # it takes a password that was made up just now
    except asyncpg.InvalidAuthorizationSpecificationError:
        asks = True
    return {"superuser": superuser, "authentication": asks}


async def _trusting_lines(target: Target) -> Facts:
    async with _connection(target) as connection:
        return {"trustingLines": some([line for (line,) in await connection.fetch(_TRUSTING)])}


@asynccontextmanager
async def _connection(target: Target, **options: Any) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(target.url, **options)
    try:
        yield connection
    finally:
        connection.terminate()  # a polite end waits for an answer, which a frozen server does not give


def _setting(
    name: str, wrong: str, severity: AssessmentSeverity, words: str, *, category: str = "durability", right: str = "on"
) -> Rule:
    return Rule(
        name=name,
        category=category,
        aspect=Aspect.CONFIGURATION,
        type=IssueType.INVALID_CONFIG,
        severity=severity,
        facts=(name,),
        broken=lambda value: value == wrong,
        words=f"{name} is {{0}}: {words}",
        advice=f"Set {name} to {right}, and reload the configuration.",
    )


def _filling(name: str, fact: str, most: float, severity: AssessmentSeverity, *, words: str, advice: str) -> Rule:
    return Rule(
        name=name,
        category="resources",
        aspect=Aspect.STATUS,
        type=IssueType.PERFORMANCE_ISSUE,
        severity=severity,
        facts=(fact,),
        broken=lambda value: value > most,
        words=words,
        advice=advice,
    )


_USED = {"words": "{0:.0%} of the connections are in use.", "advice": "Raise max_connections, or use a pooler."}
_AGE = {
    "words": "The oldest transaction id is {0} transactions old: at 2,147 million the server refuses to write.",
    "advice": "Find what keeps autovacuum from freezing (old transactions, replication slots), and run VACUUM FREEZE.",
}

_CRITICAL, _HIGH = AssessmentSeverity.CRITICAL, AssessmentSeverity.HIGH
_MEDIUM, _LOW = AssessmentSeverity.MEDIUM, AssessmentSeverity.LOW

POSTGRES = Checks(
    looks=(
        Look(words="response time and version", ask=_version),
        Look(words="load", aspects=frozenset({Aspect.STATUS}), ask=_load),
        Look(words="settings", aspects=frozenset({Aspect.CONFIGURATION, Aspect.SECURITY}), ask=_settings),
        Look(words="access", aspects=frozenset({Aspect.SECURITY}), ask=_access),
        Look(words="access rules", aspects=frozenset({Aspect.SECURITY}), deep=True, ask=_trusting_lines),
    ),
    rules=(
        *RESPONSE_TIME,
        *RESOURCES,
        _filling("connections", "connectionsUsed", 0.95, _CRITICAL, **_USED),
        _filling("connections", "connectionsUsed", 0.8, _HIGH, **_USED),
        _filling("xid_age", "xidAge", 1_500_000_000, _CRITICAL, **_AGE),
        _filling("xid_age", "xidAge", 500_000_000, _HIGH, **_AGE),
        out_of_support(14),  # https://www.postgresql.org/support/versioning/: 13 ended in November 2025
        _setting("fsync", "off", _CRITICAL, "a crash of the machine destroys the database."),
        _setting("full_page_writes", "off", _HIGH, "a crash in the middle of a page leaves it torn."),
        _setting("synchronous_commit", "off", _MEDIUM, "a crash loses the last transactions that were confirmed."),
        _setting("autovacuum", "off", _HIGH, "tables grow, and transaction ids run out.", category="maintenance"),
        _setting(
            "log_min_duration_statement",
            "-1",
            _LOW,
            "slow statements leave no trace.",
            category="logging",
            right="1s",
        ),
        _setting(
            "log_statement",
            "all",
            _MEDIUM,
            "what is logged has data and passwords in it.",
            category="logging",
            right="ddl",
        ),
        AUTHENTICATION,
        ENCRYPTION,
        Rule(
            name="log_connections",
            category="logging",
            aspect=Aspect.SECURITY,
            type=IssueType.INCOMPLETE_CONFIG,
            severity=_LOW,
            facts=("log_connections",),
            broken=lambda value: value in {"off", ""},
            words="Connections are not logged: nobody can tell later who came.",
            advice="Set log_connections to on.",
        ),
        Rule(
            name="password_encryption",
            category="authentication",
            aspect=Aspect.SECURITY,
            type=IssueType.SECURITY_ISSUE,
            severity=_HIGH,
            facts=("password_encryption",),
            broken=lambda value: value != "scram-sha-256",
            words="Passwords are stored as {0}, which can be guessed offline and used as it is.",
            advice="Set password_encryption to scram-sha-256, and have passwords set anew.",
        ),
        Rule(
            name="trusting_lines",
            category="authentication",
            aspect=Aspect.SECURITY,
            type=IssueType.SECURITY_ISSUE,
            severity=_HIGH,
            locally=_MEDIUM,
            facts=("trustingLines",),
            broken=lambda lines: lines["count"] > 0,
            words="Lines of pg_hba.conf that let users in without a password: {0[count]}.",
            advice="Put scram-sha-256 in the place of trust.",
        ),
        Rule(
            name="superuser",
            category="privileges",
            aspect=Aspect.SECURITY,
            type=IssueType.SECURITY_ISSUE,
            severity=_MEDIUM,
            locally=_LOW,
            facts=("superuser",),
            broken=bool,
            words="The user that was given for the inspection, and may be that of the application, is a superuser.",
            advice="Create a user with the privileges that it needs; pg_monitor does for an inspection.",
        ),
    ),
)
