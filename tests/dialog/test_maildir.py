"""The embedded backend: what was acknowledged lies in new/, whole; what was not leaves nothing anywhere."""
import os
import time

import pytest
from gateway import Gateway, free_port
from peers import Client

CONF = ('hostname "mx.test"\nworkers(%s)\nbackend "m" { "maildir:@DIR@/mail" }\nchain "c" { }\n'
        'listen "l" { "127.0.0.1:%d", backend = "m", chain = "c", received = false }\n')


@pytest.fixture
def world():
    port = free_port()
    gateway = Gateway(CONF % (os.environ.get("SLUICE_WORKERS", "1"), port)).start()
    yield gateway, port
    wrong = gateway.stop()
    assert not wrong, wrong


def files(gateway, folder):
    path = os.path.join(gateway.folder, "mail", folder)
    return sorted(os.path.join(path, f) for f in os.listdir(path)) if os.path.isdir(path) else []


def say(c, line):
    c.send(line + b"\r\n")
    return c.reply()


def begin(port):
    c = Client(port)
    assert c.reply().startswith("220")
    assert say(c, b"EHLO x").startswith("250")
    assert say(c, b"MAIL FROM:<a@x.test>").startswith("250")
    assert say(c, b"RCPT TO:<b@y.test>").startswith("250")
    assert say(c, b"DATA").startswith("354")
    return c


def test_an_acknowledged_message_lies_in_new_as_it_was_sent(world):
    gateway, port = world
    c = begin(port)
    assert say(c, b"Subject: x\r\n\r\n..dot\r\n\x00\xff\r\n.").startswith("250")
    assert say(c, b"QUIT").startswith("221")
    assert not files(gateway, "tmp")
    (path,) = files(gateway, "new")
    with open(path, "rb") as f:
        octets = f.read()
    assert octets.replace(b"\r\n", b"\n").endswith(b"Subject: x\n\n.dot\n\x00\xff\n"), octets


def test_binary_chunks_lie_in_new_octet_by_octet(world):
    gateway, port = world
    c = Client(port)
    assert c.reply().startswith("220")
    assert "BINARYMIME" in say(c, b"EHLO x")
    assert say(c, b"MAIL FROM:<a@x.test> BODY=BINARYMIME MT-PRIORITY=3 BY=60;N").startswith("250")
    assert say(c, b"RCPT TO:<b@y.test>").startswith("250")
    octets = b"Subject: x\r\n\r\n" + bytes(range(256)) * 1000 + b"\n.\r"
    c.send(b"BDAT 100000\r\n" + octets[:100000])
    assert c.reply().startswith("250")
    c.send(b"BDAT %d LAST\r\n" % (len(octets) - 100000) + octets[100000:])
    assert c.reply().startswith("250 2.0.0 Ok: queued as")
    assert say(c, b"QUIT").startswith("221")
    (path,) = files(gateway, "new")
    with open(path, "rb") as f:
        assert f.read().endswith(octets)


def test_chunks_into_a_mailbox_that_cannot_be_written_are_452(world):
    gateway, port = world
    os.makedirs(os.path.join(gateway.folder, "mail"))
    with open(os.path.join(gateway.folder, "mail", "tmp"), "w"):
        pass  # a file where a folder should be
    c = Client(port)
    c.reply()
    say(c, b"EHLO x")
    for last in (b" LAST", b""):
        assert say(c, b"MAIL FROM:<a@x.test>").startswith("250")
        assert say(c, b"RCPT TO:<b@y.test>").startswith("250")
        c.send(b"BDAT 8" + last + b"\r\na: b\r\n\r\n")
        told = c.reply()
        if not last:
            c.send(b"BDAT 0 LAST\r\n")
            told = c.reply()
        assert told.startswith("452 4.3.1"), told


def test_a_client_that_leaves_before_its_end_leaves_no_file(world):
    gateway, port = world
    c = begin(port)
    c.send(b"Subject: x\r\n\r\nhalf")
    time.sleep(0.1)
    c.reset()
    deadline = time.monotonic() + 5
    while (files(gateway, "tmp") or "verdict=abort" not in gateway.log()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not files(gateway, "tmp") and not files(gateway, "new")


def test_two_hundred_messages_at_once_are_two_hundred_files(world):
    gateway, port = world
    clients = [begin(port) for _ in range(20)]
    for c in clients:
        for i in range(10):
            assert say(c, b"Subject: %d\r\n\r\nx\r\n." % i).startswith("250")
            if i < 9:
                assert say(c, b"MAIL FROM:<a@x.test>").startswith("250")
                assert say(c, b"RCPT TO:<b@y.test>").startswith("250")
                assert say(c, b"DATA").startswith("354")
    assert len(files(gateway, "new")) == 200 and not files(gateway, "tmp")


def test_a_folder_that_cannot_be_written_is_a_4yz(world):
    gateway, port = world
    if os.geteuid() == 0:
        path = os.path.join(gateway.folder, "mail")
        c = begin(port)
        assert say(c, b"x\r\n.").startswith("250")
        for folder in ("tmp", "new"):
            os.rename(os.path.join(path, folder), os.path.join(path, folder + ".away"))
            with open(os.path.join(path, folder), "w"):
                pass
    else:
        os.chmod(os.path.join(gateway.folder), 0o500)
    c = Client(port)
    c.reply()
    replies = [say(c, line) for line in (b"EHLO x", b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>", b"DATA")]
    if replies[-1].startswith("354"):
        replies.append(say(c, b"x\r\n."))
    assert replies[-1][0] in "45" and not any(r.startswith("250") for r in replies[4:]), replies
    assert say(c, b"QUIT").startswith("221")
