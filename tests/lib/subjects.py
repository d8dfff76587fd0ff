"""subjects.py: who is measured, and how each is set up. A subject listens on ports of its own on 127.0.0.1, keeps its files in a folder of its
own, and is ended by pid. `missing()` says in a word why one cannot run here."""
import os
import random
import shutil
import signal
import socket
import subprocess
import time

from gateway import ROOT

FILTERS = """filter "access" { client = { ["192.0.2.66"] = "REJECT" }, sender = { ["spam@example.com"] = "REJECT" } },
  filter "access" { recipient = { ["nobody@example.com"] = "REJECT" } },
  filter "ratelimit" { by = "ip", count = "messages", limit = 100000000, window = "1h" },
  filter "recipients.lua" { domains = { "example.net" }, allow = { "@example.net" } },
  filter "clean_headers.lua" { remove = { "X-Originating-IP" } }"""
READER = 'function on.body(s, m, chunk)\n  if chunk:find("an octet string that no message has") then return reject "554 5.7.1 found" end\nend\n'


_given = set()


def free_port():
    """Below the range that the kernel gives to clients, so none of them sits on it meanwhile."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def clock_of(pid):
    return ((~pid) << 3) | 2  # CPUCLOCK_SCHED of a process (linux/posix-timers.h)


def stat(pid):
    with open("/proc/%d/stat" % pid) as f:
        return f.read().rsplit(")", 1)[1].split()


def tree(root):
    """root and all that descend from it."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                children.setdefault(int(stat(int(name))[1]), []).append(int(name))
            except OSError:
                pass
    found, look = [], [root]
    while look:
        pid = look.pop()
        found.append(pid)
        look += children.get(pid, [])
    return found


def cpu(root):
    """Seconds of CPU of a process, of all that descend from it, and of those that ended and were waited for."""
    total = 0
    for pid in tree(root):
        try:
            fields = stat(pid)
            total += time.clock_gettime(clock_of(pid)) + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            pass
    return total


def resident(root):
    """KiB, pages that several share counted once (PSS)."""
    total = 0
    for pid in tree(root):
        with open("/proc/%d/smaps_rollup" % pid) as f:
            total += next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    return total


def wait_port(port, seconds=20):
    for _ in range(seconds * 20):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("nothing listens on port %d" % port)


def lacks(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    return "no " + ", ".join(missing) if missing else None


class Subject:
    """place: folder for files; sink: the port mail goes to; cert: folder with cert.pem, key.pem, both.pem."""
    name, tls, slow = "", None, 1  # tls: "-s", "-i" or None; slow: its loads are so many times shorter
    idle_most = 10**6

    def __init__(self, place, sink, cert):
        self.folder, self.sink, self.cert = os.path.join(place, self.name.replace(" ", "_")), sink, cert
        os.makedirs(self.folder, exist_ok=True)
        self.port, self.tls_port = free_port(), free_port()
        self.processes = []

    @classmethod
    def missing(cls):
        return None

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        return path

    def run(self, *command):
        with open(os.path.join(self.folder, "log"), "a") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder))

    def roots(self):
        return [p.pid for p in self.processes]

    def stop(self):
        for p in self.processes:
            p.send_signal(signal.SIGTERM)
        for p in self.processes:
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.processes = []


class Direct(Subject):
    name = "direct"

    def start(self):
        self.port = self.sink


class Haproxy(Subject):
    name, tls, tuned, timing = "haproxy", "-i", "", ""

    @classmethod
    def missing(cls):
        return lacks("haproxy")

    def start(self):
        conf = self.write("haproxy.cfg", """global
 nbthread 1
 maxconn 9500
 %s
defaults
 mode tcp
 %s
 timeout connect 5s
 timeout client 5m
 timeout server 5m
frontend plain
 bind 127.0.0.1:%d
 default_backend sink
frontend tls
 bind 127.0.0.1:%d ssl crt %s/both.pem
 default_backend sink
backend sink
 server s 127.0.0.1:%d
""" % (self.tuned, self.timing, self.port, self.tls_port, self.cert, self.sink))
        self.run("haproxy", "-db", "-f", conf)


class HaproxyTuned(Haproxy):
    name, tls = "haproxy tuned", None
    tuned, timing = "tune.bufsize 65536", "option tcp-smart-accept\n option tcp-smart-connect"


class Nginx(Subject):
    """The mail module, and the HTTP service that tells it where to go (counted as its own)."""
    name, tls = "nginx", "-s"

    @classmethod
    def missing(cls):
        return lacks("nginx") or (None if cls.module() else "no mail module (libnginx-mod-mail)")

    @staticmethod
    def module():
        places = "/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/libexec/nginx"
        return next((p for p in (os.path.join(d, "ngx_mail_module.so") for d in places) if os.path.exists(p)), None)

    def start(self):
        answers = free_port()
        user = "user root;" if os.geteuid() == 0 else ""
        head = "daemon off; %s worker_processes 1; worker_rlimit_nofile 20000; pid %s/%%s.pid; error_log %s/%%s.err error;\n" % (
            user, self.folder, self.folder)
        os.makedirs(os.path.join(self.folder, "logs"), exist_ok=True)
        http = self.write("http.conf", head % ("http", "http") + """events { worker_connections 4000; }
http { access_log off; keepalive_requests 1000000;
 client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;
 server { listen 127.0.0.1:%d backlog=4096; location / {
  add_header Auth-Status OK; add_header Auth-Server 127.0.0.1; add_header Auth-Port %d; return 200; } } }
""" % (answers, self.sink))
        mail = self.write("mail.conf", "load_module %s;\n" % self.module() + head % ("mail", "mail") + """events { worker_connections 19900; }
mail { server_name mx.bench; auth_http 127.0.0.1:%d/; proxy_pass_error_message on; timeout 300s;
 smtp_capabilities PIPELINING 8BITMIME "SIZE 52428800";
 ssl_certificate %s/cert.pem; ssl_certificate_key %s/key.pem; ssl_session_cache shared:m:10m;
 server { listen 127.0.0.1:%d backlog=4096; protocol smtp; smtp_auth none; xclient off; starttls on; } }
""" % (answers, self.cert, self.cert, self.port))
        self.run("nginx", "-p", self.folder, "-c", http, "-e", os.path.join(self.folder, "http.first"))
        self.run("nginx", "-p", self.folder, "-c", mail, "-e", os.path.join(self.folder, "mail.first"))


class Postfix(Subject):
    """smtpd with smtpd_proxy_filter: a private instance (contrib/postfix/private.sh)."""
    name, tls, slow, idle_most = "postfix", "-s", 5, 150
    transport = "discard"

    @classmethod
    def missing(cls):
        return lacks("postfix") or (None if os.geteuid() == 0 else "Postfix starts as root only")

    def settings(self):
        return "smtpd_proxy_filter = 127.0.0.1:%d\nsmtpd_proxy_timeout = 60s\n" % self.sink

    def start(self):
        lines = self.settings() + """smtpd_tls_security_level = may
smtpd_tls_cert_file = %s/cert.pem
smtpd_tls_key_file = %s/key.pem
smtpd_tls_loglevel = 0
smtpd_client_event_limit_exceptions = static:all
smtpd_recipient_limit = 20000
""" % (self.cert, self.cert)
        subprocess.run([os.path.join(ROOT, "contrib/postfix/private.sh"), "start", self.folder, str(self.port), "discard"], check=True,
                       env=dict(os.environ, PRIVATE_POSTFIX_CF=lines), stdout=subprocess.DEVNULL)

    def roots(self):
        with open(os.path.join(self.folder, "queue/pid/master.pid")) as f:
            return [int(f.read())]

    def stop(self):
        subprocess.run([os.path.join(ROOT, "contrib/postfix/private.sh"), "stop", self.folder], check=False, stdout=subprocess.DEVNULL)

    def queued(self):
        total = 0
        for queue in "maildrop", "incoming", "active", "deferred":
            for _, _, files in os.walk(os.path.join(self.folder, "queue", queue)):
                total += len(files)
        return total


class Mta(Postfix):
    """The same, queueing as Postfix does, and throwing away what is delivered."""
    name = "mta"

    def settings(self):
        return ""


class Haraka(Subject):
    """queue/smtp_proxy to the sink. HARAKA: a folder where `npm install Haraka` was run."""
    name, tls, slow = "haraka", "-s", 20

    @staticmethod
    def home():
        return os.path.join(os.environ.get("HARAKA", os.path.join(ROOT, "tests", "bench", "haraka")), "node_modules", "Haraka")

    @classmethod
    def missing(cls):
        return lacks("node") or (None if os.path.exists(cls.home()) else "not installed (npm install Haraka; HARAKA=its folder)")

    def start(self):
        self.write("plugins/take_all.js", "exports.hook_rcpt = (next) => next(OK)\n")
        with open(os.path.join(self.home(), "config", "connection.ini")) as f:
            said = f.read()
        lines = ["bytes=60000000" if s.startswith("bytes=") else "max_lines=1000" if s.startswith("max_lines=") else s for s in said.splitlines()]
        for name, text in (("connection.ini", "\n".join(lines)), ("host_list", "localhost"), ("me", "mx.bench"), ("loglevel", "ERROR"),
                           ("log.ini", "level=ERROR"), ("smtp.ini", "listen=127.0.0.1:%d\nnodes=0" % self.port),
                           ("smtp_proxy.ini", "host=127.0.0.1\nport=%d" % self.sink), ("plugins", "tls\ntake_all\nqueue/smtp_proxy")):
            self.write("config/" + name, text + "\n")
        os.makedirs(os.path.join(self.folder, "queue"), exist_ok=True)
        shutil.copy(self.cert + "/cert.pem", self.folder + "/config/tls_cert.pem")
        shutil.copy(self.cert + "/key.pem", self.folder + "/config/tls_key.pem")
        self.run("node", os.path.join(self.home(), "bin", "haraka"), "-c", self.folder)


class Sluice(Subject):
    name, tls, chain, workers, binary = "sluice", "-s", "", 1, os.path.join(ROOT, "build", "sluice")

    @classmethod
    def missing(cls):
        return None if os.path.exists(cls.binary) else "no %s (a Release build; --sluice)" % cls.binary

    def start(self):
        self.write("reader.lua", READER)
        conf = self.write("sluice.lua", """hostname "mx.bench"
workers(%d)
tls "t" { certificate = "%s/cert.pem", key = "%s/key.pem" }
backend "b" { "127.0.0.1:%d", pool = 64, pool_uses = 100000 }
chain "c" { %s }
limits { connections = 15000, connections_per_client = 0 }
listen "l" { "127.0.0.1:%d", tls = "t", backend = "b", chain = "c", received = false }
""" % (self.workers, self.cert, self.cert, self.sink, self.chain, self.port))
        self.run(self.binary, "run", "-c", conf)


class SluiceFilters(Sluice):
    name, chain = "sluice 5 filters", FILTERS


class SluiceReader(Sluice):
    """A Lua filter looks for a text in every octet of the body."""
    name, chain = "sluice reader", 'filter "./reader.lua" { }'


class SluiceTwo(Sluice):
    name, workers = "sluice 2 workers", 2


ALL = [Direct, Haproxy, HaproxyTuned, Nginx, Postfix, Haraka, Sluice, SluiceFilters, SluiceReader]
