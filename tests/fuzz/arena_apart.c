/* arena_apart.c - the arena of the fuzz targets: the gateway's own, but each piece is an allocation of its very size,
 * so that a sanitizer sees a read or a write beyond its end. The linker takes this one, and leaves the library's. */
#include "base/arena.h"
/* Its one use: how large a new chunk is to be, at least as large as what is asked for. */
#define max_size(usual, asked) ((void)(usual), (asked))
#include "base/arena.c"
