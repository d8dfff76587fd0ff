/* house.h - `sluice run`: the main thread while mail is filtered. */
#ifndef PROXY_HOUSE_H
#define PROXY_HOUSE_H

/* Runs until it is told to end; the exit code. */
int house_run(const char *conf_path);
#endif
