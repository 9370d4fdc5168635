"""Stands for the program that flashes a board: starts QEMU on an image in the background, its serial line behind a
pseudo-terminal that PORT links to. `flash_qemu.py IMAGE PORT [MACHINE]`; PORT.pid names the process, which the next
flash ends, and which ends by itself after five minutes.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

SECONDS = 300


def stop(port: Path) -> None:
    """End the QEMU of `port`, if there is one."""
    pid = port.with_name(port.name + ".pid")
    if pid.exists():
        with suppress(ProcessLookupError):
            os.killpg(int(pid.read_text()), signal.SIGKILL)
        pid.unlink()
    port.unlink(missing_ok=True)


def main(image: str, port: Path, machine: str = "mps2-an386") -> None:
    stop(port)
    said = port.with_name(port.name + ".log")
    command = ["timeout", "--signal=KILL", str(SECONDS), "qemu-system-arm", "-M", machine, "-display", "none"]
    command += ["-monitor", "none", "-serial", "pty", "-kernel", image]
    with said.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    port.with_name(port.name + ".pid").write_text(str(process.pid))
    for _ in range(200):
        words = said.read_text().split()
        found = [word for word in words if word.startswith("/dev/")]
        if found:
            port.symlink_to(found[0])
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    raise SystemExit(f"QEMU gave no pseudo-terminal: {said.read_text()}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
