/* The plane coder's core: plain C11, no allocation failure unreported, no Python. `pure.py` is its mirror, bit by bit. */
#ifndef SPLITMESH_PLANES_CORE_H
#define SPLITMESH_PLANES_CORE_H

#include <stddef.h>
#include <stdint.h>

enum { INPUTS = 5, VALUE_TAPS = 32, SIZE_TAPS = 16, TAPS = VALUE_TAPS + SIZE_TAPS, KINDS = 3, LADDER = 6, WEIGHT_SETS = 64, PLAIN = 512, COUNT_LIMIT = 255 };

/* One tensor: `planes` components of height x width. `scale` has one value per plane, or per element. */
typedef struct {
    int32_t planes, height, width, slot;
    int32_t dense;
    const uint16_t *scale;
    const int16_t *context; /* NULL: none */
    int16_t *values;        /* read by the encoder, written by the decoder */
} Tensor;

typedef struct {
    uint32_t *cells; /* 22 bits of probability that the bit is 1, 10 bits of count */
    int32_t *weights;
    const int16_t *taps; /* slots x TAPS x (back, dy, dx, weight), first those of values: see `taps.py` */
    int32_t slots;
} Model;

typedef struct {
    uint8_t *bytes;
    size_t length, capacity;
} Output;

enum { CORE_OK = 0, CORE_MEMORY = 1, CORE_CORRUPT = 2 };

void core_init(void);
size_t core_cells(int32_t slots);
int core_encode(const Model *model, const Tensor *tensors, int count, Output *out);
int core_decode(const Model *model, const Tensor *tensors, int count, const uint8_t *data, size_t length);

#endif
