"""The AsyncAPI 3.0 document of the Kafka topics: the store receives commands, and sends the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from ..models.commands import COMMAND_DATA, MAX_USER_AGENT_LENGTH, CommandType
from ..models.emitted import COMMAND_FINGERPRINT, COMMAND_OFFSET
from ..models.envelope import CLIENT_IP, JSON, SOURCE, STRUCTURED, USER_AGENT
from ..models.errors import RejectedCommand
from ..models.events import EventType, event_class
from ..models.redrive import ORIGIN_HEADER
from ..models.schemas import schemas
from ..settings import Settings
from .asyncapi_examples import Sample, rejected_sample, samples
from .asyncapi_legacy import legacy_event_messages, legacy_notification_messages
from .asyncapi_parts import BINDING, ID, NUMBER, SEALED, TEXT, TIME, Document, message, object_of

_REFS = "#/components/schemas/{model}"
_SEALED = "Sealed"

_DESCRIPTION = """\
Commands are CloudEvents 1.0, in structured or in binary mode; events and rejections are in binary mode. The key of a \
record is the assessment id. A `read_committed` consumer sees every event exactly once and, of each assessment, in the \
order of its versions without a gap. A command id is an idempotency key: a second command with it has no second \
effect. Where payloads are encrypted, the data of a command may be a `Sealed` whole, and `request` and `result` of an \
event have a member `$encrypted` of that form."""

_ATTRIBUTES: dict[str, Document] = {
    "specversion": {"const": "1.0"},
    "id": ID | {"description": "The idempotency key."},
    "source": TEXT | {"description": "Who sends it."},
    "subject": ID | {"description": "The assessment id; the same as the key of the record."},
    "time": TIME,
    "datacontenttype": {"const": JSON},
    "userid": ID | {"description": "Who asks; of a create, the owner."},
    CLIENT_IP: TEXT | {"maxLength": 64, "description": "Where the caller was, an IP address: for the audit trail."},
    USER_AGENT: TEXT
    | {"maxLength": MAX_USER_AGENT_LENGTH, "description": "What the caller used: for the audit trail."},
    "expectedversion": {
        "type": "integer",
        "minimum": 1,
        "maximum": 2**31 - 1,
        "description": "Refuse the command where the assessment is at another version.",
    },
    "traceparent": TEXT | {"description": "W3C Trace Context, passed on with the event."},
    "replyto": TEXT | {"description": "For the store's own use."},
}
"""The CloudEvents attributes of a command."""

_REQUIRED = ("specversion", "id", "source", "type")

_HEADERS: dict[str, Document] = {
    "content-type": {"const": JSON},
    "ce_specversion": {"const": "1.0"},
    "ce_id": TEXT,
    "ce_source": {"const": SOURCE},
    "ce_subject": TEXT | {"description": "The assessment id."},
    "ce_time": TIME,
    "ce_sequence": {"type": "string", "pattern": "^[1-9][0-9]*$", "description": "The version."},
    COMMAND_OFFSET: NUMBER | {"description": "Where the command stands on this partition of the commands topic."},
    COMMAND_FINGERPRINT: {
        "type": "string",
        "pattern": "^[0-9a-f]{32}$",
        "description": "What tells the command from another with the same id.",
    },
    "traceparent": _ATTRIBUTES["traceparent"],
}
"""The headers of what the store sends."""

_DEAD_LETTER_HEADERS: dict[str, Document] = {
    "topic": TEXT | {"description": "Where it came from."},
    "partition": NUMBER,
    "offset": NUMBER,
    "reason": TEXT | {"description": "Why it is no command."},
    "time": TIME | {"description": "When it was put aside."},
}

_NULL_HEADERS: Document = {
    "type": "string",
    "pattern": "^[0-9]+(,[0-9]+)*$",
    "description": "Which of the record's own headers, counted from 0, came with null in place of the empty value.",
}
_ORIGIN = TEXT | {"description": "PARTITION:OFFSET of the dead letter that it was redriven from, if it was."}


def asyncapi_document(settings: Settings, version: str) -> Document:
    """The document of one installation: its topics have its prefix and its partitions."""
    refs, components = _schemas()
    components[_SEALED] = SEALED
    told = samples()
    messages = dict(_command_messages(refs, told)) | dict(_event_messages(refs, told)) | _other_messages(refs)
    from_old, to_old = legacy_event_messages(), legacy_notification_messages(components, told)
    channels = {
        "commands": _channel(settings.commands_topic, settings.topic_partitions, _commands(), "What is asked for."),
        "events": _channel(settings.events_topic, settings.topic_partitions, list(EventType), "What was accepted."),
        "rejections": _channel(
            settings.rejections_topic, settings.topic_partitions, ["assessment.rejected"], "Commands that were refused."
        ),
        "deadLetters": _channel(settings.dead_letters_topic, 1, ["deadLetter"], "What is no command, as it came."),
        "legacyEvents": _channel(
            settings.legacy_events_topic,
            settings.topic_partitions,
            from_old,
            "What an old system says, for the bridge.",
        ),
        "legacyNotifications": _channel(
            settings.legacy_notifications_topic,
            settings.topic_partitions,
            to_old,
            "What the store changed by itself, for an old system's listeners, by the bridge.",
        ),
    }
    return {
        "asyncapi": "3.0.0",
        "id": "urn:assessmentstore",
        "info": {
            "title": "AssessmentStore",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache License 2.0"},
        },
        "defaultContentType": JSON,
        "servers": {
            "kafka": {
                "host": "{brokers}",
                "protocol": "kafka",
                "variables": {"brokers": {"description": "host:port of a broker, as the operator tells it."}},
            }
        },
        "channels": channels,
        "operations": {
            "receiveCommands": _operation("receive", "commands", channels),
            "sendEvents": _operation("send", "events", channels),
            "sendRejections": _operation("send", "rejections", channels),
            "sendDeadLetters": _operation("send", "deadLetters", channels),
            "receiveLegacyEvents": _operation("receive", "legacyEvents", channels),
            "sendLegacyNotifications": _operation("send", "legacyNotifications", channels),
        },
        "components": {"messages": messages | from_old | to_old, "schemas": components},
    }


def _schemas() -> tuple[dict[type[BaseModel], Document], dict[str, Document]]:
    return schemas(
        [
            *((kind, "validation") for kind in COMMAND_DATA.values()),
            *((event_class(kind), "serialization") for kind in EventType),
            (RejectedCommand, "serialization"),
        ],
        refs=_REFS,
    )


def _commands() -> list[str]:
    return [f"{kind}.{mode}" for kind in CommandType for mode in ("structured", "binary")]


def _channel(topic: str, partitions: int, messages: Iterable[str], summary: str) -> Document:
    return {
        "address": topic,
        "summary": summary,
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in map(str, messages)},
        "bindings": {"kafka": {"topic": topic, "partitions": partitions, **BINDING}},
    }


def _operation(action: str, channel: str, channels: Document) -> Document:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in channels[channel]["messages"]],
    }


def _command_messages(refs: dict[type[BaseModel], Document], told: dict[str, Sample]) -> Iterator[tuple[str, Document]]:
    """Each command in both modes."""
    for kind, data in COMMAND_DATA.items():
        attributes = _ATTRIBUTES | {"type": {"const": kind}}
        payload = {"anyOf": [refs[data], {"$ref": _REFS.format(model=_SEALED)}]}
        event = object_of(attributes | {"data": payload}, (*_REQUIRED, *_data_required(data)))
        structured = object_of({"content-type": {"type": "string", "pattern": f"^{_escaped(STRUCTURED)}"}}, ())
        name = f"{kind}.structured"
        yield name, message(f"{kind}, structured", data.__doc__, event, structured, told[name], STRUCTURED)
        headers = {f"ce_{name}": _as_text(schema) for name, schema in attributes.items() if name != "datacontenttype"}
        binary = object_of(headers | {"traceparent": _ATTRIBUTES["traceparent"]}, [f"ce_{name}" for name in _REQUIRED])
        name = f"{kind}.binary"
        yield name, message(f"{kind}, binary", data.__doc__, payload, binary, told[name])


def _event_messages(refs: dict[type[BaseModel], Document], told: dict[str, Sample]) -> Iterator[tuple[str, Document]]:
    for kind in EventType:
        sample, event = told[kind], event_class(kind)
        headers = _sent_headers(sample.required, kind)
        yield str(kind), message(kind, event.__doc__, refs[event], headers, sample)


def _other_messages(refs: dict[type[BaseModel], Document]) -> Document:
    sample = rejected_sample()
    rejected = _sent_headers(sample.required, "assessment.rejected")
    letters = object_of(
        _DEAD_LETTER_HEADERS | {"null-headers": _NULL_HEADERS, ORIGIN_HEADER: _ORIGIN}, _DEAD_LETTER_HEADERS
    )
    letter = message(
        "dead letter", "The bytes, the key and the headers as they came.", {}, letters, None, "application/octet-stream"
    )
    refused = message("assessment.rejected", RejectedCommand.__doc__, refs[RejectedCommand], rejected, sample)
    # The key is as it came: one that is too long is one more reason to refuse, and a dead letter's may be anything.
    refused["bindings"]["kafka"]["key"] = TEXT
    letter["bindings"]["kafka"] = dict(BINDING)
    return {"assessment.rejected": refused, "deadLetter": letter}


def _sent_headers(required: Iterable[str], kind: str) -> Document:
    """The headers that the store itself writes, by the functions that write them."""
    names = list(required)
    properties = {name: _HEADERS[name] for name in names if name != "ce_type"}
    return object_of(properties | {"ce_type": {"const": kind}, "traceparent": _HEADERS["traceparent"]}, names)


def _data_required(data: type[BaseModel]) -> tuple[str, ...]:
    """Data may be left out where nothing in it has to be there."""
    return ("data",) if any(field.is_required() for field in data.model_fields.values()) else ()


def _as_text(schema: Document) -> Document:
    """The schema of an attribute that is the text of a header."""
    if schema.get("type") != "integer":
        return schema
    return {"type": "string", "pattern": "^[0-9]{1,10}$", "description": schema["description"]}


def _escaped(text: str) -> str:
    return text.replace("+", "\\+").replace(".", "\\.")
