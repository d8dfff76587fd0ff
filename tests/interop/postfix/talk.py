"""Sessions that are data, said to two servers, and what came of them: the replies, and the mail that was delivered.

A session is a list of steps:
    "TEXT"                 a line; one reply
    data(CONTENT)          DATA; behind a 354 the content as it stands, and the final dot
    bdat(CONTENT, last)    a chunk; one reply
    raw(OCTETS, n)         octets as they stand; n replies
    group(STEP, ...)       lines, bdat and raw in one write, then their replies
    TLS                    STARTTLS; behind a 220 the handshake
    ("from", ADDRESS)      in front of all others: the client's own address
Text is Latin-1: "\\xff" is that octet. A Reply says what it answers; EOF has the code 0."""
import asyncio
import collections
import re
import ssl

from gateway import SLOW

PATIENCE = 10 * SLOW
TLS = ("tls",)


def octets(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def data(content):
    return ("data", octets(content))


def bdat(content, last=True):
    content = octets(content)
    return ("raw", b"BDAT %d%s\r\n" % (len(content), b" LAST" if last else b"") + content, 1)


def raw(text, replies=1):
    return ("raw", octets(text), replies)


def group(*steps):
    lines = [raw(octets(s) + b"\r\n") if isinstance(s, (str, bytes)) else s for s in steps]
    return ("raw", b"".join(s[1] for s in lines), sum(s[2] for s in lines))


Reply = collections.namedtuple("Reply", "to code enhanced text")


class Gone(Exception):
    pass


class Client:
    def __init__(self, port):
        self.port, self.replies = port, []

    async def reply(self, to):
        text = ""
        while True:
            try:
                line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
            except (ConnectionError, ssl.SSLError):
                line = b""
            except asyncio.TimeoutError:
                self.replies.append(Reply(to, -1, "", "silence"))
                raise Gone
            if not line.endswith(b"\n"):
                self.replies.append(Reply(to, 0, "", ""))
                raise Gone
            line = line.decode("latin-1").rstrip("\r\n")
            text += line[4:] + "\n"
            if line[3:4] != "-":
                enhanced = re.match(r"[245]\.\d+\.\d+", line[4:])
                self.replies.append(Reply(to, int(line[:3]), enhanced.group(0) if enhanced else "", text))
                return self.replies[-1]

    async def say(self, what):
        try:
            self.writer.write(what)
            await self.writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass  # what it had to say may still be there to be read

    async def step(self, step):
        if isinstance(step, str):
            await self.say(octets(step) + b"\r\n")
            await self.reply(step)
        elif step[0] == "raw":
            await self.say(step[1])
            lines = step[1].decode("latin-1").split("\r\n")
            for i in range(step[2]):
                await self.reply(lines[i] if i < len(lines) else "?")
        elif step[0] == "data":
            await self.say(b"DATA\r\n")
            if (await self.reply("DATA")).code == 354:
                await self.say(step[1] + b".\r\n")
                await self.reply(".")
        elif step[0] == "tls":
            await self.say(b"STARTTLS\r\n")
            if (await self.reply("STARTTLS")).code == 220:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                await asyncio.wait_for(self.writer.start_tls(context), PATIENCE)

    async def run(self, steps):
        own = (steps[0][1], 0) if steps and isinstance(steps[0], tuple) and steps[0][0] == "from" else None
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20, local_addr=own)
        try:
            await self.reply("")
            for step in steps:
                await self.step(step)
            await self.step("QUIT")
        except Gone:
            pass
        finally:
            self.writer.close()
        return self.replies


def play(sessions, ports, at_once=32):
    """[[replies at the first port, replies at the second] for each session]"""
    async def all_of_them():
        room = asyncio.Semaphore(at_once)

        async def one(steps):
            async with room:
                return [await Client(port).run(steps) for port in ports]
        return await asyncio.gather(*[one(steps) for steps in sessions])
    return asyncio.run(all_of_them())


def queue_ids(replies):
    return [m.group(1) for r in replies for m in [re.search(r"queued as (\w+)", r.text)] if m and r.code == 250]
