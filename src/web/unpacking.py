"""Bodies that come compressed (RFC 9110, 8.4): unpacked as they arrive, within a limit, and whole or not at all.

aiohttp would unpack them too, but takes gzip that is cut off for all there is; what is left of it may be nothing, which
is a valid body.
"""

from __future__ import annotations

import zlib

from aiohttp import web

from ..models.errors import ErrorCode, RejectedError, Rejection
from .patience import Turns

# What is unpacked in one go: a thousandth of it may be all that has come.
_PIECE_BYTES = 256 * 1024

_GZIP, _ZLIB, _DEFLATE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_ZLIB_METHOD = 8


def coding_of(request: web.BaseRequest) -> str | None:
    """How the body is compressed, if it is.

    Raises:
        RejectedError: UNSUPPORTED_MEDIA_TYPE.
    """
    stated = ",".join(request.headers.getall("Content-Encoding", ()))
    match [name for part in stated.split(",") if (name := part.strip().lower()) not in ("", "identity")]:
        case []:
            return None
        case ["gzip" | "x-gzip"]:
            return "gzip"
        case ["deflate"]:
            return "deflate"
    words = "The Content-Encoding is not one that is known here: send the body as it is, or with gzip or deflate"
    raise RejectedError(Rejection(ErrorCode.UNSUPPORTED_MEDIA_TYPE, words, {"acceptEncoding": "gzip, deflate"}))


async def read_unpacked(request: web.BaseRequest, coding: str) -> bytes:
    """The body as it was before it was compressed.

    Raises:
        HTTPRequestEntityTooLarge: that, or what came, is larger than the request may be.
        RejectedError: VALIDATION_ERROR, where it is cut off or damaged.
    """
    try:
        return await _read_unpacked(request, coding)
    except zlib.error as error:
        raise RejectedError(Rejection.invalid(f"The body cannot be read: it is no {coding}")) from error


async def _read_unpacked(request: web.BaseRequest, coding: str) -> bytes:
    limit, came, unpacked = request.client_max_size, 0, bytearray()
    unpacker, turns = None, Turns()
    while piece := await request.content.readany():
        came += len(piece)
        while piece:
            if unpacker is None or unpacker.eof:  # a gzip may have several members
                unpacker = zlib.decompressobj(_window(coding, piece))
            unpacked += unpacker.decompress(piece, _PIECE_BYTES)
            if (size := max(came, len(unpacked))) > limit:
                raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=size)
            piece = unpacker.unconsumed_tail or unpacker.unused_data
            await turns.give_way()
    if unpacker is None:
        return b""
    unpacked += unpacker.flush()
    if not unpacker.eof:
        raise RejectedError(Rejection.invalid(f"The body is cut off: its {coding} does not come to an end"))
    return bytes(unpacked)


def _window(coding: str, start: bytes) -> int:
    if coding == "gzip":
        return _GZIP
    # "deflate" is that of zlib; some clients take the word for what it says (RFC 9110, 8.4.1.2).
    return _ZLIB if start[0] & 0x0F == _ZLIB_METHOD else _DEFLATE
