/* process.h - `sluice run`: the main thread of the gateway. */
#ifndef PROCESS_PROCESS_H
#define PROCESS_PROCESS_H

struct process_arguments {
    const char *name;     /* argv[0], from which the binary for an upgrade is found */
    const char *conf;     /* path of the configuration */
    const char *pid_file; /* NULL: none */
};
/* Runs until a signal or a command ends it; returns the exit code. */
int process_run(const struct process_arguments *);
#endif
