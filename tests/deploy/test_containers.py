"""What can be said of the image and of docker-compose.yml without an engine."""

from __future__ import annotations

import re
from typing import Any

import yaml
from tests.harness.tools import DEPLOY, ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_without_the_profile_there_are_the_three_services_only() -> None:
    always = {name for name, service in COMPOSE["services"].items() if not service.get("profiles")}

    assert always == {"kafka", "postgres", "redis"}


def test_the_profile_has_two_of_each_process_and_what_watches_them() -> None:
    services = COMPOSE["services"]

    assert {"replica", "migrate", "proxy", "prometheus", "grafana"} <= services.keys()
    assert [services[name]["deploy"]["replicas"] for name in ("worker", "web")] == [2, 2]


def test_every_file_that_is_mounted_is_there() -> None:
    mounted = [volume for service in COMPOSE["services"].values() for volume in service.get("volumes", ())]
    files = [volume.split(":")[0] for volume in mounted if volume.startswith("./")]

    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_named_volumes_are_declared() -> None:
    mounted = [volume for service in COMPOSE["services"].values() for volume in service.get("volumes", ())]
    named = {volume.split(":")[0] for volume in mounted if not volume.startswith((".", "/"))}

    assert named == COMPOSE["volumes"].keys()


def test_the_image_is_of_the_user_that_the_manifests_name() -> None:
    (user,) = re.findall(r"^USER (\d+):\1$", DOCKERFILE, re.MULTILINE)

    for file in [DEPLOY / "helm/assessmentstore/templates/_parts.tpl", DEPLOY / "kustomize/base/web.yaml"]:
        assert f"runAsUser: {user}" in file.read_text()


def test_the_image_is_built_with_what_the_makefile_installs_with() -> None:
    (made,) = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert f"uv=={made}" in DOCKERFILE


def test_the_versions_are_those_of_the_package() -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    chart = yaml.safe_load((DEPLOY / "helm/assessmentstore/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version
    for part in ("base", "components/bridge"):
        parts = yaml.safe_load((DEPLOY / "kustomize" / part / "kustomization.yaml").read_text())
        assert [image["newTag"] for image in parts["images"]] == [version]
