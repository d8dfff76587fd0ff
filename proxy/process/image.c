/* image.c - server and client side of the command that reads one key of a store (store/handover.c writes and reads the format). */
#include "process/image.h"
#include <unistd.h>

enum { KEY_MOST = 1024 };

static bool unhex(struct str hex, char *to)
{
    if (hex.len % 2 || hex.len / 2 > KEY_MOST)
        return false;
    for (size_t i = 0; i < hex.len; i += 2) {
        int high = char_hex(hex.at[i]), low = char_hex(hex.at[i + 1]);
        if (high < 0 || low < 0)
            return false;
        to[i / 2] = (char)(high * 16 + low);
    }
    return true;
}

static struct store *store_named(const struct conf *conf, struct str name)
{
    for (size_t i = 0; i < conf->smtp.mail.nstores; i++)
        if (str_equal(conf->smtp.mail.stores[i].name, name))
            return conf->smtp.mail.stores[i].store;
    return NULL;
}

void image_answer(struct caller *caller, const struct conf *conf, struct str argument)
{
    char key[KEY_MOST], *text = NULL;
    size_t len = 0;
    struct str rest = argument, name = str_cut(&rest, ' '), hex = rest.at ? rest : STR("");
    struct store *store = store_named(conf, name);
    if (!store || !unhex(hex, key)) {
        control_answer(caller, 2, STR("no such store, or no key in hexadecimal digits\n"));
        return;
    }
    FILE *to = open_memstream(&text, &len);
    must(to);
    fprintf(to, "%ld\n", (long)getpid());
    store_memory_image(store, (struct str){key, hex.len / 2}, to);
    fclose(to);
    control_answer(caller, 0, (struct str){text, len});
    free(text);
}

static FILE *fetch(struct store_below *below, struct str key)
{
    static const char digits[] = "0123456789abcdef";
    struct image_source *source = (struct image_source *)below; /* its first member */
    struct arena arena = {0};
    char line[32];
    if (key.len > KEY_MOST)
        return NULL;
    char *hex = arena_space(&arena, 2 * key.len + 1);
    for (size_t i = 0; i < key.len; i++) {
        hex[2 * i] = digits[(unsigned char)key.at[i] >> 4];
        hex[2 * i + 1] = digits[(unsigned char)key.at[i] & 15];
    }
    hex[2 * key.len] = 0;
    struct str command = arena_print(&arena, IMAGE_WORD " %.*s %s", STR_ARGS(source->store), hex);
    FILE *answer = control_fetch(source->path, command.at, &source->why);
    arena_reset(&arena);
    if (answer && fgets(line, sizeof line, answer) && (source->pid = strtoul(line, NULL, 10)))
        return answer;
    if (answer) {
        fclose(answer);
        source->why = "it does not answer";
    }
    return NULL;
}

void image_source_start(struct image_source *source, const char *path, struct str store)
{
    *source = (struct image_source){.below = {fetch}, .path = path, .store = store};
}
