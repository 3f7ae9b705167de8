/* Arrow record batches -> the tuples of binary COPY, without the GIL.
 *
 * encode((schema_capsule, array_capsule), wires) -> bytes does what pgpq's write_batch does, byte for byte,
 * for the types that snowmelt.postgres.encode casts to; encode.py falls back to pgpq where this is not built.
 * It is here because pgpq holds the GIL, which makes two loading threads no faster than one.
 *
 * Two passes over the columns: the first finds each row's size, hence the exact size of the result and where
 * each row starts; the second writes column by column within blocks of rows, one cursor a row. That keeps a
 * type's loop free of branches on the type, and a block's rows in cache. Both passes see the same values, since
 * Arrow's buffers don't change.
 *
 * Formats: https://arrow.apache.org/docs/format/CDataInterface.html, and the *_recv functions of PostgreSQL.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "_arrow.h"

/* The code of a column in `wires`, the bytes of a value (0: they vary), and the Arrow format it comes in. */
static const struct { char code; uint8_t width; const char *format; } WIRES[] = {
    {'?', 1, "b"}, {'h', 2, "s"}, {'i', 4, "i"}, {'q', 8, "l"}, {'f', 4, "f"},
    {'d', 8, "g"}, {'t', 0, "u"}, {'y', 0, "z"}, {'D', 4, "tdD"}, {'T', 8, "ttu"},
    {'s', 8, "tsu:"}, {'z', 8, "tsu:"}, {'u', 16, "w:16"}, {'j', 0, "u"}, {'n', 0, "d:"},
    /* s, z: timestamp and timestamptz, whose zone follows. j: jsonb, while json is t. n: numeric, likewise. */
};

typedef struct {
    char code;
    uint8_t width;
    int scale;
    int64_t first;         /* where the batch's first row is in the buffers */
    const uint8_t *valid;  /* a bit a row; NULL: no row is NULL */
    const uint8_t *values; /* the offsets, where values vary in length */
    const uint8_t *text;
} Column;

typedef enum { FINE, NO_MEMORY, TOO_LARGE, TOO_LONG, TOO_EARLY, BAD_OFFSETS } Verdict;

/* What palloc gives less a varlena header: a longer field is refused by the server only after all of it came. */
#define LONGEST_FIELD (0x3fffffff - 4)
#define LARGEST_RESULT INT32_MAX
#define BLOCK_ROWS 128 /* 32 to 256 are alike; row by row is a third slower */
#define EPOCH_DAYS 10957 /* from 1970-01-01 to 2000-01-01 */
#define EPOCH_MICROSECONDS INT64_C(946684800000000)

/* Arrow asks for aligned buffers but does not promise them, and no row of COPY is aligned: hence memcpy. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NETWORK(bits, value) __builtin_bswap##bits(value)
#else
#define NETWORK(bits, value) (value)
#endif

#define ACCESSORS(bits)                                                          \
    static inline uint##bits##_t get##bits(const uint8_t *from, int64_t index) { \
        uint##bits##_t value;                                                    \
        memcpy(&value, from + index * (bits / 8), sizeof value);                 \
        return value;                                                            \
    }                                                                            \
    static inline void put##bits(uint8_t *to, uint##bits##_t value) {            \
        value = NETWORK(bits, value);                                            \
        memcpy(to, &value, sizeof value);                                        \
    }

ACCESSORS(16) ACCESSORS(32) ACCESSORS(64)

static inline int bit(const uint8_t *bits, int64_t index) { return bits[index >> 3] >> (index & 7) & 1; }

static inline int is_null(const Column *c, int64_t row) { return c->valid && !bit(c->valid, c->first + row); }

/* numeric: base-10000 digits, which lie on both sides of the decimal point */
typedef unsigned __int128 Magnitude;
#define TEN_TO_16 UINT64_C(10000000000000000)
static const uint16_t TENS[] = {1, 10, 100, 1000};

static inline Magnitude magnitude(const Column *c, int64_t row, int *negative) {
    Magnitude value;
    memcpy(&value, c->values + (c->first + row) * 16, sizeof value);
    *negative = (int)(value >> 127);
    return *negative ? -value : value; /* unsigned: the smallest int128 has a magnitude too */
}

/* Splits a value into digits, least significant first; those from *low to the result - 1 are sent, since
 * neither end may have zeros. int128 has at most 11. */
static inline int split(Magnitude rest, int scale, uint16_t digits[12], int *low) {
    int n = 0, part = scale & 3;
    uint64_t small;
    if (rest <= UINT64_MAX / 1000) {
        small = (uint64_t)rest * TENS[-scale & 3]; /* whole digits behind the point */
    } else {
        if (part) { /* scaling could overflow: the decimals that fill no digit go first */
            Magnitude more = rest / TENS[part];
            digits[n++] = (uint16_t)((uint64_t)(rest - more * TENS[part]) * TENS[4 - part]);
            rest = more;
        }
        while (rest >> 64) {
            Magnitude more = rest / TEN_TO_16;
            uint64_t four = (uint64_t)(rest - more * TEN_TO_16);
            rest = more;
            for (int i = 0; i < 4; i++, four /= 10000)
                digits[n++] = (uint16_t)(four % 10000);
        }
        small = (uint64_t)rest;
    }
    for (; small; small /= 10000)
        digits[n++] = (uint16_t)(small % 10000);
    for (*low = 0; *low < n && !digits[*low]; ++*low)
        ;
    return n;
}

/* The first pass only counts, without the digits where it can. */
static inline uint32_t numeric_size(const Column *c, int64_t row) {
    int negative;
    Magnitude value = magnitude(c, row, &negative);
    if (value <= UINT64_MAX / 1000) {
        uint64_t small = (uint64_t)value * TENS[-c->scale & 3];
        if (small % 10000)
            return 10 + 2 * (uint32_t)((small >= 10000) + (small >= 100000000) +
                                       (small >= UINT64_C(1000000000000)) + (small >= TEN_TO_16));
    }
    uint16_t digits[12];
    int low, n = split(value, c->scale, digits, &low);
    return 8 + 2 * (uint32_t)(n - low);
}

static inline uint32_t put_numeric(uint8_t *to, const Column *c, int64_t row) {
    uint16_t digits[12];
    int negative, low, n = split(magnitude(c, row, &negative), c->scale, digits, &low);
    put16(to, (uint16_t)(n - low));
    put16(to + 2, n ? (uint16_t)(n - 1 - (c->scale + 3) / 4) : 0);
    put16(to + 4, negative ? 0x4000 : 0);
    put16(to + 6, (uint16_t)c->scale);
    to += 8;
    for (int i = n - 1; i >= low; i--, to += 2)
        put16(to, digits[i]);
    return 8 + 2 * (uint32_t)(n - low);
}

/* A date or timestamp that would wrap, or arrive as the -infinity that is PostgreSQL's smallest integer. */
static int is_too_early(const Column *c, int64_t row) {
    if (c->code == 'D')
        return (int32_t)get32(c->values, c->first + row) <= INT32_MIN + EPOCH_DAYS;
    return (int64_t)get64(c->values, c->first + row) <= INT64_MIN + EPOCH_MICROSECONDS;
}

/* The first pass: adds to each row's size what its value takes, the 4-byte length aside; *all is the sum. */
static Verdict measure(Column *c, int64_t rows, uint32_t *size, int64_t *all, int64_t *culprit) {
    int64_t sum = 0;
    if (c->code == 'D' || c->code == 's' || c->code == 'z')
        for (int64_t row = 0; row < rows; row++)
            if (*culprit = row, is_too_early(c, row) && !is_null(c, row))
                return TOO_EARLY;
    if (c->width && !c->valid) {
        sum = rows * c->width; /* the same in each row: lay_out has it */
    } else if (c->width) {
        for (int64_t row = 0; row < rows; row++) {
            uint32_t own = (uint32_t)(c->width & -bit(c->valid, c->first + row));
            size[row] += own;
            sum += own;
        }
        if (sum == rows * c->width)
            c->valid = NULL; /* a slice without NULLs: its loops are twice as fast */
    } else if (c->code == 'n') {
        for (int64_t row = 0; row < rows; row++) {
            uint32_t own = is_null(c, row) ? 0 : numeric_size(c, row);
            size[row] += own;
            sum += own;
        }
    } else {
        int64_t version = c->code == 'j';
        for (int64_t row = 0; row < rows; row++) {
            int64_t start = (int32_t)get32(c->values, c->first + row);
            int64_t length = (int32_t)get32(c->values, c->first + row + 1) - start;
            *culprit = row;
            if (start < 0 || length < 0 || (length && !c->text))
                return BAD_OFFSETS;
            if (is_null(c, row))
                continue; /* what lies under a NULL is not sent */
            if (length + version > LONGEST_FIELD)
                return TOO_LONG;
            size[row] += (uint32_t)(length + version);
            sum += length + version;
        }
    }
    *all = sum;
    return FINE;
}

/* The second pass. The column by value: nothing stored can then alias it, and the NULL test leaves the loop. */
#define EACH_ROW(store)                                   \
    for (int64_t row = from; row < to; row++) {           \
        uint8_t *at = out + cursor[row];                  \
        int64_t i = c.first + row;                        \
        uint32_t length;                                  \
        if (c.valid && !bit(c.valid, i)) {                \
            put32(at, UINT32_MAX), cursor[row] += 4;      \
            continue;                                     \
        }                                                 \
        store;                                            \
        put32(at, length), cursor[row] += 4 + length;     \
    }                                                     \
    break;

static void fill(const Column c, int64_t from, int64_t to, uint8_t *restrict out, uint32_t *restrict cursor) {
    switch (c.code) {
    case '?': EACH_ROW(length = 1; at[4] = (uint8_t)bit(c.values, i))
    case 'h': EACH_ROW(length = 2; put16(at + 4, get16(c.values, i)))
    case 'i': case 'f': EACH_ROW(length = 4; put32(at + 4, get32(c.values, i)))
    case 'D': EACH_ROW(length = 4; put32(at + 4, get32(c.values, i) - EPOCH_DAYS))
    case 'q': case 'd': case 'T': EACH_ROW(length = 8; put64(at + 4, get64(c.values, i)))
    case 's': case 'z': EACH_ROW(length = 8; put64(at + 4, get64(c.values, i) - EPOCH_MICROSECONDS))
    case 'u': EACH_ROW(length = 16; memcpy(at + 4, c.values + i * 16, 16))
    case 'n': EACH_ROW(length = put_numeric(at + 4, &c, row))
    default: { /* t y j */
        uint32_t version = c.code == 'j';
        EACH_ROW(uint32_t start = get32(c.values, i); uint32_t size = get32(c.values, i + 1) - start;
                 length = size + version; if (version) at[4] = 1;
                 if (size) memcpy(at + 4 + version, c.text + start, size))
    }
    }
}

static int fits(char code, const char *format, const char *expected, int *scale) {
    if (code == 'z')
        return !strncmp(format, expected, 4) && format[4];
    if (code != 'n')
        return !strcmp(format, expected);
    int precision, end = 0;
    return sscanf(format, "d:%2d,%2d%n", &precision, scale, &end) == 2 && end && precision >= 1 &&
           precision <= 38 && *scale >= 0 && *scale <= 38 && (!format[end] || !strcmp(format + end, ",128"));
}

/* NULL, or what is wrong with the column. */
static const char *describe(Column *c, char code, const struct ArrowSchema *schema,
                            const struct ArrowArray *array, int64_t offset, int64_t rows) {
    size_t known = 0;
    while (known < sizeof WIRES / sizeof *WIRES && WIRES[known].code != code)
        known++;
    if (known == sizeof WIRES / sizeof *WIRES)
        return "there is no such wire code";
    if (!schema || !schema->format || !array || !array->release)
        return "malformed: not there, or released";
    if (schema->dictionary || array->dictionary || !fits(code, schema->format, WIRES[known].format, &c->scale))
        return "its Arrow type is not the one of its wire code";
    int buffers = WIRES[known].width || code == 'n' ? 2 : 3;
    if (array->n_buffers != buffers || !array->buffers || (rows && !array->buffers[1]))
        return "malformed: buffers";
    if (!is_count(array->offset) || !is_count(array->length) || array->length < offset + rows)
        return "malformed: length or offset";
    c->code = code;
    c->width = WIRES[known].width;
    c->first = array->offset + offset;
    c->valid = array->null_count ? array->buffers[0] : NULL;
    c->values = array->buffers[1];
    c->text = buffers == 3 ? array->buffers[2] : NULL;
    return NULL;
}

/* Where each row starts, in *starts, which the caller frees; and how large the result is. */
static Verdict lay_out(Column *columns, int64_t count, int64_t rows, uint32_t **starts, int64_t *total,
                       int64_t *column, int64_t *row) {
    int64_t each = 2 + 4 * count;
    if (rows > LARGEST_RESULT / each)
        return TOO_LARGE;
    *total = rows * each;
    uint32_t *size = *starts = calloc((size_t)rows + 1, sizeof *size);
    if (!size)
        return NO_MEMORY;
    for (*column = 0; *column < count; ++*column) {
        Column *c = &columns[*column];
        int64_t sum;
        each += c->valid ? 0 : c->width;
        Verdict verdict = measure(c, rows, size, &sum, row);
        if (verdict != FINE)
            return verdict;
        if ((*total += sum) > LARGEST_RESULT) /* after each: a row's size then fits into 32 bits */
            return TOO_LARGE;
    }
    for (int64_t i = 0, at = 0, own; i < rows; i++, at += own) {
        own = size[i] + each;
        size[i] = (uint32_t)at;
    }
    return FINE;
}

static void write_rows(const Column *columns, int64_t count, int64_t rows, uint8_t *out, uint32_t *cursor) {
    for (int64_t from = 0; from < rows; from += BLOCK_ROWS) {
        int64_t to = rows - from < BLOCK_ROWS ? rows : from + BLOCK_ROWS;
        for (int64_t row = from; row < to; row++) {
            put16(out + cursor[row], (uint16_t)count);
            cursor[row] += 2;
        }
        for (int64_t column = 0; column < count; column++)
            fill(columns[column], from, to, out, cursor);
    }
}

static PyObject *refuse(Verdict verdict, int64_t column, int64_t row) {
    static const char *const REASONS[] = {[TOO_LONG] = "a field has at most 1 GB",
                                          [TOO_EARLY] = "before PostgreSQL's range",
                                          [BAD_OFFSETS] = "malformed: offsets"};
    if (verdict == TOO_LARGE)
        return PyErr_Format(PyExc_OverflowError, "the batch encodes to more than 2 GB");
    if (verdict == NO_MEMORY)
        return PyErr_NoMemory();
    return PyErr_Format(verdict == BAD_OFFSETS ? PyExc_ValueError : PyExc_OverflowError,
                        "column %lld, row %lld: %s", (long long)column, (long long)row, REASONS[verdict]);
}

static PyObject *encode_columns(Column *columns, int64_t count, int64_t rows) {
    uint32_t *starts = NULL;
    int64_t total = 0, column = 0, row = 0;
    Verdict verdict;
    PyObject *result = NULL;
    Py_BEGIN_ALLOW_THREADS
    verdict = lay_out(columns, count, rows, &starts, &total, &column, &row);
    Py_END_ALLOW_THREADS
    if (verdict != FINE) {
        refuse(verdict, column, row);
    } else if ((result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total))) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(result); /* nobody else has seen it yet */
        Py_BEGIN_ALLOW_THREADS
        write_rows(columns, count, rows, out, starts);
        Py_END_ALLOW_THREADS
    }
    free(starts);
    return result;
}

static PyObject *encode(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *batch;
    const char *wires;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "O!y#:encode", &PyTuple_Type, &batch, &wires, &count))
        return NULL;
    if (PyTuple_Size(batch) != 2)
        return PyErr_Format(PyExc_ValueError, "a batch is two capsules");
    /* Only read: the capsules stay the owners, `args` keeps them, and they release when they go. */
    const struct ArrowSchema *schema = PyCapsule_GetPointer(PyTuple_GetItem(batch, 0), "arrow_schema");
    const struct ArrowArray *array;
    if (!schema || !(array = PyCapsule_GetPointer(PyTuple_GetItem(batch, 1), "arrow_array")))
        return NULL;
    if (!schema->release || !array->release || strcmp(schema->format, "+s") || !is_count(array->length) ||
        !is_count(array->offset) || (array->null_count && array->n_buffers && array->buffers[0]))
        return PyErr_Format(PyExc_ValueError, "not a record batch, or a released one, or malformed");
    if (schema->n_children != count || array->n_children != count || count > INT16_MAX)
        return PyErr_Format(PyExc_ValueError, "%zd wire codes for %lld columns, %d at most", count,
                            (long long)array->n_children, INT16_MAX);
    Column *columns = calloc((size_t)count + 1, sizeof *columns);
    if (!columns)
        return PyErr_NoMemory();
    PyObject *result = NULL;
    const char *problem = NULL;
    Py_ssize_t column = -1;
    while (!problem && ++column < count)
        problem = describe(&columns[column], wires[column], schema->children[column], array->children[column],
                           array->offset, array->length);
    if (problem)
        PyErr_Format(PyExc_ValueError, "column %zd: %s", column, problem);
    else
        result = encode_columns(columns, count, array->length);
    free(columns);
    return result;
}

static PyMethodDef METHODS[] = {
    {"encode", encode, METH_VARARGS,
     "encode((schema_capsule, array_capsule), wires) -> bytes: the rows as binary COPY tuples.\n\n"
     "Raises ValueError for what is not a batch of those columns, OverflowError for what COPY can't hold."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "_copybinary", .m_methods = METHODS, .m_slots = SLOTS};

PyMODINIT_FUNC PyInit__copybinary(void) { return PyModuleDef_Init(&MODULE); }
