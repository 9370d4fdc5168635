"""A network's C project on a board behind a serial line: built, flashed, run on images; scores, cycles, bytes."""

from __future__ import annotations

from statistics import median_low

import numpy as np

from lut.device import Device
from lut.mcu.board import attached
from lut.mcu.image import enough_stack, memories

from .c_project import ALIGNMENT, Project
from .mcu import Simulation, build
from .program import Program
from .results import dense, places, room


def run_on_board(project: Project, program: Program, device: Device, images: np.ndarray) -> Simulation:
    """Build, flash, and run uint8 images (n, h, w, c). cycles: the median over images, by the board's counter. Raises
    LutError as `build`, when the board is not reached, and when it faults or hangs."""
    elf, results = build(project, device), places(program, ALIGNMENT)
    with attached(device, elf, project.program) as line:
        answers = [line.ask(image.tobytes(), 2 * room(results)) for image in images]
    scores = np.stack([np.frombuffer(answer.output, "<i2") for answer in answers])
    scores = dense(scores, results)
    cycles = median_low(a.cycles for a in answers)
    stack = enough_stack(program.name, max(a.stack_bytes for a in answers))
    size = memories(device, elf)
    assert device.clock is not None
    return Simulation(scores, cycles, cycles / device.clock * 1e6, "board", size["flash"], size["ram"], stack)
