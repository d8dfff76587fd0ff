/* date.c - a date, token by token. See date.h. */
#include "wire/date.h"

/* Skips white space, comments (nested, or not closed) and octets in `also`. */
static void skip(struct str *s, const char *also)
{
    size_t i = 0, depth = 0;
    for (; i < s->len; i++) {
        char c = s->at[i];
        if (c == '(')
            depth++;
        else if (depth && c == '\\')
            i++;
        else if (depth && c == ')')
            depth--;
        else if (!depth && (unsigned char)c > ' ' && !strchr(also, c))
            break;
    }
    *s = str_part(*s, i, s->len);
}

static struct str take_letters(struct str *s)
{
    size_t n = 0;
    while (n < s->len && char_is_alpha(s->at[n]))
        n++;
    struct str word = str_part(*s, 0, n);
    *s = str_part(*s, n, s->len);
    return word;
}

/* A number of `least` to `most` digits; *digits: how many it has. -1: none. */
static int take_number(struct str *s, size_t least, size_t most, size_t *digits)
{
    size_t n = 0;
    int value = 0;
    for (; n < s->len && char_is_digit(s->at[n]); n++)
        value = n < most ? value * 10 + (s->at[n] - '0') : 0;
    if (n < least || n > most)
        return -1;
    *digits = n;
    *s = str_part(*s, n, s->len);
    return value;
}

static int month_of(struct str name)
{
    static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    for (int i = 0; i < 12 && name.len >= 3; i++)
        if (str_starts_nocase(name, (struct str){names + i * 3, 3}))
            return i;
    return -1;
}

/* Days since 1970-01-01 in the Gregorian calendar. Years are counted from March here, so that the leap day is the last day of a year. */
static int64_t day_number(int year, int month, int day)
{
    int64_t y = month < 2 ? year - 1 : year, m = (month + 10) % 12;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static bool is_day(int year, int month, int day)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100) || year % 400 == 0;
    return day >= 1 && day <= days[month] + (month == 1 && leap);
}

/* Minutes east of Greenwich. */
static int take_zone(struct str *s)
{
    static const struct {
        const char *name;
        int hours;
    } zones[] = {{"est", -5}, {"edt", -4}, {"cst", -6}, {"cdt", -5},
                 {"mst", -7}, {"mdt", -6}, {"pst", -8}, {"pdt", -7}};
    skip(s, "");
    struct str name = take_letters(s);
    for (size_t i = 0; i < countof(zones); i++)
        if (str_equal_nocase(name, str_of(zones[i].name)))
            return zones[i].hours * 60;
    bool offset = !name.len || str_equal_nocase(name, STR("GMT")) || str_equal_nocase(name, STR("UTC")) ||
                  str_equal_nocase(name, STR("UT"));
    if (!offset || !s->len || (s->at[0] != '+' && s->at[0] != '-'))
        return 0;
    int sign = s->at[0] == '-' ? -1 : 1, minutes = 0;
    size_t digits;
    *s = str_part(*s, 1, s->len);
    int n = take_number(s, 1, 4, &digits);
    if (n < 0)
        return 0;
    if (digits <= 2) { /* "+01:00", which RFC 3339 writes */
        n *= 100;
        if (s->len && s->at[0] == ':') {
            *s = str_part(*s, 1, s->len);
            minutes = take_number(s, 2, 2, &digits);
        }
    }
    return sign * (n / 100 * 60 + n % 100 + (minutes > 0 ? minutes : 0));
}

bool date_read(struct str s, int64_t *seconds)
{
    size_t digits;
    skip(&s, ",.");
    take_letters(&s);
    skip(&s, ",.");
    int day = take_number(&s, 1, 2, &digits);
    skip(&s, ",.-");
    int month = month_of(take_letters(&s));
    skip(&s, ",.-");
    int year = take_number(&s, 2, 4, &digits);
    if (year >= 0 && digits < 4)
        year += digits == 2 && year < 50 ? 2000 : 1900;
    skip(&s, ",");
    int hour = take_number(&s, 1, 2, &digits), minute = -1, second = 0;
    skip(&s, "");
    if (s.len && s.at[0] == ':') {
        skip(&s, ":");
        minute = take_number(&s, 1, 2, &digits);
        skip(&s, "");
        if (s.len && s.at[0] == ':') {
            skip(&s, ":");
            second = take_number(&s, 1, 2, &digits);
        }
    }
    if (day < 0 || month < 0 || year < 1900 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 ||
        second > 60 || !is_day(year, month, day))
        return false;
    *seconds = day_number(year, month, day) * 86400 + hour * 3600 + (minute - take_zone(&s)) * 60 + second;
    return true;
}
