"""How Kafka is reached: what settings become, which ones are refused, and that no client is made in another way."""

from __future__ import annotations

import ast
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.certificates import Authority

from assessmentstore.kafka import kafka_connection
from assessmentstore.settings import Settings, SettingsError

SRC = Path(__file__).parents[2] / "src"

# Local services have no TLS; a subscriber is given its arguments; the sample assessor asks servers as a stranger does.
OTHERS = {"services/kafka.py", "client/kafka.py", "compliance/kafka.py"}

USER = {"kafka_sasl_username": "worker", "kafka_sasl_password": "hunter2"}


def load(**values: Any) -> Settings:
    return Settings.load(_env_file=None, **values)


def test_without_settings_kafka_is_spoken_to_as_it_is() -> None:
    arguments = kafka_connection(load(kafka_bootstrap="k:9092"))

    assert arguments == {"bootstrap_servers": "k:9092", "security_protocol": "PLAINTEXT", "ssl_context": None}


def test_a_user_and_his_password_go_with_every_client() -> None:
    arguments = kafka_connection(load(kafka_security_protocol="SASL_PLAINTEXT", **USER))

    assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("worker", "hunter2")


def test_tls_checks_the_name_and_the_authority_of_the_broker(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    mine = authority.issue("client", password="hunter2")

    context = kafka_connection(
        load(
            kafka_security_protocol="ssl",
            kafka_ssl_cafile=authority.file,
            kafka_ssl_certfile=mine.certificate,
            kafka_ssl_keyfile=mine.key,
            kafka_ssl_key_password="hunter2",
        )
    )["ssl_context"]

    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kafka_security_protocol": "TLS"}, "ASSESSMENTSTORE_KAFKA_SECURITY_PROTOCOL=TLS: "),
        ({"kafka_security_protocol": "SASL_SSL"}, "ASSESSMENTSTORE_KAFKA_SASL_USERNAME: "),
        (USER, "ASSESSMENTSTORE_KAFKA_SASL_PASSWORD: KAFKA_SECURITY_PROTOCOL=PLAINTEXT has no use for it"),
        ({"kafka_security_protocol": "SSL", **USER}, "KAFKA_SECURITY_PROTOCOL=SSL has no use for it"),
        ({"kafka_ssl_cafile": "ca.pem"}, "ASSESSMENTSTORE_KAFKA_SSL_CAFILE: "),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_keyfile": "key.pem"}, "ASSESSMENTSTORE_KAFKA_SSL_CERTFILE: "),
        (
            {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "worker"},
            "ASSESSMENTSTORE_KAFKA_SASL_PASSWORD: ",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_in_one_line(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(**values)

    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("wrong", ["missing", "no PEM"])
def test_a_file_of_authorities_that_is_none_is_named(tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "ca.pem"
    if wrong == "no PEM":
        file.write_text("hello")

    with pytest.raises(SettingsError, match=rf"ASSESSMENTSTORE_KAFKA_SSL_CAFILE={file}: "):
        kafka_connection(load(kafka_security_protocol="SSL", kafka_ssl_cafile=file))


@pytest.mark.parametrize("wrong", ["missing", "of another", "locked"])
def test_a_key_that_does_not_open_or_belong_to_the_certificate_is_named(tmp_path: Path, wrong: str) -> None:
    authority = Authority(tmp_path, "ca")
    mine, other = authority.issue("client", password="hunter2"), authority.issue("other")
    key = {"missing": tmp_path / "none.pem", "of another": other.key, "locked": mine.key}[wrong]

    with pytest.raises(SettingsError, match=rf"ASSESSMENTSTORE_KAFKA_SSL_KEYFILE={key}: ") as refused:
        kafka_connection(
            load(
                kafka_security_protocol="SSL",
                kafka_ssl_cafile=authority.file,
                kafka_ssl_certfile=mine.certificate,
                kafka_ssl_keyfile=key,
            )
        )

    assert "\n" not in str(refused.value)


def test_every_kafka_client_is_made_with_these_arguments() -> None:
    wrong = [
        f"{file.relative_to(SRC)}:{call.lineno}"
        for file in sorted(SRC.rglob("*.py"))
        if str(file.relative_to(SRC)) not in OTHERS
        for call in _clients(file)
        if not any(_is_connection(keyword) for keyword in call.keywords)
    ]

    assert wrong == []


def _clients(file: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith("AIOKafka"):
            yield node


def _is_connection(keyword: ast.keyword) -> bool:
    """`**kafka_connection(settings)`, or what was kept of it under the name `connection`."""
    return (
        keyword.arg is None
        and re.fullmatch(r"kafka_connection\(.+\)|(self\._)?connection", ast.unparse(keyword.value)) is not None
    )
