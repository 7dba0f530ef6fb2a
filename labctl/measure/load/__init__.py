"""The load program: it sends requests to one address at a fixed rate, and reports each of them on its standard output.

It is standard-library Python 3.9 and imports nothing else of labctl, because it runs in a minion's own python3: labctl/measure/program.py packs it into one
zip that travels through SSH, labctl/lab/measuring/ starts it, labctl/measure/reader.py reads what it says.

    main.py  settings, a pod's network       engine.py  the open loop     links.py, http.py  one request on one socket
    streams.py  input and output             conntrack.py  to which pod the kernel sends a connection

    standard input                                      standard output
    {settings}      one line of JSON (`Settings`)       h {facts}        it is ready: its time namespace, its bound on requests in flight
    clock N         what is the time?                   c N S            this machine's CLOCK_MONOTONIC
    begin S         the first request is intended at S  r ...            one request, when it has ended (`Engine.report`)
    stop            no more requests                    w N TEXT         from now on N stands for TEXT in `r` lines
                                                        s {state}        each second: share of a core, requests in flight
                                                        e {state}        the end: everything was reported
                                                        x TEXT           this can't be done here

The loop is open: request N is intended at `begin + N / rate`, whatever became of the others. A program that waits for an answer before it sends the next
request hides the time in which nothing answered (coordinated omission). What can't be sent, because too many wait or because this program itself is more
than a second late, is reported as unsent. When standard input ends, the program ends at once: nothing stays on a machine when labctl is killed.

Sockets do not block, and one epoll says which are ready: little more than half of what asyncio costs (docs/measuring.md has the figures). `select` on the
epoll's own descriptor waits, because it counts in microseconds where epoll rounds up to milliseconds. At high rates nobody is woken for an answer: it is read
a moment later, and counts from when the kernel noted that it came (`Engine.wait`, `Link.receive`).
"""
