"""What made a table: the provenance of rows measured now, here, and how far two provenances may differ."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from .device import Device

MUST_MATCH = ("cpu", "isa", "threads", "compiler", "kernels")
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


def differences(recorded: Mapping[str, str], machine: Mapping[str, str]) -> list[str]:
    """One phrase per field of MUST_MATCH that differs; a field recorded nowhere differs."""
    return [
        f"{name}: the table has {recorded.get(name) or 'nothing'}, this machine {machine.get(name) or 'nothing'}"
        for name in MUST_MATCH
        if recorded.get(name, "") != machine.get(name, "")
    ]
