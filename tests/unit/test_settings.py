"""Settings: where they are read from, and the one line that a wrong one is answered with."""

from __future__ import annotations

import pytest

from assessmentstore.settings import Settings, SettingsError


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    for name in ("DATABASE_URL", "REDIS_URL", "JWT_SECRET", "ASSESSMENTSTORE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ASSESSMENTSTORE_HTTP_PORT", "abc", "ASSESSMENTSTORE_HTTP_PORT=abc: "),
        ("ASSESSMENTSTORE_HTTP_PORT", "0", "ASSESSMENTSTORE_HTTP_PORT=0: "),
        ("ASSESSMENTSTORE_TOPIC_PARTITIONS", "-1", "ASSESSMENTSTORE_TOPIC_PARTITIONS=-1: "),
        ("ASSESSMENTSTORE_KAFKA_BOOTSTRAP", "nowhere", "expected host:port"),
        ("ASSESSMENTSTORE_TOPIC_PREFIX", "a b", "ASSESSMENTSTORE_TOPIC_PREFIX=a b: "),
        ("ASSESSMENTSTORE_LOG_LEVEL", "loud", "ASSESSMENTSTORE_LOG_LEVEL=loud: "),
        ("DATABASE_URL", "mysql://u:secret@h/d", "DATABASE_URL: "),
        ("REDIS_URL", "nope", "REDIS_URL: "),
        ("ASSESSMENTSTORE_DATABASE_REPLICA_URLS", "postgresql://h/d,mysql://u:secret@h/d", "DATABASE_REPLICA_URLS: "),
        ("ASSESSMENTSTORE_DATABASE_REPLICA_URLS", "here", "DATABASE_REPLICA_URLS: "),
        ("DATABASE_URL", "postgresql://h/d?sslmode=full&password=secret", "DATABASE_URL: sslmode=full: "),
        ("DATABASE_URL", "postgresql://u:secret@h/d?sslrootcert=/no", "DATABASE_URL: sslrootcert=/no: No such file"),
        ("ASSESSMENTSTORE_DATABASE_REPLICA_URLS", "postgresql://h/d?sslcert=/no", "REPLICA_URLS: sslcert=/no: No such"),
        ("REDIS_URL", "rediss://u:secret@h?ssl_certfile=/no", "REDIS_URL: ssl_certfile=/no: No such file"),
        ("ASSESSMENTSTORE_COMPLIANCE_URL", "http://c1:80,ftp://c2", "COMPLIANCE_URL: "),
        ("ASSESSMENTSTORE_COMPLIANCE_URL", "http://c1,c2", "COMPLIANCE_URL: "),
        ("ASSESSMENTSTORE_COMPLIANCE_URL", "http://u:secret@c1", "expected http://host:port/path without user"),
        ("ASSESSMENTSTORE_COMPLIANCE_CONCURRENCY", "0", "ASSESSMENTSTORE_COMPLIANCE_CONCURRENCY=0: "),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as raised:
        Settings.load()

    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_three_settings_are_read_without_the_prefix_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/d")
    monkeypatch.setenv("REDIS_URL", "redis://h/1")
    monkeypatch.setenv("JWT_SECRET", "s")

    settings = Settings.load()

    assert (settings.database_url, settings.redis_url) == ("postgresql://h/d", "redis://h/1")
    assert settings.jwt_secret is not None


def test_the_prefixed_name_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/other")
    monkeypatch.setenv("ASSESSMENTSTORE_DATABASE_URL", "postgresql://h/mine")

    assert Settings.load().database_url == "postgresql://h/mine"


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hunter2@h/d")
    monkeypatch.setenv("REDIS_URL", "rediss://h/0?ssl_password=hunter4&password=hunter5&db=1")
    monkeypatch.setenv("JWT_SECRET", "hunter3")

    shown = repr(Settings.load()) + str(Settings.load())

    assert "hunter" not in shown
    assert "postgresql://user:***@h/d" in shown


def test_the_prefix_stands_in_front_of_every_topic_and_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSESSMENTSTORE_TOPIC_PREFIX", "blue.")

    settings = Settings.load()

    assert settings.commands_topic == "blue.assessment.commands"
    assert settings.app_id == "blue.assessmentstore"
    assert settings.emitted_group == "blue.assessmentstore-emitted"


def test_replicas_are_urls_with_commas_between_and_show_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = "postgresql://u:pass-1@h1:5432,h2:5432/d", "postgres://u:pass-2@h3/d?sslmode=require"
    monkeypatch.setenv("ASSESSMENTSTORE_DATABASE_REPLICA_URLS", f"{one}, {two}")

    settings = Settings.load()

    assert settings.replica_urls == (one, two)
    assert "pass-" not in repr(settings)
    assert Settings().model_copy(update={"database_replica_urls": ""}).replica_urls == ()


def test_compliance_servers_are_urls_with_commas_between_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().compliance_urls == ()
    monkeypatch.setenv("ASSESSMENTSTORE_COMPLIANCE_URL", "http://c1:80/, https://c2/base,http://c1:80")

    assert Settings.load().compliance_urls == ("http://c1:80", "https://c2/base")
