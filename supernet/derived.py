"""A width that several choices make together, as behind a concat: one categorical, derived from its parts.

    D = c_1(o_1) + .. + c_k(o_k)        P(D = s) = sum of prod_i p_i(o_i) over the combinations whose sum is s

Its options are the distinct sums, so an operator behind k widths has one axis of sums instead of one axis per width.
Its distribution is the convolution of its parts' (`cost_models.convolution`), as they are independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from .choice import Choice

NO_ROW = -1
"""The index of a choice without logits."""


@dataclass(frozen=True)
class Derived(Choice):
    """counts: of every part, the channels of each of its options. options: the sums, ascending."""

    parts: tuple[Choice, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()

    @property
    def sources(self) -> tuple[Choice, ...]:
        return self.parts

    @cached_property
    def levels(self) -> tuple[dict[int, tuple[int, ...]], ...]:
        """After every part, by partial sum, ascending: the part's options that lead there from an earlier sum."""
        before, found = {0}, []
        for counts in self.counts:
            reached: dict[int, set[int]] = {}
            for position, count in enumerate(counts):
                for earlier in before:
                    reached.setdefault(earlier + count, set()).add(position)
            found.append({total: tuple(sorted(reached[total])) for total in sorted(reached)})
            before = set(reached)
        return tuple(found)

    def settings(self, value: int) -> dict[str, int]:
        """One of the combinations of the parts with this sum: what is derived does not depend on which."""
        found, left = {}, value
        for i in reversed(range(len(self.parts))):
            earlier = self.levels[i - 1] if i else {0: ()}
            at = next(o for o in self.levels[i][left] if left - self.counts[i][o] in earlier)
            found[self.parts[i].name] = self.parts[i].options[at]
            left -= self.counts[i][at]
        return found

    def value(self, values: Mapping[str, int]) -> int:
        return sum(counts[part.position(values[part.name])] for part, counts in zip(self.parts, self.counts))


def derived(channels: Mapping[Choice, tuple[int, ...]]) -> Choice:
    """The sum of some choices' channels; a single choice is itself."""
    parts, counts = tuple(channels), tuple(channels.values())
    if len(parts) == 1:
        return parts[0]
    name = " + ".join(part.name for part in parts)
    return Derived(name, "width", sums(counts), NO_ROW, parts, counts)


def sums(counts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Every total of one count of each, ascending."""
    totals = {0}
    for options in counts:
        totals = {total + count for total in totals for count in options}
    return tuple(sorted(totals))
