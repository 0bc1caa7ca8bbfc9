"""The list of actions and the page of each, on the ledger they are for."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from decimal import Decimal
from html import unescape

import pytest

from proxy.dashboard.action import METADATA_SHOWN
from proxy.dashboard.actions import SHOWN
from proxy.explanation import FLAGS, REASONS
from proxy.ledger.port import Adjustment, Agent, Settlement
from tests.proxy.dashboard.governed import NOON, USD, call, rows, text

RATES = {"input_mtok": "2.5", "cache_read_mtok": "1.25", "output_mtok": "10"}
USAGE = {"input_tokens": 946, "cache_read_tokens": 200, "output_tokens": 20, "output_reasoning_tokens": 7}
ESTIMATED = {"request": 1, "input_tokens": 964, "output_tokens": 4096}


def priced(cost: int, **fields):
    return call(cost, rates=RATES, estimated=ESTIMATED, policy_hash="5e884898da280471", **fields)


def at(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)


def targets(page: str) -> list[str]:
    return re.findall(r'class="target"><a [^>]*><code>([^<]*)</code>', page)


@pytest.fixture
async def listed(operator):
    async def fetch(query: str = "") -> str:
        answer = await operator.get(f"/ui/actions?{query}")
        assert answer.status_code == 200
        return answer.text

    return fetch


@pytest.fixture
async def shown(operator):
    async def fetch(action_id: str) -> str:
        answer = await operator.get(f"/ui/actions/{action_id}")
        assert answer.status_code == 200
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?! src=\"/ui/static/)|https?://(?!127)", answer.text)
        return answer.text

    return fetch


# -- the list ----------------------------------------------------------------------------------------------------------
@pytest.fixture
async def history(ledger, clock):
    """Of two agents around two midnights of Berlin (23:00 UTC)."""
    clock.at = at("2026-11-19T22:00:00")
    other = await ledger.create_agent(Agent("other", "The Other", "r", "o", 9 * USD, None, 0))
    for moment, agent, target, cost in (
        ("2026-11-19T22:59:59", "bot", "demo:before", USD),
        ("2026-11-19T23:00:00", "bot", "demo:first", USD),
        ("2026-11-20T12:00:00", other.id, "demo:theirs", USD),
        ("2026-11-20T12:00:01", "bot", "demo:dear", 6 * USD),
        ("2026-11-20T22:59:59", "bot", "demo:last", USD),
        ("2026-11-20T23:00:00", "bot", "demo:after", USD),
    ):
        clock.at = at(moment)
        await ledger.record(call(cost, target, agent), "failure" if target == "demo:last" else "success")
    clock.at = NOON


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["after", "last", "dear", "theirs", "first", "before"]),
        ("agent=other", ["theirs"]),
        ("agent=the+other", ["theirs"]),
        ("outcome=denied", ["dear"]),
        ("outcome=failure&agent=bot", ["last"]),
        ("since=2026-11-20", ["after", "last", "dear", "theirs", "first"]),
        ("until=2026-11-20", ["last", "dear", "theirs", "first", "before"]),
        ("agent=bot&since=2026-11-20&until=2026-11-20", ["last", "dear", "first"]),
        ("since=soon&until=0001-01-01&outcome=good", ["after", "last", "dear", "theirs", "first", "before"]),
        ("since=9999-12-31&until=+", ["after", "last", "dear", "theirs", "first", "before"]),
        ("since=2026-11-22", []),
        ("agent=nobody", []),
    ],
)
async def test_actions_are_filtered_by_days_of_the_policys_zone(history, operator, listed, query, found):
    assert targets(await listed(query)) == [f"demo:{name}" for name in found]
    if query != "agent=nobody":
        export = await operator.get(f"/ui/export?{query}")
        lines = list(csv.DictReader(io.StringIO(export.text)))
        assert [line["target"] for line in lines] == [f"demo:{name}" for name in reversed(found)]


async def test_what_was_asked_stays_in_the_form_and_in_the_link_to_the_file(history, listed):
    page = await listed("agent=bot&outcome=failure&since=2026-11-20&until=2026-11-21")
    assert 'value="bot"' in page
    assert '<option value="failure" selected>' in page
    assert 'type="date" value="2026-11-20"' in page
    assert 'href="/ui/export?agent=bot&amp;outcome=failure&amp;since=2026-11-20&amp;until=2026-11-21"' in page


async def test_pages_hold_every_action_once_and_only_the_newest_is_live(ledger, clock, operator, listed):
    for number in range(2 * SHOWN + 3):
        clock.at += 1
        await ledger.record(call(1, f"demo:{number}"), "success")
    path, found, live = "/ui/actions?agent=bot", [], []
    while path:
        page = (await operator.get(path)).text
        found += targets(page)
        live.append('id="actions" data-live' in page)
        after = re.search(r'href="([^"]*)" rel="next"', page)
        path = unescape(after[1]) if after else ""
    assert found == [f"demo:{number}" for number in reversed(range(2 * SHOWN + 3))]
    assert live == [True, False, False]
    assert 'href="/ui/actions?agent=bot" rel="first"' in page


async def test_a_page_there_never_was_is_told(ledger, operator):
    answer = await operator.get("/ui/actions?cursor=none")
    assert answer.status_code == 400
    assert "There is no such page of actions." in answer.text


async def test_where_there_is_nothing_it_says_why(ledger, listed):
    assert "No call yet." in text(await listed())
    assert "No action fits. Dates are days of Europe/Berlin." in text(await listed("outcome=denied"))
    nobody = await listed("agent=%3Cb%3Enobody")
    assert "No agent has the id or the name" in nobody
    assert "&lt;b&gt;nobody" in nobody


async def test_the_file_is_for_whom_signed_in_and_names_no_stranger(ledger, client, operator):
    client.cookies, cookies = {}, client.cookies
    assert (await client.get("/ui/export")).headers["location"] == "/ui/sign-in"
    assert (await client.get("/ui/actions")).headers["location"] == "/ui/sign-in"
    client.cookies = cookies
    assert (await operator.get("/ui/export?agent=nobody")).status_code == 404
    answer = await operator.get("/ui/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="actions.csv"'


async def test_hazard_32_hostile_targets_are_text_in_the_list(ledger, listed):
    await ledger.record(call(1, "demo:<script>alert(1)</script>\u202e"), "success")
    page = await listed()
    assert "demo:&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in page
    assert "<script>alert" not in page


# -- one of them -------------------------------------------------------------------------------------------------------
async def test_the_arithmetic_of_a_settled_call_adds_up(ledger, shown):
    held = await ledger.authorize(priced(43_370_000, output_cap=4096))
    charge = Settlement(2_315_000, "success", usage=USAGE, upstream_status=200, duration_ms=1812)
    await ledger.settle(held.action_id, charge)
    page = await shown(held.action_id)
    assert rows(page, "charge") == [
        ["cache_read_tokens", "200", "1.25 cache_read_mtok", "1,000,000", "0.000250"],
        ["input_tokens", "746", "2.5 input_mtok", "1,000,000", "0.001865"],
        ["output_tokens", "20", "10 output_mtok", "1,000,000", "0.000200"],
    ]
    assert sum(Decimal(row[-1]) for row in rows(page, "charge")) == Decimal("0.002315")
    found = text(page)
    assert "Settled at its usage." in found
    assert "Total, rounded up 0.002315" in found
    assert "Counted in a line above: output_reasoning_tokens 7" in found
    assert "Authorized $0.04 337 13:00:00 · reserved against every budget that counts it" in found
    assert "Answered 200 after 1.8 s Settled $0.002315 $0.041055 of the reservation returned" in found
    assert "held to 4,096 tokens an answer" in found
    assert "allowed with $0.04 337 reserved" in found


async def test_the_estimate_stands_beside_the_charge(ledger, shown):
    held = await ledger.authorize(priced(43_370_000))
    page = await shown(held.action_id)
    estimate = page[page.index("estimate-heading") :]
    assert rows(f'id="estimate"{estimate}', "estimate") == [
        ["input_tokens", "964", "2.5 input_mtok", "1,000,000", "0.00241"],
        ["output_tokens", "4,096", "10 output_mtok", "1,000,000", "0.04096"],
    ]
    assert "Total, rounded up 0.04337" in text(page)


async def test_a_call_in_flight_says_for_how_long(ledger, clock, shown):
    held = await ledger.authorize(priced(43_370_000))
    clock.at += 12_400
    found = text(await shown(held.action_id))
    assert "pending" in found
    assert "In flight for 12.4 s" in found
    assert "its usage is not known yet" in found


async def test_an_overrun_is_told_in_full(ledger, shown):
    held = await ledger.authorize(priced(1_000_000))
    await ledger.settle(held.action_id, Settlement(2_315_000, "success", usage=USAGE, upstream_status=200))
    found = text(await shown(held.action_id))
    assert "Overrun: $0.001315 above its reservation." in found
    assert "$0.001315 above its reservation: an overrun, recorded in full" in found


async def test_what_is_uncertain_is_told_in_words(ledger, shown):
    held = await ledger.authorize(priced(43_370_000))
    flags = ("stream_error", "from_a_later_version")
    await ledger.settle(held.action_id, Settlement(None, "failure", unconfirmed=True, flags=flags, duration_ms=30_000))
    found = text(await shown(held.action_id))
    assert "Charged at its reservation, because no answer came, and the upstream may have acted." in found
    assert "Unconfirmed:" in found
    assert "No answer after 30 s Settled $0.04 337 the whole of its reservation" in found
    assert f"stream_error : {FLAGS['stream_error']} from_a_later_version" in found


async def test_usage_that_was_not_what_was_charged_says_so(ledger, shown):
    held = await ledger.authorize(priced(43_370_000))
    await ledger.settle(held.action_id, Settlement(None, "success", usage=USAGE, unconfirmed=True, upstream_status=200))
    assert "What its usage comes to (not what was charged) 0.002315" in text(await shown(held.action_id))


async def test_a_voided_call_cost_nothing(ledger, shown):
    held = await ledger.authorize(priced(43_370_000))
    await ledger.void(held.action_id, Settlement(0, "failure", upstream_status=503, duration_ms=120))
    found = text(await shown(held.action_id))
    assert "Voided, because the upstream answered 503 and stated no usage." in found
    assert "Answered 503 after 120 ms Voided $0.00 all $0.04337 returned" in found
    assert "Nothing was charged." in found


async def test_a_denial_says_why_which_budget_bound_and_how_often(ledger, operator, shown):
    await ledger.record(call(4 * USD), "success")
    for _ in range(4):
        await ledger.record(call(4 * USD), "success")
    for _ in range(3):
        denial = await ledger.authorize(priced(4 * USD))
    assert denial.verdict.budget == "bot-day"
    found = text(await shown(denial.action_id))
    assert f"Denied, because {REASONS['budget_exceeded']} ( bot-day ). Nothing was sent upstream." in found
    assert "It stands for 3 identical denials within a minute." in found
    assert "denied budget_exceeded HTTP 403" in found
    assert "Bound by budget bot-day" in found
    assert "Estimate what it might cost, before it was denied" in found


async def test_a_denial_by_the_per_action_limit_tells_the_limit(ledger, shown):
    denial = await ledger.authorize(priced(6 * USD))
    found = text(await shown(denial.action_id))
    assert "HTTP 400" in found
    assert "the limit is now $5.00 a call" in found


async def test_what_shadow_mode_let_pass_is_told(ledger, shown):
    held = await ledger.authorize(priced(2 * USD))
    found = text(await shown(held.action_id))
    assert "In shadow mode. Enforced, it would have been denied:" in found
    assert f"budget_exceeded : {REASONS['budget_exceeded']}" in found
    assert "it fitted into every budget" not in found


async def test_a_report_shows_its_metadata_as_text_within_bounds(ledger, shown):
    metadata = '{"note": "<script>alert(1)</script>\u202e"}' + " " * 10 + "x" * METADATA_SHOWN
    recorded = await ledger.record(call(5_000_000, metadata=metadata), "success")
    page = await shown(recorded.action.id)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in page
    assert "<script>alert" not in page
    assert "x" * METADATA_SHOWN not in page
    assert f"and {len(metadata) - METADATA_SHOWN} characters more" in text(page)
    assert "$0.005 is what its agent reported" in text(page)
    assert "Reported by its agent $0.005 13:00:00 · authorized and settled at once" in text(page)


async def test_an_adjustment_says_who_judged_it(ledger, shown):
    recorded = await ledger.adjust(Adjustment("bot", -3 * USD, "invoice <b>2026-10</b>"))
    page = await shown(recorded.action.id)
    assert "invoice &lt;b&gt;2026-10&lt;/b&gt;" in page
    assert "Adjusted by an operator -$3.00" in text(page)
    assert "an operator's adjustment is judged by no budget, limit or pause" in text(page)


async def test_the_policy_that_judged_it_is_named(ledger, sidecar, shown):
    held = await ledger.authorize(call(USD, policy_hash="0123456789abcdef"))
    assert "0123456789ab (not the one in force)" in text(await shown(held.action_id))
    held = await ledger.authorize(priced(USD))
    assert "not the one in force" not in text(await shown(held.action_id))


async def test_every_link_on_it_is_answered(ledger, operator, shown):
    held = await ledger.authorize(priced(USD))
    await ledger.settle(held.action_id, Settlement(1, "success", usage=USAGE))
    links = set(re.findall(r'(?:href|src)="(/[^"#]*)"', await shown(held.action_id))) - {"/ui/alerts", "/ui/policy"}
    assert "/ui/agents/bot" in links
    for link in links:
        assert (await operator.get(unescape(link))).status_code == 200, link


async def test_what_is_not_there_is_not_found(ledger, operator):
    answer = await operator.get("/ui/actions/act_none")
    assert answer.status_code == 404
    assert "No action has this id." in answer.text
