/* token.c - see token.h. Nesting is counted without recursion, so that a megabyte of "(" needs no stack. */
#include "wire/token.h"

size_t token_comment(struct str s)
{
    size_t depth = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '\\')
            i++;
        else if (s.at[i] == '(')
            depth++;
        else if (s.at[i] == ')' && --depth == 0)
            return i + 1;
    }
    return s.len + 1;
}

size_t token_quoted(struct str s)
{
    for (size_t i = 1; i < s.len; i++) {
        if (s.at[i] == '\\')
            i++;
        else if (s.at[i] == '"')
            return i + 1;
    }
    return s.len + 1;
}
