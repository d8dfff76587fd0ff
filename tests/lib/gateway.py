"""A gateway of one's own for a test: configuration in a private folder, loopback ports, stopped by its pid."""
import collections
import ctypes
import functools
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SLUICE = os.environ.get("SLUICE", os.path.join(ROOT, "build", "sluice"))
WORKERS = os.environ.get("SLUICE_WORKERS", "1")
SLOW = float(os.environ.get("SLUICE_SLOW", "1"))  # all patience times this (sanitizers)


_held = collections.deque(maxlen=300)


def free_port():
    """A port nobody else is given: it stays bound, without listening, until three hundred others have been asked for. Gateways share
    their ports (SO_REUSEPORT), so two tests with the same one would divide their clients among them."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that who looks for a listening socket there meets none
    s.bind(("127.0.0.1", 0))
    _held.append(s)
    return s.getsockname()[1]


@functools.lru_cache(maxsize=None)
def sanitized():
    """A sanitizer keeps what was freed: memory says little then."""
    with open(SLUICE, "rb") as f:
        octets = f.read()
    return b"__asan_init" in octets or b"__tsan_init" in octets


def without_root(stderr):
    """What `check` says but for the warning that tests which run as root get."""
    return "".join(line for line in stderr.splitlines(True) if "warning: it runs as root" not in line)


_certificates = {}


def certificate(name="localhost"):
    """Folder with cert.pem and key.pem for that name, made once per process. It is its own authority."""
    if name not in _certificates:
        folder = tempfile.mkdtemp(prefix="sluice-cert-")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                        "-subj", "/CN=" + name, "-addext",
                        "subjectAltName=DNS:" + name + (",IP:127.0.0.1" if name == "localhost" else ""),
                        "-keyout", folder + "/key.pem", "-out", folder + "/cert.pem"], check=True, capture_output=True)
        _certificates[name] = folder
    return _certificates[name]


ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: a gateway that another one started becomes our child when that one ends


class Orphan:
    """A process that a gateway started, as far as Popen's likeness is needed."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            except ChildProcessError:  # not ours yet: it lives as long as /proc says so
                try:
                    with open("/proc/%d/stat" % self.pid) as f:
                        if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                            self.returncode = 0
                except FileNotFoundError:
                    self.returncode = 0
        return self.returncode

    def wait(self, seconds):
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("sluice", seconds)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Gateway:
    def __init__(self, conf, files=None, env=None, ready_port=None, limit=None, binary=None, launcher=()):
        self.folder = tempfile.mkdtemp(prefix="sluice-test-")
        self.conf = os.path.join(self.folder, "sluice.lua")
        for name, text in (files or {}).items():
            path = os.path.join(self.folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as f:
                f.write(text.replace("@DIR@", self.folder))
        with open(self.conf, "w") as f:
            f.write(conf.replace("@DIR@", self.folder))
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        self.env = dict(os.environ, **(env or {}))
        self.ready_port = ready_port
        self.binary, self.launcher, self.arguments = binary or SLUICE, list(launcher), []
        self.limit = limit  # (resource, value): what the process may use

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.launcher + [self.binary, "run", "-c", self.conf] + self.arguments, stdout=log, stderr=log,
                                            env=self.env, restore_signals=not self.limit, preexec_fn=self.limited if self.limit else None)
        deadline = time.monotonic() + 20 * SLOW
        while " runs with " not in self.written():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("the gateway did not start:\n" + self.log())
            time.sleep(0.02)
        return self

    def limited(self):
        resource.setrlimit(self.limit[0], (self.limit[1], self.limit[1]))

    def ask(self, *words):
        """A sub-command for the running process: (code, stdout, stderr)."""
        done = subprocess.run([self.binary, words[0], "-c", self.conf, *words[1:]], capture_output=True, text=True,
                              timeout=60 * SLOW, env=self.env)
        return done.returncode, done.stdout, done.stderr

    def follow(self):
        """After an upgrade: the process that runs now is ours to watch. Gives the one that leaves."""
        old = self.process
        self.process = Orphan(int(re.findall(r"upgrade: process (\d+) runs", self.log())[-1]))
        return old

    def log(self):
        """All that it has logged up to now: lines are written up to 50 ms later."""
        time.sleep(0.07 + 0.05 * SLOW)
        return self.written()

    def written(self):
        try:
            with open(self.log_path, "r", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def rss(self):
        """Resident memory in KiB."""
        with open("/proc/%d/status" % self.process.pid) as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0

    def stop(self, grace=15):
        """Ends it; returns what is wrong with how it ended ("" is well)."""
        wrong = ""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(0.7)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGTERM)  # at once
                try:
                    self.process.wait(grace * SLOW)
                except subprocess.TimeoutExpired:
                    wrong = "did not end after SIGTERM"
                    self.process.kill()
                    self.process.wait()
        if self.process.returncode != 0 and not wrong:
            wrong = "ended with %d" % self.process.returncode
        log = self.log()
        for word in ("Sanitizer", "runtime error", "sluice: bug"):
            if word in log:
                wrong += "\n" + log[max(0, log.index(word) - 200):][:6000]
                break
        shutil.rmtree(self.folder, ignore_errors=True)
        return wrong


def wait_port(port, seconds=10):
    deadline = time.monotonic() + seconds * SLOW
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


def rewrite(gateway, text):
    """Another configuration, put there whole."""
    with open(gateway.conf + ".new", "w") as f:
        f.write(text.replace("@DIR@", gateway.folder))
    os.rename(gateway.conf + ".new", gateway.conf)


def reload(gateway, text=None, good=True):
    """SIGHUP; back when it is done (good) or refused."""
    if text is not None:
        rewrite(gateway, text)
    word = "reloaded: generation" if good else "not reloaded:"
    before = gateway.log().count(word)
    gateway.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20 * SLOW
    while gateway.written().count(word) == before:
        assert gateway.process.poll() is None and time.monotonic() < deadline, gateway.log()
        time.sleep(0.01)


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return False
    except ConnectionRefusedError:
        return True
