/* clock.h - what net.c alone may do with time: see what comes next, and let it come. */
#ifndef SIM_CLOCK_H
#define SIM_CLOCK_H
#include "net.h"

uint64_t event_next(void); /* when; 0: nothing is to come */
void event_run(void);      /* the next one, at its time */
void clock_move(uint64_t to);
#endif
