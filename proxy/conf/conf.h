/* conf.h - the configuration files made one immutable `struct conf`: loaded as data, checked against one table of directives.
 *
 * All or nothing: NULL when anything is wrong, with every complaint at its file and line. May be called as often as wanted,
 * by one thread at a time; opens what the configuration names (certificates, tables, scripts, modules) but binds nothing. */
#ifndef CONF_CONF_H
#define CONF_CONF_H
#include "smtp/model.h"

struct conf *conf_load(const char *path, struct complaints *);
/* The control socket that the configuration names, although the rest of it may be wrong: false only when it cannot be evaluated
 * (complained of). "": it names none. */
bool conf_control(const char *path, struct str *control, struct arena *, struct complaints *);
void conf_say_defaults_json(FILE *);                   /* the same for programs: a list of objects */
void conf_say_defaults(FILE *);                        /* every directive, its default, one line why */
void conf_say_order(FILE *, const struct conf *);      /* per listener: backend, chain, filters by stage */
void complaints_say(FILE *, const struct complaints *); /* "FILE:LINE: error: ..." a line */
#endif
