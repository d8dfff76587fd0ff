/* test_ports.c - addresses bound once: plans that are whole or nothing, and what one process leaves to the next. */
#include "process/ports.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WORKERS = 3 };
static struct arena arena;
static struct complaints complaints;
static char folder[64];

static int set_up(void **state)
{
    strcpy(folder, "/tmp/ports-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    complaints = (struct complaints){.arena = &arena};
    unsetenv("SLUICE_PORTS");
    return 0;
}

static int tear_down(void **state)
{
    arena_reset(&arena);
    return rmdir(folder);
}

/* One listener of these addresses, at line 7. */
static struct conf *conf_of(size_t n, const char *const *texts)
{
    struct conf *conf = arena_alloc(&arena, sizeof *conf);
    struct listen_conf *l = conf->smtp.listens = arena_alloc(&arena, sizeof *l);
    const char *why = "";
    conf->smtp.nlistens = 1;
    l->visit.name = STR("mx");
    l->file = STR("x.lua");
    l->line = 7;
    l->addresses = arena_alloc(&arena, n * sizeof *l->addresses);
    for (size_t i = 0; i < n; i++)
        if (!address_parse(str_of(texts[i]), &arena, &l->addresses[l->naddresses++], &why))
            fail_msg("%s", why);
    return conf;
}
#define CONF(...) conf_of(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

static unsigned port_number(int fd)
{
    struct sockaddr_in in = {0};
    socklen_t len = sizeof in;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    return ntohs(in.sin_port);
}

static size_t count(const struct ports *ports)
{
    size_t n = 0;
    for (const struct port *p = ports->first; p; p = p->next)
        n++;
    return n;
}

static struct ports fresh(void)
{
    return (struct ports){.user = (unsigned)-1};
}

static void each_worker_has_a_socket_and_all_share_the_port(void **state)
{
    struct ports ports = fresh();
    struct ports_plan plan;
    assert_true(ports_plan(&ports, CONF("127.0.0.1:0", "127.0.0.1:0"), WORKERS, &plan, &complaints));
    assert_int_equal(plan.nplaces, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct port *p = plan.places[i].port;
        assert_int_equal(p->nfds, WORKERS);
        for (unsigned k = 1; k < p->nfds; k++)
            assert_int_equal(port_number(p->fds[k]), port_number(p->fds[0]));
    }
    assert_ptr_not_equal(plan.places[0].port, plan.places[1].port);
    ports_close(&ports, NULL, &plan);
    plan_clear(&plan);
}

static void what_stays_keeps_its_sockets_and_what_is_gone_is_closed(void **state)
{
    struct ports ports = fresh();
    struct ports_plan first, second;
    char *path = (char *)arena_print(&arena, "unix:%s/in", folder).at;
    assert_true(ports_plan(&ports, CONF("127.0.0.1:0", path), WORKERS, &first, &complaints));
    ports_opened(&ports, &first);
    struct port *stays = first.places[0].port;
    assert_int_equal(first.places[1].port->nfds, 1);
    assert_true(ports_plan(&ports, CONF("127.0.0.1:0"), WORKERS, &second, &complaints));
    assert_ptr_equal(second.places[0].port, stays);
    ports_keep(&ports, &second);
    assert_int_equal(count(&ports), 1);
    assert_int_equal(access(path + 5, F_OK), -1);
    ports_close(&ports, NULL, &second);
    plan_clear(&first);
    plan_clear(&second);
}

static void a_plan_that_cannot_be_changes_nothing_and_says_where(void **state)
{
    struct ports ports = fresh(), others = fresh();
    struct ports_plan plan, taken, failed;
    assert_true(ports_plan(&ports, CONF("127.0.0.1:0"), WORKERS, &plan, &complaints));
    ports_opened(&ports, &plan);
    int alone = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(alone, (struct sockaddr *)&in, sizeof in) | listen(alone, 1), 0);
    char *text = (char *)arena_print(&arena, "127.0.0.1:%u", port_number(alone)).at;
    assert_false(ports_plan(&ports, CONF("127.0.0.1:0", "127.0.0.1:0", text), WORKERS, &failed, &complaints));
    assert_int_equal(count(&ports), 1);
    assert_int_equal(complaints.errors, 1);
    assert_int_equal(complaints.first->line, 7);
    assert_non_null(strstr(complaints.first->text.at, "listens there already"));
    close(alone);
    assert_true(ports_plan(&others, CONF(text), WORKERS, &taken, &complaints));
    ports_close(&others, NULL, &taken);
    ports_close(&ports, NULL, &plan);
    plan_clear(&taken);
    plan_clear(&plan);
}

static void the_next_process_takes_the_same_sockets_whatever_number_of_workers_it_has(void **state)
{
    struct ports old = fresh(), next = fresh();
    struct ports_plan plan, planned;
    char *path = (char *)arena_print(&arena, "unix:%s/in", folder).at;
    struct conf *conf = CONF("127.0.0.1:0", path, "127.0.0.1:0");
    assert_true(ports_plan(&old, conf, 2, &plan, &complaints));
    unsigned first = port_number(plan.places[0].port->fds[0]), third = port_number(plan.places[2].port->fds[0]);
    char *list = ports_list(&old);
    setenv("SLUICE_PORTS", list, 1);
    free(list);
    ports_inherit(&next); /* the same descriptors: a stand-in for those behind an exec */
    assert_null(getenv("SLUICE_PORTS"));
    assert_int_equal(count(&next), 3);
    assert_true(ports_plan(&next, conf, 4, &planned, &complaints));
    assert_int_equal(port_number(planned.places[0].port->fds[0]), first);
    assert_int_equal(port_number(planned.places[2].port->fds[0]), third);
    assert_int_equal(planned.places[0].port->nfds, 4); /* two of the old, two beside them */
    assert_int_equal(port_number(planned.places[0].port->fds[3]), first);
    assert_int_equal(planned.places[1].port->nfds, 1);
    while (old.first) { /* the descriptors are the other's now */
        old.first->nfds = 0;
        struct port *p = old.first;
        old.first = p->next;
        free(p->fds);
        free(p->key);
        free(p);
    }
    ports_close(&next, NULL, &planned);
    assert_int_equal(access(path + 5, F_OK), -1);
    plan_clear(&plan);
    plan_clear(&planned);
}

static void a_list_that_is_nonsense_is_no_list(void **state)
{
    struct ports ports = fresh();
    setenv("SLUICE_PORTS", "0 1 ours inet:1.2.3.4:25\nx\n\n99999 1 ours inet:1.2.3.4:25\n5\n7 2\n8 0 ours\n-1 1 ours x", 1);
    ports_inherit(&ports);
    assert_int_equal(count(&ports), 0);
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(each_worker_has_a_socket_and_all_share_the_port),
        CLAIM(what_stays_keeps_its_sockets_and_what_is_gone_is_closed),
        CLAIM(a_plan_that_cannot_be_changes_nothing_and_says_where),
        CLAIM(the_next_process_takes_the_same_sockets_whatever_number_of_workers_it_has),
        CLAIM(a_list_that_is_nonsense_is_no_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
