"""The control socket and the sub-commands that use it."""
import os
import re
import signal
import socket
import stat
import subprocess
import time

import pytest
from gateway import SLOW, Gateway, free_port, refused, rewrite
from sink import Sink, Talker, configuration


@pytest.fixture
def gateway():
    sink, port, other = Sink(), free_port(), free_port()

    def conf(extra=""):
        return ('control "control"\n' + configuration(port, sink.port)
                + 'listen "other" { "127.0.0.1:%d", backend = "b", received = false }\n%s' % (other, extra))
    gateway = Gateway(conf())
    gateway.text, gateway.port, gateway.other = conf, port, other
    gateway.start()
    yield gateway
    assert gateway.stop() == ""
    sink.close()


def talk(gateway, octets, name="control"):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20 * SLOW)
    s.connect(gateway.folder + "/" + name)
    s.sendall(octets)
    heard = b""
    while True:
        more = s.recv(65536)
        if not more:
            return heard
        heard += more


def test_status_says_who_is_there(gateway):
    held = [Talker(gateway.port) for _ in range(3)]
    for c in held:
        c.hello()
    assert held[0].begin().startswith(b"354")
    rewrite(gateway, gateway.text())
    assert gateway.ask("reload")[0] == 0
    late = Talker(gateway.other)
    late.hello()
    code, out, err = gateway.ask("status")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[1].endswith("generation 2")
    assert any("4 sessions of 10000" in line for line in lines)
    assert "generation 1 3 sessions, ending" in lines and "generation 2 1 session" in lines
    assert "listener l inet:127.0.0.1:%d open, 3 sessions" % gateway.port in lines
    assert "listener other inet:127.0.0.1:%d open, 1 session" % gateway.other in lines
    assert any(line.startswith("backend b 1 connection in use") for line in lines), out
    assert any(re.match(r"server b inet:127.0.0.1:\d+ up, \d+ connections?$", line) for line in lines), out


def test_a_reload_does_not_leave_an_ehlo_waiting_for_the_first_look_at_a_silent_backend():
    silent, port = socket.create_server(("127.0.0.1", 0)), free_port()
    gateway = Gateway('control "control"\n' + configuration(port, silent.getsockname()[1]))
    gateway.start()
    client = Talker(port)
    client.sock.settimeout(15 * SLOW)
    assert client.reply().startswith(b"220")
    client.sock.sendall(b"EHLO client.test\r\n")
    time.sleep(0.2)
    assert gateway.ask("reload")[0] == 0
    silent.close()
    assert client.reply().startswith(b"250")
    client.close()
    assert gateway.stop() == ""


def test_reload_prints_every_mistake_and_says_2(gateway):
    code, out, err = gateway.ask("reload")
    assert (code, out, err) == (0, "reloaded: generation 2\n", "")
    text = gateway.text('limits { size = "wide" }\nbackend "z" { }\n')
    rewrite(gateway, text)
    line = text[:text.index("limits")].count("\n") + 1
    code, out, err = gateway.ask("reload")
    assert code == 2 and out == ""
    assert "sluice.lua:%d: error: " % line in err and "sluice.lua:%d: error: " % (line + 1) in err
    rewrite(gateway, "listen {")
    code, out, err = gateway.ask("reload")
    assert code == 2 and "sluice.lua:1: error: " in err
    Talker(gateway.port).hello()


def test_a_listener_is_drained_while_the_rest_goes_on_and_a_reload_opens_it_again(gateway):
    here, busy, there = Talker(gateway.port), Talker(gateway.port), Talker(gateway.other)
    for c in (here, busy, there):
        c.hello()
    assert busy.begin().startswith(b"354")
    code, out, err = gateway.ask("drain", "l")
    assert code == 0 and "draining" in out
    assert refused(gateway.port)
    assert here.reply().startswith(b"421 4.3.2")
    assert busy.say(b"x\r\n.").startswith(b"250") and busy.reply().startswith(b"421 4.3.2")
    assert there.begin().startswith(b"354") and there.say(b"x\r\n.").startswith(b"250")
    assert "drained until the next reload" in gateway.ask("status")[1]
    assert gateway.ask("drain", "l")[0] == 0
    assert gateway.ask("reload")[0] == 0
    Talker(gateway.port).hello()
    assert "drained" not in gateway.ask("status")[1]


def test_all_addresses_of_a_listener_are_drained_however_many(gateway):
    hosts = ["127.0.1.%d" % i for i in range(1, 71)]
    rewrite(gateway, gateway.text('listen "many" { %s, backend = "b", received = false }\n'
                                  % ", ".join('"%s:%d"' % (host, gateway.port) for host in hosts)))
    assert gateway.ask("reload")[0] == 0
    held = [Talker(gateway.port, host) for host in hosts]
    for c in held:
        c.hello()
    assert held[-1].begin().startswith(b"354")
    assert gateway.ask("drain", "many")[0] == 0
    for c in held[:-1]:
        assert c.reply().startswith(b"421 4.3.2")
    lines = [line for line in gateway.ask("status")[1].splitlines() if line.startswith("listener many")]
    assert len(lines) == 70 and all("drained until" in line for line in lines)
    assert lines[-1].endswith(" 1 session") and lines[0].endswith(" 0 sessions")
    assert gateway.ask("drain", "many")[0] == 0
    assert held[-1].say(b"x\r\n.").startswith(b"250") and held[-1].reply().startswith(b"421 4.3.2")
    assert gateway.ask("reload")[0] == 0
    for host in (hosts[0], hosts[-1]):
        Talker(gateway.port, host).hello()


def test_a_listener_that_is_none_is_not_drained(gateway):
    code, out, err = gateway.ask("drain", "othr")
    assert code == 2 and err == 'there is no listener "othr" (did you mean "other"?)\n'
    Talker(gateway.other).hello()


def test_drain_of_everything_ends_the_process(gateway):
    c = Talker(gateway.port)
    c.hello()
    assert c.begin().startswith(b"354")
    assert gateway.ask("drain")[0] == 0
    assert refused(gateway.port) and refused(gateway.other)
    code, out, err = gateway.ask("reload")
    assert code == 1 and "draining" in err
    assert c.say(b"x\r\n.").startswith(b"250")
    assert gateway.process.wait(20 * SLOW) == 0
    assert not os.path.exists(gateway.folder + "/control")
    code, out, err = gateway.ask("status")
    assert code == 1 and "nobody answers at" in err


def test_stop_said_twice_is_at_once(gateway):
    c = Talker(gateway.port)
    c.hello()
    assert c.begin().startswith(b"354")
    assert talk(gateway, b"stop\n").startswith(b"ok\ndraining")
    assert talk(gateway, b"stop\n").startswith(b"ok\nstopping at once")
    assert gateway.process.wait(20 * SLOW) == 0


def switches(pid):
    """How often the workers' threads went to sleep: a sanitizer's own thread, which wakes by its clock, is none of them."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, task)) as f:
            status = f.read()
        if status.startswith("Name:\tworker"):
            total += int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", status).group(1))
    return total


def test_a_session_that_is_to_leave_sleeps_until_the_backend_has_answered_its_end():
    backend = socket.create_server(("127.0.0.1", 0))
    port = free_port()
    text = configuration(port, backend.getsockname()[1], backend="pool = 4, health = 0")
    g = Gateway('timeouts { drain = "200ms" }\n' + re.sub(r"workers\(\d+\)", "workers(1)", text))  # who looked has the connection
    g.start()
    client = Talker(port)
    assert client.reply().startswith(b"220")
    client.sock.sendall(b"EHLO c\r\n")
    peer = backend.accept()[0]
    peer.sendall(b"220 b\r\n")
    assert peer.recv(1000).startswith(b"EHLO")
    peer.sendall(b"250 b\r\n")
    assert client.reply().startswith(b"250")
    client.sock.sendall(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n")
    for answer in (b"250 ok\r\n", b"250 ok\r\n"):
        peer.recv(1000)
        peer.sendall(answer)
    assert client.reply().startswith(b"250") and client.reply().startswith(b"250")
    client.sock.sendall(b"DATA\r\n")
    assert peer.recv(1000) == b"DATA\r\n"
    peer.sendall(b"354 go\r\n")
    assert client.reply().startswith(b"354")
    client.sock.sendall(b"x\r\n.\r\n")
    heard = b""
    while not heard.endswith(b"\r\n.\r\n"):
        heard += peer.recv(1000)
    g.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)  # its grace is over; for two seconds more it waits for this reply
    before = switches(g.process.pid)
    time.sleep(1)
    assert switches(g.process.pid) - before < 25
    peer.sendall(b"250 2.0.0 queued\r\n")
    assert client.reply().startswith(b"250 2.0.0 queued")
    peer.close()
    assert g.stop() == ""
    backend.close()


def test_the_socket_is_the_owners_alone_and_takes_short_lines_only(gateway):
    mode = os.stat(gateway.folder + "/control").st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert talk(gateway, b"x" * 5000 + b"\n").startswith(b"no 1\nthe line is too long")
    assert talk(gateway, b"burn down\n") == b"no 2\nunknown command: reload, drain [LISTENER], status, upgrade, stop\n"
    assert talk(gateway, b"status\r\n").startswith(b"ok\n")
    assert talk(gateway, b"\n").startswith(b"no 2\n")


def test_callers_that_say_nothing_are_let_go_of_and_others_wait_for_their_place(gateway):
    silent = []
    for _ in range(8):
        s = socket.socket(socket.AF_UNIX)
        s.connect(gateway.folder + "/control")
        silent.append(s)
    began = time.monotonic()
    assert gateway.ask("status")[0] == 0
    assert 3 < time.monotonic() - began < 10 * SLOW
    Talker(gateway.port).hello()


def test_a_reload_moves_the_socket(gateway):
    rewrite(gateway, gateway.text().replace('control "control"', 'control "elsewhere"'))
    gateway.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10 * SLOW
    while os.path.exists(gateway.folder + "/control"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert talk(gateway, b"reload\n", "elsewhere") == b"ok\nreloaded: generation 3\n"


def test_who_asks_for_a_reload_that_moves_the_socket_or_removes_it_hears_the_answer(gateway):
    there = gateway.text()
    for generation, old, new in ((2, "control", "second"), (3, "second", "control"), (4, "control", "")):
        rewrite(gateway, there.replace('control "control"', 'control "%s"' % new if new else ""))
        waiting = socket.socket(socket.AF_UNIX)
        waiting.settimeout(20 * SLOW)
        waiting.connect(gateway.folder + "/" + old)  # has come in before it moves, and asks afterwards
        assert talk(gateway, b"reload\n", old) == b"ok\nreloaded: generation %d\n" % generation
        assert not os.path.exists(gateway.folder + "/" + old)
        waiting.sendall(b"status\n")
        assert waiting.recv(65536).startswith(b"ok\n")
        waiting.close()
        assert not new or talk(gateway, b"status\n", new).startswith(b"ok\n")
    rewrite(gateway, there)
    gateway.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10 * SLOW
    while not os.path.exists(gateway.folder + "/control"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert talk(gateway, b"reload\n") == b"ok\nreloaded: generation 6\n"


def test_two_processes_do_not_share_a_socket(gateway):
    second = gateway.conf + "2"
    with open(second, "w") as f:
        f.write(gateway.text().replace(str(gateway.port), str(free_port())).replace(str(gateway.other), str(free_port())))
    done = subprocess.run([gateway.binary, "run", "-c", second], capture_output=True, text=True, timeout=20 * SLOW)
    assert done.returncode == 1 and "another process answers there" in done.stderr
    assert gateway.ask("status")[0] == 0


def test_by_its_socket_the_process_is_reached_whatever_the_configuration_says_now(gateway):
    def ask(*words):
        done = subprocess.run([gateway.binary, *words], capture_output=True, text=True, timeout=60 * SLOW, env=gateway.env)
        return done.returncode, done.stdout, done.stderr
    path = gateway.folder + "/control"
    rewrite(gateway, "listen {")
    code, out, err = gateway.ask("status")
    assert code == 2 and "sluice.lua:1: error: " in err and "--socket PATH" in err
    code, out, err = ask("status", "--socket", path)
    assert code == 0 and "generation 1" in out, err
    code, out, err = ask("reload", "--socket", path)
    assert code == 2 and "sluice.lua:1: error: " in err
    rewrite(gateway, gateway.text().replace('control "control"', 'control "second"'))
    code, out, err = gateway.ask("reload")
    assert code == 1 and "nobody answers at" in err and "--socket PATH" in err
    assert ask("reload", "--socket", path) == (0, "reloaded: generation 2\n", "")
    assert gateway.ask("status")[0] == 0
    assert ask("drain", "--socket", gateway.folder + "/second", "other")[0] == 0 and refused(gateway.other)
    code, out, err = ask("status", "--socket")
    assert code == 2 and err == "sluice status: --socket needs a path\n"
    code, out, err = ask("run", "--socket", path)
    assert code == 2 and "unknown option" in err
    assert "--socket PATH" in ask("status", "--help")[1]


def test_without_a_socket_the_commands_say_what_to_do():
    sink, port = Sink(), free_port()
    gateway = Gateway(configuration(port, sink.port)).start()
    for command, hint in (("reload", "kill -HUP"), ("drain", "kill -TERM"), ("upgrade", "kill -USR2"), ("status", 'control "')):
        code, out, err = gateway.ask(command)
        assert code == 2 and "names no control socket" in err and hint in err, err
    assert gateway.stop() == ""
