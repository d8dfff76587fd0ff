/* file.c - see file.h. */
#include "base/file.h"
#include "base/fault.h"
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

/* False: errno says why; *text then still points to what was read so far, for the caller to free. */
static bool read_all(FILE *f, size_t most, char **text, size_t *len)
{
    struct stat st;
    size_t room = 0;
    if (fstat(fileno(f), &st) != 0)
        return false;
    if (S_ISDIR(st.st_mode) || (st.st_size > 0 && (uint64_t)st.st_size > most)) {
        errno = S_ISDIR(st.st_mode) ? EISDIR : EFBIG;
        return false;
    }
    do { /* not by st_size: it may be a pipe */
        if (*len + 1 >= room)
            *text = must_grow(*text, room = room ? room * 2 : 4096);
        *len += fread(*text + *len, 1, room - 1 - *len, f);
    } while (!feof(f) && !ferror(f) && *len <= most);
    if (ferror(f) || *len > most) {
        errno = ferror(f) ? EIO : EFBIG;
        return false;
    }
    (*text)[*len] = 0;
    return true;
}

char *file_read(const char *path, size_t most, size_t *len)
{
    FILE *f = fault_strikes(FAULT_FILE) ? NULL : fopen(path, "re");
    char *text = NULL;
    *len = 0;
    if (!f)
        return NULL;
    bool good = read_all(f, most, &text, len);
    int saved = errno;
    fclose(f);
    if (good)
        return text;
    free(text);
    errno = saved;
    return NULL;
}
