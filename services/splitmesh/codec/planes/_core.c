#include "_field.h"

void core_init(void) {
    init_tables();
    init_lookups();
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

/* Once the sign is known, the prediction speaks of that sign. */
static inline void turn(const Spot *p, int negative, uint32_t *at) {
    if (negative == (p->predicted < 0)) return;
    int shift = KINDS * (16 + (p->shade >> 1) - p->shade);
    at[0] += (uint32_t)shift;
    at[1] += (uint32_t)shift;
}

static inline int code_element(Run *run, const Field *f, Spot *p, int value, const int decoding) {
    uint32_t at[INPUTS], rung[INPUTS];
    size_contexts(run, f, p, at);
    int size = value < 0 ? -value : value;
    if (!mixed_bit(run, size > 0, at, p->level, decoding)) return 0;
    sign_contexts(run, f, p, rung);
    int negative = mixed_bit(run, value < 0, rung, SIGN_SET + p->shade, decoding);
    turn(p, negative, at);
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
    const int ahead = !decoding; /* all values are known beforehand: whole planes of predictions at once */
    if (ahead)
        for (int y = 0, i = 0; y < t->height; y++)
            for (int x = 0, o = f->first + y * f->stride; x < t->width; x++, o++, i++) note(f, k, o, values[i]);
    InPlane own = look_ahead(f, taps, VALUE_TAPS, k, known, f->other, f->value_ahead, ahead);
    InPlane bulk = look_ahead(f, taps + 4 * VALUE_TAPS, SIZE_TAPS, k, sizes, f->whole, f->size_ahead, ahead);
    take_stock(f);
    Spot spot = {.stride = f->stride, .area = f->area, .slot = slot, .level = halves(scale[0], 15), .fine = quarters(scale[0])};
    for (int y = 0; y < t->height && !run->coder.failed; y++)
        for (int x = 0, o = f->first + y * f->stride; x < t->width; x++, o++) {
            size_t i = (size_t)y * t->width + x;
            int size = (ahead ? f->size_ahead[o] : tapped(&bulk, sizes + o, f->size_ahead[o])) >> 4;
            spot.predicted = (ahead ? f->value_ahead[o] : tapped(&own, known + o, f->value_ahead[o])) >> 8;
            spot.shade = SHADE[least(abs(spot.predicted), 255)];
            spot.bulk = BULK[HELD(size, 0, MOST_BULK - 1)];
            spot.o = o, spot.size = sizes + o, spot.sign = f->signs + (size_t)k * f->area + o;
            if (t->dense) spot.level = halves(scale[i], 15), spot.fine = quarters(scale[i]);
            int value = code_element(run, f, &spot, values[i], decoding);
            if (!ahead) note(f, k, o, value);
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
            if (t->context) {
                load_context(&field, t, k);
                look_there(&field);
            }
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
