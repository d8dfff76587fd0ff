/* image.h - reads one key of a store of the running process over its control socket, for `sluice try`: the command "image STORE KEY", with
 * KEY in hexadecimal digits, or without it for the seed alone. It changes nothing. */
#ifndef PROCESS_IMAGE_H
#define PROCESS_IMAGE_H
#include "process/control.h"
#include "conf/conf.h"
#include "store/store.h"

#define IMAGE_WORD "image"
/* Answers with the pid of this process, a line end and the output of store_memory_image, or with "no". */
void image_answer(struct caller *, const struct conf *, struct str argument);

/* The client side: the source that store_lay_over reads keys from. */
struct image_source {
    struct store_below below; /* the first member */
    const char *path;         /* of the control socket */
    struct str store;         /* name of the store in that process */
    unsigned long pid;        /* pid of the process; 0: it has not answered yet */
    const char *why;          /* why the last request failed, a constant sentence; NULL: it succeeded */
};
void image_source_start(struct image_source *, const char *path, struct str store);
#endif
