"""Each harness over the inputs that once broke it, and a second of new ones: `python -m tests.fuzz` has minutes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.targets import SEEDS, TARGETS, seeds


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name in TARGETS for seed in seeds(name)])
def test_what_once_broke_it_holds(name, seed):
    TARGETS[name].harness(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_its_properties_hold(name):
    target = TARGETS[name]

    @settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
    @given(target.mixed())
    def holds(data):
        target.harness(data)

    holds()


def test_every_seed_has_a_target():
    assert {folder.name for folder in SEEDS.iterdir()} <= set(TARGETS)
