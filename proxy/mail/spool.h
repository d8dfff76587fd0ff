/* spool.h - held content: in memory up to a bound, then in an unlinked file. Read as often as wanted. All spools of the process
 * together hold no more than a ceiling. */
#ifndef MAIL_SPOOL_H
#define MAIL_SPOOL_H
#include "base/pipe.h"

struct spool;
/* memory: octets held there before a file is used. ceiling: octets of all spools together, 0: any number. spool_close frees. */
struct spool *spool_open(size_t memory, uint64_t ceiling);
void spool_close(struct spool **);
/* Takes all that is in the pipe. False: the disk failed or is full, or the ceiling is reached; the spool is then of no use. */
bool spool_put(struct spool *, struct pipe *in);
uint64_t spool_octets(const struct spool *); /* put so far */
void spool_rewind(struct spool *);           /* spool_take begins at the first octet again */
/* Puts what follows into out while it has room; true when the end was reached. */
bool spool_take(struct spool *, struct pipe *out);
bool spool_failed(const struct spool *); /* a read or write went wrong, or would have gone over the ceiling */
bool spool_is_over(const struct spool *); /* it failed because the ceiling was reached */
uint64_t spool_total(void); /* octets that all spools hold, of all workers */
/* Returns how many octets were read from `offset` on: fewer than n at the end, or when the file failed. */
size_t spool_read(struct spool *, uint64_t offset, char *into, size_t n);
#endif
