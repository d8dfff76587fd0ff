"""Servers come and go between messages: none of them costs a message, and clients notice nothing."""
import collections
import smtplib
import socket
import threading
import time

from gateway import SLOW, Gateway, free_port
from peers import BackendServer

CAN = ["PIPELINING", "SIZE 20000000", "8BITMIME", "ENHANCEDSTATUSCODES"]


def world(ports, more):
    port = free_port()
    g = Gateway("""hostname "mx.test"
backend "b" { %s, %s }
listen "l" { "127.0.0.1:%d", backend = "b", limits = { connections_per_client = 0 } }
""" % (", ".join('"127.0.0.1:%d"' % p for p in ports), more, port)).start()
    g.port = port
    return g


def send(port):
    """The code of the refusal, or 250."""
    s = smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=60)
    try:
        s.sendmail("a@x.test", ["1@y.test"], "Subject: x\r\n\r\nx\r\n")
        return 250
    except smtplib.SMTPRecipientsRefused as e:
        return list(e.recipients.values())[0][0]
    except smtplib.SMTPResponseException as e:
        return e.smtp_code
    finally:
        s.close()


def shares(g, messages):
    """By server; a line is written soon after its reply."""
    until = time.monotonic() + 10
    while True:
        seen = collections.Counter(l.split("backend=b/inet:127.0.0.1:")[1].split()[0] for l in g.log().splitlines()
                                   if " verdict=forwarded" in l)
        if sum(seen.values()) >= messages or time.monotonic() > until:
            return seen
        time.sleep(0.02)


def test_a_server_that_dies_between_messages_costs_none():
    first, second = BackendServer(CAN, serving=True), BackendServer(CAN, serving=True)
    g = world([first.port, second.port], 'health = "300ms"')
    try:
        for victim in (first, second):
            assert {send(g.port) for _ in range(20)} == {250}
            victim.down()  # with idle connections of ours, which it resets
            assert {send(g.port) for _ in range(20)} == {250}
            victim.up()
            deadline = time.monotonic() + 10 * SLOW
            while "is down" in g.log() and g.log().count("is up again") < g.log().count("is down") and time.monotonic() < deadline:
                time.sleep(0.1)
        assert min(shares(g, 80)[str(s.port)] for s in (first, second)) >= 20
    finally:
        wrong = g.stop()
        first.close()
        second.close()
    assert wrong == ""


def test_the_limit_of_connections_holds_over_all_workers_and_everybody_is_served():
    most = collections.Counter()
    lock = threading.Lock()

    class Counted(BackendServer):
        def serve(self, backend):
            with lock:
                most["now"] += 1
                most["most"] = max(most["most"], most["now"])
            super().serve(backend)
            with lock:
                most["now"] -= 1

    server = Counted(CAN, serving=True)
    g = world([server.port], 'connections = 3, wait = "20s", health = 0')
    try:
        codes = []
        threads = [threading.Thread(target=lambda: codes.extend(send(g.port) for _ in range(5))) for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert collections.Counter(codes) == {250: 100}
        assert most["most"] <= 8, most  # three, a look, and those whose QUIT is still under way; without the limit it would be 20
    finally:
        wrong = g.stop()
        server.close()
    assert wrong == ""


def test_a_server_that_closes_before_its_banner_costs_no_message_and_no_time():
    closing = socket.create_server(("127.0.0.1", 0))

    def close_all():
        while True:
            try:
                closing.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=close_all, daemon=True).start()
    good = BackendServer(CAN, serving=True)
    g = world([closing.getsockname()[1], good.port], 'pool = 0, health = 0, balance = "round_robin"')
    try:
        begun = time.monotonic()
        assert {send(g.port) for _ in range(200)} == {250}
        assert time.monotonic() - begun < 9 * SLOW  # not once did it wait for the clock
        assert shares(g, 200) == {str(good.port): 200}
    finally:
        wrong = g.stop()
        closing.close()
        good.close()
    assert wrong == ""
