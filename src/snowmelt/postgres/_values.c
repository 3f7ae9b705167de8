/* Which values of a text column PostgreSQL would not take, without the GIL.
 *
 * faults((schema_capsule, array_capsule), rule, characters) -> None, or a code for each row. values.py says the same
 * with pyarrow where this is not built. NUL characters are looked for in all of a column's bytes at once, and the
 * rows only where there is one.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include "_arrow.h"
#include "_json.h"

/* As in _copybinary.c: what palloc gives less a varlena header. */
#define LONGEST_FIELD (0x3fffffff - 4)

typedef struct {
    char rule; /* t text, v varchar, c char, J json, j jsonb, y bytea */
    int64_t characters;
    int64_t first, rows;
    const uint8_t *valid, *offsets, *bytes;
    int nuls; /* whether there may be any */
    Json json;
} Text;

static inline int64_t offset_of(const Text *t, int64_t row) {
    int32_t value;
    memcpy(&value, t->offsets + (t->first + row) * 4, sizeof value);
    return value;
}

/* More than so many characters, as the type counts them: char(n) takes no notice of blanks at the end. */
static int is_longer(const Text *t, const uint8_t *at, int64_t size) {
    if (t->rule == 'c')
        while (size > t->characters && at[size - 1] == ' ')
            size--;
    if (size <= t->characters)
        return 0;
    int64_t characters = 0;
    for (int64_t i = 0; i < size; i++)
        characters += (at[i] & 0xC0) != 0x80;
    return characters > t->characters;
}

static Fault fault_of(Text *t, int64_t row) {
    int64_t start = offset_of(t, row), size = offset_of(t, row + 1) - start;
    if (t->valid && !(t->valid[(t->first + row) >> 3] >> ((t->first + row) & 7) & 1))
        return FITS;
    if (size > LONGEST_FIELD - (t->rule == 'j'))
        return TOO_MANY_BYTES;
    const uint8_t *at = t->bytes ? t->bytes + start : (const uint8_t *)"";
    if (t->nuls && size && memchr(at, 0, (size_t)size))
        return NUL;
    switch (t->rule) {
    case 'v': case 'c': return is_longer(t, at, size) ? TOO_MANY_CHARACTERS : FITS;
    case 'J': case 'j': return json_fault(&t->json, at, size);
    }
    return FITS;
}

/* Whether the offsets are ones, and what of the rows can be said of all of them at once; 2: nothing is wrong. */
static int survey(Text *t) {
    for (int64_t row = 0, before = offset_of(t, 0); row < t->rows; row++) {
        int64_t after = offset_of(t, row + 1);
        if (before < 0 || after < before)
            return 0;
        before = after;
    }
    int64_t start = offset_of(t, 0), size = offset_of(t, t->rows) - start;
    if (size && !t->bytes)
        return 0;
    int huge = size > LONGEST_FIELD - 1;
    /* Too long a value is not read at all. */
    t->nuls = t->rule != 'y' && size && (huge || memchr(t->bytes + start, 0, (size_t)size));
    return !huge && !t->nuls && (t->rule == 't' || t->rule == 'y') ? 2 : 1;
}

static int describe(Text *t, const struct ArrowSchema *schema, const struct ArrowArray *array) {
    if (!schema->release || !array->release || !schema->format || schema->dictionary || array->dictionary ||
        strcmp(schema->format, t->rule == 'y' ? "z" : "u") || array->n_buffers != 3 || !array->buffers ||
        !is_count(array->offset) || !is_count(array->length) || (array->length && !array->buffers[1]))
        return 0;
    t->first = array->offset;
    t->rows = array->length;
    t->valid = array->null_count ? array->buffers[0] : NULL;
    t->offsets = array->buffers[1];
    t->bytes = array->buffers[2];
    return 1;
}

/* The first row with a fault, from `row` on; with `codes` none ends it, and each row's is noted. */
static int64_t look(Text *t, int64_t row, uint8_t *codes, Fault *fault) {
    for (; row < t->rows; row++) {
        *fault = fault_of(t, row);
        if (*fault == NO_ROOM)
            return row;
        if (codes)
            codes[row] = (uint8_t)*fault;
        else if (*fault != FITS)
            return row;
    }
    *fault = FITS;
    return row;
}

static PyObject *coded(Text *t, int64_t row) {
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)t->rows);
    if (!result)
        return NULL;
    uint8_t *codes = (uint8_t *)PyBytes_AsString(result); /* nobody else has seen it yet */
    Fault fault;
    Py_BEGIN_ALLOW_THREADS
    memset(codes, FITS, (size_t)row);
    look(t, row, codes, &fault);
    Py_END_ALLOW_THREADS
    if (fault != NO_ROOM)
        return result;
    Py_DecRef(result);
    return PyErr_NoMemory();
}

static PyObject *faults(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *column, *result = NULL;
    int rule;
    long long characters;
    if (!PyArg_ParseTuple(args, "O!CL:faults", &PyTuple_Type, &column, &rule, &characters))
        return NULL;
    if (PyTuple_Size(column) != 2)
        return PyErr_Format(PyExc_ValueError, "a column is two capsules");
    /* Only read: the capsules stay the owners, `args` keeps them, and they release when they go. */
    const struct ArrowSchema *schema = PyCapsule_GetPointer(PyTuple_GetItem(column, 0), "arrow_schema");
    const struct ArrowArray *array;
    if (!schema || !(array = PyCapsule_GetPointer(PyTuple_GetItem(column, 1), "arrow_array")))
        return NULL;
    Text text = {.rule = (char)rule, .characters = characters};
    text.json.binary = rule == 'j';
    if (rule <= 0 || rule > 127 || !strchr("tvcJjy", rule) || !describe(&text, schema, array))
        return PyErr_Format(PyExc_ValueError, "not a column of the rule, or a released one, or malformed");
    if (!text.rows)
        return Py_NewRef(Py_None);
    int64_t row = 0;
    int well;
    Fault fault = FITS;
    Py_BEGIN_ALLOW_THREADS
    well = survey(&text);
    if (well == 1)
        row = look(&text, 0, NULL, &fault);
    Py_END_ALLOW_THREADS
    if (!well)
        PyErr_Format(PyExc_ValueError, "malformed: offsets");
    else if (fault == NO_ROOM)
        PyErr_NoMemory();
    else
        result = fault == FITS ? Py_NewRef(Py_None) : coded(&text, row);
    free(text.json.bits);
    return result;
}

static PyMethodDef METHODS[] = {
    {"faults", faults, METH_VARARGS,
     "faults((schema_capsule, array_capsule), rule, characters) -> bytes | None: a code for each row of a text or\n"
     "binary column, or None where PostgreSQL takes all of them.\n\nRaises ValueError for what is no such column."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "_values", .m_methods = METHODS, .m_slots = SLOTS};

PyMODINIT_FUNC PyInit__values(void) { return PyModuleDef_Init(&MODULE); }
