"""An agent's page, on the ledger it is for: its figures, its charts, and what an operator changes there."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest

from policy.forecast import Forecast
from proxy.dashboard.agent import TARGETS_SHOWN, show
from proxy.dashboard.money import Bar
from proxy.dashboard.plots import burn, daily, ticks
from proxy.identify import digest
from proxy.ledger.port import Adjustment, Agent, Settlement
from tests.proxy.dashboard.governed import BERLIN, DAY, HOUR, NOON, USD, Form, call, rows, text

BOT = "/ui/agents/bot"


async def spend(ledger, clock, *days_back_and_usd: tuple[float, int], target: str = "demo:gpt-4o") -> None:
    """Reported actions of those costs, so many days before now."""
    for days, cost in sorted(days_back_and_usd, reverse=True):
        clock.at = NOON - int(days * DAY)
        assert (await ledger.record(call(cost, target), "success")).action
    clock.at = NOON


@pytest.fixture
async def page(ledger, operator):
    async def fetch(path: str = BOT) -> str:
        answer = await operator.get(path)
        assert answer.status_code == 200
        return answer.text

    return fetch


# -- what it shows -----------------------------------------------------------------------------------------------------
async def test_its_figures_are_the_ledgers(ledger, clock, page):
    await spend(ledger, clock, (3, 4 * USD), (0, 700_000_001))
    held = await ledger.authorize(call(100_000_000))
    clock.at += 90_000
    shown = text(await page())
    month = ledger.standings("bot")[0]
    assert (month.spent, month.reserved) == (4_700_000_001, 100_000_000)
    assert "Spent $4.70 0000001 Reserved $0.10 Available $95.19 9999999 Budget $100.00" in shown
    assert "resets on Dec 1" in shown
    assert f"/ui/actions/{held.action_id}" in await page()
    assert "In flight 1 · $0.10 reserved" in shown
    assert "demo:gpt-4o 1 min $0.10" in shown


async def test_every_budget_and_limit_that_counts_its_calls_is_there_and_no_other(ledger, page):
    await ledger.record(call(2 * USD), "success")
    shown = text(await page())
    assert "bot-day a day · resets Nov 23 00:00 $2.00 spent $18.00 available of $20.00" in shown
    assert "tried shadow a month · resets Dec 1 00:00 $2.00 spent $1.00 over of $1.00" in shown
    assert "One call at most $5.00" in shown
    assert "burst 120 calls a minute, each agent, of demo wide 7 calls at once" in shown
    assert "elsewhere" not in shown
    assert "others $" not in shown


async def test_days_are_the_policys_zones(ledger, clock, page):
    clock.at = NOON - 13 * HOUR  # 23:00 UTC: midnight in Berlin
    await ledger.record(call(USD), "success")
    clock.at = NOON
    await ledger.record(call(USD, "demo:o3"), "success")
    assert rows(await page(), "days-table")[:2] == [["Nov 22", "2", "$2.00"], ["Nov 21", "0", "$0.00"]]


async def test_every_day_is_in_the_table_behind_its_chart(ledger, clock, page):
    await spend(ledger, clock, (29, 3 * USD), (1, USD // 2), (0, USD))
    await ledger.adjust(Adjustment("bot", -USD // 4, "invoice"))
    shown = await page()
    by_day = rows(shown, "days-table")
    assert len(by_day) == 30
    assert by_day[:2] == [["Nov 22", "2", "$0.75"], ["Nov 21", "1", "$0.50"]]
    assert by_day[-1] == ["Oct 24", "1", "$3.00"]
    so_far = rows(shown, "month-table")
    assert (so_far[0][0], len(so_far), so_far[-1]) == ("Nov 1", 22, ["Nov 22", "$0.75", "$1.25"])
    assert 'aria-label="This month so far: $1.25 spent of $100.00; at this pace' in shown
    assert 'aria-label="Spent on each of the last 30 days, most on one day: $3.00; today: $0.75"' in shown
    for chart in re.findall(r'<svg class="(?:plot|bars|parts)[^>]*>', shown):
        assert 'role="img"' in chart
        assert "aria-label=" in chart


async def test_targets_beyond_a_dozen_are_one(ledger, clock, page):
    for number in range(TARGETS_SHOWN + 2):
        await spend(ledger, clock, (0, (number + 1) * USD // 10), target=f"demo:m{number:02}")
    found = rows(await page(), "targets-table")
    assert found[0] == ["demo:m13", "1", "$1.40"]
    assert found[-1] == ["2 others", "2", "$0.30"]
    assert len(found) == TARGETS_SHOWN + 1


async def test_outcomes_are_counted(ledger, page):
    await ledger.record(call(USD), "success")
    await ledger.record(call(USD), "failure")
    for _ in range(2):
        await ledger.authorize(call(6 * USD))
    found = rows(await page(), "by-outcome")
    assert [row[0] for row in found] == ["success", "failure", "denied"]
    assert [row[3] for row in found] == ["$1.00", "$1.00", "$0.00"]
    assert [int(row[1]) for row in found[:2]] == [1, 1]


async def test_its_latest_actions_are_its_own_and_lead_to_all_of_them(ledger, page):
    other = await ledger.create_agent(Agent("", "Other", "r", "o", USD, None, 0))
    await ledger.record(call(USD, "demo:mine"), "success")
    await ledger.record(call(USD, "demo:theirs", agent=other.id), "success")
    shown = await page()
    assert "demo:mine" in shown
    assert "demo:theirs" not in shown
    assert 'href="/ui/actions?agent=bot"' in shown


async def test_an_agent_that_never_called_is_told_how_to(ledger, page):
    shown = text(await page())
    assert "No call yet." in shown
    assert "nothing is reserved" in shown


async def test_who_is_not_there_is_not_found(ledger, operator):
    answer = await operator.get("/ui/agents/nobody")
    assert answer.status_code == 404
    assert "No agent has this id." in answer.text


async def test_an_archived_agent_keeps_its_actions_and_has_no_forms(ledger, page):
    made = await ledger.create_agent(Agent("", "Old", "r", "o", USD, None, 0))
    await ledger.record(call(USD // 2, "demo:once", agent=made.id), "success")
    await ledger.change_agent(made.id, {"archived": True})
    shown = await page(f"/ui/agents/{made.id}")
    assert "archived" in text(shown)
    assert "demo:once" in shown
    assert re.findall(r'<form[^>]*action="/ui/agents', shown) == []


async def test_hazard_32_hostile_names_and_targets_are_text(ledger, operator):
    evil = '<script>alert(1)</script>"\u202e'
    made = await ledger.create_agent(Agent("", evil, evil, evil, USD, None, 0))
    await ledger.record(call(1, f"demo:{evil}"[:128], agent=made.id), "success")
    await ledger.change_agent(made.id, {"status": "paused", "paused_reason": evil})
    answer = await operator.get(f"/ui/agents/{made.id}")
    assert "<script>alert" not in answer.text
    assert "\u202e" not in answer.text
    assert answer.text.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;\\u202e") > 5


async def test_nothing_on_it_needs_more_than_the_csp_allows(ledger, clock, page):
    await spend(ledger, clock, (5, USD), (0, USD))
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?! src=\"/ui/static/)|https?://(?!127)", await page())


async def test_every_link_on_it_is_answered(ledger, clock, operator, page):
    await spend(ledger, clock, (0, USD))
    links = set(re.findall(r'(?:href|src)="(/[^"#]*)"', await page())) - {"/ui/alerts", "/ui/policy"}
    assert len(links) > 6
    for link in links:
        assert (await operator.get(unescape(link))).status_code == 200, link


# -- its charts --------------------------------------------------------------------------------------------------------
MONTH = Bar("monthly_budget", "month", 100 * USD, 40 * USD, 0, 30 * DAY, BERLIN, shadow=False)
TEN_DAYS = [(day * DAY, 4 * USD) for day in range(10)]


def test_the_line_of_the_month_ends_now_at_what_is_spent():
    drawn = burn(MONTH, 0, 10 * DAY, TEN_DAYS, None)
    points = [tuple(map(float, point.split(","))) for point in drawn.spent.split()]
    assert points[0] == (0, 100)
    assert points[-1] == (drawn.today.at, drawn.spent_at) == (33.33, pytest.approx(62.96, abs=0.01))
    assert [down for _, down in points] == sorted((down for _, down in points), reverse=True)
    assert drawn.amount == pytest.approx(7.41, abs=0.01)
    assert drawn.forecast is None


def test_a_forecast_leads_to_the_months_end_and_its_crossing_is_marked():
    lasting = burn(MONTH, 0, 10 * DAY, TEN_DAYS, Forecast(90 * USD, None))
    assert lasting.forecast == (100, pytest.approx(16.67, abs=0.01))
    assert lasting.exhausted is None
    ending = burn(MONTH, 0, 10 * DAY, TEN_DAYS, Forecast(120 * USD, 25 * DAY))
    assert ending.exhausted.at == pytest.approx(83.33, abs=0.01)


def test_a_forecast_of_many_times_the_budget_leaves_the_plot_at_its_top():
    drawn = burn(MONTH, 0, 10 * DAY, TEN_DAYS, Forecast(10_000 * USD, 11 * DAY))
    across, down = drawn.forecast
    assert down == 0
    assert drawn.today.at < across < 40
    assert drawn.amount == pytest.approx(53.7, abs=0.1)


@pytest.mark.parametrize("spent", [-5 * USD, 0, 100 * USD, 250 * USD])
def test_no_chart_leaves_its_plot(spent):
    drawn = burn(replace(MONTH, spent=spent), 0, 10 * DAY, [(day * DAY, spent // 10) for day in range(10)], None)
    points = [float(part) for point in drawn.spent.split() for part in point.split(",")]
    assert all(0 <= part <= 100 for part in [*points, drawn.amount, *(mark.at for mark in drawn.money + drawn.dates)])


def test_a_budget_of_nothing_can_be_drawn():
    assert burn(replace(MONTH, amount=0, spent=0), 0, 0, [(0, 0)], Forecast(0, 0)).spent == "0,100 0,100"


def test_a_day_that_cost_anything_has_a_column_below_the_top():
    drawn = daily([(day * DAY, cost) for day, cost in enumerate([0, 1, 50 * USD, -USD])])
    assert [column.height > 0 for column in drawn.columns] == [False, True, True, False]
    assert max(column.height for column in drawn.columns) < 100
    assert [mark.value for mark in drawn.dates] == [3 * DAY]


@pytest.mark.parametrize(
    ("top", "expected"),
    [(108, [50, 100]), (1, [1]), (5, [1, 2, 3, 4, 5]), (3_000_000, [1_000_000, 2_000_000, 3_000_000])],
)
def test_amounts_named_on_an_axis_are_round(top, expected):
    assert ticks(top) == expected


async def test_a_spent_month_leads_nowhere(ledger, clock, page):
    await spend(ledger, clock, *[(days, 5 * USD) for days in range(18)])
    await ledger.adjust(Adjustment("bot", 5 * USD, "invoice"))
    assert 'class="expected' in await page()
    await ledger.adjust(Adjustment("bot", 5 * USD, "invoice"))
    shown = await page()
    assert "The month's budget is spent until Dec 1." in text(shown)
    assert 'class="expected' not in shown


# -- pausing -----------------------------------------------------------------------------------------------------------
async def test_an_operator_pauses_it_with_a_reason_and_resumes_it(ledger, operator, page):
    answer = await Form(await page(), f"{BOT}/pause").post(operator, {"reason": "over the top"})
    assert (answer.status_code, answer.headers["location"]) == (303, BOT)
    assert ledger.agent("bot").paused_reason == "over the top"
    shown = await page()
    assert "over the top" in shown
    assert f'action="{BOT}/pause"' not in shown
    await Form(shown, f"{BOT}/resume").post(operator)
    assert ledger.agent("bot").status == "active"


# -- editing -----------------------------------------------------------------------------------------------------------
@pytest.fixture
async def made(ledger) -> str:
    """The path of an agent that the policy file does not have."""
    agent = await ledger.create_agent(Agent("free", "Free", "Any", "me", 10 * USD, None, 0))
    return f"/ui/agents/{agent.id}"


async def test_what_is_edited_is_changed_exactly(ledger, operator, page, made):
    typed = {"monthly_budget": " $12.000000001", "per_action_limit": "0.5", "role": "Writes", "auto_resume": "yes"}
    answer = await Form(await page(made), made).post(operator, typed)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{made}?saved=1")
    agent = ledger.agent("free")
    assert (agent.monthly_budget, agent.per_action_limit) == (12_000_000_001, USD // 2)
    assert (agent.name, agent.role, agent.owner_id, agent.auto_resume) == ("Free", "Writes", "me", True)
    assert "Saved." in text(await page(f"{made}?saved=1"))
    await Form(await page(made), made).post(operator, {"per_action_limit": ""})
    assert ledger.agent("free").per_action_limit is None


@pytest.mark.parametrize(
    ("name", "typed", "why"),
    [
        ("monthly_budget", "1,000", "Monthly budget: an amount of USD must be a plain, non-negative number"),
        ("monthly_budget", "-1", "Monthly budget: an amount of USD must be a plain, non-negative number"),
        ("monthly_budget", "NaN", "Monthly budget: an amount of USD must be a plain, non-negative number"),
        ("monthly_budget", "", "Monthly budget: an amount of USD must be a plain, non-negative number"),
        ("per_action_limit", "1e999", "Per-action limit: an amount of USD must not exceed 1000000000"),
        ("per_action_limit", "0.0000000001", "must not be finer than 0.000000001"),
        ("name", "", "Name: must have 1 to 128 characters"),
        ("role", "x" * 129, "Role: must have 1 to 128 characters"),
        ("name", "a\0b", "Name: must not hold NUL"),
        ("owner_id", "a\u202eb", "Owner: must hold no control or invisible characters"),
    ],
)
async def test_what_can_not_be_is_told_at_its_field_and_what_was_typed_stays(
    ledger, operator, page, made, name, typed, why
):
    before = ledger.agent("free")
    other = "role" if name == "name" else "name"
    answer = await Form(await page(made), made).post(operator, {name: typed, other: "typed <b>"})
    assert answer.status_code == 422
    assert ledger.agent("free") == before
    assert why in text(answer.text)
    assert f'aria-describedby="p-{name}"' in answer.text
    assert f'name="{other}" value="typed &lt;b&gt;"' in answer.text
    again = await Form(answer.text, made).post(operator, {name: {"name": "Well"}.get(name, "1")})
    assert again.status_code == 303
    assert getattr(ledger.agent("free"), other) == "typed <b>"


async def test_what_others_changed_meanwhile_is_not_changed_back(ledger, operator, page, made):
    form = Form(await page(made), made)
    await ledger.change_agent("free", {"monthly_budget": 99 * USD})
    await form.post(operator, {"name": "Renamed"})
    assert (ledger.agent("free").name, ledger.agent("free").monthly_budget) == ("Renamed", 99 * USD)


async def test_what_the_policy_file_states_is_text_and_refused_when_posted_by_hand(ledger, operator, page):
    shown = await page()
    form = Form(shown, BOT)
    assert form.fields.keys().isdisjoint({"name", "monthly_budget"})
    assert form.fields.keys() >= {"role", "owner_id", "per_action_limit", "auto_resume"}
    assert "Monthly budget $100.00 set in the policy file" in text(shown)
    answer = await form.post(operator, {"monthly_budget": "1000"})
    assert answer.status_code == 409
    assert "the policy file manages monthly_budget" in answer.text
    assert ledger.agent("bot").monthly_budget == 100 * USD


# -- keys --------------------------------------------------------------------------------------------------------------
async def test_a_new_key_is_shown_once_and_works(ledger, operator, page, made):
    before = await page(made)
    assert "It has no key" in text(before)
    answer = await Form(before, f"{made}/keys").post(operator)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    (secret,) = re.findall(r"alk_[\w-]{43}", answer.text)
    assert ledger.agent_by_key(digest(secret)).id == "free"
    (key,) = ledger.agent("free").keys
    for path in (made, f"{made}/keys"):  # what an open page fetches
        after = await page(path)
        assert secret not in after
        assert digest(secret) not in after
        assert f"{key.id} in force" in text(after)


@pytest.mark.parametrize(("others", "grace"), [("keep", None), ("day", 24 * HOUR), ("hour", HOUR), ("now", 0)])
async def test_the_others_expire_as_is_chosen(ledger, clock, operator, page, made, others, grace):
    await ledger.add_key("free", digest("old"))
    answer = await Form(await page(made), f"{made}/keys").post(operator, {"others": others})
    (secret,) = re.findall(r"alk_[\w-]{43}", answer.text)
    assert ledger.agent_by_key(digest(secret)).id == "free"
    old, _ = ledger.agent("free").keys
    assert old.expires_at == (None if grace is None else NOON + grace)
    clock.at += (grace or 0) - 1
    assert (ledger.agent_by_key(digest("old")) is None) == (grace == 0)
    clock.at += 1
    assert (ledger.agent_by_key(digest("old")) is None) == (grace is not None)


async def test_a_revoked_key_is_refused_and_says_when_it_ended(ledger, operator, page, made):
    key = await ledger.add_key("free", digest("old"))
    answer = await Form(await page(made), f"{made}/keys/{key.id}/revoke").post(operator)
    assert (answer.status_code, answer.headers["location"]) == (303, made)
    assert ledger.agent_by_key(digest("old")) is None
    shown = await page(made)
    assert f"{key.id} ended" in text(shown)
    assert f"{key.id}/revoke" not in shown


async def test_the_policy_files_key_is_shown_as_such_and_can_not_be_revoked(ledger, operator, page):
    shown = await page()
    assert "the policy file's in force set in the policy file" in text(shown)
    assert "keys/policy/revoke" not in shown
    token = Form(shown, BOT).fields["form_token"]
    answer = await operator.post(f"{BOT}/keys/policy/revoke", data={"form_token": token})
    assert answer.status_code == 409
    assert ledger.agent_by_key(digest("alk_of-the-policy-file")).id == "bot"


async def test_what_is_no_key_or_no_choice_is_refused(ledger, operator, page, made):
    token = {"form_token": Form(await page(made), made).fields["form_token"]}
    assert (await operator.post(f"{made}/keys/key_none/revoke", data=token)).status_code == 404
    assert (await operator.post(f"{made}/keys", data=token | {"others": "never"})).status_code == 422
    assert (await operator.post("/ui/agents/nobody/keys", data=token | {"others": "keep"})).status_code == 404
    assert ledger.agent("free").keys == ()


async def test_an_agent_with_as_many_keys_as_it_may_have_gets_no_other(ledger, operator, page, made):
    for number in range(10):
        await ledger.add_key("free", digest(str(number)))
    answer = await Form(await page(made), f"{made}/keys").post(operator)
    assert answer.status_code == 409
    assert "revoke one first" in answer.text


@pytest.mark.parametrize("path", ["", "/keys", "/pause", "/keys/key_x/revoke"])
@pytest.mark.parametrize(
    ("headers", "status"), [({}, 403), ({"origin": "http://evil.example"}, 403), ({"cookie": ""}, 401)]
)
async def test_a_change_that_the_operator_did_not_make_is_refused(ledger, operator, made, path, headers, status):
    before = ledger.agent("free")
    fields = {"form_token": "0" * 64, "name": "x", "others": "keep"}
    assert (await operator.post(made + path, data=fields, headers=headers)).status_code == status
    assert ledger.agent("free") == before


async def test_promise_11_an_agents_key_opens_neither_page_nor_form(ledger, client, made):
    key = {"authorization": "Bearer alk_of-the-policy-file"}
    assert (await client.get(BOT, headers=key)).status_code == 303
    assert (await client.post(f"{BOT}/keys", data={"others": "keep"}, headers=key)).status_code == 401


async def test_an_open_call_that_ends_is_gone_from_what_is_in_flight(ledger, sidecar):
    held = await ledger.authorize(call(USD))
    assert (await show(sidecar, ledger.agent("bot"), NOON)).values["held_sum"] == USD
    await ledger.settle(held.action_id, Settlement(USD // 2, "success"))
    assert (await show(sidecar, ledger.agent("bot"), NOON)).values["held_count"] == 0
