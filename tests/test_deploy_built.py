"""A built network in its folder: the one that runs is the one that was built last, and what lies there is checked."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from test_deploy_tvm_build import HOST, images, network

from deploy.built import describe
from deploy.integer import run_program
from deploy.tvm_build import HostModule, build
from lut.errors import InputError, LutError

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
FIRST, SECOND, BATCH = network(seed=0), network(seed=1), images(4)


def test_a_network_that_is_built_again_is_the_one_that_runs(tmp_path):
    pytest.importorskip("tvm")
    first = HostModule(build(FIRST, HOST, tmp_path))
    np.testing.assert_array_equal(first.run(BATCH), run_program(FIRST, BATCH))
    second = HostModule(build(SECOND, HOST, tmp_path))
    np.testing.assert_array_equal(second.run(BATCH), run_program(SECOND, BATCH))
    np.testing.assert_array_equal(first.run(BATCH), run_program(FIRST, BATCH), "the one before goes on")
    assert (run_program(FIRST, BATCH) != run_program(SECOND, BATCH)).any()


def test_constants_are_the_networks_own_wherever_it_is_built(tmp_path, monkeypatch):
    """Not those of a network that lies where this process is."""
    pytest.importorskip("tvm")
    build(FIRST, HOST, tmp_path / "first")
    monkeypatch.chdir(tmp_path / "first")
    np.testing.assert_array_equal(HostModule(build(SECOND, HOST, tmp_path)).run(BATCH), run_program(SECOND, BATCH))


def test_networks_share_a_folder(tmp_path):
    pytest.importorskip("tvm")
    programs = [replace(program, name=name) for name, program in (("a", FIRST), ("b", SECOND))]
    paths = [build(program, HOST, tmp_path) for program in programs]
    for path, program in zip(paths, programs):
        np.testing.assert_array_equal(HostModule(path).run(BATCH), run_program(program, BATCH))
    assert len({(tmp_path / f"{name}.bin").read_bytes() for name in "ab"}) == 2


def test_a_build_that_fails_leaves_the_former_network(tmp_path, monkeypatch):
    pytest.importorskip("tvm")
    path = build(FIRST, HOST, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setenv("CC", "false")
    with pytest.raises(LutError, match=r"^false -O2"):
        build(SECOND, HOST, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    np.testing.assert_array_equal(HostModule(path).run(BATCH), run_program(FIRST, BATCH))


def test_the_compiler_may_have_arguments(tmp_path, monkeypatch):
    pytest.importorskip("tvm")
    monkeypatch.setenv("CC", "env -u NOTHING cc")
    assert build(FIRST, HOST, tmp_path).exists()
    for given, message in (("no-such-cc -m64", "^no-such-cc: not found: no C compiler"), ("cc '", "^.CC: cc ': ")):
        monkeypatch.setenv("CC", given)
        with pytest.raises(LutError, match=message):
            build(FIRST, HOST, tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("tvm")
    return build(FIRST, HOST, tmp_path_factory.mktemp("built"))


@pytest.mark.parametrize(
    ("field", "old", "new", "message"),
    [
        ("name", '"small_net"', '"small-net"', "name: 'small-net' is no C name"),
        ("name", '"small_net"', '"other"', "no built network: .*other_run"),
        ("isa", f'"{HOST}"', '"avx9"', "isa: 'avx9' is not known"),
        ("isa", f'"{HOST}"', "[]", r"isa: \[\] is not text"),
        ("image", "8,", "-8,", "image: .* is not height, width and channels"),
        ("image", "8,", '"a",', "image.0: 'a' is not a whole number"),
        ("image", "8,", "8, 8, 8,", "image: 5 values; expected 3"),
        ("outputs", '"count": 10', '"count": "x"', "outputs.0.count: 'x' is not a whole number"),
        ("outputs", '"count": 10', '"count": -1', "outputs: one at least, of positive counts"),
        ("scores", '"int16"', '"evil"', "scores: 'evil' is not known"),
        ("threads", "1", "0", "threads: 0 is not positive"),
        ("library", '"', '"0', "not the library that small_net.json describes; build the network again"),
    ],
)
def test_a_damaged_description_is_refused(built, tmp_path, field, old, new, message):
    shutil.copytree(built.parent, tmp_path, dirs_exist_ok=True)
    description = tmp_path / "small_net.json"
    before, key, rest = description.read_text().partition(f'"{field}": ')
    assert old in rest
    description.write_text(before + key + rest.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        HostModule(tmp_path / built.name)


@pytest.mark.parametrize("text", ["", "[" * 10**5, "{}", "\xff", '{"outputs": []}'])
def test_what_is_no_description_is_refused(built, tmp_path, text):
    shutil.copytree(built.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "small_net.json").write_text(text, "latin-1")
    with pytest.raises(InputError, match=r"small_net\.json"):
        describe(tmp_path / built.name)
    os.unlink(tmp_path / "small_net.json")
    with pytest.raises(InputError, match=r"small_net\.json: no such file"):
        describe(tmp_path / built.name)
