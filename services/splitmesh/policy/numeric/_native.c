/* Python's door to the arithmetic of one decision: takes lists and tuples, checks every size. Each function is that of
 * the same name in `pure.py`: the same operations in the same order, equal to the bit. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include "_arithmetic.h"

enum { PAYLOAD = 7 };

static int refuse(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return 0;
}

static int number_of(PyObject *object, double *value) {
    *value = PyFloat_AsDouble(object);
    return *value != -1.0 || !PyErr_Occurred();
}

static int number_in(PyObject *list, Py_ssize_t index, double *value) {
    PyObject *item = PyList_GetItem(list, index);
    return item && number_of(item, value);
}

/* ---- chances ---------------------------------------------------------------------------------------------------- */

typedef struct {
    Chances of;
    Py_buffer odds, weighted;
} Held;

static void release(Held *held) {
    if (held->odds.obj) PyBuffer_Release(&held->odds);
    if (held->weighted.obj) PyBuffer_Release(&held->weighted);
}

static int take(PyObject *given, Held *held) {
    Chances *c = &held->of;
    if (!PyTuple_Check(given)) return refuse("chances are no tuple");
    if (!PyArg_ParseTuple(given, "ddddddddy*y*", &c->budget_ms, &c->prior_weight, &c->prior_steepness, &c->steepness,
                          &c->faded, &c->all_in, &c->least, &c->most, &held->odds, &held->weighted))
        return 0;
    c->odds = held->odds.buf;
    c->weighted = held->weighted.buf;
    c->count = (size_t)held->odds.len / sizeof(double);
    if ((size_t)held->odds.len % sizeof(double) || held->odds.len != held->weighted.len)
        return refuse("odds and weighted odds are not of one size");
    return 1;
}

PyDoc_STRVAR(within_doc, "within(predicted_ms, chances) -> P(T <= budget) of each");

static PyObject *within(PyObject *module, PyObject *args) {
    PyObject *predicted, *given, *made = NULL;
    Held chances = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O", &PyList_Type, &predicted, &given)) return NULL;
    if (take(given, &chances)) {
        Py_ssize_t count = PyList_Size(predicted);
        made = PyList_New(count);
        for (Py_ssize_t i = 0; made && i < count; i++) {
            double ms;
            PyObject *p = number_in(predicted, i, &ms) ? PyFloat_FromDouble(chance(&chances.of, ms)) : NULL;
            if (!p || PyList_SetItem(made, i, p) < 0) Py_CLEAR(made);
        }
    }
    release(&chances);
    return made;
}

/* ---- payloads --------------------------------------------------------------------------------------------------- */

typedef struct {
    double queue_ms, stalled_ms, base_ms, ms_per_byte, doubt_ms_per_byte, wait_ms, gamma_edge, gamma_cloud, gamma_resume;
    PyObject *encode_scales;
    double others;
    int split, queued;
    double byte_price, byte_periods, free_periods, own_price, tracked, fallback, trusted, freshness, fixed_ms;
} Terms;

/* What holds for all of them: of the moment, and of the place. */
static int take_terms(PyObject *moment, PyObject *terms, Terms *t) {
    if (!PyArg_ParseTuple(moment, "dddddddO!dd", &t->queue_ms, &t->stalled_ms, &t->base_ms, &t->ms_per_byte,
                          &t->doubt_ms_per_byte, &t->wait_ms, &t->gamma_edge, &PyDict_Type, &t->encode_scales,
                          &t->gamma_cloud, &t->gamma_resume) ||
        !PyArg_ParseTuple(terms, "ppdddddddd", &t->split, &t->queued, &t->byte_price, &t->byte_periods,
                          &t->free_periods, &t->own_price, &t->tracked, &t->fallback, &t->trusted, &t->freshness))
        return 0;
    PyObject *others = PyDict_GetItemString(t->encode_scales, "");
    if (!others) return refuse("no scale of other codecs");
    if (!t->split) t->gamma_edge = t->gamma_resume = 0.0;
    t->fixed_ms = t->base_ms + t->wait_ms;
    if (t->queued && t->stalled_ms > 0) t->fixed_ms += t->queue_ms;
    if (!t->queued || t->stalled_ms > 0) t->queue_ms = 0.0;
    return number_of(others, &t->others);
}

enum { EDGE, RESUME, ENCODE, DECODE, CLOUD, FIDELITY, NUMBERS, CODEC = NUMBERS, NAMES };
static const char *const NAME[NAMES] = {"edge_ms", "resume_ms", "encode_ms", "decode_ms", "cloud_ms", "fidelity", "codec"};
static PyObject *names[NAMES];

static int numbers_of_point(PyObject *point, double *numbers) {
    for (int i = 0; i < NUMBERS; i++) {
        PyObject *value = PyObject_GetAttr(point, names[i]);
        int known = value && number_of(value, &numbers[i]);
        Py_XDECREF(value);
        if (!known) return 0;
    }
    return 1;
}

/* How much slower than profiled its codec is. */
static int encode_scale(PyObject *point, const Terms *t, double *scale) {
    PyObject *codec = PyObject_GetAttr(point, names[CODEC]);
    PyObject *known = codec ? PyDict_GetItemWithError(t->encode_scales, codec) : NULL;
    Py_XDECREF(codec);
    *scale = t->others;
    return known ? number_of(known, scale) : !PyErr_Occurred();
}

static PyObject *payload(const Terms *t, const double *of, double encode, double size, double value) {
    double beyond = t->byte_periods * size - t->free_periods, price = t->byte_price * size;
    if (beyond > 0) price += t->own_price * beyond * beyond;
    double fresh = (value < t->trusted ? value : 1.0) - t->tracked;
    if (fresh > 0) value += t->freshness * fresh;
    double head_ms = t->gamma_edge * of[EDGE];
    return Py_BuildValue("ddddddd", head_ms + t->gamma_resume * of[RESUME], head_ms + encode * of[ENCODE], t->queue_ms,
                         size * t->ms_per_byte + t->fixed_ms + t->gamma_cloud * (of[DECODE] + of[CLOUD]),
                         t->doubt_ms_per_byte * size, t->fallback - price, value - t->fallback);
}

PyDoc_STRVAR(payloads_doc, "payloads(points, sizes, fidelities or None, moment, terms) -> one of each point");

static PyObject *payloads(PyObject *module, PyObject *args) {
    PyObject *points, *sizes, *fidelities, *moment, *given, *made;
    Terms t;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!OO!O!", &PyList_Type, &points, &PyList_Type, &sizes, &fidelities, &PyTuple_Type,
                          &moment, &PyTuple_Type, &given) ||
        !take_terms(moment, given, &t))
        return NULL;
    int own = fidelities == Py_None;
    Py_ssize_t count = PyList_Size(points);
    if (PyList_Size(sizes) != count || !(own || (PyList_Check(fidelities) && PyList_Size(fidelities) == count)))
        return refuse("sizes or fidelities are not a list as long as points"), NULL;
    made = PyList_New(count);
    for (Py_ssize_t i = 0; made && i < count; i++) {
        double of[NUMBERS], encode, size, value;
        PyObject *point = PyList_GetItem(points, i), *one = NULL;
        if (numbers_of_point(point, of) && encode_scale(point, &t, &encode) && number_in(sizes, i, &size) &&
            (own ? (value = of[FIDELITY], 1) : number_in(fidelities, i, &value)))
            one = payload(&t, of, encode, size, value);
        if (!one || PyList_SetItem(made, i, one) < 0) Py_CLEAR(made);
    }
    return made;
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

static int parts_of(PyObject *asked, PyObject **point, double *parts) {
    if (!PyTuple_Check(asked) || PyTuple_Size(asked) != 2) return refuse("asked is not of pairs");
    PyObject *payload = PyTuple_GetItem(asked, 1);
    if (!PyTuple_Check(payload) || PyTuple_Size(payload) != PAYLOAD) return refuse("a payload is not of seven numbers");
    *point = PyTuple_GetItem(asked, 0);
    for (int i = 0; i < PAYLOAD; i++)
        if (!number_of(PyTuple_GetItem(payload, i), &parts[i])) return 0;
    return 1;
}

PyDoc_STRVAR(answers_doc, "answers(asked, backlogs_ms, chances) -> (point, predicted_ms, p_hit, utility) of each");

static PyObject *answers(PyObject *module, PyObject *args) {
    PyObject *asked, *backlogs, *given, *made = NULL;
    Held chances = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!O", &PyList_Type, &asked, &PyList_Type, &backlogs, &given)) return NULL;
    Py_ssize_t count = PyList_Size(asked);
    if (PyList_Size(backlogs) != count) return refuse("backlogs are not as many as asked"), NULL;
    if (take(given, &chances)) made = PyList_New(count);
    for (Py_ssize_t i = 0; made && i < count; i++) {
        PyObject *point, *answer = NULL;
        double part[PAYLOAD], backlog_ms;
        if (parts_of(PyList_GetItem(asked, i), &point, part) && number_in(backlogs, i, &backlog_ms)) {
            double ready_ms = backlog_ms + part[1], ms = (ready_ms > part[2] ? ready_ms : part[2]) + part[3];
            double p = chance(&chances.of, ms + part[4]);
            answer = Py_BuildValue("Oddd", point, ms, p, part[5] + p * part[6]);
        }
        if (!answer || PyList_SetItem(made, i, answer) < 0) Py_CLEAR(made);
    }
    release(&chances);
    return made;
}

/* ---- frames behind ---------------------------------------------------------------------------------------------- */

static Py_ssize_t numbers_of(PyObject *tuple, double *values) {
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count > MOST_STEPS) return refuse("more steps than 64"), -1;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!number_of(PyTuple_GetItem(tuple, i), &values[i])) return -1;
    return count;
}

static int take_course(PyObject *given, Course *c) {
    PyObject *values, *idle, *weights;
    if (!PyTuple_Check(given)) return refuse("a course is no tuple");
    if (!PyArg_ParseTuple(given, "dddO!O!O!", &c->period, &c->device, &c->without, &PyTuple_Type, &values, &PyTuple_Type,
                          &idle, &PyTuple_Type, &weights))
        return 0;
    Py_ssize_t steps = numbers_of(values, c->values), frames = numbers_of(idle, c->idle);
    if (steps < 0 || frames < 0 || numbers_of(weights, c->weights) < 0) return 0;
    c->steps = (size_t)steps;
    c->frames = (size_t)frames;
    return (steps && PyTuple_Size(weights) == frames) || refuse("no values, or not a weight for each frame");
}

PyDoc_STRVAR(course_doc, "course(backlog, course) -> what frames behind get in all");

static PyObject *course(PyObject *module, PyObject *args) {
    PyObject *given;
    Course taken;
    double backlog;
    (void)module;
    if (!PyArg_ParseTuple(args, "dO", &backlog, &given) || !take_course(given, &taken)) return NULL;
    return PyFloat_FromDouble(run(&taken, backlog));
}

typedef struct {
    double run_ms, own_price, queue_price, ms_price, backlog_ms, period_ms, step_ms;
} Costs;

PyDoc_STRVAR(charged_doc, "charged(valued, device_ms, costs, course or None) -> valued, each less the price of its device time");

static PyObject *charged(PyObject *module, PyObject *args) {
    PyObject *valued, *device, *given, *behind, *made;
    Costs c;
    Course taken;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!O!O", &PyList_Type, &valued, &PyList_Type, &device, &PyTuple_Type, &given, &behind) ||
        !PyArg_ParseTuple(given, "ddddddd", &c.run_ms, &c.own_price, &c.queue_price, &c.ms_price, &c.backlog_ms,
                          &c.period_ms, &c.step_ms))
        return NULL;
    int priced = behind != Py_None;
    Py_ssize_t count = PyList_Size(valued);
    if (PyList_Size(device) != count) return refuse("device times are not as many as valued"), NULL;
    if (priced && !take_course(behind, &taken)) return NULL;
    double left_ms = c.backlog_ms - c.period_ms, untaken = priced ? run(&taken, left_ms / c.step_ms) : 0.0;
    made = PyList_New(count);
    for (Py_ssize_t i = 0; made && i < count; i++) {
        PyObject *point, *one = NULL, *each = PyList_GetItem(valued, i);
        double device_ms, ms, p, utility;
        if (!PyTuple_Check(each)) refuse("valued is not of tuples");
        else if (PyArg_ParseTuple(each, "Oddd", &point, &ms, &p, &utility) && number_in(device, i, &device_ms)) {
            double runs = device_ms / c.run_ms, price = c.own_price * runs * runs + c.ms_price * device_ms;
            price += c.queue_price * runs;
            if (priced && c.backlog_ms + device_ms > c.period_ms)
                price += untaken - run(&taken, (left_ms + device_ms) / c.step_ms);
            one = Py_BuildValue("Oddd", point, ms, p, utility - price);
        }
        if (!one || PyList_SetItem(made, i, one) < 0) Py_CLEAR(made);
    }
    return made;
}

/* ---- tracking --------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(around_doc, "around(x, y, audits) -> sums of weight * F1 and of weight");

static PyObject *around(PyObject *module, PyObject *args) {
    Py_buffer audits;
    double x, y, seen = 0.0, known = 0.0;
    (void)module;
    if (!PyArg_ParseTuple(args, "ddy*", &x, &y, &audits)) return NULL;
    size_t count = (size_t)audits.len / (4 * sizeof(double));
    int whole = (size_t)audits.len == count * 4 * sizeof(double);
    sum_around(audits.buf, count, x, y, &seen, &known);
    PyBuffer_Release(&audits);
    if (!whole) return refuse("audits are not of four numbers each"), NULL;
    return Py_BuildValue("dd", seen, known);
}

static PyMethodDef methods[] = {{"within", within, METH_VARARGS, within_doc},
                                {"payloads", payloads, METH_VARARGS, payloads_doc},
                                {"answers", answers, METH_VARARGS, answers_doc},
                                {"course", course, METH_VARARGS, course_doc},
                                {"charged", charged, METH_VARARGS, charged_doc},
                                {"around", around, METH_VARARGS, around_doc},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_native", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__native(void) {
    for (int i = 0; i < NAMES; i++)
        if (!names[i] && !(names[i] = PyUnicode_InternFromString(NAME[i]))) return NULL;
    return PyModule_Create(&module);
}
