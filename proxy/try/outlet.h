/* outlet.h - nobody as where a message goes: it is kept, as far as the chain's `say` lets it go. */
#ifndef TRY_OUTLET_H
#define TRY_OUTLET_H
#include "try/trial.h"

void outlet_start(struct trial *);
/* Judged: the rest is taken. True: trial->out has all of it. Content that the way to a backend would refuse is refused. */
bool outlet_has_all(struct trial *);
#endif
