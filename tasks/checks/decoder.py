"""Decoders agree: a sample of messages, decoded once more by another program, gives what is stored."""

import hashlib

import numpy as np
from pydantic import Field as Key

from .check import Check, Finding, Quiet, Subject, Watch, checks
from .field import Field, Index
from .phrases import others, place, quantity


@checks.register("decoder")
class Decoder(Check):
    """A sample of fields is fetched again and decoded by a second decoder; it agrees with what is stored.

    Values may differ by the packing error and the rounding to the mantissa bits kept, no more. Because the second way
    from the message to the map shares nothing with the first, this also finds members, levels or steps that were
    swapped on the way, maps upside down or shifted, and another unit. ``fields`` are taken of each variable, spread by
    a hash of their places; source objects that changed since the manifest was made are named too. Fatal for its cells.
    """

    type: str = "decoder"
    fatal: bool = True
    fields: int = Key(default=3, ge=0, le=1000, description="Fields of each variable that are decoded twice.")

    def watch(self, subject: Subject) -> Watch:
        if subject.origin is None or not self.fields:
            return Quiet(self, subject, "is not decoded a second time")
        return _Watch(self, subject)


class _Watch(Watch[Decoder]):
    def __init__(self, check: Decoder, subject: Subject) -> None:
        super().__init__(check, subject)
        there = [(int(t), int(m), int(n)) for t, m, n in np.argwhere(subject.present)]
        there.sort(key=lambda index: hashlib.sha256(f"{subject.name} {index}".encode()).digest())
        self.chosen = set(there[: check.fields])
        self.compared = 0
        self.words: dict[Index, str] = {}

    def see(self, field: Field) -> None:
        origin = self.subject.origin
        if field.index not in self.chosen or origin is None:
            return
        found = origin.second(field.index)
        if found is None:
            return
        self.compared += 1
        if isinstance(found, str):
            self._wrong(field.index, found)
            return
        values, allowed = found
        missing = np.isnan(values)
        if not np.array_equal(missing, np.isnan(field.values)):
            self._wrong(field.index, "the second decoder has other points missing")
            return
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(values - field.values)
            wrong = apart > allowed
        if wrong.any():
            most = quantity(float(apart[wrong].max()), self.subject.units)
            self._wrong(field.index, f"{int(wrong.sum())} values differ from the second decoder's, most by {most}")

    def _wrong(self, index: Index, words: str) -> None:
        self.faulty[index] = True
        self.words[index] = words

    def finding(self) -> Finding:
        subject, origin = self.subject, self.subject.origin
        changed = origin.changed() if origin is not None else []
        if self.words:
            at = self.first()
            sentence = f"{subject.name} at {place(subject, at)}: {self.words[at]}{others(self.faulty)}."
            return self.faults(sentence, at, of=max(1, self.compared))
        if changed:
            sentence = f"{subject.name}: {changed[0]} is not what it was when the manifest was made."
            return Finding(self.check.type, subject.name, 0.85, sentence, weight=self.check.weight)
        return self.sound(f"{subject.name}: {self.compared} fields agree with a second decoder.")
