"""Which servers a request is about, how much of them is looked at, and what a line of a configuration gives away."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from assessmentstore.compliance.files import faults, is_secret
from assessmentstore.compliance.formats import of_yaml, settings_of
from assessmentstore.compliance.http import header_facts
from assessmentstore.compliance.kafka_access import kafka_access
from assessmentstore.compliance.scope import Aspect, Scope
from assessmentstore.compliance.targets import Catalogue, Kind, Target
from assessmentstore.models.assessment import AssessmentRequest

CATALOGUE = Catalogue.of(
    ["db-1=postgresql://me:pw@localhost/a", "db-2=postgresql://db/a", "cache=redis://10.0.0.7:6379/0"]
)


def request(**members: Any) -> AssessmentRequest:
    return AssessmentRequest.model_validate({"assessmentType": "health", "options": {}} | members)


@pytest.mark.parametrize(
    ("text", "kind", "address", "is_local"),
    [
        ("a=kafka://localhost:9092,other:9092", Kind.KAFKA, "localhost:9092,other:9092", False),
        ("a=kafka://127.0.0.1:9092", Kind.KAFKA, "127.0.0.1:9092", True),
        ("a=kafka://me:pw@10.0.0.7:9093,10.0.0.8:9093", Kind.KAFKA, "10.0.0.7:9093,10.0.0.8:9093", False),
        ("a=redis://:pw@[::1]:6379/0", Kind.REDIS, "[::1]:6379", True),
        ("a=rediss://cache/0", Kind.REDIS, "cache", False),
        ("a=postgresql://me@10.0.0.7:5432/a", Kind.POSTGRES, "10.0.0.7:5432", False),
        ("a=postgresql:///a?host=/var/run/postgresql", Kind.POSTGRES, "", True),
        ("a=https://example.org/x?y=z", Kind.HTTP, "example.org", False),
        ("a=tls://example.org:8443", Kind.TLS, "example.org:8443", False),
        ("a=file:///etc/my%20app", Kind.FILES, "/etc/my app", True),
    ],
)
def test_a_target_is_what_its_url_says(text: str, kind: Kind, address: str, is_local: bool) -> None:
    target = Target.parse(text)

    assert (target.name, target.kind, target.address, target.is_local) == ("a", kind, address, is_local)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "=redis://x",
        "a=x:1",
        "a=ftp://x",
        "a=redis://",
        "a=file:///",
        "a=tls://x",
        "a=tls://x:99999",
        "a=redis://:pw@/0",
        "a=http://x:y/",
    ],
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Target.parse(text)


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("k:9092?tls=yes", "tls: there is no such option"),
        ("k:9092?security_protocol=TLS", "security_protocol=TLS: expected one of"),
        ("k:9092?security_protocol=SASL_SSL", "belong together"),
        ("me:s3cret@k:9092?security_protocol=SSL", "belong together"),
        ("me:s3cret@k:9092?sasl_mechanism=GSSAPI", "sasl_mechanism=GSSAPI: expected one of"),
        ("k:9092?ssl_cafile=/ca.crt", "ssl_cafile: security_protocol=PLAINTEXT has no use for it"),
        ("k:9092?security_protocol=SSL&ssl_cafile=/none.crt", "ssl_cafile=/none.crt: No such file"),
    ],
)
def test_a_kafka_whose_access_does_not_fit_together_is_refused(rest: str, why: str) -> None:
    with pytest.raises(ValueError, match="target 'a': ") as told:
        Target.parse(f"a=kafka://{rest}")

    assert why in str(told.value)
    assert "s3cret" not in str(told.value)


def test_a_kafka_is_reached_as_its_url_says() -> None:
    clear = kafka_access("kafka://k:9092")
    named = kafka_access("kafka://m%40e:p%20w@k:9092,l:9092?security_protocol=sasl_plaintext&sasl_mechanism=plain")
    safe = kafka_access("kafka://me:pw@k:9092")

    assert clear == {"bootstrap_servers": "k:9092", "security_protocol": "PLAINTEXT", "ssl_context": None}
    assert named == {
        "bootstrap_servers": "k:9092,l:9092",
        "security_protocol": "SASL_PLAINTEXT",
        "ssl_context": None,
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "m@e",
        "sasl_plain_password": "p w",
    }
    assert (safe["security_protocol"], safe["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert safe["ssl_context"].check_hostname


def test_a_refused_target_does_not_repeat_its_password() -> None:
    with pytest.raises(ValueError, match="target 'a'") as told:
        Target.parse("a=mysql://me:s3cret@db/a")

    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(
    ("texts", "words"), [([], "at least one target"), (["a=redis://x", "a=redis://y"], "'a' is given twice")]
)
def test_a_catalogue_has_targets_of_different_names(texts: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Catalogue.of(texts)


@pytest.mark.parametrize(
    ("members", "names", "missing"),
    [
        ({}, ["db-1", "db-2", "cache"], []),
        ({"serverName": "cache"}, ["cache"], []),
        ({"serverName": "db-*"}, ["db-1", "db-2"], []),
        ({"serverName": "nobody"}, [], ["nobody"]),
        ({"serverName": "all of them", "options": {"serverFilter": ["cache", "db-?"]}}, ["db-1", "db-2", "cache"], []),
        ({"options": {"serverFilter": ["cache", "web-*", "x", "x"]}}, ["cache"], ["web-*", "x"]),
        ({"options": {"serverFilter": []}}, ["db-1", "db-2", "cache"], []),
        ({"serverName": "redis://10.0.0.7:6379/0"}, [], ["redis://10.0.0.7:6379/0"]),
        ({"serverName": "file:///etc/passwd"}, [], ["file:///etc/passwd"]),
    ],
    ids=str,
)
def test_a_request_names_servers_of_the_catalogue_and_no_others(
    members: dict[str, Any], names: list[str], missing: list[str]
) -> None:
    chosen, unknown = CATALOGUE.choose(request(**members))

    assert ([target.name for target in chosen], unknown) == (names, missing)


@pytest.mark.parametrize(
    ("kind", "options", "aspects"),
    [
        ("health", {}, [Aspect.STATUS]),
        ("security", {}, [Aspect.SECURITY]),
        ("compliance", {}, list(Aspect)),
        ("health", {"validateConfig": True}, [Aspect.STATUS, Aspect.CONFIGURATION]),
        ("health", {"checkCompliance": True}, [Aspect.STATUS, Aspect.SECURITY]),
        ("security", {"checkServerStatus": True}, [Aspect.STATUS, Aspect.SECURITY]),
        ("compliance", {"checkServerStatus": False}, list(Aspect)),
    ],
    ids=itertools.count(),
)
def test_the_type_and_the_options_say_what_is_looked_at(
    kind: str, options: dict[str, Any], aspects: list[Aspect]
) -> None:
    assert Scope.of(request(assessmentType=kind, options=options)).aspects == set(aspects)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("DB_PASSWORD", "changeme", ["defaultPasswords"]),
        ("db.password", "Xq7-long-and-random", []),
        ("PASSWORD_FILE", "/run/secrets/x", []),
        ("DATABASE_URL", "postgresql://me:postgres@db/a", ["defaultPasswords"]),
        ("api-key", "secret", ["defaultPasswords"]),
        ("DEBUG", "true", ["debugOn"]),
        ("app.debug", "on", ["debugOn"]),
        ("debug", "false", []),
        ("debug_level", "1", []),
        ("ssl.protocol", "TLSv1.1", ["weakTls"]),
        ("ssl_min_protocol_version", "TLSv1.2", []),
        ("tls_min_version", "TLSv1", ["weakTls"]),
        ("sslmode", "disable", ["weakTls"]),
        ("sslmode", "verify-full", []),
        ("verify_ssl", "false", ["weakTls"]),
        ("ssl", "off", ["weakTls"]),
        ("name", "off", []),
    ],
)
def test_a_setting_is_judged_by_its_key_and_value(key: str, value: str, expected: list[str]) -> None:
    assert list(faults(key, value)) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("PASSWORD", "x", True),
        ("PASSWORD", "", False),
        ("PASSWORD", "${DB_PASSWORD}", False),
        ("URL", "redis://:pw@cache/0", True),
        ("URL", "redis://:$PW@cache/0", False),
        ("URL", "redis://cache/0", False),
    ],
)
def test_a_secret_is_told_from_a_reference_to_one(key: str, value: str, expected: bool) -> None:
    assert is_secret(key, value) is expected


def test_headers_are_judged_as_those_of_the_scheme() -> None:
    headers = {"content-security-policy": "x", "server": "nginx/1.25.3", "x-content-type-options": "nosniff"}
    cookies = ["a=1; HttpOnly", "b=2; HttpOnly; Secure", "c=3"]

    plain, encrypted = header_facts(headers, cookies, False), header_facts(headers, cookies, True)

    assert plain["missingHeaders"] == ["referrer-policy"]
    assert encrypted["missingHeaders"] == ["referrer-policy", "strict-transport-security"]
    assert (plain["looseCookies"], encrypted["looseCookies"]) == (["c"], ["a", "c"])
    assert plain["toldVersions"] == ["nginx/1.25.3"]


def test_yaml_is_read_as_what_it_means() -> None:
    text = """
db: &db {host: one, password: "changeme"}
copy: *db
help: |
  password: this is a text
servers:
  - name: a
    ssl_verify: !!bool off
? [a, b]
: {debug: true}
---
token: >-
  12
  34
"""

    assert of_yaml(text) == [
        ("2 host", "host", "one"),
        ("2 password", "password", "changeme"),
        ("4 help", "help", "password: this is a text"),
        ("7 name", "name", "a"),
        ("8 ssl_verify", "ssl_verify", "off"),
        ("10 debug", "debug", "true"),
        ("12 token", "token", "12 34"),
    ]
    with pytest.raises(yaml.YAMLError):
        of_yaml("password: {{ .Values.password }}\nport: {{ 1")


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.properties", "# password=no\n\ndb.password : change\\\n   me\nssl.enabled false\n",
         [("3 db.password", "changeme"), ("5 ssl.enabled", "false")]),
        ("a.properties", "password=\\u12\n", [("1 password", "\\u12")]),
        ("a.toml", 'debug = true\n[db]\nhosts = [{ password = "changeme" }]\n[db.tls]\nverify = false\n',
         [("debug", "True"), ("db.hosts.password", "changeme"), ("db.tls.verify", "False")]),
        ("a.toml", "password = {{ secret }}\n", [("1 password", "{{ secret }}")]),
        ("a.ini", "; password = no\n[db]\npassword = changeme ; for now\n", [("3 password", "changeme")]),
        ("redis.conf", "# requirepass no\nrequirepass changeme\nport 6379\n",
         [("2 requirepass", "changeme"), ("3 port", "6379")]),
        ("nginx.conf", "server {\n  ssl_protocols TLSv1 TLSv1.2;\n}\n",
         [("1 server", "{"), ("2 ssl_protocols", "TLSv1 TLSv1.2")]),
        (".env", "export PASSWORD='a b' # c\n", [("1 PASSWORD", "a b")]),
    ],
)  # fmt: skip
def test_each_format_is_read_as_what_it_means(
    tmp_path: Path, name: str, text: str, found: list[tuple[str, str]]
) -> None:
    file = tmp_path / name
    file.write_text(text)

    assert [(setting.place, setting.value) for setting in settings_of(file)] == found
