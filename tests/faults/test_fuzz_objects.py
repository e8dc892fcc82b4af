"""Damage of any kind in any file: reading raises errors of ours, ends, and takes no memory that nothing asked for.

A short run is part of the suite. ``HANGAR_FUZZ_EXAMPLES=5000 pytest tests/faults/test_fuzz_objects.py`` is a long one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.faults.victims import ALL_USES, Reader, clone_of, copied, files_to_damage, make_one_of_everything

EXAMPLES = int(os.environ.get("HANGAR_FUZZ_EXAMPLES", "15"))
WAYS = ("flip", "bytes", "cut", "empty", "grow", "zeros", "ones", "swap", "splice", "gone", "numbers")
USES = [("read", "look back"), ("verify",), ("clone",), ("write",), ("merge",)]


@pytest.fixture(scope="module", params=["repository", "clone"])
def original(request, tmp_path_factory):
    """A repository, or a clone that holds parts of one."""
    folder = tmp_path_factory.mktemp("fuzz")
    made = make_one_of_everything(folder / "original")
    return made if request.param == "repository" else clone_of(made, folder / "clone")


@pytest.fixture(scope="module")
def reader(original):
    process = Reader(original)
    yield process
    process.stop()


def damaged(intact: bytes, way: str, seed: int, others: list[Path]) -> bytes:
    """The contents of a file after one kind of damage."""
    generator = random.Random(seed)
    data = bytearray(intact)
    place = generator.randrange(len(data))
    if way == "flip":
        data[place] ^= 1 << generator.randrange(8)
    elif way == "bytes":
        for _ in range(20):
            data[generator.randrange(len(data))] = generator.randrange(256)
    elif way == "cut":
        del data[place:]
    elif way == "empty":
        data.clear()
    elif way == "grow":
        data += generator.randbytes(generator.randrange(1, 5000))
    elif way in ("zeros", "ones"):
        end = min(place + generator.randrange(1, 64), len(data))
        data[place:end] = (b"\0" if way == "zeros" else b"\xff") * (end - place)
    elif way == "swap":
        data = bytearray(generator.choice(others).read_bytes())
    elif way == "splice":
        other = generator.choice(others).read_bytes()
        start = generator.randrange(len(other))
        data[place:] = other[start : start + len(data) - place]
    elif way == "numbers":
        wide = generator.choice([2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1, 0])
        data[place : place + 8] = wide.to_bytes(8, "little")
    return bytes(data)


def test_an_intact_one_is_read_in_all_these_ways(original, reader):
    with copied(original, original.with_name("copy")) as copy:
        uses = ("read", "look back", "verify", "write") if original.name == "clone" else ALL_USES
        assert {use: reader.said(copy, use) for use in uses} == dict.fromkeys(uses, "")


def test_damage_in_any_file(original, reader):
    files = [path.relative_to(original) for path in files_to_damage(original)]
    assert len(files) >= 10

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="HANGAR_FUZZ_EXAMPLES" not in os.environ,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(files), st.sampled_from(WAYS), st.integers(0, 2**32), st.sampled_from(USES))
    def check(name, way, seed, uses):
        with copied(original, original.with_name("copy")) as copy:
            file = copy / name
            siblings = [original / other for other in files if other.suffix == name.suffix and other != name]
            if way == "gone":
                file.unlink()
            elif siblings or way not in ("swap", "splice"):
                file.write_bytes(damaged((original / name).read_bytes(), way, seed, siblings))
            assert reader.faults(copy, f"{name} {way} {seed}", uses) == []

    check()
