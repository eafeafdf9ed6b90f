"""The manifests against Kubernetes' own schemas, and against each other. No cluster runs here."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import need, need_program

from neurofed.security.pki import Pki

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
VERSIONS = ("1.29", "1.34")


def _kustomization() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return found


def _manifests() -> list[dict[str, Any]]:
    files = [FOLDER / name for name in _kustomization()["resources"]]
    return [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]


def _of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in _manifests() if m["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
def test_each_manifest_fits_its_schema(version: str) -> None:
    validator = need("kubernetes_validate", "dev")
    for manifest in _manifests():
        validator.validate(manifest, version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    validator = need("kubernetes_validate", "dev")
    manifest = _of_kind("StatefulSet")["worker"]
    manifest["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(validator.ValidationError):
        validator.validate(manifest, VERSIONS[0], strict=True)


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The base with the component for monitoring, as kubectl puts them together."""
    need_program("kubectl")
    folder = tmp_path_factory.mktemp("monitored")
    base = os.path.relpath(FOLDER, folder.resolve())
    (folder / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{base}/monitoring]\n")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def _strict(schema: Any) -> Any:
    """The schema, in which no object takes a field that it does not name."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _strict(value) for key, value in schema.items()}
    return {**changed, "additionalProperties": False} if "properties" in schema else changed


def _service_monitor_schema() -> dict[str, Any]:
    found = pytest.importorskip("cloudcoil.models.prometheus_operator.v1", reason="needs .ci/tools.txt")
    schema: dict[str, Any] = _strict(found.ServiceMonitor.model_json_schema(by_alias=True))
    return schema


def test_with_monitoring_each_manifest_fits_its_schema_too(monitored: list[dict[str, Any]]) -> None:
    validator = need("kubernetes_validate", "dev")
    for manifest in monitored:
        if manifest["kind"] != "ServiceMonitor":
            validator.validate(manifest, VERSIONS[-1], strict=True)


def test_the_service_monitor_fits_its_schema_and_a_misspelt_one_does_not() -> None:
    schema = _service_monitor_schema()
    monitor = yaml.safe_load((FOLDER / "monitoring" / "service-monitor.yaml").read_text())
    jsonschema = need("jsonschema", "dev")
    jsonschema.validate(monitor, schema)
    monitor["spec"]["endpoints"][0]["tlsConfig"]["servername"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="servername"):
        jsonschema.validate(monitor, schema)


def test_the_service_monitor_finds_the_port_that_prometheus_may_reach(monitored: list[dict[str, Any]]) -> None:
    found = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in monitored}
    monitor = found["ServiceMonitor", "aggregator"]["spec"]
    service = found["Service", "aggregator"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert set(ports) == {"grpc", monitor["endpoints"][0]["port"]}, "the port of the base is still there"
    (container,) = found["StatefulSet", "aggregator"]["spec"]["template"]["spec"]["containers"]
    assert {port["name"] for port in container["ports"]} == set(ports)
    ingress = found["NetworkPolicy", "aggregator"]["spec"]["ingress"]
    assert [rule["ports"][0]["port"] for rule in ingress] == [9050, ports["http"]]
    assert found["NetworkPolicy", "worker"]["spec"].get("ingress", []) == []


def test_the_secrets_of_monitoring_are_those_it_asks_for(tmp_path: Path, monitored: list[dict[str, Any]]) -> None:
    Pki.create(tmp_path / "pki", ["aggregator"], ["worker-0"])
    (tmp_path / "pki" / "http").mkdir()
    (tmp_path / "pki" / "http" / "tokens").write_text("operator secret\nviewer public\n")
    script = ["sh", str(FOLDER / "secrets.sh"), str(tmp_path / "pki")]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    secrets = {secret["metadata"]["name"]: secret["data"] for secret in yaml.safe_load_all(done.stdout)}
    assert base64.b64decode(secrets["neurofed-monitoring"]["viewer-token"]) == b"public"
    assert b"secret" in base64.b64decode(secrets["neurofed-http"]["tokens"])
    (endpoint,) = next(m for m in monitored if m["kind"] == "ServiceMonitor")["spec"]["endpoints"]
    for asked in (endpoint["tlsConfig"]["ca"]["secret"], endpoint["authorization"]["credentials"]):
        assert asked["key"] in secrets[asked["name"]]


def test_every_file_is_part_of_the_base() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {"kustomization.yaml", *_kustomization()["resources"]}


def test_what_is_mounted_is_there_and_used() -> None:
    for name, manifest in _of_kind("StatefulSet").items():
        spec = manifest["spec"]
        pod = spec["template"]["spec"]
        there = {v["name"] for v in pod["volumes"]} | {c["metadata"]["name"] for c in spec["volumeClaimTemplates"]}
        containers = [*pod["initContainers"], *pod["containers"]]
        assert there == {mount["name"] for c in containers for mount in c["volumeMounts"]}, name
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        assert spec["serviceName"] in _of_kind("Service")


def test_pods_have_no_more_rights_than_they_need() -> None:
    for manifest in _of_kind("StatefulSet").values():
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod["initContainers"], *pod["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert container["image"] in {image["name"] for image in _kustomization()["images"]}


def test_policies_let_workers_reach_the_aggregator_and_nothing_reach_workers() -> None:
    policies = _of_kind("NetworkPolicy")
    labels = {name: m["spec"]["template"]["metadata"]["labels"] for name, m in _of_kind("StatefulSet").items()}
    assert {name: p["spec"]["podSelector"]["matchLabels"] for name, p in policies.items()} == labels
    assert policies["worker"]["spec"]["ingress"] == []
    allowed = [peer["podSelector"]["matchLabels"] for peer in policies["aggregator"]["spec"]["ingress"][0]["from"]]
    assert labels["worker"] in allowed


def test_the_secrets_are_those_that_pods_mount(tmp_path: Path) -> None:
    Pki.create(tmp_path / "pki", ["aggregator"], ["worker-0", "worker-1"])
    script = ["sh", str(FOLDER / "secrets.sh"), str(tmp_path / "pki")]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    secrets = {secret["metadata"]["name"]: secret["data"] for secret in yaml.safe_load_all(done.stdout)}
    mounted = {
        volume["secret"]["secretName"]
        for manifest in _of_kind("StatefulSet").values()
        for volume in manifest["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    }
    assert mounted <= secrets.keys()
    assert secrets["neurofed-workers"].keys() == {
        f"worker-{k}.{file}" for k in range(2) for file in ("ca.crt", "tls.crt", "tls.key")
    }
    key = base64.b64decode(secrets["neurofed-workers"]["worker-1.tls.key"])
    assert key == (tmp_path / "pki" / "worker-worker-1" / "tls.key").read_bytes()
    assert "ca.key" not in done.stdout
