"""The ledger of commitments in memory: what counts conflicts with nothing, and what is asked is judged at once.

Every place has its power over time as a sorted step function, so a candidate is judged by the largest level in its
interval, however much is in the ledger. Commitments are looked at one by one only where a conflict is possible.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from evflex.engine.activation.capacity_rule import capacity_conflicts
from evflex.engine.activation.counting import Cap, Count, Place, by_place, counts_of, policy_of
from evflex.engine.activation.energy_rule import energy_exceeded
from evflex.engine.activation.model import (
    OPEN_END_MS,
    Commitment,
    Conflict,
    Direction,
    PolicyKind,
    Resource,
    Session,
)
from evflex.engine.activation.pair_rules import (
    Sold,
    counter_activation,
    cross_sale,
    forbidden_cascade,
    order_key,
    sold_sides,
)
from evflex.engine.activation.place_book import PlaceBook
from evflex.engine.activation.policy_rule import policy_conflicts
from evflex.engine.activation.registry import Registry
from evflex.engine.activation.strength import Strengths, grown, renamed, strengths_of
from evflex.engine.activation.truncation import truncated

# Sequences of candidates that are judged together.
_AFTER_ALL = 1 << 62


@dataclass(frozen=True, slots=True)
class Suspension:
    """A commitment that lost to an earlier one.

    Attributes:
        commitment: The commitment, which counts no more.
        conflicts: What stands against it, and did not before.
    """

    commitment: Commitment
    conflicts: tuple[Conflict, ...]


class Ledger:
    """Counting commitments, and what they are judged by.

    Attributes:
        registry: Resources, sessions and policies. What commitments may count by is changed by :meth:`change`.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        """Begin without commitments."""
        self.registry = registry or Registry()
        self._sold: dict[str, Sold] = {}
        self._books: dict[Place, PlaceBook] = {}
        self._naming: dict[str, set[str]] = {}
        # NO_CASCADE is rare; where nobody sells under it, nothing needs to be looked at for it
        self._under_no_cascade = 0
        self._last_counted: tuple[int, Sold] | None = None

    def __len__(self) -> int:
        return len(self._sold)

    def __contains__(self, commitment_id: str) -> bool:
        return commitment_id in self._sold

    def commitments(self) -> list[Commitment]:
        """Those that count, in the order of their sequence."""
        return sorted((sold.commitment for sold in self._sold.values()), key=order_key)

    def pinned(self, commitment: Commitment) -> Commitment:
        """The commitment with the policy of each row, so that it keeps those that it is sold under."""
        if all(row.policy is not None for row in commitment.rows):
            return commitment
        rows = tuple(replace(row, policy=policy_of(self.registry, commitment, row)) for row in commitment.rows)
        return replace(commitment, rows=rows)

    def put(self, commitment: Commitment) -> Commitment:
        """Let a commitment count; whoever puts one has judged it. Returns it with the policies that it keeps."""
        commitment = self.pinned(commitment)
        sold = self._counted(commitment)
        self._sold[commitment.commitment_id] = sold
        for place, counts in by_place(sold.counts).items():
            book = self._books.get(place)
            if book is None:
                book = self._books[place] = PlaceBook()
            book.put(commitment, counts)
        for row in commitment.rows:
            self._naming.setdefault(row.resource_id, set()).add(commitment.commitment_id)
        self._under_no_cascade += _is_under_no_cascade(commitment)
        return commitment

    def remove(self, commitment_id: str) -> Commitment:
        """Let a commitment count no more."""
        sold = self._sold.pop(commitment_id)
        for place, counts in by_place(sold.counts).items():
            book = self._books[place]
            book.remove(sold.commitment, counts)
            if not book.members:
                del self._books[place]
        for row in sold.commitment.rows:
            naming = self._naming[row.resource_id]
            naming.discard(commitment_id)
            if not naming:
                del self._naming[row.resource_id]
        self._under_no_cascade -= _is_under_no_cascade(sold.commitment)
        return sold.commitment

    def check(self, candidates: Sequence[Commitment]) -> list[Conflict]:
        """What stands against commitments, each judged with those before it; the ledger stays as it is."""
        if len(candidates) == 1:
            return self.conflicts_of(candidates[0])
        conflicts: list[Conflict] = []
        for k, candidate in enumerate(candidates):
            conflicts += self.conflicts_of(candidate)
            self.put(replace(candidate, sequence=_AFTER_ALL + k))
        for candidate in candidates:
            self.remove(candidate.commitment_id)
        return conflicts

    def conflicts_of(self, candidate: Commitment) -> list[Conflict]:
        """What stands against a commitment that is not in the ledger: every conflict in which it would take part."""
        sold = self._counted(candidate)
        places = by_place(sold.counts)
        conflicts = list(policy_conflicts(self.registry, candidate))
        conflicts += self._cross_sales(sold)
        conflicts += self._along_the_line(sold, places)
        for place, counts in places.items():
            conflicts += capacity_conflicts(self.registry, self._books.get(place), self._sold, sold, place, counts)
        conflicts += self._energy(sold, places)
        return conflicts

    def _counted(self, commitment: Commitment) -> Sold:
        """A commitment with its counts; who is judged is mostly put next, and counts the same then."""
        version = self.registry.version
        last = self._last_counted
        if last is None or last[0] != version or last[1].commitment is not commitment:
            last = self._last_counted = (version, Sold(commitment, counts_of(self.registry, commitment)))
        return last[1]

    def things_touched(self, commitment: Commitment) -> set[str]:
        """Things that a commitment counts at, or names."""
        named = {self.registry.sessions[r].ev_id if r in self.registry.sessions else r for r in _names(commitment)}
        things = {self.registry.thing(name).thing_id for name in named}
        return things | {c.place for c in counts_of(self.registry, commitment) if not isinstance(c.place, Cap)}

    def caps_touched(self, commitment: Commitment) -> set[Cap]:
        """Caps that a commitment counts against."""
        return {c.place for c in counts_of(self.registry, commitment) if isinstance(c.place, Cap)}

    def exceeded_caps(self, commitment: Commitment) -> set[Cap]:
        """Caps below what counts against them while a commitment of the ledger does: they were lowered since."""
        found = set()
        for count in counts_of(self.registry, commitment):
            if not isinstance(count.place, Cap):
                continue
            cap_w, book = self.registry.cap_w(count.place.area_id), self._books.get(count.place)
            load = None if book is None else book.load(commitment.direction)
            if cap_w is not None and load is not None and load.peak_w(count.start_ms, count.end_ms) > cap_w:
                found.add(count.place)
        return found

    def naming(self, resource_ids: Iterable[str]) -> set[str]:
        """Commitments with a row on any of some resources or sessions."""
        return {name for resource_id in resource_ids for name in self._naming.get(resource_id, ())}

    def naming_sides(self, session: Session) -> set[str]:
        """Commitments with a row on the vehicle or the charge point of a session, or on the session."""
        members = [member for side in self.registry.sides_of(session) for member in side.members]
        return self.naming([*members, session.session_id])

    def joined_to(self, resource_id: str, aliases: Iterable[tuple[str, str]]) -> set[str]:
        """Commitments that may count otherwise once a resource has these aliases instead of its own."""
        registry = self.registry
        things = {registry.thing(member) for member in registry.joined_by(resource_id, aliases)}
        members = [member for thing in things for member in thing.members]
        return self.counting_at(thing.thing_id for thing in things) | self.naming(members)

    def counting_at(self, thing_ids: Iterable[str]) -> set[str]:
        """Commitments that count at any of some things."""
        return {name for thing_id in thing_ids if thing_id in self._books for name in self._books[thing_id].members}

    def open_session(self, session: Session) -> list[Suspension]:
        """Open a session, and decide what conflicts by it; see :meth:`change`."""
        registry = self.registry
        return self.change(
            self.naming_sides(session),
            lambda: registry.put_session(session),
            lambda: registry.drop_session(session.session_id),
        )

    def close_session(self, session: Session) -> list[Commitment]:
        """Close a session: what was sold of it, and running sales of its vehicle, end with it.

        Args:
            session: With its end.

        Returns:
            Commitments as they were cut, in the order of their sequence. One without rows counts no more.
        """
        vehicles = self.registry.thing(session.ev_id).members
        changed = []
        for commitment in self.move(self.naming_sides(session), lambda: self.registry.put_session(session)):
            cut = truncated(commitment, session, vehicles)
            if cut != commitment:
                self.remove(commitment.commitment_id)
                changed.append(self.put(cut) if cut.rows else cut)
        return changed

    def change_resource(self, resource: Resource) -> list[Suspension]:
        """Replace a resource, and decide what conflicts by that, as where aliases join two things."""
        registry, before = self.registry, self.registry.resources[resource.resource_id]
        return self.change(
            self.joined_to(resource.resource_id, resource.aliases),
            lambda: registry.put_resource(resource),
            lambda: registry.put_resource(before),
        )

    def move(self, affected: Iterable[str], apply: Callable[[], None]) -> list[Commitment]:
        """Change the registry, and let commitments whose counts that alters count as they do then.

        Returns:
            Those commitments, in the order of their sequence.
        """
        moved = sorted([self.remove(name) for name in set(affected)], key=order_key)
        apply()
        for commitment in moved:
            self.put(commitment)
        return moved

    def change(self, affected: Iterable[str], apply: Callable[[], None], undo: Callable[[], None]) -> list[Suspension]:
        """Change the registry, and decide what conflicts by that: the one with the lower sequence stays.

        Args:
            affected: Commitments whose counts, or whose sessions, the change alters.
            apply: Makes the change.
            undo: Takes it back.

        Returns:
            Commitments that count no more, in the order of their sequence.
        """
        names = set(affected)
        moved = [commitment.commitment_id for commitment in self.move(names, apply)]
        conflicts = [conflict for name in moved for conflict in self._conflicts_now(name)]
        if not conflicts:
            return []
        involved = names | self._parties(conflicts)
        lost: set[str] = set()
        while True:
            # a commitment is judged by those before it that stay, so each round settles at least one more
            self.move(names, undo)
            known = self._judged_in_turn(involved, lost)
            self.move(names, apply)
            suspended = self._yielding(involved, known)
            if {each.commitment.commitment_id for each in suspended} == lost:
                return suspended
            lost = {each.commitment.commitment_id for each in suspended}
            for each in suspended:
                self.put(each.commitment)

    def _judged_in_turn(self, involved: Iterable[str], lost: Container[str]) -> dict[str, Strengths]:
        """Conflicts of each commitment with those before it that are not lost."""
        known = {}
        taken_out = self._taken_out(involved)
        for commitment in taken_out:
            name = commitment.commitment_id
            known[name] = strengths_of(self.conflicts_of(commitment), name)
            if name not in lost:
                self.put(commitment)
        for commitment in taken_out:
            if commitment.commitment_id in lost:
                self.put(commitment)
        return known

    def _yielding(self, involved: Iterable[str], known: dict[str, Strengths]) -> list[Suspension]:
        """Commitments with more against them than is known, which are left out; the others are in."""
        suspended = []
        for commitment in self._taken_out(involved):
            name = commitment.commitment_id
            conflicts = grown(self.conflicts_of(commitment), renamed(known[name], self.registry), name)
            if conflicts:
                suspended.append(Suspension(commitment, tuple(conflicts)))
            else:
                self.put(commitment)
        return suspended

    def _taken_out(self, names: Iterable[str]) -> list[Commitment]:
        return sorted([self.remove(name) for name in names], key=order_key)

    def _parties(self, conflicts: Iterable[Conflict]) -> set[str]:
        """Whoever may have to yield by any of some conflicts."""
        found: set[str] = set()
        for conflict in conflicts:
            found.update(conflict.commitment_ids)
            if conflict.direction is not None:  # of many, not all of whom are named
                place = conflict.resource_id
                aggregators = {self._sold[name].commitment.aggregator_id for name in conflict.commitment_ids}
                places: list[Place] = [place] if place else [Cap(a, conflict.area_id) for a in aggregators]
                if conflict.session_id:
                    session = self.registry.sessions[conflict.session_id]
                    places.append(self.registry.thing(session.charge_point_id).thing_id)
                found.update(name for place in places if place in self._books for name in self._books[place].members)
        return found

    def _conflicts_now(self, name: str) -> list[Conflict]:
        """Conflicts of a commitment that is in the ledger with all others."""
        commitment = self.remove(name)
        conflicts = self.conflicts_of(commitment)
        self.put(commitment)
        return conflicts

    def _cross_sales(self, sold: Sold) -> Iterator[Conflict]:
        registry, commitment = self.registry, sold.commitment
        sessions: dict[str, Session] = {}
        for side in sold_sides(registry, commitment):
            there = registry.sessions_of(registry.thing(side), commitment.start_ms, commitment.end_ms)
            sessions.update((session.session_id, session) for session in there)
        for session in sessions.values():
            for other in (*self._direct_in(session), sold):
                yield from _found(cross_sale(registry, sold, other, session))

    def _along_the_line(self, sold: Sold, places: dict[Place, list[Count]]) -> Iterator[Conflict]:
        """Counter-activation and forbidden cascades at each thing where a commitment counts."""
        is_under = _is_under_no_cascade(self.pinned(sold.commitment))
        opposite = Direction.DOWN if sold.commitment.direction == Direction.UP else Direction.UP
        for place, counts in places.items():
            book = self._books.get(place)
            if isinstance(place, Cap):
                continue
            direct, lower = any(c.is_direct for c in counts), any(not c.is_direct for c in counts)
            if is_under and direct and lower:
                yield from _found(forbidden_cascade(self.registry, sold, sold, place))
            if book is None:
                continue
            load = book.load(opposite)
            start, end = min(c.start_ms for c in counts), max(c.end_ms for c in counts)
            if load is not None and load.peak_w(start, end) > 0:
                for name in book.members if direct else book.direct:
                    other = self._sold[name]
                    if other.commitment.direction == opposite:
                        yield from _found(counter_activation(sold, other, place))
            if is_under or self._under_no_cascade:
                for name in book.members if direct else book.direct:
                    yield from _found(forbidden_cascade(self.registry, sold, self._sold[name], place))

    def _energy(self, sold: Sold, places: dict[Place, list[Count]]) -> Iterator[Conflict]:
        if sold.commitment.direction != Direction.UP:
            return
        seen: dict[str, Session] = {}
        for place, counts in places.items():
            if isinstance(place, Cap) or not any(count.is_direct for count in counts):
                continue
            thing = self.registry.thing(place)
            start, end = sold.commitment.start_ms, sold.commitment.end_ms
            for session in self.registry.sessions_of(thing, start, end):
                if session.has_need and session.end_ms == OPEN_END_MS:
                    seen[session.session_id] = session
        for session in seen.values():
            conflict = energy_exceeded(self.registry, session, [*self._direct_in(session), sold])
            # of a session whose need cannot be met anyway, those that take nothing are not told
            if conflict is not None and sold.commitment.commitment_id in conflict.commitment_ids:
                yield conflict

    def _direct_in(self, session: Session) -> list[Sold]:
        """Those that count directly at the vehicle or the charge point of a session."""
        books = [self._books.get(side.thing_id) for side in self.registry.sides_of(session)]
        names = dict.fromkeys(name for book in books if book is not None for name in book.direct)
        return [self._sold[name] for name in names]


def _found(conflict: Conflict | None) -> Iterator[Conflict]:
    if conflict is not None:
        yield conflict


def _is_under_no_cascade(commitment: Commitment) -> bool:
    return any(row.policy == PolicyKind.NO_CASCADE for row in commitment.rows)


def _names(commitment: Commitment) -> list[str]:
    return [row.resource_id for row in commitment.rows]
