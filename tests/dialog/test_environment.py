"""The world around a configuration: ports that others hold, certificates and their ends, files and rights, what can never act, process 1."""
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile

import pytest

from gateway import SLOW, SLUICE, Gateway, free_port, reload, without_root
from peers import BackendServer, Client

BASE = 'hostname "mx.test"\nworkers(1)\nbackend "b" { "127.0.0.1:1", health = 0 }\n'
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def folder():
    path = tempfile.mkdtemp(prefix="sluice-world-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


def check(folder, text):
    conf = folder + "/c.lua"
    with open(conf, "w") as f:
        f.write(text)
    done = subprocess.run([SLUICE, "check", "-c", conf], capture_output=True, text=True, timeout=60 * SLOW)
    return done.returncode, done.stderr


def make_certificate(folder, *key, days=30, dates=()):
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", *key, "-nodes", "-days", str(days), "-subj", "/CN=mx.test", "-addext",
                    "subjectAltName=DNS:mx.test", "-keyout", folder + "/privkey.pem", "-out", folder + "/fullchain.pem"], check=True,
                   capture_output=True)


EC, RSA = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), ("rsa:2048",)


def listening(reuse):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return s


@pytest.mark.parametrize("where,ours", [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")])
def test_a_port_that_another_process_shares_is_an_error_at_check_start_and_reload(where, ours):
    free = free_port()
    with listening(True) as s:
        s.bind((where, 0))
        s.listen(5)
        port = s.getsockname()[1]
        conf = BASE + 'listen "l" { "%s:%d", backend = "b" }\n' % (ours, port)
        good = BASE + 'listen "l" { "127.0.0.1:%d", backend = "b" }\n' % free
        g = Gateway(conf)
        code, _, said = g.ask("check")
        words = 'c.lua:4: error: listen "l": inet:%s:%d: process %d (%s) listens there already'.replace("c.lua", g.conf)
        with open("/proc/self/comm") as f:
            words = words % (ours, port, os.getpid(), f.read().strip())
        assert code == 2 and words in said, said
        done = subprocess.run([SLUICE, "run", "-c", g.conf], capture_output=True, text=True, timeout=20 * SLOW)
        assert done.returncode == 1 and words in done.stderr, done.stderr
        with open(g.conf, "w") as f:
            f.write(good)
        g.start()
        reload(g, conf, good=False)
        assert "listens there already" in g.log()
        Client(free).reply()
        reload(g, good)
        assert g.stop() == ""


def test_our_own_sockets_are_nobody_else():
    port = free_port()
    g = Gateway(BASE + 'listen "l" { "127.0.0.1:%d", backend = "b" }\n' % port).start()
    assert g.ask("check")[0] == 0
    reload(g, BASE + 'listen "l" { "127.0.0.1:%d", backend = "b" }\nlisten "all" { "0.0.0.0:%d", backend = "b" }\n' % (port, port))
    assert g.stop() == ""


def test_a_socket_that_is_bound_and_does_not_listen_takes_nobodys_clients():
    port = free_port()  # it holds one
    g = Gateway(BASE + 'listen "l" { "127.0.0.1:%d", backend = "b" }\n' % port)
    assert g.ask("check")[0] == 0
    g.start()
    assert g.stop() == ""


def test_ends_of_certificates_are_told(folder):
    make_certificate(folder + "/soon", *EC, days=3)
    make_certificate(folder + "/later", *EC, days=30)
    tls = BASE + 'tls "t" { certificate = "%s" }\nlisten "l" { "127.0.0.1:0", backend = "b", tls = "t" }\n'
    code, said = check(folder, tls % (folder + "/soon"))
    assert code == 0 and 'c.lua:4: warning: tls "t": certificate %s/soon/fullchain.pem expires on 20' % folder in said, said
    assert without_root(check(folder, tls % (folder + "/later"))[1]) == ""
    g = Gateway('control "@DIR@/control"\n' + tls % (folder + "/soon")).start()
    assert "soon/fullchain.pem expires on" in g.log()
    said = g.ask("status")[1]
    assert re.search("soon/fullchain.pem, [23] days left", said), said
    assert g.stop() == ""


def suite_of(port, name, versions, ciphers=None):
    context = ssl._create_unverified_context()
    context.maximum_version = versions
    if ciphers:
        context.set_ciphers(ciphers)
    s = socket.create_connection(("127.0.0.1", port), 10 * SLOW)
    f = s.makefile("rb")
    f.readline()
    s.sendall(b"EHLO c.test\r\n")
    while f.readline()[3:4] == b"-":
        pass
    s.sendall(b"STARTTLS\r\n")
    f.readline()
    with context.wrap_socket(s, server_hostname=name) as t:
        return t.cipher()[0], t.getpeercert(True)


def test_each_client_gets_the_kind_of_key_that_it_can_use(folder):
    make_certificate(folder + "/ec", *EC)
    make_certificate(folder + "/rsa", *RSA)
    port = free_port()
    g = Gateway(BASE + 'tls "t" { certificate = "%s/ec", { certificate = "%s/rsa" } }\nlisten "l" { "127.0.0.1:%d", backend = "b", tls = "t" }\n'
                % (folder, folder, port)).start()
    twelve, thirteen = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    rsa = suite_of(port, "mx.test", twelve, "ECDHE-RSA-AES128-GCM-SHA256")
    ec = suite_of(port, "mx.test", twelve, "ECDHE-ECDSA-AES128-GCM-SHA256")
    assert "RSA" in rsa[0] and "ECDSA" in ec[0] and rsa[1] != ec[1]
    for name in ("mx.test", "other.test", None):
        assert suite_of(port, name, thirteen)[1] == ec[1]
        assert suite_of(port, name, twelve, "ECDHE-RSA-AES128-GCM-SHA256")[1] == rsa[1]
    assert g.stop() == ""


@ROOT_ONLY
def test_check_as_root_tells_what_its_user_cannot_read(folder):
    make_certificate(folder, *EC)
    os.chmod(folder + "/privkey.pem", 0o600)
    for name, text in (("table", "a OK\n"), ("s.lua", "function on.mail(s, m) end\n")):
        with open(folder + "/" + name, "w") as f:
            f.write(text)
        os.chmod(folder + "/" + name, 0o600)
    code, said = check(folder, 'user "nobody"\n' + BASE + 'tls "t" { certificate = "%s" }\nchain "c" { filter "%s/s.lua" {}, filter "access" { '
                       'sender = "%s/table" } }\nlisten "l" { "127.0.0.1:0", backend = "b", tls = "t", chain = "c" }\n' % (folder, folder, folder))
    assert code == 0
    for path in ("key %s/privkey.pem", "script %s/s.lua", "table %s/table"):
        assert 'user "nobody" cannot read it again: %s: Permission denied' % (path % folder) in said, said
    make_certificate(folder + "/ca", *EC)
    os.chmod(folder + "/ca/fullchain.pem", 0o600)
    for name, where, block in (("listen", "l", 'tls "t" { certificate = "%s/ca", client = "optional", ca = "%s/ca/fullchain.pem" }\nlisten "l" { '
                                               '"127.0.0.1:0", backend = "b", tls = "t" }\n' % (folder, folder)),
                               ("backend", "c", 'tls "t" { ca = "%s/ca/fullchain.pem" }\nbackend "c" { "127.0.0.1:2", tls = "t" }\nlisten "l" { '
                                                '"127.0.0.1:0", backend = "c" }\n' % folder)):
        code, said = check(folder, 'user "nobody"\n' + BASE + block)
        assert code == 0 and re.search(name + ' "%s": user "nobody" cannot read it again: .*ca/fullchain.pem: Permission denied' % where, said), said


@ROOT_ONLY
def test_root_without_user_is_told_so(folder):
    text = BASE + 'listen "l" { "127.0.0.1:0", backend = "b" }\n'
    assert "c.lua: warning: it runs as root" in check(folder, text)[1]
    assert check(folder, 'user "nobody"\n' + text)[1] == ""
    g = Gateway(text).start()
    assert "level=warning event=log" in g.log() and "it runs as root" in g.log()
    assert g.stop() == ""


@pytest.mark.parametrize("what,words", [
    ('xclient = { "0.0.0.0/0" }', '"xclient" trusts the whole internet'),
    ('proxy = { "::/0" }', '"proxy" trusts the whole internet'),
    ('xforward = { "0.0.0.0/1", "128.0.0.0/1" }', '"xforward" trusts the whole internet'),
    ('chain = "user"', 'filter "ratelimit": it never acts: it counts by the user who has authenticated'),
    ('chain = "auth"', 'filter "access": it never acts: only = { auth = true }'),
    ('chain = "tls"', 'filter "access": it never acts: only = { tls = true }')])
def test_what_is_most_likely_not_meant_is_warned_of(folder, what, words):
    chains = {"user": 'filter "ratelimit" { limit = 5, window = "1h", by = "user" }',
              "auth": 'filter "access" { sender = { "x.test" }, only = { auth = true } }',
              "tls": 'filter "access" { sender = { "x.test" }, only = { tls = true } }'}
    chains = "".join('chain "%s" { %s }\n' % (name, f) for name, f in chains.items() if 'chain = "%s"' % name in what)
    code, said = check(folder, BASE + chains + 'listen "l" { "127.0.0.1:0", backend = "b", %s }\n' % what)
    assert code == 0 and words in said and without_root(said).count("\n") == 1, said


def test_a_chain_that_no_listener_names_is_warned_of(folder):
    text = BASE + 'chain "c" { filter "access" { sender = { "x.test" } } }\n'
    listen = 'listen "l" { "127.0.0.1:0", backend = "b"%s }\n'
    assert 'chain "c": no listener names it' in check(folder, text + listen % "")[1]
    assert without_root(check(folder, text + listen % ', chain = "c"')[1]) == ""


@pytest.mark.parametrize("backend,listen,circle", [
    ("127.0.0.1:%d", "127.0.0.1:%d", True), ("127.0.0.1:%d", ":%d", True), ("127.0.0.1:%d", "0.0.0.0:%d", True), ("[::1]:%d", "[::]:%d", True),
    ("127.0.0.1:%d", "127.0.0.2:%d", False), ("192.0.2.1:%d", ":%d", False), ("maildir:/tmp/%d", ":%d", False)])
def test_a_backend_that_is_its_own_listener_is_warned_of(folder, backend, listen, circle):
    port = free_port()
    code, said = check(folder, 'backend "b" { "%s" }\nlisten "l" { "%s", backend = "b" }\n' % (backend % port, listen % port))
    assert code == 0 and ("mail would go in a circle" in said) == circle, said


def test_what_is_meant_is_not_warned_of(folder):
    make_certificate(folder, *EC)
    code, said = check(folder, BASE + 'tls "t" { certificate = "%s" }\nchain "c" { filter "ratelimit" { limit = 5, window = "1h", by = "user" }, '
                       'filter "access" { sender = { "x.test" }, only = { auth = true, tls = true } } }\nlisten "l" { "127.0.0.1:0", backend = "b", '
                       'chain = "c", tls = "t", auth = "offer", xclient = { "10.0.0.0/8", "127.0.0.1" } }\n' % folder)
    assert code == 0 and without_root(said) == "", said


@ROOT_ONLY
def test_process_1_refuses_an_upgrade_that_would_end_with_it():
    if subprocess.run(["unshare", "-pf", "--mount-proc", "true"], capture_output=True).returncode:
        pytest.skip("no name spaces here")
    server, port = BackendServer(["PIPELINING"]), free_port()
    g = Gateway('control "@DIR@/control"\nhostname "mx.test"\nworkers(1)\nbackend "b" { "%s", health = 0 }\nlisten "l" { "127.0.0.1:%d", backend = "b" }\n'
                % (server.address, port), launcher=["unshare", "-pf", "--kill-child", "--mount-proc"]).start()
    code, said, err = g.ask("upgrade")
    assert code == 1 and "process 1 of a container" in said + err
    Client(port).reply()
    server.close()
    g.process.kill()
    g.process.wait()


@pytest.mark.parametrize("options,words", [
    ('client = "hash:/etc/postfix/access"', 'hash:/etc/postfix/access: a table is the path of a text file, without "hash:"'),
    ('client = { "192.0.2.1" }, on_eror = "continue"', 'unknown option "on_eror" (did you mean "on_error"?)')])
def test_habits_of_others_are_told_what_is_meant_here(folder, options, words):
    code, said = check(folder, BASE + 'chain "c" { filter "access" { %s } }\nlisten "l" { "127.0.0.1:0", backend = "b", chain = "c" }\n' % options)
    assert code == 2 and words in said, said


def test_the_mark_that_editors_put_in_front_of_utf8_is_no_mistake(folder):
    assert check(folder, "\ufeff" + BASE + 'listen "l" { "127.0.0.1:0", backend = "b" }\n')[0] == 0
