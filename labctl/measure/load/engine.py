"""The open loop: each request is begun when it is intended, and reported when it has ended."""

from __future__ import annotations

import collections
import errno
import json
import math
import os
import select
import time
from typing import Deque, Tuple

from .conntrack import Conntrack
from .http import Http, Https, trusting
from .links import TIMEOUT, UNSENT, Ask, Link, Udp, name_in, outcome_of, stamping

LATE_MAX_S = 1.0  # a request that could only be begun later than this is unsent
NEVER_S = float("inf")
EVENTS = 256  # that are taken at once
BATCH = 16  # requests that are begun before answers are looked at again
FLUSH_S, STATE_S = 0.1, 1.0
LOOK_S, CLOSE_TOGETHER = 0.002, 500.0  # an answer may lie in its socket for so long, if the kernel notes when it came: from this rate on
TOGETHER = 16  # reports that are written at once
NAMES_MAX = 4096
SAID_MAX = 64  # answers, each of them shorter than a header may be
LINKS = {"http": Http, "https": Https, "tcp": Link, "udp": Udp}
clock = time.monotonic


class Settings:
    """What standard input says first. `request` is what is sent, in latin-1; `namespace` is the path of a pod's network namespace."""

    def __init__(self, said):
        self.protocol = said["protocol"]  # http, https, tcp or udp
        self.place = (said["address"], said["port"])
        self.request = said["request"].encode("latin-1")
        self.keepalive = said["keepalive"]
        self.rate = float(said["rate"])
        self.count = int(said["count"])  # it ends after so many requests
        self.deadline_s = float(said["deadline_s"])
        self.in_flight = int(said["in_flight"])
        self.server_name = said.get("server_name", "")
        self.authority = said.get("authority", "")  # a certificate to trust besides the machine's own; "unchecked" trusts everybody
        self.namespace = said.get("namespace", "")


class Engine:
    """Begins each request when it is intended, and reports it when it has ended."""

    def __init__(self, settings, source, output):
        self.settings, self.input, self.output = settings, source, output
        self.conntrack = Conntrack()
        self.epoll = select.epoll()
        self.epoll.register(source.descriptor, select.EPOLLIN)
        self.waiting = [self.epoll.fileno()]
        self.link = LINKS[settings.protocol]
        self.tls = trusting(settings.authority) if settings.protocol == "https" else None
        self.stamps = stamping() if self.link.stamped and settings.rate >= CLOSE_TOGETHER else None
        self.look_s = 0.0  # when it looks at answers again
        self.ahead_s = 0.0  # of this program's clock before the kernel's notes
        self.links, self.idle = {}, {}  # by file descriptor
        self.fresh, self.unready = [], set()  # links whose answer nobody is woken for; file descriptors of those that still connect
        self.pending: Deque[Ask] = collections.deque()
        self.leaving: Deque[Tuple[float, Http]] = collections.deque()
        self.answer, self.answered = b"", (0, False)  # the last answer that came in one piece, and what it means
        self.names, self.said = {"": 0}, {}
        self.reported = []
        self.begin_s, self.next, self.count = None, 0, settings.count
        self.due_s = NEVER_S  # when the next request is intended
        self.flying = 0
        self.trouble = ""
        self.flush_s = self.state_s = self.cpu_s = 0.0

    def run(self):
        self.commands(clock())  # what came together with the settings
        while self.begin_s is None or self.next < self.count or self.flying:
            self.begin_due()
            now = clock()
            if self.wait(now):  # all that had come by then was read: what is overdue now was not answered, however late this program is
                self.expire(now)
            self.tell(now)
        self.write_reports()
        self.output.lines.append("e %s\n" % json.dumps(self.state(clock())))
        self.output.close()

    def begin_due(self):
        for _ in range(BATCH):
            now = clock()
            late = now - self.due_s
            if late < 0:
                return
            ask = Ask(self.next, now)
            self.next += 1
            self.due_s = self.intended(self.next) if self.next < self.count else NEVER_S
            self.flying += 1
            if late > LATE_MAX_S or self.flying > self.settings.in_flight:
                ask.started = 0.0
                self.report(ask, UNSENT, 0, now)
            else:
                self.start(ask)

    def start(self, ask):
        self.pending.append(ask)
        if self.idle:
            self.idle.popitem()[1].again(ask)
        else:
            self.open(ask)

    def open(self, ask):
        """Sends a request through a new socket."""
        try:
            self.link(self, ask)
        except OSError as error:
            outcome = outcome_of(error)
            if outcome == UNSENT:
                self.trouble = "no %s was free" % ("local port" if error.errno == errno.EADDRNOTAVAIL else "file descriptor")
                ask.started = 0.0
            self.report(ask, outcome, 0, clock())

    def intended(self, number):
        return self.begin_s + number / self.settings.rate

    def report(self, ask, outcome, status, now, here=None, said=b""):
        """Notes that a request has ended. `here` is the socket's own address, `said` the answer."""
        self.flying -= 1
        ask.link = None
        self.reported.append((ask, outcome, status, now, here, said))
        if len(self.reported) >= TOGETHER:
            self.write_reports()

    def write_reports(self):
        """Several requests at once: what is not urgent costs half as much then, as the processor has the code at hand. Few, as it delays what is urgent."""
        reported, self.reported = self.reported, []
        if not reported:
            return
        known = iter(self.conntrack.answering([each[4] for each in reported if each[4]], self.settings.place, self.link.protocol))
        for ask, outcome, status, now, here, said in reported:
            who = next(known) if here else ""
            self.write_report(ask, outcome, status, now, who or (self.named(said) if said else ""))

    def named(self, said):
        """Returns who an answer says gave it. Servers answer the same again and again: what was read once is not read again."""
        who = self.said.get(said)
        if who is None:
            if len(self.said) >= SAID_MAX:
                self.said.clear()
            who = self.said[said] = name_in(said)
        return who

    def write_report(self, ask, outcome, status, now, who):
        """`r NUMBER STARTED CONNECTED FIRST ENDED OUTCOME STATUS WHO`: times in microseconds since it was intended, -1 where it was not reached."""
        number = self.names.get(who)
        if number is None:
            number = self.name(who)
        zero = self.intended(ask.number)
        started = (ask.started - zero) * 1e6 if ask.started else -1
        connected = (ask.connected - zero) * 1e6 if ask.connected else -1
        first = (ask.first - zero) * 1e6 if ask.first else -1
        self.output.lines.append(
            "r %d %d %d %d %d %s %d %d\n" % (ask.number, started, connected, first, (now - zero) * 1e6, outcome, status, number)
        )

    def name(self, who):
        if len(self.names) >= NAMES_MAX:
            return 0
        self.names[who] = len(self.names)
        self.output.lines.append("w %d %s\n" % (self.names[who], who))
        return self.names[who]

    def expire(self, now):
        """Ends what has waited for too long."""
        pending, deadline_s = self.pending, self.settings.deadline_s
        while pending and (pending[0].link is None or pending[0].started + deadline_s <= now):
            ask = pending.popleft()
            if ask.link is not None:
                ask.link.fail(TIMEOUT, now)

    def tell(self, now):
        """Writes what was reported, and once a second how this program fares."""
        if now < self.flush_s:
            return
        self.flush_s = now + FLUSH_S
        self.write_reports()
        while self.leaving and self.leaving[0][1].has_left(now, self.leaving[0][0]):
            self.leaving.popleft()
        if self.begin_s is not None and now >= self.state_s:
            self.state_s = now + STATE_S
            self.output.lines.append("s %s\n" % json.dumps(self.state(now)))
            if self.settings.namespace and not same_namespace(self.settings.namespace):
                self.trouble = "the pod is gone"
                self.stop(now)
        self.output.flush()

    def state(self, now):
        lasted_s = max(now - self.begin_s, 1e-3)
        share = (time.process_time() - self.cpu_s) / lasted_s
        return {"cpu": round(share, 4), "flying": self.flying, "begun": self.next, "trouble": self.trouble}

    def wait(self, now):
        """Waits for the next thing to do, then does what sockets ask for. Returns whether that was all they ask for.

        When requests follow each other closely, it only waits for the next one: answers are read then, and the kernel has noted when they came.
        """
        until = min(self.flush_s, self.due_s)
        if self.pending:
            until = min(until, self.pending[0].started + self.settings.deadline_s)
        if self.stamps and not self.unready and until < now + LOOK_S:
            if until > now:
                time.sleep(until - now)
        else:
            for link in self.fresh:
                link.register()
            self.fresh, self.look_s = [], 0.0
            if not select.select(self.waiting, (), (), until - now if until > now else 0.0)[0]:
                return True
        now = clock()
        if now < self.look_s:
            return False
        self.look_s = now + LOOK_S
        self.ahead_s = now - time.time()
        self.read_fresh(now)
        events = self.epoll.poll(0, EVENTS)
        for descriptor, mask in events:
            link = self.links.get(descriptor)
            if link is not None:
                link.happened(mask, now)
            elif descriptor == self.input.descriptor:
                self.input.more()
                self.commands(now)
        return len(events) < EVENTS

    def read_fresh(self, now):
        """Reads the answers that nobody was woken for. A link that has waited for long enough is left to epoll."""
        fresh, self.fresh = self.fresh, []
        for link in fresh:
            if link.ask is not None:
                link.read(now)
            if link.ask is not None:
                if link.ask.started + LOOK_S < now:
                    link.register()
                else:
                    self.fresh.append(link)

    def commands(self, now):
        for line in self.input.lines():
            self.command(line, now)

    def command(self, line, now):
        word, _, value = line.partition(" ")
        if word == "clock":
            self.output.lines.append("c %s %.7f\n" % (value, clock()))
            self.output.flush()
        elif word == "begin":
            self.begin_s = self.due_s = float(value)
            self.cpu_s, self.state_s = time.process_time(), self.begin_s + STATE_S
        elif word == "stop":
            self.stop(now)

    def stop(self, now):
        """Begins no request that is intended after now."""
        if self.begin_s is None:
            self.begin_s = now
        self.count = max(self.next, min(self.count, math.floor((now - self.begin_s) * self.settings.rate) + 1))
        if self.next >= self.count:
            self.due_s = NEVER_S


def same_namespace(path):
    """Tells whether this process is in the network namespace that is kept at `path`: whether the pod is still there."""
    try:
        return os.path.samestat(os.stat(path), os.stat("/proc/self/ns/net"))
    except OSError:
        return False
