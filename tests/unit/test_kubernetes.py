"""The manifests against Kubernetes' own schemas, and against each other. No cluster runs here."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import need

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
