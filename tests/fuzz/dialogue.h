/* dialogue.h - one side of an SMTP conversation, heard as a naive reader of RFC 5321 and 3030 hears it: commands and
 * content from one end, replies from the other, the nth reply being that to the nth command.
 *
 * Not with the gateway's code. It serves fuzz_session.c for both sides: what a client has sent and been told, what a
 * backend has heard and said. */
#ifndef TESTS_FUZZ_DIALOGUE_H
#define TESTS_FUZZ_DIALOGUE_H
#include "tests/sim/net.h"

struct unit { /* what is owed one reply */
    enum unit_kind { UNIT_BANNER, UNIT_COMMAND, UNIT_RCPT, UNIT_DATA, UNIT_AUTH, UNIT_CHUNK, UNIT_END } kind;
    unsigned code;               /* 0: none yet */
    struct letter_heard *letter; /* END: whose */
    struct octets piece;         /* CHUNK: its octets */
    char line[160];              /* of a command, its beginning */
};
struct letter_heard {
    struct octets content; /* see dialogue_content */
    size_t first, replies; /* the units of its end; LMTP: one for each rcpt */
    bool by_chunks, whole, binary, matched;
};
struct dialogue {
    struct octets said, answered; /* not yet read: by the client, by the server */
    struct unit *units;
    size_t nunits, units_room, nreplies;
    struct letter_heard **letters;
    size_t nletters;
    unsigned *codes; /* replies ahead of their commands */
    size_t codes_room;
    unsigned accepted; /* rcpts of the transaction at hand */
    bool lmtp;
    bool content, response; /* amid mail data; the next line is a response of AUTH */
    size_t chunk;           /* octets of it that are still to come */
    bool in_chunk, last;
    struct octets chunk_octets;
    bool lost;      /* a BDAT of which nobody knows where it ends: nothing behind it is looked at */
    bool bad_reply; /* the server said what is no reply */
};

void dialogue_open(struct dialogue *, bool banner);
void dialogue_close(struct dialogue *);
void dialogue_say(struct dialogue *, const void *, size_t);    /* the client */
void dialogue_answer(struct dialogue *, const void *, size_t); /* the server */
/* Reads on. The index of the first unit that is new, or nunits: none is. */
size_t dialogue_read(struct dialogue *);
/* Of chunks those that were not refused, since the transaction began: known when all before its end has been answered.
 */
const struct octets *dialogue_content(const struct dialogue *, struct letter_heard *);
/* All replies to its end are there, and are 250. */
bool dialogue_has(const struct dialogue *, const struct letter_heard *);
#endif
