"""Real MTAs in folders of their own on loopback, each with a milter port and a next hop that we give: Postfix, and Sendmail unpacked from
its packages, for it cannot be installed beside Postfix. Each is ended by its own pid file."""
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import time

from gateway import ROOT, free_port

# Where tests/run.sh unpacks Sendmail's packages; when it has not, they are unpacked there now.
UNPACKED = os.environ.get("SLUICE_SENDMAIL", os.path.join(ROOT, "build-tests-sendmail"))
SENDMAIL = UNPACKED + "/usr/libexec/sendmail/sendmail"
PACKAGES = ["sendmail-bin", "sendmail-cf"]


def wait_port(port, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as s:
                s.sendall(b"QUIT\r\n")
                while s.recv(4096):
                    pass
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def wait_for(claim, seconds=30):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.05)


class Mta:
    """In `folder`, which is empty; a milter listens at `folder`/milter. By a unix socket: Sendmail writes a packet in two pieces, and the
    second would wait for our acknowledgement of the first."""
    def __init__(self, folder, sink_port):
        self.folder, self.port, self.sink_port = folder, free_port(), sink_port
        try:
            self.start()
            wait_port(self.port)
        except BaseException:
            self.stop()
            raise

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as f:
            f.write(text)

    def files(self, *patterns):
        return [f for p in patterns for f in glob.glob(os.path.join(self.folder, "queue", p), recursive=True) if os.path.isfile(f)]

    def held(self, mark):
        """Whether a message with these octets in its envelope is held."""
        for f in self.files(self.hold):
            with open(f, "rb") as octets:
                if mark in octets.read():
                    return True
        return False


class Postfix(Mta):
    name, hold, at_once = "postfix", "hold/**", 1
    more_cf, more_services = "", ()  # lines of main.cf and master.cf that a test adds

    @staticmethod
    def lacks():
        return "" if os.geteuid() == 0 and shutil.which("postfix") else "needs root and Postfix"

    @staticmethod
    def version():
        return subprocess.run(["postconf", "-dh", "mail_version"], capture_output=True, text=True).stdout.strip()

    def start(self):
        for name in ("queue", "data", "etc"):
            os.mkdir(os.path.join(self.folder, name))
        shutil.chown(self.folder + "/data", "postfix")
        self.write("log", "")
        shutil.chown(self.folder + "/log", "postfix")
        self.write("etc/main.cf", """compatibility_level = 3.6
queue_directory = %(folder)s/queue
data_directory = %(folder)s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mta.example.net
mydestination =
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
disable_dns_lookups = yes
relayhost = [127.0.0.1]:%(sink_port)d
alias_maps =
maillog_file = %(folder)s/log
maillog_file_prefixes = %(folder)s
smtpd_milters = unix:%(folder)s/milter
milter_default_action = tempfail
milter_command_timeout = 30s
milter_content_timeout = 60s
smtpd_error_sleep_time = 0
""" % self.__dict__ + self.more_cf)
        services = ["127.0.0.1:%d inet n - n - 20 smtpd" % self.port, "qmgr unix n - n 300 1 qmgr", "postlog unix-dgram n - n - 1 postlogd",
                    "tlsmgr unix - - n 1000? 1 tlsmgr", "anvil unix - - n - 1 anvil", "cleanup unix n - n - 0 cleanup"]
        programs = {"rewrite": "trivial-rewrite", "bounce": "bounce", "defer": "bounce", "trace": "bounce", "proxymap": "proxymap",
                    "smtp": "smtp", "relay": "smtp", "error": "error", "retry": "error"}
        services += ["%s unix - - n - %s %s" % (name, "0" if program == "bounce" else "-", program) for name, program in programs.items()] + list(self.more_services)
        self.write("etc/master.cf", "\n".join(services) + "\n")
        subprocess.run(["postfix", "-c", self.folder + "/etc", "start"], check=True, capture_output=True, timeout=60)

    def is_idle(self):
        return not self.files("maildrop/**", "incoming/**", "active/**", "deferred/**")

    def stop(self):
        subprocess.run(["postfix", "-c", self.folder + "/etc", "stop"], capture_output=True, timeout=60)


def unpack_sendmail():
    """What keeps Sendmail from being there, in a few words; "": nothing."""
    if not os.path.exists(SENDMAIL):
        if os.environ.get("SLUICE_NO_INSTALL") or not shutil.which("apt-get"):
            return "Sendmail is not unpacked in %s, and may not be fetched" % UNPACKED
        os.makedirs(UNPACKED + "/packages", exist_ok=True)
        got = subprocess.run(["apt-get", "download", "-q"] + PACKAGES, cwd=UNPACKED + "/packages", capture_output=True, text=True, timeout=120)
        if got.returncode:
            return "its packages cannot be had: " + got.stderr.strip().splitlines()[-1]
        for package in glob.glob(UNPACKED + "/packages/*.deb"):
            subprocess.run(["dpkg", "-x", package, UNPACKED], check=True, timeout=60)
    lacking = re.findall(r"(\S+) => not found", subprocess.run(["ldd", SENDMAIL], capture_output=True, text=True, timeout=20).stdout)
    return "libraries are missing: " + " ".join(lacking) if lacking else ""


class Sendmail(Mta):
    name, hold, at_once = "sendmail", "hf*", 4

    @staticmethod
    def lacks():
        return unpack_sendmail() if os.geteuid() == 0 and shutil.which("m4") else "needs root and m4"

    @staticmethod
    def version():
        package = glob.glob(UNPACKED + "/packages/sendmail-bin_*.deb")[0]
        return subprocess.run(["dpkg-deb", "-f", package, "Version"], capture_output=True, text=True, timeout=20).stdout.strip()

    def start(self):
        for name in ("queue", "etc"):
            os.mkdir(os.path.join(self.folder, name), 0o700)
        for name in ("aliases", "hosts", "switch"):
            self.write("etc/" + name, "hosts files\naliases files\n" if name == "switch" else "")
        cf = UNPACKED + "/usr/share/sendmail/cf"
        self.write("etc/sendmail.mc", """include(`%(cf)s/m4/cf.m4')dnl
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `mta.example.net')dnl
define(`confDELIVERY_MODE', `interactive')dnl
define(`confPID_FILE', `%(folder)s/pid')dnl
define(`confSERVICE_SWITCH_FILE', `%(folder)s/etc/switch')dnl
define(`confHOSTS_FILE', `%(folder)s/etc/hosts')dnl
define(`QUEUE_DIR', `%(folder)s/queue')dnl
define(`ALIAS_FILE', `%(folder)s/etc/aliases')dnl
define(`STATUS_FILE', `')dnl
define(`HELP_FILE', `')dnl
define(`confCONTROL_SOCKET_NAME', `')dnl
define(`confTO_IDENT', `0')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confBAD_RCPT_THROTTLE', `0')dnl
define(`confDONT_BLAME_SENDMAIL', `TrustStickyBit')dnl
define(`confDONT_PROBE_INTERFACES', `True')dnl
define(`RELAY_MAILER_ARGS', `TCP $h %(sink_port)d')dnl
define(`ESMTP_MAILER_ARGS', `TCP $h %(sink_port)d')dnl
define(`SMART_HOST', `esmtp:[127.0.0.1]')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Port=%(port)d, Addr=127.0.0.1, Name=MTA')dnl
INPUT_MAIL_FILTER(`scripted', `S=unix:%(folder)s/milter, F=T, T=C:30s;S:30s;R:60s;E:60s')dnl
MAILER(`smtp')dnl
""" % dict(self.__dict__, cf=cf))
        made = subprocess.run(["m4", "-D_CF_DIR_=%s/" % cf, self.folder + "/etc/sendmail.mc"], check=True, capture_output=True, text=True, timeout=60)
        self.write("etc/sendmail.cf", made.stdout)
        self.log = open(self.folder + "/log", "w")
        # It sleeps for a minute when the machine has no name with a dot in it: it is given one, which nobody else sees.
        run = 'hostname mta.example.net && exec "$0" -bD -q1h "-C$1"'
        self.process = subprocess.Popen(["unshare", "--uts", "sh", "-c", run, SENDMAIL, self.folder + "/etc/sendmail.cf"],
                                        env=dict(os.environ, RES_OPTIONS="timeout:1 attempts:1"), stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, start_new_session=True)

    def is_idle(self):
        return not self.files("qf*")

    def stop(self):
        if getattr(self, "log", None):
            self.log.close()
        if getattr(self, "process", None) and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
