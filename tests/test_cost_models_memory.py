import numpy as np
import pytest
from schedules import HashTable, assignments, random_schedule

from cost_models.base import CostModel
from cost_models.live import Live, live_rows
from cost_models.memory import PeakRam, tensor_bytes
from cost_models.table import TableWorkspace
from lut.spec import OpSpec
from supernet.choice import Choice
from supernet.schedule import Schedule, SearchOp, SearchTensor


@pytest.mark.parametrize(
    ("shape", "byte", "packed"),
    [((3, 2, 5, 8), 30, 30), ((9, 2, 1, 4), 18, 10), ((3, 1, 4, 2), 12, 4), ((16, 4, 4, 2), 256, 64),
     ((0, 4, 4, 8), 0, 0), ((10, 1, 1, 16), 20, 20), ((3, 1, 1, 32), 12, 12)],
)  # fmt: skip
def test_tensor_bytes(shape, byte, packed):
    assert tensor_bytes(*shape) == byte
    assert tensor_bytes(*shape, storage="packed") == packed


def residual_block(in_place: int | None, out_bits: int = 8) -> Schedule:
    """x -> a -> b = f(a) + x, all 4x4; x and b have 8 channels, a has 16; image and scores are the caller's."""
    shapes = {"image": (3, 4, 4, 8), "x": (8, 4, 4, 4), "a": (16, 4, 4, 4), "b": (8, 4, 4, out_bits)}
    shapes["y"] = (9, 1, 1, 16)
    tensors = {name: SearchTensor(name, (), lambda values, shape=shape: shape) for name, shape in shapes.items()}

    def op(name: str, inputs: tuple[str, ...], output: str, in_place: int | None = None) -> SearchOp:
        return SearchOp(name, (), (), lambda values: OpSpec("unary", 1, len(name), 1, 1, 1), inputs, output, in_place)

    ops = (op("0", ("image",), "x"), op("12", ("x",), "a"), op("add", ("a", "x"), "b", in_place), op("-", ("b",), "y"))
    return Schedule(ops, tensors, "image", ("y",))


class Scratch(CostModel):
    """128 bytes in the second operator, 1024 in the others."""

    name, unit = "workspace", "B"

    def __call__(self, op: OpSpec) -> float:
        return 128.0 if op.c_in == 2 else 1024.0


def test_in_place_add_saves_the_output():
    assert PeakRam(residual_block(None)).bound({}) == 16 * (8 + 16 + 8)
    assert PeakRam(residual_block(1)).bound({}) == 16 * (8 + 16)


@pytest.mark.parametrize(("out_bits", "bytes_"), [(8, 8 + 4 + 8), (4, 8 + 4), (2, 8 + 4 + 2)])
def test_in_place_needs_two_tensors_of_one_size(out_bits, bytes_):
    """Codes of other bits would be written over some that are still to be read."""
    schedule = residual_block(1, out_bits)
    assert Live(2, frozenset({"a", "x", "b"}), takes=("b", "x")) in live_rows(schedule)
    ram = PeakRam(schedule, "packed", alignment=1)
    assert ram.bound({}) == ram.planned({}) == 16 * bytes_
    assert max(sum(term.at({}) for term in row) for row in ram.rows()) == 16 * bytes_


def test_plans_of_residual_networks_need_what_the_bound_says():
    """Widths and bits drawn at random: seldom more, by a fragment."""
    ratios = []
    for seed in range(6):
        choices, schedule = random_schedule(seed, layers=6, max_options=3)
        ram, generator = PeakRam(schedule, "packed", alignment=1), np.random.default_rng(seed)
        for _ in range(40):
            values = {c.name: c.options[generator.integers(len(c.options))] for c in choices}
            ratios.append(ram.planned(values) / ram.bound(values))
    assert min(ratios) == 1 and np.mean(np.array(ratios) > 1) < 0.05


def test_workspace_counts_while_its_operator_runs():
    ram = PeakRam(residual_block(1), workspace=Scratch(), slack=64)
    assert ram.bound({}) == 16 * (8 + 16) + 3 * 64 + 1024
    assert ram.planned({}) == ram.bound({})
    assert max(sum(term.at({}) for term in row) for row in ram.rows()) + 64 == ram.bound({})


@pytest.mark.parametrize("storage", ["byte", "packed"])
@pytest.mark.parametrize("workspace", [None, TableWorkspace(HashTable({}))])
def test_rows_reach_the_bound_and_no_plan_beats_it(storage, workspace):
    choices, schedule = random_schedule(0, layers=4, max_options=2)
    ram = PeakRam(schedule, storage, workspace, slack=64)
    rows = ram.rows()
    for values in assignments(choices):
        assert max(sum(term.at(values) for term in row) for row in rows) + 64 == ram.bound(values)
        assert ram.planned(values) >= ram.bound(values)
    assert ram.choices <= set(choices)


def test_terms_have_no_axis_that_does_not_matter():
    width, bits = Choice("w", "width", (4, 8), 0), Choice("b", "act_bits", (2, 8), 1)
    tensor = SearchTensor("x", (width, bits), lambda values: (values["w"], 1, 1, values["b"]))
    first = SearchOp("first", (), (), lambda values: None, ("in",), "x")
    second = SearchOp("second", (), (), lambda values: None, ("x",), "out")
    schedule = Schedule((first, second), {"x": tensor}, "in", ("out",))
    assert PeakRam(schedule, "byte").rows()[0][0].choices == (width,)
    assert PeakRam(schedule, "packed").rows()[0][0].choices == (width, bits)
