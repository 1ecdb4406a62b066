"""A provider's quota, kept in the lake: every flow and worker of a lake takes its tokens from one bucket.

Key ``quotas/<name>.json``, changed by conditional writes only. A window of N requests per T seconds is a bucket of N
tokens in which a token that was taken lies again T seconds later; so no stretch of T seconds ever sees more than N,
while a bucket that refills at a rate would let through nearly twice that. Short windows (below `PACED`) become a
pace instead: tokens that may be spent one after the other. Tokens are taken in blocks, so that a write in the lake
serves many requests; a token must be spent soon after it was taken (`Rate.hold`) or is put back.

Nobody holds anything that would have to be freed: what a dead process took comes back by itself. Clocks of the
machines must agree within `Rate.hold` (36 s of an hour).
"""

import contextlib
import logging
import math
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from .errors import ConflictError, CorruptInput, NotFound, QuotaError, UsageError
from .objects import Objects
from .rate import Adaptive, Rate

PACED = 10.0
"""Windows shorter than this (seconds) are kept by a pace instead of by counting."""

_PACE = 0.95
_BLOCK = 16
_PRESENT = 60.0
_PAUSE = (1.0, 60.0)
_EVENT = 1.0
_LONG_WAIT = 30.0

_log = logging.getLogger("weatherlake.quota")


class Impatient(QuotaError):
    """The quota is used up for longer than the holder is willing to wait."""


class State(msgspec.Struct, kw_only=True):
    """The document in the lake. Times are seconds since 1970 (UTC).

    ``taken``: window -> {slot of time -> tokens taken in it}. ``next``: when the next paced token may be spent.
    ``paused``: nobody asks the provider before. ``rate``: the adaptive pace; ``changed``: when it last changed.
    ``refusals``: in a row, without a success. ``holders``: who takes tokens, and until when that is taken for granted.
    ``noted``: small numbers that holders leave for those who come after them (see `Quota.note`).
    """

    taken: dict[str, dict[int, int]] = {}
    next: float = 0.0
    paused: float = 0.0
    rate: float | None = None
    changed: float = 0.0
    refusals: int = 0
    holders: dict[str, float] = {}
    noted: dict[str, float] = {}


@dataclass(slots=True)
class _Token:
    not_before: float
    not_after: float
    slots: tuple[tuple[str, int], ...]


class Quota:
    """One process's access to a quota of a lake. Thread-safe.

    ``take`` waits for a token; ``answered`` says how the provider answered. ``adaptive`` and ``rates`` may both be
    given. The same name must have the same rates everywhere: a window is known by its numbers.
    """

    def __init__(
        self,
        objects: Objects,
        name: str,
        rates: Sequence[Rate] = (),
        adaptive: Adaptive | None = None,
        *,
        block: int = _BLOCK,
        patience: float = math.inf,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not rates and adaptive is None:
            raise UsageError(f"quota {name} has neither a rate nor an adaptive rate")
        self.key = f"quotas/{name}.json"
        self.name = name
        self.writes = 0
        """How many times the document was written by this holder."""
        self._objects = objects
        self._counted = tuple(r for r in rates if r.seconds >= PACED)
        self._paced = tuple(r for r in rates if r.seconds < PACED)
        self._adaptive = adaptive
        self._patience = patience
        self._clock, self._sleep = clock, sleep
        self._largest, self._block = block, 2
        self._id = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._known: tuple[State, str | None] | None = None
        self._tokens: list[_Token] = []
        self._stale: list[_Token] = []
        self._look_at = self._free_from = self._told = 0.0
        self._successes = 0
        self._users = 0
        self._lock = threading.RLock()

    # -- for those who ask the provider ----------------------------------------------------------------

    def take(self) -> None:
        """Wait for a token. Raises `Impatient` when that would take longer than ``patience``."""
        began = self._clock()
        while True:
            with self._lock:
                now = self._clock()
                token = self._pop(now)
                if token is None and now >= self._look_at:
                    self._fill(now)
                    token = self._pop(now)
                wait = (token.not_before if token else self._look_at) - now
                if token is None:
                    self._be_patient(began, now)
            if wait > 0:
                self._sleep(wait)
            if token is not None:
                return

    def answered(self, status: int | None, retry_after: float | None = None) -> None:
        """How a request ended: its HTTP status, None for no answer; ``retry_after`` in seconds when it named some.

        429 pauses everybody, for as long as it says or twice as long each time; 429 and 503 halve the adaptive rate.
        Successes cost no write: they are told with the next block.
        """
        if status is not None and status < 400:
            self._successes += 1
        elif status in (429, 503) and (status == 429 or retry_after is not None or self._adaptive is not None):
            self._refused(status, retry_after)

    @contextlib.contextmanager
    def used(self) -> Iterator["Quota"]:
        """Around work that takes tokens: when the last user of this process leaves, unspent tokens go back."""
        with self._lock:
            self._users += 1
        try:
            yield self
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._give_back()

    @property
    def holders(self) -> int:
        """How many processes take tokens now, this one included, as far as was seen at the last look."""
        known = self._known[0].holders if self._known else {}
        now = self._clock()
        return max(1, sum(1 for until in known.values() if until > now))

    def noted(self, what: str) -> float | None:
        """A number left by `note`, of whatever process, as of the last look."""
        with self._lock:
            if self._known is None:
                self._known = self._read()
            return self._known[0].noted.get(what)

    def note(self, what: str, value: float) -> None:
        """Leave a number for those who come later. One write."""
        self._change(lambda state, now: state.noted.__setitem__(what, value))

    def state(self) -> State:
        """The document as it is in the lake now."""
        return self._read()[0]

    # -- tokens ----------------------------------------------------------------------------------------

    def _be_patient(self, began: float, now: float) -> None:
        """Say that there is a long wait, or give up when it is too long."""
        wait = self._free_from - now
        if self._free_from - began > self._patience:
            raise Impatient(
                f"the quota {self.name} is used up; the next request may go in {wait:.0f} s", retry_after=wait
            )
        if wait > _LONG_WAIT and now > self._told:
            self._told = self._free_from
            _log.warning("the quota %s is used up: the next request goes in %.0f s", self.name, wait)

    def _pop(self, now: float) -> _Token | None:
        fresh = [t for t in self._tokens if t.not_after > now]
        if len(fresh) < len(self._tokens):
            # Held for too long: others count on a token being spent by then. It goes back, and blocks get smaller.
            self._stale += [t for t in self._tokens if t.not_after <= now]
            self._block = max(1, self._block // 2)
        self._tokens = fresh[1:]
        return fresh[0] if fresh else None

    def _fill(self, now: float) -> None:
        """Take a block from the lake; sets when to look again if there is none to take."""

        def grant(state: State, now: float) -> list[_Token]:
            _put_back(state, self._stale)
            self._forget(state, now)
            state.holders[self._id] = now + _PRESENT
            self._grow(state, now)
            return self._grant(state, now)

        before = self._look_at
        tokens = self._change(grant)
        self._stale = []
        state = self._known[0] if self._known else State()
        self._tokens.extend(tokens)
        if tokens:
            # A block that lasted less than a quarter of the time it may be held was too small.
            hold = min((r.hold for r in self._counted), default=PACED)
            if now - before < hold / 4:
                self._block = min(self._largest, 2 * self._block)
            self._look_at = now
        else:
            self._free_from = self._free_at(state, now)
            # Those who wait together should not ask together; and others may give tokens back before.
            jitter = random.uniform(0, 0.2) * min([r.hold for r in self._counted] + [0.5])
            self._look_at = min(self._free_from, now + _PRESENT / 2) + jitter

    def _grant(self, state: State, now: float) -> list[_Token]:
        if now < state.paused:
            return []
        present = sum(1 for until in state.holders.values() if until > now)
        free = [rate.limit - sum(state.taken.get(rate.name, {}).values()) for rate in self._counted]
        count = min([self._block, *free])
        if free:
            # Nobody empties the bucket while others stand beside it.
            count = min(count, max(1, -(-min(free) // present))) if min(free) > 0 else 0
        pace = self._pace(state)
        if pace is not None:
            # A pace lends no more than the next second's tokens: else a slow holder would sit on them.
            count = min(count, max(1, int(pace / present)))
        if count <= 0:
            return []
        slots = tuple((rate.name, int(now // rate.hold)) for rate in self._counted)
        for name, slot in slots:
            window = state.taken.setdefault(name, {})
            window[slot] = window.get(slot, 0) + count
        hold = min((rate.hold for rate in self._counted), default=PACED)
        start, step = max(now, state.next), 0.0 if pace is None else 1 / pace
        state.next = start + count * step
        return [_Token(start + n * step, max(start + n * step, now) + hold, slots) for n in range(count)]

    def _pace(self, state: State) -> float | None:
        paces = [_PACE * rate.limit / rate.seconds for rate in self._paced]
        if self._adaptive is not None:
            paces.append(state.rate if state.rate is not None else self._adaptive.start)
        return min(paces, default=None)

    def _forget(self, state: State, now: float) -> None:
        """Drop what has come back and who has not been seen for long."""
        for rate in self._counted:
            window = state.taken.get(rate.name, {})
            # Taken in a slot, spent up to `hold` after its end, seen by the provider for `seconds`.
            state.taken[rate.name] = {s: n for s, n in window.items() if (s + 2) * rate.hold + rate.seconds > now}
        state.holders = {who: until for who, until in state.holders.items() if until > now}

    def _free_at(self, state: State, now: float) -> float:
        """When the next token is there unless one is given back before."""
        when = max(now, state.paused)
        for rate in self._counted:
            window = state.taken.get(rate.name, {})
            if sum(window.values()) >= rate.limit:
                when = max(when, (min(window) + 2) * rate.hold + rate.seconds)
        return when

    def _give_back(self) -> None:
        unspent, self._tokens, self._stale = [*self._tokens, *self._stale], [], []
        if not unspent and self._known is None:
            return

        def back(state: State, now: float) -> None:
            state.holders.pop(self._id, None)
            _put_back(state, unspent)

        # What cannot be given back comes back by itself.
        with contextlib.suppress(ConflictError):
            self._change(back)
        self._look_at = 0.0

    # -- what the provider says ------------------------------------------------------------------------

    def _refused(self, status: int, retry_after: float | None) -> None:
        def slow_down(state: State, now: float) -> None:
            # Requests that were under way together are refused together: that is one refusal.
            again = now - state.changed < _EVENT
            if status == 429 or retry_after is not None:
                pause = retry_after
                if pause is None:
                    pause = min(_PAUSE[1], _PAUSE[0] * 2 ** min(state.refusals, 10))
                state.paused = max(state.paused, now + pause)
            if again:
                return
            state.refusals += 1
            state.changed = now
            if self._adaptive is not None:
                rate = state.rate if state.rate is not None else self._adaptive.start
                state.rate = max(self._adaptive.lowest, rate / 2)

        with self._lock:
            self._tokens.clear()
            self._change(slow_down)
            self._look_at = 0.0

    def _grow(self, state: State, now: float) -> None:
        served, self._successes = self._successes, 0
        if not served or now < state.paused:
            return
        state.refusals = 0
        if self._adaptive is not None and now - state.changed >= _EVENT:
            rate = state.rate if state.rate is not None else self._adaptive.start
            state.rate = min(self._adaptive.highest, rate + self._adaptive.growth * self._adaptive.highest)
            state.changed = now

    # -- the document ----------------------------------------------------------------------------------

    def _read(self) -> tuple[State, str | None]:
        try:
            data, etag = self._objects.get_with_etag(self.key)
        except NotFound:
            return State(), None
        try:
            return msgspec.json.decode(data, type=State), etag
        except msgspec.DecodeError as error:
            raise CorruptInput(f"{self.key} cannot be read ({error}); deleting it forgets what was used") from None

    def _change[T](self, change: Callable[[State, float], T]) -> T:
        """Change the document: from what was last known of it, and when that is out of date, from what it is now."""
        with self._lock:
            for attempt in range(40):
                state, etag = self._known or self._read()
                state = msgspec.json.decode(msgspec.json.encode(state), type=State)
                result = change(state, self._clock())
                data = msgspec.json.encode(state)
                try:
                    if etag is None:
                        etag = self._objects.put_new(self.key, data)
                    else:
                        etag = self._objects.replace(self.key, data, etag)
                except (ConflictError, NotFound):
                    self._known = None
                    self._sleep(random.uniform(0, 0.01 * 2 ** min(attempt, 5)))
                    continue
                self.writes += 1
                self._known = (state, etag)
                return result
            raise ConflictError(f"{self.key} was changed by others all the time")


def _put_back(state: State, tokens: Sequence[_Token]) -> None:
    """Tokens that were taken and never spent, as if they had not been taken."""
    for token in tokens:
        for name, slot in token.slots:
            if state.taken.get(name, {}).get(slot, 0) > 0:
                state.taken[name][slot] -= 1
