"""Which casts lose something: what is refused, naming the sample, and what is accepted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hangar_cloud.catalog.casting import always_exact, cast_exact
from hangar_cloud.errors import InvalidSchemaError
from tests.repository.altering import column_of, holds
from tests.repository.making import files_of

NUMBERS = [
    "|b1",
    "|i1",
    "|u1",
    "<i2",
    ">u2",
    "<i4",
    "<u4",
    "<i8",
    ">i8",
    "<u8",
    "<f2",
    "<f4",
    ">f4",
    "<f8",
    "<c8",
    "<c16",
]


@pytest.mark.parametrize("size", [1, 5, 40, 5000], ids="{} elements".format)
@pytest.mark.parametrize("new", ["<i2", ">i4", "<i8", "<f4", "<f8", "<c8"])
def test_widening_is_accepted(tmp_path, size, new):
    old = {key: np.full(size, 50 * key, np.uint8) for key in range(5)}
    repository, writer = column_of(old, tmp_path=tmp_path)
    before = repository.log(return_contents=True)["head"]
    wanted = {key: value.astype(new) for key, value in old.items()}
    column = writer["x"]
    assert holds(writer.columns.alter("x", dtype=new), wanted)
    assert holds(column, wanted), "a handle stays valid"
    assert column.dtype == np.dtype(new)
    writer["x", 9] = wanted[0]
    wanted[9] = wanted[0]
    writer.commit("altered")
    assert holds(column, wanted)
    writer.close()
    assert holds(repository.checkout()["x"], wanted)
    assert holds(repository.checkout(commit=before)["x"], old), "an old commit reads with the old schema"


REFUSED = [
    ("|i1", "<i8", [1, -128, 128], 128),
    ("|i1", "|u1", [0, 255], 255),
    ("|u1", "|i1", [0, 7, -1], -1),
    ("<i8", "<u8", [0, 2**63], 2**63),
    ("<f8", "<i8", [0, 2**53 + 1], 2**53 + 1),
    ("<f8", "<i8", [0, 2**63 - 1], 2**63 - 1),
    ("<f4", "<u8", [0, 2**64 - 1], 2**64 - 1),
    ("<f2", "<i4", [0, 70000], 70000),
    ("<f4", "<f8", [0.5, 0.1], 0.1),
    ("<f4", "<f8", [0.5, 1e300], 1e300),
    ("<i4", "<f8", [3.0, 3.5], 3.5),
    ("<i4", "<f8", [3.0, -0.0], -0.0),
    ("<i8", "<f8", [3.0, 2.0**63], 2.0**63),
    ("<i4", "<f8", [3.0, float("nan")], float("nan")),
    ("<i4", "<f8", [3.0, float("inf")], float("inf")),
    ("|b1", "<i4", [0, 1, 2], 2),
    ("<f8", "<c16", [1, 1j], 1j),
    ("<c8", "<c16", [1j, 0.1], 0.1),
]


@pytest.mark.parametrize(("new", "old", "values", "bad"), REFUSED)
@pytest.mark.parametrize("staged", [False, True])
def test_a_cast_that_loses_something_is_refused_with_key_and_value(tmp_path, new, old, values, bad, staged):
    repository, writer = column_of(
        {f"k{i}": np.full(3, value, old) for i, value in enumerate(values)}, tmp_path=tmp_path, commit=not staged
    )
    before = files_of(Path(repository.path) / ".hangar" / "store")
    held = dict(writer["x"].items())
    with pytest.raises(InvalidSchemaError) as caught:
        writer.columns.alter("x", dtype=new)
    assert isinstance(caught.value, ValueError)
    assert f"'k{values.index(bad) if bad == bad else 1}'" in str(caught.value)
    assert str(np.array([bad], old)[0]) in str(caught.value)
    assert holds(writer["x"], held)
    assert writer["x"].dtype == np.dtype(old)
    assert writer.diff.status() == ("DIRTY" if staged else "CLEAN")
    assert files_of(Path(repository.path) / ".hangar" / "store") == before
    writer.close()


@pytest.mark.parametrize(
    ("old", "new", "values"),
    [
        ("<i8", "|i1", [-128, 127, 0]),
        ("<i8", "|u1", [0, 255]),
        ("<f8", "<f4", [0.5, -0.0, float("inf"), 2.0**-140, float("nan")]),
        ("<f8", "<i8", [0.0, -(2.0**63), 2.0**62]),
        ("<u8", "<f4", [2**63, 0, 2**24]),
        ("|b1", "<f2", [True, False]),
        ("<c16", "<f4", [1.5, -2]),
        ("<i4", ">i4", [1, -1]),
    ],
)
def test_a_cast_that_loses_nothing_is_accepted(tmp_path, old, new, values):
    held = {i: np.full((2, 3), value, old) for i, value in enumerate(values)}
    _, writer = column_of(held, tmp_path=tmp_path)
    wanted = {i: np.full((2, 3), value, new) for i, value in enumerate(values)}
    writer.columns.alter("x", dtype=new)
    assert holds(writer["x"], wanted)
    writer.commit("altered")
    assert holds(writer["x"], wanted)
    back = writer.columns.alter("x", dtype=old)
    assert holds(back, held)
    writer.close()


def test_nan_payloads_count(tmp_path):
    fits = np.array([0x7FF8000020000000, 0xFFF8000000000000], "<u8").view("<f8")
    lost = np.array([0x7FF8000000000001], "<u8").view("<f8")
    _, exact = cast_exact(np.concatenate([fits, lost]), np.dtype("<f4"))
    assert exact.tolist() == [True, True, False]
    _, writer = column_of({"a": fits[:1], "b": fits[1:], "c": lost}, tmp_path=tmp_path)
    with pytest.raises(InvalidSchemaError, match="sample 'c' holds nan, which float32 cannot hold as exactly"):
        writer.columns.alter("x", dtype="<f4")
    del writer["x"]["c"]
    column = writer.columns.alter("x", dtype="<f4")
    back = writer.columns.alter("x", dtype="<f8")
    assert column["a"].tobytes() + back["b"].tobytes() == fits.tobytes()
    writer.close()


def test_a_signalling_nan_stays_as_it_is(tmp_path):
    """A processor that widens one makes it quiet."""
    signalling = np.array([0x7F800001], "<u4").view("<f4")
    _, writer = column_of({0: np.ones(1, "<f4"), 1: signalling}, tmp_path=tmp_path)
    with pytest.raises(InvalidSchemaError, match="sample 1 holds nan"):
        writer.columns.alter("x", dtype="<f8")
    assert writer.columns.alter("x", dtype=">f4")[1].tobytes() == signalling.tobytes()[::-1]
    writer.close()


@pytest.mark.parametrize(
    ("old", "new", "fits", "lost"),
    [
        ("<i8", "<f8", [2**53, 2**53 + 2, -(2**63)], [2**53 + 1, 2**63 - 1]),
        ("<u8", "<f4", [2**24, 2**25 + 4], [2**24 + 1]),
        ("<u2", "<f2", [2048, 2050], [2049, 65535]),
        ("<f8", "<f2", [65504.0, 2.0**-24], [65505.0, 65536.0, 2.0**-25]),
        ("<f8", "|b1", [0.0, 1.0], [-0.0, 0.5, 2.0]),
        ("<c16", "<f8", [1.5, complex(-0.0, 0.0)], [complex(1, -0.0), 1j]),
        ("<c16", "<c8", [complex(0.5, -2.0)], [complex(0.1, 0), complex(0, 0.1)]),
        ("<f4", "<c8", [-0.0, float("inf")], []),
        ("<c8", "|b1", [0, 1], [2]),
        (">i8", "<i2", [-(2**15), 2**15 - 1], [2**15]),
        ("|b1", "<c16", [True, False], []),
    ],
)
def test_the_limits_of_what_is_exact(old, new, fits, lost):
    values = np.array([*fits, *lost], np.dtype(old).newbyteorder("=")).astype(old)
    cast, exact = cast_exact(values, np.dtype(new))
    assert exact.tolist() == [True] * len(fits) + [False] * len(lost)
    assert cast[exact].tolist() == values[exact].tolist()


def test_the_first_sample_in_the_order_of_keys_is_named(tmp_path):
    values = {"z": np.full(2, 700), "b": np.full(2, 500), 10: np.full(2, 300), 9: np.full(2, 200)}
    _, writer = column_of(values, tmp_path=tmp_path)
    for key, value in [(10, 300), ("b", 500), ("z", 700)]:
        with pytest.raises(InvalidSchemaError, match=rf"column 'x'.*uint8.*sample {key!r} holds {value}, which uint8"):
            writer.columns.alter("x", dtype=np.uint8)
        del writer["x"][key]
    assert writer.columns.alter("x", dtype=np.uint8)[9].tolist() == [200, 200]
    writer.close()


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
def test_a_cast_called_exact_gives_equal_numbers_and_comes_back_bit_for_bit(data, old, new):
    values = data.draw(hnp.arrays(old, st.integers(1, 8)))
    cast, exact = cast_exact(values, np.dtype(new))
    assert cast.dtype == np.dtype(new)
    assert cast.shape == values.shape
    if always_exact(np.dtype(old), np.dtype(new)):
        assert exact.all()
    for one, other, is_exact in zip(values.tolist(), cast.tolist(), exact.tolist(), strict=True):
        if is_exact:
            assert one == other or (one != one and other != other)
        elif one == other and np.dtype(new).kind != "b":
            # The only equal numbers that are different bits are the two zeros, also as a part of a complex number.
            assert 0 in (complex(one).real, complex(one).imag)
    back, _ = cast_exact(cast[exact], np.dtype(old))
    assert back.tobytes() == values[exact].tobytes()
