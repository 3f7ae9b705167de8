/* Arrow's C data interface: https://arrow.apache.org/docs/format/CDataInterface.html */

#ifndef SNOWMELT_ARROW_H
#define SNOWMELT_ARROW_H

#include <stdint.h>

struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

/* Large enough for any batch, and small enough that sums and byte offsets of two such can't overflow. */
static inline int is_count(int64_t value) { return value >= 0 && value <= INT64_C(1) << 48; }

#endif
