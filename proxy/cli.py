"""The command `agent-ledger`: serve, check, explain, demo, what keeps a ledger (keeping.py), and the sidecar from a
terminal (terminal/)."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from policy.parse import PolicyError
from proxy import demo, keeping, terminal
from proxy.app import serve
from proxy.explanation import explain
from proxy.ledger.lookup import find_action
from proxy.ledger.port import LedgerError
from proxy.load import BUFFERED_MAX, CONNECTIONS_MAX
from proxy.logs import to_stderr
from proxy.loop import run
from proxy.rules import read_policy
from proxy.settings import Settings, Style
from proxy.terminal.client import TerminalError
from proxy.terminal.output import any_text_goes, reader_left
from proxy.tokens import METRICS_TOKEN_ENV, TokenError, Tokens, admin_source, token_source

log = logging.getLogger("agent_ledger")

_MIB = 1024 * 1024
_DRAIN_DELAY_MAX_S = 600


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 refused or failed (the message says why), 2 wrong usage, 130 Ctrl-C, 141 nobody reads."""
    options = parser().parse_args(argv)
    style = _log_style(options)
    any_text_goes()
    with to_stderr(style):
        try:
            status: int = options.run(options)
            sys.stdout.flush()
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            return reader_left()
        except PolicyError as error:
            return _refuse(style, error.render())
        except (LedgerError, TerminalError, TokenError, OSError, UnicodeError) as error:
            return _refuse(style, f"agent-ledger: {error}")
        except Exception as error:
            if style != "json":
                raise
            log.critical("ended by an error of its own", exc_info=error)
            return 1
    return status


def _log_style(options: argparse.Namespace) -> Style:
    """The commands that end by themselves are run by people; of serve, `--call-log` says it where `--log` doesn't."""
    asked: str = getattr(options, "log", "text")
    if asked == "auto":
        asked = "auto" if options.call_log == "off" else options.call_log
    return "text" if asked == "text" or (asked == "auto" and sys.stderr.isatty()) else "json"


def _refuse(style: Style, message: str, status: int = 1) -> int:
    """Say why nothing was done; the exit code."""
    if style == "json":
        log.critical("%s", message)
    else:
        print(message, file=sys.stderr)
    return status


def parser() -> argparse.ArgumentParser:
    """Every command and option; the README and the manifests are tested against it."""
    root = argparse.ArgumentParser(prog="agent-ledger", description="Budgets for autonomous agents, enforced inline.")
    root.add_argument("--version", action="version", version=f"%(prog)s {version('agent-ledger')}")
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("serve", help="run the sidecar")
    command.set_defaults(run=_serve)
    command.add_argument("policy", nargs="?", type=Path, default=Path("policy.yaml"), help="default: policy.yaml")
    _listening(command)
    command.add_argument("--data", type=Path, default=Path("data"), help="the ledger's folder (default: data)")
    command.add_argument("--agent", metavar="ID", help="make every call that carries no agent key this agent's")
    command.add_argument("--no-auth", action="store_true", help="open the API to all; loopback only")
    command.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="a Host, beside loopback ones, that the API and the dashboard answer for (repeatable)",
    )
    command.add_argument(
        "--max-connections",
        type=_positive,
        default=CONNECTIONS_MAX,
        metavar="N",
        help="clients' connections at once; calls on more of them get 503 (default: %(default)s)",
    )
    command.add_argument(
        "--max-buffered-mib",
        type=_positive,
        default=BUFFERED_MAX // _MIB,
        metavar="MIB",
        help="memory of the request bodies that prices have to read; calls above it get 503 (default: %(default)s)",
    )
    command.add_argument(
        "--drain-delay",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="after SIGTERM, serve on for so long while /readyz already answers 503 (default: 0)",
    )

    command.add_argument(
        "--log",
        choices=("auto", "json", "text"),
        default="auto",
        help="how the lines of the log look, on stderr (default: text at a terminal, else JSON)",
    )
    command.add_argument(
        "--call-log",
        choices=("auto", "json", "text", "off"),
        default="auto",
        help="a line for each call in the log (default: as --log)",
    )

    command = commands.add_parser("check", help="check a policy file, and say every problem at once")
    command.set_defaults(run=_check)
    command.add_argument("policy", type=Path)

    terminal.add_commands(commands)
    keeping.add_commands(commands)

    command = commands.add_parser("explain", help="show how the charge of one action came about")
    command.set_defaults(run=_explain)
    command.add_argument("action", metavar="ACTION_ID")
    command.add_argument("--data", type=Path, default=Path("data"), help="the ledger's folder (default: data)")

    command = commands.add_parser("demo", help="the stand-in upstream and three agents that spend, for a first look")
    command.set_defaults(run=_demo)
    _listening(command)
    return root


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    if not 0 <= (number := float(text)) <= _DRAIN_DELAY_MAX_S:
        raise argparse.ArgumentTypeError(f"must be from 0 to {_DRAIN_DELAY_MAX_S}")
    return number


def _listening(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    command.add_argument("--port", type=int, default=8080, help="default: 8080")


def _serve(options: argparse.Namespace) -> int:
    style = _log_style(options)
    if options.no_auth and (problem := _no_auth_problem(options.host)):
        return _refuse(style, f"agent-ledger: --no-auth {problem}", 2)
    options.data.mkdir(parents=True, exist_ok=True)
    admin_token, admin_token_file = admin_source(options.data, os.environ)
    metrics_token, metrics_token_file = token_source(os.environ, METRICS_TOKEN_ENV)
    settings = Settings(
        policy=options.policy,
        data=options.data,
        host=options.host,
        port=options.port,
        agent=options.agent,
        no_auth=options.no_auth,
        allow_hosts=frozenset(host.lower() for host in options.allow_host),
        admin_token=admin_token,
        admin_token_file=admin_token_file,
        metrics_token=metrics_token,
        metrics_token_file=metrics_token_file,
        connections_max=options.max_connections,
        buffered_max=options.max_buffered_mib * _MIB,
        drain_delay_s=options.drain_delay,
        call_log=None if options.call_log == "off" else style if options.call_log == "auto" else options.call_log,
    )
    run(serve(settings, lambda url: _greet(settings, url, style)))
    return 0


def _no_auth_problem(host: str) -> str | None:
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "is refused in Kubernetes: every pod could command the sidecar"
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return None if loopback else f"is for loopback only, and --host is {host}"


def _greet(settings: Settings, url: str, style: Style) -> None:
    """Where it listens; the admin token goes to a terminal only, a log gets the path of its file."""
    log.info("agent-ledger %s serves %s at %s", version("agent-ledger"), settings.policy, url)
    if settings.no_auth:
        log.warning("--no-auth: whoever reaches %s commands it; dashboard at %s/", url, url)
    elif style == "text" and sys.stderr.isatty():
        token = Tokens(settings.admin_token, settings.admin_token_file).held()[0]
        print(f"\n  dashboard    {url}/\n  admin token  {token}\n", file=sys.stderr)
    else:
        source = f"in {settings.admin_token_file}" if settings.admin_token_file else "from AGENT_LEDGER_ADMIN_TOKEN"
        log.info("dashboard at %s/, admin token %s", url, source)


def _check(options: argparse.Namespace) -> int:
    parsed = read_policy(options.policy)
    if parsed.warnings:
        print(parsed.render(), file=sys.stderr)
    policy = parsed.policy
    print(
        f"{options.policy}: ok, {len(policy.upstreams)} upstreams, {len(policy.agents)} agents, "
        f"{len(policy.prices)} prices, {len(policy.budgets)} budgets, {len(policy.limits)} limits, "
        f"{len(parsed.warnings)} warnings"
    )
    return 0


def _explain(options: argparse.Namespace) -> int:
    action = find_action(options.data, options.action)
    if action is None:
        print(f"agent-ledger: {options.data} holds no action {options.action}", file=sys.stderr)
        return 1
    print(explain(action), end="")
    return 0


def _demo(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="agent-ledger-demo-") as folder:
        policy = Path(folder, "policy.yaml")
        policy.write_text(demo.policy_text(), "utf-8")
        admin_token, admin_token_file = admin_source(Path(folder), os.environ)
        settings = Settings(
            policy,
            Path(folder, "data"),
            options.host,
            options.port,
            no_auth=_no_auth_problem(options.host) is None,  # play money: nothing to sign in for
            admin_token=admin_token,
            admin_token_file=admin_token_file,
        )
        run(serve(settings, lambda url: _greet(settings, url, "text"), demo.simulate))
    return 0
