from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from genai_prices.data_units import unit_data
from hypothesis import given
from hypothesis import strategies as st

from policy.model import Rate
from policy.units import ABOVE, BELOW, RATE_KEYS, SPLITS, UnitError, make_rate, unit_of


@pytest.mark.parametrize(
    ("key", "usage", "per"),
    [
        ("request", "request", 1),
        ("requests_kcount", "request", 1_000),
        ("input_mtok", "input_tokens", 1_000_000),
        ("cache_write_1h_mtok", "cache_write_1h_tokens", 1_000_000),
        ("web_searches_kcount", "web_searches", 1_000),
        ("audio_hours", "audio_seconds", 3_600),
        ("input_mchars", "input_characters", 1_000_000),
        ("input_gpixels", "input_pixels", 1_000_000_000),
        ("seconds", "seconds", 1),
        ("gpu_hours", "gpu_hours", 1),
        ("input_tokens", "input_tokens", 1),
    ],
)
def test_a_key_says_its_unit(key, usage, per):
    assert unit_of(key) == (usage, per)


def test_every_key_of_the_catalog_is_known():
    for usage, unit in unit_data.items():
        assert unit_of(unit["price_key"]) == ("request" if usage == "requests" else usage, unit["per"])


@pytest.mark.parametrize(
    "key", ["inptu_mtok", "_mtok", "tokens_mtok", "web_search_kcount", "mchars_mchars", "requests"]
)
def test_a_name_that_states_a_scale_must_be_known(key):
    with pytest.raises(UnitError, match="unknown unit") as caught:
        unit_of(key)
    assert caught.value.choices == RATE_KEYS
    assert "input_mtok" in RATE_KEYS
    assert "request" in RATE_KEYS


@pytest.mark.parametrize(
    ("key", "usd", "rate"),
    [
        ("request", "0.01", Rate("request", "request", 10_000_000, 1)),
        ("request", "0", Rate("request", "request", 0, 1)),
        ("input_mtok", "2.50", Rate("input_mtok", "input_tokens", 2_500_000_000, 1_000_000)),
        ("seconds", "0.000000001", Rate("seconds", "seconds", 1, 1)),
        # finer than a nano-dollar: stated for 10 times the units, for 10^9 times
        ("seconds", "0.0000000025", Rate("seconds", "seconds", 25, 10)),
        ("seconds", "1e-18", Rate("seconds", "seconds", 1, 10**9)),
        ("input_mtok", "0.041666666666666664", Rate("input_mtok", "input_tokens", 41666666666666664, 10**15)),
        # digits beyond any Decimal context's precision
        ("seconds", "1234567.123456789012345678901", Rate("seconds", "seconds", 1234567123456789012345678901, 10**12)),
    ],
)  # fmt: skip
def test_a_rate_is_integers_exactly(key, usd, rate):
    assert make_rate(key, Decimal(usd)) == rate


def test_tiers_share_the_scale_of_the_finest_and_ascend():
    rate = make_rate("input_mtok", Decimal("1.25"), [(500_000, Decimal(3)), (200_000, Decimal("0.00000000025"))])
    assert rate == Rate(
        "input_mtok", "input_tokens", 125_000_000_000, 10**8, ((200_000, 25), (500_000, 300_000_000_000))
    )


@pytest.mark.parametrize(
    ("usd", "why"),
    [
        ("-1", "negative"),
        ("NaN", "finite"),
        ("Infinity", "finite"),
        ("1000000000.000000001", "exceed"),
        ("1e999999", "exceed"),
        ("1e-22", "finer"),
        ("1e-999999", "finer"),
    ],
)
def test_what_is_no_rate_is_refused_without_choices(usd, why):
    with pytest.raises(UnitError, match=why) as caught:
        make_rate("request", Decimal(usd))
    assert caught.value.choices == ()
    with pytest.raises(UnitError, match=why):
        make_rate("input_mtok", Decimal(1), [(100, Decimal(usd))])


@given(st.decimals(0, 10**9, places=21), st.sampled_from(RATE_KEYS))
def test_any_rate_keeps_its_value(usd, key):
    rate = make_rate(key, usd)
    assert Fraction(rate.nano, rate.per) == Fraction(usd) * 10**9 / unit_of(key)[1]


def test_kinds_stand_below_what_includes_them():
    assert {"cache_read_tokens", "cache_write_1h_tokens", "input_audio_tokens"} <= BELOW["input_tokens"]
    assert {"output_reasoning_tokens", "output_audio_tokens"} <= BELOW["output_tokens"]
    assert BELOW["cache_write_tokens"] >= {"cache_write_5m_tokens", "cache_write_1h_tokens"}
    assert ABOVE["cache_audio_read_tokens"] == {"input_tokens", "cache_read_tokens", "input_audio_tokens"}
    assert not BELOW["input_tokens"] & BELOW["output_tokens"]
    assert "request" not in BELOW


def test_a_kind_is_split_into_parts_that_do_not_overlap():
    assert set(SPLITS["input_tokens"]) == {
        ("cache_read_tokens", "cache_write_tokens", "input_tool_tokens"),
        ("input_audio_tokens", "input_image_tokens", "input_text_tokens", "input_video_tokens"),
    }
    for splits in SPLITS.values():
        for parts in splits:
            for part in parts:
                assert not any(BELOW[part] & BELOW[other] for other in parts if other != part)
