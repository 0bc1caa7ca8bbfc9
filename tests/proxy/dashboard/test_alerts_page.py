from __future__ import annotations

import re
from html import unescape

import pytest

from policy.model import Policy, Upstream, Webhook
from proxy.dashboard.alerts import OPEN_SHOWN, READ_SHOWN
from proxy.ledger.port import Agent, Alert, Delivery

NOW = 1_795_000_000_000
SLACK = Webhook(
    "https://hooks.slack.example/services/T0/very-secret", "slack", ("budget_exceeded",), "hooks.slack.example"
)
PAGER = Webhook("https://pager.example/v1?key=very-secret", name="pager-1")


def alert(number: int, read: bool = False, agent: str | None = "painter", kind: str = "overrun") -> Alert:
    return Alert(f"alr_{number}", agent, kind, f"message {number}.", NOW - number, NOW if read else None)


def section(page: str, name: str) -> str:
    """The part of the page under that id."""
    return re.split(rf'id="{name}"[ >]', page, maxsplit=1)[1].partition("</section>")[0]


def messages(part: str) -> list[int]:
    return [int(number) for number in re.findall(r"<p>message (\d+)\.</p>", part)]


def hidden(page: str, action: str) -> dict[str, str]:
    """The hidden fields of the form that posts there."""
    form = page.partition(f'action="{action}"')[2].partition("</form>")[0]
    return {name: unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)}


async def test_open_alerts_come_first_then_the_latest_acknowledged(operator, shelf):
    shelf.raised = [alert(number, read=number % 3 == 0) for number in range(3 * READ_SHOWN + 9)]
    page = (await operator.get("/ui/alerts")).text
    assert page.index('id="open"') < page.index('id="read"')
    assert messages(section(page, "open")) == [number for number in range(3 * READ_SHOWN + 9) if number % 3]
    assert messages(section(page, "read")) == list(range(0, 3 * READ_SHOWN, 3))
    assert "Acknowledge all 206 shown" in page


@pytest.mark.parametrize(
    ("query", "to_read", "read"),
    [
        ("agent=painter", [0, 1], [4]),
        ("agent=coder", [2], []),
        ("type=overrun", [0, 2], [4]),
        ("agent=painter&type=budget_exceeded", [1], []),
        ("type=unheard_of", [], []),
        ("agent=nobody", [], []),
    ],
)
async def test_alerts_of_an_agent_and_of_a_type(operator, shelf, query, to_read, read):
    shelf.raised = [
        alert(0), alert(1, kind="budget_exceeded"), alert(2, agent="coder"), alert(3, agent=None, kind="failed_open"),
        alert(4, read=True),
    ]  # fmt: skip
    page = (await operator.get(f"/ui/alerts?{query}")).text
    assert messages(section(page, "open")) == to_read
    assert messages(page.partition('id="read"')[2]) == read
    assert ("No open alert fits." in page) is not bool(to_read)
    assert 'href="/ui/alerts">Show all' in page


async def test_an_agents_alert_names_and_links_it(operator, shelf):
    shelf.held["painter"] = Agent("painter", "Image maker", "", "", 0, None, 0)
    shelf.raised = [alert(0), alert(1, agent="gone/away"), alert(2, agent=None)]
    page = section((await operator.get("/ui/alerts")).text, "open")
    assert '<a href="/ui/agents/painter"><bdi>Image maker</bdi></a>' in page
    assert '<a href="/ui/agents/gone%2Faway"><bdi>gone/away</bdi></a>' in page


async def test_one_is_acknowledged_and_leads_back_to_what_was_asked(operator, shelf):
    shelf.raised = [alert(0), alert(1)]
    page = (await operator.get("/ui/alerts?agent=painter")).text
    path = "/ui/alerts/alr_1/acknowledge"
    answer = await operator.post(path, data=hidden(page, path))
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/alerts?agent=painter")
    assert [each.acknowledged_at is not None for each in shelf.raised] == [False, True]


async def test_all_shown_are_acknowledged_and_none_that_came_since(operator, shelf):
    shelf.raised = [alert(0), alert(1, agent="coder"), alert(2)]
    page = (await operator.get("/ui/alerts?agent=painter")).text
    shelf.raised = [alert(9), *shelf.raised[:2]]  # one more, and one is gone
    path = "/ui/alerts/acknowledge"
    answer = await operator.post(path, data=hidden(page, path))
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/alerts?agent=painter")
    assert {each.id: each.acknowledged_at is not None for each in shelf.raised} == {
        "alr_9": False, "alr_0": True, "alr_1": False,
    }  # fmt: skip


async def test_more_than_a_page_holds_are_told_and_their_form_fits(operator, shelf):
    shelf.raised = [
        Alert(f"alr_{number:026}", None, "overrun", f"message {number}.", NOW) for number in range(OPEN_SHOWN + 7)
    ]
    page = (await operator.get("/ui/alerts")).text
    assert "and 7 older ones" in page
    path = "/ui/alerts/acknowledge"
    await operator.post(path, data=hidden(page, path))
    assert sum(each.acknowledged_at is None for each in shelf.raised) == 7


# -- deliveries --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hooks(sidecar, shelf) -> None:
    policy = Policy("p", upstreams={"demo": Upstream("demo", "builtin:demo")}, webhooks=(SLACK, PAGER))
    sidecar.policy_file.rules.policy = policy
    shelf.undelivered = [
        Delivery("dlv_1", alert(1), "hooks.slack.example", 3, "503 <b>busy</b>\u202e", NOW + 5000),
        Delivery("dlv_2", alert(2, kind="budget_exceeded"), "pager-1", 12, "ConnectError", None),
        Delivery("dlv_3", alert(3), "hooks.slack.example", 12, None, None),
    ]


async def test_what_each_webhook_has_not_taken(operator, hooks):
    part = section((await operator.get("/ui/alerts")).text, "deliveries")
    rows = re.sub(r"<[^>]+>", " ", part.partition("</table>")[0]).split("\n")
    words = " ".join(" ".join(rows).split())
    assert "hooks.slack.example slack budget exceeded 1 1 pager-1 pager.example json all 0 1" in words
    for text in ("message 1.", "message 2.", "503 &lt;b&gt;busy&lt;/b&gt;\\u202e", "ConnectError", ">12<", ">3<"):
        assert text in part
    assert part.count("Try again</button>") == 2
    assert "/ui/deliveries/dlv_1/retry" not in part


async def test_a_dead_letter_is_tried_again(operator, shelf, hooks):
    path = "/ui/deliveries/dlv_2/retry"
    fields = hidden((await operator.get("/ui/alerts")).text, path)
    answer = await operator.post(path, data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/alerts")
    assert [delivery.next_at is None for delivery in shelf.undelivered] == [False, False, True]
    for gone in (path, "/ui/deliveries/nothing/retry"):
        assert (await operator.post(gone, data=fields)).status_code == 404


async def test_promise_10_a_webhooks_url_stays_secret(operator, hooks):
    page = (await operator.get("/ui/alerts")).text
    for secret in ("very-secret", "services", "https://hooks", "/v1"):
        assert secret not in page


async def test_dead_letters_of_a_webhook_that_the_policy_no_longer_names(operator, sidecar, shelf, hooks):
    sidecar.policy_file.rules.policy = Policy("p")
    page = (await operator.get("/ui/alerts")).text
    assert page.count("Try again</button>") == 2
    assert "sent nowhere" not in page


# -- empty, hostile, refused -------------------------------------------------------------------------------------------


async def test_with_nothing_yet_it_says_what_raises_one_and_how_to_have_it_sent(operator):
    page = (await operator.get("/ui/alerts")).text
    for text in ("No alert yet.", "thresholds: [50%, 80%, 100%]", "sent nowhere", "webhooks:", "${env:ALERT_WEBHOOK}"):
        assert text in page
    assert '<ul class="alerts' not in page


async def test_with_all_acknowledged_nothing_waits(operator, shelf):
    shelf.raised = [alert(0, read=True)]
    assert "Nothing waits for you" in (await operator.get("/ui/alerts")).text


async def test_hazard_32_hostile_texts_are_shown_escaped(operator, shelf):
    hostile = "<script>alert(1)</script>\r\n\u202e"
    shelf.raised = [Alert("alr_1", hostile, hostile, hostile, NOW)]
    page = (await operator.get("/ui/alerts", params={"agent": hostile.strip(), "type": hostile})).text
    page += (await operator.get("/ui/alerts")).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x0d\\x0a\\u202e" in page


@pytest.mark.parametrize(
    "path", ["/ui/alerts/acknowledge", "/ui/alerts/alr_0/acknowledge", "/ui/deliveries/dlv_3/retry"]
)
@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [({}, {}, 403), ({"form_token": "0" * 64}, {}, 403), (None, {"origin": "http://evil.example"}, 403),
     (None, {"cookie": ""}, 401)],
)  # fmt: skip
async def test_a_change_that_the_operator_did_not_make_is_refused(
    operator, shelf, hooks, path, fields, headers, status
):
    shelf.raised = [alert(0)]
    given = hidden((await operator.get("/ui/alerts")).text, "/ui/alerts/acknowledge")
    given = given if fields is None else {"ids": given["ids"], **fields}
    assert (await operator.post(path, data=given, headers=headers)).status_code == status
    assert shelf.raised[0].acknowledged_at is None
    assert shelf.undelivered[2].next_at is None


async def test_a_visitor_sees_nothing(client, shelf):
    shelf.raised = [alert(0)]
    answer = await client.get("/ui/alerts")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/sign-in")


async def test_nothing_on_the_page_needs_more_than_the_csp_allows(operator, shelf, hooks):
    shelf.raised = [alert(0), alert(1, read=True)]
    page = (await operator.get("/ui/alerts")).text
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?! src=\"/ui/static/)|https?://(?!127)", page)
    for path in set(re.findall(r'(?:src|href)="(/ui/static/[^"]+)"', page)):
        assert (await operator.get(path)).status_code == 200, path
