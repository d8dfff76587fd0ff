/* connections.h - sessions counted by client address. Shared by all workers: one lock, taken only when a session begins and ends. */
#ifndef SMTP_FRONT_CONNECTIONS_H
#define SMTP_FRONT_CONNECTIONS_H
#include "base/str.h"

struct connections;
struct connections *connections_open(void);
void connections_close(struct connections *);
/* Counts a session, if there are fewer than `total` of all and `per_client` of this address (0: any number). WELCOME: counted, and needs its
 * connections_leave. FULL: total is reached; TOO_MANY: per_client is. */
enum connections_says { CONNECTIONS_WELCOME, CONNECTIONS_FULL, CONNECTIONS_TOO_MANY };
enum connections_says connections_enter(struct connections *, struct str ip, uint32_t total, uint32_t per_client);
void connections_leave(struct connections *, struct str ip);
#endif
