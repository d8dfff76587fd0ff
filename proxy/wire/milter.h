/* milter.h - the packets of the milter protocol, versions 2 to 6, both directions. Pure, restartable.
 *
 * A packet is a length (32 bits, big-endian; it counts the kind and the data), one octet that is its kind, and its data. The table in
 * milter.c says what data each kind has. The order of packets is not checked here but by the state machine of each side. */
#ifndef WIRE_MILTER_H
#define WIRE_MILTER_H
#include "base/pipe.h"

enum {
    MILTER_VERSION = 6,
    MILTER_DATA_MOST = 65535,       /* octets of data (the kind not counted) in a packet we write: libmilter takes no more */
    MILTER_BODY_MOST = 1024 * 1024, /* for milter_reader */
    MILTER_OTHER_MOST = 256 * 1024,
    MILTER_LINES = 32,              /* most lines of a reply 'y' */
    MILTER_LINE_MOST = 980,         /* most octets of a line of 'y' that we write, as in libmilter */
};

/* The two bit masks in 'O': which edits a filter may ask for, and which events it wants. */
enum milter_action {
    MILTER_ADDHDRS = 0x001, /* 'h' and 'i' */
    MILTER_CHGBODY = 0x002,
    MILTER_ADDRCPT = 0x004,
    MILTER_DELRCPT = 0x008,
    MILTER_CHGHDRS = 0x010,
    MILTER_QUARANTINE = 0x020,
    MILTER_CHGFROM = 0x040,
    MILTER_ADDRCPT_PAR = 0x080,
    MILTER_SETSYMLIST = 0x100, /* its 'O' has lists of macros */
};
enum milter_step {
    MILTER_NOCONNECT = 0x000001, /* NO...: this event is not sent */
    MILTER_NOHELO = 0x000002,
    MILTER_NOMAIL = 0x000004,
    MILTER_NORCPT = 0x000008,
    MILTER_NOBODY = 0x000010,
    MILTER_NOHDRS = 0x000020,
    MILTER_NOEOH = 0x000040,
    MILTER_NR_HDR = 0x000080, /* NR_...: this event is sent and gets no reply */
    MILTER_NOUNKNOWN = 0x000100,
    MILTER_NODATA = 0x000200,
    MILTER_SKIP = 0x000400,     /* the reply 's' is supported */
    MILTER_RCPT_REJ = 0x000800, /* recipients that the MTA refused are sent too */
    MILTER_NR_CONN = 0x001000,
    MILTER_NR_HELO = 0x002000,
    MILTER_NR_MAIL = 0x004000,
    MILTER_NR_RCPT = 0x008000,
    MILTER_NR_DATA = 0x010000,
    MILTER_NR_UNKN = 0x020000,
    MILTER_NR_EOH = 0x040000,
    MILTER_NR_BODY = 0x080000,
    MILTER_HDR_LEADSPC = 0x100000, /* values of fields include the space after the colon */
};
extern const struct milter_bit {
    const char *name;
    uint32_t bit;
} milter_actions[], milter_steps[]; /* the names of these bits, for logs; the last entry has the name NULL */

enum milter_side { MILTER_FROM_MTA, MILTER_FROM_FILTER };

enum milter_fault {
    MILTER_GOOD,
#define FAULT(name, text) MILTER_##name,
#include "wire/milter_faults.def"
#undef FAULT
    MILTER_FAULTS
};

/* The numbers of the macro lists in 'O'; the protocol has EOM before EOH. */
enum milter_where {
    MILTER_AT_CONNECT,
    MILTER_AT_HELO,
    MILTER_AT_MAIL,
    MILTER_AT_RCPT,
    MILTER_AT_DATA,
    MILTER_AT_EOM,
    MILTER_AT_EOH,
    MILTER_WHERES
};

struct milter_option {
    uint32_t version, actions, protocol;
    struct str lists[MILTER_WHERES]; /* names separated by spaces or commas; STR_NONE: no such list */
};

/* A packet that was read or is to be written. The kind determines which members are used; the others are zero after reading, and ignored
 * when writing. Texts that were read are views into the parsed octets, without their NUL. Texts to be written need no NUL; STR_NONE is an
 * empty text, or an absent one where the kind allows that.
 *   kind   members
 *   O      option
 *   D      of (the kind of the command it comes before, any octet), rest: names and values
 *   C      name: host; of: family 'U' 'L' '4' '6'; port, value: address. Family U may be without these two: value.at NULL
 *   H      name
 *   M R    name: path as typed; rest: its parameters
 *   L h    name, value: a field
 *   i m    index, name, value: the same
 *   B b E  rest: octets
 *   U      value: the command line
 *   y q    value: the reply (see milter_reply_pack), the reason
 *   + -    name: path
 *   2 e    name: path; value: its parameters in one text; at NULL: none
 *   T N A Q K, c a r t d p s 4 f: nothing */
struct milter_packet {
    char kind, of;
    uint16_t port;
    uint32_t index;
    struct str name, value;
    struct str rest; /* a sequence of texts, each with its NUL (milter_next); or octets */
    struct milter_option option;
};

struct milter_reader {
    enum milter_side side; /* which side sends the packets */
    size_t most_body;      /* octets of data taken in B and b; usually MILTER_BODY_MOST */
    size_t most_other;     /* and in any other kind; usually MILTER_OTHER_MOST */
};

enum milter_took { MILTER_MORE, MILTER_PACKET, MILTER_BROKEN };

/* Parses the packet at the head of `held` without removing it: the caller drops *whole octets when it has handled the packet.
 * PACKET: *whole is the length of the packet in octets, its length field included.
 * MORE: *whole is how many octets the caller must have before the next call is useful; its pipe must have room for them.
 * BROKEN: *fault says why, *whole is the length as far as it is known, and the packet has its kind (0 if the length was invalid for every
 * kind); the connection must be closed. It is returned as early as possible.
 * The result does not depend on how the octets were divided. No memory is allocated for a length. *fault is GOOD except after BROKEN. */
enum milter_took milter_parse(const struct milter_reader *, struct str held, struct milter_packet *, size_t *whole,
                              enum milter_fault *);
/* The same for a pipe. A packet that spans several blocks is copied into the arena `flat`; its texts are valid until the packet is dropped
 * from the pipe or `flat` is reset, whichever is first. */
enum milter_took milter_read(const struct milter_reader *, struct pipe *, struct arena *flat, struct milter_packet *,
                             size_t *whole, enum milter_fault *);
/* A sentence for the log: "a packet of kind 'm' (41 octets) lacks the NUL of a text". `whole` as milter_parse gave it with the fault. */
struct str milter_fault_print(enum milter_fault, const struct milter_packet *, size_t whole, struct arena *);

/* The next text of `rest` (of D, M, R), without its NUL. False: there is none. */
bool milter_next(struct str *rest, struct str *text);

/* Length of the packet when written, in octets. 0: it cannot be written: more than MILTER_DATA_MOST, a NUL in a text, a kind that this
 * side does not send, or anything else that milter_parse would refuse. */
size_t milter_size(const struct milter_packet *, enum milter_side);
/* Writes it, milter_size octets, which must not be 0. */
void milter_write(const struct milter_packet *, enum milter_side, char *into);

/* The value of 'y' from the lines of a reply, "554 5.7.1 a" each, of one code 4yz or 5yz: '-' behind the code of all but the last, CRLF
 * between, '%' doubled. False: no such lines, or control octets but TAB in one, more than MILTER_LINES or MILTER_LINE_MOST, or the class
 * of an enhanced code is not that of its line. */
bool milter_reply_pack(const struct str *lines, size_t n, struct arena *, struct str *y);
/* The lines of a 'y', in the form that milter_reply_pack takes, into `lines`, which has room for MILTER_LINES: '%%' becomes '%', a single
 * '%' is removed. False: malformed (fault BAD_CODE), which the value of a parsed packet never is. */
bool milter_reply_unpack(struct str y, struct arena *, struct str *lines, size_t *n);

/* Converts the value of a field for the protocol. `raw`: the octets after the colon, as in struct field, without the last CRLF. `leadspc`:
 * HDR_LEADSPC was negotiated. CRLF becomes LF; without leadspc one leading SP is removed. The result is a view if nothing changes. */
struct str milter_value_out(struct str raw, bool leadspc, struct arena *);
/* Converts a value from the protocol to raw octets of a field. LF, CRLF, and CR before SP or TAB become CRLF (CRs before these are
 * removed); any other CR becomes SP; a line that begins with neither SP nor TAB gets a TAB; consecutive line ends become one, those at the
 * end are removed; without leadspc one SP is put in front. The result cannot end the header section. */
struct str milter_value_in(struct str wire, bool leadspc, struct arena *);
#endif
