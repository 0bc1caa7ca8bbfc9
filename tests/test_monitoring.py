"""What deploy/ gives Prometheus and Grafana must be of metrics and labels that a sidecar really has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from policy.decide import STATUS
from proxy.loop import run
from proxy.metrics.labels import OUTCOMES, REJECTED
from tests.sidecar import ADMIN_HEADERS, in_process
from tests.test_deploy import BASE, KUBERNETES, POD, ROOT, SIDECAR, load

PROMETHEUS = ROOT / "deploy/prometheus"
COMPONENT = ROOT / "deploy/kubernetes/components/prometheus"
DASHBOARD = json.loads((ROOT / "deploy/grafana/agent-ledger.json").read_text("utf-8"))
RULES = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text("utf-8"))
ALERTS = RULES["groups"][0]["rules"]
OF_PROMETHEUS = {"up": frozenset[str]()}  # what it says of a target by itself
OF_TARGETS = {"job", "instance"}
README = (ROOT / "README.md").read_text("utf-8")
WORD = re.compile(r"`(\w+)`")
KNOWN = {"reason": set(STATUS), "code": set(REJECTED), "outcome": set(OUTCOMES)}

POLICY = """
version: 1
upstreams: {up: {url: "http://127.0.0.1:1"}}
agents: [{id: worker, monthly_budget: 10}]
prices: [{name: flat, rates: {request: 0.01}}]
budgets: [{name: day, each: agent, amount: 1, period: day}]
"""


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The answer of /metrics of a sidecar that has seen each kind of thing."""
    folder = tmp_path_factory.mktemp("monitoring")
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    answers = []

    async def scrape() -> None:
        async with (
            in_process(policy, folder / "data") as (app, url),
            httpx.AsyncClient(headers=ADMIN_HEADERS) as client,
        ):
            app.sidecar.metrics.timed("up", 1.0, 2.0, 3.0, 4.0)
            app.sidecar.metrics.deliveries["ops", "delivered"] += 1
            answers.append((await client.get(f"{url}/metrics")).raise_for_status().text)

    run(scrape())
    return answers[0]


@pytest.fixture(scope="module")
def metrics(exposed: str) -> dict[str, frozenset[str]]:
    """The labels of each metric's samples."""
    samples = [sample for family in text_string_to_metric_families(exposed) for sample in family.samples]
    return OF_PROMETHEUS | {sample.name: frozenset(sample.labels) for sample in samples}


# -- expressions -----------------------------------------------------------------------------------------------------
def parts(expression: Any) -> Iterator[Any]:
    """It, and all that it is made of."""
    yield expression
    for name in ("lhs", "rhs", "expr", "args", "vector_selector", "param"):
        inner = getattr(expression, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if each is not None:
                yield from parts(each)


def labels_named(expression: Any) -> Iterator[str]:
    """By what is grouped and joined."""
    modifier = getattr(expression, "modifier", None)
    if isinstance(expression, promql_parser.AggregateExpr) and modifier is not None:
        yield from modifier.labels
    if isinstance(expression, promql_parser.BinaryExpr) and modifier is not None:
        for side in (modifier.matching, getattr(modifier.card, "labels", None), modifier.group_labels):
            yield from getattr(side, "labels", side) or ()


def problems(text: str, metrics: dict[str, frozenset[str]]) -> list[str]:
    """What in a PromQL expression no metric has."""
    found = []
    labels = set(OF_TARGETS) | {"le"}
    expression = promql_parser.parse(text)
    for part in parts(expression):
        if isinstance(part, promql_parser.VectorSelector):
            if part.name not in metrics:
                found.append(f"no metric {part.name}")
                continue
            labels |= metrics[part.name]
            for matcher in part.matchers.matchers:
                if matcher.name not in metrics[part.name] | OF_TARGETS:
                    found.append(f"{part.name} has no label {matcher.name}")
                if matcher.value and "$" not in matcher.value and matcher.value not in KNOWN.get(matcher.name, ()):
                    found.append(f"no {matcher.name} is {matcher.value}")
    for part in parts(expression):
        found += [f"nothing is labeled {name}" for name in labels_named(part) if name not in labels]
    return found


def rule_expressions() -> list[tuple[str, str]]:
    return [(rule["alert"], rule["expr"]) for rule in ALERTS]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> list[tuple[str, str]]:
    """Of panels and annotations, with Grafana's own variables set."""
    named = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    named += [(each["name"], each["expr"]) for each in DASHBOARD["annotations"]["list"] if "expr" in each]
    return [(title, re.sub(r"\$__(rate_interval|range)\b", "5m", expr)) for title, expr in named]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=f"{name} {number}")
        for number, (name, text) in enumerate([*rule_expressions(), *dashboard_expressions()])
    ],
)
def test_every_expression_is_of_metrics_and_labels_that_there_are(text, metrics):
    assert problems(text, metrics) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sum(agent_ledger_cals_total)", "no metric agent_ledger_cals_total"),
        ('rate(agent_ledger_calls_total{reason="x"}[5m])', "agent_ledger_calls_total has no label reason"),
        ('agent_ledger_denials_total{reason="nope"}', "no reason is nope"),
        ("sum by (upstrem) (agent_ledger_calls_total)", "nothing is labeled upstrem"),
        ("agent_ledger_ledger_ok * on (pod) agent_ledger_build_info", "nothing is labeled pod"),
        ("agent_ledger_ledger_ok * on (job) group_left (vers) agent_ledger_build_info", "nothing is labeled vers"),
    ],
)
def test_and_a_wrong_one_is_found(text, problem, metrics):
    assert problem in problems(text, metrics)


# -- alert rules -----------------------------------------------------------------------------------------------------
def test_every_alert_says_what_it_is_and_how_bad_and_has_a_test():
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("AgentLedger") for name in names)
    assert {rule["labels"]["severity"] for rule in ALERTS} == {"critical", "warning", "info"}
    assert all(rule["annotations"]["summary"] for rule in ALERTS)
    tests = yaml.safe_load((PROMETHEUS / "rules.test.yaml").read_text("utf-8"))["tests"]
    fired = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each["exp_alerts"]}
    assert fired == set(names)


def test_the_readmes_table_has_every_metric_and_its_labels(metrics):
    table = README[README.index("## Metrics") : README.index("## The log")]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    told = {name: set(WORD.findall(labels)) for names, labels in rows for name in WORD.findall(names)}
    found: dict[str, set[str]] = {}
    for name, labels in metrics.items():
        if name.startswith("agent_ledger_"):
            short = re.sub(r"_(bucket|count|sum)$", "", name.removeprefix("agent_ledger_"))
            found.setdefault(short, set()).update(labels - {"le"})
    assert told == found


def promtool(*arguments: str, given: str = "") -> None:
    assert shutil.which("promtool"), "these tests need promtool: it comes with Prometheus, and .ci/run installs it"
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.count("FAILED")) == (0, 0), done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", [["check", "rules", "rules.yaml"], ["test", "rules", "rules.test.yaml"]], ids=["check", "test"]
)
def test_promtool_accepts_the_rules_and_each_fires_when_it_should(arguments, monkeypatch):
    monkeypatch.chdir(PROMETHEUS)
    promtool(*arguments)


def test_promtool_accepts_the_configuration():
    promtool("check", "config", "--syntax-only", str(PROMETHEUS / "prometheus.yaml"))


def test_promtool_finds_no_fault_in_the_metrics(exposed):
    promtool("check", "metrics", given=exposed)


# -- Grafana ---------------------------------------------------------------------------------------------------------
def test_the_dashboard_is_one_that_grafana_imports():
    assert (DASHBOARD["id"], DASHBOARD["title"], DASHBOARD["uid"]) == (None, "Agent Ledger", "agent-ledger")
    assert DASHBOARD["schemaVersion"] >= 36
    source, *_ = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Money", "Calls and denials", "Latency", "Health"]


def test_every_panel_says_what_it_shows_and_takes_the_chosen_source():
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names)
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"], panel["title"]


def test_no_panel_lies_over_another():
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


# -- Kubernetes ------------------------------------------------------------------------------------------------------
def part(name: str) -> dict[str, Any]:
    return yaml.safe_load((COMPONENT / name).read_text("utf-8"))


def patched(base: Any, patch: Any) -> Any:
    """As a strategic merge has it: mappings key by key, lists of the named (and of mounts) item by item."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {name: patched(base.get(name), value) for name, value in patch.items()}
    if isinstance(base, list) and isinstance(patch, list):
        key = next(key for key in ("mountPath", "name") if all(key in each for each in patch))
        held = {each[key]: each for each in base}
        return list((held | {each[key]: patched(held.get(each[key]), each) for each in patch}).values())
    return patch


def test_every_file_is_part_of_the_component_and_the_overlay_takes_it():
    component = part("kustomization.yaml")
    named = {*component["resources"], *(patch["path"] for patch in component["patches"]), "kustomization.yaml"}
    assert {path.name for path in COMPONENT.iterdir()} == named
    overlay = ROOT / "deploy/kubernetes/overlays/monitored"
    taken = yaml.safe_load((overlay / "kustomization.yaml").read_text("utf-8"))
    assert [(overlay / path).resolve() for path in taken["resources"]] == [BASE]
    assert [(overlay / path).resolve() for path in taken["components"]] == [COMPONENT]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize(
    ("base", "patch"), [("deployment.yaml", "metrics-token.yaml"), ("network-policy.yaml", "admit-prometheus.yaml")]
)
def test_what_it_patches_is_there_and_valid_after(version, base, patch):
    before, changes = load(base), part(patch)
    assert [changes[key] for key in ("apiVersion", "kind")] == [before[key] for key in ("apiVersion", "kind")]
    assert changes["metadata"]["name"] == before["metadata"]["name"]
    kubernetes_validate.validate(patched(before, changes), version, strict=True)


def test_prometheus_and_the_sidecar_hold_the_same_token():
    endpoint = part("pod-monitor.yaml")["spec"]["podMetricsEndpoints"][0]
    pod = patched({"spec": {"template": {"spec": POD}}}, part("metrics-token.yaml"))["spec"]["template"]["spec"]
    assert len(pod["initContainers"]) == len(POD["initContainers"]), "it patches the sidecar, and adds no container"
    sidecar = pod["initContainers"][0]
    variable = next(one for one in sidecar["env"] if one["name"] == "AGENT_LEDGER_METRICS_TOKEN_FILE")
    file = Path(variable["value"])
    mount = next(one for one in sidecar["volumeMounts"] if one["mountPath"] == str(file.parent))
    volume = next(one for one in pod["volumes"] if one["name"] == mount["name"])["secret"]
    [item] = volume["items"]
    assert item["path"] == file.name
    assert {"name": volume["secretName"], "key": item["key"]} == endpoint["authorization"]["credentials"]
    admins = next(one for one in POD["volumes"] if one["name"] == "admin-token")["secret"]["secretName"]
    assert volume["secretName"] != admins, "Prometheus reads this secret"


def test_prometheus_finds_the_pod_and_is_let_in():
    spec = part("pod-monitor.yaml")["spec"]
    [endpoint] = spec["podMetricsEndpoints"]
    [port] = [port for port in SIDECAR["ports"] if port["name"] == endpoint["port"]]
    assert endpoint["path"] == "/metrics"
    labels = load("deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    [rule] = part("admit-prometheus.yaml")["spec"]["ingress"]
    assert [each["port"] for each in rule["ports"]] == [port["containerPort"]]
    assert all({"namespaceSelector", "podSelector"} == each.keys() for each in rule["from"]), "not all of a namespace"


def test_the_operators_rules_are_the_rules():
    assert part("rules.yaml")["spec"] == RULES
