/* process.h - `sluice run`: the main thread while mail is filtered. */
#ifndef PROCESS_PROCESS_H
#define PROCESS_PROCESS_H

struct process_arguments {
    const char *name;     /* argv[0]: the binary that an upgrade starts */
    const char *conf;     /* path of the configuration */
    const char *pid_file; /* NULL: none */
};
/* Runs until it is told to end; the exit code. */
int process_run(const struct process_arguments *);
#endif
