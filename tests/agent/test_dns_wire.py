"""DNS on the wire, beside dnslib, which wrote none of it. The decoder is given whatever a pod may send."""

import struct

import dnslib
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labctl.agent.dns import wire
from labctl.agent.dns.answers import Answers, Ask, Ready
from labctl.agent.dns.zone import Settings, Zone

labels = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1, max_size=63)
names = st.lists(labels, min_size=0, max_size=5).map(".".join).filter(lambda name: len(name) < 240)
types = st.sampled_from([wire.A, wire.AAAA, wire.SRV, wire.PTR, wire.CNAME, wire.TXT, wire.SOA, wire.NS, wire.ANY, 65, 0, 65535])


def zone(rows=()):
    made = Zone(Settings("cluster.local", "10.247.0.10", ("10.247.0.0/16", "10.246.0.0/16")))
    made.set("default/web", [list(row) for row in rows])
    return made


def asked(name, type_="A", **edns):
    record = dnslib.DNSRecord.question(name, type_)
    if edns:
        record.add_ar(dnslib.EDNS0(**edns))
    return bytes(record.pack())


def answered(query, rows=(), **more):
    said = Answers(zone(rows)).of(query, **more)
    assert isinstance(said, Ready)
    return dnslib.DNSRecord.parse(said.data)


WEB = (
    ("A", "web.default.svc", "10.247.3.4"),
    ("SRV", "_http._tcp.web.default.svc", 80, "web.default.svc"),
    ("PTR", "10.247.3.4", "web.default.svc"),
)


@given(names, types, st.integers(0, 65535), st.one_of(st.none(), st.integers(0, 65535)))
def test_a_query_is_read_as_dnslib_writes_it(name, type_, number, size):
    record = dnslib.DNSRecord(dnslib.DNSHeader(id=number), q=dnslib.DNSQuestion(name, type_))
    if size is not None:
        record.add_ar(dnslib.EDNS0(udp_len=size))
    query = wire.query(bytes(record.pack()))
    assert (query.id, query.name, query.type, query.class_) == (number, name.lower().encode(), type_, 1)
    assert query.edns == (size is not None)
    assert query.answer_bytes == (512 if size is None else max(512, min(size, 1232)))


@given(names, types)
def test_every_answer_is_one_that_dnslib_reads(name, type_):
    for full in (name, f"{name}.default.svc.cluster.local" if name else "web.default.svc.cluster.local", "web.default.svc.cluster.local"):
        if len(full) > 250:
            continue
        query = dnslib.DNSRecord(q=dnslib.DNSQuestion(full, type_)).pack()
        query = bytes(query)
        said = Answers(zone(WEB)).of(query)
        if isinstance(said, Ready):
            read = dnslib.DNSRecord.parse(said.data)
            assert read.header.id == int.from_bytes(query[:2], "big") and read.header.qr
            assert read.q.qname == dnslib.DNSLabel(full)


def test_records_of_each_type():
    read = answered(asked("web.default.svc.cluster.local"), WEB)
    assert [str(rr) for rr in read.rr] == ["web.default.svc.cluster.local. 5       IN      A       10.247.3.4"]
    assert read.header.aa and read.header.ra and read.header.rd
    read = answered(asked("_http._tcp.web.default.svc.cluster.local", "SRV"), WEB)
    assert str(read.rr[0].rdata) == "0 100 80 web.default.svc.cluster.local." and str(read.ar[0].rdata) == "10.247.3.4"
    read = answered(asked("4.3.247.10.in-addr.arpa", "PTR"), WEB)
    assert str(read.rr[0].rdata) == "web.default.svc.cluster.local."
    assert str(answered(asked("dns-version.cluster.local", "TXT")).rr[0].rdata) == '"1.1.0"'
    assert str(answered(asked("cluster.local", "SOA")).rr[0].rdata).startswith("ns.dns.cluster.local. hostmaster.cluster.local. ")
    assert str(answered(asked("cluster.local", "NS")).rr[0].rdata) == "ns.dns.cluster.local."
    assert str(answered(asked("ns.dns.cluster.local")).rr[0].rdata) == "10.247.0.10"


def test_case_does_not_matter_and_comes_back_as_it_was_sent():
    read = answered(asked("WeB.Default.SVC.cluster.LOCAL"), WEB)
    assert str(read.q.qname) == "WeB.Default.SVC.cluster.LOCAL." and str(read.rr[0].rdata) == "10.247.3.4"


@pytest.mark.parametrize(
    ("name", "type_", "code"), [("no.default.svc.cluster.local", "A", 3), ("web.default.svc.cluster.local", "AAAA", 0)]
)
def test_what_is_not_there_comes_with_the_time_that_this_may_be_believed(name, type_, code):
    read = answered(asked(name, type_), WEB)
    assert read.header.rcode == code and not read.rr
    assert read.auth[0].rtype == dnslib.QTYPE.SOA and read.auth[0].ttl == 5 and read.auth[0].rdata.times[4] == 5


def test_an_answer_that_is_too_long_is_truncated_and_whole_over_tcp():
    many = tuple(("A", "web.default.svc", f"10.246.{n}.1") for n in range(120))
    for query, most in ((asked("web.default.svc.cluster.local"), 512), (asked("web.default.svc.cluster.local", udp_len=4096), 1232)):
        read = answered(query, many)
        assert read.header.tc and not read.rr
        assert len(Answers(zone(many)).of(query).data) <= most
    read = answered(asked("web.default.svc.cluster.local", udp_len=1232), many[:60])
    assert len(read.rr) == 60 and not read.header.tc
    assert len(answered(asked("web.default.svc.cluster.local"), many, over_tcp=True).rr) == 120


def test_additional_records_are_left_out_first():
    rows = [("SRV", "_h._tcp.web.default.svc", 80, f"p{n}.web.default.svc") for n in range(6)] + [
        ("A", f"p{n}.web.default.svc", f"10.246.1.{n}") for n in range(6)
    ]
    read = answered(asked("_h._tcp.web.default.svc.cluster.local", "SRV"), rows)
    assert len(read.rr) == 6 and not read.ar and not read.header.tc


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda q: setattr(q.header, "opcode", 4), 4),
        (lambda q: setattr(q.q, "qclass", 3), 5),
        (lambda q: setattr(q.q, "qtype", 252), 5),
        (lambda q: q.add_ar(dnslib.EDNS0(version=1)), 0),  # BADVERS is 16: its lower half is in the header
    ],
)
def test_what_is_refused(change, code):
    record = dnslib.DNSRecord.question("web.default.svc.cluster.local")
    change(record)
    read = answered(bytes(record.pack()), WEB)
    assert read.header.rcode == code and not read.rr
    if code == 0:
        assert read.ar[0].edns_rcode if hasattr(read.ar[0], "edns_rcode") else read.ar[0].ttl >> 24 == 1


def test_answers_are_never_answered():
    response = dnslib.DNSRecord.question("web.default.svc.cluster.local").reply().pack()
    response = bytes(response)
    assert Answers(zone(WEB)).of(response) is None
    assert Answers(zone(WEB)).of(b"\0" * 11) is None


def test_a_dot_inside_a_label_is_no_dot_between_two():
    query = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\x0bweb.default\3svc\7cluster\5local\0" + struct.pack(">HH", 1, 1)
    assert Answers(zone(WEB)).of(query).data[3] & 15 == wire.NO_SUCH_NAME


def test_a_kept_answer_has_the_next_clients_number_and_goes_with_a_change():
    answers = Answers(made := zone(WEB))
    query = asked("web.default.svc.cluster.local")
    first, second = answers.of(b"\0\1" + query[2:]).data, answers.of(b"\0\2" + query[2:]).data
    assert first[:2] == b"\0\1" and second[:2] == b"\0\2" and first[2:] == second[2:]
    made.set("default/web", [["A", "web.default.svc", "10.247.9.9"]])
    answers.changed(made)
    assert str(dnslib.DNSRecord.parse(answers.of(query).data).rr[0].rdata) == "10.247.9.9"


def test_the_memory_of_answers_is_bounded():
    answers = Answers(zone(WEB))
    for n in range(10_000):
        answers.of(asked(f"x{n}.default.svc.cluster.local"))
    assert len(answers._kept) <= 4096


GOOD = asked("web.default.svc.cluster.local", udp_len=1232)


def mutated(rng):
    """A good query with some of its bytes changed, cut, or repeated."""
    data = bytearray(GOOD)
    for _ in range(rng.randrange(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(len(data) + 1)] + data[rng.randrange(len(data)) :]) if rng.random() < 0.4 else bytes(data)


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=600), st.randoms(use_true_random=False).map(mutated)))
@example(struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1")  # a name that points to itself
@example(struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 65535) + b"\0\0\1\0\1")
def test_whatever_comes_is_answered_shortly_or_not_at_all(data):
    said = Answers(zone(WEB)).of(data)
    assert said is None or isinstance(said, Ask) or len(said.data) <= 1232
    if isinstance(said, Ready):
        assert said.data[:2] == data[:2]


@settings(max_examples=500)
@given(st.one_of(st.binary(max_size=600), st.randoms(use_true_random=False).map(mutated)))
@example(struct.pack(">HHHHHH", 1, 0x8000, 1, 1, 0, 0) + b"\1a\0\0\1\0\1" + b"\xc0\x13\0\5\0\1\0\0\0\1\0\2\xc0\x13")  # pointers in a circle
def test_whatever_another_server_answers_is_read_or_refused(data):
    try:
        _, found = wire.records(data)
    except wire.Malformed:
        return
    assert len(found) <= wire.ANSWERS_MAX


def test_another_servers_records_are_read_with_their_compressed_names():
    reply = dnslib.DNSRecord.question("db.example.com").reply()
    reply.add_answer(
        *dnslib.RR.fromZone("db.example.com 60 CNAME host.example.com\nhost.example.com 30 A 192.0.2.1\nhost.example.com 30 TXT hello")
    )
    code, found = wire.records(bytes(reply.pack()))
    assert code == 0
    assert found == [
        wire.Record(b"db.example.com", wire.CNAME, 60, wire.name(b"host.example.com")),
        wire.Record(b"host.example.com", wire.A, 30, bytes([192, 0, 2, 1])),
    ]
