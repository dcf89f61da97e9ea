"""A client that reads: plainly, with a token, insisting on a version, in lists, and by waiting for an end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..models.positions import TOKEN_HEADER, Positions
from .history import Call, History, Kind, Told
from .http_client import REQUEST_SECONDS, Answer, HttpClient
from .lives import LifePlan, Op, number_of
from .plan import WEBS, WORKERS


class Reader:
    """One client, and what it knows of its assessment."""

    def __init__(self, http: HttpClient, history: History, plan: LifePlan, *, sealed: bool) -> None:
        self.http = http
        self.history = history
        self.plan = plan
        self.sealed = sealed
        """Whether nobody can ask for what is in a request."""
        self.number = number_of(plan.assessment)
        self.version = 0
        """The newest that it was told."""
        self.positions = Positions()
        """All that it was promised."""
        self._turn = self.number

    async def read(self, op: Op) -> None:
        """Read the assessment."""
        headers, query, minimum, floor = dict[str, str](), list[tuple[str, str]](), 0, None
        door = WORKERS[self.number % len(WORKERS)] if op.name == "worker" else self.next_web()
        if op.name in ("token", "worker"):
            floor = self.positions
            headers[TOKEN_HEADER] = floor.encode()
        if op.name in ("version", "ahead"):
            minimum = self.version + (op.name == "ahead")
            query.append(("minVersion", str(minimum)))
        if op.name == "etag":
            headers["If-None-Match"] = f'"{self.version}"'
        known = self.version
        call = self.call(Kind.READ, op.name, min_version=minimum, floor=floor and floor.needed)
        answer = await self.http.ask(
            door, "GET", f"/assessments/{self.plan.assessment}", user=self.plan.user, headers=headers, query=query
        )
        if answer.status == 304:
            self.history.add(self.done(call, Told.OK, door=door, status=304, version=known))
        else:
            self.history.add(self._shown(call, door, answer))

    def _shown(self, call: Call, door: str, answer: Answer) -> Call:
        found: dict[str, Any] = {"door": door, "status": answer.status, "code": answer.code, "why": answer.why}
        if answer.status == 200:
            return self.done(call, Told.OK, version=answer.body["version"], body=answer.body, **found)
        told = Told.REFUSED if 400 <= answer.status < 500 and answer.code else Told.UNKNOWN
        return self.done(call, told, **found)

    async def ask_list(self, op: Op) -> None:
        """Ask for all assessments of its server, or for all its own: both are the same, but a server may be sealed."""
        floor, door = self.positions, self.next_web()
        own = op.name == "own" or self.sealed
        call = replace(self.call(Kind.LIST, "list", floor=floor.needed), assessment=self.plan.group)
        answer = await self.http.ask(
            door,
            "GET",
            "/assessments",
            user=self.plan.user if own else "admin",
            headers={TOKEN_HEADER: floor.encode()},
            query=[*([] if own else [("serverName", self.plan.group)]), ("limit", "100")],
        )
        told = Told.OK if answer.status == 200 else Told.UNKNOWN
        body = answer.body["assessments"] if told is Told.OK else None
        self.history.add(
            self.done(call, told, door=door, status=answer.status, code=answer.code, body=body, why=answer.why)
        )

    async def wait(self, op: Op) -> None:
        """Wait for the end of the assessment."""
        floor = self.positions if op.name == "token" else None
        headers = {} if floor is None else {TOKEN_HEADER: floor.encode()}
        door = self.next_web()
        call = self.call(Kind.WAIT, op.name, floor=floor and floor.needed, patience=op.seconds)
        answer = await self.http.ask(
            door,
            "GET",
            f"/assessments/{self.plan.assessment}/wait",
            user=self.plan.user,
            headers=headers,
            query=[("timeout", str(int(op.seconds * 1000)))],
            seconds=op.seconds + REQUEST_SECONDS,
        )
        found: dict[str, Any] = {"door": door, "status": answer.status, "code": answer.code, "why": answer.why}
        if answer.status == 200:
            call = self.done(call, Told.OK, body=answer.body, **found)
        elif answer.status == 408 and "version" in (details := answer.error.get("details", {})):
            call = self.done(call, Told.LATE, version=details["version"], body=details["state"], **found)
        else:
            call = self.done(call, Told.REFUSED if 400 <= answer.status < 500 else Told.UNKNOWN, **found)
        self.history.add(call)

    # What it knows.

    def next_web(self) -> str:
        """The web to ask now: each in its turn."""
        self._turn += 1
        return WEBS[self._turn % len(WEBS)]

    def promised(self, positions: Positions | None) -> None:
        """Take note of what reads have to show from now on."""
        if positions is not None:
            self.positions = self.positions.merge(positions)

    def call(self, kind: Kind, name: str, **about: Any) -> Call:
        """Begin a call, of which nothing is known yet."""
        now = self.history.now
        return Call(
            client=f"client of {self.plan.assessment}",
            kind=kind,
            assessment=self.plan.assessment,
            name=name,
            invoked=now,
            completed=now,
            told=Told.UNKNOWN,
            **about,
        )

    def done(self, call: Call, told: Told, **found: Any) -> Call:
        """End a call with what it was told."""
        return replace(call, told=told, completed=self.history.now, **found)
