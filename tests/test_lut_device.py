"""Device: what ships loads; every mistake in a file is an error with its dotted path and what would be right."""

import pytest

from lut.device import Device, Supports, quantity
from lut.errors import InputError, LutError


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_host_cpu_ships():
    device = Device.load("host-cpu")
    assert (device.name, device.isa, device.threads, device.runner, device.act_storage) == (
        "host-cpu",
        "auto",
        1,
        "host",
        "byte",
    )
    assert device.supports.weight_bits == (2, 4, 8)
    assert "conv2d_add" in device.supports.kinds


def test_aarch64_ships():
    device = Device.load("aarch64")
    assert (device.isa, device.runner, device.tracker) == ("neon-dot", "rpc", "127.0.0.1:9190")


def test_cortex_m4_ships():
    device = Device.load("cortex-m4")
    assert (device.clock, device.ram, device.flash) == (120e6, 640 * 1024, 2 * 1024**2)
    assert device.core is not None and device.core.cycle_model == "cortex-m4"


def test_units_and_defaults(tmp_path):
    path = write(tmp_path, "name: m4\nclock: 84 MHz\nram: 96KiB\nflash: 0.5 MiB\npower: 120 mW\nact_storage: packed\n")
    device = Device.load(path)
    assert (device.clock, device.ram, device.flash, device.power) == (84e6, 96 * 1024, 512 * 1024, 0.12)
    assert device.supports == Supports()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nthread: 1\n", "thread: unknown key; did you mean threads?"),
        ("name: a\nsupports: {weight_bit: [8]}\n", "supports.weight_bit: unknown key; did you mean weight_bits?"),
        ("name: a\nthreads: two\n", "threads: 'two' is not a whole number"),
        ("name: a\nthreads: true\n", "threads: True is not a whole number"),
        ("name: a\nthreads: 0\n", "threads: 0 is not positive"),
        ("name: a\nsupports: {weight_bits: [8, x]}\n", r"supports.weight_bits.1: 'x' is not a whole number"),
        ("name: a\nsupports: {act_bits: [9]}\n", "supports.act_bits: .* not bit-widths from 1 to 8"),
        ("name: a\nsupports: 8\n", "supports: 8 is not a section"),
        ("name: a\nrunner: simulator\nisa: m4\nclock: 1 MHz\n", "runner: simulator needs core, ram, flash"),
        ("name: a\ncore: {machine: x, cycle_model: y, flag: []}\n", "core.flag: unknown key; did you mean flags?"),
        ("name: a\nsupports: {kinds: conv2d}\n", "supports.kinds: 'conv2d' is not a list"),
        ("name: a\ntarget: cuda\n", "target: 'cuda'; kernels for runner: host are made for 'llvm'"),
        ("name: a\nram: 96\n", "ram: 96 is not a positive number and a unit: B, KiB"),
        ("name: a\nwait_states: -1\n", "wait_states: -1 is negative"),
        ("name: a\nwait_states: 2\n", "wait_states: flash_cache is missing"),
        ("name: a\nflash_cache: {line: 32, read: 12, instruction_lines: 1, data_lines: 1}\n", "read: 12 bytes"),
        ("name: a\nflash_cache: {line: 8, read: 16, instruction_lines: 1, data_lines: 1}\n", "line: 8 bytes"),
        ("name: a\nflash_cache: {line: 8, read: 8, instruction_lines: 0, data_lines: 1}\n", "instruction_lines: 0"),
        ("name: a\npower: 0 mW\n", "power: '0 mW' is not a positive number"),
        ("name: a\nclock: 0 MHz\n", "clock: '0 MHz' is not a positive number and a unit: Hz"),
        ("name: a\nram: 1e999 KiB\n", "ram: '1e999 KiB' is not a positive number"),
        ("name: a\nram: 0.5 B\n", "ram: '0.5 B' is not a positive number"),
        ("name: a\ncore: {machine: x, flags: [-O2, -wrapper]}\n", "core.flags: '-wrapper' is none of code generation"),
        (
            "name: a\ncore: {machine: x, flags: ['$(shell id)']}\n",
            "core.flags: .*shell id.* is none of code generation",
        ),
        ("name: a\ncore: {machine: x, flags: [-fplugin=x]}\n", "core.flags: '-fplugin=x' is none"),
        ("name: a\nwait_states: 2\ncore: {machine: x, rtl: ibex}\n", "wait_states: the RTL's memory has none"),
        ("name: a\nclock: 3 parsec\n", "clock: '3 parsec' is not a positive number and a unit: Hz"),
        ("name: a\nact_storage: nibble\n", "act_storage: 'nibble' is not valid; expected one of: byte, packed"),
        ("name: My CPU\n", "name: 'My CPU' is not lower-case words"),
        ("threads: 1\n", "name: missing"),
        ("name: a\nrunner: rpc\ntracker: x:1\n", "isa: 'auto' asks this computer"),
        ("name: a\nrunner: rpc\nisa: neon\n", "tracker: None is not host:port"),
        ("name: a\nrunner: rpc\nisa: neon\ntracker: board\n", "tracker: 'board' is not host:port"),
        ("- name\n", ":1: .* is not a section; expected `name: value` lines"),
        ("name: a\nthreads: [1\n", ":3: not YAML"),
        ("name: !!python/object/apply:os.getcwd []\n", ":1: name: .*os.getcwd values are not read"),
        ("name: 2020-01-01\n", ":1: name: timestamp values are not read"),
        ("name: !!int x\n", ":1: name: 'x' is no int"),
        ("name: !!int ''\n", ":1: name: '' is no int"),
        ("name: a\nclock: !!float ''\n", ":2: clock: '' is no float"),
        ("name: !!bool maybe\n", ":1: name: 'maybe' is no bool"),
        ("name: &a b\ntarget: *a\n", r":2: \*a: aliases are not read"),
        ("name: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("name: a\nname: b\n", ":2: name: given twice"),
    ],
)
def test_mistakes(tmp_path, text, message):
    with pytest.raises(LutError, match=message) as error:
        Device.load(write(tmp_path, text))
    assert str(error.value).startswith(str(tmp_path))


def test_unknown_names(tmp_path):
    with pytest.raises(LutError, match="did you mean host-cpu"):
        Device.load("host_cpu")
    with pytest.raises(InputError, match="no such file"):
        Device.load(tmp_path / "none.yaml")


def test_quantity_keeps_nothing():
    assert quantity(None, "bytes") is None
    assert quantity("1e3 Hz", "clock") == 1000
