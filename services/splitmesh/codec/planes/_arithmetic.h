/* Binary arithmetic coding and the mixing of probabilities: the first layer of `_core.c`, which alone includes this. */
#include "_core.h"

#include <stdlib.h>
#include <string.h>

/* -- logistic arithmetic: 1/256 of a unit of log odds, probabilities of 16 bits -------------------------------- */

static const uint16_t KNOTS[33] = {22,    36,    60,    98,    162,   267,   439,   720,   1179,  1921,  3108,
                                   4971,  7812,  11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565,
                                   62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514};
static uint16_t SQUASH[4096];
static int16_t STRETCH[4096];
static int32_t RATE[1024];

static void init_tables(void) {
    int next = 0;
    for (int x = -2048; x < 2048; x++) {
        int at = (x + 2048) >> 7, part = (x + 2048) & 127;
        SQUASH[x + 2048] = (uint16_t)((KNOTS[at] * (128 - part) + KNOTS[at + 1] * part + 64) >> 7);
        for (int top = SQUASH[x + 2048] >> 4; next <= top; next++) STRETCH[next] = (int16_t)x;
    }
    for (; next < 4096; next++) STRETCH[next] = 2047;
    for (int n = 0; n < 1024; n++) RATE[n] = 131072 / (2 * n + 3);
}

/* -- binary arithmetic coder with carry: 32-bit range, at most five bytes pending ------------------------------- */

typedef struct {
    uint64_t low;
    uint32_t range, code;
    Output *out;
    uint64_t pending;
    int failed, started;
    uint8_t cache;
    const uint8_t *data;
    size_t length, at;
} Coder;

static void put(Coder *c, uint8_t byte) {
    Output *o = c->out;
    if (o->length == o->capacity) {
        size_t wider = o->capacity ? 2 * o->capacity : 4096;
        uint8_t *bytes = realloc(o->bytes, wider);
        if (!bytes) {
            c->failed = CORE_MEMORY;
            return;
        }
        o->bytes = bytes;
        o->capacity = wider;
    }
    o->bytes[o->length++] = byte;
}

static void shift_low(Coder *c) {
    if (c->low < 0xFF000000u || c->low >> 32) {
        uint8_t carry = (uint8_t)(c->low >> 32);
        if (c->started) put(c, (uint8_t)(c->cache + carry));
        for (; c->pending; c->pending--) put(c, (uint8_t)(0xFF + carry));
        c->cache = (uint8_t)(c->low >> 24);
        c->started = 1;
    } else {
        c->pending++;
    }
    c->low = (c->low & 0x00FFFFFFu) << 8;
}

/* How many more bytes name a number within the range, and that number: the fewest that do. */
static int ending(uint32_t low, uint32_t range, uint64_t *number) {
    for (int bytes = 0; bytes < 4; bytes++) {
        uint64_t mask = 0xFFFFFFFFu >> (8 * bytes);
        *number = ((uint64_t)low + mask) & ~mask;
        if (*number < (uint64_t)low + range) return bytes;
    }
    *number = low;
    return 4;
}

static inline void narrow(Coder *c, int bit, uint32_t bound, const int decoding) {
    if (bit) {
        c->range = bound;
    } else {
        c->low += bound;
        if (decoding) c->code -= bound;
        c->range -= bound;
    }
    while (c->range < (1u << 24)) {
        c->range <<= 8;
        if (decoding) {
            c->low = (c->low & 0x00FFFFFFu) << 8;
            if (c->at > c->length + 3) c->failed = CORE_CORRUPT;
            c->code = c->code << 8 | (c->at < c->length ? c->data[c->at] : 0);
            c->at++;
        } else {
            shift_low(c);
        }
    }
}

/* `one`: the probability that the bit is 1, of 65536. */
static inline int code_bit(Coder *c, int bit, uint32_t one, const int decoding) {
    uint32_t bound = (uint32_t)(((uint64_t)c->range * one) >> 16);
    if (decoding) bit = c->code < bound;
    narrow(c, bit, bound, decoding);
    return bit;
}

static void finish(Coder *c) {
    uint64_t number;
    int more = ending((uint32_t)c->low, c->range, &number);
    c->low = (c->low & ~(uint64_t)0xFFFFFFFFu) + number;
    for (int i = 0; i < more; i++) shift_low(c);
    if (c->started || c->low >> 32) {
        uint8_t carry = (uint8_t)(c->low >> 32);
        if (c->started) put(c, (uint8_t)(c->cache + carry));
        for (; c->pending; c->pending--) put(c, (uint8_t)(0xFF + carry));
    }
}

static void start_decoding(Coder *c) {
    for (c->at = 0; c->at < 4; c->at++) c->code = c->code << 8 | (c->at < c->length ? c->data[c->at] : 0);
}

/* Nothing is missing and nothing left over: the bytes are the ones that the encoder writes. */
static int ended(const Coder *c) {
    uint64_t number;
    size_t more = (size_t)ending((uint32_t)c->low, c->range, &number);
    return !c->failed && c->length == c->at - 4 + more && c->code == (uint32_t)(number - c->low);
}

/* -- mixing: every input's probability in the logistic domain, weighed; all of them learn from the bit ------------ */

typedef struct {
    Coder coder;
    const Model *model;
    uint32_t base[INPUTS], sign_base[INPUTS];
} Run;

#define HELD(v, low, high) ((v) < (low) ? (low) : (v) > (high) ? (high) : (v))

typedef struct {
    uint32_t cell[INPUTS];
    int32_t weight[INPUTS], stretched[INPUTS];
} Mix;

/* The probability that mixing gives, of 65536; `mix` is what was mixed. */
static inline int32_t mixed(const Run *run, const uint32_t *at, int set, Mix *mix) {
    const uint32_t *cells = run->model->cells;
    const int32_t *weights = run->model->weights + set * INPUTS;
    int64_t sum = 0;
    for (int i = 0; i < INPUTS; i++) {
        mix->cell[i] = cells[at[i]];
        mix->weight[i] = weights[i];
        mix->stretched[i] = STRETCH[mix->cell[i] >> 20];
        sum += (int64_t)mix->weight[i] * mix->stretched[i];
    }
    sum >>= 16;
    return SQUASH[HELD(sum, -2047, 2047) + 2048];
}

static inline int mixed_bit(Run *run, int bit, const uint32_t *at, int set, const int decoding) {
    uint32_t *cells = run->model->cells;
    int32_t *weights = run->model->weights + set * INPUTS;
    Mix mix;
    int32_t one = mixed(run, at, set, &mix);
    bit = code_bit(&run->coder, bit, (uint32_t)one, decoding);
    int32_t error = (bit << 16) - one, target = bit ? (1 << 22) - 1 : 0;
    for (int i = 0; i < INPUTS; i++) { /* of what was read above: the compiler can't know that no store changes it */
        int32_t weight = mix.weight[i] + ((mix.stretched[i] * error + (1 << 17)) >> 18);
        weights[i] = HELD(weight, -(1 << 19), 1 << 19);
        uint32_t count = mix.cell[i] & 1023;
        int32_t p = (int32_t)(mix.cell[i] >> 10);
        p += (int32_t)(((int64_t)(target - p) * RATE[count]) >> 16);
        cells[at[i]] = ((uint32_t)p << 10 | count) + (count < COUNT_LIMIT);
    }
    return bit;
}

/* One cell, no mixing: for what is rare. */
static inline int plain_bit(Run *run, int bit, uint32_t at, const int decoding) {
    uint32_t *cell = run->model->cells + at, count = *cell & 1023;
    int32_t p = (int32_t)(*cell >> 10);
    int32_t one = p >> 6;
    bit = code_bit(&run->coder, bit, (uint32_t)HELD(one, 32, 65504), decoding);
    p += (int32_t)(((int64_t)((bit ? (1 << 22) - 1 : 0) - p) * RATE[count]) >> 16);
    *cell = (uint32_t)p << 10 | (count < COUNT_LIMIT ? count + 1 : count);
    return bit;
}

