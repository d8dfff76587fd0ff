"""An MTA as a milter sees it: packets said one by one, or many in one write, and what is answered."""
import socket
import struct

OFFER = dict(version=6, actions=0x1FF, protocol=0x1FFFFF)
NAMES = {"C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000, "T": 0x10000, "L": 0x80, "N": 0x40000, "B": 0x80000}  # bits of "no reply"
NOT_SENT = {"B": 0x10, "L": 0x20, "N": 0x40, "T": 0x200}


def packet(kind, *texts, data=b""):
    """Texts end with NUL; data comes behind them as it is."""
    body = kind.encode() + b"".join(t.encode("latin-1") + b"\0" for t in texts) + data
    return struct.pack(">I", len(body)) + body


def macros(of, **values):
    pairs = b"".join((k if len(k) == 1 else "{%s}" % k).encode() + b"\0" + v.encode() + b"\0" for k, v in values.items())
    return packet("D", data=of.encode() + pairs)


def connect(host="mail.example.com", ip="192.0.2.7", port=4321):
    family = "6" if ":" in ip else "4"
    return packet("C", host, data=family.encode() + struct.pack(">H", port) + ip.encode() + b"\0")


class Closed(Exception):
    pass


class Mta:
    def __init__(self, address, offer=None, patience=20):
        self.socket = socket.create_connection(address, patience) if isinstance(address, tuple) else socket.socket(socket.AF_UNIX)
        self.socket.settimeout(patience)
        if not isinstance(address, tuple):
            self.socket.connect(address)
        self.offer = dict(OFFER, **(offer or {}))
        self.actions = self.protocol = 0
        self.lists = {}

    def say(self, *packets):
        self.socket.sendall(b"".join(packets))

    def take(self, n):
        octets = b""
        while len(octets) < n:
            more = self.socket.recv(n - len(octets))
            if not more:
                raise Closed(octets)
            octets += more
        return octets

    def hear(self):
        """(kind, data) of the next packet."""
        data = self.take(struct.unpack(">I", self.take(4))[0])
        return data[:1].decode(), data[1:]

    def is_closed(self):
        try:
            return self.hear() is None
        except (Closed, ConnectionError):
            return True

    def negotiate(self):
        self.say(packet("O", data=struct.pack(">III", self.offer["version"], self.offer["actions"], self.offer["protocol"])))
        kind, data = self.hear()
        assert kind == "O"
        self.version, self.actions, self.protocol = struct.unpack(">III", data[:12])
        rest = data[12:]
        while rest:
            names, _, rest_ = rest[4:].partition(b"\0")
            self.lists[struct.unpack(">I", rest[:4])[0]] = names.decode()
            rest = rest_
        return self

    def awaits(self, kind):
        return not self.protocol & NAMES.get(kind, 0)

    def sends(self, kind):
        return not self.protocol & NOT_SENT.get(kind, 0)

    def event(self, kind, said, before=b""):
        """Says it, and gives the answer: one packet; "c" where none is due, or the event is not wanted at all."""
        if not self.sends(kind):
            return "c", b""
        self.say(before + said)
        return self.hear() if self.awaits(kind) else ("c", b"")

    def begin(self, helo="client.example.com", **about):
        self.connected = self.event("C", connect(**about), macros("C", j="mta.example.net", _="mail.example.com [192.0.2.7]", v="Test 1", daemon_addr="127.0.0.1", daemon_port="25"))
        self.greeted = self.event("H", packet("H", helo))
        return self

    def message(self, content, sender="<a@example.org>", recipients=("<b@example.net>",), size=65535):
        """One message up to its final answer: [(kind, data), ...] with all that came at the end, or at the event that ended it."""
        got = self.event("M", packet("M", sender), macros("M", i="Q1"))
        if got[0] != "c":
            return [got]
        self.told = [self.event("R", packet("R", r), macros("R", i="Q1")) for r in recipients]
        if not any(kind == "c" for kind, _ in self.told):
            self.say(packet("A"))
            return self.told
        return self.content(content, size)

    def content(self, content, size=65535):
        head, _, body = content.partition(b"\r\n\r\n")
        got = self.event("T", packet("T"))
        fields = []
        for line in head.split(b"\r\n") if head else []:
            if line[:1] in b" \t":
                fields[-1][1] += b"\n" + line
            else:
                name, _, value = line.partition(b":")
                fields.append([name, value])
        for name, value in fields:
            if got[0] == "c":
                if not self.protocol & 0x100000 and value[:1] == b" ":
                    value = value[1:]
                got = self.event("L", packet("L", name.decode("latin-1"), value.decode("latin-1")))
        if got[0] == "c":
            got = self.event("N", packet("N"), macros("N", i="Q1"))
        skipped = False
        for at in range(0, len(body), size):
            if got[0] == "c" and not skipped:
                got = self.event("B", packet("B", data=body[at:at + size]))
                if got[0] == "s":
                    got, skipped = ("c", b""), True
        if got[0] != "c":
            return [got]
        self.say(packet("E"))
        return self.final()

    def final(self):
        got = [self.hear()]
        while got[-1][0] not in "cartdy":
            got.append(self.hear())
        return [g for g in got if g[0] != "p"]

    def close(self):
        self.socket.close()


def edits(got):
    """The actions before a final answer, in words: ["m 1 Subject: x", "i 1 N: v", "b ...", "- <b@example.net>"]."""
    said = []
    for kind, data in got[:-1]:
        if kind in "mi":
            name, value = data[4:].split(b"\0")[:2]
            said.append("%s %d %s:%s" % (kind, struct.unpack(">I", data[:4])[0], name.decode("latin-1"), value.decode("latin-1")))
        elif kind == "b":
            said.append("b " + data.decode("latin-1"))
        else:
            said.append((kind + " " + data.decode("latin-1").replace("\0", " ")).strip())
    return said


def applied(got, fields, body):
    """What an MTA makes of a message by these actions: fields as [(name, value)] with CRLF folds, and the body. Its own Received is not among them."""
    fields, run = [[n, v] for n, v in fields], None
    for kind, data in got[:-1]:
        if kind == "b":
            run = (run or b"") + data
            continue
        if kind not in "mi":
            continue
        index, (name, value) = struct.unpack(">I", data[:4])[0], data[4:].split(b"\0")[:2]
        value = value.replace(b"\n", b"\r\n")
        if kind == "i":
            fields.insert(min(max(index - 1, 0), len(fields)), [name, value])
            continue
        those = [f for f in fields if f[0].lower() == name.lower()]
        assert index <= len(those), "a field that is not there"
        if value:
            those[index - 1][1] = value
        else:
            fields = [f for f in fields if f is not those[index - 1]]
    return [(n, v) for n, v in fields], body if run is None else run
