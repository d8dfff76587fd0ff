"""SIGHUP: the whole new configuration or none of it; nobody who is there loses anything."""
import os
import re
import select
import signal
import socket
import threading
import time

import pytest
from gateway import SLOW, Gateway, certificate, free_port, refused, reload, rewrite
from sink import Sink, Talker, configuration


@pytest.fixture
def world():
    made = []

    class World:
        def __init__(self):
            self.sink, self.port = Sink(), free_port()
            made.append(self)

        def start(self, **kw):
            self.gateway = Gateway(self.conf(**kw), files=getattr(self, "files", None)).start()
            return self

        def conf(self, port=None, **kw):
            return configuration(port or self.port, self.sink.port, **kw)

    yield World
    for world in made:
        assert world.gateway.stop() == ""
        world.sink.close()


def script(reply):
    return 'function on.rcpt(s, m, to) return reject("550 5.7.1 %s") end' % reply


def rcpt(talker):
    assert talker.say(b"MAIL FROM:<a@x.test>").startswith(b"250")
    reply = talker.say(b"RCPT TO:<b@y.test>")
    assert talker.say(b"RSET").startswith(b"250")
    return reply


def test_sessions_end_under_the_configuration_they_began_with_and_new_ones_get_the_new(world):
    w = world()
    w.files = {"one.lua": script("one"), "two.lua": script("two")}
    w.start(chain='filter "one.lua" {}')
    old = Talker(w.port)
    old.hello()
    assert b"one" in rcpt(old)
    reload(w.gateway, w.conf(chain='filter "two.lua" {}', listen="limits = { errors = 2 }"))
    assert b"one" in rcpt(old)
    new = Talker(w.port)
    new.hello()
    assert b"two" in rcpt(new)
    assert new.say(b"JUNK").startswith(b"500") and new.reply().startswith(b"421")
    for _ in range(5):
        assert old.say(b"JUNK").startswith(b"500")
    assert b"one" in rcpt(old)


def test_the_script_itself_is_read_anew_although_its_name_has_not_changed(world):
    w = world()
    w.files = {"one.lua": script("before")}
    w.start(chain='filter "one.lua" {}')
    old = Talker(w.port)
    old.hello()
    with open(w.gateway.folder + "/one.lua", "w") as f:
        f.write(script("behind"))
    reload(w.gateway)
    new = Talker(w.port)
    new.hello()
    assert b"behind" in rcpt(new) and b"before" in rcpt(old)


def test_a_broken_configuration_changes_nothing_and_is_complained_of_at_its_line(world):
    w = world().start()
    text = w.conf() + 'limits { recipients = "many" }\nlisten "m" { "127.0.0.1:%d", backend = "nowhere" }\n' % free_port()
    line = text[:text.index("limits {")].count("\n") + 1
    reload(w.gateway, text, good=False)
    log = w.gateway.log()
    assert "sluice.lua:%d: " % line in log and "sluice.lua:%d: " % (line + 1) in log, log
    c = Talker(w.port)
    c.hello()
    assert c.begin().startswith(b"354") and c.say(b"x\r\n.").startswith(b"250")
    reload(w.gateway, "this is no configuration {", good=False)
    reload(w.gateway, w.conf())


def test_a_name_that_would_say_a_second_line_is_refused_wherever_it_stands(world):
    w = world().start()
    evil = '"x y\\r\\nMAIL FROM:<x>"'
    for kw in ({"backend": "helo = " + evil}, {"backend": "tls_name = " + evil}, {"listen": "hostname = " + evil}):
        text = w.conf(**kw)
        reload(w.gateway, text, good=False)
        line = text[:text.index(evil)].count("\n") + 1
        what = list(kw.values())[0].split()[0]
        assert re.search(r'sluice.lua:%d: .*%s.*expected a name like' % (line, what), w.gateway.log())
    Talker(w.port).hello()


def test_an_address_that_cannot_be_bound_changes_nothing(world):
    w = world().start()
    taken = socket.create_server(("127.0.0.1", 0))
    other = free_port()
    text = w.conf(listen='"127.0.0.1:%d", "127.0.0.1:%d"' % (other, taken.getsockname()[1]))
    reload(w.gateway, text, good=False)
    line = text[:text.index("listen \"l\"")].count("\n") + 1
    assert re.search(r"sluice.lua:%d: listen \\?\"l\\?\": .*127.0.0.1:%d: process %d .* listens there already" % (line, taken.getsockname()[1], os.getpid()), w.gateway.log())
    assert refused(other)
    Talker(w.port).hello()


def test_a_new_address_is_bound_and_one_that_is_gone_is_drained_and_closed(world):
    w = world().start()
    other = free_port()
    idle, busy = Talker(w.port), Talker(w.port)
    idle.hello()
    busy.hello()
    assert busy.begin().startswith(b"354")
    reload(w.gateway, w.conf(port=other))
    assert refused(w.port)
    assert idle.reply().startswith(b"421 4.3.2")
    assert busy.say(b"Subject: x\r\n\r\nx\r\n.").startswith(b"250")
    assert busy.reply().startswith(b"421 4.3.2")
    Talker(other).hello()
    reload(w.gateway, w.conf())
    Talker(w.port).hello()
    assert refused(other)


def test_an_address_that_stays_is_never_closed_not_even_for_another_listener_of_another_name(world):
    w = world().start()
    c = Talker(w.port)
    c.hello()
    reload(w.gateway, w.conf().replace('listen "l"', 'listen "other"'))
    assert c.begin().startswith(b"354") and c.say(b"x\r\n.").startswith(b"250")
    assert c.say(b"NOOP").startswith(b"250")
    Talker(w.port).hello()
    assert "no longer at" not in w.gateway.log()


def test_who_waits_for_room_is_served_when_a_reload_makes_some_and_told_when_the_address_goes(world):
    w = world().start(top="limits { connections = 1 }")
    there = Talker(w.port)
    there.hello()
    waits = [Talker(w.port) for _ in range(2)]
    reload(w.gateway, w.conf(top="limits { connections = 2 }"))
    ready = select.select([c.sock for c in waits], [], [], 20 * SLOW)[0]
    first = next(c for c in waits if c.sock in ready)
    first.hello()
    second = next(c for c in waits if c is not first)
    assert not select.select([second.sock], [], [], 0.3)[0]
    reload(w.gateway, w.conf(top="limits { connections = 2 }").replace("127.0.0.1:%d" % w.port, "127.0.0.1:%d" % free_port()))
    replies = [second.reply()]
    if replies[0].startswith(b"220"):
        replies.append(second.reply())
    assert replies[-1].startswith(b"421 4.3.2"), replies
    assert first.reply().startswith(b"421 4.3.2")


def test_what_stores_hold_is_not_lost_and_a_store_of_another_size_keeps_it_too(world):
    w = world()
    w.files = {"count.lua": 'function on.rcpt(s, m, to) local n = store():incr("k", 1, "1h")\nreturn reject("550 5.7.1 n=%d", n) end'}
    chain = 'filter "count.lua" {}'
    w.start(chain=chain)
    numbers = []
    for text in (None, w.conf(chain=chain), w.conf(chain=chain, top='store "default" { "memory", size = "2M" }')):
        if text:
            reload(w.gateway, text)
        c = Talker(w.port)
        c.hello()
        numbers.append(int(re.search(rb"n=(\d+)", rcpt(c)).group(1)))
    assert numbers == [1, 2, 3]


def test_a_rate_limit_goes_on_counting_across_a_reload(world):
    w = world()
    chain = 'filter "ratelimit" { by = "ip", limit = 3, window = "1h" }'
    w.start(chain=chain)
    heard = []
    for _ in range(5):
        c = Talker(w.port)
        c.hello()
        heard.append(c.say(b"MAIL FROM:<a@x.test>")[:1])
        reload(w.gateway)
    assert heard == [b"2", b"2", b"2", b"4", b"4"], heard


def test_other_workers_and_another_user_need_a_restart_and_are_told_so(world):
    w = world().start()
    reload(w.gateway, re.sub(r"workers\(\d+\)", "workers(7)", w.conf()))
    assert "7 need a restart" in w.gateway.log()
    Talker(w.port).hello()


def test_the_log_speaks_json_from_the_reload_on(world):
    w = world().start()
    reload(w.gateway, w.conf(top='log { format = "json" }'))
    c = Talker(w.port)
    c.hello()
    assert c.say(b"QUIT").startswith(b"221")
    deadline = time.monotonic() + 5 * SLOW
    while '"event":"conn"' not in w.gateway.log():
        assert time.monotonic() < deadline, w.gateway.log()
        time.sleep(0.02)


def test_the_worker_memory_of_old_generations_is_given_back_with_stop(world):
    w = world()
    w.files = {"m.lua": 'function on.rcpt(s, m, to) return reject("550 5.7.1 no") end'}
    w.start(chain='filter "m.lua" {}')
    held = [Talker(w.port) for _ in range(3)]
    for i, c in enumerate(held):
        c.hello()
        assert b"no" in rcpt(c)
        reload(w.gateway)
    for c in held:
        assert b"no" in rcpt(c)
        assert c.say(b"QUIT").startswith(b"221")


def test_reloads_that_come_faster_than_they_are_done_are_one(world):
    w = world().start()
    for _ in range(30):
        w.gateway.process.send_signal(signal.SIGHUP)
    reload(w.gateway)
    Talker(w.port).hello()


def test_a_unix_socket_that_is_gone_takes_its_path_along(world):
    w = world()
    w.start()
    path = w.gateway.folder + "/in"
    reload(w.gateway, w.conf(listen='"unix:%s"' % path))
    assert os.path.exists(path)
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    assert s.recv(100).startswith(b"220")
    reload(w.gateway, w.conf())
    assert not os.path.exists(path)
    s.settimeout(10 * SLOW)
    assert s.recv(100).startswith(b"421")


def test_secrets_come_from_the_supervisors_credentials(world, tmp_path):
    w = world()
    (tmp_path / "word").write_text("550 5.7.1 secret\n")
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text(open(certificate() + "/" + name).read())
    w.files = {"say.lua": 'local o = options { say = "x" } function on.rcpt(s, m, to) return reject(o.say) end'}
    top = 'tls "t" { certificate = credential "cert.pem", key = credential "key.pem" }'
    w.gateway = Gateway(w.conf(top=top, listen='tls = "t"', chain='filter "say.lua" { say = file(credential "word") }'),
                        files=w.files, env={"CREDENTIALS_DIRECTORY": str(tmp_path)}).start()
    c = Talker(w.port)
    c.hello()
    assert b"5.7.1 secret" in rcpt(c)
    reload(w.gateway, w.conf(top='tls "t" { certificate = credential "nothing" }'), good=False)
    assert re.search(r'sluice.lua:3: there is no credential \\"nothing\\": .*LoadCredential=nothing:PATH', w.gateway.log())
    reload(w.gateway, w.conf(top='hostname(credential "../word")'), good=False)
    assert 'credential: expected a name without' in w.gateway.log()


class Resolver:
    """Hears questions and answers NXDOMAIN."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port, self.heard = self.sock.getsockname()[1], 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            question, peer = self.sock.recvfrom(4096)
            self.heard += 1
            self.sock.sendto(question[:2] + b"\x81\x83" + question[4:12] + question[12:], peer)


def test_other_dns_servers_are_asked_by_new_sessions_only(world):
    w = world()
    w.files = {"ask.lua": 'function on.rcpt(s, m, to) dns.a("name.test") end'}
    chain, ask = 'filter "ask.lua" {}', 'dns { "127.0.0.1:%d" }'
    one, two = Resolver(), Resolver()
    w.start(chain=chain, top=ask % one.port)
    old = Talker(w.port)
    old.hello()
    reload(w.gateway, w.conf(chain=chain, top=ask % two.port))
    assert old.begin().startswith(b"354")
    assert one.heard and not two.heard
    before = one.heard
    new = Talker(w.port)
    new.hello()
    assert new.begin().startswith(b"354")
    assert two.heard and one.heard == before
