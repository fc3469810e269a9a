"""The control port: orders from people, obeyed by the forward pass at the next token.

Orders may be given from any thread. They are kept in one immutable object that is replaced whole, so that a forward
pass that looks at it sees all of an order or nothing of it, and never waits.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

Row = Hashable
"""A row of a batch: its name, where rows were named, or its place."""


@dataclass(frozen=True)
class Order:
    """What a row was told."""

    stop: bool = False
    """End the reply: the next token is the end of the text."""
    refuse: bool = False
    """Open the gate, whatever the scores say."""
    observe: bool = False
    """Score and trace, but change nothing."""
    shift: float = 0.0
    """Added to every threshold, in log-odds; below zero the gate opens sooner."""

    def merged(self, other: Order) -> Order:
        """Return both orders as one."""
        return Order(
            stop=self.stop or other.stop,
            refuse=self.refuse or other.refuse,
            observe=self.observe or other.observe,
            shift=self.shift + other.shift,
        )


NO_ORDER = Order()


@dataclass(frozen=True)
class Orders:
    """All orders in force."""

    number: int = 0
    """Of the last order given; a trace names it, so that obedience can be measured."""
    everyone: Order = NO_ORDER
    rows: Mapping[Row, Order] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether anything was ordered."""
        return bool(self.rows) or self.everyone != NO_ORDER

    def for_row(self, row: Row) -> Order:
        """Return what a row has to obey."""
        return self.everyone.merged(self.rows.get(row, NO_ORDER))


class Control:
    """Orders to the safety layers. Each method returns the order's number."""

    def __init__(self) -> None:
        """Begin without orders."""
        self._lock = threading.Lock()
        self._orders = Orders()

    @property
    def orders(self) -> Orders:
        """All orders in force."""
        return self._orders

    def stop(self, row: Row | None = None) -> int:
        """End a row's reply, or all."""
        return self._give(row, stop=True)

    def refuse(self, row: Row | None = None) -> int:
        """Turn a row's reply into a refusal, or all."""
        return self._give(row, refuse=True)

    def observe_only(self, on: bool = True, row: Row | None = None) -> int:
        """Let scores change nothing, or let them act again; what everyone was told holds for each row as well.

        Stop and refuse are obeyed all the same.
        """
        return self._give(row, observe=on)

    def shift_thresholds(self, log_odds: float, row: Row | None = None) -> int:
        """Raise the thresholds, or lower them (below zero). A row's shift is added to everyone's."""
        return self._give(row, shift=log_odds)

    def clear(self, row: Row | None = None) -> int:
        """Take back a row's orders; without a row, all orders to anybody."""
        with self._lock:
            orders = self._orders
            kept = {} if row is None else {name: order for name, order in orders.rows.items() if name != row}
            everyone = NO_ORDER if row is None else orders.everyone
            self._orders = Orders(orders.number + 1, everyone, kept)
            return self._orders.number

    def _give(self, row: Row | None, **change: bool | float) -> int:
        with self._lock:
            orders = self._orders
            number = orders.number + 1
            if row is None:
                self._orders = replace(orders, number=number, everyone=replace(orders.everyone, **change))  # type: ignore[arg-type]  # fields of Order
            else:
                mine = replace(orders.rows.get(row, NO_ORDER), **change)  # type: ignore[arg-type]
                self._orders = replace(orders, number=number, rows={**orders.rows, row: mine})
            return number
