/* spool.h - held content: in memory up to a bound, then in an unlinked file. Read as often as wanted. All spools of the process
 * together hold no more than a ceiling. */
#ifndef MAIL_SPOOL_H
#define MAIL_SPOOL_H
#include "base/pipe.h"

struct spool;
struct spool *spool_open(size_t memory, uint64_t ceiling); /* octets in memory; of all spools together (0: any) */
void spool_close(struct spool **);
bool spool_put(struct spool *, struct pipe *in); /* takes all that is in it; false: the disk is full, or the ceiling is reached */
uint64_t spool_octets(const struct spool *);
void spool_rewind(struct spool *);
/* Puts what follows into out while it has room; true when the end was reached. */
bool spool_take(struct spool *, struct pipe *out);
bool spool_failed(const struct spool *); /* a read or write went wrong, or would have gone over the ceiling */
bool spool_is_over(const struct spool *); /* the latter */
uint64_t spool_total(void); /* octets that all spools hold, of all workers */
size_t spool_read(struct spool *, uint64_t offset, char *into, size_t n); /* at any place; how much was there */
#endif
