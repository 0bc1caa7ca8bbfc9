"""The house's own rules: imports go down only, policy/ is pure, modules stay small."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
IMPURE = {"os", "sys", "pathlib", "time", "socket", "asyncio", "threading", "random", "httpx", "starlette", "tinydb"}

# Who may import whom: a module of one floor imports from its own and from those below it.
FLOORS = [
    {"proxy.__main__"},
    {"proxy.cli"},
    {"proxy.app"},
    {"proxy.api", "proxy.dashboard", "proxy.gate", "proxy.demo", "proxy.keeping", "proxy.terminal"},
    {"proxy.exchange", "proxy.whatif"},
    {"proxy.quote", "proxy.receive", "proxy.identify", "proxy.access", "proxy.request"},
    {"proxy.places", "proxy.attendance", "proxy.export"},
    {
        "proxy.notify",
        "proxy.state",
        "proxy.denials",
        "proxy.metrics",
        "proxy.explanation",
        "proxy.tariffs",
        "proxy.calllog",
    },
    {"proxy.rules"},
    {"proxy.forward", "proxy.metering", "proxy.ledger", "proxy.headers", "proxy.standin"},
    {"proxy.server"},
    {"proxy.protocol"},
    {"proxy.call"},
    {"proxy.answering"},
    {"proxy.logs"},
    {"proxy.settings", "proxy.tokens", "proxy.jsontext", "proxy.forms", "proxy.framing", "proxy.rewriting"},
    {"proxy.load", "proxy.breaker", "proxy.loop", "proxy.lookups", "proxy.transport", "proxy.visible"},
    {"policy"},
]


def modules():
    for folder in ("policy", "proxy"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.parse(path.read_text("utf-8"))


def imports(tree):
    """Every module that is imported at run time (those under TYPE_CHECKING only name types)."""
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name):
    parts = name.split(".")
    for depth in range(len(parts), 0, -1):
        for number, members in enumerate(FLOORS):
            if ".".join(parts[:depth]) in members:
                return number
    return None


def test_every_module_has_a_floor():
    unplaced = [name for name, _ in modules() if name not in ("proxy",) and floor(name) is None]
    assert not unplaced


def test_imports_go_down_only():
    upward = [
        f"{name} imports {imported}"
        for name, tree in modules()
        for imported in imports(tree)
        if imported.split(".")[0] in ("proxy", "policy")
        and floor(imported) is not None
        and floor(imported) < floor(name)
    ]
    assert not upward


def test_api_dashboard_and_gate_do_not_know_each_other():
    wings = ["proxy.api", "proxy.dashboard", "proxy.gate"]
    crossing = [
        f"{name} imports {imported}"
        for name, tree in modules()
        for imported in imports(tree)
        for wing in wings
        if imported.startswith(wing) and any(name.startswith(other) for other in wings if other != wing)
    ]
    assert not crossing


def test_policy_is_pure():
    impure = [
        f"{name} imports {imported}"
        for name, tree in modules()
        if name.split(".")[0] == "policy"
        for imported in imports(tree)
        if imported.split(".")[0] in IMPURE | {"proxy"}
    ]
    assert not impure


def test_modules_stay_small():
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in ROOT.glob("p*/**/*.py")}
    assert {str(path): length for path, length in lengths.items() if length > 450} == {}
