/* mta_still.h - apart from world.h, whose names are others than those of proxy/milter/milter.h. */
#ifndef SIM_MTA_STILL_H
#define SIM_MTA_STILL_H
#include <stdbool.h>

void mta_still_begin(void);
bool mta_still_look(
    void *milter_worker); /* as still_look: when nothing is under way, does any connection sleep that could go on? */
#endif
