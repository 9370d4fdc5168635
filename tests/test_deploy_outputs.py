"""Several outputs on the device: each at its own scale and place, all equal to the integer reference to the bit."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from mcu_toys import M4, needs_toolchain
from test_supernet_zoo import IMAGES, X, architectures, convert, model_of
from zoo_outputs import SEVERAL, leaves, shape

from deploy.c_project import write
from deploy.integer import run_program, run_tensors
from deploy.lower import lower
from deploy.mcu import simulate
from deploy.results import Place, dense, difference, places, values
from deploy.tvm_build import HostModule, build
from deploy.validate import check_exact
from lut.errors import LutError
from lut.kernels import isa_of_host
from supernet import SearchSpace, Supernet, extract

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def program_of(name, bits=8):
    net = convert(name)
    return lower(extract(net, net.uniform(bits, bits, 0.5)), name)


def test_every_output_has_a_scale_and_a_place():
    program = program_of("early_exit")
    assert program.form.labels == ("0", "1", "2", "3")
    tensors = [program.tensors[name] for name in program.outputs]
    assert {tensor.dtype for tensor in tensors} == {"int16"}
    assert len({tensor.scale for tensor in tensors}) == 4
    rows = places(program, 64)
    assert [row.first * 2 % 64 for row in rows] == [0] * 4
    assert [row.count for row in rows] == [10, 10, 10, 32 * 4 * 4]
    buffers = np.arange(rows[-1].first + rows[-1].count)[None]
    wanted = np.concatenate([np.arange(row.first, row.first + row.count) for row in rows])
    np.testing.assert_array_equal(dense(buffers, rows)[0], wanted)
    with pytest.raises(LutError, match=r"several outputs \(exits.0, .*expected one"):
        _ = program.output


@pytest.mark.parametrize("name", SEVERAL)
def test_numbers_become_what_the_model_returns(name):
    program = program_of(name)
    numbers, tensors = run_program(program, IMAGES), run_tensors(program, IMAGES)
    assert numbers.shape == (len(IMAGES), sum(row.count for row in places(program)))
    found = values(program, numbers)
    assert shape(found) == shape(model_of(name)(X))
    first = leaves(found)[0].reshape(len(IMAGES), -1)
    one = program.tensors[program.outputs[0]]
    codes = tensors[one.name]  # NHWC, as the first leaf of each of these is read
    np.testing.assert_allclose(first, one.scale * codes.reshape(len(IMAGES), -1).astype("f4"), rtol=1e-6)


def test_a_difference_names_the_output():
    program = program_of("two_heads")
    numbers = run_program(program, IMAGES)
    wrong = numbers.copy()
    wrong[3, 11] += 1
    assert difference(program, numbers, numbers, "the device gave") == ""
    assert difference(program, numbers, wrong, "the device gave").startswith("output box, image 3: the device gave [")


@needs_compiler
@pytest.mark.parametrize(("name", "threads"), [("two_heads", 1), ("ssd", 2), ("early_exit", 1)])
def test_the_host_equals_the_reference_in_every_output(name, threads, tmp_path):
    pytest.importorskip("tvm")
    net = convert(name)
    program = lower(extract(net, architectures(net, 1)[0]), name)
    module = HostModule(build(program, isa_of_host(), tmp_path, threads=threads))
    assert check_exact(program, module, IMAGES) == 1000
    assert module.about.outputs == places(program, 64)
    assert all(f"{row.label}: {row.count} from {row.first}" in (tmp_path / f"{name}.h").read_text()
               for row in module.about.outputs)  # fmt: skip
    broken = replace(program, outputs=program.outputs[::-1])
    if run_program(broken, IMAGES).shape == run_program(program, IMAGES).shape:
        with pytest.raises(LutError, match=rf"{name}: output .*: the device gave"):
            check_exact(broken, module, IMAGES)


@needs_compiler
def test_the_float_baseline_is_compared_output_by_output(tmp_path):
    pytest.importorskip("tvm")
    net = Supernet.from_model(model_of("two_heads"), X, SearchSpace((32,), (32,), (1.0,))).eval()
    program = lower(extract(net, net.arch()), "baseline")
    assert program.is_float
    module = HostModule(build(program, isa_of_host(), tmp_path))
    assert check_exact(program, module, IMAGES) == 1000
    off = run_program(program, IMAGES)

    class Off:
        about = module.about

        def run(self, images):
            numbers = module.run(images)
            numbers[:, 10:] += 1e-2 * np.abs(off[:, 10:]).max()  # within 1e-4 of the scores, not of the boxes
            return numbers

    with pytest.raises(LutError, match="float scores differ"):
        check_exact(program, Off(), IMAGES)


@pytest.mark.parametrize("name", SEVERAL)
def test_onnx_has_them_by_name(name):
    pytest.importorskip("onnxruntime")
    from deploy.onnx_check import compare, session
    from deploy.onnx_export import labels, to_onnx

    program = program_of(name)
    model = to_onnx(program)
    found = compare(program, model, IMAGES)
    assert found.largest <= 1 and found.top1 is None
    assert [out.name for out in model.graph.output] == labels(program)
    got = np.concatenate(session(model).run(labels(program), {"image": IMAGES}), 1)
    expected = run_program(program, IMAGES)
    for row, name in zip(places(program), program.outputs):
        span, scale = slice(row.first, row.first + row.count), program.tensors[name].scale
        assert np.abs(got[:, span] - scale * expected[:, span]).max() < 0.05 * scale * np.abs(expected[:, span]).max()


@needs_toolchain
@pytest.mark.parametrize("name", ["two_heads", "ssd"])
def test_a_microcontroller_equals_the_reference(name, tmp_path):
    program = program_of(name)
    project = write(program, M4, tmp_path)
    ran = simulate(project, program, M4, IMAGES[:3])
    np.testing.assert_array_equal(ran.scores, run_program(program, IMAGES[:3]))
    assert ran.ram_bytes == project.ram_bytes


def test_places_of_a_lone_output():
    program = program_of("squeezenet")
    assert places(program, 64) == (Place(0, 10, scale=program.tensors[program.output].scale),)
    assert torch.equal(
        values(program, np.ones((2, 10), "i2")), torch.full((2, 10), program.tensors[program.output].scale)
    )
