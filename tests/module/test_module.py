"""A filter from outside: built against the installed header alone, loaded by the installed gateway, and driven through it.

SLUICE_BUILD_DIR names the build tree to install from (default: build/). The dialogs in tests/dialog/filters use the same
filter for everything that a conversation can show."""
import os
import re
import socket
import subprocess
import threading
import time

import gateway
import probe
import pytest
from gateway import ROOT
from peers import BackendServer, Client

BUILD = os.path.abspath(os.environ.get("SLUICE_BUILD_DIR", os.path.join(ROOT, "build")))
MINIMAL = '#include <sluice/filter.h>\n%s\nconst struct filter_def *const *sluice_filters(unsigned abi) { (void)abi; %s }\n'


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    if not os.path.exists(os.path.join(BUILD, "cmake_install.cmake")):
        pytest.skip("nothing was built in " + BUILD)
    folder = str(tmp_path_factory.mktemp("prefix"))
    done = subprocess.run(["cmake", "--install", BUILD, "--prefix", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def sluice(prefix):
    return os.path.join(prefix, "sbin", "sluice")


@pytest.fixture(scope="module")
def module(prefix, sluice):
    return probe.build(prefix + "/include", sluice, prefix + "/probe.so")


@pytest.fixture
def run(sluice, module, monkeypatch):
    """run(steps of the probe, further options): a gateway with one such filter, its backend, and a client."""
    monkeypatch.setattr(gateway, "SLUICE", sluice)
    started = []

    def start(*steps, more=""):
        server = BackendServer(["PIPELINING", "SIZE", "8BITMIME"])
        port = gateway.free_port()
        body = ", ".join('"%s"' % s for s in steps)
        gw = gateway.Gateway('workers(1)\nhostname "mx.test"\nmodule "%s"\nbackend "b" { "127.0.0.1:%d", pool = 0 }\n'
                             'chain "c" { filter "probe" { %s %s } }\nlisten "l" { "127.0.0.1:%d", received = false }\n'
                             % (module, server.port, body, more, port))
        gw.conf_text = open(gw.conf).read().replace('received', 'chain = "c", received')
        open(gw.conf, "w").write(gw.conf_text)
        started.append((gw, server))
        gw.start()
        return gw, server, Client(port)

    yield start
    for gw, server in started:
        server.close()
        assert gw.stop() == ""


def say(client, line, want):
    client.send(line.encode() + b"\r\n")
    got = client.reply()
    assert got.startswith(want), (line, got)
    return got


def test_everything_is_installed_where_it_is_looked_for(prefix):
    for path in ("sbin/sluice", "include/sluice/filter.h", "share/sluice/facts.def", "share/doc/sluice/examples/minimal.lua",
                 "share/man/man8/sluice.8", "share/man/man5/sluice-config.5", "share/man/man5/sluice-filters.5", "share/man/man7/sluice-lua.7", "etc/sluice/sluice.lua"):
        assert os.path.exists(os.path.join(prefix, path)), path
    links = 0
    docs = os.path.join(prefix, "share/doc/sluice")
    for folder, _, names in os.walk(docs):  # the pages lie as in the tree: links and names of pages hold
        for name in (n for n in names if n.endswith(".md")):
            with open(os.path.join(folder, name)) as f:
                for link in re.findall(r"(?:\]\(|`)((?:docs|scripts|filters|proxy)/[A-Za-z_]+\.md|[A-Z]+\.md)\b", f.read()):
                    links += 1
                    assert any(os.path.exists(os.path.join(d, link)) for d in (docs, folder)), (name, link)
    assert links > 5
    scripts = os.path.join(prefix, "share/sluice/scripts/filters")
    assert not os.path.exists(os.path.join(ROOT, "scripts/filters/dnsbl.lua")) or "dnsbl.lua" in os.listdir(scripts)


def test_installing_again_keeps_the_configuration(prefix):
    path = os.path.join(prefix, "etc/sluice/sluice.lua")
    with open(path, "a") as f:
        f.write("-- ours\n")
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, capture_output=True)
    assert open(path).read().endswith("-- ours\n")


def eventually(claim):
    """Lines of the log are written by a thread of their own."""
    until = time.monotonic() + 5 * gateway.SLOW
    while not claim():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)


def test_a_message_goes_through_a_filter_from_outside(run):
    gw, server, c = run("mail: store incr seen", "rcpt: work checked", "headers: add X-Probe: {client.ip}", "body: swap ao",
                        more=', flags = { "edits_body" }')
    assert c.reply().startswith("220")
    say(c, "EHLO c.test", "250")
    say(c, "MAIL FROM:<a@x.test>", "250")
    c.send(b"RCPT TO:<b@y.test>\r\n")
    b = server.take()
    assert b.line() == "MAIL FROM:<a@x.test>"
    assert b.line() == "RCPT TO:<b@y.test>"
    b.send(b"250 ok\r\n250 ok\r\n")
    assert c.reply().startswith("250")
    say(c, "DATA", "354")
    c.send(b"Subject: aaa\r\n\r\nbanana\r\n.\r\n")
    assert b.line() == "DATA"
    b.send(b"354 go\r\n")
    assert b.content() == b"Subject: aaa\r\nX-Probe: 127.0.0.1\r\n\r\nbonono\r\n"
    b.send(b"250 2.0.0 Ok\r\n")
    assert c.reply().startswith("250")
    eventually(lambda: "store ended with 1" in gw.log() and "work made CHECKED" in gw.log())


def test_a_filter_talks_to_a_service_over_a_pooled_stream(run):
    listener = socket.create_server(("127.0.0.1", 0))
    accepted = []

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            accepted.append(sock)
            threading.Thread(target=answer, args=(sock,), daemon=True).start()

    def answer(sock):
        with sock.makefile("rwb", 0) as f:
            for line in f:
                f.write(b"you said " + line)

    threading.Thread(target=serve, daemon=True).start()
    gw, _, c = run("mail: dial inet:127.0.0.1:%d from {client.ip}\\\\r\\\\n" % listener.getsockname()[1])
    c.reply()
    say(c, "EHLO c.test", "250")
    for _ in range(3):
        say(c, "MAIL FROM:<a@x.test>", "250")
        say(c, "RSET", "250")
    listener.close()
    eventually(lambda: gw.log().count("answer you said from 127.0.0.1") == 3)
    assert len(accepted) == 1


def test_start_tick_and_stop_are_called(run):
    gw, server, c = run("start: log begun", "start: timer 10", "start: count", "tick: log tick {tick.id}", "connect: count",
                        "disconnect: log left", more=', tick = "1s"')
    c.reply()
    c.close()
    for word in ("msg=begun", 'msg="tick 7"', "worker=2", "msg=left"):
        deadline = 50
        while word not in gw.log() and deadline:
            threading.Event().wait(0.1)
            deadline -= 1
        assert word in gw.log(), gw.log()
    server.close()
    gw.process.terminate()
    gw.process.wait(30)
    assert "probe stops after 2" in gw.log()


def test_a_reload_amid_a_wait_work_a_tick_and_a_kept_stream_leaves_old_sessions_their_filters(run):
    """Reloads come while a call waits for a service, while work runs on another thread, while ticks come, and with a stream that is kept: a
    session goes on with the filters it began with, a new one has the new ones, and nothing is left of the old ones at the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    gw, server, c = run("mail: work first", "rcpt: dial inet:127.0.0.1:%d rcpt\\\\r\\\\n" % listener.getsockname()[1], "data: timer 200", "data: work last",
                        "tick: work idle", "tick: timer 900", "disconnect: log left", more=", tick = \"1s\"")
    text = open(gw.conf).read()

    def answer():
        while True:
            server.used.get().rest()

    threading.Thread(target=answer, daemon=True).start()
    c.reply()
    say(c, "EHLO c.test", "250")
    c.send(b"MAIL FROM:<a@x.test>\r\n")
    gateway.reload(gw, text)
    assert c.reply().startswith("250")
    c.send(b"RCPT TO:<b@y.test>\r\n")
    service = listener.accept()[0]
    assert service.recv(100) == b"rcpt\r\n"
    gateway.reload(gw, text.replace("mail: work first", "mail: reject 550 5.7.1 by the new ones"))
    service.sendall(b"yes\r\n")
    assert c.reply().startswith("250")
    c.send(b"DATA\r\n")
    gateway.reload(gw, text.replace("mail: work first", "mail: defer 450 4.7.1 by the newest ones"))
    assert c.reply().startswith("354")
    c.send(b"Subject: s\r\n\r\nbody\r\n.\r\n")
    assert c.reply().startswith("250")
    say(c, "MAIL FROM:<a@x.test>", "250")  # of the session's own generation, still
    c.send(b"RCPT TO:<b@y.test>\r\n")
    assert service.recv(100) == b"rcpt\r\n"  # the kept stream
    service.sendall(b"yes\r\n")
    assert c.reply().startswith("250")
    new = Client(c.sock.getpeername()[1])
    new.reply()
    say(new, "EHLO c.test", "250")
    say(new, "MAIL FROM:<a@x.test>", "450 4.7.1 by the newest ones")
    new.close()
    c.close()
    eventually(lambda: gw.log().count("msg=left") == 2)
    service.close()
    listener.close()


def check(sluice, folder, text):
    path = os.path.join(str(folder), "sluice.lua")
    with open(path, "w") as f:
        f.write(text)
    return subprocess.run([sluice, "check", "-c", path], capture_output=True, text=True)


CONF = 'module "%s"\nbackend "b" { "127.0.0.1:2525" }\nchain "c" {\n  filter "probe" { %s } }\nlisten "l" { "127.0.0.1:2526", chain = "c" }\n'


def test_bad_options_are_told_at_their_line(sluice, module, tmp_path):
    done = check(sluice, tmp_path, CONF % (module, '"mial: log x", flags = { "fast" }, tikc = "1s"'))
    assert done.returncode == 2
    assert "sluice.lua:4" in done.stderr and "no such stage" in done.stderr and "no such flag" in done.stderr
    assert 'did you mean "tick"' in done.stderr


@pytest.mark.parametrize("body,want", [
    (("", "return 0;"), "has no filters for filter ABI"),
    (("static const struct filter_def d = {.size = sizeof d, .abi = 9, .name = \"probe\"};",
      "static const struct filter_def *const l[] = {&d, 0}; return l;"), "built for filter ABI 9"),
    (("static const struct filter_def d = {.size = sizeof d, .abi = 1, .name = \"probe\"};",
      "static const struct filter_def *const l[] = {&d, 0}; return l;"), "without a name or a hook"),
    (("void filter_of_the_future(void);", "filter_of_the_future(); return 0;"), "filter_of_the_future"),
    (("", "filter_http(0, 0); return 0;"), "odd.so uses filter_http, which comes in a later version"),
    (("", "filter_redis(0, 0, 0, 0); return 0;"), "uses filter_redis, which comes in a later version"),
    (("", 'filter_metric(0, METRIC_COUNT, "x", 1, 0); return 0;'), "uses filter_metric, which comes in a later version"),
    (("", "filter_parts(0, 0, 0); return 0;"), "uses filter_parts, which comes in a later version"),
    (("", "filter_part(0); return 0;"), "uses filter_part, which comes in a later version"),
    (("static enum filter_verdict hook(struct filter_call *c, enum filter_stage s) { (void)c, (void)s; return VERDICT_CONTINUE; }\n"
      "static const struct filter_def d = {.size = sizeof d, .abi = 1, .name = \"probe\", .hook = hook, .stages = 1u << FILTER_PART};",
      "static const struct filter_def *const l[] = {&d, 0}; return l;"), 'filter "probe" asks for FILTER_PART, which comes in a later version'),
])
def test_a_module_that_does_not_fit_says_why(prefix, sluice, tmp_path, body, want):
    source = tmp_path / "odd.c"
    source.write_text(MINIMAL % body)
    odd = probe.build(prefix + "/include", sluice, str(tmp_path / "odd.so"), source=str(source))
    done = check(sluice, tmp_path, CONF % (odd, ""))
    assert done.returncode == 2
    assert want in done.stderr


def test_only_the_contract_is_exported(sluice):
    names = subprocess.run(["nm", "-D", "--defined-only", sluice], capture_output=True, text=True).stdout.split("\n")
    ours = [n.split()[-1] for n in names if n and n.split()[-1].startswith(("filter_", "session_", "chain_", "pipe_"))]
    header = open(os.path.join(ROOT, "filters", "filter.h")).read()
    assert "filter_fact" in ours
    assert [n for n in ours if n not in header] == []
