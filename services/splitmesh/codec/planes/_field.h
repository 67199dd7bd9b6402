/* What both ends know around an element, and which cells that names: the second layer of `_core.c`. */
#include "_arithmetic.h"

/* Loops over whole planes are compiled a second time for wider registers; which is taken is decided at run time. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

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

/* The same for 1 … 2^24 − 1, without a branch: such numbers are exact as floats, whose bits hold their logarithm. */
static inline int quarters_small(int32_t v) {
    float exact = (float)v;
    uint32_t bits;
    memcpy(&bits, &exact, sizeof bits);
    return (int)(bits >> 21) - 4 * 127 + 1;
}

static inline int halves(uint32_t v, int most) {
    int h = (quarters(v) + 1) >> 1;
    return h < most ? h : most;
}

/* The same for 0 ... 2^24 - 1, without a branch. */
static inline int halves_small(int32_t v, int most) {
    int h = (quarters_small(v) + 1) >> 1;
    return HELD(h, 0, most);
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
    uint16_t *there;                                       /* what the context holds at and around it */
    void *block;
} Field;

enum { WORDS = 7, BEFORE = 3 };

static int field_open(Field *f, const Tensor *t) {
    f->stride = t->width + 4;
    f->area = f->stride * (t->height + 4);
    f->first = 2 * f->stride + 2, f->end = f->area - f->first;
    size_t n = (size_t)f->area, all = n * (size_t)(t->planes + BEFORE);
    uint8_t *at = calloc(1, WORDS * n * sizeof(uint32_t) + 4 * n + 5 * all + 4 * n);
    if (!at) return CORE_MEMORY;
    f->block = at;
    f->value_ahead = (int32_t *)at, f->size_ahead = f->value_ahead + n, at += 2 * n * sizeof(uint32_t);
    uint32_t **wide[WORDS - 2] = {&f->other_sum, &f->seen, &f->expected, &f->near_seen, &f->near_expected};
    for (int i = 0; i < WORDS - 2; i++, at += n * sizeof(uint32_t)) *wide[i] = (uint32_t *)at;
    f->other = (int16_t *)at, f->whole = f->other + n, at += 4 * n;
    f->values = (int16_t *)at + BEFORE * n, at += 2 * all;
    f->sizes = (int16_t *)at + BEFORE * n, at += 2 * all;
    f->there = (uint16_t *)at, at += 2 * n;
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

static inline void around(const uint32_t *restrict from, uint32_t *restrict to, const Field *f) {
    int s = f->stride, end = f->end;
    for (int o = f->first; o < end; o++) {
        const uint32_t *p = from + o;
        to[o] = 4 * p[0] + 2 * (p[-1] + p[1] + p[-s] + p[s]) + p[-s - 1] + p[-s + 1] + p[s - 1] + p[s + 1];
    }
}

/* The part of a context that the reference frame alone says: the same for a whole plane. */
WIDE static void look_there(Field *f) {
    const int16_t *restrict other = f->other;
    const uint32_t *restrict other_sum = f->other_sum;
    uint16_t *restrict to = f->there;
    int s = f->stride, end = f->end;
    for (int o = f->first; o < end; o++) {
        const int16_t *r = other + o;
        int there = halves_small(abs(r[-1]) + abs(r[1]) + abs(r[-s]) + abs(r[s]), 5);
        int whole = halves_small((int32_t)other_sum[o], 7);
        to[o] = (uint16_t)((whole * 6 + there) * 4 + least(abs(r[0]), 3));
    }
}

/* How much the planes so far hold at and around every element, against what was expected of them. */
WIDE static void take_stock(Field *f) {
    around(f->seen, f->near_seen, f);
    around(f->expected, f->near_expected, f);
    const uint32_t *restrict seen = f->seen, *restrict expected = f->expected;
    const uint32_t *restrict near_seen = f->near_seen, *restrict near_expected = f->near_expected;
    uint8_t *restrict a_seen = f->a_seen;
    int8_t *restrict a_near = f->a_near;
    int first = f->first, end = f->end;
    for (int o = first; o < end; o++) {
        int ratio = (quarters_small((int32_t)seen[o] + 8) - quarters_small((int32_t)expected[o] + 8) + 15) >> 1;
        a_seen[o] = (uint8_t)HELD(ratio, 0, 15);
    }
    for (int o = first; o < end; o++)
        a_near[o] = (int8_t)(quarters_small((int32_t)near_seen[o] + 32) - quarters_small((int32_t)near_expected[o] + 32));
}

static void absorb(Field *f, const Tensor *t, int k) {
    const uint16_t *scale = t->scale + (t->dense ? (size_t)k * t->height * t->width : (size_t)k);
    const int16_t *restrict sizes = f->sizes + (size_t)k * f->area;
    uint32_t *restrict seen = f->seen, *restrict expected = f->expected;
    int16_t *restrict whole = f->whole;
    int height = t->height, width = t->width, each = t->dense != 0;
    for (int y = 0, i = 0; y < height; y++)
        for (int x = 0, o = f->first + y * f->stride; x < width; x++, o++, i++) {
            uint32_t due = scale[each ? i : 0];
            seen[o] += 16 * (uint32_t)sizes[o];
            expected[o] += due < 240 ? due : 240;
            whole[o] = (int16_t)least(whole[o] + sizes[o], 2047);
        }
}

/* -- linear prediction: calibrated taps on what both ends know ----------------------------------------------------- */

typedef struct {
    int count;
    int offset[TAPS], weight[TAPS];
} InPlane;

enum { AT_ONCE = 8 };

typedef int16_t Narrow __attribute__((vector_size(2 * AT_ONCE)));
typedef int32_t Wide __attribute__((vector_size(4 * AT_ONCE)));

/* Adds up the taps on other planes for a whole plane; those on its own come back, for element by element. `planes` is
 * what lies at back 0, `special` what -1 means. Margins are added up too, they are not looked at. `whole`: the plane
 * itself is known, its taps are added up as well. */
WIDE static InPlane look_ahead(const Field *f, const int16_t *taps, int count, int k, const int16_t *planes,
                          const int16_t *special, int32_t *ahead, int whole) {
    InPlane own = {0};
    const int16_t *from[TAPS];
    int16_t weight[TAPS];
    int others = 0;
    for (int i = 0; i < count; i++, taps += 4) {
        int back = taps[0], offset = taps[1] * f->stride + taps[2];
        if (taps[3] == 0 || back > k) continue;
        if (back == 0 && !whole) {
            own.offset[own.count] = offset;
            own.weight[own.count++] = taps[3];
        } else {
            from[others] = (back < 0 ? special : planes - (size_t)back * f->area) + offset;
            weight[others++] = taps[3];
        }
    }
    int o = f->first;
    for (; o + AT_ONCE <= f->end; o += AT_ONCE) {
        Wide sum = {0};
        for (int i = 0; i < others; i++) {
            Narrow near;
            memcpy(&near, from[i] + o, sizeof near);
            sum += __builtin_convertvector(near, Wide) * (int32_t)weight[i];
        }
        memcpy(ahead + o, &sum, sizeof sum);
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

enum { MOST_NEAR = 256, MOST_BULK = 512 }; /* behind what neighbours add up to; where the largest class begins */

static const uint8_t SHADE_ENDS[16] = {3, 5, 7, 9, 12, 15, 19, 24, 30, 38, 48, 64, 80, 100, 140, 255};
static uint8_t SHADE[256], NEARS[MOST_NEAR], BULK[MOST_BULK];

static void init_lookups(void) {
    for (int v = 0, shade = 0; v < 256; v++) {
        while (shade < 15 && v >= SHADE_ENDS[shade]) shade++;
        SHADE[v] = (uint8_t)shade;
    }
    for (int v = 0; v < MOST_NEAR; v++) NEARS[v] = (uint8_t)halves((uint32_t)v, NEAR - 1);
    for (int v = 1; v < MOST_BULK; v++) BULK[v] = (uint8_t)HELD(quarters((uint32_t)v) - 4, 0, SIZES - 1);
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

static inline void size_contexts(const Run *run, const Field *f, const Spot *p, uint32_t *at) {
    const int16_t *c = p->size;
    int s = p->stride, o = p->o, due = (p->fine + f->a_near[o]) >> 1;
    due = HELD(due, 0, DUES - 1);
    int near = 4 * (c[-s] + c[-1]) + 2 * (c[-s - 1] + c[-s + 1]) + c[-2] + c[-2 * s];
    near = NEARS[near];
    const uint32_t *base = run->base;
    at[0] = base[0] + KINDS * (uint32_t)(p->bulk * SHADES + p->shade);
    at[1] = base[1] + KINDS * (uint32_t)(due * SHADES + p->shade);
    at[2] = base[2] + KINDS * (uint32_t)((due * NEAR + near) * RATIOS + f->a_seen[o]);
    at[3] = base[3] + KINDS * (uint32_t)(p->slot * RATIOS + f->a_seen[o]);
    at[4] = base[4] + KINDS * (uint32_t)(p->level * 8 * 6 * 4 + f->there[o]);
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

