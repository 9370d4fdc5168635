"""Kernels that MetaSchedule makes of plain loops: the same bits as templates, and traces that are data alone."""

import json
import pickle
import shutil

import pytest
from kernel_toys import HOST, SHAPES, check, conv, with_bits

from lut import kernels
from lut.errors import LutError
from lut.kernels.isa import ISAS
from lut.kernels.traces import LONGEST, check_trace, is_tuned, variant_of
from lut.profilers.tune import differing
from lut.spec import OpSpec

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
TINY = kernels.row_key(with_bits(conv(4, 8, 4, 3), 32), HOST)


@pytest.fixture(scope="module")
def trace():
    pytest.importorskip("tvm")
    from lut.kernels.metaschedule import sample

    return sample(TINY, HOST, 1)[0]


@needs_compiler
@pytest.mark.parametrize(
    ("shape", "bits", "isa"),
    [
        *((shape, 32, HOST) for shape in ("residual", "depthwise5")),
        *((shape, 8, "llvm") for shape in ("odd", "dilated")),
        *(pytest.param(shape, 32, HOST, marks=pytest.mark.slow) for shape in ("rgb", "odd", "groups", "linear")),
        *(pytest.param(s, 8, "llvm", marks=pytest.mark.slow) for s in ("residual", "groups", "depthwise", "linear")),
    ],
)
def test_tuned_kernels_compute_the_template_s_bits(shape, bits, isa):
    pytest.importorskip("tvm")
    from lut.kernels.metaschedule import mutate, sample

    spec = kernels.row_key(with_bits(SHAPES[shape], bits), isa)
    drawn = sample(spec, isa, 1)
    traces = drawn + mutate(spec, isa, drawn, 1)
    assert len(set(traces)) == 2
    made = [kernels.build(spec, isa), *(kernels.build(spec, isa, variant_of(t), 1, t) for t in traces)]
    assert [kernel.variant for kernel in made[1:]] == list(map(variant_of, traces))
    assert differing([pickle.dumps(kernel) for kernel in made]) == []


@needs_compiler
@pytest.mark.parametrize(("bits", "isa"), [(32, HOST), (8, "llvm")])
def test_a_tuned_kernel_agrees_with_the_oracle(bits, isa, monkeypatch):
    pytest.importorskip("tvm")
    from lut.kernels.metaschedule import sample

    spec = with_bits(SHAPES["residual"], bits)
    found = sample(kernels.row_key(spec, isa), isa, 1)[0]
    build, used = kernels.build, []

    def tuned(spec, isa, variant=""):
        used.append(variant)
        return build(spec, isa, variant, 1, found)

    monkeypatch.setattr(kernels, "build", tuned)
    check(spec, isa, seed=3)
    assert used == [""]


def test_what_is_not_tuned_says_why():
    def why(spec, isa="llvm", threads=1):
        return kernels.untunable(kernels.row_key(spec, isa), isa, threads)

    eight = conv(16, 16, 8, 3)
    assert why(eight) is None
    assert why(with_bits(eight, 32), "avx2") is None
    assert "only convolutions" in why(OpSpec("add", 1, 8, 8, 4, 4, in_bits=(8, 8)))
    assert "unpacking" in why(with_bits(eight, 4))
    assert "2 threads" in why(eight, threads=2)
    for isa in set(ISAS) - {"llvm"}:
        assert "dot product" in why(eight, isa)
        assert isa == "neon" or "dot product" in why(SHAPES["depthwise"], isa)


def test_the_trace_of_a_variant_is_needed_and_checked(trace):
    with pytest.raises(LutError, match="its trace is missing, or another one's"):
        kernels.build(TINY, HOST, "meta-schedule:0123456789ab", 1, trace)
    with pytest.raises(LutError, match="its trace is missing"):
        kernels.build(TINY, HOST, variant_of(trace))
    with pytest.raises(LutError, match="not tunable: 4-bit weights"):
        kernels.build(conv(4, 8, 4, 3, 4), HOST, variant_of(trace), 1, trace)
    assert is_tuned(variant_of(trace)) and not is_tuned("6x1")


def test_a_trace_of_another_operator_does_not_apply(trace):
    pointwise = with_bits(conv(8, 8, 4, 1), 32)
    with pytest.raises(LutError, match="trace: does not apply to this conv2d"):
        kernels.build(pointwise, HOST, trace=trace)


def edited(trace, change):
    body = json.loads(trace)
    change(body)
    return json.dumps(body)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[0].append(["Tensorize", ["b0"], ["x"], []]), "instruction 'Tensorize' is none that a trace"),
        (lambda b: b[0].append(["UnsafeSetDType", ["b0"], [0, "int8"], []]), "instruction 'UnsafeSetDType'"),
        (lambda b: b[0].append(["Annotate", ["b0", '"x"'], ["pragma_import_llvm"], []]), "mark 'pragma_import_llvm'"),
        (lambda b: b[0].append(["Annotate", ["b0", 10**9], ["pragma_auto_unroll_max_step"], []]), "between 0 and 512"),
        (lambda b: b[0].append(["SampleCategorical", [], [[10**9], [1.0]], ["v99"]]), "choices"),
        (lambda b: b[0].append(["GetSBlock", [], ["/etc/passwd", "main"], ["b9"]]), "nothing that a trace may name"),
        (lambda b: b[0].append(["GetSBlock", [{"a": 1}], ["sum", "main"], ["b9"]]), "nothing that a trace may name"),
        (lambda b: b[1].append([0, "__import__('os')"]), "a decision that is no number"),
        (lambda b: b[0].append(["Split"]), "not one of MetaSchedule"),
        (lambda b: b.clear(), "not one of MetaSchedule"),
    ],
)  # fmt: skip
def test_a_trace_with_anything_else_in_it_is_refused(trace, change, message):
    assert check_trace(trace)
    with pytest.raises(LutError, match=message):
        check_trace(edited(trace, change))


@pytest.mark.parametrize(
    "text", ["", "{}", "null", "[1", "[[], [], []]", "[" * 50_000, "x" * (LONGEST + 1), '["a", 1]']
)
def test_other_texts_are_no_trace(text):
    with pytest.raises(LutError, match=r"^trace: "):
        check_trace(text)


def test_a_loop_that_is_not_there_is_refused(trace):
    changed = edited(trace, lambda body: body[0].append(["Vectorize", ["l999"], [], []]))
    with pytest.raises(LutError, match="does not apply"):
        kernels.build(TINY, HOST, trace=changed)
