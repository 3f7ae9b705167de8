/* Which values of a text or decimal column PostgreSQL would not take, without the GIL.
 *
 * faults((schema_capsule, array_capsule), rule, most) -> None, or a code for each row. values.py says the same with
 * pyarrow where this is not built. A column is looked at as a whole first: for a byte NUL, the longest value, the
 * numbers beyond a bound. Its rows are judged one by one only where that does not say that all fit.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdio.h>

#include "_arrow.h"
#include "_json.h"

/* As in _copybinary.c: what palloc gives less a varlena header. */
#define LONGEST_FIELD (0x3fffffff - 4)

typedef struct {
    char rule; /* t text, v varchar, c char, J json, j jsonb, y bytea, n numeric */
    int64_t most; /* characters of varchar and char, digits of numeric */
    int64_t first, rows;
    const uint8_t *valid, *offsets, *bytes;
    int nuls; /* whether there may be any */
    unsigned __int128 bound; /* the greatest decimal */
    Json json;
} Values;

static inline int64_t offset_of(const Values *t, int64_t row) {
    int32_t value;
    memcpy(&value, t->offsets + (t->first + row) * 4, sizeof value);
    return value;
}

/* More than so many characters, as the type counts them: char(n) takes no notice of blanks at the end. */
static int is_longer(const Values *t, const uint8_t *at, int64_t size) {
    if (t->rule == 'c')
        while (size > t->most && at[size - 1] == ' ')
            size--;
    if (size <= t->most)
        return 0;
    int64_t characters = 0;
    for (int64_t i = 0; i < size; i++)
        characters += (at[i] & 0xC0) != 0x80;
    return characters > t->most;
}

static Fault fault_of(Values *t, int64_t row) {
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

/* How many decimals are beyond those of so many digits: no branch, so that it is done several at a time. */
static int64_t beyond(const Values *t, int64_t row, int64_t to) {
    const unsigned __int128 bound = t->bound;
    int64_t found = 0;
    for (; row < to; row++) {
        unsigned __int128 value;
        memcpy(&value, t->bytes + (t->first + row) * 16, sizeof value);
        found += value + bound > 2 * bound; /* unsigned: from -bound to bound */
    }
    return found;
}

static Fault decimal_fault(const Values *t, int64_t row) {
    if (t->valid && !(t->valid[(t->first + row) >> 3] >> ((t->first + row) & 7) & 1))
        return FITS;
    return beyond(t, row, row + 1) ? TOO_LARGE : FITS;
}

typedef enum { MALFORMED, TO_LOOK_AT, ALL_FIT } Survey;

/* What can be said of all rows at once; whether the offsets are ones. */
static Survey survey(Values *t) {
    if (t->rule == 'n')
        return beyond(t, 0, t->rows) ? TO_LOOK_AT : ALL_FIT;
    int64_t start = offset_of(t, 0), size = offset_of(t, t->rows) - start;
    uint32_t longest = 0, all = (uint32_t)start;
    for (int64_t row = 0; row < t->rows; row++) {
        uint32_t after = (uint32_t)offset_of(t, row + 1), own = after - (uint32_t)offset_of(t, row);
        longest = own > longest ? own : longest;
        all |= after;
    }
    /* As unsigned, what is negative is beyond INT32_MAX. */
    if ((all | longest) > INT32_MAX || (size && !t->bytes))
        return MALFORMED;
    int huge = longest > LONGEST_FIELD - 1;
    /* Too long a value is not read at all. */
    t->nuls = t->rule != 'y' && size && (huge || memchr(t->bytes + start, 0, (size_t)size));
    if (huge || t->nuls || t->rule == 'J' || t->rule == 'j')
        return TO_LOOK_AT;
    return t->rule == 't' || t->rule == 'y' || longest <= t->most ? ALL_FIT : TO_LOOK_AT;
}

static int describe_decimals(Values *t, const struct ArrowSchema *schema, const struct ArrowArray *array) {
    if (strncmp(schema->format, "d:", 2) || array->n_buffers != 2 || (array->length && !array->buffers[1]) ||
        t->most < 0 || t->most > 38)
        return 0;
    int precision, scale, end = 0;
    if (sscanf(schema->format, "d:%2d,%3d%n", &precision, &scale, &end) != 2 || !end ||
        (schema->format[end] && strcmp(schema->format + end, ",128")))
        return 0;
    t->bytes = array->buffers[1];
    for (t->bound = 1; t->most; t->most--)
        t->bound *= 10;
    t->bound--;
    return 1;
}

static int describe(Values *t, const struct ArrowSchema *schema, const struct ArrowArray *array) {
    if (!schema->release || !array->release || !schema->format || schema->dictionary || array->dictionary ||
        !array->buffers || !is_count(array->offset) || !is_count(array->length))
        return 0;
    t->first = array->offset;
    t->rows = array->length;
    t->valid = array->null_count ? array->buffers[0] : NULL;
    if (t->rule == 'n')
        return describe_decimals(t, schema, array);
    if (strcmp(schema->format, t->rule == 'y' ? "z" : "u") || array->n_buffers != 3 ||
        (array->length && !array->buffers[1]))
        return 0;
    t->offsets = array->buffers[1];
    t->bytes = array->buffers[2];
    return 1;
}

/* The first row with a fault, from `row` on; with `codes` none ends it, and each row's is noted. */
static int64_t look(Values *t, int64_t row, uint8_t *codes, Fault *fault) {
    for (; row < t->rows; row++) {
        *fault = t->rule == 'n' ? decimal_fault(t, row) : fault_of(t, row);
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

static PyObject *coded(Values *t, int64_t row) {
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
    long long most;
    if (!PyArg_ParseTuple(args, "O!CL:faults", &PyTuple_Type, &column, &rule, &most))
        return NULL;
    if (PyTuple_Size(column) != 2)
        return PyErr_Format(PyExc_ValueError, "a column is two capsules");
    /* Only read: the capsules stay the owners, `args` keeps them, and they release when they go. */
    const struct ArrowSchema *schema = PyCapsule_GetPointer(PyTuple_GetItem(column, 0), "arrow_schema");
    const struct ArrowArray *array;
    if (!schema || !(array = PyCapsule_GetPointer(PyTuple_GetItem(column, 1), "arrow_array")))
        return NULL;
    Values values = {.rule = (char)rule, .most = most};
    values.json.binary = rule == 'j';
    if (rule <= 0 || rule > 127 || !strchr("tvcJjyn", rule) || !describe(&values, schema, array))
        return PyErr_Format(PyExc_ValueError, "not a column of the rule, or a released one, or malformed");
    if (!values.rows)
        return Py_NewRef(Py_None);
    int64_t row = 0;
    Survey known;
    Fault fault = FITS;
    Py_BEGIN_ALLOW_THREADS
    known = survey(&values);
    if (known == TO_LOOK_AT)
        row = look(&values, 0, NULL, &fault);
    Py_END_ALLOW_THREADS
    if (known == MALFORMED)
        PyErr_Format(PyExc_ValueError, "malformed: offsets");
    else if (fault == NO_ROOM)
        PyErr_NoMemory();
    else
        result = fault == FITS ? Py_NewRef(Py_None) : coded(&values, row);
    free(values.json.bits);
    return result;
}

static PyMethodDef METHODS[] = {
    {"faults", faults, METH_VARARGS,
     "faults((schema_capsule, array_capsule), rule, most) -> bytes | None: a code for each row of a text, binary or\n"
     "decimal column, or None where PostgreSQL takes all of them.\n\nRaises ValueError for what is no such column."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot SLOTS[] = {{0, NULL}};
static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "_values", .m_methods = METHODS, .m_slots = SLOTS};

PyMODINIT_FUNC PyInit__values(void) { return PyModuleDef_Init(&MODULE); }
