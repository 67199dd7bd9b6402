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

static void init_shades(void);

void core_init(void) {
    init_shades();
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

static inline int mixed_bit(Run *run, int bit, const uint32_t *at, int set, const int decoding) {
    uint32_t *cells = run->model->cells;
    int32_t *weights = run->model->weights + set * INPUTS;
    int32_t stretched[INPUTS];
    int64_t sum = 0;
    for (int i = 0; i < INPUTS; i++) {
        stretched[i] = STRETCH[cells[at[i]] >> 20];
        sum += (int64_t)weights[i] * stretched[i];
    }
    sum >>= 16;
    int32_t one = SQUASH[HELD(sum, -2047, 2047) + 2048];
    bit = code_bit(&run->coder, bit, (uint32_t)one, decoding);
    int32_t error = (bit << 16) - one;
    for (int i = 0; i < INPUTS; i++) {
        int32_t weight = weights[i] + ((stretched[i] * error + (1 << 17)) >> 18);
        weights[i] = HELD(weight, -(1 << 19), 1 << 19);
        uint32_t cell = cells[at[i]], count = cell & 1023;
        int32_t p = (int32_t)(cell >> 10), target = bit ? (1 << 22) - 1 : 0;
        p += (int32_t)(((int64_t)(target - p) * RATE[count]) >> 16);
        cells[at[i]] = (uint32_t)p << 10 | (count < COUNT_LIMIT ? count + 1 : count);
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

/* -- contexts ----------------------------------------------------------------------------------------------------- */

enum { LEVELS = 16, DUES = 16, NEAR = 10, SHADES = 24, SIZES = 32, RATIOS = 16 };

static const uint32_t PER_SLOT[INPUTS] = {0, 0, 0, KINDS * RATIOS, 0};
static const uint32_t FIXED[INPUTS] = {KINDS * SIZES * SHADES, KINDS * DUES * SHADES, KINDS * DUES * NEAR * RATIOS, 0,
                                       KINDS * LEVELS * 8 * 6 * 4};
static const uint32_t SIGNS_PER_SLOT[INPUTS] = {32, 0, 27, 0, 27};
static const uint32_t SIGNS_FIXED[INPUTS] = {0, 3 * 128, 0, 729, 0};

static size_t lay_out(int32_t slots, uint32_t *base, uint32_t *sign_base) {
    uint32_t at = PLAIN;
    for (int i = 0; i < INPUTS; i++) {
        if (base) base[i] = at;
        at += PER_SLOT[i] * (uint32_t)slots + FIXED[i];
        if (sign_base) sign_base[i] = at;
        at += SIGNS_PER_SLOT[i] * (uint32_t)slots + SIGNS_FIXED[i];
    }
    return at;
}

size_t core_cells(int32_t slots) { return lay_out(slots, NULL, NULL); }

/* Logarithm in quarter octaves, 1 for 1; 0 for 0. */
static inline int quarters(uint32_t v) {
    if (v == 0) return 0;
    int top = 31 - __builtin_clz(v);
    return 4 * top + (int)(((uint64_t)v << 2 >> top) & 3) + 1;
}

static inline int halves(uint32_t v, int most) {
    int h = (quarters(v) + 1) >> 1;
    return h < most ? h : most;
}

/* Planes have a margin of two elements all around, so that neighbours need no case, and three empty ones before. */
typedef struct {
    int32_t stride, area; /* of a plane with its margin */
    int32_t first, end;   /* from the first element to behind the last, of a plane with its margin */
    int16_t *values;      /* held to +-255 */
    int16_t *sizes;       /* magnitudes up to 15 */
    int8_t *signs;        /* 0 zero, 1 positive, 2 negative */
    int16_t *other;       /* the context's plane, held to +-255 */
    int16_t *whole;       /* sizes of all earlier planes, up to 2047 */
    int32_t *value_ahead, *size_ahead;                     /* what taps on other planes predict, in 1/4096 */
    uint32_t *other_sum;                                   /* magnitudes of all the context's planes */
    uint32_t *seen, *expected, *near_seen, *near_expected; /* of all earlier planes, in 1/16, then of 3 x 3 around */
    uint8_t *a_seen;                                       /* seen against expected */
    int8_t *a_near;                                        /* near seen against near expected, in quarter octaves */
    void *block;
} Field;

enum { WORDS = 7, BEFORE = 3 };

static int field_open(Field *f, const Tensor *t) {
    f->stride = t->width + 4;
    f->area = f->stride * (t->height + 4);
    f->first = 2 * f->stride + 2, f->end = f->area - f->first;
    size_t n = (size_t)f->area, all = n * (size_t)(t->planes + BEFORE);
    uint8_t *at = calloc(1, WORDS * n * sizeof(uint32_t) + 4 * n + 5 * all + 2 * n);
    if (!at) return CORE_MEMORY;
    f->block = at;
    f->value_ahead = (int32_t *)at, f->size_ahead = f->value_ahead + n, at += 2 * n * sizeof(uint32_t);
    uint32_t **wide[WORDS - 2] = {&f->other_sum, &f->seen, &f->expected, &f->near_seen, &f->near_expected};
    for (int i = 0; i < WORDS - 2; i++, at += n * sizeof(uint32_t)) *wide[i] = (uint32_t *)at;
    f->other = (int16_t *)at, f->whole = f->other + n, at += 4 * n;
    f->values = (int16_t *)at + BEFORE * n, at += 2 * all;
    f->sizes = (int16_t *)at + BEFORE * n, at += 2 * all;
    f->signs = (int8_t *)at + BEFORE * n, at += all;
    f->a_seen = at, f->a_near = (int8_t *)at + n;
    return CORE_OK;
}

static inline int least(int a, int b) { return a < b ? a : b; }

static inline void note(Field *f, int k, int o, int value) {
    size_t at = (size_t)k * f->area + o;
    f->values[at] = (int16_t)HELD(value, -255, 255);
    f->sizes[at] = (int16_t)least(value < 0 ? -value : value, 15);
    f->signs[at] = (int8_t)(value > 0 ? 1 : value < 0 ? 2 : 0);
}

static void around(const uint32_t *from, uint32_t *to, const Field *f) {
    int s = f->stride;
    for (int o = f->first; o < f->end; o++) {
        const uint32_t *p = from + o;
        to[o] = 4 * p[0] + 2 * (p[-1] + p[1] + p[-s] + p[s]) + p[-s - 1] + p[-s + 1] + p[s - 1] + p[s + 1];
    }
}

/* How much the planes so far hold at and around every element, against what was expected of them. */
static void take_stock(Field *f, const Tensor *t) {
    around(f->seen, f->near_seen, f);
    around(f->expected, f->near_expected, f);
    for (int y = 0; y < t->height; y++)
        for (int x = 0, o = f->first + y * f->stride; x < t->width; x++, o++) {
            int ratio = (quarters(f->seen[o] + 8) - quarters(f->expected[o] + 8) + 15) >> 1;
            f->a_seen[o] = (uint8_t)HELD(ratio, 0, 15);
            f->a_near[o] = (int8_t)(quarters(f->near_seen[o] + 32) - quarters(f->near_expected[o] + 32));
        }
}

static void absorb(Field *f, const Tensor *t, int k) {
    const uint16_t *scale = t->scale + (t->dense ? (size_t)k * t->height * t->width : (size_t)k);
    const int16_t *sizes = f->sizes + (size_t)k * f->area;
    for (int y = 0, i = 0; y < t->height; y++)
        for (int x = 0, o = f->first + y * f->stride; x < t->width; x++, o++, i++) {
            uint32_t due = scale[t->dense ? i : 0];
            f->seen[o] += 16 * (uint32_t)sizes[o];
            f->expected[o] += due < 240 ? due : 240;
            f->whole[o] = (int16_t)least(f->whole[o] + sizes[o], 2047);
        }
}

/* -- linear prediction: calibrated taps on what both ends know ----------------------------------------------------- */

typedef struct {
    int count;
    int offset[TAPS], weight[TAPS];
} InPlane;

enum { AT_ONCE = 16 };

/* Adds up the taps on other planes for a whole plane; those on its own come back, for element by element. `planes` is
 * what lies at back 0, `special` what -1 means. Margins are added up too, they are not looked at. */
static InPlane look_ahead(const Field *f, const int16_t *taps, int count, int k, const int16_t *planes,
                          const int16_t *special, int32_t *ahead) {
    InPlane own = {0};
    const int16_t *from[TAPS];
    int16_t weight[TAPS];
    int others = 0;
    for (int i = 0; i < count; i++, taps += 4) {
        int back = taps[0], offset = taps[1] * f->stride + taps[2];
        if (taps[3] == 0 || back > k) continue;
        if (back == 0) {
            own.offset[own.count] = offset;
            own.weight[own.count++] = taps[3];
        } else {
            from[others] = (back < 0 ? special : planes - (size_t)back * f->area) + offset;
            weight[others++] = taps[3];
        }
    }
    int o = f->first;
    for (; o + AT_ONCE <= f->end; o += AT_ONCE) {
        int32_t sum[AT_ONCE] = {0};
        for (int i = 0; i < others; i++)
            for (int j = 0; j < AT_ONCE; j++) sum[j] += (int32_t)weight[i] * from[i][o + j];
        memcpy(ahead + o, sum, sizeof sum);
    }
    for (; o < f->end; o++) {
        int32_t sum = 0;
        for (int i = 0; i < others; i++) sum += (int32_t)weight[i] * from[i][o];
        ahead[o] = sum;
    }
    return own;
}

static inline int32_t tapped(const InPlane *own, const int16_t *at, int32_t sum) {
    for (int j = 0; j < own->count; j++) sum += own->weight[j] * at[own->offset[j]];
    return sum;
}

/* -- elements --------------------------------------------------------------------------------------------------- */

static const uint8_t SHADE_ENDS[16] = {3, 5, 7, 9, 12, 15, 19, 24, 30, 38, 48, 64, 80, 100, 140, 255};
static uint8_t SHADE[256];

static void init_shades(void) {
    for (int v = 0, shade = 0; v < 256; v++) {
        while (shade < 15 && v >= SHADE_ENDS[shade]) shade++;
        SHADE[v] = (uint8_t)shade;
    }
}

typedef struct {
    const int16_t *size; /* at the element; a plane earlier lies `area` before */
    const int8_t *sign;
    int o, stride, area, slot;
    int level, fine; /* expected magnitude by scale, in half and in quarter octaves */
    int bulk;        /* predicted magnitude: 0 ... 31 */
    int predicted;   /* in 1/16 */
    int shade;       /* of the prediction's magnitude, 0 ... 15 */
} Spot;

static void size_contexts(const Run *run, const Field *f, const Spot *p, uint32_t *at) {
    const int16_t *c = p->size, *r = f->other + p->o;
    int s = p->stride, o = p->o, due = (p->fine + f->a_near[o]) >> 1;
    due = HELD(due, 0, DUES - 1);
    int near = 4 * (c[-s] + c[-1]) + 2 * (c[-s - 1] + c[-s + 1]) + c[-2] + c[-2 * s];
    near = halves((uint32_t)near, NEAR - 1);
    int there = halves((uint32_t)(abs(r[-1]) + abs(r[1]) + abs(r[-s]) + abs(r[s])), 5);
    int whole = halves(f->other_sum[o], 7);
    const uint32_t *base = run->base;
    at[0] = base[0] + KINDS * (uint32_t)(p->bulk * SHADES + p->shade);
    at[1] = base[1] + KINDS * (uint32_t)(due * SHADES + p->shade);
    at[2] = base[2] + KINDS * (uint32_t)((due * NEAR + near) * RATIOS + f->a_seen[o]);
    at[3] = base[3] + KINDS * (uint32_t)(p->slot * RATIOS + f->a_seen[o]);
    at[4] = base[4] + KINDS * (uint32_t)(((p->level * 8 + whole) * 6 + there) * 4 + least(abs(r[0]), 3));
}

static void sign_contexts(const Run *run, const Field *f, const Spot *p, uint32_t *at) {
    const int8_t *c = p->sign;
    int s = p->stride, n = c[-s], w = c[-1], nw = c[-s - 1], ne = c[-s + 1], ww = c[-2], nn = c[-2 * s];
    int there = f->other[p->o], slot = p->slot;
    const uint32_t *base = run->sign_base;
    at[0] = base[0] + (uint32_t)(slot * 32 + p->shade * 2 + (p->predicted < 0));
    at[1] = base[1] + (uint32_t)((there > 0 ? 256 : there < 0 ? 128 : 0) + HELD(64 + p->predicted, 0, 127));
    at[2] = base[2] + (uint32_t)(((slot * 3 + c[-p->area]) * 3 + c[-2 * p->area]) * 3 + c[-3 * p->area]);
    at[3] = base[3] + (uint32_t)(((((n * 3 + w) * 3 + nw) * 3 + ne) * 3 + ww) * 3 + nn);
    at[4] = base[4] + (uint32_t)(((slot * 3 + ne) * 3 + nw) * 3 + w);
}

enum { EMPTY_AT = 0, ESCAPE_AT = 64, LEAD_AT = 320, SIGN_SET = 48 };

/* What is left of a magnitude beyond the ladder: the bits of left + 1, their number first. */
static int code_escape(Run *run, int left, int level, const int decoding) {
    int bits = 0;
    uint32_t value = (uint32_t)left + 1;
    for (; bits < 15; bits++)
        if (!plain_bit(run, value >> (bits + 1) != 0, (uint32_t)(ESCAPE_AT + level * 16 + bits), decoding)) break;
    if (decoding) value = 1;
    for (int i = bits - 1; i >= 0; i--) {
        int bit = (int)(value >> i & 1);
        bit = i == bits - 1 ? plain_bit(run, bit, (uint32_t)(LEAD_AT + bits), decoding)
                            : code_bit(&run->coder, bit, 32768, decoding);
        if (decoding) value = value << 1 | (uint32_t)bit;
    }
    return (int)value - 1;
}

static inline int code_element(Run *run, const Field *f, Spot *p, int value, const int decoding) {
    uint32_t at[INPUTS], rung[INPUTS];
    int size = value < 0 ? -value : value;
    size_contexts(run, f, p, at);
    if (!mixed_bit(run, size > 0, at, p->level, decoding)) return 0;
    sign_contexts(run, f, p, rung);
    int negative = mixed_bit(run, value < 0, rung, SIGN_SET + p->shade, decoding);
    if (negative != (p->predicted < 0)) { /* from here on the prediction speaks of the sign that is */
        int shift = KINDS * (16 + (p->shade >> 1) - p->shade);
        at[0] += (uint32_t)shift;
        at[1] += (uint32_t)shift;
    }
    int known = 1;
    for (; known < LADDER; known++) {
        int kind = least(known, KINDS - 1);
        for (int i = 0; i < INPUTS; i++) rung[i] = at[i] + (uint32_t)kind;
        if (!mixed_bit(run, size > known, rung, kind * 16 + p->level, decoding)) break;
    }
    if (known == LADDER) known += code_escape(run, size - known, p->level, decoding);
    if (decoding && known > 32767 + negative) {
        run->coder.failed = CORE_CORRUPT;
        return 0;
    }
    return negative ? -known : known;
}

static int plane_is_empty(const int16_t *values, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (values[i]) return 0;
    return 1;
}

static inline void code_plane(Run *run, Field *f, const Tensor *t, int k, int *fill, const int decoding) {
    size_t n = (size_t)t->height * t->width;
    int16_t *values = t->values + k * n;
    const uint16_t *scale = t->scale + (t->dense ? k * n : (size_t)k);
    uint64_t total = 0;
    if (t->dense)
        for (size_t i = 0; i < n; i++) total += scale[i];
    int level = halves(t->dense ? (uint32_t)(total / n) : scale[0], 15), found = 0;
    int empty = decoding ? 0 : plane_is_empty(values, n);
    if (plain_bit(run, empty, (uint32_t)(EMPTY_AT + level * 4 + *fill), decoding)) {
        *fill = 0; /* what the decoder fills in is zero already */
        return;
    }
    int slot = least(t->slot + k, run->model->slots - 1);
    const int16_t *taps = run->model->taps + (size_t)slot * TAPS * 4;
    int16_t *known = f->values + (size_t)k * f->area, *sizes = f->sizes + (size_t)k * f->area;
    InPlane own = look_ahead(f, taps, VALUE_TAPS, k, known, f->other, f->value_ahead);
    InPlane bulk = look_ahead(f, taps + 4 * VALUE_TAPS, SIZE_TAPS, k, sizes, f->whole, f->size_ahead);
    take_stock(f, t);
    Spot spot = {.stride = f->stride, .area = f->area, .slot = slot, .level = halves(scale[0], 15), .fine = quarters(scale[0])};
    for (int y = 0; y < t->height && !run->coder.failed; y++)
        for (int x = 0, o = f->first + y * f->stride; x < t->width; x++, o++) {
            size_t i = (size_t)y * t->width + x;
            int size = tapped(&bulk, sizes + o, f->size_ahead[o]) >> 4;
            spot.predicted = tapped(&own, known + o, f->value_ahead[o]) >> 8;
            spot.shade = SHADE[least(abs(spot.predicted), 255)];
            spot.bulk = size <= 0 ? 0 : HELD(quarters((uint32_t)size) - 4, 0, SIZES - 1);
            spot.o = o, spot.size = sizes + o, spot.sign = f->signs + (size_t)k * f->area + o;
            if (t->dense) spot.level = halves(scale[i], 15), spot.fine = quarters(scale[i]);
            int value = code_element(run, f, &spot, values[i], decoding);
            note(f, k, o, value);
            if (decoding) values[i] = (int16_t)value;
            found += value != 0;
        }
    *fill = found == 0 ? 0 : found <= 2 ? 1 : found <= 8 ? 2 : 3;
}

static void load_context(Field *f, const Tensor *t, int k) {
    const int16_t *from = t->context + (size_t)k * t->height * t->width;
    for (int y = 0; y < t->height; y++)
        for (int x = 0, o = (y + 2) * f->stride + 2; x < t->width; x++, o++, from++)
            f->other[o] = (int16_t)HELD(*from, -255, 255);
}

static void sum_context(Field *f, const Tensor *t) {
    for (int k = 0; k < t->planes; k++) {
        load_context(f, t, k);
        for (int o = 0; o < f->area; o++) f->other_sum[o] += (uint32_t)least(abs(f->other[o]), 8);
    }
}

static inline int run_tensors(Run *run, const Tensor *tensors, int count, const int decoding) {
    lay_out(run->model->slots, run->base, run->sign_base);
    for (int i = 0; i < count && !run->coder.failed; i++) {
        const Tensor *t = tensors + i;
        Field field = {0};
        if (field_open(&field, t)) return CORE_MEMORY;
        if (t->context) sum_context(&field, t);
        int fill = 3;
        for (int k = 0; k < t->planes && !run->coder.failed; k++) {
            if (t->context) load_context(&field, t, k);
            code_plane(run, &field, t, k, &fill, decoding);
            absorb(&field, t, k);
        }
        free(field.block);
    }
    return run->coder.failed;
}

int core_encode(const Model *model, const Tensor *tensors, int count, Output *out) {
    Run run = {.coder = {.range = 0xFFFFFFFFu, .out = out}, .model = model};
    int failed = run_tensors(&run, tensors, count, 0);
    if (!failed) finish(&run.coder);
    return failed ? failed : run.coder.failed;
}

int core_decode(const Model *model, const Tensor *tensors, int count, const uint8_t *data, size_t length) {
    Run run = {.coder = {.range = 0xFFFFFFFFu, .data = data, .length = length}, .model = model};
    start_decoding(&run.coder);
    int failed = run_tensors(&run, tensors, count, 1);
    if (failed) return failed;
    return ended(&run.coder) ? CORE_OK : CORE_CORRUPT;
}
