"""What deploy/ says must be true of the sidecar: flags, paths, ports, variables, and the policy it carries."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from policy.parse import parse_policy
from proxy.access import ANY_HOST
from proxy.app import DRAIN_S
from proxy.cli import parser
from proxy.identify import KEY_PREFIX
from proxy.tokens import ADMIN_TOKEN_ENV

ROOT = Path(__file__).parent.parent
BASE = ROOT / "deploy/kubernetes/base"
DOCKERFILE = ROOT / "deploy/Dockerfile"
KUBERNETES = ["1.33", "1.37"]  # native sidecars are stable since the first; the second is the newest known here


def load(name: str) -> dict:
    return yaml.safe_load((BASE / name).read_text("utf-8"))


KUSTOMIZATION = load("kustomization.yaml")
POD = load("deployment.yaml")["spec"]["template"]["spec"]
SIDECAR = POD["initContainers"][0]
AGENT = POD["containers"][0]


def config_map() -> dict:
    """What kustomize makes of the generator, but for the hash in the name."""
    generator = KUSTOMIZATION["configMapGenerator"][0]
    data = {name: (BASE / name).read_text("utf-8") for name in generator["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}


def policy():
    env = {"OPENAI_API_KEY": "sk-x", "AGENT_KEY": f"{KEY_PREFIX}0123456789abcdef"}
    return parse_policy(config_map()["data"]["policy.yaml"], name="policy.yaml", env=env, read_file=str)


def variables(container: dict) -> dict[str, dict]:
    return {one["name"]: one for one in container["env"]}


def secrets(container: dict) -> set[tuple[str, str]]:
    sources = [one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one]
    return {(source["name"], source["key"]) for source in sources}


# -- Kubernetes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", KUSTOMIZATION["resources"])
def test_each_manifest_is_valid(name, version):
    kubernetes_validate.validate(load(name), version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_config_map_is_valid(version):
    kubernetes_validate.validate(config_map(), version, strict=True)


def test_validation_sees_a_wrong_field():
    wrong = load("deployment.yaml")
    wrong["spec"]["template"]["spec"]["initContainers"][0]["restartPolicie"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[0], strict=True)


def test_every_file_is_part_of_the_kustomization():
    named = {*KUSTOMIZATION["resources"], *KUSTOMIZATION["configMapGenerator"][0]["files"], "kustomization.yaml"}
    assert {path.name for path in BASE.iterdir()} == named


def test_the_policy_parses_without_a_warning():
    parsed = policy()
    assert not parsed.warnings
    assert all(agent.key for agent in parsed.policy.agents.values()), "without a key any pod could spend as the agent"


def test_the_sidecar_has_every_variable_that_the_policy_reads():
    read = set(re.findall(r"\$\{env:(\w+)\}", config_map()["data"]["policy.yaml"]))
    assert read | {f"{ADMIN_TOKEN_ENV}_FILE"} == set(variables(SIDECAR))


def test_the_admin_tokens_are_a_mounted_file_so_that_they_roll_over_without_a_restart():
    file = Path(variables(SIDECAR)[f"{ADMIN_TOKEN_ENV}_FILE"]["value"])
    mount = next(one for one in SIDECAR["volumeMounts"] if one["mountPath"] == str(file.parent))
    assert "subPath" not in mount, "a subPath is never updated"
    volume = next(one for one in POD["volumes"] if one["name"] == mount["name"])["secret"]
    assert [(item["key"], item["path"]) for item in volume["items"]] == [("admin-token", file.name)]


def test_the_sidecars_arguments_are_those_of_the_command():
    options = parser().parse_args(SIDECAR["args"])
    mounts = {mount["mountPath"]: mount["name"] for mount in SIDECAR["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    mounted = volumes[mounts[str(options.policy.parent)]]["configMap"]["name"]
    assert (mounted, options.policy.name) == (config_map()["metadata"]["name"], "policy.yaml")
    claim = volumes[mounts[str(options.data)]]["persistentVolumeClaim"]["claimName"]
    assert claim == load("data.yaml")["metadata"]["name"]
    assert options.port == SIDECAR["ports"][0]["containerPort"]
    assert options.host == "0.0.0.0", "the kubelet probes the pod's address"
    assert not options.no_auth


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_what_is_open_to_any_host(probe):
    ask = SIDECAR[probe]["httpGet"]
    assert ask["path"] in ANY_HOST - {"/metrics"}
    assert ask["port"] == SIDECAR["ports"][0]["name"]
    assert "readyz" in ask["path"] or probe != "readinessProbe"


def test_the_sidecar_starts_before_the_agent_and_ends_after_it():
    assert SIDECAR["restartPolicy"] == "Always"
    assert POD["terminationGracePeriodSeconds"] > DRAIN_S + 30


def test_the_agent_calls_the_sidecar_and_holds_no_provider_key():
    env = variables(AGENT)
    url = urlsplit(env["OPENAI_BASE_URL"]["value"])
    assert (url.hostname, url.port) == ("127.0.0.1", SIDECAR["ports"][0]["containerPort"])
    assert url.path.split("/")[1] in policy().policy.upstreams
    assert secrets(AGENT) == {("agent-key", "key")}
    key = env["OPENAI_API_KEY"]["valueFrom"]["secretKeyRef"]
    assert key == variables(SIDECAR)["AGENT_KEY"]["valueFrom"]["secretKeyRef"]


def test_promise_10_no_secret_is_in_the_folder():
    sensitive = re.compile("(KEY|TOKEN|SECRET)(?!_FILE$)")
    for container in (SIDECAR, AGENT):
        assert all("value" not in one for name, one in variables(container).items() if sensitive.search(name))
    assert not any(load(name)["kind"] == "Secret" for name in KUSTOMIZATION["resources"])


def test_promise_11_the_agent_can_not_reach_into_the_sidecar():
    assert POD["automountServiceAccountToken"] is False
    assert POD["shareProcessNamespace"] is False
    assert SIDECAR["securityContext"]["runAsUser"] != AGENT["securityContext"]["runAsUser"]
    shared = {mount["name"] for mount in SIDECAR["volumeMounts"]} & {mount["name"] for mount in AGENT["volumeMounts"]}
    assert not shared


@pytest.mark.parametrize("container", [SIDECAR, AGENT], ids=["sidecar", "agent"])
def test_each_container_is_confined(container):
    context = container["securityContext"]
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container["resources"]["limits"]


def test_nobody_outside_is_admitted_to_the_pod():
    spec = load("network-policy.yaml")["spec"]
    labels = load("deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert spec["policyTypes"] == ["Ingress"]
    assert "ingress" not in spec


def test_every_image_is_set_in_one_place():
    assert {image["name"] for image in KUSTOMIZATION["images"]} == {SIDECAR["image"], AGENT["image"]}


# -- the image -------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    lines = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text("utf-8")).splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def of(name: str) -> list[str]:
    return [rest for word, rest in instructions() if word == name]


def test_what_the_image_copies_is_there_and_not_ignored():
    ignore = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text("utf-8").split()
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    stages = {rest.partition(" AS ")[2] for rest in of("FROM")}
    copied = set()
    for rest in of("COPY"):
        *sources, _ = rest.split()
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in stages
        else:
            copied |= set(sources)
    assert copied == let_in
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch(source, line) for source in copied for line in ignore if line[0] not in "!*")


def test_the_image_holds_every_package_and_what_its_metadata_names():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    packages = set(
        re.search(r"include = (\[.*\])", project)[1].replace('"', "").strip("[]").replace(" ", "").split(",")
    )
    copied = {source for rest in of("COPY") for source in rest.split()[:-1]}
    assert {package.removesuffix(".*") for package in packages} <= copied
    assert re.search(r'readme = "(.*)"', project)[1] in copied


def test_the_image_serves_as_nobody_from_its_volume():
    assert of("USER") == ["65532:65532"]
    assert f"{SIDECAR['securityContext']['runAsUser']}" == "65532"
    (entrypoint,), (command,) = of("ENTRYPOINT"), of("CMD")
    assert json.loads(entrypoint) == ["agent-ledger"]
    options = parser().parse_args(json.loads(command))
    assert str(options.data) == of("VOLUME")[0]
    assert str(options.port) == of("EXPOSE")[0]
    assert str(options.policy) == SIDECAR["args"][1]


def test_no_shell_runs_in_the_image():
    assert all(rest.startswith("[") for rest in of("RUN"))
    (check,) = of("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    compile(command[2], "HEALTHCHECK", "exec")
    url = urlsplit(re.search(r"http://[^']+", command[2])[0])
    assert url.path in ANY_HOST
    assert str(url.port) == of("EXPOSE")[0]
