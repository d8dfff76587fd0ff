/* test_tls.c - opening contexts: what is wrong with a certificate is said with the file's name. */
#include "world.h"

static char error[512];

static struct tls *try_open(struct tls_settings s, const char *certificate, const char *key)
{
    struct tls_certificate c = {certificate, key};
    s.certificates = &c;
    s.ncertificates = 1;
    strcpy(error, "");
    struct tls *t = tls_server_open(&s, error, sizeof error);
    assert_int_equal(ERR_peek_error(), 0);
    return t;
}

static void refused(struct tls *t, const char *file, const char *why)
{
    assert_null(t);
    if (!strstr(error, file) || !strstr(error, why))
        fail_msg("\"%s\" says neither %s nor %s", error, file, why);
}

static void each_fault_is_named_with_its_file(void **state)
{
    struct tls_certificate a = make_certificate("a.example", NULL), b = make_certificate("b.example", NULL);
    struct tls_settings none = {0};
    refused(try_open(none, a.certificate, b.key), b.key, "does not match");
    refused(try_open(none, "/nowhere/x.pem", NULL), "/nowhere/x.pem", "No such file");
    refused(try_open(none, a.certificate, "/nowhere/k.pem"), "/nowhere/k.pem", "No such file");
    refused(try_open(none, a.key, a.key), a.key, "no certificate in it");
    refused(try_open(none, a.certificate, a.certificate), a.certificate, "no private key in it");
    refused(try_open(none, W.folder, NULL), "fullchain.pem", "No such file");
    refused(try_open((struct tls_settings){.minimum = "SSLv3"}, a.certificate, a.key), "SSLv3", "TLSv1.2");
    refused(try_open((struct tls_settings){.ciphers = "NONSENSE"}, a.certificate, a.key), "NONSENSE", "no cipher");
    refused(try_open((struct tls_settings){.ca_file = "/nowhere/ca"}, a.certificate, a.key), "/nowhere/ca",
            "No such file");
    assert_null(tls_server_open(&none, error, sizeof error));
    assert_string_equal(error, "no certificate is given");
}

static void an_encrypted_key_is_refused_and_nobody_is_asked(void **state)
{
    struct tls_certificate a = make_certificate("a.example", NULL);
    char *path = in_folder("secret.key");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    FILE *f = fopen(path, "w");
    PEM_write_PrivateKey(f, key, EVP_aes_128_cbc(), (const unsigned char *)"word", 4, NULL, NULL);
    fclose(f);
    EVP_PKEY_free(key);
    refused(try_open((struct tls_settings){0}, a.certificate, path), path, "encrypted");
}

static void a_folder_or_one_file_will_do(void **state)
{
    EVP_PKEY *key = write_key(in_folder("privkey.pem"));
    write_certificate(in_folder("fullchain.pem"), key, "mx.example", "DNS:mx.example");
    EVP_PKEY_free(key);
    struct tls *t = try_open((struct tls_settings){0}, W.folder, NULL);
    assert_non_null(t);
    assert_ptr_equal(tls_hold(t), t);
    tls_drop(t);
    tls_drop(t);
    char command[400];
    snprintf(command, sizeof command, "cat %s/privkey.pem %s/fullchain.pem > %s/both.pem", W.folder, W.folder,
             W.folder);
    assert_int_equal(system(command), 0);
    t = try_open((struct tls_settings){.minimum = "TLSv1.3", .prefer_server = true}, in_folder("both.pem"), NULL);
    assert_string_equal(error, "");
    tls_drop(t);
    tls_drop(NULL);
}

static void certify(const char *cn)
{
    EVP_PKEY *key = write_key(in_folder("privkey.pem"));
    write_certificate(in_folder("fullchain.pem"), key, cn, NULL);
    EVP_PKEY_free(key);
}

static void has_name(struct tls *t, const char *cn)
{
    SSL *ssl = tls_new_ssl(t, true, NULL);
    char name[64] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get_certificate(ssl)), NID_commonName, name, sizeof name);
    assert_string_equal(name, cn);
    SSL_free(ssl);
}

static void files_that_have_changed_are_read_again_when_they_are_still(void **state)
{
    certify("one.example");
    struct tls *t = try_open((struct tls_settings){0}, W.folder, NULL);
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_AS_IT_WAS);
    SSL *held = tls_new_ssl(t, true, NULL);
    certify("two.example");
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_AS_IT_WAS); /* maybe the key is still being written */
    has_name(t, "one.example");
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_RENEWED);
    has_name(t, "two.example");
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_AS_IT_WAS);
    assert_non_null(SSL_get_certificate(held)); /* who began with the old one keeps it */
    tls_drop(t);
    SSL_free(held);
}

static void an_unfit_change_is_told_once_and_the_old_one_stays(void **state)
{
    certify("one.example");
    struct tls *t = try_open((struct tls_settings){0}, W.folder, NULL);
    EVP_PKEY_free(write_key(in_folder("privkey.pem")));
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_AS_IT_WAS);
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_UNFIT);
    assert_non_null(strstr(error, "does not match"));
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_AS_IT_WAS);
    has_name(t, "one.example");
    unlink(in_folder("privkey.pem"));
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_AS_IT_WAS);
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_UNFIT);
    certify("two.example");
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_AS_IT_WAS);
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_RENEWED);
    has_name(t, "two.example");
    assert_int_equal(ERR_peek_error(), 0);
    tls_drop(t);
}

/* As certbot does it: live/NAME/fullchain.pem points to archive/NAME/fullchain7.pem. */
static void a_link_that_points_elsewhere_is_a_change(void **state)
{
    struct tls_certificate a = make_certificate("a.example", NULL), b = make_certificate("b.example", NULL);
    char *certificate = in_folder("live.pem"), *key = in_folder("live.key");
    assert_int_equal(symlink(a.certificate, certificate) | symlink(a.key, key), 0);
    struct tls *t = try_open((struct tls_settings){0}, certificate, key);
    has_name(t, "a.example");
    unlink(certificate);
    unlink(key);
    assert_int_equal(symlink(b.certificate, certificate) | symlink(b.key, key), 0);
    tls_refresh(t, error, sizeof error);
    assert_int_equal(tls_refresh(t, error, sizeof error), TLS_RENEWED);
    has_name(t, "b.example");
    tls_drop(t);
}

static void ticket_keys_go_to_the_next_process_sealed(void **state)
{
    int fd = tls_tickets_pass();
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 1), -1);
    assert_true(tls_tickets_take(fd));
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    int pair[2];
    assert_int_equal(pipe(pair), 0);
    assert_false(tls_tickets_take(pair[0]));
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(each_fault_is_named_with_its_file),
        CLAIM(an_encrypted_key_is_refused_and_nobody_is_asked),
        CLAIM(a_folder_or_one_file_will_do),
        CLAIM(files_that_have_changed_are_read_again_when_they_are_still),
        CLAIM(an_unfit_change_is_told_once_and_the_old_one_stays),
        CLAIM(a_link_that_points_elsewhere_is_a_change),
        CLAIM(ticket_keys_go_to_the_next_process_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
