"""What made a table: the provenance of rows measured now, here, and how far two provenances may differ."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from .device import Core, Device
from .errors import LutError

MUST_MATCH = ("cpu", "isa", "threads", "compiler", "flags", "kernels")
"""Provenance that decides whether a measured row holds: another value there is another device."""


def cpu_model() -> str:
    """The processor's name as the system gives it, with family and model, which tell apart what shares a name."""
    words: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            words.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    if "model name" not in words:
        return platform.processor() or platform.machine()
    return f"{words['model name']} (family {words.get('cpu family', '?')}, model {words.get('model', '?')})"


def clock_mhz() -> str:
    """The clock that the system reports now, in MHz; it is recorded, and not compared."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("cpu MHz")), "")


def compiler() -> str:
    try:
        return f"apache-tvm {importlib.metadata.version('apache-tvm')}"
    except importlib.metadata.PackageNotFoundError:
        return "none"


def this_machine(device: Device) -> dict[str, str]:
    """Provenance of a row that the device's runner would measure now; asks neither TVM nor the network."""
    from .kernels import isa_of_host, kernel_source_hash

    if device.core is not None:
        return _microcontroller(device, device.core)
    isa = isa_of_host() if device.isa == "auto" else device.isa
    here = device.runner != "rpc"
    return {
        "device": device.name,
        "cpu": cpu_model() if here else f"{device.name} behind RPC",
        "isa": isa,
        "compiler": compiler(),
        "flags": f"{device.target} {isa}",
        "threads": str(device.threads),
        "kernels": kernel_source_hash(),
        "clock": clock_mhz() if here else "",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "profiler": device.runner,
    }


def _microcontroller(device: Device, core: Core) -> dict[str, str]:
    """Provenance of a microcontroller's row; its cycles do not depend on this computer."""
    from .mcu.emit import source_hash
    from .mcu.image import tools_of
    from .mcu.rtl import versions

    try:
        compiler, simulator = tools_of(device).versions
        if core.cycle_model == "rtl":
            simulator = ", ".join(versions(core.rtl))
    except LutError as error:
        compiler = simulator = f"none: {error}"
    clock, simulated = f"{(device.clock or 0) / 1e6:g}", device.runner == "simulator"
    waits = f", flash at {device.wait_states} wait states: {device.flash_cache}" if device.wait_states else ""
    median = f", median of {core.places} places" if core.places > 1 else ""
    model = simulator if core.cycle_model == "rtl" else core.cycle_model
    how = f"{core.machine}, cycles by {model}{waits}{median}" if simulated else core.machine
    return {
        "device": device.name,
        "cpu": f"{device.isa} at {clock} MHz, {how}",
        "isa": device.isa,
        "compiler": compiler,
        "flags": " ".join([*core.flags, f"{device.act_storage} activations"]),
        "threads": "1",
        "kernels": source_hash(),
        "clock": clock,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "profiler": f"{device.runner}, " + (f"{simulator} {core.machine}" if simulated else core.machine),
    }


def differences(recorded: Mapping[str, str], machine: Mapping[str, str]) -> list[str]:
    """One phrase per field of MUST_MATCH that differs; a field recorded nowhere differs."""
    return [
        f"{name}: the table has {recorded.get(name) or 'nothing'}, this machine {machine.get(name) or 'nothing'}"
        for name in MUST_MATCH
        if recorded.get(name, "") != machine.get(name, "")
    ]
