"""Rules that Kubernetes compiles, and rules that it does not, by the type of what they are about: the table of its own unit tests, and what that leaves out."""

import json
import time

import pytest

from labctl.resources.custom.schemarules import rule_problems

TEXT, INT, NUMBER, BOOL = ({"type": name} for name in ("string", "integer", "number", "boolean"))
BYTES, DURATION, DATE, TIME = ({"type": "string", "format": name} for name in ("byte", "duration", "date", "date-time"))
EITHER = {"x-kubernetes-int-or-string": True}
ANYTHING = {"x-kubernetes-preserve-unknown-fields": True}
OPEN = {"type": "object", **ANYTHING}


def struct(**properties):
    return {"type": "object", "properties": properties}


def items(of):
    return {"type": "array", "items": of, "maxItems": 5}


def mapping(of):
    return {"type": "object", "additionalProperties": of, "maxProperties": 5}


def vals(*schemas):
    return struct(**{f"val{number}": schema for number, schema in enumerate(schemas, 1)})


def short(schema):
    """Bounds texts, so that no rule is refused for what it costs."""
    if isinstance(schema, list):
        return [short(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    bounds = {"maxLength": 20} if schema.get("type") == "string" or "x-kubernetes-int-or-string" in schema else {}
    return {name: short(value) for name, value in schema.items()} | bounds


def refused(schema, rule, before=()):
    rule = rule if isinstance(rule, dict) else {"rule": rule, "message": "m"}
    found = rule_problems("s", {**short(schema), "x-kubernetes-validations": [rule]}, before)
    return "\n".join(f"{error.field}: {error.message}" for error in found)


LISTMAP = {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
KEYED = {**LISTMAP, "items": struct(k=TEXT, v=TEXT, v2=TEXT)}
HEAD = struct(kind=TEXT, apiVersion=TEXT, metadata=struct(name=TEXT, generateName=TEXT))
EMBEDDED = {"type": "object", "x-kubernetes-embedded-resource": True}
RESERVED = "true false null in as break const continue else for function if import let loop package namespace return var void while".split()
PLAIN = "int uint double bool string bytes list map null_type type self getDate all _true".split()

FITS = [
    (vals(INT, INT, {**INT, "format": "int32"}, NUMBER), """
        self.val1 == self.val2 && self.val1 == 9223372036854775807 && [self.val1, 1][0] == 1 && self.val1 in [1, 2]
        self.val1 == self.val3
        type(self.val1) == int
        self.val3 + 1 == 2147483647 + 1
        1 / 0 == 1 / 0
        self.val1 < self.val4 && self.val1 >= self.val4 && self.val4 > self.val2 && self.val4 <= 10
        self.val1 < 10.0 || 5 < 10.0 || 5u < 10 || self.val4 < 3u
        double(self.val1) == self.val4 && self.val2 == int(self.val4)
        self.val4 == 1.0 && type(self.val4) == double
        self.val1 == (self.val4 < 1.0 ? 1 : 2)
        -self.val1 == -1 && -self.val4 == -1.0
        [self.val1, self.val2].max() == 2
        (self.val1 - 1) * 2 % 3 == 0"""),
    (vals(TEXT, TEXT), r"""
        self.val1.startsWith('Rook') && !self.val1.endsWith('pawn') && self.val1.contains('a') && self.val1.matches('^[^0-9]*$')
        type(self.val1) == string && size(self.val1) == 12 && self.val1.size() == 12
        self.val1.charAt(3) == 'k' && self.val1.indexOf('o') == 1 && self.val1.indexOf('o', 2) == 2 && self.val1.lastIndexOf('o') == 2
        self.val1.replace(' ', 'x') == 'a' && self.val1.replace(' ', 'x', 1) == 'a'
        self.val1.split(' ') == ['Rook', 'takes'] && self.val1.split(' ', 2) == ['Rook']
        self.val1.substring(5) == 'a' && self.val1.substring(0, 4).trim() == 'Rook' && self.val1.upperAscii() == self.val1.lowerAscii()
        self.val1 == '''l1\nl2''' && self.val1 == r'\d' && self.val1 == "it's"
        self.val1 < self.val2 && self.val1 + self.val2 == 'ab'
        self.val1.find('[0-9]+') == '123' && self.val1.findAll('[0-9]+', -1) == ['1'] && self.val1.findAll('xyz') == []
        self.val1.split(',').all(x, x.size() > 0) && self.val1.split(',').map(x, x.trim()).join('-') == 'a'
        "%s has %d".format([self.val1, 3]) == '' && strings.quote(self.val1) != ''
        "%s".format([[self.val1, self.val2]]) == ''
        '%s %s'.format([self.val1, {'a': [1, 2.0, 'x']}]) == ''
        oldSelf.val1 == self.val1"""),
    (vals(BYTES, BYTES), r"""
        self.val1 == self.val2 && self.val1 == b'AB' && self.val1 == bytes('AB') && self.val1 == b'\x41\x42'
        type(self.val1) == bytes && size(self.val1) == 2 && string(self.val1).endsWith('s')"""),
    (vals(BOOL, BOOL), "self.val1 == true && self.val1 != self.val2 && type(self.val1) == bool\nself.val1\n!self.val1\nself.val1 ? true : self.val2"),
    (vals(DURATION, DURATION), """
        self.val1 == duration('1h2m') + duration('3s4ms') && self.val1 < self.val2
        self.val1.getHours() == 1 && self.val1.getMinutes() == 62 && self.val1.getSeconds() == 3723 && self.val1.getMilliseconds() == 4
        type(self.val1) == google.protobuf.Duration && string(self.val1) == '1s'
        self.val1 == null"""),
    (vals(DATE, TIME), """
        self.val1 == timestamp('1997-07-16T00:00:00.000Z') && self.val1 == self.val2 && self.val1.getDate() == 16
        self.val1.getMonth() == 6 && self.val1.getFullYear() == 1997 && self.val2.getDate('01:00') == 18 && self.val2.getHours('UTC') == 18
        type(self.val2) == google.protobuf.Timestamp
        self.val2 == timestamp('2011-08-18T00:00:00.000+01:00') + duration('19h3m37s10ms')
        self.val2 - self.val1 > duration('1h') && self.val2 - duration('1h') < self.val1"""),
    (struct(phase={**TEXT, "enum": ["Pending", "Bound"]}), "self.phase == 'Pending'\nself.phase in ['Pending', 'Available']"),
    (vals(INT, NUMBER, BOOL, TEXT, BYTES, DURATION, TIME), """
        int(self.val2) == self.val1 && int(self.val4) == self.val1 && double(self.val1) == self.val2 && double(self.val4) == self.val2
        bytes(self.val4) == self.val5 && string(self.val1) == self.val4 && string(self.val3) == 'true' && string(self.val5) == self.val4
        duration(self.val4) == self.val6 && string(self.val6) == self.val4 && timestamp(self.val4) == self.val7 && string(self.val7) == ''
        uint(self.val1) == 3u && bool(self.val4)"""),
    (vals(items(INT), items(INT)), """
        self.val1 == self.val2 && self.val1 == [1, 2, 3] && 1 in self.val1 && self.val2[0] in self.val1 && !(0 in self.val1)
        self.val1 + self.val2 == [1, 2, 3, 1, 2, 3] && self.val1 + [4, 5] == [1] && [0] + self.val2 == []
        self.val1.all(e, e > 0) && self.val1.exists(e, e > 2) && self.val1.exists_one(e, e > 4)
        size(self.val1.filter(e, e % 2 == 0)) == 3 && self.val1.map(e, e * 20).filter(e, e > 50).exists(e, e == 60)
        self.val1.sum() == 8 && self.val1.min() == 1 && self.val1.isSorted() && self.val1.indexOf(2) == 1 && self.val1.lastIndexOf(2) == 2
        sets.contains(self.val1, [1]) && sets.equivalent(self.val1, self.val2) && sets.intersects(self.val1, [])
        self.val1.all(i, v, i < v) && self.val1.exists(i, v, v == i) && self.val1.existsOne(i, v, v > 0)
        self.val1.transformList(i, v, v * 2) == [2] && self.val1.transformList(i, v, i > 0, string(v)) == ['a']
        self.val1.transformMap(i, v, v * 2) == {0: 2} && self.val1.transformMapEntry(i, v, {string(v): i}) == {'a': 1}
        self.val1.sort() == self.val2.reverse() && self.val1.distinct().size() == 2 && self.val1.slice(0, 1) == [1]
        self.val1.sortBy(x, -x) == [1] && [self.val1, self.val2].flatten() == [1] && lists.range(3) == [0, 1, 2]
        self.val1.first() == optional.of(1) && self.val1.last().orValue(3) == 3"""),
    (vals(items(NUMBER), items(DURATION), items(TEXT), items(DATE)), """
        self.val1.sum() == 8.0 && self.val1.min() == 1.0 && self.val1.indexOf(2.0) == 1 && self.val1.isSorted() == false
        self.val2.sum() == duration('1h2m1s') && self.val2.max() == duration('1h') && self.val2.indexOf(duration('1m')) == 1
        self.val3.min() == 'a' && self.val3.isSorted() && self.val3.indexOf('b') == 1 && self.val3.join() == '' && self.val3.join(',') == 'a,b'
        self.val4.min() == timestamp('2000-01-01T00:00:00.000Z') && self.val4.lastIndexOf(timestamp('2000-02-01T00:00:00.000Z')) == 2
        [[1], [2]].indexOf([1]) == 0 && [{'a': 1}, {'b': 2}].lastIndexOf({'b': 2}) == 1
        dyn([]).sum() == 0 && dyn([1, 2]).sum() == 3 && dyn([1.0, 2.0]).sum() == 3.0
        [].sum() == 0"""),
    (struct(objs=items(KEYED), one=items(struct(f1=TEXT, f2=TEXT)), set={**items(TEXT), "x-kubernetes-list-type": "set"}), """
        self.objs[0] == self.objs[1] && self.objs[0] + self.objs[2] == self.objs[2]
        self.objs[0] == [self.objs[0][0], self.objs[0][1]] && self.objs[2] + [self.objs[0][0], self.objs[0][1]] == self.objs[0]
        self.one[0] == self.one[1] && self.one.indexOf(self.one[1]) == 1
        self.one[0] == null
        type(self) == type(self) && type(self.one[0]) == type(self.one[1])
        self.set == ['c', 'b'] && 'a' in self.set && self.set + ['c'] == ['a']"""),
    (vals(mapping(TEXT), mapping(TEXT)), """
        self.val1 == self.val2 && 'k1' in self.val1 && self.val1 == {'k1': 'a', 'k2': 'b'}
        self.val1['@'] == 'x' && self.val1.a == 'x' && has(self.val1.b)
        self.val1.all(k, self.val1[k] > '0') && self.val1.exists_one(k, k == 'a') && size(self.val1) == 2
        self.val1.map(k, self.val1[k]).exists(v, v == 'b') && size(self.val1.filter(k, self.val1[k] > '1')) == 1
        self.val1.all(k, v, k != v) && self.val1.transformMap(k, v, v + 'x') == self.val2 && self.val1.transformList(k, v, k + v).size() == 2
        self.val1.transformMap(k, v, v.size() > 1, v.size())['a'] == 3
        self.val1.transformMapEntry(k, v, {v: k})['a'].startsWith('x')"""),
    (struct(a=struct(b=INT, d={**INT, "nullable": True}), a1=struct(b1=struct(c1=INT), d2=struct(e2=INT))), """
        has(self.a.b) && !has(self.a.d) && self.a.d == 3
        has(self.a1.b1.c1) && !(has(self.a1.d2) && has(self.a1.d2.e2))"""),
    (struct(listMap=KEYED), """
        self.listMap.all(m, !has(m.v2) || m.v2 == 'z') && self.listMap.exists(m, m.k == 'a1' && m.v == 'b1')
        self.listMap.map(m, has(m.v2) && m.v2 == 'z', m.v2).size() == 1 && self.listMap.filter(m, m.k == 'a').map(m, m.v).exists(v, v == 'b1')
        size(self.listMap[0].k) <= 63 && self.listMap.all(rule, (rule.k != "In" && rule.k != "NotIn") || ((has(rule.v) && size(rule.v) > 0)))"""),
    (struct(embedded=EMBEDDED, open={**EMBEDDED, **ANYTHING}, full={**EMBEDDED, **struct(**HEAD["properties"], spec=struct(field1=TEXT))}), """
        self.embedded.kind == 'Pod' && self.embedded.apiVersion == 'v1' && self.embedded.metadata.name == self.embedded.metadata.generateName
        self.open.kind == 'Pod' && has(self.open) && self.open.metadata.name == 'x'
        self.full.spec.field1 == 'a' && self.full.metadata.name == 'foo'"""),
    (struct(something=EITHER, current=INT, available=INT, maybe={**EITHER, "nullable": True}), r"""
        self.something == '25%' || self.something == 1 || self.something != ['anything']
        type(self.something) == int ? self.something == 1 : self.something == '25%'
        type(self.something) == string && self.something.matches(r'(\d+(\.\d+)?%)') && !has(self.maybe)
        type(self.something) == int ? self.current <= self.something : double(self.current) / double(self.available) >= double(self.something.replace('%', '')) / 100.0
        (self.something + 1) == 2 && self.something[0] == 1 && self.something.all(x, x.y)"""),
    (struct(unknown=OPEN, list=items(OPEN), fields=items(struct(any=ANYTHING)), known={**OPEN, "properties": {"known": INT}}, any=mapping(True)), """
        has(self.unknown) && self.list.size() == 5 && self.list[0] != self.list[1] && self.fields[0] != self.fields[1]
        self.known.known == 1 && has(self.any)"""),
    (struct(**dict.fromkeys([*RESERVED, *PLAIN, "dot.dot", "dash-dash", "slash/slash", "under_score", "double__under"], INT), size=TEXT), "\n".join([
        *(f"self.__{name}__ == 4" for name in RESERVED), *(f"self.{name} == 4" for name in PLAIN), "self.size == '204'",
        "self.dot__dot__dot == 1", "self.dash__dash__dash == 2", "self.slash__slash__slash == 3", "self.under_score == 4", "self.double__underscores__under == 5",
    ])),
    (struct(objs=items(struct(**{"k!": TEXT, "k.": TEXT}))), "self.objs[0].k__dot__ == '1'\nself.objs[0] == self.objs[1]"),
    (struct(obj=struct(field=TEXT), mm=mapping(mapping(TEXT)), mo=mapping(struct(f=TEXT)), ml=mapping(items(TEXT)), lm=items(mapping(TEXT)), ll=items(KEYED)), """
        self.mm['x']['y'] == 'b' && self.mm.x.y == 'b' && self.mo['k'].f == 'c' && self.ml['l'][0] == 'e' && self.lm[0]['z'] == 'g'
        self.ll[0].exists(e, e.k == '3' && e.v == 'i') && self.mo.all(k, self.mo[k].f == 'a')"""),
    (struct(m=mapping({**TEXT, "nullable": True}), l=items({**TEXT, "nullable": True})), """
        type(self.m['a']) == null_type && type(self.l[0]) == null_type && 'a' in self.m"""),
    (struct(present=struct(text=TEXT), absent=struct(text=TEXT), m=mapping(TEXT), l=items(TEXT)), """
        self.?present.?text == optional.of('value') && self.present.?text.or(optional.of('nope')) == optional.of('value')
        self.present.?text.orValue('') == 'value' && self.present.?text.hasValue() == true && self.present.?text.optMap(v, v == 'value').hasValue()
        self.?absent.?text == optional.none() && self.?absent.text.orValue('nope') == 'nope'
        self.m[?'k'] == optional.of('v') && self.m[?'k'].optMap(v, v == 'v').orValue(false) && self.l[?0].orValue('') == 'a'
        self.m[?'k'].optFlatMap(v, self.m[?v]).hasValue()
        optional.ofNonZeroValue(1).hasValue() && optional.ofNonZeroValue(null) == optional.none() && optional.ofNonZeroValue([]) == optional.none()
        {?'k': optional.none(), 'k2': 'v2'} == {'k2': 'v2'} && ['a', ?optional.of('v'), 'c'] == ['a', 'c']
        ['a', ?self.m[?'x'], self.l[0], ?self.l[?1], 'b'] == ['a'] && {'a': 'b', ?'c': self.m[?'x'], ?self.l[0]: self.?present.?text} == self.m
        [self.l[?0], self.m[?'x']].unwrapOpt() == ['a'] && [self.m[?'x'] == optional.none() ? 1 : 2, self.l.size()].size() == 2"""),
    (vals(TEXT, TEXT), r"""
        isQuantity(self.val1) && quantity(self.val2) == quantity("0.2G") && quantity(self.val1).isLessThan(quantity("100M"))
        quantity(self.val2).compareTo(quantity("0.2G")) == 0 && quantity("50k").add(quantity(self.val1)).sub(20) == quantity("50.02k")
        quantity(self.val1).isInteger() && quantity(self.val1).asInteger() == 20 && quantity(self.val1).asApproximateFloat() > 1.0
        quantity('1').sign() == 1 && sign(quantity('1')) == 1
        string(ip(self.val1)) == '::1' && string(cidr(self.val1).masked()) == 'x' && string(ip(self.val1).family()) == '4'
        isIP(self.val1) && ip(self.val1).family() == 4 && ip.isCanonical(self.val1) && ip(self.val1) == ip(self.val2) && ip(self.val1).isGlobalUnicast()
        isCIDR(self.val1) && cidr(self.val1).containsIP(self.val2) && cidr(self.val1).containsIP(ip(self.val2)) && cidr(self.val1).ip() == ip(self.val2)
        cidr(self.val1).containsCIDR(cidr(self.val2)) && cidr(self.val1).masked() == cidr(self.val1) && cidr(self.val1).prefixLength() == 24
        isURL(self.val1) && url(self.val1).getScheme() == 'https' && url(self.val1).getHost() == url(self.val1).getHostname()
        url(self.val1).getQuery() == {'k1': ['a'], 'k2': ['b', 'c']} && url(self.val1).getQuery() == {} && url(self.val1).getPort() == '80'
        isSemver(self.val1) && isSemver(self.val1, true) && semver(self.val1).isLessThan(semver('1.2.3')) && semver(self.val1, true).major() > 1
        !format.dns1123Label().validate(self.val1).hasValue() && format.named('uuid').value().validate(self.val1).orValue([]) == []
        format.dns1123Subdomain().validate(self.val1).orValue(['x'])[0].contains('a')
        cel.bind(x, self.val1.split(','), x.size() > 0 && x[0].startsWith('a'))"""),
]  # fmt: skip

NO_OVERLOAD = "found no matching overload for "
MISFITS = [
    (vals(INT, INT, NUMBER), {
        "self.val1": "cel expression must evaluate to a bool",
        "self.val1 == 'a'": f"ERROR: <input>:1:11: {NO_OVERLOAD}'_==_' applied to '(int, string)'\n | self.val1 == 'a'\n | ..........^",
        "self.val3 == 1": f"{NO_OVERLOAD}'_==_' applied to '(double, int)'",
        "self.val1 + 1.0 > 2.0": f"{NO_OVERLOAD}'_+_' applied to '(int, double)'",
        "self.val1 in [1.0]": f"{NO_OVERLOAD}'@in' applied to '(int, list(double))'",
        "size(self.val1) == 10": f"ERROR: <input>:1:5: {NO_OVERLOAD}'size' applied to '(int)'",
        "self.val1 && true": "expected type 'bool' but found 'int'",
        "!self.val1": f"{NO_OVERLOAD}'!_' applied to '(int)'",
        "self.val1.x == 1": "type 'int' does not support field selection",
        "self.val1.all(x, true)": "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        "self.val1 ? true : false": f"{NO_OVERLOAD}'_?_:_' applied to '(int, bool, bool)'",
        "true ? self.val1 : self.val3": f"{NO_OVERLOAD}'_?_:_' applied to '(bool, int, double)'",
        "self.val1 == 1 ? 1 : 2": "cel expression must evaluate to a bool",
        "self.val1 == null": f"{NO_OVERLOAD}'_==_' applied to '(int, null)'",
        "self == 201": f"{NO_OVERLOAD}'_==_' applied to '(selfType, int)'",
        "self.nope == 1 && self.val1 == 'x'": "undefined field 'nope'",
        "[1, 2.0].size() == 2": "expected type 'int' but found 'double'",
        "[1, dyn('a')].size() == 2": "expected type 'int' but found 'dyn'",
        "{'a': 1, 'b': 'x'}.size() == 2": "expected type 'int' but found 'string'",
        "42": "cel expression must evaluate to a bool",
        "dyn(1)": "cel expression must evaluate to a bool",
    }),
    (vals(TEXT, DURATION, items(TEXT), BYTES), {
        "self.val1.startsWith(1)": f"ERROR: <input>:1:21: {NO_OVERLOAD}'startsWith' applied to 'string.(int)'",
        "self.val1.indexOf(1) == 1": f"{NO_OVERLOAD}'indexOf' applied to 'string.(int)'",
        "self.val3.indexOf(1) == 1": f"{NO_OVERLOAD}'indexOf' applied to 'list(string).(int)'",
        "self.val3.sum() == ''": f"{NO_OVERLOAD}'sum' applied to 'list(string).()'",
        "[[1], [2]].min() == [1]": f"{NO_OVERLOAD}'min' applied to 'list(list(int)).()'",
        "[{'a': 1}, {'b': 2}].max() == {'b': 2}": f"{NO_OVERLOAD}'max' applied to 'list(map(string, int)).()'",
        "self.val2 == '1h'": f"{NO_OVERLOAD}'_==_' applied to '(duration, string)'",
        "self.val4 == 'x'": f"{NO_OVERLOAD}'_==_' applied to '(bytes, string)'",
        "self.val1 == null": f"{NO_OVERLOAD}'_==_' applied to '(string, null)'",
        "self.val1 != null": f"{NO_OVERLOAD}'_!=_' applied to '(string, null)'",
        "self.val1.matches('x++')": "ERROR: <input>:1:19: invalid matches argument",
        "self.val1.find(')') == ''": "program instantiation failed: error parsing regexp: ",
        "self.val1.findAll(')', 1) == []": "program instantiation failed: error parsing regexp: ",
        "duration('1 hour') == self.val2": "invalid duration argument",
        "timestamp('2023-10-01') < timestamp(self.val1)": "invalid timestamp argument",
        "self.val3.all(x, x > 1)": f"{NO_OVERLOAD}'_>_' applied to '(string, int)'",
        "self.val3[self.val1] == ''": f"{NO_OVERLOAD}'_[_]' applied to '(list(string), string)'",
        "authorizer.path('/healthz').check('get').allowed()": "undeclared reference to 'authorizer'",
        "quantity(self.val1) > quantity('1')": f"{NO_OVERLOAD}'_>_'",
        "quantity(self.val1) == '1'": f"{NO_OVERLOAD}'_==_' applied to '(kubernetes.Quantity, string)'",
        "quantity(self.val1).isLessThan('1')": f"{NO_OVERLOAD}'isLessThan' applied to 'kubernetes.Quantity.(string)'",
        "ip(self.val1) == cidr(self.val1)": f"{NO_OVERLOAD}'_==_' applied to '(net.IP, net.CIDR)'",
        "format.uuid().validate(self.val1) == ''": f"{NO_OVERLOAD}'_==_' applied to '(optional_type(list(string)), string)'",
        "jsonpatch.escapeKey(self.val1) == ''": "undeclared reference to 'jsonpatch'",
        "self.val1.fake() == 'ABC'": "undeclared reference to 'fake'",
    }),
    (struct(objs=items(KEYED), a=struct(b=INT), a1=struct(d2=struct(e2=INT)), m=mapping(INT)), {
        "self.objs[0] == {'k': 'a', 'v': '1'}": f"{NO_OVERLOAD}'_==_' applied to '(list(selfType.objs.@idx.@idx), map(string, string))'",
        "self.objs[0][0] == {'k': 'a', 'v': '1'}": f"{NO_OVERLOAD}'_==_'",
        "has(self.a.z)": "undefined field 'z'",
        "self.a['b'] == 1": f"{NO_OVERLOAD}'_[_]' applied to '(selfType.a, string)'",
        "self.a == self.a1": f"{NO_OVERLOAD}'_==_' applied to '(selfType.a, selfType.a1)'",
        "string(type(self.objs[0])) == ''": f"{NO_OVERLOAD}'string' applied to '(type",
        "self.m['a'] == '1'": f"{NO_OVERLOAD}'_==_' applied to '(int, string)'",
        "self.m.all(k, k > 1)": f"{NO_OVERLOAD}'_>_' applied to '(string, int)'",
        "self.m.all(k, v, v.startsWith(k))": f"{NO_OVERLOAD}'startsWith' applied to 'int.(string)'",
        "self.m.transformMap(k, v, string(v)) == self.m": f"{NO_OVERLOAD}'_==_' applied to '(map(string, string), map(string, int))'",
        "self.a.all(k, k == 'b')": "expression of type 'selfType.a' cannot be range of a comprehension",
        "self.a.size() == 1": f"{NO_OVERLOAD}'size' applied to 'selfType.a.()'",
    }),
    (struct(embedded=EMBEDDED, open=OPEN, any=ANYTHING, anys=items(ANYTHING), anym=mapping(ANYTHING), known={**OPEN, "properties": {"k": INT}}, free=mapping(True)), {
        "has(self.embedded.metadata.namespace)": "undefined field 'namespace'",
        "has(self.embedded.spec)": "undefined field 'spec'",
        "has(self.open.field1)": "undefined field 'field1'",
        "has(self.any)": "undefined field 'any'",
        "has(self.anys)": "undefined field 'anys'",
        "has(self.anym)": "undefined field 'anym'",
        "has(self.known.unknown)": "undefined field 'unknown'",
        "has(self.free.x)": "undefined field 'x'",
    }),
    (struct(**{"namespace": items(items(TEXT)), "if": INT, "self": INT, "a@b": INT}), {
        "self.__illegal__ == 301": "undefined field '__illegal__'",
        "self == 10": NO_OVERLOAD,
    }),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "rule"), [(schema, rule.strip()) for schema, rules in FITS for rule in rules.strip().split("\n")])
def test_a_rule_that_fits_is_accepted(schema, rule):
    assert refused(schema, rule) == ""


@pytest.mark.parametrize(("schema", "rule", "words"), [(schema, rule, words) for schema, rules in MISFITS for rule, words in rules.items()])
def test_a_rule_that_does_not_fit_is_refused_in_a_real_servers_words(schema, rule, words):
    said = refused(schema, rule)
    assert words in said and said.startswith("s.x-kubernetes-validations[0].rule: Invalid value: apiextensions.ValidationRule{Rule:"), said


def test_at_the_root_the_head_of_the_object_may_be_read():
    for rule in ("self.kind == 'Pod'", "self.metadata.name == self.metadata.generateName && self.apiVersion == 'v1'", "self.spec.a == 'x'"):
        assert refused(struct(spec=struct(a=TEXT)), rule) == ""
    assert "undefined field 'namespace'" in refused(struct(spec=struct(a=TEXT)), "has(self.metadata.namespace)")


OPTIONAL = [
    (INT, "self >= oldSelf.value()", ""),
    (INT, "self >= oldSelf.orValue(1)", ""),
    (INT, "oldSelf.hasValue() ? self >= oldSelf.value() : true", ""),
    (INT, "self >= oldSelf", f"ERROR: <input>:1:6: {NO_OVERLOAD}'_>=_' applied to '(int, optional_type(int))'"),
    (INT, "self >= oldSelf.orValue('')", f"{NO_OVERLOAD}'orValue' applied to 'optional_type(int).(string)'"),
    (struct(o=struct(i=INT, s=TEXT, o=struct())), "self.o.o == oldSelf.o.o.value() && self.o.s == oldSelf.o.s.value()", ""),
    (struct(o=struct(i=INT, s=TEXT)), "oldSelf.optMap(o, o.o.i <= self.o.i).orValue(true)", ""),
    (struct(o=struct(i=INT, s=TEXT)), "self.o.i >= oldSelf.o.i", "optional"),
    (struct(o=struct(i=INT, s=TEXT)), "self.o.i >= oldSelf.o.s.orValue(0)", "orValue"),
]


@pytest.mark.parametrize(("schema", "rule", "words"), OPTIONAL)
def test_an_optional_old_self_has_an_optional_type(schema, rule, words):
    said = refused(struct(x=schema), {"rule": "true"}) or refused(schema, {"rule": rule, "optionalOldSelf": True})
    assert words in said and bool(words) == bool(said), said


def test_a_message_is_a_text():
    assert refused(vals(INT), {"rule": "self.val1 > 0", "messageExpression": "'is ' + string(self.val1)"}) == ""
    said = refused(vals(INT), {"rule": "self.val1 > 0", "messageExpression": "self.val1"})
    assert said.startswith("s.x-kubernetes-validations[0].messageExpression: ") and said.endswith(
        "messageExpression must evaluate to a string"
    )
    said = refused(vals(INT), {"rule": "self.val1 > 0", "messageExpression": "'a' + self.val1"})
    assert f"messageExpression compilation failed: ERROR: <input>:1:5: {NO_OVERLOAD}'_+_' applied to '(string, int)'" in said


def test_what_was_stored_before_types_were_checked_is_no_reason_to_refuse_another_change():
    before = {**short(vals(INT)), "x-kubernetes-validations": [{"rule": "self.val1 == 'a'", "message": "m"}]}
    assert refused(vals(INT, TEXT), "self.val1 == 'a'", [before]) == ""
    assert NO_OVERLOAD in refused(vals(INT, TEXT), "self.val1 == 'b'", [before])
    fitted = {**short(vals(TEXT)), "x-kubernetes-validations": [{"rule": "self.val1 == 'a'", "message": "m"}]}
    assert NO_OVERLOAD in refused(vals(INT), "self.val1 == 'a'", [fitted])  # it is the schema that is wrong now


@pytest.mark.parametrize("schema", [ANYTHING, items(ANYTHING), mapping(ANYTHING)])
def test_a_rule_about_what_has_no_type_is_refused(schema):
    ruled = struct(p={**schema, "x-kubernetes-validations": [{"rule": "self.a == 1"}]})
    [error] = rule_problems("s", ruled)
    assert error.field == "s.properties[p].x-kubernetes-validations" and error.message.startswith(
        "Internal error: internal error: failed to construct"
    )
    assert rule_problems("s", ruled, [ruled]) == []


def test_a_rule_reads_oldself_only_if_it_does():
    child = {**struct(oldSelf=TEXT), "x-kubernetes-validations": [{"rule": "self.oldSelf != 'oldSelf'"}]}
    assert rule_problems("s", short(struct(l=items(child)))) == []
    child["x-kubernetes-validations"] = [{"rule": "self.oldSelf != oldSelf.oldSelf"}]
    assert "uncorrelatable" in rule_problems("s", short(struct(l=items(child))))[0].message
    unused = {"rule": "self.oldSelf != 'oldSelf'", "optionalOldSelf": True}
    assert "may not be set if oldSelf is not used in rule" in refused(struct(oldSelf=TEXT), unused)
    assert refused(struct(oldSelf=TEXT), {"rule": "!oldSelf.hasValue()", "optionalOldSelf": True}) == ""


def test_types_of_any_size_are_compared_in_bounded_time():
    depth = 14
    binds = "".join(f"cel.bind(a{level}, {{a{level - 1}: a{level - 1}}}, " for level in range(1, depth))
    began = time.monotonic()
    refused(vals(INT), f"cel.bind(a0, self.val1, {binds}a{depth - 1} == a{depth - 1}{')' * depth}")
    more = "".join(f"cel.bind(a{level}, {{a{level - 1}: a{level - 1}}}, " for level in range(1, 60))
    assert "computed keys" in refused(vals(INT), f"cel.bind(a0, self.val1, {more}true{')' * 60}")
    assert time.monotonic() - began < 5


def test_a_deep_expression_is_compiled_or_refused():
    assert refused(vals(BOOL), " == ".join(["self.val1"] * 30)) == ""
    assert refused(vals(BOOL), " && ".join(["self.val1"] * 1000)) == ""
    assert "recursion" in refused(vals(BOOL), " == ".join(["self.val1"] * 2000))
    assert json.dumps(refused(vals(BOOL), "(" * 300 + "self.val1" + ")" * 300))
