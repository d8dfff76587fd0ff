/* mta.h - the inside of a simulated MTA: what it says, what it is owed, what it knows of the message at hand.
 *
 * mta.c says, mta_hear.c hears, mta_edits.c makes of a letter what the answers ask for and compares it with the
 * reference (letter.c). Packets are written and read by their own few lines here, not by proxy/wire. */
#ifndef SIM_MTA_H
#define SIM_MTA_H
#include "world.h"
#include "wire/milter.h"

enum { MTA_FIELDS_MOST = 48, MTA_RCPTS_MOST = RCPTS_MOST + ADDED_MOST + 2, MTA_ADDRESS = 80 };
enum phase { TO_OFFER, TO_CONNECT, TO_GREET, TO_BEGIN, TO_NAME, TO_DATA, TO_FIELDS, TO_EOH, TO_BODY, TO_END, TO_LEAVE };

struct mta {
    struct world *world;
    unsigned number;
    struct wire *wire;
    struct event act, dog;
    uint64_t delivered, looked, sent; /* octets; looked: delivered, when its patience was last at an end */
    struct {
        uint64_t end, at;
    } said[64]; /* the last packets: the octets up to each one's end, and when that was said */
    unsigned nsaid;
    struct milter_option offer, agreed;
    uint32_t needs; /* actions that the chain it came to cannot do without */
    bool lacks;     /* it does not offer what the chain needs: it is to be left */
    enum phase phase;
    struct octets unsaid; /* of packets that it has begun */
    char due;             /* kind of the packet whose answer it waits for; 0: none */
    char maybe;           /* likewise, but it has given up: the answer may come, or not */
    unsigned messages;    /* still to be sent */
    bool over, silent, half, broke, quits, leaves, refused,
        passed; /* leaves: it heard of a shutdown. refused: at connect. passed: no more is to be asked of this client */
    /* the message at hand */
    struct letter *letter; /* NULL: none */
    size_t at;             /* octets of its content that have been said */
    unsigned named;
    bool skip; /* no more of its body is wanted */
    struct octets fields[MTA_FIELDS_MOST], body;
    unsigned nfields, nrcpts;
    char rcpts[MTA_RCPTS_MOST][MTA_ADDRESS], sender[MTA_ADDRESS];
    bool quarantined;
    char edit; /* kind of the last edit that was said; 0: none */
};

/* mta.c */
void mta_soon(struct mta *);
void mta_be_patient(struct mta *);
void mta_over(struct mta *);
void mta_forget_letter(struct mta *);
bool mta_is_awaited(const struct mta *, char kind);

/* mta_hear.c */
void mta_heard(void *mta);

/* mta_edits.c */
void mta_letter_begin(struct mta *); /* fields, body, sender of the letter as they are */
void mta_edit(struct mta *, char kind, const char *data,
              size_t n);                    /* data: of the packet, n octets and a NUL of ours */
void mta_accept(struct mta *, char answer); /* the message is accepted as it stands now */

#endif
