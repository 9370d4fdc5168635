"""The C of a deployed network: its header, a step for every operator, and what runs them on one thread or several.

On one thread NAME_run is a sequence of calls and there is nothing else. On T threads (`threads_template.c`) the caller
and T - 1 threads of the library's own make every step's call, each for its part, and wait for each other after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from lut.kernels.signature import SLACK
from lut.profilers.timing import BARRIER

from .results import Place, room

FOLDER = Path(__file__).parent
SCORES = {"int16": "int16_t", "float32": "float", "uint8": "uint8_t"}
"""C's name of the scores' type."""


def identifier(name: str) -> str:
    plain = re.sub(r"\W", "_", name)
    return plain if not plain[:1].isdigit() and plain else f"net_{plain}"


def numbers(results: Sequence[Place]) -> str:
    """What a buffer of results holds, for a comment."""
    if len(results) == 1:
        return f"{results[0].count} scores{_softmax(results[0])}"
    each = ", ".join(f"{row.label}: {row.count} from {row.first}{_softmax(row)}" for row in results)
    return f"{room(results)} scores, NHWC ({each})"


def _softmax(row: Place) -> str:
    return f", of which the model returns the softmax: of {row.scale:.9g} times each" if row.softmax else ""


@dataclass(frozen=True)
class Network:
    """calls: C expression of every operator's call, by its name, in order; score: C's name of the scores' type."""

    name: str
    calls: Mapping[str, str]
    score: str
    threads: int

    @property
    def parameters(self) -> str:
        """Of a step."""
        return f"const uint8_t *image, {self.score} *scores" + (", int32_t part" if self.threads > 1 else "")

    def header(self, image: tuple[int, int, int], results: Sequence[Place]) -> str:
        """NAME.h. image: height, width, channels."""
        guard, shape = f"{self.name.upper()}_H", " x ".join(map(str, image))
        own = "One caller at a time: buffers are static."
        if self.threads > 1:
            own += f"\n   It runs on the caller's thread and {self.threads - 1} of its own, which end with the process."
        return f"""#ifndef {guard}
#define {guard}
#include <stdint.h>
/* image: {shape} bytes, NHWC; {numbers(results)}. Returns 0. {own} */
int32_t {self.name}_run(const uint8_t *image, {self.score} *scores);
#endif
"""

    def source(self, symbols: Sequence[str], arena: int, constants: int) -> str:
        """NAME.c. symbols: the kernels; arena, constants: bytes."""
        several = self.threads > 1
        steps = range(len(self.calls))
        return Template((FOLDER / "network_template.c").read_text()).substitute(
            name=self.name,
            score=self.score,
            slack=SLACK,
            arena=arena,
            constants=constants,
            declarations="\n".join(f"kernel {symbol};" for symbol in symbols),
            parameters=self.parameters,
            steps="\n".join(
                f"static STEP int32_t step{i}({self.parameters}) {{ ALIGN_STACK; return {call}; }}"
                for i, call in zip(steps, self.calls.values())
            ),
            table=", ".join(f"step{i}" for i in steps),
            run=self._team() if several else self._run(),
            begin="            begin(image, scores);\n" if several else "",
            one="one_step(i, image, scores)" if several else "STEPS[i](image, scores)",
        )

    def _run(self) -> str:
        """NAME_run on one thread."""
        steps = "\n".join(f"    step{i}(image, scores);  /* {op} */" for i, op in enumerate(self.calls))
        return f"int32_t {self.name}_run({self.parameters}) {{\n{steps}\n    return 0;\n}}"

    def _team(self) -> str:
        """NAME_run on several."""
        wait = "    barrier(team.parts, THREADS, part);"
        steps = "\n".join(f"    step{i}(image, scores, part);  /* {op} */\n{wait}" for i, op in enumerate(self.calls))
        return Template((FOLDER / "threads_template.c").read_text()).substitute(
            name=self.name,
            score=self.score,
            threads=self.threads,
            parameters=self.parameters,
            barrier=BARRIER.read_text(),
            calls=steps,
        )
