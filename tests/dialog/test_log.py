"""The log as JSON: every line parses, with the keys of the other form; one line for each transaction, one for each session without."""
import json
import os
import re
import time

from gateway import ROOT, Gateway, free_port
from peers import BackendServer, Client

CONF = ('hostname "mx.test"\nworkers(%s)\nlog { format = "json" }\nbackend "b" { "%s", pool = 0 }\nchain "c" { }\n'
        'listen "l" { "127.0.0.1:%d", backend = "b", chain = "c", limits = { errors = 100 } }\n')
KEYS = {"id", "listen", "client", "port", "helo", "tls", "from", "to", "accepted", "nrcpt", "mid", "size", "verdict", "code", "reply", "backend", "qid",
        "t_total", "t_filter", "t_run", "t_backend", "t_data"}


def test_each_line_of_json_parses_and_none_is_missing():
    server, port = BackendServer(["PIPELINING", "SMTPUTF8", "8BITMIME"]), free_port()
    gateway = Gateway(CONF % (os.environ.get("SLUICE_WORKERS", "1"), server.address, port)).start()
    c = Client(port)
    for line in (None, 'EHLO "{}\\', 'MAIL FROM:<"q\\"}{,"@x.test>', "RSET", "MAIL FROM:<j\u00f6rg@x.test> SMTPUTF8", "RSET", "QUIT"):
        if line:
            c.send(line.encode() + b"\r\n")
        assert c.reply()[0] == "2", line
    c.expect_end()
    d = Client(port)
    d.reply()
    d.send(b"\xff\x01\x02\r\nQUIT\r\n")
    d.reply()
    d.close()
    deadline = time.monotonic() + 5
    while '"conn"' not in gateway.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = [json.loads(line) for line in gateway.log().splitlines()]
    server.close()
    wrong = gateway.stop()
    assert not wrong, wrong
    messages = [line for line in lines if "verdict" in line]
    assert len(messages) == 2 and all(KEYS <= set(m) for m in messages), messages
    assert messages[0]["from"] and "j\u00f6rg" in json.dumps(messages[1], ensure_ascii=False)
    assert sum("why" in line and "errors" in line for line in lines) == 1


def test_docs_name_every_key_that_is_written_and_no_other():
    written = set()
    for folder, _, names in os.walk(os.path.join(ROOT, "proxy")):
        for name in names:
            if name.endswith(".c"):
                with open(os.path.join(folder, name)) as f:
                    written |= set(re.findall(r'\blog_(?:text|angle|pieces|list|number|seconds)\("([a-z_]+)"', f.read()))
    named = keys_of_the_docs()
    assert written | {"ts", "level", "event"} == named, (written ^ named)


def keys_of_the_docs():
    with open(os.path.join(ROOT, "docs", "log.md")) as f:
        table = f.read().split("## Keys")[1]
    return set(re.findall(r"`([a-z_]+)`", "".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| `"))))


def test_no_key_of_the_log_is_a_scripts_own():
    with open(os.path.join(ROOT, "proxy", "mail", "call.c")) as f:
        own = set(re.findall(r'"([a-z_]+)"', f.read().split("own_keys[] = {")[1].split("}")[0]))
    assert own == keys_of_the_docs(), own ^ keys_of_the_docs()


SAYS = """
function on.rcpt(s, m, to)
  local many = {}
  for i = 1, 40 do many["k" .. i] = ("v"):rep(500) end
  log.info("seen", { rcpt = to, n = 1, part = 0.5, huge = math.huge, yes = true, filter = "forged", ["Foo-Bar"] = 'a "b"\\1', [7] = "seven" })
  log.info("plain")
  log.info(("m"):rep(900) .. "\\n", many)
  return reject()
end"""


def lines_of_a_script(form):
    server, port = BackendServer([]), free_port()
    conf = (CONF % ("1", server.address, port)).replace('"json"', '"%s"' % form).replace("{ }", '{ filter "says.lua" }')
    gateway = Gateway(conf, {"filters/says.lua": SAYS}).start()
    c = Client(port)
    for line in (None, "EHLO x", "MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>", "QUIT"):
        if line:
            c.send(line.encode() + b"\r\n")
        c.reply()
    c.expect_end()
    log = gateway.log()
    server.close()
    wrong = gateway.stop()
    assert not wrong, wrong
    return [line for line in log.splitlines() if "script" in line.split("filter")[0]]


def test_what_a_script_says_has_keys_of_its_own():
    seen, plain, many = lines_of_a_script("logfmt")
    assert seen.split(" filter=")[1] == 'says msg=seen 7=seven x_foo_bar="a \\"b\\"\\x01" x_filter=forged huge=inf n=1 part=0.5 rcpt=b@x.test yes=true', seen
    assert plain.endswith(" filter=says msg=plain")
    seen, plain, many = [json.loads(line) for line in lines_of_a_script("json")]
    assert (seen["n"], seen["part"], seen["huge"], seen["yes"], seen["filter"]) == (1, 0.5, "inf", "true", "says")
    assert list(plain)[-2:] == ["filter", "msg"]
    assert sum(k[0] == "k" for k in many) > 5 and len(json.dumps(many)) < 6000
