"""Where lines go: a pipe that nobody reads, a full disk, syslog, a file that is rotated, the journal. Mail never waits for any of them."""
import fcntl
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from gateway import SLOW, SLUICE, Gateway, free_port, rewrite
from peers import BackendServer, Client

CONF = ('hostname "mx.test"\nworkers(1)\ncontrol "@DIR@/control"\nlog { %s }\nbackend "b" { "%s", health = 0 }\n'
        'listen "l" { "127.0.0.1:%d", backend = "b", limits = { junk = 0, errors = 100 } }\n')
F_SETPIPE_SZ = 1031


class World:
    def __init__(self, log="", start=True, **kw):
        self.server, self.port = BackendServer(["PIPELINING"]), free_port()
        self.gateway = Gateway(self.conf(log), **kw)
        if start:
            self.gateway.start()

    def conf(self, log):
        return CONF % (log, self.server.address, self.port)

    def refuse(self, n):
        """n sessions, each with a line in the log."""
        for _ in range(n):
            c = Client(self.port)
            c.reply()
            c.send(b"EHLO " + b"x." * 100 + b"test\r\n")
            assert c.reply()[:3] == "250"
            c.send(b"FOO\r\nQUIT\r\n")
            assert [c.reply()[:3], c.reply()[:3]] == ["500", "221"]
            c.close()

    def end(self):
        self.server.close()
        wrong = self.gateway.stop()
        assert not wrong, wrong


def wait_for(what, seconds=5):
    deadline = time.monotonic() + seconds * SLOW
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_pipe_that_nobody_reads_stops_nothing_and_what_was_lost_is_counted():
    world = World(start=False)
    r, w = os.pipe()
    fcntl.fcntl(w, F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([SLUICE, "run", "-c", world.gateway.conf], stdout=w, stderr=w, env=world.gateway.env)
    world.gateway.process = process
    os.close(w)
    wait_for(lambda: world.gateway.ask("status")[0] == 0)
    world.refuse(1100)  # of 400 octets each: more than pipe and ring together
    code, said, _ = world.gateway.ask("status")
    assert code == 0 and re.search(r"log: \d+ lines were lost", said), said
    assert world.gateway.ask("reload")[0] == 0
    read = b""
    os.set_blocking(r, False)
    deadline = time.monotonic() + 5 * SLOW
    while (b"dropped=" not in read or read.count(b"event=conn") + int(re.search(rb"dropped=(\d+)", read).group(1)) < 1100) and \
            time.monotonic() < deadline:
        try:
            read += os.read(r, 65536)
        except BlockingIOError:
            time.sleep(0.02)
    told = re.search(rb"level=warning event=log msg=\"[^\"]*\" dropped=(\d+)\n", read)
    assert told, read[-500:]
    assert read.count(b"event=conn") + int(told.group(1)) >= 1100
    assert all(line.startswith(b"ts=") for line in read.splitlines()), "a line that is no whole one"
    world.refuse(300)
    process.terminate()  # the pipe is full again, or nearly
    assert process.wait(5 * SLOW) == 0
    os.close(r)
    world.end()


def test_syslog_has_priority_tag_and_text_and_may_go_and_come():
    folder = os.path.join(os.environ.get("TMPDIR", "/tmp"), "sluice-syslog-%d" % os.getpid())
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    daemon.bind(folder)
    daemon.settimeout(5 * SLOW)
    world = World('to = "syslog:%s", facility = "local1"' % folder, start=False)
    world.gateway.process = subprocess.Popen([SLUICE, "run", "-c", world.gateway.conf], stderr=subprocess.DEVNULL, env=world.gateway.env)
    while b"runs with" not in (line := daemon.recv(4096)):
        pass
    assert re.fullmatch(rb"<142>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d sluice\[\d+\]: level=info event=log msg=\"Sluice .*", line), line
    world.refuse(1)
    assert b"]: level=info event=conn id=" in daemon.recv(4096)
    daemon.close()
    os.unlink(folder)
    world.refuse(3)  # lost, and counted
    time.sleep(0.2 * SLOW)
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    daemon.bind(folder)
    daemon.settimeout(5 * SLOW)
    time.sleep(1.1)
    world.refuse(1)
    assert b"event=conn" in daemon.recv(4096)
    line = daemon.recv(4096)
    assert line.startswith(b"<140>") and b"dropped=3" in line, line
    daemon.close()
    os.unlink(folder)
    world.end()


def test_a_file_is_opened_anew_when_it_was_renamed_and_a_path_that_cannot_be_is_an_error():
    world = World('to = "@DIR@/mail.log"', start=False)
    path = os.path.join(world.gateway.folder, "mail.log")
    world.gateway.process = subprocess.Popen([SLUICE, "run", "-c", world.gateway.conf], env=world.gateway.env)
    read = lambda name=path: open(name).read() if os.path.exists(name) else ""  # noqa: E731
    wait_for(lambda: "runs with" in read())
    assert os.stat(path).st_mode & 0o777 == 0o640
    os.rename(path, path + ".1")
    time.sleep(1.1)
    world.refuse(1)
    wait_for(lambda: "event=conn" in read())
    assert "event=conn" not in read(path + ".1")
    os.rename(path, path + ".2")
    world.gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "reloaded: generation" in read())
    rewrite(world.gateway, world.conf('to = "@DIR@/no/such/folder/mail.log"'))
    code, _, said = world.gateway.ask("reload")
    assert code == 2 and "no/such/folder/mail.log: No such file or directory" in said, said
    checked = world.gateway.ask("check")
    assert checked[0] == 2 and "no/such/folder" in checked[2], checked
    world.end()


def test_the_journal_gets_priorities_and_no_second_time():
    world = World(start=False)
    out = open(world.gateway.log_path, "wb")
    st = os.fstat(out.fileno())
    world.gateway.process = subprocess.Popen([SLUICE, "run", "-c", world.gateway.conf], stderr=out,
                                             env=dict(world.gateway.env, JOURNAL_STREAM="%d:%d" % (st.st_dev, st.st_ino)))
    wait_for(lambda: "runs with" in world.gateway.log())
    rewrite(world.gateway, "mistake\n")
    world.gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "not reloaded" in world.gateway.log())
    lines = world.gateway.log().splitlines()
    assert any(line.startswith("<6>level=info event=log msg=") for line in lines), lines
    assert any(line.startswith("<3>level=error event=log msg=") for line in lines), lines
    world.end()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_stops_nothing():
    world = World('to = "/dev/full"', start=False)
    world.gateway.process = subprocess.Popen([SLUICE, "run", "-c", world.gateway.conf], env=world.gateway.env)
    wait_for(lambda: world.gateway.ask("status")[0] == 0)
    world.refuse(20)
    wait_for(lambda: re.search(r"log: \d\d+ lines were lost", world.gateway.ask("status")[1]))
    world.end()


def test_started_without_standard_error_no_socket_gets_its_number():
    world = World(start=False)
    world.gateway.process = subprocess.Popen(["sh", "-c", 'exec "$0" run -c "$1" 0<&- 1>&- 2>&-', SLUICE, world.gateway.conf], env=world.gateway.env)
    wait_for(lambda: world.gateway.ask("status")[0] == 0)
    world.refuse(3)
    assert {os.readlink("/proc/%d/fd/%d" % (world.gateway.process.pid, n)) for n in range(3)} == {"/dev/null"}
    world.end()
