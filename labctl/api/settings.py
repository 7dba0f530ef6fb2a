"""The settings of the API server: limits and timeouts, with their units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ApiSettings:
    body_limit_bytes: int = 3 << 20  # as kube-apiserver
    head_limit_bytes: int = 64 << 10  # one request line: an exec's argv travels in it
    gzip_above_bytes: int = 128 << 10
    watch_timeout_s: float = (
        1800.0  # the least if the client names none; a random time up to twice that, so that watchers don't all return at once
    )
    watch_stall_s: float = 10.0  # a client that reads nothing for this long is disconnected
    answer_stall_s: float = 30.0  # the same for an answer: much of it may be under way to a client far away
    keepalive_s: float = 300.0
    handshake_s: float = 10.0  # TLS's
    head_s: float = 32.0  # from a connection's first byte, or a request's, until its head is there; as kube-apiserver
    body_s: float = 60.0  # until its body is there
    handshakes: int = 8_192  # connections whose handshake is not finished
    handshakes_of_one: int = 1_024  # of them, of one address; a pod's address is its own
    connections_of_one: int = 512  # of one address without a certificate, or of one node's certificate: each costs 0.2 MB
    held_bytes_of_one: int = 32 << 20  # of large answers (but for lists, which are sent from the store) that one of them has not read yet
    requests_of_one: int = 200  # of one user under way; kube-apiserver takes 400 reads and 200 writes of all together
    requests: int = 600  # of all users
    requests_always: int = 10  # of one user, also while all have too many
    lasting_of_one: int = 1_000  # watches, logs, exec and the like: a DaemonSet on a hundred nodes has ten watches on each
    stop_s: float = 2.0  # how long a stop waits for requests under way
    dial_s: float = 10.0  # proxy: until the pod answered the connect
