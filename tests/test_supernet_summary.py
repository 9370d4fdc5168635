"""What the summary says of a device and a table: every option counts, not the kind alone."""

import pytest
import torch
from models import PlainAdd, Whole, randomise
from torch import nn

from lut.device import Device, Supports
from lut.spec import Latency
from lut.table import LatencyTable
from search.coverage import within
from supernet import SearchSpace, Supernet

X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
ROW = Latency(1.0, 1.0, 1.0, 1, source="host")


def plain_add(act_bits=(4, 8), multiple=4):
    return Supernet.from_model(randomise(PlainAdd()), X, SearchSpace((4, 8), act_bits, (0.5, 1.0), multiple))


def device(**supports):
    return Device("board", supports=Supports(**{"weight_bits": (4, 8), "act_bits": (4, 8), **supports}))


def lines(net, device=None, table=None):
    """By node: (costed, deployable, the whole line)."""
    head, *rows, _ = net.summary(device, table).splitlines()
    columns = [head.index(name) for name in ("costed", "deployable")]
    return {row.split()[0]: (*(row[at:].split()[0] for at in columns), row) for row in rows}


def table_of(specs, **provenance):
    return LatencyTable(dict.fromkeys((spec.without_site() for spec in specs), ROW), provenance)


def specs(ops):
    return [spec for op in ops for spec in op.grid()]


def test_activation_bits_that_the_device_lacks():
    host = Device.load("host-cpu")
    said = lines(plain_add((3, 8)), host)
    assert said["a.0"][1] == "no"
    assert "the device has no 3-bit activations" in said["a.0"][2]
    assert said["head"][1] == "yes"  # it returns scores
    assert {row[1] for row in lines(plain_add((2, 8)), host).values()} == {"yes"}


def test_channels_that_the_device_lacks():
    said = lines(plain_add(), device(channel_multiple=8))
    assert said["a.0"][1] == "no"
    assert "the device has channels by 8, not 4" in said["a.0"][2]
    assert said["head"][1] == "yes"  # full width, 4 channels, is no option
    cut, _ = within(plain_add().space, device(channel_multiple=8))
    cut_net = Supernet.from_model(randomise(PlainAdd()), X, cut)
    assert {row[1] for row in lines(cut_net, device(channel_multiple=8)).values()} == {"yes"}


def test_costed_is_what_the_table_answers_for_every_option():
    net = plain_add()
    every = specs(net.ops())
    assert {row[0] for row in lines(net, table=table_of(every)).values()} == {"yes"}
    head = specs(op for op in net.ops() if op.output == "head")
    said = lines(net, table=table_of([spec for spec in every if spec != head[0]]))
    assert {name for name, row in said.items() if row[0] == "no"} == {"head"}
    assert f"the table lacks 1 of its {len(set(head))} operators, such as conv2d 4->4 2x2" in said["head"][2]
    said = lines(net, table=table_of([spec for spec in every if spec.kind != "add"], ignores="out_bits"))
    assert {name for name, row in said.items() if row[0] == "no"} == {"add"}
    assert "the table has no add" in said["add"][2]
    said = lines(net, table=table_of([spec for spec in every if spec.kind != "add"], free="add"))
    assert {row[0] for row in said.values()} == {"yes"}


@pytest.mark.parametrize("missing", [0, 1])
def test_a_block_that_the_table_prices_as_one_row(missing):
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), Whole(), nn.Conv2d(8, 4, 8), nn.Flatten())
    net = Supernet.from_model(randomise(model), X, SearchSpace((4, 8), (8,), (0.5, 1.0)))
    priced = net.schedule().priced(frozenset({"whole"}))
    (block,) = (op for op in priced if op.name == "1")
    rows = [spec for op in priced if op is not block for spec in op.grid()] + [*block.grid()][missing:]
    said = lines(net, table=table_of(rows))
    assert {name for name, row in said.items() if row[0] == "no"} == ({"1.a", "1.b"} if missing else set())
