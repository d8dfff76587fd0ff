/* file.h - a whole file at once. */
#ifndef BASE_FILE_H
#define BASE_FILE_H
#include "base/str.h"

/* Reads a file, or a pipe to its end. Returns memory that the caller frees, NUL-terminated; *len does not count the NUL. NULL on error,
 * with errno set: EISDIR for a directory, EFBIG for more than `most` octets. */
char *file_read(const char *path, size_t most, size_t *len);
#endif
