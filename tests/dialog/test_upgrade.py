"""The binary replaced while mail flows, and sockets that a supervisor holds."""
import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from gateway import SLOW, SLUICE, Gateway, certificate, free_port, refused, rewrite
from sink import Sink, Talker, configuration


def until(claim, gateway=None, seconds=20):
    deadline = time.monotonic() + seconds * SLOW
    while not claim():
        assert time.monotonic() < deadline, gateway and gateway.log()
        time.sleep(0.02)


class World:
    def __init__(self, tmp_path, top="", launcher=(), start=True, drain="3s", **kw):
        self.sink, self.port, self.kw, self.drain = Sink(), free_port(), kw, drain
        self.binary = str(tmp_path / "sluice")
        shutil.copy(SLUICE, self.binary)
        self.gateway = Gateway(self.conf(top), binary=self.binary, launcher=launcher)
        self.left = []
        if start:
            self.gateway.start()

    def conf(self, top="", **kw):
        return ('control "control"\ntimeouts { drain = "%s" }\n%s\n' % (self.drain, top)
                + configuration(self.port, self.sink.port, **dict(self.kw, **kw)))

    def replace_binary(self):
        """As a package manager does it."""
        shutil.copy(SLUICE, self.binary + ".new")
        os.rename(self.binary + ".new", self.binary)

    def upgrade(self):
        before = self.gateway.log().count(" runs; this one ends")
        self.replace_binary()
        code, out, err = self.gateway.ask("upgrade")
        assert code == 0 and "has taken over" in out, (out, err, self.gateway.log())
        until(lambda: self.gateway.log().count(" runs; this one ends") > before, self.gateway)
        self.left.append(self.gateway.follow())
        return self.gateway.process

    def end(self):
        wrong = self.gateway.stop()
        for process in self.left:
            try:
                if process.wait(20 * SLOW) != 0:
                    wrong += "\nan old process ended with %d" % process.returncode
            except subprocess.TimeoutExpired:
                wrong += "\nan old process did not end"
                process.kill()
        self.sink.close()
        assert wrong == ""


@pytest.fixture
def world(tmp_path):
    made = []

    def make(**kw):
        made.append(World(tmp_path, **kw))
        return made[-1]
    yield make
    for w in made:
        w.end()


def send(talker):
    assert talker.begin().startswith(b"354")
    reply = talker.say(b"Subject: x\r\n\r\nx\r\n.")
    assert reply.startswith(b"250"), reply


def test_sessions_end_in_the_old_process_and_new_ones_begin_in_the_new(world):
    w = world()
    first = w.gateway.process.pid
    old = Talker(w.port)
    old.hello()
    assert old.begin().startswith(b"354")
    second = w.upgrade().pid
    assert second != first
    new = Talker(w.port)
    new.hello()
    send(new)
    assert old.say(b"Subject: x\r\n\r\nx\r\n.").startswith(b"250")
    send(old)  # it is not asked to leave at once
    assert "process %d" % second in w.gateway.ask("status")[1]
    assert old.say(b"QUIT").startswith(b"221")
    assert w.left[0].wait(20 * SLOW) == 0
    send(new)


def test_memory_stores_go_on_counting_in_the_new_one(world):
    w = world(chain='filter "ratelimit" { by = "ip", limit = 3, window = "1h" }')
    heard = []
    for _ in range(5):
        c = Talker(w.port)
        c.hello()
        heard.append(c.say(b"MAIL FROM:<a@x.test>")[:1])
        c.close()
        w.upgrade()
    assert heard == [b"2", b"2", b"2", b"4", b"4"], heard
    assert "not all understood" not in w.gateway.log()


def test_a_store_is_known_by_its_name_and_one_that_is_gone_harms_no_other(world):
    chain = 'filter "ratelimit" { by = "ip", limit = 2, window = "1h", store = "%s" }'
    w = world(top='store "gone" { "memory", size = "2M" }\nstore "kept" { "memory" }', chain=chain % "kept")

    def mail():
        c = Talker(w.port)
        c.hello()
        return c.say(b"MAIL FROM:<a@x.test>")[:1]
    assert [mail(), mail(), mail()] == [b"2", b"2", b"4"]
    rewrite(w.gateway, w.conf(top='store "kept" { "memory", size = "1M" }'))
    w.upgrade()
    assert mail() == b"4"
    rewrite(w.gateway, w.conf(top='store "other" { "memory" }', chain=chain % "other"))
    w.upgrade()
    assert [mail(), mail(), mail()] == [b"2", b"2", b"4"]
    assert "not all understood" not in w.gateway.log()


def test_the_new_one_opens_what_was_drained(world):
    w = world()
    assert w.gateway.ask("drain", "l")[0] == 0
    assert refused(w.port)
    w.upgrade()
    new = Talker(w.port)
    new.hello()
    send(new)


def test_who_does_not_end_by_itself_is_asked_to_leave_after_the_grace(world):
    w = world()
    old = Talker(w.port)
    old.hello()
    w.upgrade()
    began = time.monotonic()
    assert old.reply().startswith(b"421 4.3.2")
    assert time.monotonic() - began > 2
    assert w.left[0].wait(20 * SLOW) == 0


def test_a_connection_that_waits_in_the_queue_is_served_by_the_new_one(world):
    w = world(top="limits { connections = 1 }", drain="60s")
    there = Talker(w.port)
    there.hello()
    waiting = [Talker(w.port) for _ in range(5)]
    w.upgrade()
    there.close()
    while waiting:  # several workers: not in the order in which they came
        ready = select.select([c.sock for c in waiting], [], [], 30 * SLOW)[0]
        assert ready, w.gateway.log()
        for c in [c for c in waiting if c.sock in ready]:
            waiting.remove(c)
            c.hello()
            send(c)
            assert c.say(b"QUIT").startswith(b"221")


def test_several_upgrades_and_reloads_one_behind_the_other(world):
    w = world()
    pids = {w.gateway.process.pid}
    for i in range(3):
        pids.add(w.upgrade().pid)
        assert w.gateway.ask("reload")[0] == 0
        c = Talker(w.port)
        c.hello()
        send(c)
    assert len(pids) == 4


def test_a_new_binary_that_does_not_run_changes_nothing(world):
    w = world()
    with open(w.binary + ".new", "w") as f:
        f.write("#!/bin/sh\necho no >&2\nexit 3\n")
    os.chmod(w.binary + ".new", 0o755)
    os.rename(w.binary + ".new", w.binary)
    w.gateway.binary = SLUICE
    code, out, err = w.gateway.ask("upgrade")
    assert code == 1 and "it ended with 3" in err, err
    os.chmod(w.binary, 0o600)
    code, out, err = w.gateway.ask("upgrade")
    assert code == 1 and "ermission denied" in err, err
    os.remove(w.binary)
    code, out, err = w.gateway.ask("upgrade")
    assert code == 1 and "No such file" in err
    c = Talker(w.port)
    c.hello()
    send(c)
    w.upgrade()


def test_a_broken_configuration_stops_the_upgrade_and_is_told_at_its_line(world):
    w = world()
    rewrite(w.gateway, w.conf() + 'limits { size = "wide" }\n')
    line = w.conf().count("\n") + 1
    code, out, err = w.gateway.ask("upgrade")
    assert code == 1 and "sluice.lua:%d: error: limits: " % line in err, err
    assert "this one goes on" in w.gateway.log()
    c = Talker(w.port)
    c.hello()
    send(c)
    rewrite(w.gateway, w.conf())
    w.upgrade()


def all_is_as_before(w, path):
    """The process that goes on is reached at all its paths, and takes them with it."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        assert s.recv(100).startswith(b"220")
    c = Talker(w.port)
    c.hello()
    send(c)
    code, out, err = w.gateway.ask("status")
    assert code == 0 and "process %d" % w.gateway.process.pid in out, err


@pytest.mark.parametrize("by_signal", [False, True])
def test_an_upgrade_that_cannot_bind_leaves_all_paths_to_the_one_that_goes_on(world, by_signal):
    w = world(start=False)
    path, taken = w.gateway.folder + "/in", socket.create_server(("127.0.0.1", 0))
    before = w.conf(listen='"unix:%s"' % path)
    rewrite(w.gateway, before)
    w.gateway.start()
    rewrite(w.gateway, before + 'listen "late" { "127.0.0.1:%d", "unix:%s2", backend = "b" }\n' % (taken.getsockname()[1], path))
    if by_signal:
        w.gateway.process.send_signal(signal.SIGUSR2)
        until(lambda: "this one goes on" in w.gateway.log(), w.gateway)
    else:
        code, out, err = w.gateway.ask("upgrade")
        assert code == 1 and "listens there already" in err, err
    rewrite(w.gateway, before)
    all_is_as_before(w, path)
    assert not os.path.exists(path + "2")
    taken.close()
    w.upgrade()
    all_is_as_before(w, path)
    w.gateway.process.send_signal(signal.SIGTERM)
    assert w.gateway.process.wait(20 * SLOW) == 0
    assert not os.path.exists(path) and not os.path.exists(w.gateway.folder + "/control")


def test_an_upgrade_that_fails_late_has_not_yet_taken_away_what_its_configuration_no_longer_names(world):
    w = world(start=False)
    path, pid = w.gateway.folder + "/in", w.gateway.folder + "/pid"
    w.gateway.arguments = ["--pid-file", pid]
    before = w.conf(listen='"unix:%s"' % path)
    rewrite(w.gateway, before)
    w.gateway.start()
    os.rename(pid, pid + "2")
    os.symlink(pid + "2", pid)  # not followed: the new one fails behind its sockets
    rewrite(w.gateway, w.conf(listen='"unix:%s2"' % path).replace('control "control"', 'control "second"'))
    w.gateway.process.send_signal(signal.SIGUSR2)
    until(lambda: "this one goes on" in w.gateway.log(), w.gateway)
    rewrite(w.gateway, before)
    all_is_as_before(w, path)
    assert not os.path.exists(path + "2") and not os.path.exists(w.gateway.folder + "/second")
    os.rename(pid + "2", pid)
    w.upgrade()
    all_is_as_before(w, path)


def test_sigusr2_will_do_and_other_addresses_and_another_control_socket_too(world):
    w = world()
    other, path = free_port(), w.gateway.folder + "/in"
    text = w.conf(listen='"127.0.0.1:%d", "unix:%s"' % (other, path)).replace('control "control"', 'control "second"')
    rewrite(w.gateway, text)
    w.gateway.process.send_signal(signal.SIGUSR2)
    until(lambda: " runs; this one ends" in w.gateway.log(), w.gateway)
    w.left.append(w.gateway.follow())
    for port in (w.port, other):
        c = Talker(port)
        c.hello()
        send(c)
    until(lambda: not os.path.exists(w.gateway.folder + "/control"))
    w.upgrade()
    assert os.path.exists(path)
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    assert s.recv(100).startswith(b"220")
    s.close()
    rewrite(w.gateway, w.conf())
    w.gateway.env["X"] = "1"
    assert subprocess.run([SLUICE, "status", "-c", w.gateway.conf], capture_output=True).returncode == 1  # it names the other one


def test_more_and_fewer_workers_take_all_the_sockets(world):
    w = world()
    for n in (4, 1, 3):
        rewrite(w.gateway, re.sub(r"workers\(\d+\)", "workers(%d)" % n, w.conf()))
        w.upgrade()
        until(lambda: w.left[-1].poll() is not None, w.gateway)  # so that none is served by the old one
        for _ in range(24):  # with a socket that nobody accepts at, one of these would hang
            c = Talker(w.port)
            c.hello()
            c.close()
        assert "%d workers" % n in w.gateway.ask("status")[1] or n == 1


def test_a_ticket_resumes_in_the_new_process(world):
    w = world(top='tls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }' % (certificate(), certificate()), listen='tls = "t"')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def talk(session=None):
        c = Talker(w.port)
        c.hello()
        assert c.say(b"STARTTLS").startswith(b"220")
        sock = context.wrap_socket(c.sock, session=session)
        sock.sendall(b"EHLO x\r\n")
        assert sock.recv(4096).startswith(b"250")
        return sock
    first = talk()
    assert not first.session_reused
    session = first.session
    first.close()
    w.upgrade()
    assert talk(session).session_reused


def test_the_pid_file_names_who_runs(world):
    w = world(start=False)
    path = w.gateway.folder + "/pid"
    w.gateway.arguments = ["--pid-file", path]
    w.gateway.start()
    assert int(open(path).read()) == w.gateway.process.pid
    w.upgrade()
    assert int(open(path).read()) == w.gateway.process.pid
    assert w.left[0].wait(20 * SLOW) == 0
    assert int(open(path).read()) == w.gateway.process.pid
    w.gateway.process.send_signal(signal.SIGTERM)
    assert w.gateway.process.wait(20 * SLOW) == 0
    assert not os.path.exists(path)


def test_two_commands_at_once_do_not_cross(world):
    w = world()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(w.gateway.ask("upgrade"))) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    done = [a for a in answers if a[0] == 0]
    assert done and all("under way" in a[2] or "take" in a[1] + a[2] or "did not answer" in a[2] for a in answers), answers
    until(lambda: " runs; this one ends" in w.gateway.log(), w.gateway)
    w.gateway.follow()
    c = Talker(w.port)
    c.hello()
    send(c)


# ---- systemd: socket activation, notify, watchdog ----

LAUNCH = [sys.executable, "-c", """
import os, socket, sys
fds = []
for spec in sys.argv[1].split(','):
    s = socket.socket(socket.AF_UNIX if spec[0] == '/' else socket.AF_INET)
    if spec[0] != '/':
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as free_port() does
    s.bind(spec if spec[0] == '/' else ('127.0.0.1', int(spec)))
    s.listen(64)
    fds.append(os.dup(s.fileno()))
keep = [os.dup2(fd, 100 + i, False) for i, fd in enumerate(fds)]
for i, fd in enumerate(keep):
    os.dup2(fd, 3 + i)
    os.set_inheritable(3 + i, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=':'.join('x' * len(fds)))
os.execv(sys.argv[2], sys.argv[2:])
"""]


def test_sockets_of_a_supervisor_are_taken_by_their_address(world, tmp_path):
    path = str(tmp_path / "in")
    w = world(start=False, listen='"unix:%s"' % path)
    spare = free_port()
    w.gateway.launcher = LAUNCH + ["%d,%s,%d" % (w.port, path, spare)]
    w.gateway.start()
    assert "no listener is at inet:127.0.0.1:%d" % spare in w.gateway.log()
    assert refused(spare)
    for _ in range(8):
        c = Talker(w.port)
        c.hello()
        send(c)
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    assert s.recv(100).startswith(b"220")
    assert w.gateway.ask("reload")[0] == 0
    w.upgrade()
    c = Talker(w.port)
    c.hello()
    send(c)
    w.gateway.process.send_signal(signal.SIGTERM)
    assert w.gateway.process.wait(20 * SLOW) == 0
    assert os.path.exists(path)  # it is the supervisor's


class Supervisor:
    def __init__(self, folder):
        self.path = str(folder / "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(0.05)
        self.heard = []

    def hear(self):
        try:
            while True:
                self.heard += [(time.monotonic(), line) for line in self.sock.recv(4096).decode().split("\n")]
        except socket.timeout:
            pass
        return [line for _, line in self.heard]


def test_the_supervisor_hears_of_every_change(world, tmp_path):
    s = Supervisor(tmp_path)
    w = world(start=False)
    w.gateway.env["NOTIFY_SOCKET"] = s.path
    w.gateway.start()
    until(lambda: "READY=1" in s.hear())
    assert any(line.startswith("STATUS=generation 1, 1 listener, ") for line in s.hear())
    assert w.gateway.ask("reload")[0] == 0
    until(lambda: s.hear().count("READY=1") == 2)
    assert s.hear().index("RELOADING=1") > s.hear().index("READY=1")
    assert any(line.startswith("MONOTONIC_USEC=") for line in s.hear())
    pid = w.upgrade().pid
    until(lambda: "MAINPID=%d" % pid in s.hear())
    w.gateway.process.send_signal(signal.SIGTERM)
    until(lambda: "STOPPING=1" in s.hear())


def test_signs_of_life_stop_when_a_loop_does_not_turn(world, tmp_path):
    s = Supervisor(tmp_path)
    w = world(start=False)
    w.gateway.env.update(NOTIFY_SOCKET=s.path, WATCHDOG_USEC="600000")
    w.gateway.start()
    until(lambda: s.hear().count("WATCHDOG=1") >= 3)
    tid = thread_named(w.gateway.process.pid, "worker 0")
    with stopped(tid):
        time.sleep(1)
        s.hear()
        told = len(s.heard)
        time.sleep(1)
        assert "WATCHDOG=1" not in s.hear()[told:]
    until(lambda: "loop does not turn" in w.gateway.log())
    before = s.hear().count("WATCHDOG=1")
    until(lambda: s.hear().count("WATCHDOG=1") > before + 1)


def thread_named(pid, name):
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/comm" % (pid, tid)) as f:
            if f.read().strip() == name:
                return int(tid)
    raise AssertionError("no thread " + name)


@contextlib.contextmanager
def stopped(tid):
    """One thread of another process stands still: a loop that hangs."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(0x4206, tid, None, None) != 0:  # PTRACE_SEIZE
        pytest.skip("ptrace is not allowed here")
    libc.ptrace(0x4207, tid, None, None)  # PTRACE_INTERRUPT
    os.waitpid(tid, 0x40000000)  # __WALL
    try:
        yield
    finally:
        libc.ptrace(17, tid, None, None)  # PTRACE_DETACH
