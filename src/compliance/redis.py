"""What is checked of a Redis."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis.exceptions import AuthenticationError, NoPermissionError

from ..models.result import AssessmentSeverity, IssueType
from .checks import Checks, Facts, Look, Rule, machine, median_of, some
from .common import AUTHENTICATION, ENCRYPTION, RESOURCES, RESPONSE_TIME, out_of_support
from .scope import Aspect
from .targets import Target

_SETTINGS = ("protected-mode", "maxmemory", "maxmemory-policy", "appendonly", "save")


async def _version(target: Target) -> Facts:
    async with _client(target.url) as client:
        times = await median_of(client.ping)
        version = str((await client.info("server"))["redis_version"])
    return {**times, "version": version, "tls": target.url.startswith("rediss:")}


async def _load(target: Target) -> Facts:
    async with _client(target.url) as client:
        info = await client.info("everything")
        try:
            folder = (await client.config_get("dir"))["dir"]
        except NoPermissionError:
            folder = None
    saves = {name: info[name] for name in ("rdb_last_bgsave_status", "aof_last_write_status") if name in info}
    limit = info.get("maxmemory")
    used = {"memoryUsed": round(info["used_memory"] / limit, 4)} if limit else {}
    return {**saves, **used, **machine(target, folder)}


async def _settings(target: Target) -> Facts:
    async with _client(target.url) as client:
        told = await client.config_get("*")  # several names at once are for version 7
    settings: dict[str, str] = {name: told[name] for name in _SETTINGS}
    persistent = settings["appendonly"] == "yes" or settings["save"] != ""
    return settings | {"persistent": persistent, "limited": settings["maxmemory"] != "0"}


async def _access(target: Target) -> Facts:
    url = urlsplit(target.url)
    anonymous = url._replace(netloc=url.netloc.rpartition("@")[2], query="").geturl()
    try:
        async with _client(anonymous) as client:
            await client.ping()
    except (AuthenticationError, NoPermissionError):
        return {"authentication": True}
    return {"authentication": False}


async def _users(target: Target) -> Facts:
    """Users that come in without a password; the default one is judged by whether anybody comes in."""
    async with _client(target.url) as client:
        users = [line.split() for line in await client.acl_list()]
    return {"usersWithoutPassword": some([user[1] for user in users if {"on", "nopass"} <= set(user[2:])])}


def _client(url: str) -> Any:
    """A client that asks once, and then waits for as long as its caller does."""
    return redis.asyncio.Redis.from_url(url, retry=None, socket_timeout=None, decode_responses=True)


_CRITICAL, _HIGH = AssessmentSeverity.CRITICAL, AssessmentSeverity.HIGH
_MEDIUM, _LOW = AssessmentSeverity.MEDIUM, AssessmentSeverity.LOW


def _failing(fact: str, what: str) -> Rule:
    return Rule(
        name=fact,
        category="durability",
        aspect=Aspect.STATUS,
        type=IssueType.INVALID_CONFIG,
        severity=_CRITICAL,
        facts=(fact,),
        broken=lambda status: status != "ok",
        words=f"The last {what} failed: what was written since is lost with the process.",
        advice="Read the server's log; mostly the disk is full, or the folder may not be written to.",
    )


REDIS = Checks(
    looks=(
        Look(words="response time and version", ask=_version),
        Look(words="load", aspects=frozenset({Aspect.STATUS}), ask=_load),
        Look(words="settings", aspects=frozenset({Aspect.CONFIGURATION, Aspect.SECURITY}), ask=_settings),
        Look(words="access", aspects=frozenset({Aspect.SECURITY}), ask=_access),
        Look(words="users", aspects=frozenset({Aspect.SECURITY}), deep=True, ask=_users),
    ),
    rules=(
        *RESPONSE_TIME,
        *RESOURCES,
        _failing("rdb_last_bgsave_status", "snapshot"),
        _failing("aof_last_write_status", "write to the append-only file"),
        Rule(
            name="memory_used",
            category="resources",
            aspect=Aspect.STATUS,
            type=IssueType.PERFORMANCE_ISSUE,
            severity=_HIGH,
            facts=("memoryUsed",),
            broken=lambda used: used > 0.9,
            words="{0:.0%} of maxmemory is in use.",
            advice="Raise maxmemory, or let keys expire sooner.",
        ),
        out_of_support(6),  # access control lists came with it
        Rule(
            name="maxmemory",
            category="resources",
            aspect=Aspect.CONFIGURATION,
            type=IssueType.MISSING_CONFIG,
            severity=_MEDIUM,
            locally=_LOW,
            facts=("limited",),
            broken=lambda limited: not limited,
            words="maxmemory is not set: it grows until the kernel ends it.",
            advice="Set maxmemory to what the machine can spare.",
        ),
        Rule(
            name="maxmemory_policy",
            category="durability",
            aspect=Aspect.CONFIGURATION,
            type=IssueType.INVALID_CONFIG,
            severity=_MEDIUM,
            facts=("maxmemory-policy", "persistent"),
            broken=lambda policy, persistent: persistent and policy.startswith("allkeys"),
            words="The policy {0} evicts keys that were meant to stay.",
            advice="Set maxmemory-policy to noeviction or one of the volatile ones.",
        ),
        Rule(
            name="persistence",
            category="durability",
            aspect=Aspect.CONFIGURATION,
            type=IssueType.MISSING_CONFIG,
            severity=_MEDIUM,
            locally=_LOW,
            facts=("persistent",),
            broken=lambda persistent: not persistent,
            words="Neither snapshots nor the append-only file are on: all is lost with the process.",
            advice="Turn appendonly on, unless everything in it can be made anew.",
        ),
        AUTHENTICATION,
        ENCRYPTION,
        Rule(
            name="protected_mode",
            category="authentication",
            aspect=Aspect.SECURITY,
            type=IssueType.SECURITY_ISSUE,
            severity=_HIGH,
            locally=_LOW,
            facts=("protected-mode",),
            broken=lambda value: value == "no",
            words="Protected mode is off: without a password it would serve the whole network.",
            advice="Turn protected-mode on.",
        ),
        Rule(
            name="users_without_password",
            category="authentication",
            aspect=Aspect.SECURITY,
            type=IssueType.SECURITY_ISSUE,
            severity=_HIGH,
            locally=_MEDIUM,
            facts=("usersWithoutPassword",),
            broken=lambda users: users["count"] > 0,
            words="Users that come in without a password: {0[count]}.",
            advice="Give each user a password with ACL SETUSER, or turn it off.",
        ),
    ),
)
