"""Started as root: another user from the start on, who may bind low ports and nothing else, before and behind an upgrade."""
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest
from gateway import SLOW, SLUICE, Gateway, certificate, free_port, rewrite
from sink import Sink, Talker, configuration

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
NOBODY = pwd.getpwnam("nobody").pw_uid


def low_port():
    for port in range(1023, 600, -1):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    pytest.skip("no low port is free")


@pytest.fixture
def gateway():
    folder = tempfile.mkdtemp(prefix="sluice-privileges-")
    os.chmod(folder, 0o755)
    shutil.copy(SLUICE, folder + "/sluice")
    sink, port = Sink(), free_port()

    def conf(*more, listen=""):
        return ('user "nobody"\ncontrol "control"\ntls "t" { certificate = "cert.pem", key = "key.pem" }\n'
                + configuration(port, sink.port, listen=", ".join(['"127.0.0.1:%d"' % p for p in more] + ([listen] if listen else []))))
    # No leak check: its tracer may not look into a process that has changed its user.
    options = re.sub(r"detect_leaks=\d", "", os.environ.get("ASAN_OPTIONS", "")) + ":detect_leaks=0"
    gateway = Gateway(conf(), binary=folder + "/sluice", env={"ASAN_OPTIONS": options})
    os.chmod(gateway.folder, 0o755)
    for name in ("cert.pem", "key.pem"):
        shutil.copy(certificate() + "/" + name, gateway.folder)
        os.chmod(gateway.folder + "/" + name, 0o644)
    gateway.text, gateway.port, gateway.left = conf, port, []
    yield gateway
    wrong = gateway.stop()
    for process in gateway.left:
        wrong += "" if process.wait(20 * SLOW) == 0 else "\nthe old one ended with %d" % process.returncode
    sink.close()
    shutil.rmtree(folder)
    assert wrong == ""


def has_only_low_ports(pid):
    with open("/proc/%d/status" % pid) as f:
        status = dict(line.split(":", 1) for line in f.read().splitlines())
    assert set(status["Uid"].split()) == {str(NOBODY)}
    assert [int(status[name], 16) for name in ("CapPrm", "CapEff")] == [1 << 10] * 2
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, tid)) as f:
            assert re.search(r"CapEff:\s*0*400$", f.read(), re.M)


def capabilities(pid):
    """Of all threads: what may be used, handed on or taken up again."""
    found = set()
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, tid)) as f:
            found.update(int(bits, 16) for bits in re.findall(r"^Cap(?:Inh|Prm|Eff|Amb):\s*(\w+)$", f.read(), re.M))
    return found


def serves(*ports):
    for port in ports:
        Talker(port).hello()


def test_low_ports_can_be_bound_by_a_reload_and_after_an_upgrade(gateway):
    gateway.start()
    has_only_low_ports(gateway.process.pid)
    first = low_port()
    rewrite(gateway, gateway.text(first))
    assert gateway.ask("reload") == (0, "reloaded: generation 2\n", "")
    serves(gateway.port, first)
    code, out, err = gateway.ask("upgrade")
    assert code == 0, err
    gateway.left.append(gateway.follow())
    has_only_low_ports(gateway.process.pid)
    second = low_port()
    rewrite(gateway, gateway.text(first, second))
    assert gateway.ask("reload") == (0, "reloaded: generation 2\n", "")
    serves(gateway.port, first, second)


def test_where_low_ports_may_not_be_kept_nothing_is(gateway):
    """As in a container that was started without that capability."""
    gateway.launcher = ["setpriv", "--bounding-set", "-net_bind_service"]
    gateway.start()
    assert "CAP_NET_BIND_SERVICE cannot be kept" in gateway.log()
    assert capabilities(gateway.process.pid) == {0}
    serves(gateway.port)
    code, out, err = gateway.ask("upgrade")
    assert code == 0, err
    gateway.left.append(gateway.follow())
    assert capabilities(gateway.process.pid) == {0}
    serves(gateway.port)


def test_a_key_that_the_user_cannot_read_again_is_told_at_the_start(gateway):
    os.mkdir(gateway.folder + "/secret", 0o700)
    rewrite(gateway, gateway.text(listen='tls = "own"')
            + 'tls "own" { certificate = "cert.pem", key = "secret/key.pem" }\n')
    shutil.copy(certificate() + "/key.pem", gateway.folder + "/secret/key.pem")
    gateway.start()
    assert re.search(r'user \\"nobody\\" cannot read it again: key .*/secret/key.pem: Permission denied', gateway.log())
    serves(gateway.port)


def test_in_the_users_folder_sockets_are_the_users_and_it_can_take_them_away_again(gateway):
    folder = gateway.folder + "/run"
    os.mkdir(folder)
    os.chown(folder, NOBODY, -1)
    gateway.arguments = ["--pid-file", folder + "/pid"]
    there = gateway.text(listen='"unix:%s/in"' % folder).replace('control "control"', 'control "run/control"')
    rewrite(gateway, there)
    gateway.start()
    for name in ("control", "in", "pid"):
        assert os.stat(folder + "/" + name).st_uid == NOBODY, name
    rewrite(gateway, gateway.text().replace('control "control"', 'control "run/other"'))
    assert subprocess.run([SLUICE, "reload", "-c", gateway.conf], capture_output=True).returncode == 1  # it is asked elsewhere
    rewrite(gateway, gateway.text().replace('control "control"', 'control "run/control"'))
    assert gateway.ask("reload")[0] == 0
    assert not os.path.exists(folder + "/in")
    rewrite(gateway, there)
    assert gateway.ask("reload")[0] == 0
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(folder + "/in")
        assert s.recv(100).startswith(b"220")
    assert gateway.ask("upgrade")[0] == 0
    gateway.left.append(gateway.follow())
    assert int(open(folder + "/pid").read()) == gateway.process.pid
    assert gateway.left[0].wait(20 * SLOW) == 0
    gateway.left.clear()
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(20 * SLOW) == 0
    assert os.listdir(folder) == []


def test_a_folder_that_is_missing_is_made_for_the_user(gateway):
    rewrite(gateway, gateway.text().replace('control "control"', 'control "%s/made/control"' % gateway.folder))
    gateway.start()
    assert os.stat(gateway.folder + "/made").st_uid == os.stat(gateway.folder + "/made/control").st_uid == NOBODY
    assert gateway.ask("status")[0] == 0
