/* hear.c - what a backend hears, and what it may hear: the promises, seen from behind the gateway.
 *
 * It reads strictly, decodes mail data with its own few lines and compares it with the letter that the transaction is
 * of. All that clients say inside content bears "inside" or "X-Sim" at its front, so whatever of it becomes a command
 * is seen. */
#include "backend.h"

/* ---- mail data */

/* LMTP: one reply for each rcpt that was accepted. Taken when all for whom the client is told said yes. */
static bool answer_each(struct backend_peer *b, const struct letter *l)
{
    char all[sizeof b->reply] = "";
    size_t len = 0;
    bool yes = true, alone = !b->accepted && !(b->added & l->added_must);
    for (unsigned k = 0; k < b->norder; k++) {
        unsigned i = b->order[k];
        bool must_have = i < RCPTS_MOST || alone || (l->added_must >> (i - RCPTS_MOST) & 1);
        bool no = sim_may(F_REFUSALS, 8);
        len += (size_t)snprintf(all + len, sizeof all - len, no ? "%s no no-%u\r\n" : "%s yes%u-%u\r\n",
                                !no              ? "250 2.0.0"
                                : sim_chance(50) ? "550 5.2.1"
                                                 : "452 4.2.2",
                                l->number, b->wire->number);
        yes &= !no || !must_have;
    }
    peer_answer(b, false, "", "%s", all);
    return yes && !strcmp(b->reply, all); /* fate may have it say something else */
}

/* An end of mail data was heard: of which letter, is it whole, has its client said so? */
static void take(struct backend_peer *b, const struct octets *heard)
{
    struct letter *l = letter_numbered(b->world, b->letter);
    char mark[40];
    snprintf(mark, sizeof mark, "no-%u", b->letter);
    if (!b->has_mail || !l) {
        sim_violation("a backend hears an end of mail data without a transaction");
        return;
    }
    letter_check(l, heard);
    uint32_t added = l->added_must & ~l->added_dropped;
    enum place place = letter_place(l, b->accepted);
    if (!l->end_at || client_delivered(l->client) < l->end_at)
        sim_violation("letter %u: an end of mail data that the client has not said", l->number);
    else if (l->bare && !l->binary)
        sim_violation("letter %u holds a bare line end and was passed on", l->number);
    else if (l->discarded)
        sim_violation("letter %u was discarded and is passed on", l->number);
    else if (++l->ends > 1)
        sim_violation("letter %u: a second end of mail data", l->number);
    else if (!b->accepted && !b->added)
        sim_violation("letter %u: mail data for nobody", l->number);
    else if (place != PLACE_NONE && b->place != place)
        sim_violation("letter %u: taken by backend %u, but it belongs to %u", l->number, b->place, place);
    else if (b->sender != l->sender)
        sim_violation("letter %u: its sender is version %u, not %u as filters said", l->number, b->sender, l->sender);
    else if (b->accepted & l->left_out)
        sim_violation("letter %u: rcpts %x were left out by filters, and %x have it", l->number, l->left_out,
                      b->accepted);
    else if ((b->accepted & l->renamed) != b->renamed)
        sim_violation("letter %u: rcpts %x are rewritten, %x by filters", l->number, b->renamed, l->renamed);
    else if ((added & b->added) != added || (b->added & l->added_dropped))
        sim_violation("letter %u: added rcpts are %x, must be %x and not %x", l->number, b->added, added,
                      l->added_dropped);
    b->has_mail = false;
    b->forwarded[0] = 0;
    if (b->unasked) {
        b->leaves = true;
        peer_answer(b, false, "", "421 4.3.2 closing\r\n");
        return;
    }
    uint32_t accepted = b->accepted;
    if (b->lmtp ? answer_each(b, l)
                : peer_answer(b, true, mark, "250 2.0.0 yes%u-%u\r\n", l->number, b->wire->number)) {
        l->taken++;
        l->accepted = accepted;
        l->added = b->added;
    }
}

/* The octets behind the end, or 0: it is not there. Undoes the dots on the way. */
static size_t read_dotted(const struct octets *in, struct octets *to)
{
    for (size_t from = 0, end; (end = octets_line(in, from)) != 0; from = end) {
        bool dot = in->at[from] == '.';
        if (dot && end - from == 3)
            return end;
        octets_put(to, in->at + from + dot, end - from - dot);
    }
    return 0;
}

static bool hear_content(struct backend_peer *b)
{
    struct octets heard = {0};
    const struct octets *in = &b->wire->in;
    bool may = in->len > 4 ? memcmp(in->at + in->len - 5, "\r\n.\r\n", 5) == 0 /* the gateway says nothing behind its end */
                           : in->len == 3;
    size_t end = may ? read_dotted(in, &heard) : 0;
    if (end) {
        octets_drop(&b->wire->in, end);
        b->mode = COMMANDS;
        take(b, &heard);
    }
    octets_free(&heard);
    return end != 0;
}

static bool hear_chunk(struct backend_peer *b)
{
    if (b->wire->in.len < b->chunk)
        return false;
    octets_put(&b->chunks, b->wire->in.at, b->chunk);
    octets_drop(&b->wire->in, b->chunk);
    b->mode = COMMANDS;
    if (b->chunk_bad || !b->has_mail || !(b->accepted | b->added)) {
        peer_answer(b, false, "", "503 5.5.1 no chunk now\r\n");
    } else if (b->last) {
        take(b, &b->chunks);
    } else {
        b->chunk_bad = !peer_answer(b, true, "chunk", "250 2.0.0 chunk\r\n");
        return true;
    }
    octets_drop(&b->chunks, b->chunks.len);
    return true;
}

/* ---- who the client is */

static void hear_address(char to[48], const char *line)
{
    const char *at = strstr(line, " ADDR=");
    to[0] = 0;
    if (at)
        sscanf(at + 6, "%47[^ ]", to);
}

/* The connection must be this client's, and the backend know so, as the configuration of its session wants it. */
static void look_at_identity(const struct backend_peer *b, const struct letter *l)
{
    const char *told = NULL;
    enum identity identity = client_identity(l->client, b->place);
    bool kept = b->user && l->forwarded &&
                identity != IDENTITY_XFORWARD; /* what AUTH bound is the session's, whomever it speaks for */
    switch (identity) {
    case IDENTITY_PROXY:
    case IDENTITY_PROXY_V1: told = b->proxied; break;
    case IDENTITY_XCLIENT: told = b->can.xclient && !b->helo_only ? b->xclient : NULL; break;
    case IDENTITY_XFORWARD: told = b->can.xforward && !b->helo_only ? b->forwarded : NULL; break;
    case IDENTITY_NONE: break;
    }
    if (told && !kept && strcmp(told, l->address) != 0)
        sim_violation("letter %u is from %s, and its backend was told \"%s\"", l->number, l->address, told);
    unsigned number = client_number(l->client);
    if (b->user && b->user != number)
        sim_violation("letter %u of client %u comes over a connection on which client %u authenticated", l->number,
                      number, b->user);
    else if (b->user && !l->authenticated)
        sim_violation("letter %u comes over an authenticated connection, and client %u was not told so", l->number,
                      number);
    else if (!b->user && b->place == PLACE_MAIN && l->authenticated)
        sim_violation("client %u has authenticated; letter %u comes over a connection that does not know", number,
                      l->number);
}

static void hear_proxy(struct backend_peer *b, const char *line)
{
    sscanf(line, "PROXY TCP4 %47s", b->proxied);
}

/* v2: a signature, then how much follows; TCP over IPv4 is 0x11. True: it has been taken, or more is to come. */
static bool hear_proxy_v2(struct backend_peer *b)
{
    static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";
    const struct octets *in = &b->wire->in;
    if (!in->len || memcmp(in->at, signature, min_size(in->len, 12)) != 0)
        return false;
    size_t whole = in->len < 16 ? 0 : 16 + ((size_t)(unsigned char)in->at[14] << 8 | (unsigned char)in->at[15]);
    if (!whole || in->len < whole)
        return true;
    const unsigned char *at = (const unsigned char *)in->at;
    if (at[12] == 0x21 && at[13] == 0x11)
        snprintf(b->proxied, sizeof b->proxied, "%u.%u.%u.%u", at[16], at[17], at[18], at[19]);
    octets_drop(&b->wire->in, whole);
    b->may_proxy = false;
    return false;
}

/* ---- AUTH */

static int value_of(char c)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = strchr(letters, c);
    return at && c ? (int)(at - letters) : 0;
}

/* The number behind the first 'u' of what is in base64; 0: none. */
static unsigned user_in(const char *text)
{
    char octets[24];
    size_t n = 0;
    for (; strlen(text) >= 4 && n + 3 < sizeof octets; text += 4) {
        int three = value_of(text[0]) << 18 | value_of(text[1]) << 12 | value_of(text[2]) << 6 | value_of(text[3]);
        octets[n++] = (char)(three >> 16);
        octets[n++] = (char)(three >> 8);
        octets[n++] = (char)three;
    }
    octets[n] = 0;
    unsigned number = 0;
    size_t from = n && octets[0] == 0 ? 1 : 0;
    return sscanf(octets + from, "u%u", &number) == 1 ? number : 0;
}

static void judge_user(struct backend_peer *b, unsigned number)
{
    b->mode = COMMANDS;
    if (peer_answer(b, true, "user", "235 2.7.0 welcome\r\n"))
        b->user = number;
}

static void hear_response(struct backend_peer *b, const char *line)
{
    b->mode = COMMANDS;
    if (!strcmp(line, "*")) {
        peer_answer(b, false, "", "501 5.7.0 given up\r\n");
    } else if (b->asks == 9) {
        judge_user(b, user_in(line));
    } else if (b->asks == 0) {
        b->asks = 1000 + user_in(line);
        if (peer_answer(b, true, "user", "334 pass\r\n"))
            b->mode = RESPONSE;
    } else {
        judge_user(b, b->asks - 1000);
    }
}

static void hear_auth(struct backend_peer *b, const char *line)
{
    char initial[40] = "";
    if (b->user || b->has_mail || !b->can.auth)
        sim_violation("a backend hears AUTH though %s", b->user ? "somebody has authenticated here" : "it cannot be");
    else if (!strcmp(line, "AUTH LOGIN") || !strcmp(line, "AUTH PLAIN")) {
        b->asks = line[5] == 'P' ? 9 : 0;
        if (peer_answer(b, true, "user", b->asks ? "334 \r\n" : "334 user\r\n"))
            b->mode = RESPONSE;
    } else if (sscanf(line, "AUTH PLAIN %39s", initial) == 1)
        judge_user(b, user_in(initial));
    else
        sim_violation("a backend hears an AUTH that no client said: %s", line);
}

/* ---- commands */

static void forget_transaction(struct backend_peer *b)
{
    b->has_mail = b->chunk_bad = false;
    b->accepted = b->renamed = b->added = b->norder = 0;
    octets_drop(&b->chunks, b->chunks.len);
}

static void hear_mail(struct backend_peer *b, const char *line)
{
    unsigned number = 0, version = 0;
    char mark[40];
    sscanf(line, "MAIL FROM:<m%u.s%u@", &number, &version);
    struct letter *l = letter_numbered(b->world, number);
    if (!l) {
        sim_violation("a backend hears of a sender nobody has: %s", line);
        return;
    }
    if (b->has_mail)
        sim_violation("a backend hears MAIL for letter %u amid the transaction of letter %u", number, b->letter);
    look_at_identity(b, l);
    forget_transaction(b);
    b->letter = number;
    b->sender = version;
    b->session = client_number(l->client);
    snprintf(mark, sizeof mark, "for MAIL %u", number);
    b->has_mail = peer_answer(b, true, mark, "250 2.1.0 Ok %s\r\n", mark);
}

static void accept_rcpt(struct backend_peer *b, unsigned which)
{
    if (which < RCPTS_MOST)
        b->accepted |= 1u << which;
    else
        b->added |= 1u << (which - RCPTS_MOST);
    if (b->norder < countof(b->order))
        b->order[b->norder++] = which;
    else
        sim_violation("a backend hears of more rcpts than letter %u has", b->letter);
}

static void hear_added(struct backend_peer *b, unsigned k)
{
    char mark[40];
    snprintf(mark, sizeof mark, "for the added %u", k);
    if (!b->has_mail)
        peer_answer(b, false, mark, "503 5.5.1 no MAIL %s\r\n", mark);
    else if (peer_answer(b, true, mark, "250 2.1.5 Ok %s\r\n", mark))
        accept_rcpt(b, RCPTS_MOST + k);
}

static void hear_rcpt(struct backend_peer *b, const char *line)
{
    unsigned number = 0, k = 0;
    char mark[40], how = 0;
    if (sscanf(line, "RCPT TO:<a%u-%u@", &number, &k) == 2 && number == b->letter && k < ADDED_MOST) {
        hear_added(b, k);
        return;
    }
    if (sscanf(line, "RCPT TO:<%c%u-%u@", &how, &number, &k) != 3 || number != b->letter || k >= RCPTS_MOST ||
        (how != 'r' && how != 'w')) {
        sim_violation("a backend hears of a rcpt that is not of letter %u: %s", b->letter, line);
        return;
    }
    snprintf(mark, sizeof mark, "for RCPT %u-%u", number, k);
    if (!b->has_mail) {
        peer_answer(b, false, mark, "503 5.5.1 no MAIL %s\r\n", mark);
    } else if (peer_answer(b, true, mark, "250 2.1.5 Ok %s\r\n", mark)) {
        accept_rcpt(b, k);
        b->renamed |= how == 'w' ? 1u << k : 0;
    }
}

static void hear_data(struct backend_peer *b)
{
    char mark[40];
    snprintf(mark, sizeof mark, "for DATA %u", b->letter);
    if (!b->has_mail || !(b->accepted | b->added))
        peer_answer(b, false, mark, "554 5.5.1 nobody %s\r\n", mark);
    else if (peer_answer(b, true, mark, "354 go on %s\r\n", mark))
        b->mode = CONTENT;
}

static void hear_hello(struct backend_peer *b, char verb)
{
    const struct place_is *can = &b->can;
    forget_transaction(b);
    b->lmtp = verb == 'L';
    b->helo_only |= verb == 'H';
    b->forwarded[0] = 0;
    if (verb == 'H')
        peer_answer(b, false, "", "250 b.test\r\n");
    else if (verb == 'E' && b->helo_only)
        peer_answer(b, false, "", "502 5.5.1 what\r\n");
    else
        peer_answer(b, false, "", "250-b.test\r\n250-SIZE 1000000\r\n%s%s%s%s%s%s250 8BITMIME\r\n",
                    can->pipeline ? "250-PIPELINING\r\n" : "", can->chunk ? "250-CHUNKING\r\n" : "",
                    can->chunk && can->binary ? "250-BINARYMIME\r\n" : "", can->auth ? "250-AUTH PLAIN LOGIN\r\n" : "",
                    can->xforward ? "250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n" : "",
                    can->xclient ? "250-XCLIENT NAME ADDR PORT PROTO HELO\r\n" : "");
}

static void hear_claim(struct backend_peer *b, const char *line)
{
    bool client = line[1] == 'C';
    if (b->has_mail) {
        sim_violation("a backend hears %.8s amid a transaction", line);
        return;
    }
    char *to = client ? b->xclient : b->forwarded;
    b->session = 0; /* whoever was before owes nothing any more, nor is owed */
    if (strstr(line, " ADDR=") || client)
        hear_address(to, line);
    if (client && b->user)
        sim_violation("a connection on which client %u authenticated is told of another by XCLIENT", b->user);
    peer_answer(b, false, "", client ? "220 b.test ESMTP\r\n" : "250 2.0.0 Ok\r\n");
}

static void command(struct backend_peer *b, const char *line)
{
    char last[8] = "";
    if (strstr(line, "inside") || strstr(line, "X-Sim"))
        sim_violation("content became a command: %s", line);
    else if (!strncmp(line, "PROXY ", 6) && b->may_proxy)
        hear_proxy(b, line);
    else if (!strncmp(line, "EHLO ", 5) || !strncmp(line, "HELO ", 5) || !strncmp(line, "LHLO ", 5))
        hear_hello(b, line[0]);
    else if (!strncmp(line, "MAIL FROM:", 10))
        hear_mail(b, line);
    else if (!strncmp(line, "RCPT TO:", 8))
        hear_rcpt(b, line);
    else if (!strcmp(line, "DATA"))
        hear_data(b);
    else if (sscanf(line, "BDAT %zu %5s", &b->chunk, last) >= 1 && b->can.chunk) {
        b->mode = CHUNK;
        b->last = !strcmp(last, "LAST");
    } else if (!strcmp(line, "RSET")) {
        forget_transaction(b);
        b->forwarded[0] = 0;
        peer_answer(b, false, "", "250 2.0.0 reset\r\n");
    } else if (!strcmp(line, "QUIT")) {
        b->leaves = true;
        peer_answer(b, false, "", "221 2.0.0 bye\r\n");
    } else if (!strncmp(line, "XCLIENT ", 8) || !strncmp(line, "XFORWARD ", 9))
        hear_claim(b, line);
    else if (!strncmp(line, "AUTH ", 5))
        hear_auth(b, line);
    else
        sim_violation("a backend hears what no client and no gateway says: %s", line);
    b->may_proxy = false;
}

static bool hear_command(struct backend_peer *b)
{
    char line[1024];
    if (b->may_proxy && hear_proxy_v2(b))
        return false;
    size_t end = octets_line(&b->wire->in, 0);
    if (!end)
        return false;
    size_t n = min_size(end - 2, sizeof line - 1);
    memcpy(line, b->wire->in.at, n);
    line[n] = 0;
    octets_drop(&b->wire->in, end);
    if (b->mode == RESPONSE)
        hear_response(b, line);
    else
        command(b, line);
    return true;
}

/* While a reply is due to one client nobody else's MAIL may be on the way: the connection was given back and owed it.
 */
static void look_ahead(const struct backend_peer *b)
{
    const struct octets *in = &b->wire->in;
    if (b->unasked) /* its refusal may have come when our end was under way: nobody can know whether it was the answer */
        return;
    for (size_t from = 0, end; b->mode == COMMANDS && (end = octets_line(in, from)) != 0; from = end) {
        unsigned number;
        char line[64];
        snprintf(line, sizeof line, "%.*s", (int)min_size(end - from, sizeof line - 1), in->at + from);
        if (!strncmp(line, "BDAT", 4))
            return;
        const struct letter *l =
            sscanf(line, "MAIL FROM:<m%u", &number) == 1 ? letter_numbered(b->world, number) : NULL;
        if (l && b->session && client_number(l->client) != b->session)
            sim_violation("client %u was given a connection that still owes client %u", client_number(l->client),
                          b->session);
    }
}

void peer_hear(struct backend_peer *b)
{
    while (!b->reply[0] && !sim_violated()) {
        bool more = b->mode == CONTENT ? hear_content(b) : b->mode == CHUNK ? hear_chunk(b) : hear_command(b);
        if (!more)
            break;
    }
    if (b->reply[0])
        look_ahead(b);
}
