"""The settings: one frozen object, read once from environment variables and a `.env` file.

Every variable has the prefix `ASSESSMENTSTORE_`; `DATABASE_URL`, `REDIS_URL` and `JWT_SECRET` are also read without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    AnyHttpUrl,
    Field,
    PostgresDsn,
    RedisDsn,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from .models.retries import RetryPolicy
from .tls import POSTGRES, REDIS, check_url

ENV_PREFIX = "ASSESSMENTSTORE_"

_TOPIC_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,100}")
# A URL may name several hosts with commas between, so that a comma alone does not end it.
_BETWEEN_URLS = re.compile(r",\s*(?=\w+://)")
_BOOTSTRAP_SERVER = re.compile(r"[^\s,:]+:\d{1,5}")


class SettingsError(Exception):
    """A setting is missing or wrong; the message is the one line that names it."""


def _bootstrap_servers(value: str) -> str:
    servers = [server.strip() for server in value.split(",")]
    if not all(_BOOTSTRAP_SERVER.fullmatch(server) for server in servers):
        raise ValueError("expected host:port, or several with commas between")
    return ",".join(servers)


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks with commas between; a single address is one too.

    Raises:
        ValueError: one is no network.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _networks(value: str) -> str:
    networks(value)
    return value


def _url(kind: type[Any], tls: Sequence[str] = ()) -> AfterValidator:
    """Check that a text is a URL of `kind`, with usable files where it names some for TLS, and keep it a text."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def check(value: str | None) -> str | None:
        if value is not None:
            adapter.validate_python(value)
            if tls:
                check_url(value, tls)
        return value

    return AfterValidator(check)


def _replica_urls(value: str) -> str:
    adapter: TypeAdapter[Any] = TypeAdapter(PostgresDsn)
    for url in _split_urls(value):
        adapter.validate_python(url)
        check_url(url, POSTGRES)
    return value


def _compliance_urls(value: str) -> str:
    adapter: TypeAdapter[Any] = TypeAdapter(AnyHttpUrl)
    for url in _split_urls(value):
        found = adapter.validate_python(url)
        if found.username or found.password or found.query or found.fragment or "," in url:
            raise ValueError("expected http://host:port/path without user and query, with commas between")
    return value


def _split_urls(value: str) -> tuple[str, ...]:
    return tuple(url.strip() for url in _BETWEEN_URLS.split(value)) if value.strip() else ()


def _also_without_prefix(name: str) -> Any:
    return AliasChoices(ENV_PREFIX + name, name)


Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """Everything that can be set, with its unit and default."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    kafka_bootstrap: Annotated[str, AfterValidator(_bootstrap_servers)] = "localhost:9092"
    """Kafka brokers to start from, `host:port` with commas between."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the brokers are spoken to: SSL is TLS, SASL a user and a password; `kafka.py` makes every client by these."""
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    """How the password is proved; PLAIN sends it as it is."""
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: Path | None = None
    """The authorities (PEM) that the brokers' certificates are checked with; without, those of the system."""
    kafka_ssl_certfile: Path | None = None
    """The certificate (PEM) that we show to the brokers, with those between it and their authority."""
    kafka_ssl_keyfile: Path | None = None
    """Its private key (PEM), where it is not in the same file."""
    kafka_ssl_key_password: SecretStr | None = None
    """What that key is encrypted with, where it is."""
    database_url: Annotated[
        str, _url(PostgresDsn, POSTGRES), Field(validation_alias=_also_without_prefix("DATABASE_URL"))
    ] = "postgresql://localhost:5432/assessmentstore"
    """The Postgres database that holds the truth; TLS settings of the URL are passed through."""
    database_replica_urls: Annotated[str, AfterValidator(_replica_urls)] = ""
    """Streaming replicas of that database, with commas between: where the HTTP API may read."""
    redis_url: Annotated[str, _url(RedisDsn, REDIS), Field(validation_alias=_also_without_prefix("REDIS_URL"))] = (
        "redis://localhost:6379/0"
    )
    """Redis, the shared cache and the wake-ups."""
    jwt_secret: Annotated[SecretStr | None, Field(validation_alias=_also_without_prefix("JWT_SECRET"))] = None
    """The shared secret that signs tokens (HS256)."""
    jwks_url: Annotated[str | None, _url(AnyHttpUrl)] = None
    """Where the public keys of the issuer of tokens are (JWKS); the secret, where there is one, is believed besides."""
    jwt_issuer: str | None = None
    """The `iss` that every token has to have."""
    jwt_audience: str | None = None
    """What `aud` of every token has to name."""
    rate_limit: Annotated[float, Field(ge=0, le=1_000_000)] = 1000.0
    """Requests a second that one user may send, over all processes; 0 is no limit. A batch counts as one."""
    rate_burst: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Requests that one user may send at once; without it, those of one second."""
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""
    """Networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed: `10.0.0.0/8,::1`."""
    http_host: str = "0.0.0.0"  # noqa: S104 - a server in a container has to listen to all
    """The address that web and worker listen on."""
    http_port: Port = 3000
    """The port of the HTTP API."""
    drain_seconds: Annotated[float, Field(ge=0, le=300)] = 0.0
    """Seconds that a web serves on when told to stop, while `/ready` says no: until no balancer sends it more."""
    worker_port: Port = 6066
    """The port of the worker's own web; it also names the worker's tables below `data_dir`."""
    bridge_port: Port = 6068
    """The port where the bridge to an old system tells how it is."""
    data_dir: Path = Path(".assessmentstore")
    """Where RocksDB tables and locally started services live."""
    topic_partitions: Annotated[int, Field(ge=1, le=1000)] = 8
    """Partitions of the command, event and rejection topics; fixed once they are created."""
    topic_prefix: str = ""
    """Stands in front of every topic, group, transactional id and Redis key: one installation beside another."""
    session_timeout: Annotated[float, Field(ge=1, le=300)] = 10.0
    """Seconds without a heartbeat after which a worker's partitions go to the others."""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """The most commands that are applied in one transaction."""
    command_timeout: Annotated[float, Field(gt=0, le=300)] = 10.0
    """Seconds that the HTTP API waits for a command to be applied."""
    database_pool_size: Annotated[int, Field(ge=2, le=200)] = 16
    """The most Postgres connections a pool holds; worker and web have a pool each for writes and reads."""
    audit_signing_key: SecretStr | None = None
    """Ed25519 key that signs checkpoints of the audit trail: PEM, base64, or a file with either; without, none is."""
    audit_public_keys: str = ""
    """The public keys that checkpoints are checked with, beside the one of the signing key, with commas between."""
    audit_checkpoint_interval: Annotated[float, Field(gt=0, le=86_400)] = 10.0
    """Seconds between two checkpoints of a partition that has new rows."""
    audit_url: Annotated[str | None, _url(AnyHttpUrl)] = None
    """Where the audit service takes records; with it, every event is forwarded there."""
    audit_api_key: SecretStr | None = None
    """The bearer token for the audit service."""
    webhook_allowed_networks: Annotated[str, AfterValidator(_networks)] = ""
    """Networks that are not public and that webhooks may reach all the same, by plain http too: `10.1.0.0/16`."""
    encryption_keys: SecretStr | None = None
    """Keys that requests and results are encrypted with where they rest, `id:base64` with commas between, or a file
    with them; the first one encrypts. Without, nothing is encrypted."""
    retry_max: Annotated[int, Field(ge=0, le=100)] = 0
    """How often a failed assessment is tried again by itself, where its request does not say; 0 is never."""
    retry_initial_delay: Annotated[float, Field(gt=0, le=604_800)] = 10.0
    """Seconds from the first failure to the retry."""
    retry_backoff: Annotated[float, Field(ge=1, le=10)] = 2.0
    """What each delay is multiplied by to make the next one."""
    retry_max_delay: Annotated[float, Field(gt=0, le=604_800)] = 3600.0
    """Seconds that no delay is longer than."""
    pending_too_long: Annotated[float, Field(gt=0, le=31_536_000)] = 1800.0
    """Seconds after which it is told that nobody takes up a pending assessment."""
    compliance_url: Annotated[str, AfterValidator(_compliance_urls)] = ""
    """Compliance servers that workers have assessments carried out by, with commas between; without, workers start
    none, and producers drive assessments themselves."""
    compliance_api_key: SecretStr | None = None
    """The bearer key for the compliance servers."""
    compliance_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 16
    """The most attempts that one worker begins at each compliance server at once."""
    compliance_call_timeout: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Seconds that one call to a compliance server may take; how long the assessment may is in its request."""
    scrub_rate: Annotated[int, Field(ge=0, le=1000)] = 20
    """Assessments a second whose copies a worker compares beside its work; 0 is none."""
    migration_check_interval: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds between two looks at the figures that a roll-out from the old system is held or taken back by."""
    migration_first_hold: Annotated[float, Field(ge=0, le=8_640_000)] = 86_400.0
    """Seconds that the first step of a roll-out, 1 %, has to be without an alert before the next."""
    migration_hold: Annotated[float, Field(ge=0, le=8_640_000)] = 43_200.0
    """The same of each later step."""
    migration_settle: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """Seconds that events of the old system have to arrive before what it reports is compared with the store."""
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    @field_validator("topic_prefix")
    @classmethod
    def _legal_prefix(cls, value: str) -> str:
        if not _TOPIC_PREFIX.fullmatch(value):
            raise ValueError("expected at most 100 of the characters A-Z a-z 0-9 . _ -")
        return value

    @model_validator(mode="after")
    def _kafka_access_fits_together(self) -> Self:
        """Refuse credentials that are half there, or that the protocol would silently leave unused."""
        protocol = f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
        for prefix, used in (("KAFKA_SASL_", "SASL"), ("KAFKA_SSL_", "SSL")):
            given = [name for name in self.model_fields_set if name.startswith(prefix.lower()) and getattr(self, name)]
            if given and used not in self.kafka_security_protocol:
                raise ValueError(f"{ENV_PREFIX}{min(given).upper()}: {protocol} has no use for it")
        if "SASL" in self.kafka_security_protocol:
            for name in ("kafka_sasl_username", "kafka_sasl_password"):
                if not getattr(self, name):
                    raise ValueError(f"{ENV_PREFIX}{name.upper()}: {protocol} needs it")
        if (self.kafka_ssl_keyfile or self.kafka_ssl_key_password) and not self.kafka_ssl_certfile:
            raise ValueError(f"{ENV_PREFIX}KAFKA_SSL_CERTFILE: a key without its certificate is of no use")
        return self

    @field_validator("kafka_security_protocol", "kafka_sasl_mechanism", mode="before")
    @classmethod
    def _upper_case(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the settings from the environment.

        Raises:
            SettingsError: one is wrong; the message is one line that names the variable.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise SettingsError("; ".join(_explain(item) for item in error.errors())) from error

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, without_password(value) if isinstance(value, str) else value

    @property
    def replica_urls(self) -> tuple[str, ...]:
        """The URL of each replica."""
        return _split_urls(self.database_replica_urls)

    @property
    def retry_policy(self) -> RetryPolicy:
        """What holds for requests without a policy of their own."""
        return RetryPolicy(
            max_retries=self.retry_max,
            initial_delay_seconds=self.retry_initial_delay,
            backoff_coefficient=self.retry_backoff,
            max_delay_seconds=self.retry_max_delay,
        )

    @property
    def compliance_urls(self) -> tuple[str, ...]:
        """The address of each compliance server, below which its routes are."""
        return tuple(dict.fromkeys(url.rstrip("/") for url in _split_urls(self.compliance_url)))

    @property
    def app_id(self) -> str:
        """The consumer group of the workers, and the stem of transactional ids."""
        return f"{self.topic_prefix}assessmentstore"

    @property
    def emitted_group(self) -> str:
        """The group that holds the emitted watermark of each command partition."""
        return f"{self.app_id}-emitted"

    @property
    def audit_group(self) -> str:
        """The group that forwards events to the audit service."""
        return f"{self.app_id}-audit-forwarder"

    @property
    def commands_topic(self) -> str:
        return f"{self.topic_prefix}assessment.commands"

    @property
    def events_topic(self) -> str:
        return f"{self.topic_prefix}assessment.events"

    @property
    def rejections_topic(self) -> str:
        return f"{self.topic_prefix}assessment.rejections"

    @property
    def dead_letters_topic(self) -> str:
        return f"{self.topic_prefix}assessment.dead-letters"

    @property
    def letter_marks_topic(self) -> str:
        return f"{self.topic_prefix}assessment.dead-letter-marks"

    @property
    def deletions_topic(self) -> str:
        return f"{self.topic_prefix}assessment.deletions"

    @property
    def legacy_events_topic(self) -> str:
        return f"{self.topic_prefix}legacy.events"

    @property
    def legacy_notifications_topic(self) -> str:
        return f"{self.topic_prefix}legacy.notifications"

    @property
    def checkpoints_topic(self) -> str:
        return f"{self.topic_prefix}assessment.audit-checkpoints"


def without_password(url: str) -> str:
    """A URL that is fit to be shown."""
    return re.sub(r"([?&](?:ssl_?)?password=)[^&]*", r"\1***", re.sub(r"(//[^/@]*):[^/@]*@", r"\1:***@", url))


def _explain(item: Any) -> str:
    """One validation error as `NAME=value: what is wrong`, without the value where it is secret."""
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message  # about several settings: it names them
    field = str(item["loc"][0])
    name = field if field.isupper() else ENV_PREFIX + field.upper()
    secret = any(word in name for word in ("SECRET", "KEY", "URL", "PASSWORD"))
    return f"{name}: {message}" if secret else f"{name}={item['input']}: {message}"
