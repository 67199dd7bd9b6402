/* Python's door to `_core.c`: takes buffers, checks every size, lets other threads run meanwhile. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdlib.h>

#include "_core.h"

enum { MOST_TENSORS = 64, MOST_SLOTS = 4096 };
#define MOST_ELEMENTS ((Py_ssize_t)1 << 26)

typedef struct {
    Py_buffer state, taps, layout, scales, contexts, values;
    Model model;
    Tensor tensors[MOST_TENSORS];
    int count;
} Call;

static void release(Call *call) {
    Py_buffer *held[] = {&call->state, &call->taps, &call->layout, &call->scales, &call->contexts, &call->values};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
        if (held[i]->obj) PyBuffer_Release(held[i]);
}

static int refuse(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return 0;
}

/* Taps may look at what is known when they are used, no further than the margin. */
static int taps_hold(const int16_t *tap, Py_ssize_t length, Py_ssize_t slots) {
    if (length != slots * TAPS * 4 * 2) return refuse("taps are not of this size");
    for (Py_ssize_t i = 0; i < slots * TAPS; i++, tap += 4) {
        int causal = tap[0] != 0 || tap[1] < 0 || (tap[1] == 0 && tap[2] < 0) || tap[3] == 0;
        if (tap[0] < -1 || tap[1] < -2 || tap[1] > 2 || tap[2] < -2 || tap[2] > 2 || !causal)
            return refuse("a tap is out of bounds");
    }
    return 1;
}

/* The tensors that `layout` (six int32 each: planes, height, width, slot, dense, has context) cuts the buffers into. */
static int cut_up(Call *call, Py_ssize_t slots) {
    const int32_t *row = call->layout.buf;
    Py_ssize_t count = call->layout.len / 24, values = 0, scales = 0, contexts = 0;
    if (call->layout.len % 24 || count > MOST_TENSORS) return refuse("layout is not that of at most 64 tensors");
    if (slots < 1 || slots > MOST_SLOTS) return refuse("slots are not within 1 ... 4096");
    size_t cells = core_cells((int32_t)slots);
    if ((size_t)call->state.len != 4 * (cells + WEIGHT_SETS * INPUTS)) return refuse("state is not of this size");
    if (!taps_hold(call->taps.buf, call->taps.len, slots)) return 0;
    call->model = (Model){call->state.buf, (int32_t *)call->state.buf + cells, call->taps.buf, (int32_t)slots};
    call->count = (int)count;
    for (Py_ssize_t i = 0; i < count; i++, row += 6) {
        int64_t area = (int64_t)row[1] * row[2], n = area * row[0];
        if (row[0] < 1 || row[1] < 1 || row[2] < 1 || row[0] > MOST_ELEMENTS || area > MOST_ELEMENTS || n > MOST_ELEMENTS)
            return refuse("a tensor's shape is out of bounds");
        if (row[3] < 0 || row[3] > MOST_SLOTS) return refuse("a tensor's slot is out of bounds");
        call->tensors[i] = (Tensor){row[0], row[1], row[2], row[3], row[4] != 0,
                                    (const uint16_t *)call->scales.buf + scales,
                                    row[5] ? (const int16_t *)call->contexts.buf + contexts : NULL,
                                    (int16_t *)call->values.buf + values};
        values += (Py_ssize_t)n;
        scales += row[4] ? (Py_ssize_t)n : row[0];
        contexts += row[5] ? (Py_ssize_t)n : 0;
        if (values > MOST_ELEMENTS) return refuse("too many elements");
    }
    if (call->values.len != 2 * values || call->scales.len != 2 * scales || call->contexts.len != 2 * contexts)
        return refuse("values, scales or contexts are not of the layout's sizes");
    return 1;
}

static int fail(int code) {
    if (code == CORE_MEMORY) PyErr_NoMemory();
    else refuse("malformed");
    return 0;
}

PyDoc_STRVAR(encode_doc, "encode(state, slots, taps, layout, values, scales, contexts) -> bytes; `state` learns");

static PyObject *encode(PyObject *module, PyObject *args) {
    Call call = {0};
    Py_ssize_t slots;
    Output out = {0};
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "w*ny*y*w*y*y*", &call.state, &slots, &call.taps, &call.layout, &call.values,
                          &call.scales, &call.contexts))
        return NULL;
    if (cut_up(&call, slots)) {
        int code;
        Py_BEGIN_ALLOW_THREADS
        code = core_encode(&call.model, call.tensors, call.count, &out);
        Py_END_ALLOW_THREADS
        if (code == CORE_OK) result = PyBytes_FromStringAndSize((const char *)out.bytes, (Py_ssize_t)out.length);
        else fail(code);
    }
    free(out.bytes);
    release(&call);
    return result;
}

PyDoc_STRVAR(decode_doc, "decode(state, slots, taps, layout, values, scales, contexts, data); fills `values`, `state` learns");

static PyObject *decode(PyObject *module, PyObject *args) {
    Call call = {0};
    Py_ssize_t slots;
    Py_buffer data = {0};
    int done = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "w*ny*y*w*y*y*y*", &call.state, &slots, &call.taps, &call.layout, &call.values, &call.scales,
                          &call.contexts, &data))
        return NULL;
    if (cut_up(&call, slots)) {
        int code;
        Py_BEGIN_ALLOW_THREADS
        code = core_decode(&call.model, call.tensors, call.count, data.buf, (size_t)data.len);
        Py_END_ALLOW_THREADS
        done = code == CORE_OK || fail(code);
    }
    PyBuffer_Release(&data);
    release(&call);
    if (!done) return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(cells_doc, "cells(slots) -> how many cells a state of so many slots has, before its weights");

static PyObject *cells(PyObject *module, PyObject *number) {
    Py_ssize_t slots = PyLong_AsSsize_t(number);
    (void)module;
    if (slots == -1 && PyErr_Occurred()) return NULL;
    if (slots < 1 || slots > MOST_SLOTS) return refuse("slots are not within 1 ... 4096"), NULL;
    return PyLong_FromSize_t(core_cells((int32_t)slots));
}

static PyMethodDef methods[] = {{"encode", encode, METH_VARARGS, encode_doc},
                                {"decode", decode, METH_VARARGS, decode_doc},
                                {"cells", cells, METH_O, cells_doc},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_native", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__native(void) {
    core_init();
    return PyModule_Create(&module);
}
