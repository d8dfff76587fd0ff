/* outlet.h - an outlet without a next hop: what would leave is kept in trial->out, at the time that world->data_when says. */
#ifndef TRY_OUTLET_H
#define TRY_OUTLET_H
#include "try/trial.h"

void outlet_start(struct trial *); /* fills trial->outlet */
/* Takes the rest of judged content. True: trial->out has all of it. Content that delivery to a backend would refuse is refused here too. */
bool outlet_has_all(struct trial *);
#endif
