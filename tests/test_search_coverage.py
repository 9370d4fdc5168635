"""What a device takes away from a search space, and what it lacks."""

import pytest
import torch
from models import PlainAdd

from lut.device import Device, Supports
from lut.errors import InputError
from search.coverage import require_kinds, within
from supernet import SearchSpace, Supernet

SPACE = SearchSpace((2, 4, 8), (4, 8), (0.5, 1.0), channel_multiple=4)


def device(**supports) -> Device:
    return Device("board", supports=Supports(**{"weight_bits": (2, 4, 8), "act_bits": (4, 8), **supports}))


def test_a_space_that_the_device_supports_is_left_as_it_is():
    assert within(SPACE, device(channel_multiple=2)) == (SPACE, ())


def test_what_the_device_lacks_is_cut_and_said():
    cut, lines = within(SPACE, device(weight_bits=(2, 4), act_bits=(8,), channel_multiple=6))
    assert (cut.weight_bits, cut.act_bits, cut.first_last_bits, cut.channel_multiple) == ((2, 4), (8,), 4, 12)
    assert cut.widths == SPACE.widths
    assert lines == (
        "weight_bits: [8] are not supported by board, which has [2, 4]",
        "act_bits: [4] are not supported by board, which has [8]",
        "first_last_bits: 4, not 8: board has weights of [2, 4] bits",
        "widths: multiples of 12, not of 4",
    )


@pytest.mark.parametrize(
    ("space", "supports", "message"),
    [
        (SPACE, {"act_bits": (2,)}, r"space.act_bits: \[4, 8\]: board supports \[2\] alone"),
        (SearchSpace((32,), (32,)), {}, r"space.weight_bits: \[32\]: board supports \[2, 4, 8\] alone"),
        (
            SearchSpace((2, 4), pin={"fc": {"weight_bits": 8}}),
            {"weight_bits": (2, 4)},
            r"space.pin.fc.weight_bits: 8: board supports \[2, 4\] alone",
        ),
    ],
)
def test_a_space_of_which_nothing_is_left_is_an_error(space, supports, message):
    with pytest.raises(InputError, match=message):
        within(space, device(**supports))


@pytest.mark.parametrize(
    ("supports", "message"),
    [
        ({"kinds": ("input", "conv2d", "add")}, "pool: board has no avg_pool; it has input, conv2d, add"),
        ({"max_kernel": 3}, "b.0: a kernel of 5x5; board has kernels up to 3"),
    ],
)
def test_an_operator_that_the_device_lacks_names_the_layer(supports, message):
    net = Supernet.from_model(PlainAdd(), torch.randn(2, 1, 8, 8), SPACE)
    require_kinds(net, device())
    with pytest.raises(InputError, match=message):
        require_kinds(net, device(**supports))
