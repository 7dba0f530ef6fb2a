"""What functions take and give, as Kubernetes 1.37 declares them: CEL's own, its extensions that Kubernetes has, and Kubernetes' own.

checker.py asks here. A line names a function; what follows are its overloads, `receiver.(parameters) -> result`, where A, B, K, T, V stand for any type. The
functions themselves are the library's, or in functions.py. A few are written otherwise than their authors write them (rewrite.py): those begin with `_`.
Nothing here is new after Kubernetes 1.34, so every function may be used in what is written today.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import msgspec

from labctl.resources.cel.types import OPTIONAL, Type, Types

_COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_NUMBERS = ("int", "uint", "double")
_OPAQUE = {
    "Quantity": "kubernetes.Quantity", "URL": "kubernetes.URL", "IP": "net.IP", "CIDR": "net.CIDR", "Semver": "kubernetes.Semver",
    "Format": "kubernetes.NamedFormat", "Authorizer": "kubernetes.authorization.Authorizer", "PathCheck": "kubernetes.authorization.PathCheck",
    "GroupCheck": "kubernetes.authorization.GroupCheck", "ResourceCheck": "kubernetes.authorization.ResourceCheck",
    "Decision": "kubernetes.authorization.Decision",
}  # fmt: skip
"""Types that values of CEL do not have. By the names in the table, those that errors say."""

_TABLE = """
_?_:_                   (bool, A, A) -> A
!_                      (bool) -> bool
@not_strictly_false     (bool) -> bool
_==_                    (A, A) -> bool
_!=_                    (A, A) -> bool
-_                      (int) -> int | (double) -> double
_+_                     (bytes, bytes) -> bytes | (double, double) -> double | (duration, duration) -> duration | (duration, timestamp) -> timestamp
_+_                     (timestamp, duration) -> timestamp | (int, int) -> int | (list(A), list(A)) -> list(A) | (string, string) -> string | (uint, uint) -> uint
_-_                     (double, double) -> double | (duration, duration) -> duration | (int, int) -> int | (timestamp, duration) -> timestamp
_-_                     (timestamp, timestamp) -> duration | (uint, uint) -> uint
_*_                     (double, double) -> double | (int, int) -> int | (uint, uint) -> uint
_/_                     (double, double) -> double | (int, int) -> int | (uint, uint) -> uint
_%_                     (int, int) -> int | (uint, uint) -> uint
_[_]                    (list(A), int) -> A | (map(A, B), A) -> B | (optional(list(V)), int) -> optional(V) | (optional(map(K, V)), K) -> optional(V)
_[?_]                   (list(V), int) -> optional(V) | (optional(list(V)), int) -> optional(V) | (map(K, V), K) -> optional(V)
_[?_]                   (optional(map(K, V)), K) -> optional(V)
@in                     (A, list(A)) -> bool | (A, map(A, B)) -> bool
size                    (bytes) -> int | bytes.() -> int | (list(A)) -> int | list(A).() -> int | (map(A, B)) -> int | map(A, B).() -> int
size                    (string) -> int | string.() -> int
type                    (A) -> type(A)
dyn                     (A) -> dyn
bool                    (bool) -> bool | (string) -> bool
bytes                   (bytes) -> bytes | (string) -> bytes
double                  (double) -> double | (int) -> double | (string) -> double | (uint) -> double
duration                (duration) -> duration | (int) -> duration | (string) -> duration
int                     (int) -> int | (double) -> int | (duration) -> int | (string) -> int | (timestamp) -> int | (uint) -> int
string                  (string) -> string | (bool) -> string | (bytes) -> string | (double) -> string | (duration) -> string | (int) -> string
string                  (timestamp) -> string | (uint) -> string | (IP) -> string | (CIDR) -> string
timestamp               (timestamp) -> timestamp | (int) -> timestamp | (string) -> timestamp
uint                    (uint) -> uint | (double) -> uint | (int) -> uint | (string) -> uint
contains                string.(string) -> bool
endsWith                string.(string) -> bool
startsWith              string.(string) -> bool
matches                 (string, string) -> bool | string.(string) -> bool
charAt                  string.(int) -> string
format                  string.(list(dyn)) -> string
join                    list(string).() -> string | list(string).(string) -> string
lowerAscii              string.() -> string
upperAscii              string.() -> string
replace                 string.(string, string) -> string | string.(string, string, int) -> string
split                   string.(string) -> list(string) | string.(string, int) -> list(string)
substring               string.(int) -> string | string.(int, int) -> string
trim                    string.() -> string
strings.quote           (string) -> string
indexOf                 list(T).(T) -> int | string.(string) -> int | string.(string, int) -> int
lastIndexOf             list(T).(T) -> int | string.(string) -> int | string.(string, int) -> int
optional.of             (V) -> optional(V)
optional.ofNonZeroValue (V) -> optional(V)
optional.none           () -> optional(V)
hasValue                optional(V).() -> bool
value                   optional(V).() -> V
or                      optional(V).(optional(V)) -> optional(V)
orValue                 optional(V).(V) -> V
first                   list(V).() -> optional(V)
last                    list(V).() -> optional(V)
sets.contains           (list(T), list(T)) -> bool
sets.equivalent         (list(T), list(T)) -> bool
sets.intersects         (list(T), list(T)) -> bool
slice                   list(T).(int, int) -> list(T)
flatten                 list(list(T)).() -> list(T) | list(dyn).(int) -> list(dyn)
distinct                list(T).() -> list(T)
reverse                 list(T).() -> list(T)
lists.range             (int) -> list(int)
cel.@mapInsert          (map(K, V), K, V) -> map(K, V) | (map(K, V), map(K, V)) -> map(K, V)
_mapped                 list(A).() -> map(dyn, dyn)
_merged                 list(map(K, V)).() -> map(K, V)
find                    string.(string) -> string
findAll                 string.(string) -> list(string) | string.(string, int) -> list(string)
url                     (string) -> URL
isURL                   (string) -> bool
getQuery                URL.() -> map(string, list(string))
ip                      (string) -> IP | CIDR.() -> IP
isIP                    (string) -> bool
ip.isCanonical          (string) -> bool
family                  IP.() -> int
cidr                    (string) -> CIDR
isCIDR                  (string) -> bool
containsIP              CIDR.(string) -> bool | CIDR.(IP) -> bool
containsCIDR            CIDR.(string) -> bool | CIDR.(CIDR) -> bool
masked                  CIDR.() -> CIDR
prefixLength            CIDR.() -> int
quantity                (string) -> Quantity
isQuantity              (string) -> bool
sign                    Quantity.() -> int | (Quantity) -> int
isInteger               Quantity.() -> bool
asInteger               Quantity.() -> int
asApproximateFloat      Quantity.() -> double
add                     Quantity.(Quantity) -> Quantity | Quantity.(int) -> Quantity
sub                     Quantity.(Quantity) -> Quantity | Quantity.(int) -> Quantity
isLessThan              Quantity.(Quantity) -> bool | Semver.(Semver) -> bool
isGreaterThan           Quantity.(Quantity) -> bool | Semver.(Semver) -> bool
compareTo               Quantity.(Quantity) -> int | Semver.(Semver) -> int
semver                  (string) -> Semver | (string, bool) -> Semver
isSemver                (string) -> bool | (string, bool) -> bool
major                   Semver.() -> int
minor                   Semver.() -> int
patch                   Semver.() -> int
format.named            (string) -> list(Format)
validate                Format.(string) -> list(list(string))
path                    Authorizer.(string) -> PathCheck
group                   Authorizer.(string) -> GroupCheck
serviceAccount          Authorizer.(string, string) -> Authorizer
resource                GroupCheck.(string) -> ResourceCheck
check                   PathCheck.(string) -> Decision | ResourceCheck.(string) -> Decision
errored                 Decision.() -> bool
error                   Decision.() -> string
allowed                 Decision.() -> bool
reason                  Decision.() -> string
"""

_FORMATS = "dns1123Label dns1123Subdomain dns1035Label qualifiedName dns1123LabelPrefix dns1123SubdomainPrefix dns1035LabelPrefix labelValue uri uuid byte date datetime"


class Overload(msgspec.Struct, frozen=True):
    """One way of calling a function; a method's own value is the first of `takes`. `unknowns` are the names of its type parameters."""

    method: bool
    takes: tuple[Type, ...]
    gives: Type
    unknowns: frozenset[str]


@cache
def declared() -> Mapping[str, Sequence[Overload]]:
    """Return the overloads of all functions, by their names."""
    known: dict[str, list[Overload]] = {}
    types = Types()
    for line in _TABLE.strip().splitlines():
        name, _, said = line.partition(" ")
        known.setdefault(name, []).extend(_overload(each, types) for each in said.split(" | "))
    for name, said in _families():
        known.setdefault(name, []).append(_overload(said, types))
    return known


def _families() -> Iterator[tuple[str, str]]:
    """Yield overloads that come in families."""
    for operator in ("_<_", "_<=_", "_>_", "_>=_"):
        for one in _COMPARABLE:
            for other in _NUMBERS if one in _NUMBERS else (one,):
                yield operator, f"({one}, {other}) -> bool"
    for item in _COMPARABLE:
        yield "isSorted", f"list({item}).() -> bool"
        yield "min", f"list({item}).() -> {item}"
        yield "max", f"list({item}).() -> {item}"
        yield "sort", f"list({item}).() -> list({item})"
        yield "@sortByAssociatedKeys", f"list(T).(list({item})) -> list(T)"
    for item in (*_NUMBERS, "duration"):
        yield "sum", f"list({item}).() -> {item}"
    for part in ("FullYear", "Month", "DayOfYear", "DayOfMonth", "Date", "DayOfWeek", "Hours", "Minutes", "Seconds", "Milliseconds"):
        yield f"get{part}", "timestamp.() -> int"
        yield f"get{part}", "timestamp.(string) -> int"
        if part in ("Hours", "Minutes", "Seconds", "Milliseconds"):
            yield f"get{part}", "duration.() -> int"
    for part in ("Scheme", "Host", "Hostname", "Port", "EscapedPath"):
        yield f"get{part}", "URL.() -> string"
    for question in ("isUnspecified", "isLoopback", "isLinkLocalMulticast", "isLinkLocalUnicast", "isGlobalUnicast"):
        yield question, "IP.() -> bool"
    for part in ("subresource", "namespace", "name", "fieldSelector", "labelSelector"):
        yield part, "ResourceCheck.(string) -> ResourceCheck"
    for format_ in _FORMATS.split():
        yield f"format.{format_}", "() -> Format"


_WORD = re.compile(r"\w+|[(),]")


def _overload(said: str, types: Types) -> Overload:
    parameters, _, result = said.strip().partition(" -> ")
    receiver, dot, inside = parameters.partition(".(")
    inside = inside if dot else parameters[1:]
    takes = _types(inside.removesuffix(")"), types)
    if dot:
        takes = (*_types(receiver, types), *takes)
    unknowns = frozenset(word for word in _WORD.findall(said) if len(word) == 1 and word.isupper())
    return Overload(bool(dot), takes, _types(result, types)[0], unknowns)


def _types(said: str, types: Types) -> tuple[Type, ...]:
    """Return the types of a list of words, such as `map(K, V), int`."""
    stack: list[tuple[str, list[Type]]] = [("", [])]
    word = ""

    def ended() -> None:
        nonlocal word
        if word:
            stack[-1][1].append(_named(word, (), types))
        word = ""

    for token in _WORD.findall(said):
        if token == "(":
            stack.append((word, []))
            word = ""
        elif token == ")":
            ended()
            name, params = stack.pop()
            stack[-1][1].append(_named(name, tuple(params), types))
        elif token == ",":
            ended()
        else:
            word = token
    ended()
    return tuple(stack[0][1])


def _named(word: str, params: tuple[Type, ...], types: Types) -> Type:
    if len(word) == 1:
        return types.make("param", word)
    if word == "optional":
        return types.make("opaque", OPTIONAL, *params)
    if word in _OPAQUE:
        return types.make("opaque", _OPAQUE[word])
    return types.make(word, "", *params) if params else types.simple(word)
