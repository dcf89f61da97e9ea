"""What Kustomize and Helm make of deploy/: held against the schemas of Kubernetes, our promises, and each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.harness.tools import DEPLOY, run_tool

from assessmentstore.settings import Settings

Manifest = dict[str, Any]

_VERSION = "1.33"

# The schemas of these are not among those of Kubernetes: what they say is checked here as far as it is ours.
_EXTENSIONS = {"ScaledObject", "PodMonitor", "PrometheusRule"}

_BRIDGE = "assessmentstore-bridge"

_ALL_ON = "bridge.enabled=true,autoscaling.enabled=true,monitoring.enabled=true,worker.storage.size="


@cache
def kustomize(folder: str) -> list[Manifest]:
    """What an overlay amounts to."""
    return _read(run_tool("kustomize", "build", f"kustomize/{folder}"))


@cache
def helm(*options: str) -> list[Manifest]:
    """What the chart amounts to."""
    return _read(
        run_tool("helm", "template", "assessmentstore", "helm/assessmentstore", "--kube-version", _VERSION, *options)
    )


def _read(made: Any) -> list[Manifest]:
    assert made.returncode == 0, made.stderr
    return [manifest for manifest in yaml.safe_load_all(made.stdout) if manifest]


def _one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = (item for item in manifests if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


def _pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for manifest in manifests:
        if "template" in manifest.get("spec", {}):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


RENDERINGS: dict[str, Callable[[], list[Manifest]]] = {
    "base": lambda: kustomize("base"),
    "development": lambda: kustomize("overlays/development"),
    "production": lambda: kustomize("overlays/production"),
    "migration": lambda: kustomize("overlays/migration"),
    "chart": helm,
    "chart, all on": lambda: helm("--set", _ALL_ON),
}


@pytest.fixture(params=RENDERINGS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return RENDERINGS[request.param]()


def test_kubernetes_would_take_them(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] not in _EXTENSIONS:
            kubernetes_validate.validate(manifest, _VERSION, strict=True)


def test_the_pods_are_as_careful_as_the_strictest_standard_asks(manifests: list[Manifest]) -> None:
    pods = dict(_pods(manifests))

    assert set(pods) - {_BRIDGE} == {"assessmentstore-web", "assessmentstore-worker", "assessmentstore-migrate"}
    for pod in pods.values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        secured = container["securityContext"]
        assert secured["readOnlyRootFilesystem"]
        assert not secured["allowPrivilegeEscalation"]
        assert secured["capabilities"] == {"drop": ["ALL"]}


def test_sizes_and_probes_are_those_of_the_reference(manifests: list[Manifest]) -> None:
    for name, pod in _pods(manifests):
        (container,) = pod["containers"]
        assert container["resources"] == {
            "requests": {"memory": "256Mi", "cpu": "250m"},
            "limits": {"memory": "512Mi", "cpu": "500m"},
        }
        if name != "assessmentstore-migrate":
            alive, ready = container["livenessProbe"], container["readinessProbe"]
            assert alive["httpGet"] == {"path": "/health", "port": "http"}
            assert (alive["initialDelaySeconds"], alive["periodSeconds"]) == (30, 10)
            assert ready["httpGet"] == {"path": "/ready", "port": "http"}
            assert (ready["initialDelaySeconds"], ready["periodSeconds"]) == (5, 5)


def test_what_is_mounted_is_there_and_the_data_can_be_written(manifests: list[Manifest]) -> None:
    for name, pod in _pods(manifests):
        claims = []
        if name == "assessmentstore-worker":
            claims = _one(manifests, "StatefulSet", name)["spec"].get("volumeClaimTemplates", [])
        there = [volume["name"] for volume in pod.get("volumes", ())] + [claim["metadata"]["name"] for claim in claims]
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert sorted(mounts.values()) == sorted(there)
        (data,) = (item["value"] for item in container["env"] if item["name"] == "ASSESSMENTSTORE_DATA_DIR")
        assert any(data == path or data.startswith(f"{path}/") for path in mounts)


def test_a_web_has_the_time_to_leave_without_a_failed_request(manifests: list[Manifest]) -> None:
    """It serves on until every proxy has heard that it goes, and then for as long as a command may take."""
    (data,) = (item["data"] for item in manifests if item["kind"] == "ConfigMap")
    web = _one(manifests, "Deployment", "assessmentstore-web")["spec"]
    settings = Settings(_env_file=None, drain_seconds=data["ASSESSMENTSTORE_DRAIN_SECONDS"])  # type: ignore[call-arg]

    assert web["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert settings.drain_seconds >= 5
    assert web["template"]["spec"]["terminationGracePeriodSeconds"] > settings.drain_seconds + settings.command_timeout


def test_what_opens_the_services_comes_from_secrets(manifests: list[Manifest]) -> None:
    """No password stands in a manifest; what an installation does not have is left out."""
    for name, pod in _pods(manifests):
        (container,) = pod["containers"]
        secret = {item["name"]: item.get("valueFrom", {}).get("secretKeyRef") for item in container["env"]}
        assert secret["ASSESSMENTSTORE_KAFKA_SASL_PASSWORD"]["key"] == "kafka-sasl-password"
        assert secret["ASSESSMENTSTORE_KAFKA_SSL_KEY_PASSWORD"]["key"] == "kafka-ssl-key-password"
        # Whoever gives payloads out or takes them in has the keys, and the migration has no use for them.
        assert ("ASSESSMENTSTORE_ENCRYPTION_KEYS" in secret) is (name != "assessmentstore-migrate")
        of_workers = {"ASSESSMENTSTORE_COMPLIANCE_API_KEY", "ASSESSMENTSTORE_AUDIT_API_KEY"}
        of_workers |= {"ASSESSMENTSTORE_AUDIT_SIGNING_KEY"}
        assert of_workers & secret.keys() == (of_workers if name == "assessmentstore-worker" else set())
        assert all(each is None or each["name"].startswith("assessmentstore-secrets") for each in secret.values())
        (tls,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "tls")
        assert (tls["secretName"], tls["optional"]) == ("assessmentstore-tls", True)


def test_selectors_find_their_pods_and_no_others(manifests: list[Manifest]) -> None:
    labels = {
        manifest["metadata"]["name"]: manifest["spec"]["template"]["metadata"]["labels"]
        for manifest in manifests
        if "template" in manifest.get("spec", {})
    }

    for manifest in manifests:
        if manifest["kind"] in {"Service", "PodDisruptionBudget"}:
            wanted = manifest["spec"]["selector"]
            wanted = wanted.get("matchLabels", wanted)
            found = [name for name, own in labels.items() if wanted.items() <= own.items()]
            assert found == [manifest["metadata"]["name"]]
    denying = _one(manifests, "NetworkPolicy", "assessmentstore-deny")["spec"]["podSelector"]["matchLabels"]
    assert all(denying.items() <= own.items() for own in labels.values())


def test_workers_scale_by_what_waits_up_to_the_number_of_partitions() -> None:
    for made in (kustomize("overlays/production"), helm("--set", _ALL_ON)):
        scaled = _one(made, "ScaledObject", "assessmentstore-worker")["spec"]
        (settings,) = (item["data"] for item in made if item["kind"] == "ConfigMap")
        (trigger,) = scaled["triggers"]

        assert scaled["maxReplicaCount"] == int(settings["ASSESSMENTSTORE_TOPIC_PARTITIONS"])
        assert trigger["type"] == "kafka"
        assert trigger["metadata"]["consumerGroup"] == "assessmentstore"
        assert trigger["metadata"]["topic"] == "assessment.commands"
        assert "replicas" not in _one(made, "StatefulSet", "assessmentstore-worker")["spec"]
        assert "replicas" not in _one(made, "Deployment", "assessmentstore-web")["spec"]


def test_the_chart_and_the_base_say_the_same() -> None:
    base, chart = kustomize("base"), helm()

    for kind, name in (("Deployment", "web"), ("StatefulSet", "worker")):
        for made in (base, chart):
            assert _one(made, kind, f"assessmentstore-{name}")["spec"]["replicas"] == 3
    for (name, one), (_, other) in zip(sorted(_pods(base)), sorted(_pods(chart)), strict=True):
        assert _comparable(one) == _comparable(other), name
    for kind in ("NetworkPolicy", "Ingress"):
        assert _specs(base, kind) == _specs(chart, kind)


def test_the_bridge_is_there_where_it_is_asked_for_and_both_say_the_same_of_it() -> None:
    there = {name for name, made in RENDERINGS.items() if _BRIDGE in dict(_pods(made()))}
    kustomized, charted = RENDERINGS["migration"](), RENDERINGS["chart, all on"]()

    assert there == {"migration", "chart, all on"}
    assert _comparable(dict(_pods(kustomized))[_BRIDGE]) == _comparable(dict(_pods(charted))[_BRIDGE])
    assert dict(_pods(charted))[_BRIDGE]["containers"][0]["args"] == ["legacy", "bridge"]
    assert _specs(kustomized, "NetworkPolicy")[_BRIDGE] == _specs(charted, "NetworkPolicy")[_BRIDGE]


def _comparable(pod: Manifest) -> Manifest:
    """A pod without what the two have to do differently: names of settings, the labels of a release, the account."""
    (container,) = pod["containers"]
    env = [item for item in container["env"] if item["name"] not in _SETTINGS]
    container = {**container, "env": env, "envFrom": None}
    return {
        **pod,
        "containers": [container],
        "serviceAccountName": None,
        "topologySpreadConstraints": [item["topologyKey"] for item in pod.get("topologySpreadConstraints", ())],
    }


_SETTINGS = {
    "ASSESSMENTSTORE_KAFKA_BOOTSTRAP",
    "ASSESSMENTSTORE_TOPIC_PARTITIONS",
    "ASSESSMENTSTORE_LOG_FORMAT",
    "ASSESSMENTSTORE_DRAIN_SECONDS",
}


def _specs(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {
        item["metadata"]["name"]: {key: value for key, value in item["spec"].items() if key != "podSelector"}
        for item in manifests
        if item["kind"] == kind
    }


def test_the_chart_refuses_a_setting_that_is_none() -> None:
    refused = run_tool("helm", "template", "helm/assessmentstore", "--kube-version", _VERSION, "--set", "settings.X=1")

    assert refused.returncode != 0
    assert "settings" in refused.stderr


def test_the_chart_is_without_fault() -> None:
    linted = run_tool("helm", "lint", "--strict", "helm/assessmentstore")

    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_chart_brings_the_alerts() -> None:
    rules = _one(helm("--set", _ALL_ON), "PrometheusRule", "assessmentstore")

    assert rules["spec"] == yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
