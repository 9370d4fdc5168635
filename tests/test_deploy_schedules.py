"""A network with tuned rows: built from the table's variants and the traces beside it, equal to the reference."""

import shutil

import pytest
from test_deploy_tvm_build import images, network

from deploy.integer import run_program
from deploy.tvm_build import HostModule, build
from lut import kernels
from lut.errors import LutError
from lut.kernels.traces import is_tuned, variant_of
from lut.schedules import Entry, ScheduleDatabase, schedules_path
from lut.spec import Latency
from lut.table import LatencyTable

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
ISA = "llvm"


@pytest.fixture(scope="module")
def traces():
    """A trace for every row of the 8-bit network that can be tuned."""
    pytest.importorskip("tvm")
    from lut.kernels.metaschedule import sample

    keys = dict.fromkeys(kernels.row_key(op.spec, ISA) for op in network().ops)
    return {key: sample(key, ISA, 1)[0] for key in keys if kernels.untunable(key, ISA) is None}


@pytest.fixture
def table(traces, tmp_path):
    path = tmp_path / "tables" / "host-cpu.csv"
    database = ScheduleDatabase(schedules_path(path), "host-cpu")
    for key, trace in traces.items():
        database.add(key, Entry(variant_of(trace), trace, 1))
    keys = [kernels.row_key(op.spec, ISA) for op in network().ops]
    rows = {key: Latency(1, 1, 1, variant=variant_of(traces[key]) if key in traces else "") for key in keys}
    return LatencyTable(rows, {"collapse": "act_bits", "isa": ISA, "device": "host-cpu"}, path)


def test_a_network_of_tuned_rows_equals_the_reference(table, traces, tmp_path):
    program = network()
    assert sum(is_tuned(table.variant(kernels.row_key(op.spec, ISA))) for op in program.ops) >= 4
    module = HostModule(build(program, ISA, tmp_path, table))
    assert (module.run(images(5)) == run_program(program, images(5))).all()
    default = HostModule(build(program, ISA, tmp_path / "default"))
    assert module.about.code_bytes != default.about.code_bytes, "the traces were not used"


def test_a_network_whose_schedules_are_missing_or_changed_is_refused(table, traces, tmp_path):
    path = schedules_path(table.path)
    whole = path.read_text()
    command = "python scripts/build_lut.py --device host-cpu --specs"
    path.unlink()
    with pytest.raises(LutError, match=rf"small-net: .*no such file(.|\n)*{command}"):
        build(network(), ISA, tmp_path, table)
    path.write_text(whole.replace(kernels.kernel_source_hash(), "0" * 16))
    with pytest.raises(LutError, match=rf"is of kernels 0000(.|\n)*{command}"):
        build(network(), ISA, tmp_path, table)
    path.write_text(whole.replace('"host-cpu"', '"my-board"'))
    with pytest.raises(LutError, match="was tuned on my-board, not on host-cpu"):
        build(network(), ISA, tmp_path, table)
    path.write_text(whole.replace("SamplePerfectTile", "Tensorize"))
    with pytest.raises(LutError, match="the trace is not that of"):
        build(network(), ISA, tmp_path, table)
    padded, linear = (next(key for key in traces if key.kind == kind) for kind in ("conv2d", "linear"))
    other = traces[padded]
    rows = {**table, linear: Latency(1, 1, 1, variant=variant_of(other))}
    path.write_text(whole)
    ScheduleDatabase(path, "host-cpu").add(linear, Entry(variant_of(other), other, 1))
    with pytest.raises(LutError, match="trace: does not apply to this linear"):
        build(network(), ISA, tmp_path, LatencyTable(rows, table.provenance, table.path))
