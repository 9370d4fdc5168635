"""Channels in a row as terms that are unified: the algebra behind `ties.py`.

A row is a sequence of segments. To say that two rows are the same channels is to unify them from the left: segments of
one length become one, a longer one is cut in two. Every segment that is left at the end is chosen as a whole.
(Unification: Robinson 1965, doi:10.1145/321250.321253.)
"""

from __future__ import annotations

Row = tuple[int, ...]
"""Segments by number; an earlier number was made earlier."""


class Segments:
    """Segments and what they were found to be: `bound` maps one to the row that it is."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.bound: dict[int, Row] = {}
        self.reasons: dict[int, str] = {}

    def new(self, length: int) -> Row:
        self.lengths.append(length)
        return (len(self.lengths) - 1,)

    def resolve(self, row: Row) -> Row:
        """The row in segments that are not bound."""
        found: list[int] = []
        ahead = list(reversed(row))
        while ahead:
            segment = ahead.pop()
            if segment in self.bound:
                ahead += reversed(self.bound[segment])
            else:
                found.append(segment)
        return tuple(found)

    def length(self, row: Row) -> int:
        return sum(self.lengths[segment] for segment in row)

    def _cut_segment(self, segment: int, at: int) -> None:
        self.bound[segment] = self.new(at) + self.new(self.lengths[segment] - at)

    def cut(self, row: Row, at: int) -> tuple[Row, Row]:
        """(channels before `at`, the others)."""
        row = self.resolve(row)
        before: list[int] = []
        for i, segment in enumerate(row):
            room = at - self.length(tuple(before))
            if room == 0:
                return tuple(before), row[i:]
            if room < self.lengths[segment]:
                self._cut_segment(segment, room)
                return self.cut(row, at)
            before.append(segment)
        return row, ()

    def unify(self, a: Row, b: Row) -> None:
        """Two rows of one length are the same channels."""
        a, b = self.resolve(a), self.resolve(b)
        while a:
            first, second = sorted((a[0], b[0]))
            if first == second:
                a, b = a[1:], b[1:]
                continue
            difference = self.lengths[first] - self.lengths[second]
            if difference == 0:
                self.bound[second] = (first,)
            elif difference > 0:
                self._cut_segment(first, self.lengths[second])
            else:
                self._cut_segment(second, self.lengths[first])
            a, b = self.resolve(a), self.resolve(b)

    def share(self, row: Row, parts: int) -> None:
        """Cut a row into `parts` equal ones that are chosen alike."""
        size = self.length(self.resolve(row)) // parts
        first, rest = self.cut(row, size)
        while rest:
            part, rest = self.cut(rest, size)
            self.unify(first, part)

    def pin(self, row: Row, reason: str) -> None:
        for segment in self.resolve(row):
            self.reasons.setdefault(segment, reason)

    def pinned(self) -> dict[int, str]:
        """Why segments that are left can't be chosen."""
        found: dict[int, str] = {}
        for segment, reason in self.reasons.items():
            for piece in self.resolve((segment,)):
                found.setdefault(piece, reason)
        return found
