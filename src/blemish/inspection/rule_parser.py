"""Parse rules such as `reject if scratch.length_mm > 0.5`, by hand: they are never evaluated as Python.

    rule      := (reject | review | ignore) if condition [in zone NAME]
    condition := clause {or clause}
    clause    := term {and term}
    term      := not term | ( condition ) | value (> | >= | < | <= | == | !=) value
    value     := NUMBER | [CLASS .] MEASUREMENT | [CLASS .] count | (sum|max|min|mean) ( [CLASS .] MEASUREMENT )

MEASUREMENT is a field of `Measurements` (length_mm, area_px, ...) or `score`. Names with spaces or dots are quoted:
`"deep pit".area_px`. Keywords are not case-sensitive, names are. See `rules` for what a rule means.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from blemish.errors import DecisionError, unknown
from blemish.inspection.rules import AGGREGATES, MEASUREMENTS, Combination, Comparison, Condition, DecisionRule, Operand

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<op>>=|<=|==|!=|>|<)|(?P<mark>[().])"""
    r"""|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\W\d][\w-]*))"""
)
_MAX_LENGTH, _MAX_DEPTH = 2000, 50


@lru_cache(maxsize=256)
def parse_rule(text: str) -> DecisionRule:
    """Parse one rule; raises DecisionError that names the word where parsing stopped."""
    return _Parser(text).rule()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.line = " ".join(text.split())  # as messages show it
        self.tokens = self._tokens()
        self.at = 0
        self.depth = 0

    def rule(self) -> DecisionRule:
        action = self._accept("reject", "review", "ignore")
        if action is None:
            raise self._error("a rule begins with reject, review or ignore")
        self._expect("if")
        condition = self._condition()
        zone = None
        if self._accept("in") is not None:
            self._expect("zone", " after 'in'")
            zone = self._name("the name of a zone")
        if self.at < len(self.tokens):
            raise self._error("the rule should end here, or go on with 'and', 'or' or 'in zone'")
        return DecisionRule(self.line, action, condition, zone)  # type: ignore[arg-type]

    def _condition(self) -> Condition:
        with self._nested("parentheses"):
            clauses = [self._clause()]
            while self._accept("or") is not None:
                clauses.append(self._clause())
        return clauses[0] if len(clauses) == 1 else Combination("or", tuple(clauses))

    def _clause(self) -> Condition:
        terms = [self._term()]
        while self._accept("and") is not None:
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else self._one_class(Combination("and", tuple(terms)))

    def _one_class(self, clause: Combination) -> Combination:
        direct = [value for term in clause.terms if isinstance(term, Comparison) for value in term.values()]
        labels = sorted({value.label for value in direct if value.is_per_region and value.label is not None})
        if len(labels) > 1:
            raise DecisionError(
                f"rule '{self.line}': one region cannot be both {labels[0]} and {labels[1]}; "
                f"write max({labels[1]}. ...) to speak of another region"
            )
        return clause

    def _term(self) -> Condition:
        if self._accept("not") is not None:
            with self._nested("'not'"):
                return self._term().negated()
        if self._accept("(") is not None:
            condition = self._condition()
            self._expect(")")
            return condition
        left = self._value()
        kind, sign = self._peek()
        if kind != "op":
            raise self._error("a comparison (>, >=, <, <=, ==, !=) is missing")
        self.at += 1
        return Comparison(left, sign, self._value())

    def _value(self) -> Operand:
        kind, text = self._peek()
        if kind == "number":
            self.at += 1
            return Operand(number=float(text))
        name = self._name("a measurement or a number")
        if kind == "word" and name in AGGREGATES and self._accept("(") is not None:
            label, inner = self._measurement()
            self._expect(")")
            return Operand(name=inner, label=label, aggregate=name)
        self.at -= 1
        label, name = self._measurement(count=True)
        return Operand(label=label, aggregate="count") if name == "count" else Operand(name=name, label=label)

    def _measurement(self, count: bool = False) -> tuple[str | None, str]:
        label, name = None, self._name("a measurement")
        if self._accept(".") is not None:
            label, name = name, self._name("a measurement")
        known = [*MEASUREMENTS, "count"] if count else list(MEASUREMENTS)
        if name not in known:
            raise DecisionError(f"rule '{self.line}': {unknown('measurement', name, known)}")
        return label, name

    def _name(self, what: str) -> str:
        kind, text = self._peek()
        if kind not in ("word", "name"):
            raise self._error(f"{what} is missing")
        self.at += 1
        return text

    def _accept(self, *texts: str) -> str | None:
        """Consume the next token where it is one of the keywords or marks; names in quotes are never keywords."""
        kind, text = self._peek()
        if kind in ("word", "mark") and text.lower() in texts:
            self.at += 1
            return text.lower()
        return None

    def _expect(self, text: str, hint: str = "") -> None:
        if self._accept(text) is None:
            raise self._error(f"'{text}' is missing{hint}")

    @contextmanager
    def _nested(self, what: str) -> Iterator[None]:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._error(f"too many {what}")
        yield
        self.depth -= 1

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def _error(self, what: str) -> DecisionError:
        if self.at == len(self.tokens):
            return DecisionError(f"rule '{self.line}': {what}, at its end")
        return DecisionError(f"rule '{self.line}': {what}, at '{self._peek()[1]}'")

    def _tokens(self) -> list[tuple[str, str]]:
        if len(self.text) > _MAX_LENGTH:
            raise DecisionError(f"a rule of {len(self.text)} characters is too long; {_MAX_LENGTH} are allowed")
        tokens, at, end = [], 0, len(self.text.rstrip())
        while at < end:
            match = _TOKEN.match(self.text, at)
            if match is None:
                raise DecisionError(f"rule '{self.line}': {self.text[at:].strip()[:1]!r} is not understood")
            kind = str(match.lastgroup)
            text = " ".join(match[kind].split())
            tokens.append(("name" if kind in ("double", "single") else kind, text))
            at = match.end()
        return tokens
