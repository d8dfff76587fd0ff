/* conf.h - the configuration files made one immutable `struct conf`: loaded as data, checked against one table of directives.
 *
 * All or nothing: NULL when anything is wrong, with every complaint at its file and line. May be called as often as wanted,
 * by one thread at a time; opens what the configuration names (certificates, tables, scripts, modules) but binds nothing. */
#ifndef CONF_CONF_H
#define CONF_CONF_H
#include "milter/model.h"
#include "smtp/model.h"

struct conf {
    struct smtp_conf smtp;    /* the first member */
    struct milter_conf *milters; size_t nmilters;
    struct str user;
    struct str control;       /* path of the control socket; STR_NONE: none */
    struct log_settings log;
};
/* smtp/model.h, for the whole. */
static inline struct conf *conf_hold(struct conf *conf)
{
    smtp_conf_hold(&conf->smtp);
    return conf;
}
static inline void conf_drop(struct conf *conf)
{
    smtp_conf_drop(conf ? &conf->smtp : NULL);
}
static inline void conf_take_over(struct conf *conf, const struct conf *old)
{
    smtp_conf_take_over(&conf->smtp, &old->smtp);
}
static inline bool conf_is_left(const struct conf *conf)
{
    return smtp_conf_is_left(&conf->smtp);
}
struct conf *conf_load(const char *path, struct complaints *);
/* For who runs the chains of it but neither listens nor dials a backend: certificates, keys, the user and the log's target are not looked at, and
 * what is merely doubtful is not told. `more`: text that stands behind that of the file, or NULL. path NULL: `more` is all there is; paths in
 * it are relative to the working directory. */
struct conf *conf_load_to_try(const char *path, const char *more, struct complaints *);
/* `text` read as a Lua value: a number, true, false, a text in quotes or { }, written by hand without names and calls. False: it is none. */
bool conf_is_value(const char *text);
/* The control socket that the configuration names, although the rest of it may be wrong: false only when it cannot be evaluated
 * (complained of). "": it names none. */
bool conf_control(const char *path, struct str *control, struct arena *, struct complaints *);
void conf_say_defaults_json(FILE *);                   /* the same for programs: a list of objects */
void conf_say_defaults(FILE *);                        /* every directive, its default, one line why */
void conf_say_order(FILE *, const struct conf *);      /* per listener: backend, chain, filters by stage */
void complaints_say(FILE *, const struct complaints *); /* "FILE:LINE: error: ..." a line */
#endif
