"""One real Postfix, one gateway, and each chain twice: before that Postfix as a proxy, and as its milter. The same sessions are said to
both; what comes of them is read at the next hop, octet for octet."""
import os
import re
import shutil
import subprocess
import tempfile

import probe
from chains import CHAINS, LUA, SUBMITTED
from gateway import SLUICE, Gateway, free_port
from mtas import Postfix, wait_for
from milter_peers import Sink
from talk import play, queue_ids

MAIN_CF = """smtpd_milters =
local_header_rewrite_clients =
enable_long_queue_ids = yes
smtp_line_length_limit = 0
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_hard_error_limit = 1000
smtpd_soft_error_limit = 1000
smtp_connection_cache_on_demand = no
"""
CONF = """hostname "mx.test"
workers(1)
module "%s"
backend "mta" { "127.0.0.1:%d", identity = "xclient" }
backend "own" { "127.0.0.1:%d", identity = "xclient" }
backend "held" { "127.0.0.1:%d", identity = "xclient" }
"""
OWN = " -o local_header_rewrite_clients=permit_inet_interfaces"
# Postfix' own trace field, which is the first one, and that of Sluice, which says so: nothing else goes.
TRACE = re.compile(rb"Received: from [^\n]*\n(?:[ \t][^\n]*\n)*?[ \t]by mta\.example\.net \(Postfix\) with \w+ id (\w+)[^\n]*\n(?:[ \t][^\n]*\n)*")
OURS = re.compile(rb"(?m)^Received: from [^\n]*\n(?:[ \t][^\n]*\n)*?[ \t]by mx\.test \(Sluice\) [^\n]*\n(?:[ \t][^\n]*\n)*")


def smtpd(port):
    return "127.0.0.1:%d inet n - n - 40 smtpd" % port


class House:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="sluice-fronts-")
        os.chmod(self.folder, 0o755)
        self.sink, self.gateway, self.mta, self.read = Sink(), None, None, 0
        self.ports = {name: (free_port(), free_port()) for name in CHAINS}  # of the milter's front, of the proxy's
        held, own = free_port(), free_port()
        services = ["pickup unix n - n 60 1 pickup", smtpd(own) + OWN, smtpd(held) + " -o { smtpd_client_restrictions = check_client_access static:HOLD }"]
        services += [smtpd(ports[0]) + " -o smtpd_milters=unix:%s/%s" % (self.folder, name) + OWN * (name == SUBMITTED) for name, ports in self.ports.items()]
        kind = type("Fronts", (Postfix,), {"more_cf": MAIN_CF, "more_services": services})
        try:
            self.mta = kind(self.folder, self.sink.address[1])
            conf = CONF % (probe.built(SLUICE), self.mta.port, own, held)
            for name, (_, port) in self.ports.items():
                chain = 'chain = "%s", ' % name if CHAINS[name] else ""
                if chain:
                    conf += 'chain "%s" { %s, quarantine = "held" }\n' % (name, CHAINS[name])
                conf += 'listen "l-%s" { "127.0.0.1:%d", backend = "%s", received = true, %slimits = { connections_per_client = 0, size = 0, errors = 1000 } }\n' % (
                    name, port, "own" if name == SUBMITTED else "mta", chain)
                conf += 'milter "m-%s" { "unix:%s/%s", %smode = "0666" }\n' % (name, self.folder, name, chain)
            self.gateway = Gateway(conf, LUA).start()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        if self.mta:
            self.mta.stop()
        wrong = self.gateway.stop() if self.gateway else ""
        self.sink.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not wrong, wrong

    def deliveries(self):
        """{queue id: [(sender, recipients, content)]} of all that was taken since the last look, what is held too; and the ids of that."""
        wait_for(self.mta.is_idle, 120)
        held = {os.path.basename(f) for f in self.mta.files("hold/**")}
        if held:
            for tool, words in (("postsuper", ["-H", "ALL"]), ("postqueue", ["-f"])):
                subprocess.run([tool, "-c", self.folder + "/etc"] + words, check=True, capture_output=True, timeout=60)
            wait_for(self.mta.is_idle, 120)
        found, new = {}, self.sink.mails[self.read:]
        self.read += len(new)
        for sender, recipients, content in new:
            trace = TRACE.match(content)
            assert trace, content[:500]
            found.setdefault(trace.group(1).decode(), []).append((sender, recipients, content[trace.end():]))
        return found, held

    def play(self, chain, sessions):
        """{name: (replies as a milter, replies as a proxy)}"""
        return dict(zip(sessions, play(sessions.values(), self.ports[chain], 16)))


def outcomes(replies, found, held, behind):
    """What became of each message that was taken, in their order: whether it was held, and its deliveries without trace fields."""
    told = []
    for reply in replies:
        if reply.code == 250 and (reply.to == "." or reply.to.startswith("BDAT")):
            for_it = [i for i in queue_ids([reply])]
            mails = []
            for sender, recipients, content in found.get(for_it[0], []) if for_it else []:
                content, ours = OURS.subn(b"", content)
                assert ours == behind, content[:500]
                mails.append((re.sub(r" SIZE=\d+", "", sender), sorted(recipients), content))
            told.append((bool(for_it) and for_it[0] in held, sorted(mails)))
    return told
