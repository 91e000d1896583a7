"""Rules such as `reject if scratch.length_mm > 0.5`, parsed by hand and never evaluated as Python.

    rule      := (reject | review | ignore) if test [in zone NAME]
    test      := clause {or clause}
    clause    := part {and part}
    part      := not part | ( test ) | value (> | >= | < | <= | == | !=) value
    value     := NUMBER | [CLASS .] MEASUREMENT | [CLASS .] count | (sum|max|min|mean) ( [CLASS .] MEASUREMENT )

MEASUREMENT is a field of `Measurements` (length_mm, area_px, ...) or `score`. A name with spaces or dots stands in
quotes: `"deep pit".area_px`. Keywords are not case-sensitive, names are. What a
rule means is told in `rules`.
"""

import re
from functools import lru_cache

from blemish.errors import DecisionError
from blemish.inspection.rules import AGGREGATES, MEASUREMENTS, Combination, Comparison, Rule, Test, Value, near

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<op>>=|<=|==|!=|>|<)|(?P<mark>[().])"""
    r"""|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\W\d][\w-]*))"""
)
_MAX_LENGTH, _MAX_DEPTH = 2000, 50


@lru_cache(maxsize=256)
def parse_rule(text: str) -> Rule:
    """The rule that a line of text says; raises DecisionError that shows where it is not understood."""
    return _Parser(text).rule()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.line = " ".join(text.split())  # as messages show it
        self.tokens = self._tokens()
        self.at = 0
        self.depth = 0

    def rule(self) -> Rule:
        action = self._word("reject", "review", "ignore")
        if action is None:
            raise self._error("a rule begins with reject, review or ignore")
        if self._word("if") is None:
            raise self._error("'if' is missing")
        test = self._test()
        zone = None
        if self._word("in") is not None:
            if self._word("zone") is None:
                raise self._error("'zone' is missing after 'in'")
            zone = self._name("the name of a zone")
        if self.at < len(self.tokens):
            raise self._error("the rule should end here, or go on with 'and', 'or' or 'in zone'")
        return Rule(self.line, action, test, zone)  # type: ignore[arg-type]

    def _test(self) -> Test:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._error("too many parentheses")
        clauses = [self._clause()]
        while self._word("or") is not None:
            clauses.append(self._clause())
        self.depth -= 1
        return clauses[0] if len(clauses) == 1 else Combination("or", tuple(clauses))

    def _clause(self) -> Test:
        parts = [self._part()]
        while self._word("and") is not None:
            parts.append(self._part())
        return parts[0] if len(parts) == 1 else self._one_class(Combination("and", tuple(parts)))

    def _one_class(self, clause: Combination) -> Combination:
        direct = [value for part in clause.parts if isinstance(part, Comparison) for value in part.values()]
        labels = sorted({value.label for value in direct if value.of_one_region and value.label is not None})
        if len(labels) > 1:
            raise DecisionError(
                f"rule '{self.line}': one region cannot be both {labels[0]} and {labels[1]}; "
                f"write max({labels[1]}. ...) to speak of another region"
            )
        return clause

    def _part(self) -> Test:
        if self._word("not") is not None:
            self.depth += 1
            if self.depth > _MAX_DEPTH:
                raise self._error("too many 'not'")
            part = self._part().negated()
            self.depth -= 1
            return part
        if self._mark("("):
            test = self._test()
            self._expect(")")
            return test
        left = self._value()
        kind, sign = self._peek()
        if kind != "op":
            raise self._error("a comparison (>, >=, <, <=, ==, !=) is missing")
        self.at += 1
        return Comparison(left, sign, self._value())

    def _value(self) -> Value:
        kind, text = self._peek()
        if kind == "number":
            self.at += 1
            return Value(number=float(text))
        name = self._name("a measurement or a number")
        if kind == "word" and name in AGGREGATES and self._mark("("):
            label, inner = self._measurement()
            self._expect(")")
            return Value(name=inner, label=label, aggregate=name)
        self.at -= 1
        label, name = self._measurement(count=True)
        return Value(label=label, aggregate="count") if name == "count" else Value(name=name, label=label)

    def _measurement(self, count: bool = False) -> tuple[str | None, str]:
        label, name = None, self._name("a measurement")
        if self._mark("."):
            label, name = name, self._name("a measurement")
        known = [*MEASUREMENTS, "count"] if count else list(MEASUREMENTS)
        if name not in known:
            raise DecisionError(f"rule '{self.line}': there is no measurement '{name}'{near(name, known)}")
        return label, name

    def _name(self, what: str) -> str:
        kind, text = self._peek()
        if kind not in ("word", "name"):
            raise self._error(f"{what} is missing")
        self.at += 1
        return text

    def _word(self, *words: str) -> str | None:
        kind, text = self._peek()
        if kind == "word" and text.lower() in words:
            self.at += 1
            return text.lower()
        return None

    def _mark(self, mark: str) -> bool:
        if self._peek() == ("mark", mark):
            self.at += 1
            return True
        return False

    def _expect(self, mark: str) -> None:
        if not self._mark(mark):
            raise self._error(f"'{mark}' is missing")

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def _error(self, what: str) -> DecisionError:
        found = f"at '{self._peek()[1]}'" if self.at < len(self.tokens) else "at its end"
        return DecisionError(f"rule '{self.line}': {what}, {found}")

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
