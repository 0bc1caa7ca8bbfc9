"""An agent's keys: several in force, each until it ends; what has ended is refused, and never opens the agent."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from policy.model import Policy
from proxy.ledger.port import POLICY_KEY, Agent, AgentUnknown, Key, LedgerError, ManagedField, TooManyKeys
from tests.contract.conftest import Worlds
from tests.contract.policies import agent, policy
from tests.contract.world import World

ONE: Mapping[str, Policy] = {"first": policy(agent("a")), "keyed": policy(agent("a", key="alk_file"))}
HOUR = 3_600_000


def who(w: World, digest: str) -> str | None:
    found = w.ledger.agent_by_key(digest)
    return found.id if found else None


def held(w: World, agent_id: str = "a") -> list[str]:
    found = w.ledger.agent(agent_id)
    assert found is not None
    return [key.digest for key in found.keys]


async def test_a_rollover_is_one_call(world: Worlds) -> None:
    async with world(ONE) as w:
        first = await w.ledger.add_key("a", "k1")
        assert (first.created_at, first.expires_at, first.in_force(w.at)) == (w.at, None, True)
        w.at += 1
        second = await w.ledger.add_key("a", "k2", None, HOUR)
        assert second.id != first.id
        assert [who(w, key) for key in ("k1", "k2", "k3")] == ["a", "a", None]
        w.at += HOUR - 1
        assert who(w, "k1") == "a"
        w.at += 1
        assert [who(w, key) for key in ("k1", "k2")] == [None, "a"]
        await w.restart()
        assert [who(w, key) for key in ("k1", "k2")] == [None, "a"]
        await w.ledger.add_key("a", "k3", None, 0)
        assert [who(w, key) for key in ("k1", "k2", "k3")] == [None, None, "a"]


async def test_a_later_retirement_lengthens_no_key(world: Worlds) -> None:
    async with world(ONE) as w:
        await w.ledger.add_key("a", "k1", w.at + HOUR)
        await w.ledger.add_key("a", "k2", None, 2 * HOUR)
        await w.ledger.add_key("a", "k3", None, 3 * HOUR)
        w.at += HOUR
        assert [who(w, key) for key in ("k1", "k2", "k3")] == [None, "a", "a"]
        w.at += HOUR
        assert [who(w, key) for key in ("k2", "k3")] == ["a", "a"]
        w.at += HOUR
        assert [who(w, key) for key in ("k2", "k3")] == [None, "a"]


async def test_a_revoked_key_is_refused_at_once_and_for_good(world: Worlds) -> None:
    async with world(ONE) as w:
        key, other = await w.ledger.add_key("a", "k1"), await w.ledger.add_key("a", "k2")
        revoked = await w.ledger.revoke_key("a", key.id)
        assert revoked is not None
        assert revoked.expires_at == w.at
        assert [who(w, each) for each in ("k1", "k2")] == [None, "a"]
        w.at += 1
        assert await w.ledger.revoke_key("a", key.id) == revoked  # once is enough
        await w.restart()
        assert [who(w, each) for each in ("k1", "k2")] == [None, "a"]
        assert await w.ledger.revoke_key("a", "key_nothing") is None
        await w.ledger.revoke_key("a", other.id)
        w.at -= HOUR  # a clock set back revives nothing
        assert [who(w, each) for each in ("k1", "k2")] == [None, None]


async def test_promise_11_an_agent_whose_keys_are_all_gone_still_had_one(world: Worlds) -> None:
    async with world(ONE) as w:
        for number in range(40):
            key = await w.ledger.add_key("a", f"k{number}", None, 0)
        await w.ledger.revoke_key("a", key.id)
        w.at += 1000 * 24 * HOUR
        await w.restart()
        assert held(w)
        assert len(held(w)) <= 20  # what ended long ago is forgotten
        assert held(w)[-1] == "k39"
        await w.do_use("keyed")
        await w.do_use("first")
        assert held(w)


async def test_as_many_in_force_as_may_be(world: Worlds) -> None:
    async with world(ONE) as w:
        keys = [await w.ledger.add_key("a", f"k{number}") for number in range(10)]
        with pytest.raises(TooManyKeys):
            await w.ledger.add_key("a", "one more")
        with pytest.raises(TooManyKeys):
            await w.ledger.add_key("a", "one more", None, HOUR)
        assert who(w, "one more") is None
        await w.ledger.revoke_key("a", keys[3].id)
        await w.ledger.add_key("a", "one more")
        await w.ledger.add_key("a", "the only one", None, 0)
        assert [who(w, key) for key in ("k0", "one more", "the only one")] == [None, None, "a"]


async def test_an_archived_agents_keys_open_nothing_and_none_is_added(world: Worlds) -> None:
    async with world(ONE) as w:
        made = await w.ledger.create_agent(Agent("", "Bot", "", "", 0, None, 0, keys=(Key("k1"),)))
        (key,) = made.keys
        assert (key.id[:4], key.created_at, who(w, "k1")) == ("key_", w.at, made.id)
        await w.ledger.change_agent(made.id, {"archived": True})
        assert who(w, "k1") is None
        for work in (w.ledger.add_key(made.id, "k2"), w.ledger.revoke_key(made.id, key.id)):
            with pytest.raises(AgentUnknown):
                await work
        for work in (w.ledger.add_key("nobody", "k2"), w.ledger.revoke_key("nobody", key.id)):
            with pytest.raises(AgentUnknown):
                await work


async def test_the_policy_files_key_works_beside_and_is_the_files(world: Worlds) -> None:
    async with world(ONE) as w:
        await w.ledger.add_key("a", "k1")
        await w.do_use("keyed")
        digest = held(w)[-1]
        assert (who(w, digest), who(w, "k1")) == ("a", "a")
        with pytest.raises(ManagedField):
            await w.ledger.revoke_key("a", POLICY_KEY)
        await w.ledger.add_key("a", "k2", None, 0)
        assert [who(w, key) for key in (digest, "k1", "k2")] == ["a", None, "a"]
        await w.do_use("first")
        assert [who(w, key) for key in (digest, "k2")] == [None, "a"]
        assert await w.ledger.revoke_key("a", POLICY_KEY) is None


async def test_keys_change_by_their_own_calls_alone(world: Worlds) -> None:
    async with world(ONE) as w:
        with pytest.raises(LedgerError, match="not a field"):
            await w.ledger.change_agent("a", {"keys": ()})
        await w.ledger.add_key("a", "k1")
        await w.ledger.change_agent("a", {"status": "paused"})
        assert (held(w), who(w, "k1")) == (["k1"], "a")
