from __future__ import annotations

import re
from dataclasses import replace
from zoneinfo import ZoneInfo

import httpx
import pytest
from starlette.applications import Starlette

from policy.decide import Standing
from policy.model import MONTHLY_BUDGET, Budget
from policy.periods import Span
from proxy import dashboard
from proxy.access import Guard
from proxy.dashboard.frame import FORM_MAX_BYTES
from proxy.dashboard.session import COOKIE
from proxy.identify import digest
from proxy.ledger.port import Action, Agent, Alert, Health, Key, LedgerUnavailable
from proxy.tokens import Tokens

TOKEN = "the-admin-token"
USD = 1_000_000_000
RESEARCHER = Agent("researcher", "Research bot", "Market research", "growth-team", 100 * USD, 5 * USD, 0)


@pytest.fixture
def researcher(shelf):
    shelf.held["researcher"] = RESEARCHER
    budget = Budget(MONTHLY_BUDGET, 100 * USD, "month", ZoneInfo("UTC"))
    shelf.standing["researcher"] = [Standing(budget, "researcher", Span(0, 1), 42_123_456_789, 1_500_000_000)]


def form_token(page: str) -> str:
    return re.search(r'name="form_token" value="([0-9a-f]{64})"', page)[1]


async def signed(operator: httpx.AsyncClient) -> dict[str, str]:
    return {"form_token": form_token((await operator.get("/")).text)}


# -- signing in ------------------------------------------------------------------------------------------------------


async def test_a_visitor_is_sent_to_sign_in(client):
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/sign-in")
    assert "Admin token" in (await client.get("/ui/sign-in")).text


async def test_the_admin_token_opens_a_session(client):
    answer = await client.post("/ui/sign-in", data={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    assert "Latest actions" in (await client.get("/")).text
    assert (await client.get("/ui/sign-in")).headers["location"] == "/"


async def test_behind_tls_the_cookie_is_secure(client):
    """A proxy ends the TLS, and the page's own Origin tells of it; what such proxies say in headers is not asked."""
    secure = {"origin": f"https://{client.base_url.netloc.decode()}"}
    answer = await client.post("/ui/sign-in", data={"token": TOKEN}, headers=secure)
    assert "Secure" in answer.headers["set-cookie"].split("; ")
    forwarded = await client.post("/ui/sign-in", data={"token": TOKEN}, headers={"x-forwarded-proto": "https"})
    assert "Secure" not in forwarded.headers["set-cookie"]


async def test_a_token_taken_out_of_its_file_ends_the_sessions_it_opened(client, sidecar, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("the-first-token-there-was\nthe-second-token-there-is\n")
    seconds = iter(range(100))
    sidecar.admin = Tokens(file=file, clock=lambda: next(seconds))
    await client.post("/ui/sign-in", data={"token": "the-first-token-there-was"})
    assert (await client.get("/")).status_code == 200
    file.write_text("the-second-token-there-is\n")
    assert (await client.get("/")).headers["location"] == "/ui/sign-in"
    assert (await client.post("/ui/sign-in", data={"token": "the-first-token-there-was"})).status_code == 401
    assert (await client.post("/ui/sign-in", data={"token": "the-second-token-there-is"})).status_code == 303


async def test_a_wrong_token_opens_nothing_and_is_counted(client, sidecar):
    answer = await client.post("/ui/sign-in", data={"token": "wrong"})
    assert answer.status_code == 401
    assert sidecar.metrics.denials["unauthenticated"] == 1
    assert "set-cookie" not in answer.headers
    assert "not this sidecar" in answer.text
    assert "wrong" not in re.sub(r'(class|id|aria-describedby)="wrong"', "", answer.text)


async def test_the_bearer_token_opens_the_page_too(client):
    assert (await client.get("/", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200
    assert (await client.get("/", headers={"authorization": "Bearer wrong"})).status_code == 303


async def test_promise_11_an_agents_key_opens_nothing(client, shelf):
    shelf.held["researcher"] = replace(RESEARCHER, keys=(Key(digest("alk_researcher")),))
    assert (await client.get("/", headers={"authorization": "Bearer alk_researcher"})).status_code == 303


async def test_signing_out_ends_the_session(operator):
    answer = await operator.post("/ui/sign-out", data=await signed(operator))
    assert answer.headers["location"] == "/ui/sign-in"
    assert (await operator.get("/")).status_code == 303


async def test_without_auth_nobody_signs_in(sidecar, shelf, researcher):
    sidecar.settings = replace(sidecar.settings, no_auth=True, admin_token="")
    app = Guard(Starlette(routes=dashboard.routes(sidecar)), sidecar)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert "Sign out" not in page.text
        assert (await client.post("/ui/agents/researcher/pause", data={"form_token": ""})).status_code == 403
        await client.post("/ui/agents/researcher/pause", data={"form_token": form_token(page.text)})
    assert shelf.held["researcher"].status == "paused"


# -- the page --------------------------------------------------------------------------------------------------------


async def test_it_shows_each_agent_and_its_month(operator, researcher):
    page = (await operator.get("/")).text
    for text in ("Research bot", "Market research", "growth-team", ">active<", "$5.00"):
        assert text in page
    assert "$42.123456789 spent, $1.50 reserved of $100.00" in page
    assert '<rect class="spent" width="42.12%"' in page
    assert '<rect class="reserved" x="42.12%" width="1.5%"' in page


async def test_it_shows_actions_with_their_reasons_and_alerts(operator, shelf, researcher):
    shelf.rows = [
        Action(
            "2", "researcher", "call", "demo:gpt-4o", 0, "denied", 0, count=14, reason="budget_exceeded", budget="team"
        ),
        Action("1", "gone", "call", "demo:o3", 12_345_600, "success", 0, unconfirmed=True),
    ]
    shelf.raised = [Alert("al1", "researcher", "budget_exceeded", "The month is spent.", 0)]
    page = (await operator.get("/")).text
    for text in (
        "demo:gpt-4o",
        "×14",
        "budget exceeded <code>team</code>",
        "unconfirmed",
        "The month is spent.",
        "gone",
    ):
        assert text in page
    assert '$0.01<span class="fine">23456</span>' in page


async def test_a_credit_is_a_row_and_draws_no_bar(operator, shelf, researcher):
    shelf.rows = [Action("1", "researcher", "adjust", "openai:gpt-4o", -2_500_000_000, "success", 0, ending="adjusted")]
    month = shelf.standing["researcher"][0]
    shelf.standing["researcher"] = [replace(month, spent=-2_500_000_000, reserved=0)]
    page = (await operator.get("/")).text
    assert "-$2.50" in page
    assert ">adjustment<" in re.sub(r"\s", "", page)
    assert '<rect class="spent" width="0.0%"' in page


async def test_an_empty_ledger_says_what_to_do_first(operator):
    page = (await operator.get("/")).text
    assert "monthly_budget: 100.00" in page
    assert f"curl -X POST {str(operator.base_url).rstrip('/')}/api/policy/reload" in page
    assert "/demo/v1/chat/completions" in page


async def test_faults_are_shown_on_top(operator, shelf, sidecar):
    shelf.state = Health(False, "write failed: no space left", 7, "ab", warnings=("the clock went back",))
    sidecar.policy_file.error = "policy.yaml:3:5: unknown key\n  3 | ammount: 5"
    page = (await operator.get("/")).text
    assert "The ledger can&#39;t record" in page
    assert "write failed: no space left" in page
    assert "policy.yaml:3:5: unknown key\n  3 | ammount: 5" in page
    assert "the clock went back" in page


async def test_no_fault_no_banner(operator):
    assert 'class="banner ' not in (await operator.get("/")).text


async def test_hazard_32_hostile_names_are_shown_escaped(operator, shelf):
    name = "<script>alert(1)</script>\r\nSet-Cookie: a=b\u202e"
    shelf.held["x"] = Agent("x", name, name, name, 0, None, 0)
    answer = await operator.get("/")
    assert "<script>alert" not in answer.text
    assert answer.text.count("&lt;script&gt;alert(1)&lt;/script&gt;\\x0d\\x0aSet-Cookie: a=b\\u202e") == 3
    assert "\u202e" not in answer.text
    assert "set-cookie" not in answer.headers


async def test_the_page_shows_the_journals_head(operator, shelf):
    health = shelf.health()
    assert f"line {health.sequence}, head <code>{health.head}</code>" in (await operator.get("/")).text


async def test_nothing_on_a_page_needs_more_than_the_csp_allows(operator, researcher):
    for page in ((await operator.get("/")).text, (await operator.get("/ui/nothing")).text):
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?! src=\"/ui/static/)|https?://(?!127)", page)


@pytest.mark.parametrize("path", ["/", "/ui/sign-in", "/ui/static/dashboard.css", "/ui/nothing", "/ui/static/nothing"])
async def test_every_answer_carries_the_security_headers(operator, path):
    headers = (await operator.get(path)).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "style-src": "'self'",
        "script-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert headers.items() >= {
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    }


async def test_every_link_to_a_static_file_is_answered(operator):
    for path in set(re.findall(r'(?:src|href)="(/ui/static/[^"]+)"', (await operator.get("/")).text)):
        assert (await operator.get(path)).status_code == 200, path


async def test_a_ledger_that_can_not_be_read_is_told(operator, shelf):
    async def unreadable(query):
        raise LedgerUnavailable("the read index is being rebuilt")

    shelf.actions = unreadable
    answer = await operator.get("/")
    assert answer.status_code == 503
    assert "the read index is being rebuilt" in answer.text


# -- changes ---------------------------------------------------------------------------------------------------------


async def test_an_operator_pauses_and_resumes(operator, shelf, researcher):
    fields = await signed(operator)
    answer = await operator.post("/ui/agents/researcher/pause", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert shelf.held["researcher"].status == "paused"
    page = (await operator.get("/")).text
    assert "paused by operator" in page
    assert "/ui/agents/researcher/resume" in page
    await operator.post("/ui/agents/researcher/resume", data=fields)
    assert shelf.held["researcher"].status == "active"


async def test_an_operator_acknowledges_an_alert(operator, shelf):
    shelf.raised = [Alert("al1", None, "overrun", "m", 0)]
    await operator.post("/ui/alerts/al1/acknowledge", data=await signed(operator))
    assert shelf.raised[0].acknowledged_at is not None
    assert (await operator.post("/ui/alerts/al2/acknowledge", data=await signed(operator))).status_code == 404


async def test_what_is_not_there_can_not_be_changed(operator, shelf):
    answer = await operator.post("/ui/agents/nobody/pause", data=await signed(operator))
    assert answer.status_code == 404
    assert "No agent has this id." in answer.text


REFUSED = {
    "no form token": ({"other": "1"}, {}, 403),
    "another session's form token": ({"form_token": "0" * 64}, {}, 403),
    "hazard 27: a foreign origin": (None, {"origin": "http://evil.example"}, 403),
    "hazard 27: another port's page": (None, {"origin": "http://127.0.0.1:1"}, 403),
    "hazard 27: a sandboxed page": (None, {"origin": "null"}, 403),
    "hazard 27: another site": (None, {"sec-fetch-site": "cross-site"}, 403),
    "hazard 27: a foreign host": (None, {"host": "evil.example"}, 421),
    "no session": (None, {"cookie": ""}, 401),
    "hazard 27: not a form": (None, {"content-type": "text/plain"}, 415),
}


@pytest.mark.parametrize(("fields", "headers", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_change_that_the_operator_did_not_make_is_refused(operator, shelf, researcher, fields, headers, status):
    fields = await signed(operator) if fields is None else fields
    answer = await operator.post("/ui/agents/researcher/pause", data=fields, headers=headers)
    assert answer.status_code == status
    assert shelf.held["researcher"].status == "active"


async def test_a_get_changes_nothing(operator, shelf, researcher):
    assert (await operator.get("/ui/agents/researcher/pause")).status_code == 405
    assert shelf.held["researcher"].status == "active"


async def test_a_form_beyond_its_cap_is_refused(operator, shelf, researcher):
    fields = await signed(operator) | {"x": "x" * FORM_MAX_BYTES}
    assert (await operator.post("/ui/agents/researcher/pause", data=fields)).status_code == 413
    assert shelf.held["researcher"].status == "active"
