/* connections.h - who is connected, counted by client address. Shared by all workers: one lock, taken when a session begins and ends only. */
#ifndef SMTP_FRONT_CONNECTIONS_H
#define SMTP_FRONT_CONNECTIONS_H
#include "base/str.h"

struct connections;
struct connections *connections_open(void);
void connections_close(struct connections *);
enum connections_says { CONNECTIONS_WELCOME, CONNECTIONS_FULL, CONNECTIONS_TOO_MANY }; /* TOO_MANY: from this client address */
enum connections_says connections_enter(struct connections *, struct str ip, uint32_t total, uint32_t per_client);
void connections_leave(struct connections *, struct str ip);
#endif
