#!/usr/bin/env python3
"""drawing.py [--draw] - docs/house.svg: the rooms of proxy/ and filters/ as a staircase, and who includes whom.

Without --draw it holds the drawing true: rooms and arrows are those of the tree, files, lines and numbers of includes within a fifth
(so that a usual commit does not make it stale), and the rest is what this program draws of these figures, octet by octet. What goes up is
drawn in red; that nothing does is for floors.sh to hold."""
import collections
import glob
import os
import re
import sys
from xml.sax.saxutils import escape

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DRAWING = os.path.join(ROOT, "docs", "house.svg")
# From the top: floor, room, its colour, what lives there. A room is drawn above all that it may include.
ROOMS = [
    ("8", "cli", "#5b5f97", "commands, probe, try"),
    ("7", "process", "#6a5d9e", "main thread, workers, ports, upgrade"),
    ("6", "conf", "#7d6aa8", "the configuration, from Lua"),
    ("5", "smtp/front", "#2f6db5", "the client's side of a session"),
    ("5", "smtp/back", "#3f83c4", "backends, pool, routes, Maildir"),
    ("5", "smtp", "#5b9bd0", "what both sides know"),
    ("5", "milter", "#2b8aa6", "a front for Postfix and Sendmail"),
    ("5", "try", "#3f9fb0", "a front for saved messages"),
    ("4", "mail", "#b8811f", "a message through a chain of filters"),
    ("guests", "filters/lua", "#8a6d3b", "scripts and what they may call"),
    ("guests", "filters", "#9c8150", "the contract; access, ratelimit"),
    ("3", "store", "#5f8f4e", "counters and keys"),
    ("2", "net", "#3f8f68", "loop, streams, TLS, DNS"),
    ("1", "wire", "#2c8577", "grammars, pure"),
    ("0", "base", "#256d6b", "memory, octets, tables, log"),
]
PAPER, INK, PALE, UP = "#fbf8f1", "#2d2a26", "#736d63", "#d0342c"
LEFT, LABELS, PITCH, TOP = 58, 392, 47, 118  # pixels: where steps begin, how long the first is, how much longer each next one, where it begins

Room = collections.namedtuple("Room", "files lines")


def survey():
    """The figures of the tree: {room: Room}, {(from, to): number of includes}."""
    rooms, arrows = {}, collections.Counter()
    for top, below in (("proxy", os.path.join(ROOT, "proxy")), ("filters", ROOT)):
        for path in sorted(glob.glob("%s/%s/**/*.*" % (ROOT, top), recursive=True)):
            if not path.endswith((".c", ".h", ".def")):
                continue
            room = os.path.relpath(os.path.dirname(path), below)
            with open(path) as f:
                text = f.read()
            old = rooms.get(room, Room(0, 0))
            rooms[room] = Room(old.files + 1, old.lines + text.count("\n"))
            for include in re.findall(r'^#\s*include "([^"]+)"', text, re.M):
                to = os.path.dirname(include)
                if to not in ("", room):
                    arrows[room, to] += 1
    return {name: Room(r.files, max(100, round(r.lines, -2))) for name, r in rooms.items()}, arrows


def figures(svg):
    """Those that a drawing bears."""
    rooms = {n: Room(int(f), int(l)) for n, f, l in re.findall(r'data-room="([^"]+)" data-files="(\d+)" data-lines="(\d+)"', svg)}
    arrows = {(a, b): int(n) for a, b, n in re.findall(r'data-from="([^"]+)" data-to="([^"]+)" data-includes="(\d+)"', svg)}
    return rooms, arrows


def tint(colour, share):
    """The colour thinned with paper: share of it is left."""
    parts = [(int(colour[i:i + 2], 16), int(PAPER[i:i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join("%02x" % round(c * share + p * (1 - share)) for c, p in parts)


class Drawing:
    def __init__(self, rooms, arrows):
        self.rooms, self.arrows, self.said = rooms, arrows, []
        self.names = [name for _, name, _, _ in ROOMS]
        self.colour = {name: colour for _, name, colour, _ in ROOMS}
        self.top, self.height, y = {}, {}, TOP
        for name in self.names:
            self.top[name], self.height[name] = y, 34 + rooms[name].lines // 100 * 0.42
            y += self.height[name]
        self.bottom = y

    def say(self, text):
        self.said.append(text)

    def text(self, x, y, size, words, colour=INK, more=""):
        self.say('<text x="%g" y="%g" font-size="%g" fill="%s"%s>%s</text>' % (round(x, 1), round(y, 1), size, colour, more, escape(words)))

    def end(self, name):
        """Where its step ends."""
        return LEFT + LABELS + self.names.index(name) * PITCH

    def lane(self, name):
        """The middle of the part of its step that the one above leaves free: there arrows land."""
        return self.end(name) - PITCH / 2

    def middle(self, name):
        return self.top[name] + self.height[name] / 2 + 1

    def climbs(self, name, to):
        return self.names.index(to) < self.names.index(name)

    def steps(self):
        for _, name, colour, what in ROOMS:
            y, high = self.top[name], self.height[name]
            room = self.rooms[name]
            self.say('<g data-room="%s" data-files="%d" data-lines="%d">' % (name, *room))
            self.say('<rect x="%d" y="%g" width="%d" height="%g" fill="%s"/>' % (LEFT, round(y, 1), self.end(name) - LEFT, round(high, 1), tint(colour, 0.17)))
            self.say('<rect x="%d" y="%g" width="%d" height="2.5" fill="%s"/>' % (LEFT, round(y, 1), self.end(name) - LEFT, colour))
            y = self.middle(name)
            self.text(LEFT + 12, y - 1, 14, name, INK, ' font-weight="bold"')
            self.text(LEFT + 12, y + 12, 10.5, what, PALE)
            self.text(LEFT + LABELS - 58, y - 1, 11.5, "{:,} lines".format(room.lines), INK, ' text-anchor="end"')
            self.text(LEFT + LABELS - 58, y + 12, 10.5, "%d files" % room.files, PALE, ' text-anchor="end"')
            self.say("</g>")

    def floors(self):
        for floor in dict.fromkeys(f for f, _, _, _ in ROOMS):
            of = [(name, colour) for f, name, colour, _ in ROOMS if f == floor]
            y, end = self.top[of[0][0]], self.top[of[-1][0]] + self.height[of[-1][0]]
            self.say('<rect x="22" y="%g" width="30" height="%g" rx="4" fill="%s"/>' % (round(y, 1), round(end - y - 2, 1), of[0][1]))
            x, middle = 37, (y + end - 2) / 2
            if floor.isdigit():
                self.text(x, middle + 5, 14, floor, "#ffffff", ' text-anchor="middle" font-weight="bold"')
            else:
                self.text(x, middle + 4, 12, floor, "#ffffff", ' text-anchor="middle" font-weight="bold" transform="rotate(-90 %g %g)"' % (x, round(middle, 1)))

    def lanes(self):
        """Under each room's name a stream that grows with each room that includes it, and falls on its step; what goes up rises from below."""
        for at, name in enumerate(self.names):
            x, colour = self.lane(name), self.colour[name]
            above = [(self.middle(a), self.arrows[a, name]) for a in self.names[:at] if (a, name) in self.arrows]
            if above:
                for line, words in enumerate(reversed(name.replace("/", "/ ").split())):
                    self.text(x, TOP - 12 - 12 * line, 10, words, colour, ' text-anchor="middle" font-weight="bold"')
                self.say('<path d="M%g %dV%g" stroke="%s" stroke-dasharray="1 4" fill="none"/>' % (x, TOP - 6, round(above[0][0], 1), colour))
                total = 0
                for (y, n), (below, _) in zip(above, above[1:] + [(self.top[name] - 8, 0)]):
                    total += n
                    self.say('<path d="M%g %gV%g" stroke="%s" stroke-width="%g" fill="none"/>' % (
                        x, round(y, 1), round(below, 1), tint(colour, 0.75), round(1.4 + total * 0.1, 1)))
                wide, y = 5 + total * 0.06, self.top[name]
                self.say('<path d="M%g %gh%gL%g %gz" fill="%s"/>' % (round(x - wide, 1), round(y - 9, 1), round(2 * wide, 1), x, round(y - 0.5, 1), colour))
            below = [self.middle(a) for a in self.names[at + 1:] if (a, name) in self.arrows]
            if below:
                y = self.top[name] + 4
                self.say('<path d="M%g %gV%g" stroke="%s" stroke-width="2.5" fill="none"/>' % (x, round(below[-1], 1), round(y + 7, 1), UP))
                self.say('<path d="M%g %gh12L%g %gz" fill="%s"/>' % (x - 6, round(y + 9, 1), x, round(y, 1), UP))

    def dots(self):
        for name in self.names:
            y, used = self.middle(name), [to for to in self.names if (name, to) in self.arrows]
            right = [self.lane(to) for to in used if not self.climbs(name, to)]
            if right:
                self.say('<path d="M%g %gH%g" stroke="%s" stroke-dasharray="1 4" fill="none"/>' % (self.end(name) + 2, round(y, 1), right[-1], PALE))
            for to in used:
                x, n = self.lane(to), self.arrows[name, to]
                self.say('<g data-from="%s" data-to="%s" data-includes="%d">' % (name, to, n))
                self.say('<circle cx="%g" cy="%g" r="%g" fill="%s" stroke="%s" stroke-width="1.5"/>' % (
                    x, round(y, 1), round(7.2 + 1.25 * n ** 0.5, 1), UP if self.climbs(name, to) else self.colour[to], PAPER))
                self.text(x, y + 3.8, 10.5, str(n), "#ffffff", ' text-anchor="middle" font-weight="bold"')
                self.say("</g>")

    def svg(self):
        width, height = self.end("base") + 24, round(self.bottom) + 52
        up = sum(n for way, n in self.arrows.items() if self.climbs(*way))
        self.say('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" role="img">' % (
            width, height, width, height))
        self.say("<title>The house: rooms of Sluice, floor by floor, and which of them includes which</title>")
        self.say('<rect width="%d" height="%d" rx="10" fill="%s"/>' % (width, height, PAPER))
        self.text(22, 38, 21, "The house, as its includes draw it", INK, ' font-weight="bold"')
        self.text(22, 60, 12, "Each step is a room, the taller the more code it holds. A number is how often the room of its row includes")
        self.text(22, 77, 12, "the room on which its arrow lands. Includes may fall down the stairs; none may climb them.")
        self.steps()
        self.floors()
        self.lanes()
        self.dots()
        y = self.bottom + 29
        self.say('<circle cx="31" cy="%g" r="7" fill="%s"/>' % (round(y - 4, 1), UP if up else self.colour["base"]))
        self.text(46, y, 12, "Red climbs: %d in all" % up if up else "None climbs: tests/lint/floors.sh holds it")
        self.text(width - 24, y, 12, "{:,} lines in {} files".format(sum(r.lines for r in self.rooms.values()), sum(r.files for r in self.rooms.values())),
                  PALE, ' text-anchor="end"')
        self.say("</svg>")
        return "\n".join(self.said) + "\n"


def far(drawn, true, few):
    return abs(drawn - true) > max(few, true / 5)


def differences(drawn, true):
    """What of the drawing's figures is not so in the tree."""
    for kind, there, here in zip(("room", "arrow"), drawn, true):
        for key in sorted(set(there) | set(here)):
            what = "%s %s" % (kind, key if kind == "room" else " -> ".join(key))
            if key not in there or key not in here:
                yield what + (": not drawn" if key in here else ": is no more")
            elif kind == "room" and (far(there[key].files, here[key].files, 3) or far(there[key].lines, here[key].lines, 200)):
                yield "%s: drawn with %d files, %d lines, has %d, %d" % (what, *there[key], *here[key])
            elif kind == "arrow" and far(there[key], here[key], 3):
                yield "%s: drawn with %d includes, has %d" % (what, there[key], here[key])


def main():
    true = survey()
    strange = sorted(set(true[0]) ^ {name for _, name, _, _ in ROOMS})
    if strange:
        print("drawing: ROOMS and the tree differ: " + ", ".join(strange))
        return 1
    if sys.argv[1:] == ["--draw"]:
        with open(DRAWING, "w") as f:
            f.write(Drawing(*true).svg())
        return 0
    svg = ""
    if os.path.exists(DRAWING):
        with open(DRAWING) as f:
            svg = f.read()
    wrong = list(differences(figures(svg), true))
    if not wrong and Drawing(*figures(svg)).svg() != svg:
        wrong = ["docs/house.svg is not what is drawn here of its figures"]
    print("\n".join(wrong + ["draw it anew: tests/lint/drawing.py --draw"]) if wrong else "drawing: true")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
