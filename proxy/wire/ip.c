/* ip.c - see ip.h. */
#include "wire/ip.h"
#include <arpa/inet.h>

struct str ip_text(int family, const char *octets, struct arena *arena)
{
    static const char mapped[12] = {[10] = (char)0xff, [11] = (char)0xff};
    char text[INET6_ADDRSTRLEN];
    bool v4 = family == AF_INET6 && memcmp(octets, mapped, sizeof mapped) == 0;
    inet_ntop(v4 ? AF_INET : family, v4 ? octets + sizeof mapped : octets, text, sizeof text);
    return arena_str(arena, str_of(text));
}
