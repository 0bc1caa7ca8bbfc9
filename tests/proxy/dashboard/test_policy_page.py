from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from html import escape, unescape
from pathlib import Path
from string import ascii_letters, digits
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.money import format_usd
from policy.parse import parse_policy
from proxy import whatif
from proxy.dashboard.frame import Frame
from proxy.dashboard.policy import ROWS_SHOWN, _shown
from proxy.dashboard.rendering import render
from proxy.dashboard.trying import FORM_MAX_BYTES, Typed
from proxy.jsontext import loads
from proxy.ledger.port import Health
from proxy.rules import Rules
from tests.sidecar import ADMIN_HEADERS, in_process

ROOT = Path(__file__).parents[3]
POLICIES = [*sorted((ROOT / "config").glob("*.yaml")), ROOT / "proxy/demo.yaml"]
POLICY = """\
version: 1
defaults: {timezone: Europe/Berlin}
upstreams:
  openai:
    url: https://api.openai.com
    set_headers: {authorization: "Bearer sk-very-secret"}
  tools: {url: "http://127.0.0.1:8931", meter: mcp}
agents:
  - id: painter
    name: Painter
    role: Pictures
    owner_id: design
    monthly_budget: 20.00
    per_action_limit: 1.00
    key: alk_painter_key
  - {id: poor, name: Poor, monthly_budget: 0.00}
prices:
  - name: deal
    match: {upstream: openai, method: POST, body: {model: "gpt-4o*"}}
    rates: [{input_mtok: 2.50, output_mtok: 10.00}, {from: 2099-01-01, input_mtok: 2.00, output_mtok: 8.00}]
  - {name: models, match: {upstream: openai, method: POST}, rates: catalog}
  - name: search
    match: {upstream: tools, path: /mcp, body: {method: tools/call, params.name: web_search}}
    rates: {request: 0.01}
  - name: upload
    match: {upstream: tools, path: /upload}
    usage: {bytes: {measured: request_bytes}}
    rates: {bytes: 0.01}
budgets:
  - {name: everyone-day, amount: 50.00, period: day, timezone: Asia/Tokyo, mode: shadow}
limits:
  - {name: parallel, each: agent, concurrent: 8}
alerts:
  webhooks: [{url: "https://hooks.example/services/very-secret"}]
"""
SECRETS = ("sk-very-secret", "alk_painter_key", "services/very-secret")
CHAT = '{"model": "gpt-4o-mini", "max_tokens": 1000, "messages": [{"role": "user", "content": "a private prompt"}]}'
CALL = {"upstream": "openai", "method": "POST", "path": "/v1/chat/completions"}


class Served:
    """A real sidecar, its policy file, and the admin's browser."""

    def __init__(self, sidecar, policy: Path, http: httpx.AsyncClient) -> None:
        self.sidecar, self.policy, self.http = sidecar, policy, http

    async def page(self, query: str = "") -> str:
        answer = await self.http.get(f"/ui/policy{query}")
        assert answer.status_code == 200
        return answer.text

    async def post(self, path: str, fields: dict[str, str] | None = None) -> httpx.Response:
        token = re.search(r'name="form_token" value="(\w+)"', await self.page())[1]
        return await self.http.post(path, data={"form_token": token, "back": "/ui/policy"} | (fields or {}))

    async def tried(self, **fields: str) -> httpx.Response:
        return await self.post("/ui/policy/try", CALL | fields)


@pytest.fixture
async def served(tmp_path, request) -> AsyncIterator[Served]:
    policy = tmp_path / "policy.yaml"
    policy.write_text(getattr(request, "param", POLICY))
    async with (
        in_process(policy, tmp_path / "data") as (app, url),
        httpx.AsyncClient(base_url=url, headers=ADMIN_HEADERS | {"origin": url}) as http,
    ):
        yield Served(app.sidecar, policy, http)


def text_of(html: str) -> str:
    """The words of a piece of a page, a space apart."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def part(page: str, name: str) -> str:
    return text_of(re.split(rf'id="{name}"[ >]', page, maxsplit=1)[1].partition("</section>")[0])


# -- what is in force --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("served", [path.read_text() for path in POLICIES], indirect=True, ids=lambda text: "")
async def test_every_policy_we_ship_is_shown_whole(served):
    page = text_of(await served.page())
    policy = served.sidecar.policy_file.rules.policy
    assert policy.hash in page
    names = [*policy.upstreams, *policy.agents, *(agent.name for agent in policy.agents.values())]
    names += [each.name for each in (*policy.prices, *policy.budgets, *policy.limits)]
    names += [glob for price in policy.prices for glob in price.match.paths]
    names += [format_usd(each.amount) for each in policy.budgets]
    for name in names:
        assert name in page, name


async def test_it_says_what_is_in_force_and_since_when(served):
    page = await served.page()
    force = part(page, "force")
    policy_file = served.sidecar.policy_file
    assert f"File {served.policy} Hash {policy_file.rules.policy.hash} In force since" in force
    assert "Last reload succeeded" in force
    since = datetime.fromtimestamp(policy_file.loaded_at / 1000, UTC).isoformat(timespec="seconds")
    assert f'<dd><time datetime="{since}">' in page
    for warning in policy_file.rules.warnings:
        assert warning in force


async def test_its_parts_stand_in_readable_tables(served):
    page = await served.page()
    prices = part(page, "prices")
    assert "1 deal upstream openai method POST body model gpt-4o* at first now input tokens $2.50 / million" in prices
    assert "from 2099-01-01 input tokens $2.00 / million output tokens $8.00 / million" in prices
    assert "2 models upstream openai method POST by model, from genai-prices' catalog" in prices
    assert (
        "3 search upstream tools path /mcp body method tools/call body params.name web_search request $0.01" in prices
    )
    assert "openai https://api.openai.com openai openai authorization" in part(page, "upstreams")
    assert "everyone-day shadow $50.00 a day, Asia/Tokyo every call" in part(page, "budgets")
    assert "parallel 8 at once every call each agent apart" in part(page, "limits")
    assert "Painter painter Pictures design $20.00 $1.00 the file's" in part(page, "named")
    assert "timezone Europe/Berlin" in part(page, "defaults")
    assert "hooks.example json all" in part(page, "alerting")


@pytest.mark.parametrize("served", ["version: 1\n"], indirect=True)
async def test_an_empty_policy_says_what_to_write_first(served):
    page = await served.page()
    for text in ("The policy names no upstream yet.", "No price: every call is unpriced.", "None. To bound"):
        assert text in page
    assert "<textarea" not in page


LONG = "".join(f"  - {{name: p{n}, match: {{path: /{n}}}, rates: {{request: 1}}}}\n" for n in range(ROWS_SHOWN + 3))


@pytest.mark.parametrize("served", [f"version: 1\nprices:\n{LONG}"], indirect=True, ids=["long"])
async def test_a_page_is_bounded_however_long_the_file(served):
    page = await served.page()
    assert page.count('id="price-') == ROWS_SHOWN
    assert "and 3 more" in part(page, "prices")


# -- reload ------------------------------------------------------------------------------------------------------------


async def test_a_reload_puts_the_changed_file_in_force(served):
    served.policy.write_text(POLICY.replace("amount: 50.00", "amount: 60.00"))
    answer = await served.post("/ui/policy/reload")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/policy?reloaded=yes")
    page = await served.page("?reloaded=yes")
    assert "$60.00" in part(page, "budgets")
    assert 'role="status">The file was read' in page


async def test_a_reload_that_fails_shows_its_carets_and_changes_nothing(served):
    before = served.sidecar.policy_file.rules
    broken = POLICY.replace("period: day", "period: dya").replace("50.00", "60.00").replace("sk-very", "sk-most")
    served.policy.write_text(broken)
    answer = await served.post("/ui/policy/reload")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/policy")
    page = await served.page("?reloaded=yes")
    assert served.sidecar.policy_file.rules is before
    assert "$50.00" in part(page, "budgets")
    assert "Last reload refused at" in part(page, "force")
    assert "The file was read" not in page
    shown_lines = unescape(page.partition('role="alert"')[2].partition("</pre>")[0])
    found = re.search(r"policy\.yaml:(\d+):(\d+): .*'dya'.*\n( *\d+ \| )(.*)\n( *\| )( *)\^", shown_lines)
    assert found, shown_lines
    assert broken.splitlines()[int(found[1]) - 1] == found[4]
    assert found[4][len(found[6]) :].startswith("dya")
    assert int(found[2]) == len(found[6]) + 1
    assert len(found[3]) == len(found[5])
    assert "sk-most" not in page
    served.policy.write_text(POLICY)
    await served.post("/ui/policy/reload")
    page = await served.page()
    assert 'role="alert"' not in page
    assert "Last reload succeeded" in part(page, "force")


async def test_a_reload_of_a_file_that_is_gone_is_told(served):
    served.policy.unlink()
    assert (await served.post("/ui/policy/reload")).status_code == 303
    assert "No such file" in (await served.page()).partition('role="alert"')[2]


# -- the try-it form ---------------------------------------------------------------------------------------------------


TRIED = {
    "allowed": {"body": CHAT, "agentId": "painter"},
    "no agent": {"body": CHAT},
    "per action": {"body": '{"model": "gpt-4o", "max_tokens": 200000}', "agentId": "painter"},
    "no budget": {"body": CHAT, "agentId": "poor"},
    "the catalog's": {"body": '{"model": "gpt-4.1", "max_tokens": 5}', "agentId": "painter"},
    "unknown model": {"body": '{"model": "gpt-99"}', "agentId": "painter"},
    "a tool": {
        "upstream": "tools", "path": "/mcp", "body": '{"method": "tools/call", "params": {"name": "web_search"}}',
    },
    "no price": {"upstream": "tools", "path": "/mcp", "body": '{"method": "tools/list"}', "agentId": "painter"},
    "no body": {"method": "GET", "path": "/v1/models", "agentId": "painter"},
    "each byte": {"upstream": "tools", "path": "/upload", "body": '{\n  "name": "a\\nb"\n}\n\n'},
    "blank": {"method": "GET", "path": "/v1/models", "body": ""},
}  # fmt: skip


@pytest.mark.parametrize("fields", TRIED.values(), ids=TRIED.keys())
async def test_it_says_what_explain_says(served, fields):
    told = loads((await served.http.post("/api/explain", json=CALL | fields)).content)
    form = {"agent" if name == "agentId" else name: value for name, value in fields.items()}
    form["body"] = form.get("body", "").replace("\n", "\r\n")  # as browsers send it
    answer = await served.tried(**form)
    assert answer.status_code == 200
    said = text_of(answer.text.partition('id="answer"')[2].partition('id="prices"')[0])
    assert f"Target {told['target']}" in said
    assert f"Model {told['model'] or 'none named'}" in said
    assert f"Price {told['price'] or 'none'} Target" in said
    if told["estimate"] is None:
        assert "Estimate none" in said
    else:
        assert f"{told['estimate']:f}" in said.partition("Total, rounded up")[2].partition("Prices asked")[0]
    for kind, quantity in told["usage"].items():
        if kind != "request" or "request" in told["rates"]:
            assert f"{kind} {quantity:,}" in said
    for miss in told["misses"]:
        assert f"{miss['price']} {miss['reason']}" in said
    if told["price"]:
        assert f"{told['price']} matches" in said
    decision = told["decision"]
    if decision is None:
        assert "no agent It may cost up to" in said or "no agent No price" in said
    elif decision["allowed"]:
        assert "allowed" in said
        assert "denied" not in said
    else:
        assert f"denied {decision['reason'].replace('_', ' ')}" in said
        assert decision["message"].removeprefix("Agent Ledger: ")[1:] in said
        assert (f"Budget {decision['budget']}" in said) == bool(decision["budget"])
        assert ("Resets" in said) == bool(decision["resetsAt"])
    assert (await served.http.get("/api/reservations")).json() == []
    assert (await served.http.get("/api/actions")).json()["items"] == []


async def test_a_path_matches_without_its_query(served):
    body = '{"method": "tools/call", "params": {"name": "web_search"}}'
    page = (await served.tried(upstream="tools", path="/mcp?session=1", body=body)).text
    assert "search matches" in text_of(page)
    assert 'name="path" value="/mcp?session=1"' in page


async def test_the_arithmetic_adds_up(served):
    page = (await served.tried(body=CHAT)).text
    told = loads((await served.http.post("/api/explain", json=CALL | {"body": CHAT})).content)
    rows = [
        [text_of(cell).partition(" ")[0].replace(",", "") for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in page.partition('class="sum"')[2].partition("</tbody>")[0].split("<tr>")[2:]
    ]
    assert [row[0] for row in rows] == ["input_tokens", "output_tokens"]
    amounts = [Decimal(quantity) * Decimal(rate) / Decimal(per) for _, quantity, rate, per, _ in rows]
    assert amounts == [Decimal(row[4]) for row in rows]
    assert sum(amounts) <= told["estimate"] < sum(amounts) + Decimal("1e-9")


WRONG = {
    "upstream": ({"upstream": "opnai"}, "Choose one of the policy&#39;s upstreams."),
    "method": ({"method": "BREW"}, "Choose one of POST"),
    "path": ({"path": "v1/chat"}, "A path begins with /"),
    "agent": ({"agent": "nobody"}, "No agent has this id."),
    "body": ({"body": '{"model": "a", "model": "b"}'}, "The request body must be plain JSON"),
}


@pytest.mark.parametrize(("name", "fields", "message"), [(name, *wrong) for name, wrong in WRONG.items()])
async def test_what_is_wrong_is_told_at_its_field_and_what_was_typed_is_kept(served, name, fields, message):
    typed = {"path": "/v1/<b>?q=1", "agent": "painter", "body": '{"model": "<i>\u202e"}\n'} | fields
    answer = await served.tried(**typed)
    assert answer.status_code == 422
    page = answer.text
    assert re.search(rf'<p class="wrong" id="wrong-{name}">{message}', page)
    assert re.search(rf'name="{name}"[^>]* aria-invalid="true" aria-describedby="wrong-{name}"', page)
    assert page.count('class="wrong"') == 1
    assert f'name="path" value="{escape(typed["path"])}"' in page
    assert f'name="agent" value="{escape(typed["agent"])}"' in page
    assert escape(typed["body"]).replace("&quot;", "&#34;") in page.partition("<textarea")[2]
    assert re.search(rf'<option( value="{typed.get("upstream", "openai")}")? selected>', page) or name == "upstream"
    if name == "upstream":
        assert '<option value="opnai" selected>opnai</option>' in page
    assert "Nothing was worked out" in page


async def test_promise_10_the_body_is_neither_logged_nor_kept(served, caplog, tmp_path):
    with caplog.at_level(logging.DEBUG):
        await served.tried(body=CHAT, agent="painter")
        await served.tried(body=CHAT[:-1], agent="painter")
    assert "a private prompt" not in caplog.text
    held = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert held
    assert not [path for path in held if b"a private prompt" in path.read_bytes()]


async def test_a_large_body_is_worked_out_beside_the_loop(served, monkeypatch):
    threads = []
    quote = whatif.quote
    monkeypatch.setattr(whatif, "quote", lambda *given: threads.append(threading.get_ident()) or quote(*given))
    body = CHAT.replace("a private prompt", "word " * 50_000)
    answer = await served.tried(body=body, agent="painter")
    assert (answer.status_code, "allowed" in answer.text) == (200, True)
    assert threads
    assert threading.get_ident() not in threads
    assert (await served.tried(body="x" * FORM_MAX_BYTES)).status_code == 413


async def test_a_url_fills_the_form_and_examples_do(served):
    page = await served.page("?upstream=tools&method=PUT&path=/a%22b&agent=painter&body=%7B%7D")
    assert '<option value="tools" selected>' in page
    assert "<option selected>PUT</option>" in page
    assert 'name="path" value="/a&#34;b"' in page
    assert re.search(r"<textarea[^>]*>\n\{\}</textarea>", page)
    links = [unescape(link) for link in re.findall(r'href="(/ui/policy\?[^"]*)#try"', page)]
    assert len(links) == 2
    for link in links:
        filled = (await served.http.get(link)).text
        fields = dict(re.findall(r'<input id="\w+" name="(\w+)" value="([^"]+)"', filled))
        body = unescape(re.search(r"<textarea[^>]*>\n(.*?)</textarea>", filled, re.DOTALL)[1])
        upstream = re.search(r'<option value="(\w+)" selected>', filled)[1]
        tried = (await served.tried(upstream=upstream, path=fields["path"], body=body)).text
        assert "It may cost up to" in tried


async def test_the_forms_page_answers_to_who_comes_back_to_it(served):
    assert (await served.http.get("/ui/policy/try")).status_code == 200


# -- secrets, hostile text, refusals -----------------------------------------------------------------------------------


async def test_promise_10_no_secret_of_the_policy_is_on_the_page(served):
    pages = [
        await served.page(),
        (await served.tried(body=CHAT, agent="painter")).text,
        (await served.tried(path="")).text,
    ]
    for secret in SECRETS:
        assert not [page for page in pages if secret in page]


TOKEN = st.text(ascii_letters + digits, min_size=12, max_size=40)
FRAME = Frame("policy", "/ui/policy", 0, ZoneInfo("UTC"), "t", False, 0, [], [], Health(True, "", 0, ""), "v")


class Stub:
    def __init__(self, policy) -> None:
        rules = Rules(policy, None, None, ())
        self.ledger, self.policy_file = self, self
        self.rules, self.path, self.loaded_at, self.failed_at, self.error = rules, Path("policy.yaml"), 0, None, None

    def agents(self):
        return []


@settings(max_examples=10, deadline=None)
@given(secrets=st.lists(TOKEN, min_size=6, max_size=6, unique=True))
def test_promise_10_whatever_the_secrets_are_none_is_shown(secrets):
    key, header, value, path, query, env = secrets
    text = f"""\
version: 1
upstreams:
  one:
    url: https://one.example
    set_headers: {{x-one: "{value}", authorization: "Bearer {header}", x-two: "${{env:TWO}}"}}
agents:
  - {{id: a, name: A, monthly_budget: 1, key: alk_{key}}}
alerts: {{webhooks: [{{url: "https://h.example/{path}?k={query}"}}, {{url: "https://g.example:99/{path}"}}]}}
"""
    policy = parse_policy(text, name="policy.yaml", env={"TWO": env}, read_file=str).policy
    shown_page = asyncio.run(_shown(Stub(policy), 0, form=Typed()))
    page = render(shown_page.template, frame=FRAME, page_path="/", **shown_page.values).body.decode()
    assert "x-one" in page
    assert "h.example" in page
    for secret in secrets:
        assert secret not in page


SCRIPT = "<script>alert(1)</script>"
HOSTILE = f"{SCRIPT}\r\u202e"


NAMED = POLICY
for text in ("Painter", "Pictures", "design", '"gpt-4o*"', "web_search"):
    NAMED = NAMED.replace(f" {text}", f' "{SCRIPT}"')


@pytest.mark.parametrize("served", [NAMED], indirect=True, ids=["hostile"])
async def test_hazard_32_hostile_texts_are_shown_escaped(served):
    page = await served.page()
    assert page.count(escape(SCRIPT)) >= 5
    page += (await served.tried(path="/" + HOSTILE, body=f'{{"model": "{SCRIPT}\u202e"}}', agent="painter")).text
    page += (await served.tried(upstream=HOSTILE, agent=HOSTILE, method=HOSTILE)).text
    assert SCRIPT not in page


async def test_a_form_that_the_operator_did_not_send_is_refused(served):
    token = re.search(r'name="form_token" value="(\w+)"', await served.page())[1]
    served.policy.write_text(POLICY.replace("amount: 50.00", "amount: 60.00"))
    refused = [({}, {}, 403), ({"form_token": "0" * 64}, {}, 403), ({"form_token": token}, {"origin": "null"}, 403),
               ({"form_token": token}, {"authorization": ""}, 401)]  # fmt: skip
    for path in ("/ui/policy/reload", "/ui/policy/try"):
        for fields, headers, status in refused:
            answer = await served.http.post(path, data=CALL | fields, headers=headers)
            assert answer.status_code == status
            assert "It may cost" not in answer.text
    assert "$50.00" in part(await served.page(), "budgets")


async def test_a_get_reloads_nothing(served):
    assert (await served.http.get("/ui/policy/reload")).status_code == 405


async def test_nothing_on_the_page_needs_more_than_the_csp_allows(served):
    pages = [
        await served.page(),
        (await served.tried(body=CHAT, agent="poor")).text,
        (await served.tried(path="")).text,
    ]
    for page in pages:
        assert not re.search(r'<style|\sstyle=|\son[a-z]+=|<script(?! src="/ui/static/)|(src|href)="https?:', page)
        for path in set(re.findall(r'(?:src|href)="(/ui/static/[^"]+)"', page)):
            assert (await served.http.get(path)).status_code == 200, path
        assert len(set(re.findall(r' id="([^"]+)"', page))) == len(re.findall(r' id="([^"]+)"', page))
