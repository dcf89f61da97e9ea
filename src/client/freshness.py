"""What a client has written, as far as its reads have to see it: the Consistency-Tokens of its answers, merged."""

from __future__ import annotations

from collections.abc import Mapping

from ..models.positions import TOKEN_HEADER, Positions


class Freshness:
    """The freshest of all tokens that were seen."""

    def __init__(self) -> None:
        self._seen = Positions()
        self._strange = ""

    def note(self, headers: Mapping[str, str]) -> None:
        """Take the token of an answer, where it has one."""
        token = headers.get(TOKEN_HEADER)
        if token is None:
            return
        try:
            self._seen = self._seen.merge(Positions.parse(token))
        except ValueError:
            # Of a later version: it cannot be merged, but the newest of one's own says more than none.
            self._strange = token

    def headers(self) -> dict[str, str]:
        """The headers of a read that has to be at least so fresh."""
        tokens = [self._seen.encode()] if self._seen.needed else []
        tokens += [self._strange] if self._strange else []
        return {TOKEN_HEADER: ",".join(tokens)} if tokens else {}
