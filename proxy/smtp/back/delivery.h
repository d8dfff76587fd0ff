/* delivery.h - content on its way to the backend: when DATA or BDAT is said, what is encoded, and the one end of mail data. */
#ifndef SMTP_BACK_DELIVERY_H
#define SMTP_BACK_DELIVERY_H
#include "mail/outlet.h"
#include "wire/content.h"

struct session;
struct backend;
enum leave { LEAVE_CLEAN, LEAVE_ENVELOPE, LEAVE_CONTENT }; /* a backend: to the pool, washed, or closed */

bool delivery_take(struct session *); /* encodes what is there for the backend, if it may have it */
enum guard delivery_guard(const struct backend *); /* what content by DATA must not hide from it */
enum leave delivery_way_out(const struct session *); /* how the backend is left by content that goes nowhere any more */
/* Says DATA to the backend when it is time, the envelope anew before it if it must be. True: content can move again, to the backend (by
 * BDAT) or into the sink. The caller then runs the flow once more in the same turn: no event is left that would wake the session. */
bool delivery_open(struct session *);
/* Sends the judged content; true when all is in the backend's out pipe (delivery_release may be called). */
bool delivery_send(struct session *);
void delivery_release(struct session *); /* our end of mail data. The only place */
extern const struct outlet_ops delivery_outlet; /* of session.outlet */
#endif
