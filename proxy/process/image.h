/* image.h - one key of a store of the running process, told over the control socket to who tries messages: the order "image STORE KEY", KEY in
 * hexadecimal digits, none for the seed alone. Nothing is changed by it. */
#ifndef PROCESS_IMAGE_H
#define PROCESS_IMAGE_H
#include "process/control.h"
#include "conf/conf.h"
#include "store/store.h"

#define IMAGE_WORD "image"
/* Answers with this process's number, a line end and what store_memory_image writes, or with a no. */
void image_answer(struct caller *, const struct conf *, struct str argument);

/* The other side: what is below a store that is tried (store_lay_over). */
struct image_source {
    struct store_below below; /* the first member */
    const char *path;         /* of the control socket */
    struct str store;         /* its name there */
    unsigned long pid;        /* of the process, once it has answered; 0: it has not */
    const char *why;          /* why it could not be asked the last time, in words that live for ever; NULL: it could */
};
void image_source_start(struct image_source *, const char *path, struct str store);
#endif
