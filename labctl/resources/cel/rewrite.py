"""Writes an expression in what the library has: messages (`Object.spec{replicas: 3}`), and functions whose result is an optional or whose name is taken.

    Object.spec{replicas: 3}         dyn({"": "Object.spec", "replicas": 3})     a map that remembers the message's name (messages.py)
    format.dns1123Label().validate(x)   format.dns1123Label().validate(x)[?0]    the function returns a list, of which an optional is taken
    [1, 2].indexOf(2)                [1, 2]._indexOf(2)                          the library's own indexOf is for strings only
    m.transformMap(k, v, v + 1)      m.transformList(k, v, [dyn(k), dyn(v + 1)])._mapped()    the library's own has no function behind it
    l.unwrapOpt()                    l.filter(_o, _o.hasValue()).map(_o, _o.value())      the library has no such function
    [1, ?self.x[?0]]                 [1, ?optional.none().or(self.x[?0])]    the library's checker must know that it is an optional
    string(ip(x))                    _string(ip(x))                       the library's own is for its own types only
    lists.range(3)                   _range(3)                            the library's own makes lists of any size
    self.share <= 1                  self.share <= dyn(1)                        where share is a double (see numbers_apart)

The library calls Python with plain values only and has no types of ours, so this is done to the text, token by token; strings and comments stay as they are.
Rewritten.origin tells where a place of the new text was in the old one, so that errors name the place that their author knows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

_TOKEN = re.compile(
    r"""
    (?P<string>
      [bB]?[rR][bB]?(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')
      |[bB]?(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<gap>\s+|//[^\n]*)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*|`[^`\n]*`)
    |(?P<number>[0-9][0-9A-Za-z_]*)
    |(?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PERHAPS = re.compile(r"[\w`]\s*\{|validate|named|ndexOf|transformMap|lists|unwrap|[\[,{]\s*\?|string\s*\(\s*(?:ip|cidr)\b")
_MAPPED = {"transformMap": "._mapped()", "transformMapEntry": "._merged()"}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?u?"
_WHOLE_NUMBER = re.compile(_NUMBER)
_AFTER, _BEFORE = re.compile(rf"(?:<=|>=|<|>)\s*(-?{_NUMBER})(?![\w.])"), re.compile(rf"(?<![\w.])({_NUMBER})\s*\Z")
_UNWRAPPED = ".filter(_o, _o.hasValue()).map(_o, _o.value())"
_RENAMED = {"indexOf": "_indexOf", "lastIndexOf": "_lastIndexOf"}
_KEY, _VALUE = "key", "value"
_CLOSED_BY = {")": "(", "]": "[", "}": "{"}
MESSAGE = ""
"""The key under which a message's map keeps the message's name: no field is called so."""


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


class _Open(NamedTuple):
    """A bracket that is open, and what must be written after it is closed."""

    sign: str
    after: str = ""
    message: bool = False
    key: str = ""  # the loop's variable for a map's keys, where its last part becomes the value of a pair


class Edit(NamedTuple):
    """`length` characters of the old text at `start` become `text`."""

    start: int
    length: int
    text: str


class Rewritten:
    """The new text, and where its parts come from."""

    def __init__(self, old: str, edits: list[Edit]) -> None:
        self._old = old
        self.edits = sorted(edits, key=lambda edit: (edit.start, edit.length > 0))  # what is put in at one place stays in its order
        parts: list[str] = []
        at = 0
        for edit in self.edits:
            parts += (old[at : edit.start], edit.text)
            at = edit.start + edit.length
        self.text = "".join((*parts, old[at:]))

    def numbers_apart(self, offset: int) -> Rewritten | None:
        """Return the text with a literal number beside the comparison at a place of the old text as `dyn`: the library compares an integer with
        a double (as Kubernetes' CEL does) when it need not know the types before. None if there is no literal."""
        found = _AFTER.match(self._old, offset) or _BEFORE.search(self._old[:offset])
        if found is None:
            return None
        start, end = found.span(1)
        return Rewritten(self._old, [*self.edits, Edit(start, end - start, f"dyn({self._old[start:end]})")])

    def literals_apart(self) -> Rewritten:
        """Return the text with all its literals as `dyn`: what is wrong with it is then for checker.py to say, which knows the types of variables."""
        edits = [Edit(start, end - start, f"dyn({self._old[start:end]})") for start, end in _literals(self._old)]
        taken = {edit.start for edit in self.edits if edit.length}
        return Rewritten(self._old, [*self.edits, *(edit for edit in edits if edit.start not in taken)])

    def is_inserted(self, offset: int) -> bool:
        """Tell whether a place of the new text was not in the old one."""
        grown = 0
        for edit in self.edits:
            begin = edit.start + grown
            if offset < begin:
                break
            if offset < begin + len(edit.text):
                return True
            grown += len(edit.text) - edit.length
        return False

    def origin(self, offset: int) -> int:
        """Returns the place in the old text of a place in the new one; for a place inside an edit, the edit's start."""
        grown = 0  # by how much the new text is longer, up to here
        for edit in self.edits:
            begin = edit.start + grown
            if offset < begin:
                break
            if offset < begin + len(edit.text):
                return edit.start
            grown += len(edit.text) - edit.length
        return offset - grown


def computed_keys(text: str) -> int:
    """Return how many maps of an expression have keys that are not written out."""
    tokens = [match for match in _TOKEN.finditer(text) if match.lastgroup != "gap" and match.group() != "?"]
    keys = (after for before, after in itertools.pairwise(tokens) if before.group() == "{")
    return sum(after.lastgroup not in ("string", "number") and after.group() != "}" for after in keys)


def _literals(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the literals of a text begin and end, apart from the names of fields (`x[?'a']` has one, `x.?a` has none)."""
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        assert token is not None  # every character is a token
        at = token.end()
        if token.lastgroup == "number":
            number = _WHOLE_NUMBER.match(text, token.start())
            at = max(at, number.end() if number else at)
        if token.lastgroup in ("string", "number") or token.group() in ("true", "false", "null"):
            yield token.start(), at


def rewritten(text: str, messages: frozenset[str] = frozenset()) -> Rewritten:
    """Rewrites a text. One whose brackets don't fit is left as it is: the library says what is wrong with it.

    `messages` are the first words of the messages' names that may be written here.
    """
    return Rewritten(text, _Rewriter(text, messages).edits() if _PERHAPS.search(text) else [])


class _Rewriter:
    def __init__(self, text: str, messages: frozenset[str]) -> None:
        self._messages = messages
        found = (_Token(match.lastgroup or "", match.group(), match.start()) for match in _TOKEN.finditer(text))
        self._tokens = [token for token in found if token.kind != "gap"]
        self._edits: list[Edit] = []
        self._open: list[_Open] = []
        self._commas: list[int] = []  # where the last comma of each open bracket ends
        self._optionals: list[str] = []  # of each open bracket: whether an optional item or value is being read

    def edits(self) -> list[Edit]:
        for number, token in enumerate(self._tokens):
            if token.kind == "name":
                self._name(number, token)
            elif token.kind == "sign" and token.text in "([{":
                self._opened(number, token)
            elif token.kind == "sign" and token.text in ")]}" and not self._closed(token):
                return []
            elif token.text == "," and self._commas:
                self._commas[-1] = token.start + 1
                self._optional_ended(token)
            elif token.text == "?":
                self._optional(number, token)
            elif token.text == ":" and self._optionals and self._optionals[-1] == _KEY:
                self._optional_begun(token.start + 1)
        return [] if self._open else self._edits

    def _text(self, number: int) -> str:
        return self._tokens[number].text if 0 <= number < len(self._tokens) else ""

    def _name(self, number: int, token: _Token) -> None:
        before, after = self._text(number - 1), self._text(number + 1)
        if after == ":" and self._open and self._open[-1].message and before in ("{", ",", "?"):
            self._replace(token, msgspec.json.encode(token.text.strip("`")).decode())
        elif after == "(" and before == "." and token.text in _RENAMED:
            self._replace(token, _RENAMED[token.text])
        elif after == "(" and before == "." and token.text in _MAPPED:
            self._replace(token, "transformList")
        elif token.text == "unwrapOpt" and before == "." and [self._text(number + step) for step in (1, 2)] == ["(", ")"]:
            begin, end = self._tokens[number - 1].start, self._tokens[number + 2].start + 1
            self._edits.append(Edit(begin, end - begin, _UNWRAPPED))
        elif token.text == "lists" and [self._text(number + step) for step in (1, 2, 3)] == [".", "range", "("] and before != ".":
            last = self._tokens[number + 2]
            self._edits.append(Edit(token.start, last.start + len(last.text) - token.start, "_range"))
        elif token.text == "string" and after == "(" and before != "." and self._text(number + 2) in ("ip", "cidr"):
            self._replace(token, "_string")

    def _opened(self, number: int, token: _Token) -> None:
        self._commas.append(-1)
        self._optionals.append("")
        loop = self._text(number - 1) if token.text == "(" and self._text(number - 2) == "." else ""
        if loop in _MAPPED:
            self._open.append(_Open("(", _MAPPED[loop], key=self._text(number + 1) if loop == "transformMap" else ""))
            return
        first = self._path(number - 1) if token.text == "{" and self._is_name(number - 1) else number
        if self._text(first) in self._messages:
            start, name = self._tokens[first].start, "".join(each.text for each in self._tokens[first:number])
            self._edits.append(Edit(start, token.start + 1 - start, f'dyn({{"{MESSAGE}":"{name}",'))
            self._open.append(_Open("{", ")", message=True))
        else:
            self._open.append(_Open(token.text, "[?0]" if token.text == "(" and self._is_optional(number - 1) else ""))

    def _closed(self, token: _Token) -> bool:
        if not self._open or self._open[-1].sign != _CLOSED_BY[token.text]:
            return False
        self._optional_ended(token)
        self._optionals.pop()
        comma, closed = self._commas.pop(), self._open.pop()
        if closed.key and comma >= 0:
            self._edits += (Edit(comma, 0, f"[dyn({closed.key}), dyn("), Edit(token.start, 0, ")]"))
        if closed.after:
            self._edits.append(Edit(token.start + 1, 0, closed.after))
        return True

    def _optional(self, number: int, token: _Token) -> None:
        """Look at a question mark: before an item of a list or a key of a map it says that there may be none."""
        before = self._text(number - 1)
        if not self._open or self._open[-1].message or before not in ("[", "{", ","):
            return
        sign = self._open[-1].sign
        if sign == "{":
            self._optionals[-1] = _KEY
        elif sign == "[" and not (before == "[" and self._is_operand(number - 2)):
            self._optional_begun(token.start + 1)

    def _optional_begun(self, place: int) -> None:
        self._edits.append(Edit(place, 0, "optional.none().or("))
        self._optionals[-1] = _VALUE

    def _optional_ended(self, token: _Token) -> None:
        if self._optionals[-1] == _VALUE:
            self._edits.append(Edit(token.start, 0, ")"))
        self._optionals[-1] = ""

    def _is_operand(self, number: int) -> bool:
        """Tell whether what ends here has items, so that a bracket after it is an index."""
        return number >= 0 and (self._tokens[number].kind == "string" or self._is_name(number) or self._text(number) in (")", "]", "}"))

    def _is_name(self, number: int) -> bool:
        return number >= 0 and self._tokens[number].kind == "name" and self._text(number) != "in"

    def _path(self, number: int) -> int:
        """Returns the number of the first token of a name with dots that ends at `number`."""
        while self._text(number - 1) == "." and self._is_name(number - 2):
            number -= 2
        return number

    def _is_optional(self, number: int) -> bool:
        """Tells whether the function that is called here gives an optional."""
        if self._text(number - 1) != ".":
            return False
        return self._text(number) == "validate" or (self._text(number) == "named" and self._text(number - 2) == "format")

    def _replace(self, token: _Token, text: str) -> None:
        self._edits.append(Edit(token.start, len(token.text), text))
