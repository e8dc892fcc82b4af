"""A repository holds what plain dicts hold, whatever is done to it, by whom, in whatever weather."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from hangar_cloud.backends.store import memory
from hangar_cloud.catalog import condemned, records
from hangar_cloud.progress import set_progress
from tests.model.keeping import KeepingTeam
from tests.model.machine import Team
from tests.model.weather import UnreliableStore, Weather

_EXAMPLES_WANTED = os.environ.get("HANGAR_MODEL_EXAMPLES")
_TIMES = float(_EXAMPLES_WANTED or "1")
_STEPS = 25
_NO_LIMIT = 0
_MemoryStore = memory.MemoryStore


class TeamAtAFolder(KeepingTeam):
    """The shared repository is a folder."""


class TeamInMemory(KeepingTeam):
    """It is in memory, behind a cache of each who works on it directly."""

    scheme = "memory"


class TeamInAStorm(TeamInMemory):
    """The same, and requests fail before or after they are carried out."""

    stormy = True


@pytest.fixture(autouse=True)
def small_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees of several levels from some tens of rows."""
    monkeypatch.setattr(records, "_THRESHOLDS", [2**64 // (12 * 4**level) for level in range(7)] + [0])


@pytest.fixture(autouse=True)
def quick_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is at work at the same moment, so collections and writers need not wait for each other."""
    monkeypatch.setattr(condemned, "SETTLE_SECONDS", 0.002)
    monkeypatch.setattr(condemned, "LEASE_SECONDS", 0.05)


@pytest.mark.timeout(_NO_LIMIT)
@pytest.mark.parametrize(("team", "examples"), [(TeamAtAFolder, 20), (TeamInMemory, 20), (TeamInAStorm, 32)])
def test_whatever_people_do_the_repository_holds_what_dicts_hold(
    team: type[Team], examples: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_progress(False)
    weather = Weather()

    def through_the_weather(url: str) -> Any:
        return UnreliableStore(_MemoryStore(url), weather)

    monkeypatch.setattr(team, "weather", weather)
    monkeypatch.setattr(memory, "MemoryStore", through_the_weather)
    run_state_machine_as_test(
        team,
        settings=settings(
            max_examples=max(1, int(examples * _TIMES)),
            stateful_step_count=_STEPS,
            deadline=None,
            print_blob=True,
            # One change is checked by the same examples as the next; other ones are tried by the long run.
            derandomize=_EXAMPLES_WANTED is None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    capsys.readouterr()
