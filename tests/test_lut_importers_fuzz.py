"""Damaged files: whatever happens to one, an importer gives a sound table or a LutError that names the file."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_samples import SAMPLES, attempt, npy, sample

from lut.errors import LutError
from lut.importers import IMPORTERS
from lut.table import LatencyTable

INSERTS = [
    b"nan", b"-1", b"1e999", b"0", b"null", b'"x"', b"[]", b"{", b"'", b"\xff", b"\0", b"\n", b"#", b"!!python/object",
    b"*a", b"&a ", b"-", b"true", b"9" * 5000, b"\xe2\x80\xa8", b"\\ud800", b": ", b"? ", b"[" * 3000, b"inf", b",",
]  # fmt: skip
NAMES = sorted(SAMPLES)
EDIT = st.tuples(
    st.sampled_from(["flip", "delete", "insert", "repeat"]),
    st.floats(0, 1),
    st.integers(0, 255),
    st.integers(1, 40),
    st.sampled_from(INSERTS),
)
BOUNDED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def edited(content, edits):
    for kind, place, byte, length, inserted in edits:
        at = int(place * max(0, len(content) - 1))
        if kind == "flip":
            content = content[:at] + bytes([byte]) + content[at + 1 :]
        elif kind == "delete":
            content = content[:at] + content[at + length :]
        elif kind == "insert":
            content = content[:at] + inserted + content[at:]
        else:
            content = content[: at + length] + content[at:]
    return content


def sound_or_refused(name, content, folder):
    source = folder / "source"
    source.write_bytes(content)
    table = attempt(name, source)
    if isinstance(table, str):
        assert str(source) in table
        assert len(table) < 2000 or name == "csv"  # whose columns are listed
        return
    table.write(folder / "t.csv")
    again = LatencyTable.read(folder / "t.csv")
    assert dict(again) == dict(table)
    assert again.provenance == table.provenance
    assert all(0 < row.us < 1e15 for row in table.values())


@pytest.mark.parametrize("name", NAMES)
@BOUNDED
@given(edits=st.lists(EDIT, min_size=1, max_size=3))
def test_bytes(name, edits, tmp_path):
    sound_or_refused(name, edited(sample(name), edits), tmp_path)


VALUES = st.sampled_from([None, True, -1, 0, 1e308, 10**400, "1", "", [], {}, [1], {"a": 1}, float("nan"), "\ud800"])


def replaced(tree, path, value):
    """The tree with one of its parts, found by following `path` down, replaced."""
    if not path or not isinstance(tree, dict | list) or not tree:
        return value
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    key = keys[path[0] % len(keys)]
    items = {k: replaced(tree[k], path[1:], value) if k == key else tree[k] for k in keys}
    return items if isinstance(tree, dict) else list(items.values())


@pytest.mark.parametrize("name", ["apq", "fbnet_hwnasbench", "hawq"])
@BOUNDED
@given(path=st.lists(st.integers(0, 30), max_size=4), value=VALUES)
def test_swapped_types(name, path, value, tmp_path):
    content = json.dumps(replaced(json.loads(sample(name)), path, value)).encode()
    sound_or_refused(name, content, tmp_path)


@BOUNDED
@given(line=st.integers(0, 3), key=st.integers(0, 3), value=VALUES)
def test_swapped_types_in_lines(line, key, value, tmp_path):
    lines = sample("fbnet_lines").decode().splitlines()
    entry = eval(lines[line])
    entry[list(entry)[key]] = value
    lines[line] = repr(entry)
    sound_or_refused("fbnet_lines", "\n".join(lines).encode("utf-8", "surrogatepass"), tmp_path)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.array([Trap()]), allow_pickle=True), "objects and pickles are not read"),
        (pickle.dumps(Trap()), "not a .npy array"),
        (npy(np.ones((53, 8, 8))), "expected whole numbers [53, 8, 8]"),
        (npy(np.ones((52, 8, 8), np.int64)), "int64 [52, 8, 8]"),
        (npy(np.zeros((53, 8, 8), np.int64)), "features.0.0 w1 a1: 0 cycles"),
        (npy(np.full((53, 8, 8), -1)), "-1 cycles are not positive"),
        (npy(np.full((53, 8, 8), 2**62)), "out of all proportion"),
        (npy(np.array(["text"])), "expected plain numbers"),
        (sample("haq") + b"1", "the file is cut off or too long"),
        (b"PK\x03\x04" + b"0" * 99, "an archive"),
    ],
)
def test_arrays(content, message, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(content)
    with pytest.raises(LutError) as error:
        IMPORTERS["haq"](source, device="d")
    assert message in str(error.value)


def test_a_file_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("lut.importers.common.MAX_BYTES", 100)
    source = tmp_path / "source"
    source.write_bytes(sample("apq"))
    with pytest.raises(LutError, match="larger than"):
        IMPORTERS["apq"](source, device="d")
