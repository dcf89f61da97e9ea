"""What the messages of the AsyncAPI document are put together from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..models.base import MAX_ID_LENGTH
from ..models.envelope import JSON
from ..models.sealed import DIGEST, MEMBER
from .asyncapi_examples import Sample

Document = dict[str, Any]
"""An AsyncAPI document, or a part of one."""

BINDING = {"bindingVersion": "0.5.0"}

TEXT: Document = {"type": "string", "minLength": 1}
ID: Document = TEXT | {"maxLength": MAX_ID_LENGTH}
TIME: Document = {"type": "string", "format": "date-time"}
NUMBER: Document = {"type": "string", "pattern": "^[0-9]+$"}


SEALED: Document = {
    "type": "object",
    "description": "A value that is encrypted with AES-256-GCM; whoever has the key opens it.",
    "properties": {
        MEMBER: {
            "type": "object",
            "properties": {
                "keyId": TEXT | {"description": "Of the key."},
                "nonce": TEXT | {"description": "Base64."},
                "data": TEXT | {"description": "Base64 of the cipher text; the assessment id is associated data."},
                DIGEST: {
                    "type": "string",
                    "pattern": "^[0-9a-f]{64}$",
                    "description": "What audit hashes are made of.",
                },
            },
            "required": ["keyId", "nonce", "data", DIGEST],
            "additionalProperties": False,
        }
    },
    "required": [MEMBER],
    "additionalProperties": False,
}


def message(
    title: str,
    summary: str | None,
    payload: Document,
    headers: Document,
    example: Sample | None,
    content_type: str = JSON,
) -> Document:
    key = ID | {"description": "The assessment id, as UTF-8."}
    found = {
        "title": title,
        "summary": (summary or "").strip(),
        "contentType": content_type,
        "headers": headers,
        "payload": payload,
        "bindings": {"kafka": {"key": key, **BINDING}},
    }
    return found | ({"examples": [{"headers": example.headers, "payload": example.payload}]} if example else {})


def object_of(properties: Document, required: Iterable[str]) -> Document:
    return {"type": "object", "properties": properties, "required": list(required)}
