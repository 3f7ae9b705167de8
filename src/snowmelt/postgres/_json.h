/* Whether a text is JSON, as PostgreSQL's json and jsonb judge it: src/common/jsonapi.c, and for the numbers of jsonb
 * numeric_in. `json_rules.py` has the same rules in Python, and a test holds the two together, and to a server.
 *
 * How deep values may be nested depends on the server's stack, so that is left to the server.
 */

#ifndef SNOWMELT_JSON_H
#define SNOWMELT_JSON_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The numbers of values.Fault; NO_ROOM, which is none, is an error of this process. */
typedef enum {
    FITS, NUL, ESCAPED_NUL, TOO_MANY_CHARACTERS, TOO_MANY_BYTES, NO_JSON, LONE_SURROGATE, JSON_NUMBER,
    TOO_LARGE, NO_ROOM = 255
} Fault;

typedef struct {
    const uint8_t *at, *end;
    int binary;      /* jsonb, which decodes what json only looks at */
    uint64_t *bits;  /* what is open, outermost first: 1 for an object, 0 for an array */
    int64_t depth, room;
} Json;

#define JSON_LARGEST_POWER 131072     /* 4 * (INT16_MAX + 1): numeric has no digit of this power of ten */
#define JSON_MOST_DECIMALS 16383      /* NUMERIC_DSCALE_MAX */
#define JSON_LARGEST_EXPONENT 1073741823 /* INT32_MAX / 2 */

static inline int json_is_digit(uint8_t c) { return (uint8_t)(c - '0') < 10; }

static inline void json_skip_space(Json *j) {
    while (j->at < j->end && *j->at <= ' ' &&
           (*j->at == ' ' || *j->at == '\n' || *j->at == '\t' || *j->at == '\r'))
        j->at++;
}

static int json_open(Json *j, int object) {
    if (j->depth == j->room * 64) {
        int64_t room = j->room ? 2 * j->room : 16;
        uint64_t *bits = realloc(j->bits, (size_t)room * sizeof *bits);
        if (!bits)
            return 0;
        j->bits = bits;
        j->room = room;
    }
    uint64_t bit = UINT64_C(1) << (j->depth & 63);
    if (object)
        j->bits[j->depth >> 6] |= bit;
    else
        j->bits[j->depth >> 6] &= ~bit;
    j->depth++;
    return 1;
}

static inline int json_in_object(const Json *j) {
    return j->bits[(j->depth - 1) >> 6] >> ((j->depth - 1) & 63) & 1;
}

/* To the next quote, backslash or control character, or the end: eight bytes at a time. */
static inline const uint8_t *json_skip_plain(const uint8_t *at, const uint8_t *end) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    for (; end - at >= 8; at += 8) {
        uint64_t eight;
        memcpy(&eight, at, 8);
        uint64_t quote = eight ^ ones * '"', backslash = eight ^ ones * '\\';
        /* A borrow may mark a byte too many, but only behind one that is marked rightly. */
        uint64_t marked = (((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) |
                           ((eight - ones * 0x20) & ~eight)) & high;
        if (marked)
            return at + (__builtin_ctzll(marked) >> 3);
    }
#endif
    while (at < end && *at != '"' && *at != '\\' && *at >= 0x20)
        at++;
    return at;
}

static int json_hex(const uint8_t *at) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = at[i], digit;
        if (json_is_digit(c))
            digit = (uint8_t)(c - '0');
        else if ((uint8_t)((c | 0x20) - 'a') < 6)
            digit = (uint8_t)((c | 0x20) - 'a' + 10);
        else
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* From behind the opening quote to behind the closing one. */
static inline Fault json_string(Json *j) {
    int high = 0; /* half of a surrogate pair waits for the other */
    for (;;) {
        if (!high)
            j->at = json_skip_plain(j->at, j->end);
        if (j->at == j->end || *j->at < 0x20)
            return NO_JSON;
        uint8_t c = *j->at++;
        if (c != '\\') {
            if (high)
                return LONE_SURROGATE;
            if (c == '"')
                return FITS;
            continue;
        }
        if (j->at == j->end)
            return NO_JSON;
        c = *j->at++;
        if (c != 'u') {
            if (!c || !strchr("\"\\/bfnrt", c))
                return NO_JSON;
            if (high)
                return LONE_SURROGATE;
            continue;
        }
        int code = j->end - j->at >= 4 ? json_hex(j->at) : -1;
        if (code < 0)
            return NO_JSON;
        j->at += 4;
        if (!j->binary)
            continue;
        if (high != (code >> 10 == 0xDC00 >> 10))
            return LONE_SURROGATE;
        high = code >> 10 == 0xD800 >> 10;
        if (!code)
            return ESCAPED_NUL;
    }
}

static inline Fault json_number(Json *j) {
    if (*j->at == '-')
        j->at++;
    const uint8_t *whole = j->at, *fraction = NULL, *first = NULL;
    while (j->at < j->end && json_is_digit(*j->at))
        j->at++;
    int64_t digits = j->at - whole, decimals = 0, power = 0, exponent = 0;
    if (!digits || (digits > 1 && *whole == '0'))
        return NO_JSON;
    if (*whole != '0')
        first = whole, power = digits - 1;
    if (j->at < j->end && *j->at == '.') {
        for (fraction = ++j->at; j->at < j->end && json_is_digit(*j->at); j->at++)
            if (!first && *j->at != '0')
                first = j->at, power = fraction - j->at - 1;
        if (!(decimals = j->at - fraction))
            return NO_JSON;
    }
    if (j->at < j->end && (*j->at | 0x20) == 'e') {
        int negative = 0;
        if (++j->at < j->end && (*j->at == '+' || *j->at == '-'))
            negative = *j->at++ == '-';
        const uint8_t *start = j->at;
        for (; j->at < j->end && json_is_digit(*j->at); j->at++)
            if (exponent <= JSON_LARGEST_EXPONENT)
                exponent = exponent * 10 + (*j->at - '0');
        if (j->at == start)
            return NO_JSON;
        if (j->binary && exponent > JSON_LARGEST_EXPONENT)
            return JSON_NUMBER;
        exponent = negative ? -exponent : exponent;
    }
    if (j->binary && (decimals - exponent > JSON_MOST_DECIMALS || (first && power + exponent >= JSON_LARGEST_POWER)))
        return JSON_NUMBER;
    return FITS;
}

static inline Fault json_word(Json *j, const char *word, int64_t size) {
    if (j->end - j->at < size || memcmp(j->at, word, (size_t)size))
        return NO_JSON;
    j->at += size;
    return FITS;
}

static inline Fault json_scalar(Json *j) {
    switch (*j->at) {
    case '"': j->at++; return json_string(j);
    case 't': return json_word(j, "true", 4);
    case 'f': return json_word(j, "false", 5);
    case 'n': return json_word(j, "null", 4);
    case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
        return json_number(j);
    }
    return NO_JSON;
}

/* A key and its colon. */
static inline Fault json_key(Json *j) {
    json_skip_space(j);
    if (j->at == j->end || *j->at++ != '"')
        return NO_JSON;
    Fault fault = json_string(j);
    if (fault != FITS)
        return fault;
    json_skip_space(j);
    return j->at < j->end && *j->at++ == ':' ? FITS : NO_JSON;
}

/* One value that is no object or array, or what opens one and its first key; *done: a value has ended. */
static inline Fault json_begin(Json *j, int *done) {
    json_skip_space(j);
    *done = 1;
    if (j->at == j->end)
        return NO_JSON;
    int object = *j->at == '{';
    if (!object && *j->at != '[')
        return json_scalar(j);
    if (!json_open(j, object))
        return NO_ROOM;
    j->at++;
    json_skip_space(j);
    if (j->at < j->end && *j->at == (object ? '}' : ']')) {
        j->at++, j->depth--;
        return FITS;
    }
    *done = 0;
    return object ? json_key(j) : FITS;
}

/* The first fault of a value. `j` keeps its memory for the next. */
static Fault json_fault(Json *j, const uint8_t *from, int64_t size) {
    j->at = from;
    j->end = from + size;
    j->depth = 0;
    for (int done = 0;;) {
        Fault fault = json_begin(j, &done);
        if (fault != FITS)
            return fault;
        while (done) {
            json_skip_space(j);
            if (!j->depth)
                return j->at == j->end ? FITS : NO_JSON;
            int object = json_in_object(j);
            if (j->at == j->end)
                return NO_JSON;
            uint8_t c = *j->at++;
            if (c == (object ? '}' : ']')) {
                j->depth--;
                continue;
            }
            if (c != ',')
                return NO_JSON;
            if (object && (fault = json_key(j)) != FITS)
                return fault;
            done = 0;
        }
    }
}

#endif
