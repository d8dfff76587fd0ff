/* file.h - a whole file at once. */
#ifndef BASE_FILE_H
#define BASE_FILE_H
#include "base/str.h"

/* Its octets, in memory that the caller frees, with a NUL behind them that `len` does not count; a pipe is read to its end. NULL: errno
 * says why, EISDIR for a folder, EFBIG beyond `most` octets. */
char *file_read(const char *path, size_t most, size_t *len);
#endif
