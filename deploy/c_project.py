"""A lowered network as a folder of C that builds without this framework: kernels, packed weights, firmware, Makefile.

The kernels are those that the table's rows were measured of, called one after another; every activation and workspace
has its place in one arena (cost_models/arena.py). Equal row keys share a kernel. Constants lie in flash.
"""

from __future__ import annotations

import json
import shlex
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from string import Template

import numpy as np

from lut.device import Device, Storage
from lut.errors import LutError
from lut.files import atomic_write
from lut.mcu.cycles import model_of
from lut.mcu.emit import Kernel, kernel, row_key
from lut.mcu.image import (
    LANGUAGE,
    LINK,
    STACK_BYTES,
    board_of,
    core_of,
    firmware,
    kernel_headers,
    linker_script,
    serial_file,
)
from lut.mcu.pack import pack_constants
from lut.mcu.toolchain import FAMILIES

from . import layout
from .network_source import identifier, numbers
from .program import Op, Program
from .results import places, room

FOLDER = Path(__file__).parent
ALIGNMENT = 4
FIRMWARE_FILES = ("start.c", "core.c", "core.h", "memory.c", "port.h")
SIMULATE = """run: $name.elf
	$qemu -M $machine -display none -monitor none -serial none \\
		-semihosting-config enable=on,target=native -kernel $name.elf"""

IN_RTL = """run:
	@echo 'QEMU does not know this core; scripts/run_deploy.py runs $name.elf on its RTL' && false"""


@dataclass(frozen=True)
class Project:
    """What was written; `make` builds folder / name.elf. program: what a board calls itself that runs it. Bytes: of the
    arena with workspaces, all RAM, constants."""

    folder: Path
    name: str
    program: str
    arena_bytes: int
    ram_bytes: int
    constant_bytes: int
    kernels: int


def _check(program: Program, storage: Storage) -> None:
    layout.check_image(program)
    for op in program.ops:
        source = program.tensors[op.inputs[0]]
        padded = storage == "packed" and source.bits < 8 and source.channels * source.bits % 8
        if op.spec.kind == "linear" and source.height * source.width > 1 and padded:
            raise LutError(
                f"{program.name}: {op.name}: its input's pixels of {source.channels} {source.bits}-bit codes are "
                "padded to whole bytes, which a linear layer can't skip; pool first, or set space.channel_multiple to 4"
            )
    for name in program.outputs:
        if program.tensors[name].bits != 16:
            raise LutError(f"{program.name}: the scores have {program.tensors[name].bits} bits; expected int16")


def kernels_of(program: Program, storage: Storage = "byte") -> dict[str, Kernel]:
    """By operator name. LutError names the operator that has none."""
    made = {}
    for op in program.ops:
        try:
            made[op.name] = kernel(op.spec, storage)
        except LutError as error:
            raise LutError(f"{program.name}: {op.name}: {error}") from None
    return made


def _packed(device: Device, op: Op, in_zeros: Sequence[int], out_zero: int) -> Mapping[str, np.ndarray]:
    """Constants as the device's kernels read them."""
    key = row_key(op.spec, device.act_storage)
    return pack_constants(replace(op, spec=key), in_zeros, out_zero, board_of(device).order)


def _source(name: str, symbols: list[str], calls: list[str], arena_bytes: int) -> str:
    declarations = "\n".join(f"kernel {symbol};" for symbol in symbols)
    body = "\n".join(calls)
    return f"""/* Every operator is a call of a kernel; buffers are static, so one caller at a time. */
#include "{name}.h"
#include "kernel.h"

{declarations}
extern const uint8_t {name}_constants[];
__asm__(".pushsection .rodata\\n.balign {ALIGNMENT}\\n{name}_constants:\\n.incbin \\"constants.bin\\"\\n.popsection");
#define C {name}_constants
static uint8_t A[{arena_bytes}] __attribute__((aligned({ALIGNMENT})));

void {name}_run(const uint8_t *image, int16_t *scores) {{
{body}
}}
"""


def _port(device: Device) -> tuple[str, tuple[str, ...]]:
    """(main program, firmware by which it talks to the host): on a serial line, or in a simulator."""
    if device.runner == "serial":
        return "mcu_serve.c", ("serve.c", "serve.h", "serial.h", serial_file(device))
    return "mcu_main.c", ("semihosting.c", "semihosting.h")


def _run_target(device: Device) -> str:
    """The Makefile's last target."""
    if device.serial is None:
        return SIMULATE if model_of(core_of(device)).cycles is not None else IN_RTL
    # twice doubled: the template halves it once, make the second time
    command = shlex.join(device.serial.flash).replace("$", "$$$$").replace("{image}", "$name.elf")
    return f"flash: $name.elf\n\t{command or 'echo put $name.elf on the board'}"


def write(program: Program, device: Device, folder: Path) -> Project:
    """Write the project into `folder`. Raises LutError when an operator has no kernel."""
    storage = device.act_storage
    _check(program, storage)
    name, kernels = identifier(program.name), kernels_of(program, storage)
    workspaces = {n: made.sizes["workspace"] for n, made in kernels.items()}
    arena, size = layout.place(program, workspaces, ALIGNMENT, 0, storage)
    arena_bytes = -(-size // ALIGNMENT) * ALIGNMENT
    blob, constants = layout.constants(program, partial(_packed, device), ALIGNMENT, 0)
    image, results = program.tensors[program.input], places(program, ALIGNMENT)
    distinct = {made.symbol: made for made in kernels.values()}
    calls = []
    for op in program.ops:
        made = kernels[op.name]
        used = {argument for argument, count in made.sizes.items() if count}
        words = layout.arguments(program, op, used, arena, constants, results, storage=storage)
        calls.append(f"    {made.symbol}({words});  /* {op.name} */")
    header = f"""/* {name}: {image.height} x {image.width} x {image.channels} bytes NHWC in, {numbers(results)} out. */
#include <stdint.h>
enum {{ IMAGE_BYTES = {image.bytes}, SCORES = {room(results)} }};
void {name}_run(const uint8_t *image, int16_t *scores);
"""
    assert device.flash is not None and device.ram is not None
    main, files_of_port = _port(device)
    fixed = [*FIRMWARE_FILES, *files_of_port]
    sources = [f"{name}.c", "main.c", *(f"{symbol}.c" for symbol in distinct)]
    sources += [file for file in fixed if file.endswith(".c")]
    core, family = core_of(device), FAMILIES[board_of(device).family]
    qemu = " ".join((family.qemu, *family.options))
    makefile = Template((FOLDER / "mcu_makefile.in").read_text()).substitute(
        name=name,
        device=device.name,
        cross=family.prefix,
        run=Template(_run_target(device)).substitute(name=name, machine=core.machine, qemu=qemu),
        flags=" ".join([*core.flags, *LANGUAGE]),
        link=" ".join(LINK),
        objects=" ".join(source.removesuffix(".c") + ".o" for source in sources),
    )
    source = _source(name, list(distinct), calls, arena_bytes)
    program_name = f"{name}-{zlib.crc32(source.encode() + blob):08x}"
    own = ALIGNMENT * (-(-image.bytes // ALIGNMENT) - (-2 * room(results) // ALIGNMENT))
    ram = arena_bytes + own + STACK_BYTES
    project = Project(folder, name, program_name, arena_bytes, ram, len(blob), len(distinct))
    files: dict[str, str | bytes] = {
        f"{name}.h": header,
        f"{name}.c": source,
        "constants.bin": blob,
        "main.c": (FOLDER / main).read_text().replace("NETWORK", name).replace("PROGRAM", program_name),
        "Makefile": makefile,
        "link.ld": linker_script(device, device.flash, device.ram, f"{name} on {device.name}"),
        f"{name}.json": json.dumps(_description(project, device), indent=1) + "\n",
    }
    files |= {f"{symbol}.c": made.source for symbol, made in distinct.items()}
    files |= {file: firmware(device, file).read_bytes() for file in fixed}
    files |= {path.name: path.read_bytes() for path in kernel_headers(device)}
    for file, data in files.items():
        atomic_write(folder / file, data)
    return project


def _description(project: Project, device: Device) -> dict[str, object]:
    return {
        "name": project.name,
        "device": device.name,
        "arena_bytes": project.arena_bytes,
        "ram_bytes": project.ram_bytes,
        "stack_bytes": STACK_BYTES,
        "constant_bytes": project.constant_bytes,
        "kernels": project.kernels,
    }
