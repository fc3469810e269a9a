"""A reply while it is made: its text, who has checked how much of it, and how much has left."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from safetylayers.oversee.gateway.redaction import redact
from safetylayers.oversee.guards.base import Finding, Passage, Verdict
from safetylayers.oversee.guards.ledger import Ledger
from safetylayers.oversee.guards.runner import Failure
from safetylayers.oversee.policy.decision import Decision, rule_on, rule_on_failure, rule_on_reading
from safetylayers.oversee.policy.enforced import Checked, Enforced
from safetylayers.oversee.words import Finish, Message, Piece, Token


class Draft:
    """One reply of one attempt."""

    def __init__(self, enforced: Enforced, messages: tuple[Message, ...], *, steers: bool) -> None:
        """Begin with nothing."""
        self.enforced, self.messages, self.steers = enforced, messages, steers
        self.guards = enforced.reading("output")
        self.ledger = Ledger(self.guards)
        self.checked = dict.fromkeys(self.guards, 0)
        self.decision = Decision()
        self.text = ""
        self.released = 0
        """Characters of `text` that have left."""
        self.finish: Finish | None = None
        self.prompt_tokens: int | None = None
        self.echoed: tuple[Token, ...] = ()
        self.steered_tokens = 0
        self.strongest = 0.0
        self._tokens: list[Token] = []
        self._ends: list[int] = []
        self._counted: int | None = None
        self._told: set[str] = set()

    def add(self, pieces: Sequence[Piece]) -> None:
        """Take in what the engine made, and rule on what the monitors saw in it."""
        for piece in pieces:
            if piece.prompt_tokens is not None:
                self.prompt_tokens = piece.prompt_tokens
            self.echoed = piece.echoed or self.echoed
            self._watch("prompt", piece.prompt_reading)
            self._take(piece)
            self.finish = piece.finish or self.finish
            if piece.completion_tokens is not None:
                self._counted = piece.completion_tokens
        self.ledger.see(len(self.text))

    def _take(self, piece: Piece) -> None:
        place = len(self.text)
        self.text += piece.text
        for token in piece.tokens:
            place += len(token.text)
            self._tokens.append(token)
            self._ends.append(min(place, len(self.text)))
            self._watch("reply", token.reading)
            if token.reading and token.reading.open:
                self.steered_tokens += 1
                self.strongest = max(self.strongest, token.reading.strength)

    def _watch(self, place: str, reading: object) -> None:
        """Rule on a reading; of many that say the same, the first is kept."""
        ruling = rule_on_reading(self.enforced.policy, place, reading, steers=self.steers)  # type: ignore[arg-type]
        if ruling and ruling.by not in self._told:
            self._told.add(ruling.by)
            self.decision.rulings.append(ruling)

    @property
    def completion_tokens(self) -> int:
        """How many tokens the reply has; of engines that do not say, how many pieces of text."""
        return self._counted if self._counted is not None else len(self._tokens)

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All tokens so far, for people who watch."""
        return tuple(self._tokens)

    async def check(self) -> None:
        """Let every guard read what it has not checked yet, and rule on what it finds."""
        final = self.finish is not None
        passages = {
            guard: Passage("output", self.text, start, final, self.messages)
            for guard, start in self.checked.items()
            if start < len(self.text) or final
        }
        for check in await self.enforced.check(passages):
            self._record(check)

    def _record(self, check: Checked) -> None:
        if isinstance(check.answer, Verdict):
            self.decision.rulings += rule_on(self.enforced.policy, check.guard, check.answer.findings)
            self._mark(check.guard, check.answer.checked)
        elif isinstance(check.answer, Failure):
            ruling = rule_on_failure(self.enforced.policy, check.answer)
            self.decision.rulings.append(ruling)
            if ruling.effective in ("allow", "hold"):  # the policy says to go on without this guard's verdict
                self._mark(check.guard, len(self.text))

    def _mark(self, guard: str, checked: int) -> None:
        self.checked[guard] = checked
        self.ledger.record(guard, checked)

    @property
    def cleared(self) -> int:
        """How many characters may leave: all guards have read them, and no finding to be written over is cut in two."""
        cleared = self.ledger.cleared if self.guards else len(self.text)
        for finding in self.decision.redactions():
            if finding.start < cleared < finding.end:
                cleared = finding.start
        return cleared

    def redacted(self, start: int, end: int) -> str:
        """Return a stretch of the reply with findings written over. Raises GuardError."""
        return redact(self.text, start, end, self._findings())

    def _findings(self) -> list[Finding]:
        return self.decision.redactions()

    def tokens_between(self, start: int, end: int) -> tuple[Token, ...]:
        """Return the tokens whose text ends within a stretch, those left out that were written over."""
        first, last = bisect_right(self._ends, start), bisect_right(self._ends, end)
        if start == 0:
            first = 0  # tokens without text come first
        covered = [(found.start, found.end) for found in self._findings()]
        kept = []
        for place in range(first, last):
            ends = self._ends[place]
            begins = ends - len(self._tokens[place].text)
            if not any(begins < last_ and first_ < ends for first_, last_ in covered):
                kept.append(self._tokens[place])
        return tuple(kept)

    def leave(self, end: int) -> None:
        """Count a stretch as gone. Raises GuardError where a guard has not checked it."""
        self.ledger.release(end)
        self.released = end
