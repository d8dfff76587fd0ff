"""Held content and the disk: full or absent, it costs a message and nothing else."""
import os
import resource
import threading

import probe
from gateway import SLUICE, Gateway, free_port
from peers import BackendServer, Client

CONF = """hostname "mx.test" workers(1) module "%s"
backend "b" { "%s", pool = 0 }
chain "c" { filter "probe" { "message: content 5", flags = { "reads_back" } } }
listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", received = false, limits = { hold_memory = "16K" } }
"""
BODY = b"S: x\r\n\r\n" + b"0123456789012345678901234567890\r\n" * 6000


def deliver(client, backend, body):
    client.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n")
    serving = backend.take()
    threading.Thread(target=serving.rest, daemon=True).start()
    assert client.reply()[:3] == client.reply()[:3] == "250"
    client.send(b"DATA\r\n")
    assert client.reply()[:3] == "354"
    client.send(body + b".\r\n")
    return client.reply()


def run(env, limit):
    backend = BackendServer(["PIPELINING"])
    port = free_port()
    gateway = Gateway(CONF % (probe.built(SLUICE), backend.address, port), env=env, limit=limit)
    try:
        gateway.start()
        client = Client(port)
        client.reply()
        client.send(b"EHLO c.test\r\n")
        client.reply()
        first = deliver(client, backend, BODY)
        assert first.startswith("452 4.3.1"), first
        assert "held content cannot be written" in gateway.log()
        second = deliver(client, backend, b"S: small\r\n\r\nfits\r\n")
        assert second.startswith("250"), second
        client.close()
    finally:
        backend.close()
        wrong = gateway.stop()
    assert not wrong, wrong


def test_a_full_disk_is_452_and_the_session_lives():
    run({}, (resource.RLIMIT_FSIZE, 64 * 1024))  # a file that may not grow fails a write as a full disk does


def test_no_folder_for_temporary_files_is_452_and_the_session_lives():
    run({"TMPDIR": "/nonexistent/folder"}, None)
