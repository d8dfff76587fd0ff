/* conf.h - loads the configuration files into one immutable `struct conf`, checked against the table of directives.
 *
 * conf_load returns NULL when there is any mistake, with a complaint for each, at its file and line. It can be called again, by one thread
 * at a time. It opens the files that the configuration names (certificates, tables, scripts, modules) and binds no socket. */
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
struct conf *conf_load(const char *path, struct complaints *); /* a reference, which the caller gives back with conf_drop */
/* The same for `sluice try`, which runs chains but neither listens nor connects to backends: does not check certificates, keys, the user
 * and the target of the log, and gives no warnings. `more`: text appended to that of the file, or NULL. path NULL: `more` alone is the
 * configuration, and paths in it are relative to the working directory. */
struct conf *conf_load_to_try(const char *path, const char *more, struct complaints *);
/* True: `text` is a literal Lua value: a number, true, false, a quoted text, or a table of such values, without variables and calls. */
bool conf_is_value(const char *text);
/* The path of the control socket that the configuration names, "" if it names none; other mistakes in the configuration do not matter.
 * False: the file cannot be evaluated at all, with complaints. */
bool conf_control(const char *path, struct str *control, struct arena *, struct complaints *);
void conf_say_defaults_json(FILE *);                    /* the table of directives in JSON: a list of objects */
void conf_say_defaults(FILE *);                         /* the table of directives: each with its default and a line of explanation */
void conf_say_order(FILE *, const struct conf *);       /* per listener: backend, chain, filters by stage */
void complaints_say(FILE *, const struct complaints *); /* one line each: "FILE:LINE: error: ..." */
#endif
