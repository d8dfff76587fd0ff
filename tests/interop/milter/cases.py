"""What is played: {name: (stages, message)}. A stage is written "E: packet; packet"; several are parted by " / " (milter_peers.py)."""
FIELDS = ["Subject: s", "A: 1", "B: 1", "A: 2", "C: 1", "A: 3", "From: a@example.org", "To: k@example.net", "Date: Sat, 28 Nov 2026 00:00:00 +0000",
          "Message-Id: <1@example.org>"]
BODY = "x\r\ny\r\n"
WHOLE = "\r\n".join(FIELDS) + "\r\n\r\n" + BODY
BARE = "A: 1\r\nA: 2\r\n\r\n" + BODY  # without the fields that an MTA adds
FOLDED = "Subject: s\r\nA:1\r\nA:  2\r\n\tfolded\r\n" + "\r\n".join(FIELDS[6:]) + "\r\n\r\n" + BODY
RECEIVED = "Received: from x by y; Sat, 28 Nov 2026 00:00:00 +0000\r\n" + WHOLE
CASES = {}


def add(group, *scripts, message=WHOLE):
    for script in scripts:
        name = "%s %d" % (group, sum(n.rpartition(" ")[0] == group for n in CASES) + 1)
        CASES[name] = (script if script[1:2] == ":" or script[2:3] == ":" else "E: " + script, message)


add("no edit", "c", "a", "p; p; c")
add("no edit of a message without From", "c", message=BARE)
# one field
add("add", "h N n", "h A 4", "h Received r", "h N v\\n\\tw", "h N v\\nw", "h N v\\r\\n\\tw", "h N v\\r\\nw", "h N v\\r\\tw", "h N v\\rw",
    "h N ", "h N  v",
    "h From f@example.org", "h Date d", "h Message-Id <2@example.org>", "h N v\\n", "h N v\\n\\nw", "h a:b v", "h Bcc b@example.net")
add("insert", *["i %s N n" % i for i in list(range(14)) + ["0x3fffffff"]])
add("insert of a name that is there", "i 0 A n", "i 1 A n", "i 3 A n", "i 0x3fffffff A n", "i 1 Received r", "i 0 Received r",
    "i 1 From f@example.org")
add("change", *["m %d A n" % i for i in range(5)])
add("change of one", "m 1 a n", "m 1 Subject n", "m 1 From f@example.org", "m 1 Date d", "m 1 Message-Id <2@example.org>", "m 1 Received r",
    "m 2 Received r", "m 1 N n",
    "m 0 N n", "m 1 Subject  ", "m 1 Subject   v", "m 1 Subject v\\n\\tw", "m 1 Subject v\\nw")
add("delete", *["m %d A " % i for i in range(5)])
add("delete of one", "m 1 Subject ", "m 1 From ", "m 1 Date ", "m 1 Message-Id ", "m 1 Received ", "m 1 N ", "m 1 To ")
# two and three
add("deletes", "m 1 A ; m 2 A ; m 3 A ", "m 3 A ; m 2 A ; m 1 A ", "m 1 A ; m 1 A ; m 1 A ", "m 1 A ; m 2 A ", "m 2 A ; m 1 A ",
    "m 1 A ; m 1 A ", "m 1 A ; m 3 A ",
    "m 3 A ; m 1 A ")
add("delete and change", "m 1 A ; m 2 A n", "m 2 A n; m 1 A ", "m 1 A ; m 1 A n", "m 2 A ; m 3 A n", "m 3 A n; m 2 A ",
    "m 3 A ; m 2 A n; m 1 A ", "m 2 A n; m 2 A o")
add("inserts", "i 0 N 1; i 0 N 2", "i 1 N 1; i 1 N 2", "i 1 N 1; i 2 N 2", "i 2 N 2; i 1 N 1", "i 1 N 1; i 2 N 2; i 3 N 3",
    "i 0 N 1; i 1 N 2", "i 1 N 1; i 0 N 2",
    "i 0x3fffffff N 1; i 0x3fffffff N 2", "i 0x3fffffff N 1; i 0x3fffffff N 2; i 1 N 3; i 2 N 4")
add("adds", "h N 1; h N 2", "h N 1; i 0x3fffffff N 2", "i 0x3fffffff N 1; h N 2", "h N 1; i 1 N 2", "i 1 N 1; h N 2", "h N 1; m 1 N n",
    "h N 1; m 1 N ", "h A 4; m 4 A n",
    "h A 4; m 3 A ; m 3 A n", "i 1 A 0; m 1 A n", "i 1 A 0; m 2 A n", "i 0x3fffffff A 4; m 4 A n", "i 1 N 1; m 1 N ", "m 1 A n; i 1 A 0",
    "m 1 A ; i 1 A 0", "m 1 A ; h A 4; m 3 A n")
add("deletes, then inserts", "m 3 A ; m 2 A ; m 1 A ; i 1 A n", "m 3 A ; m 1 A ; i 1 N 1; i 2 N 2; i 0x3fffffff N 3",
    "m 1 Subject ; i 1 Subject n", "m 1 Subject ; h Subject n",
    "i 1 Subject n; m 2 Subject ", "i 1 Subject n; m 1 Subject ", "m 1 Message-Id ; h Message-Id <2@example.org>", "m 1 Received ; i 1 N n",
    "m 1 From ; i 1 From f@example.org")
add("of a message without From", "h N n", "i 0 N n", "i 1 N n", "i 2 N n", "i 3 N n", "i 0x3fffffff N n", "m 1 From f@example.org",
    "m 1 Message-Id <2@example.org>", "h From f@example.org",
    "i 1 From f@example.org", "m 1 Date d", "m 2 A ; m 1 A ; i 0x3fffffff N n", message=BARE)
add("of a message with a Received", "h N n", "i 0 N n", "i 1 N n", "i 2 N n", "m 1 Received r", "m 2 Received r", "m 1 Received ", message=RECEIVED)
add("blanks", "c", "m 2 A n", "m 1 A n", "O: protocol=0x100000", "O: protocol=0x100000 / E: m 1 A n; m 2 A  n; h N n; i 1 O  o", message=FOLDED)
# body
add("body", "b z", "b z\\r\\n", "b z\\r\\n; b w\\r\\n", "b z; b w", "b z\\r; b \\nw\\r\\n", "b z\\nw\\n", "b z\\rw\\r\\n",
    "b .\\r\\nz\\r\\n", "b ", "b z\\r\\n; h N n", "h N n; b z\\r\\n",
    "b z\\r\\n; h N n; b w\\r\\n", "b z\\r\\n; p; b w\\r\\n", "b z\\r\\n; i 1 N n; m 1 A ; q why", "b \\xff\\r\\n")
# envelope: recipients are b, B2 and k; k carries the number of the case
add("recipients", "+ <c@example.net>", "+ c@example.net", "+ <b@example.net>", "+ <B@example.net>", "+ <b@EXAMPLE.net>",
    "- <b@example.net>", "- b@example.net", "- <B@example.net>",
    "- <b@EXAMPLE.net>", "- <B2@Example.net>", "- <B2@example.net>", "- <n@example.net>", "+ <c@example.net>; - <c@example.net>",
    "- <b@example.net>; + <b@example.net>",
    "- <b@example.net>; + <c@example.net>", "+ <c@example.net>; + <c@example.net>", "2 <c@example.net> NOTIFY=NEVER",
    "2 <c@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@example.net",
    "2 <c@example.net> FOO=1", "2 <c@example.net> ", "2 <b@example.net> NOTIFY=NEVER", "- <b@example.net>; - <B2@Example.net>",
    "+ <c@example.net>; r", "+ c d@example.net", "+ <>")
add("sender", "e <n@example.org>", "e n@example.org", "e <>", "e ~", "e <n@example.org> RET=HDRS ENVID=v", "e <n@example.org> SIZE=1",
    "e <n@example.org>; e <o@example.org>", "e <n@example.org>; r",
    "e <n@example.org> FOO=1")
# the order that is best for a milter server: it must be one and the same to all MTAs
add("in order", "m 3 A ; m 2 A n; m 1 A ; i 1 N 1; i 2 N 2; i 3 N 3; i 0x3fffffff O 1; i 0x3fffffff O 2",
    "m 3 A ; m 1 A ; m 1 Subject n; m 1 B ; i 0x3fffffff B2 1",
    "m 2 A n; i 1 A 0; i 0x3fffffff A 4", "m 3 A ; m 2 A ; m 1 A ; i 1 A 1; i 2 A 2; i 0x3fffffff A 3; b z\\r\\n",
    "i 1 Received r; i 2 X x; i 0x3fffffff Subject t",
    "m 1 Date d; m 1 From f@example.org; m 1 Message-Id <2@example.org>; m 1 To ",
    "- <b@example.net>; - <B2@Example.net>; + <c@example.net>; 2 <d@example.net> NOTIFY=NEVER; e <> RET=HDRS",
    "m 1 A n; i 1 N 1; b z\\r\\n; - <b@example.net>; + <c@example.net>; e <n@example.org>",
    "m 1 A n; i 1 N 1; b z\\r\\n; - <b@example.net>; + <c@example.net>; e <n@example.org>; q why",
    "O: protocol=0x100000 / E: m 3 A ; m 2 A  n; m 1 A \\tn; i 1 N  v\\n\\tw; i 0x3fffffff O  1",
    "O: protocol=0x100000 / E: m 1 Subject  ; m 1 A  ; i 1 N  ; i 0x3fffffff O ")
# verdicts
add("quarantine", "q why", "q why; r", "q why; d", "q why; a", "q why; h N n", "q ")
add("edits before a verdict", "h N n; r", "h N n; t", "h N n; d", "h N n; a", "h N n; y 554 5.7.1 no", "b z\\r\\n; r", "h N n; 4", "h N n; f")
add("texts of replies", "y 554 5.7.1 no", "y 554 no", "y 554-5.7.1 a\\r\\n554 5.7.1 b", "y 554 5.7.1 100%% a", "y 554 5.7.1 100% a",
    "y 451 4.7.1 later", "y 250 2.0.0 ok", "y 554 4.7.1 no",
    "y 421 4.7.0 go", "y 521 5.7.0 go", "y nonsense", "y 554", "y 554 5.7.1 \\xc3\\xa9")
add("not negotiated", "O: actions=0 / E: h N n", "O: actions=0 / E: b z\\r\\n", "O: actions=0 / E: - <b@example.net>",
    "O: actions=0 / E: q why", "O: actions=0x4 / E: 2 <c@example.net> NOTIFY=NEVER")
add("edits before the end", "M: h N n", "R1: + <c@example.net>", "N: h N n", "B: b z", "N: q why", "M: q why")
for stage in ["C", "H", "M", "R2", "R3", "T", "L", "N", "B", "E"]:
    add("verdict at " + stage, *["%s: %s" % (stage, v) for v in ("a", "r", "t", "d", "s", "y 550 5.7.1 no", "y 450 4.7.1 no",
    "y 421 4.7.0 no", "4", "f", "p; c")])
add("verdict s, agreed on", *["O: protocol=0x400 / %s: s" % stage for stage in "CHMRTLNBE"])
