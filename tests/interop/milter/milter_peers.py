"""What stands around an MTA here: a milter that says what a script says, a next hop that notes what is delivered, a client.

A script is {stage: [packet, ...]}: what the milter answers there. Stages are the kinds of the packets that the MTA sends, R2 is the second
R, O the negotiation ("actions=0x1 protocol=0x100000"). A packet is written "kind word word": see PACKETS. What has no script gets "c"."""
import socket
import struct
import threading


def text(s):
    return s.encode("utf-8").decode("unicode_escape").encode("latin-1") + b"\0"


def words(s, n):
    return [text(w) for w in (s.split(" ", n - 1) + [""] * n)[:n]]


def numbered(s):
    index, name, value = (s.split(" ", 2) + ["", ""])[:3]
    return struct.pack(">I", int(index, 0)) + text(name) + text(value)


# How the words behind the kind become data. "~" stands for the empty text of a path, values may have escapes as Python has them.
PACKETS = {
    "h": lambda s: b"".join(words(s, 2)),
    "i": numbered,
    "m": numbered,
    "b": lambda s: text(s)[:-1],
    "+": text,
    "-": text,
    "2": lambda s: b"".join(w for w in words(s, 2)),
    "e": lambda s: b"".join(w for w in words(s.replace("~", ""), 2)[:2 if " " in s else 1]),
    "q": text,
    "y": text,
}
FINAL = "cartdy4fs"
REPLIED = "CHMRTLNBEU"


def packet(s):
    kind, _, rest = s.partition(" ")
    data = kind.encode() + (PACKETS[kind](rest) if kind in PACKETS else b"")
    return struct.pack(">I", len(data)) + data


class Listener(threading.Thread):
    """Accepts at a path or on a loopback port, one thread a connection."""
    def __init__(self, path=None):
        super().__init__(daemon=True)
        self.socket = socket.create_server(path, family=socket.AF_UNIX) if path else socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self.start()

    def run(self):
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            connection.settimeout(60)
            threading.Thread(target=self.serve_quietly, args=(connection,), daemon=True).start()

    def serve_quietly(self, connection):
        with connection:
            try:
                self.serve(connection)
            except OSError:
                pass

    def stop(self):
        self.socket.close()


class Milter(Listener):
    """`heard`: the kinds of the packets of the last connection; but D, which tells nothing here."""
    def __init__(self, path):
        self.script, self.heard, self.open = {}, "", 0
        super().__init__(path)

    def play(self, script):
        self.script, self.heard = script, ""

    def negotiate(self, data):
        offered = struct.unpack(">III", data[:12])
        wanted = dict(w.split("=") for w in " ".join(self.script.get("O", [])).split())
        actions, protocol = int(wanted.get("actions", "0x1ff"), 0), int(wanted.get("protocol", "0"), 0)
        reply = b"O" + struct.pack(">III", 6, actions & offered[1], protocol & offered[2])
        return struct.pack(">I", len(reply)) + reply

    def answer(self, kind, count):
        once = kind if kind not in "RLB" or count == 1 else ""  # of these the first, unless a number is said
        script = self.script.get(kind + str(count), self.script.get(once, []))
        said = b"".join(packet(p) for p in script)
        return said if script and script[-1][0] in FINAL else said + packet("c")

    def serve(self, connection):
        stream, counts = connection.makefile("rb"), {}
        self.open += 1
        self.heard = ""
        try:
            while len(head := stream.read(4)) == 4:
                data = stream.read(struct.unpack(">I", head)[0])
                kind = data[:1].decode()
                self.heard += kind if kind != "D" else ""
                counts[kind] = counts.get(kind, 0) + 1
                if kind == "O":
                    connection.sendall(self.negotiate(data[1:]))
                elif kind in REPLIED:
                    connection.sendall(self.answer(kind, counts[kind]))
        finally:
            self.open -= 1


class Sink(Listener):
    """The next hop. `mails`: (sender and its parameters, [recipients likewise], content) in their order."""
    def __init__(self):
        self.mails = []
        super().__init__()

    def serve(self, connection):
        stream = connection.makefile("rb")
        connection.sendall(b"220 sink\r\n")
        sender, recipients = "", []
        for line in stream:
            line = line.decode("latin-1").strip()
            verb = line[:4].upper()
            if verb == "EHLO":
                connection.sendall(b"250-sink\r\n250-8BITMIME\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n")
                continue
            if verb == "MAIL":
                sender, recipients = line[10:], []
            elif verb == "RCPT":
                recipients.append(line[8:])
            elif verb == "DATA":
                connection.sendall(b"354 go\r\n")
                content = []
                for octets in iter(stream.readline, b".\r\n"):
                    content.append(octets[1:] if octets[:1] == b"." else octets)
                self.mails.append((sender, recipients, b"".join(content)))
            connection.sendall(b"221 2.0.0 bye\r\n" if verb == "QUIT" else b"250 2.0.0 ok\r\n")
            if verb == "QUIT":
                return


def reply(stream):
    lines = []
    while True:
        line = stream.readline().decode("latin-1").rstrip("\r\n")
        if not line:
            return "closed"
        lines.append(line)
        if line[3:4] != "-":
            return "\\n".join(lines)


def client(port, recipients, content, mail="MAIL FROM:<a@example.org>"):
    """One message. Returns [(command's name, reply)], up to where it could not go on."""
    said = []
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.settimeout(60)
        stream = connection.makefile("rb")

        def say(name, octets):
            try:
                if octets:
                    connection.sendall(octets + b"\r\n")
                said.append((name, reply(stream)))
            except OSError as e:
                said.append((name, "closed" if isinstance(e, ConnectionError) else "no reply"))
            return said[-1][1][:1] in "23"

        good = say("banner", b"") and say("EHLO", b"EHLO client.example.org") and say("MAIL", mail.encode())
        if good:
            taken = [say("RCPT%d" % n, b"RCPT TO:" + r.encode()) for n, r in enumerate(recipients, 1)]
            if any(taken) and say("DATA", b"DATA"):
                say("end", content + b".")
        if said[-1][1] not in ("closed", "no reply"):
            try:
                connection.sendall(b"QUIT\r\n")
                while stream.read(4096):
                    pass
            except OSError:
                pass
    return said
