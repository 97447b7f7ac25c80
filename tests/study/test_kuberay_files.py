"""The manifests for KubeRay fit its own schema, and say what the documentation says.

LOGIT_BIAS_KUBERAY_CRDS names a folder with `ray.io_rayclusters.yaml` and `ray.io_rayjobs.yaml` of
KubeRay (helm-chart/kuberay-operator/crds); without it the comparison with the schema is skipped.
"""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

ROOT = Path(__file__).parents[2]
CRDS = os.environ.get("LOGIT_BIAS_KUBERAY_CRDS")
FILES = {"kuberay.yaml": "rayclusters", "kuberay-job.yaml": "rayjobs"}


def manifest(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


def schema(kind: str, api_version: str) -> dict[str, Any]:
    crd = yaml.safe_load(Path(str(CRDS), f"ray.io_{kind}.yaml").read_text())
    (found,) = (v for v in crd["spec"]["versions"] if v["name"] == api_version)
    return closed(found["schema"]["openAPIV3Schema"])


def closed(node: Any, inside_spec: bool = False) -> Any:
    """The schema without Kubernetes' own extensions; a key that it does not name is refused."""
    if isinstance(node, list):
        return [closed(item, inside_spec) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {
        key: {name: closed(value, True) for name, value in item.items()}
        if key == "properties"
        else closed(item, inside_spec)
        for key, item in node.items()
        if key != "format" and not key.startswith("x-kubernetes")
    }
    keeps_unknown = node.get("x-kubernetes-preserve-unknown-fields")
    if inside_spec and "properties" in node and not keeps_unknown:
        made.setdefault("additionalProperties", False)
    return made


def problems(name: str, content: dict[str, Any]) -> list[str]:
    api_version = content["apiVersion"].removeprefix("ray.io/")
    validator = Draft7Validator(schema(FILES[name], api_version))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(content)]


@pytest.mark.skipif(CRDS is None, reason="LOGIT_BIAS_KUBERAY_CRDS is not set")
@pytest.mark.parametrize("name", FILES)
def test_kuberay_accepts_the_file(name: str) -> None:
    assert problems(name, manifest(name)) == []


@pytest.mark.skipif(CRDS is None, reason="LOGIT_BIAS_KUBERAY_CRDS is not set")
def test_the_validation_can_fail() -> None:
    content = manifest("kuberay.yaml")
    content["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    content["spec"]["authOptions"]["mode"] = "tokn"
    content["spec"]["workerGroupSpecs"][0]["minReplicas"] = "none"
    found = " ".join(problems("kuberay.yaml", content))
    assert all(text in found for text in ("imagee", "tokn", "minReplicas"))


def test_the_cluster_asks_for_a_token_and_its_head_trains_nothing() -> None:
    spec = manifest("kuberay.yaml")["spec"]
    assert spec["rayVersion"] == version("ray")
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = spec["workerGroupSpecs"]
    assert group["minReplicas"] == 0
    for pod in (spec["headGroupSpec"], group):
        (container,) = pod["template"]["spec"]["containers"]
        assert {"name": "study", "mountPath": "/mnt/study"} in container["volumeMounts"]


def test_the_job_runs_on_that_cluster() -> None:
    job = manifest("kuberay-job.yaml")["spec"]
    cluster = manifest("kuberay.yaml")["metadata"]["name"]
    assert job["clusterSelector"] == {"ray.io/cluster": cluster}
    assert job["entrypoint"].endswith("--address auto")
